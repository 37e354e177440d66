"""Where instances are kept: one row for each SOP Instance UID, belonging to its newest batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from contract.records import InstanceRecord, InstanceState


class InstanceStore(Protocol):
    """Instances by UID and by study."""

    def get_many(self, sop_instance_uids: Iterable[str]) -> Mapping[str, InstanceRecord]:
        """The rows that exist, by SOP Instance UID."""
        ...

    def put_many(self, instances: Sequence[InstanceRecord]) -> None:
        """Keep or replace rows; no UID may come twice."""
        ...

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """A study's rows, ordered by SOP Instance UID, fetched as they are consumed."""
        ...


def record(store: InstanceStore, rows: Sequence[InstanceRecord]) -> None:
    """Keep rows in bulk, except where the instance has since been sent again in a newer batch.

    A late result of the older batch must not hide what became of the newer one. Safe to repeat.
    """
    unique = _one_per_uid(rows)
    known = store.get_many(unique)
    store.put_many([row for uid, row in unique.items() if not _is_newer(known.get(uid), row)])


def _is_newer(known: InstanceRecord | None, row: InstanceRecord) -> bool:
    # Batch ids begin with the time the batch was opened.
    return known is not None and known.batch_id > row.batch_id


def _one_per_uid(rows: Sequence[InstanceRecord]) -> dict[str, InstanceRecord]:
    # A sender may use one SOP Instance UID in two studies. There is one row: a failure shows.
    failed_last = sorted(rows, key=lambda row: row.state is InstanceState.FAILED)
    return {row.sop_instance_uid: row for row in failed_last}
