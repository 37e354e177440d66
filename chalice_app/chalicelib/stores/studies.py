"""Studies: when each was first received, from whom, its jobs, and whether it may be quiet.

A study has items of its own in the study table, next to each other by its UID: ``study`` itself,
one for each sender, one for each job. An item with a ``link`` is in the list of that name, at a
place that never changes: see docs/architecture.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from chalicelib.events.event import Event
from chalicelib.stores.outbox import DynamoOutbox
from chalicelib.stores.schema import STUDIES_BY_DUE
from chalicelib.stores.table import Table, serialize, write_together
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef, UpdateTypeDef

# No study has as many batches without a pause; an item may have 400 KB, some 10,000 ids.
MAX_BATCHES = 1_000
# The sort keys of a study's own item, and of its jobs'.
STUDY = "study"
_JOB = "job#"
_DUE = "quiet"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch with instances of a study has closed: which, from whom, and when it was opened."""

    batch_id: str
    calling_ae_title: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study. ``batch_ids`` are those since it was quiet last.

    ``due_at`` is when it is to be looked at; ``changes`` counts what happened, for conditions.
    ``first_received_at`` is when the first batch that closed with instances of it was opened: it
    never changes.
    """

    study_instance_uid: str
    batch_ids: frozenset[str] = frozenset()
    changes: int = 0
    first_received_at: datetime | None = None
    due_at: datetime | None = None


class StudyStore(Protocol):
    """Studies by UID, their jobs, and lists of them."""

    def join(self, study_instance_uid: str, arrival: Arrival) -> None:
        """A batch with instances of the study has closed.

        Beyond MAX_BATCHES without a pause, it does not count among those that have to be quiet.
        """
        ...

    def link_sender(self, study_instance_uid: str, arrival: Arrival) -> None:
        """The same batch, for the sender's list.

        Call it after ``join``, so that every study in the list exists.
        """
        ...

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """Something has happened to the study: it is to be looked at then."""
        ...

    def due(self, until: datetime) -> Iterator[str]:
        """The studies to be looked at by then, oldest first, fetched as they are consumed.

        From an index: what was done in the last second may still be there.
        """
        ...

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """The study, or None."""
        ...

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """Look then, or only when something happens; False if something has since ``study``."""
        ...

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """The study is quiet: forget its batches and keep the event, both or neither.

        False, and neither, if something has happened since ``study`` was read.
        """
        ...

    def link_job(self, study_instance_uid: str, list_key: str) -> None:
        """A job with instances of the study is about to be recorded (``jobs.list_key``)."""
        ...

    def job_keys(self, study_instance_uid: str, low: str, high: str) -> Iterator[str]:
        """The list keys of the study's jobs, from ``high`` down to ``low``.

        A job may be linked that was never recorded, or was recorded with another key.
        """
        ...


def day_link(moment: datetime) -> str:
    """The list of the studies first received on a day (UTC)."""
    return f"day#{to_iso(moment)[:10]}"


def sender_link(calling_ae_title: str, moment: datetime) -> str:
    """The list of the studies that a calling AE title first sent on a day (UTC)."""
    return f"sender#{calling_ae_title}#{to_iso(moment)[:10]}"


def link_key(moment: datetime, study_instance_uid: str) -> str:
    """A study's place in a list, in the order of time."""
    return f"{to_iso(moment)}#{study_instance_uid}"


def sender_item(calling_ae_title: str) -> str:
    """The sort key of a study's item for a sender."""
    return f"sender#{calling_ae_title}"


class DynamoStudies:
    """A StudyStore; ``outbox`` is where the events of settled studies are kept."""

    def __init__(self, client: "DynamoDBClient", table: str, outbox: DynamoOutbox) -> None:
        self._table = Table(client, table)
        self._outbox = outbox

    def join(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        at = arrival.opened_at
        first = _first(study_instance_uid, day_link(at), at)
        known = ", ".join(f"{name} = if_not_exists({name}, :{name})" for name in first)
        self._table.change(
            _key(study_instance_uid),
            f"SET {known} ADD batches :batch, changes :one",
            {**first, "batch": {arrival.batch_id}, "one": 1, "max": MAX_BATCHES},
            ConditionExpression="attribute_not_exists(batches) OR size(batches) < :max",
        )

    def link_sender(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        sender, at = arrival.calling_ae_title, arrival.opened_at
        item = _key(study_instance_uid, sender_item(sender))
        item |= _first(study_instance_uid, sender_link(sender, at), at)
        self._table.put(item, "attribute_not_exists(studyInstanceUID)")

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """See StudyStore."""
        self._table.change(
            _key(study_instance_uid),
            "SET due = :due, dueAt = :at ADD changes :one",
            {"due": _DUE, "at": to_iso(at), "one": 1},
        )

    def due(self, until: datetime) -> Iterator[str]:
        """See StudyStore."""
        found = self._table.query(
            IndexName=STUDIES_BY_DUE,
            KeyConditionExpression="due = :due AND dueAt <= :until",
            values={":due": _DUE, ":until": to_iso(until)},
        )
        return (str(item["studyInstanceUID"]) for item in found)

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """See StudyStore."""
        item = self._table.get(_key(study_instance_uid))
        if item is None:
            return None
        first, due = item.get("firstReceivedAt"), item.get("dueAt")
        return StudyRecord(
            study_instance_uid,
            frozenset(item.get("batches", ())),
            int(item["changes"]),
            first and from_iso(first),
            due and from_iso(due),
        )

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """See StudyStore."""
        later = {"at": to_iso(until)} if until else {}
        return self._table.change(
            _key(study.study_instance_uid),
            "SET dueAt = :at" if until else "REMOVE due, dueAt",
            {"changes": study.changes, **later},
            ConditionExpression="changes = :changes",
        )

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """See StudyStore."""
        update: UpdateTypeDef = {
            "TableName": self._table.name,
            "Key": serialize(_key(study.study_instance_uid)),
            "UpdateExpression": "REMOVE batches, due, dueAt",
            "ConditionExpression": "changes = :changes",
            "ExpressionAttributeValues": serialize({":changes": study.changes}),
        }
        requests: list[TransactWriteItemTypeDef] = [
            {"Update": update},
            {"Put": self._outbox.put_of(event)},
        ]
        return write_together(self._table.client, requests)

    def link_job(self, study_instance_uid: str, list_key: str) -> None:
        """See StudyStore."""
        item = _key(study_instance_uid, f"{_JOB}{list_key}")
        self._table.put(item, "attribute_not_exists(studyInstanceUID)")

    def job_keys(self, study_instance_uid: str, low: str, high: str) -> Iterator[str]:
        """See StudyStore."""
        study, bounds = ("studyInstanceUID", study_instance_uid), (f"{_JOB}{low}", f"{_JOB}{high}")
        found = self._table.keys(study, "item", bounds, ConsistentRead=True)
        return (key.removeprefix(_JOB) for key in found)


def _first(study_instance_uid: str, link: str, at: datetime) -> dict[str, str]:
    """What is written once, and never changes."""
    return {
        "firstReceivedAt": to_iso(at),
        "link": link,
        "linkKey": link_key(at, study_instance_uid),
    }


def _key(study_instance_uid: str, item: str = STUDY) -> dict[str, str]:
    return {"studyInstanceUID": study_instance_uid, "item": item}
