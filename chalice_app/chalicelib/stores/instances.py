"""The ledger: one row for each content of each SOP instance, of the batch that imports it.

An instance is its study, series and SOP Instance UID together: the same SOP Instance UID may come
in another study (a patient merge), or in two series. A content is its checksum. Usually an instance
has one row. It has more where it was sent with other bytes.

Equal checksums are not equal bytes: anybody can make a CRC fit. So no batch writes over another's
row before the two objects were compared (``imports.claims``) or are known to be one another's copy
(``inherit``). Where they are not the same, or nobody can compare them, a batch has a row *beside*
the first. The SHA-256 of its bytes is in that row's key, with the data store, so of two batches
with the same bytes for it only one can have it. A *copy* has the batch's id there instead: until
the batch has looked, where its own object cannot be read, and where it imports its own in any case.

Any batch may write at any moment, so each write is on the condition that the row is as it was read.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from chalicelib.errors import ServiceUnavailable
from contract.keys import RowKey
from contract.records import InstanceRecord, InstanceState

Rows = Mapping[RowKey, InstanceRecord]
# The rows of keys, and what else is needed to decide about them.
Reading = Callable[[Sequence[RowKey]], Rows]
# Each time, another batch has written a row between our reading and writing it.
_TRIES = 10


class Change(NamedTuple):
    """What a row was, and what it becomes: None where there is to be none before, or after.

    A row with a ``guard`` is written only while that other row is as it was read, or absent.
    """

    was: InstanceRecord | None
    row: InstanceRecord | None
    guard: tuple[RowKey, InstanceRecord | None] | None = None

    @property
    def row_key(self) -> RowKey:
        """The key of the row that changes."""
        changed = self.row or self.was
        if changed is None:
            raise ValueError("a change of nothing")
        return changed.row_key


# What becomes of the rows of some instances, as far as it is to become anything. Nothing is known
# of others.
Decision = Callable[[Rows, Set[str]], Sequence[Change]]


class InstanceStore(Protocol):
    """Rows by their keys, by instance, by study and by SOP Instance UID."""

    def get_many(self, keys: Iterable[RowKey]) -> Rows:
        """The rows that exist."""
        ...

    def swap_many(self, changes: Sequence[Change]) -> frozenset[RowKey]:
        """Write or delete rows that still are as they were read; the keys of those that are not.

        No key may come twice. Raises ServiceUnavailable.
        """
        ...

    def promote(self, first: InstanceRecord, other: InstanceRecord) -> bool:
        """Another batch's row takes the place of the first with its checksum, or nothing changes.

        False if one of the two is not as it was read. Raises ServiceUnavailable.
        """
        ...

    def of_instances(self, instances: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        """Every row of some instances, by instance; those without a row are left out."""
        ...

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """A study's rows, ordered by SOP Instance UID, fetched as they are consumed.

        Which there are is from an index: what was written in the last second may be missing.
        """
        ...

    def by_sop_instance(self, sop_instance_uid: str) -> Iterator[InstanceRecord]:
        """The rows of every instance of a SOP Instance UID, ordered by row key; as by_study."""
        ...


def record(
    store: InstanceStore,
    batch_id: str,
    rows: Sequence[InstanceRecord],
    exists: Callable[[str], bool],
    *,
    adds: bool = True,
) -> list[InstanceRecord]:
    """Keep what became of a batch's instances; the rows, where they stand. Safe to repeat.

    A failure that comes too late changes nothing: be it that the batch is known to have imported
    the instance, or that its row is another batch's by now, and its object with it (``exists``, by
    the key). Unless it ``adds`` rows, it only changes those that the batch has: an earlier try has
    written them, and others may have taken some. Raises ServiceUnavailable.
    """

    def decide(known: Rows, instances: Set[str]) -> list[Change]:
        ours = own(batch_id, known)
        asked = [row for row in rows if row.instance in instances]
        found = [_recorded(row, ours.get(row.instance), known) for row in asked]
        kept.update({row.instance: row for _, row in found})
        return [Change(was, row) for was, row in found if is_written(was, row)]

    def is_written(was: InstanceRecord | None, row: InstanceRecord) -> bool:
        if was is not None:  # an event and a poll find the same end at the same moment
            return replace(row, updated_at=was.updated_at) != was
        has_gone_on = row.is_copy and row.state is InstanceState.FAILED and not exists(row.key)
        return adds and not has_gone_on

    kept: dict[str, InstanceRecord] = {}
    swap(store, [row.row_key for row in rows], decide, partial(shared_and_own, store, batch_id))
    return [kept.get(row.instance, row) for row in rows]


def register(store: InstanceStore, rows: Sequence[InstanceRecord]) -> None:
    """Keep a batch's rows that wait for their import, where there is none yet.

    What another batch's row stands for is looked at when this one is imported.
    """

    def decide(known: Rows, instances: Set[str]) -> list[Change]:
        asked = [row for row in rows if row.instance in instances]
        return [Change(None, row) for row in asked if row.row_key not in known]

    swap(store, [row.row_key for row in rows], decide, store.get_many)


def inherit(
    store: InstanceStore, rows: Sequence[InstanceRecord], old_batch_id: str, keys: Set[str]
) -> None:
    """A batch's rows take the places of the old batch's that it repeats, where that has failed.

    ``keys`` are those of the old objects that the new ones are copies of. Safe to repeat.
    """
    new = {row.instance: row for row in rows}
    batch_ids = {row.batch_id for row in rows}

    def decide(known: Rows, instances: Set[str]) -> list[Change]:
        ours = {row.instance for row in known.values() if row.batch_id in batch_ids}
        return [
            change
            for was in own(old_batch_id, known).values()
            if is_absent(was) and was.key in keys and was.instance in instances
            for change in _inherited(was, new[was.instance], has_row=was.instance in ours)
        ]

    wanted = [key for row in rows for key in (row.row_key, copy_of(row).row_key)]
    swap(store, wanted, decide, partial(shared_and_own, store, old_batch_id))


def own(batch_id: str, known: Rows) -> dict[str, InstanceRecord]:
    """Of the known rows, a batch's, by instance."""
    return {row.instance: row for row in known.values() if row.batch_id == batch_id}


