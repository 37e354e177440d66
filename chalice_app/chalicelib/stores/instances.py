"""Where instances are kept: one row for each SOP Instance UID, belonging to one batch.

That batch imports the instance. Another batch that has it with the same bytes leaves it out; one
that has other bytes notes the conflict, or takes the row. So any batch may write to any row at any
moment, and each write is on the condition that the row still is what it was decided on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from chalicelib.errors import ServiceUnavailable
from contract.checksums import Checksum
from contract.records import InstanceRecord, InstanceState

# A row, and what it is to replace; None where there must be none.
Change = tuple[InstanceRecord | None, InstanceRecord]
# What becomes of the known rows of some UIDs, as far as it is to become anything.
Decision = Callable[[Mapping[str, InstanceRecord]], Sequence[Change]]
# Each time, another batch has written a row between our reading and writing it.
_TRIES = 10
# Two senders that fight over one UID must not make a row grow for ever.
MAX_CONFLICTS = 20


class InstanceStore(Protocol):
    """Instances by UID and by study."""

    def get_many(self, sop_instance_uids: Iterable[str]) -> Mapping[str, InstanceRecord]:
        """The rows that exist, by SOP Instance UID."""
        ...

    def swap_many(self, changes: Sequence[Change]) -> frozenset[str]:
        """Replace rows that still are as they were read; the UIDs of those that are not.

        No UID may come twice.
        """
        ...

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """A study's rows, ordered by SOP Instance UID, fetched as they are consumed."""
        ...


def record(store: InstanceStore, rows: Sequence[InstanceRecord]) -> None:
    """Keep rows, except where the instance has since been sent again in a newer batch.

    A late result of the older batch must not hide what became of the newer one; where the two have
    other bytes, the row that stays names the other object. Safe to repeat, and then writes nothing.
    Raises ServiceUnavailable.
    """
    unique = one_per_uid(rows)

    def decide(known: Mapping[str, InstanceRecord]) -> list[Change]:
        kept = [
            (was, merged(was, row))
            for uid, row in unique.items()
            if not _is_better_known(was := known.get(uid), row)
        ]
        return [(was, row) for was, row in kept if _tells_more(was, row)]

    swap(store, unique, decide)


def register(store: InstanceStore, rows: Sequence[InstanceRecord]) -> None:
    """Keep rows of instances that wait for their import, where nothing better is known of them.

    An older batch's instance that is imported, or about to be, keeps its row until the newer one
    starts: only then is it known whether it is a duplicate.
    """
    unique = one_per_uid(rows)

    def decide(known: Mapping[str, InstanceRecord]) -> list[Change]:
        pairs = [(known.get(uid), row) for uid, row in unique.items()]
        return [(was, merged(was, row)) for was, row in pairs if _is_open(was, row)]

    swap(store, unique, decide)


def swap(store: InstanceStore, sop_instance_uids: Iterable[str], decide: Decision) -> None:
    """Read rows and change some, deciding again about those that were changed in between.

    Raises ServiceUnavailable if that goes on and on.
    """
    wanted = frozenset(sop_instance_uids)
    for _ in range(_TRIES):
        decided = decide(store.get_many(wanted))
        # Of the others nothing was read this time.
        changes = [(was, row) for was, row in decided if row.sop_instance_uid in wanted]
        wanted = store.swap_many(changes) if changes else frozenset()
        if not wanted:
            return
    raise ServiceUnavailable("other batches keep changing the same instances")


def same_bytes(one: Checksum, other: Checksum) -> bool | None:
    """Whether two objects are the same; None where their algorithms differ, so nobody knows."""
    return one == other if one.algorithm is other.algorithm else None


def was_imported(row: InstanceRecord | None) -> bool:
    """Whether the row's batch has imported it, be it deleted by now."""
    return row is not None and row.state in (InstanceState.IMPORTED, InstanceState.DELETED)


def _is_open(known: InstanceRecord | None, row: InstanceRecord) -> bool:
    if known is None:
        return True
    return _is_absent(known) and known.batch_id < row.batch_id


def _is_better_known(known: InstanceRecord | None, row: InstanceRecord) -> bool:
    """Whether a failure comes too late: the batch is known to have imported the instance."""
    return (
        known is not None
        and known.batch_id == row.batch_id
        and was_imported(known)
        and row.state is InstanceState.FAILED
    )


def _tells_more(was: InstanceRecord | None, row: InstanceRecord) -> bool:
    """Than when it was told: an event and a poll find the same end at the same moment."""
    return was is None or replace(row, updated_at=was.updated_at) != was


def merged(known: InstanceRecord | None, row: InstanceRecord) -> InstanceRecord:
    """Which of two rows is kept, with what it remembers of the other's bytes."""
    if known is None:
        return row
    last, other = (known, row) if _outranks(known, row) else (row, known)
    conflicts = [*known.conflicts, *row.conflicts]
    if other.batch_id != last.batch_id and same_bytes(known.checksum, row.checksum) is False:
        conflicts.append(other.key)
    kept = tuple(dict.fromkeys(key for key in conflicts if key != last.key))
    return replace(last, conflicts=kept[-MAX_CONFLICTS:])


def _outranks(known: InstanceRecord, row: InstanceRecord) -> bool:
    """A newer batch's row does; but what one batch has not, does not hide another's same bytes."""
    if known.batch_id == row.batch_id:
        return False
    if same_bytes(known.checksum, row.checksum) and (_is_absent(known) != _is_absent(row)):
        return _is_absent(row)
    # Batch ids begin with the time the batch was opened.
    return known.batch_id > row.batch_id


def _is_absent(row: InstanceRecord) -> bool:
    """Whether it has ended without being in HealthImaging."""
    return row.state in (InstanceState.FAILED, InstanceState.QUARANTINED, InstanceState.DELETED)


def one_per_uid(rows: Iterable[InstanceRecord]) -> dict[str, InstanceRecord]:
    """One row for each UID, which a sender may use in two studies: a failure shows."""
    found: dict[str, InstanceRecord] = {}
    for row in sorted(rows, key=lambda row: row.state is InstanceState.FAILED):
        other = found.get(row.sop_instance_uid)
        if other and same_bytes(other.checksum, row.checksum) is False:
            row = replace(row, conflicts=(*row.conflicts, *other.conflicts, other.key))  # noqa: PLW2901
        found[row.sop_instance_uid] = row
    return found
