"""When a batch opens, what goes into it, and when it closes: the book that one receiver keeps.

Sans-I/O. Times are seconds of a monotonic clock that the caller reads; the wall clock appears only
in batch ids and in a manifest's ``closedAt``.

A batch is *open* while it takes instances, *sealed* when it takes no more but a PUT into it may
still be in flight, and *closed* when its manifest exists; it is forgotten once that is written. A
batch that is *lost* is recovery's, which lists what is in it: the book has no manifest for it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from contract.checksums import Checksum
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender
from store_scp.batch import Batch, BatchLimits, Entry, Group
from store_scp.instance import Instance

__all__ = ["BatchBook", "BatchLimits", "NewBatchId", "Placement"]

# Whoever forges a checksum can have any number of instances that look the same.
_MOST_CANDIDATES = 4

# Makes a batch id; given by the caller, since an id holds the wall clock and chance.
NewBatchId = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance goes. The caller owes the book ``stored`` or ``failed`` for each.

    ``size`` is what was reserved: the object's, or the most it can have.
    """

    batch_id: str
    instance: Instance
    size: int

    @property
    def key(self) -> str:
        """The object's name."""
        return str(self.instance.key(self.batch_id))


@dataclass(slots=True)
class _Closed:
    manifest: Manifest
    due_at: float