def own_rows(
    store: InstanceStore, batch_id: str, keys: Sequence[RowKey]
) -> dict[str, InstanceRecord]:
    """The rows that a batch has, by instance; ``keys`` are those of its manifest's entries."""
    return own(batch_id, shared_and_own(store, batch_id, keys))


def shared_and_own(store: InstanceStore, batch_id: str, keys: Sequence[RowKey]) -> Rows:
    """The rows of some keys, and the batch's own beside those of others."""
    known = dict(store.get_many(keys))
    others = [key for key in keys if key in known and known[key].batch_id != batch_id]
    copies = store.get_many(key.beside(batch_id) for key in others)
    known |= copies
    rest = {key.instance for key in others} - {key.instance for key in copies}
    for found in store.of_instances(sorted(rest)).values():
        known |= {row.row_key: row for row in found}
    # A Query may miss a row that has just taken the place of the first (``promote``).
    missed = rest - {row.instance for row in known.values() if row.batch_id == batch_id}
    known |= store.get_many(key for key in others if key.instance in missed)
    return known


def copy_of(row: InstanceRecord) -> InstanceRecord:
    """The row of a copy, beside another batch's row."""
    return replace(row, beside=row.batch_id)


def all_of(store: InstanceStore, keys: Sequence[RowKey]) -> Rows:
    """Every row of the keys' instances."""
    found = store.of_instances(dict.fromkeys(key.instance for key in keys)).values()
    return {row.row_key: row for rows in found for row in rows}


def swap(store: InstanceStore, keys: Sequence[RowKey], decide: Decision, read: Reading) -> None:
    """Read rows and change some, deciding again about those that were changed in between.

    The changes of one instance are made in their order. Raises ServiceUnavailable if others keep
    changing the rows.
    """
    for _ in range(_TRIES):
        instances = {key.instance for key in keys}
        again: set[str] = set()
        for turn in _turns(decide(read(keys), instances)):
            left = [each for each in turn if each.row_key.instance not in again]
            again |= {key.instance for key in store.swap_many(left)}
        if not again:
            return
        keys = [key for key in keys if key.instance in again]
    raise ServiceUnavailable("other batches keep changing the same instances")


def _turns(changes: Iterable[Change]) -> list[list[Change]]:
    """The first change of each instance, the second of those that have one, and so on."""
    turns: list[list[Change]] = []
    made: Counter[str] = Counter()
    for change in changes:
        instance = change.row_key.instance
        if made[instance] == len(turns):
            turns.append([])
        turns[made[instance]].append(change)
        made[instance] += 1
    return turns


def was_imported(row: InstanceRecord | None) -> bool:
    """Whether the row's batch has imported it, be it deleted by now."""
    return row is not None and row.state in (InstanceState.IMPORTED, InstanceState.DELETED)


def is_absent(row: InstanceRecord) -> bool:
    """Whether it has ended without being in HealthImaging."""
    return row.state in (InstanceState.FAILED, InstanceState.DELETED)


def _recorded(
    row: InstanceRecord, ours: InstanceRecord | None, known: Rows
) -> tuple[InstanceRecord | None, InstanceRecord]:
    """Where the end of a batch's instance is written; what it imported stays so."""
    if ours is not None:
        is_late = was_imported(ours) and row.state is InstanceState.FAILED
        return ours, ours if is_late else replace(row, beside=ours.beside, differs=ours.differs)
    return None, copy_of(row) if row.row_key in known else row


def _inherited(was: InstanceRecord, row: InstanceRecord, *, has_row: bool) -> list[Change]:
    """The old row's place; or that of a copy, where the old one could not be compared."""
    if has_row:
        return [Change(was, None)]
    if was.beside is None or was.differs:
        return [Change(was, replace(row, beside=was.beside, differs=was.differs))]
    return [Change(None, copy_of(row)), Change(was, None)]
