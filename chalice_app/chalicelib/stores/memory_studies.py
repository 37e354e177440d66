"""Studies in memory: the twin of ``stores.studies``."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from chalicelib.events.event import Event
from chalicelib.stores.outbox import MemoryOutbox
from chalicelib.stores.studies import (
    MAX_BATCHES,
    STUDY,
    Arrival,
    StudyRecord,
    day_link,
    link_key,
    sender_item,
    sender_link,
)


@dataclass(slots=True)
class MemoryStudies:
    """A StudyStore in memory; ``links`` are its items' lists, and their places in them."""

    outbox: MemoryOutbox
    rows: dict[str, StudyRecord] = field(default_factory=dict)
    links: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    jobs: set[tuple[str, str]] = field(default_factory=set)

    def join(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        study = self.rows.get(study_instance_uid) or StudyRecord(study_instance_uid)
        at = arrival.opened_at
        if len(study.batch_ids) < MAX_BATCHES:
            self.links.setdefault(
                (study_instance_uid, STUDY), (day_link(at), link_key(at, study_instance_uid))
            )
            self.rows[study_instance_uid] = replace(
                study,
                batch_ids=study.batch_ids | {arrival.batch_id},
                changes=study.changes + 1,
                first_received_at=study.first_received_at or at,
            )

    def link_sender(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        sender, at = arrival.calling_ae_title, arrival.opened_at
        item = study_instance_uid, sender_item(sender)
        self.links.setdefault(item, (sender_link(sender, at), link_key(at, study_instance_uid)))

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """See StudyStore."""
        study = self.rows.get(study_instance_uid) or StudyRecord(study_instance_uid)
        self.rows[study_instance_uid] = replace(study, changes=study.changes + 1, due_at=at)

    def due(self, until: datetime) -> Iterator[str]:
        """See StudyStore."""
        times = {uid: row.due_at for uid, row in self.rows.items() if row.due_at}
        return iter(sorted((uid for uid in times if times[uid] <= until), key=times.__getitem__))

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """See StudyStore."""
        return self.rows.get(study_instance_uid)

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """See StudyStore."""
        known = self.rows.get(study.study_instance_uid)
        if known is None or known.changes != study.changes:
            return False
        self.rows[study.study_instance_uid] = replace(known, due_at=until)
        return True

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """See StudyStore."""
        if not self.put_off(study, None):
            return False
        known = self.rows[study.study_instance_uid]
        self.rows[study.study_instance_uid] = replace(known, batch_ids=frozenset())
        self.outbox.send(event)
        return True

    def link_job(self, study_instance_uid: str, list_key: str) -> None:
        """See StudyStore."""
        self.jobs.add((study_instance_uid, list_key))

    def job_keys(self, study_instance_uid: str, low: str, high: str) -> Iterator[str]:
        """See StudyStore."""
        keys = (key for study, key in self.jobs if study == study_instance_uid)
        return iter(sorted((key for key in keys if low <= key <= high), reverse=True))