class BatchBook:
    """Every batch that is open, sealed, or closed without a manifest in the sink yet."""

    def __init__(self, limits: BatchLimits, new_batch_id: NewBatchId) -> None:
        self._limits = limits
        self._new_batch_id = new_batch_id
        self._batches: dict[str, Batch] = {}
        self._groups: dict[Group, list[Batch]] = {}
        self._closed: dict[str, _Closed] = {}

    @property
    def is_empty(self) -> bool:
        """Whether every batch was closed and its manifest written."""
        return not self._batches and not self._closed

    @property
    def open_batches(self) -> int:
        """How many batches have no durable manifest yet."""
        return len(self._batches) + len(self._closed)

    def candidates(
        self, instance: Instance, size: int, checksum: Checksum
    ) -> list[ManifestInstance]:
        """What may be the same bytes, is durable, and is in a batch not yet closed; newest first.

        A checksum can be forged, so only who has compared the bytes knows.
        """
        found = [
            entry.listed
            for batch in reversed(self._groups.get(_group(instance), ()))
            if (entry := batch.entries.get(instance.header.sop_instance_uid))
            and entry.listed
            and (entry.listed.size, entry.listed.checksum) == (size, checksum)
        ]
        return found[:_MOST_CANDIDATES]

    def repeated(self, instance: Instance, known: ManifestInstance, now: float) -> bool:
        """The instance's bytes are those of ``known``, whose batch lives on; False if it does not.

        It may have been closed, or lost to recovery, while the bytes were compared.
        """
        for batch in self._groups.get(_group(instance), ()):
            entry = batch.entries.get(known.sop_instance_uid)
            if entry and entry.listed == known:
                self._touch(batch, instance.sender, now)
                return True
        return False

    def place(self, instance: Instance, now: float, size: int | None) -> Placement:
        """Reserve the instance's place; the size is None while it is still arriving.

        An instance whose UID is there goes to a second batch beside the first: nothing is ever
        overwritten. Not even where the first PUT failed: it may land yet.
        """
        reserved = self._limits.max_instance_bytes if size is None else size
        for batch in self._groups.get(_group(instance), ()):
            if self._takes(batch, instance, now, reserved):
                break
            if size is not None and not batch.has_room(size, self._limits) and not batch.guesses:
                batch.sealed = batch.sealed or CloseReason.FULL
        else:
            batch = self._open(instance, now)
        batch.entries[instance.header.sop_instance_uid] = Entry(arriving=size is None)
        return self._reserve(batch, instance, now, reserved)

    def stored(self, placement: Placement, now: float, size: int, checksum: Checksum) -> float:
        """The instance is durable: it will be in its batch's manifest. When the batch is due."""
        batch, entry = self._land(placement, now)
        entry.listed = placement.instance.entry(batch.batch_id, size, checksum)
        batch.grow(-1, placement.size)
        batch.grow(1, size)
        return batch.closes_at(self._limits)

    def failed(self, placement: Placement, now: float) -> float:
        """The instance is not known to be durable: in no manifest. When the batch is due."""
        batch, _ = self._land(placement, now)
        batch.grow(-1, placement.size)
        return batch.closes_at(self._limits)

    def lost(self, batch_id: str) -> float:
        """The batch is recovery's: nothing more goes into it. When the book is due.

        Placements in it are still owed ``failed``.
        """
        self._closed.pop(batch_id, None)
        if batch := self._batches.get(batch_id):
            batch.lost = True
            # No reason of ours: it is recovery that closes it.
            batch.sealed = CloseReason.RECOVERED
            self._leave_group(batch)
        return self.next_due()

    def association_ended(self, association_id: str) -> None:
        """The association holds no batch any more."""
        for batch in self._batches.values():
            batch.holders.discard(association_id)

    def next_due(self) -> float:
        """When :meth:`due` has something to do next, if nothing happens; infinity for never."""
        closing = (batch.closes_at(self._limits) for batch in self._batches.values())
        retries = (closed.due_at for closed in self._closed.values())
        return min((*closing, *retries), default=math.inf)

    def due(self, now: float, utc: datetime) -> tuple[Manifest, ...]:
        """Close what has to be closed; the manifests to write now.

        Each is owed ``manifest_written`` or ``manifest_failed``, which brings it here again.
        """
        for batch in [b for b in self._batches.values() if b.closes_at(self._limits) <= now]:
            self._close(batch, batch.sealed or self._ripe(batch, now), now, utc)
        ripe = [each for each in self._closed.values() if each.due_at <= now]
        for each in ripe:
            each.due_at = math.inf
        return tuple(each.manifest for each in ripe)

    def manifest_written(self, batch_id: str) -> None:
        """The manifest is durable; the batch is forgotten."""
        self._closed.pop(batch_id, None)  # it may have been lost meanwhile

    def manifest_failed(self, batch_id: str, retry_at: float) -> None:
        """The manifest could not be written; it is due again at ``retry_at``."""
        if closed := self._closed.get(batch_id):
            closed.due_at = retry_at

    def close_all(self) -> None:
        """Seal every batch for shutdown: each is due as soon as nothing is in flight into it."""
        for batch in self._batches.values():
            batch.sealed = batch.sealed or CloseReason.SHUTDOWN

    def unwritten(self) -> tuple[str, ...]:
        """The ids of all batches whose manifest is not written, or that a PUT is in flight to."""
        return (*self._batches, *self._closed)

    def _open(self, instance: Instance, now: float) -> Batch:
        batch = Batch(self._new_batch_id(), _group(instance), now, now)
        self._batches[batch.batch_id] = batch
        self._groups.setdefault(batch.group, []).append(batch)
        return batch

    def _takes(self, batch: Batch, instance: Instance, now: float, size: int) -> bool:
        """Whether the instance fits; a batch that is too old is sealed on the way."""
        if not batch.sealed and now >= batch.opened_at + self._limits.max_age_seconds:
            batch.sealed = CloseReason.AGE
        if batch.sealed or not batch.has_room(size, self._limits):
            return False
        return instance.header.sop_instance_uid not in batch.entries

    def _reserve(self, batch: Batch, instance: Instance, now: float, size: int) -> Placement:
        batch.in_flight += 1
        batch.grow(1, size)
        if batch.files >= self._limits.max_files:
            batch.sealed = CloseReason.FULL
        self._touch(batch, instance.sender, now)
        return Placement(batch.batch_id, instance, size)

    def _touch(self, batch: Batch, sender: Sender, now: float) -> None:
        batch.active_at = now
        batch.holders.add(sender.association_id)
        batch.associations[sender.association_id] = None
        batch.addresses[sender.peer_address] = None

    def _land(self, placement: Placement, now: float) -> tuple[Batch, Entry]:
        batch = self._batches[placement.batch_id]
        batch.in_flight -= 1
        batch.active_at = now
        entry = batch.entries[placement.instance.header.sop_instance_uid]
        entry.in_flight = False
        return batch, entry

    def _ripe(self, batch: Batch, now: float) -> CloseReason:
        too_old = now >= batch.opened_at + self._limits.max_age_seconds
        return CloseReason.AGE if too_old else CloseReason.QUIET

    def _close(self, batch: Batch, reason: CloseReason, now: float, utc: datetime) -> None:
        del self._batches[batch.batch_id]
        if batch.lost:
            return
        self._leave_group(batch)
        instances = batch.stored()
        if not instances:  # every PUT failed and was answered so
            return
        calling, called, route, _ = batch.group
        source = Source(calling, called, tuple(batch.addresses), tuple(batch.associations))
        self._closed[batch.batch_id] = _Closed(
            Manifest(
                batch.batch_id, utc, reason, source, route.datastore_id, instances, route.urgent
            ),
            now,
        )

    def _leave_group(self, batch: Batch) -> None:
        self._groups[batch.group].remove(batch)
        if not self._groups[batch.group]:
            del self._groups[batch.group]


def _group(instance: Instance) -> Group:
    study = instance.header.study_instance_uid if instance.route.by_study else None
    sender = instance.sender
    return sender.calling_ae_title, sender.called_ae_title, instance.route, study
