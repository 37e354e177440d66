"""When a batch opens, what goes into it, and when it closes: the book that one receiver keeps.

Sans-I/O. Times are seconds of a monotonic clock that the caller reads; the wall clock appears only
in batch ids and in a manifest's ``closedAt``. The book is not thread-safe: its caller holds a lock.

A batch is *open* while it takes instances, *sealed* when it takes no more but a PUT into it may
still be in flight, and *closed* when its manifest exists; it is forgotten once that is written.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender
from store_scp.instance import Instance

# Makes a batch id; given by the caller, since an id holds the wall clock and chance.
NewBatchId = Callable[[], str]
# Who sent it, to whom, for which data store (None: the deployment's), and the study unless mixed.
_Group = tuple[str, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When batches close; seconds, files and bytes. ``by_study`` is BATCH_BY=study."""

    by_study: bool
    quiet_seconds: float
    held_quiet_seconds: float
    max_files: int
    max_bytes: int
    max_age_seconds: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance goes. The caller owes the book ``stored`` or ``failed`` for each.

    If it is ``already_stored``, the same bytes are durable under the key, and nothing is owed.
    """

    batch_id: str
    entry: ManifestInstance
    already_stored: bool = False


class _State(Enum):
    IN_FLIGHT = auto()
    STORED = auto()
    # The PUT may have landed all the same, so the key stays taken for other bytes.
    FAILED = auto()


@dataclass(slots=True)
class _Entry:
    instance: ManifestInstance
    state: _State


@dataclass(slots=True)
class _Batch:
    """A batch that takes instances or waits for its last PUT."""

    batch_id: str
    group: _Group
    opened_at: float
    active_at: float
    entries: dict[str, _Entry] = field(default_factory=dict)
    # Dictionaries for their order: who held the batch ever, from where, and who still does.
    associations: dict[str, None] = field(default_factory=dict)
    addresses: dict[str, None] = field(default_factory=dict)
    holders: set[str] = field(default_factory=set)
    in_flight: int = 0
    files: int = 0
    size: int = 0
    sealed: CloseReason | None = None

    def closes_at(self, limits: BatchLimits) -> float:
        """When the batch closes if nothing more happens; never while a PUT is in flight."""
        if self.in_flight:
            return math.inf
        if self.sealed:
            return -math.inf
        held = limits.held_quiet_seconds if self.holders else limits.quiet_seconds
        return min(self.opened_at + limits.max_age_seconds, self.active_at + held)

    def stored(self) -> tuple[ManifestInstance, ...]:
        return tuple(e.instance for e in self.entries.values() if e.state is _State.STORED)


@dataclass(slots=True)
class _Closed:
    manifest: Manifest
    due_at: float


class BatchBook:
    """Every batch that is open, sealed, or closed without a manifest in the sink yet."""

    def __init__(self, limits: BatchLimits, new_batch_id: NewBatchId) -> None:
        self._limits = limits
        self._new_batch_id = new_batch_id
        self._batches: dict[str, _Batch] = {}
        self._closed: dict[str, _Closed] = {}

    @property
    def is_empty(self) -> bool:
        """Whether every batch was closed and its manifest written."""
        return not self._batches and not self._closed

    def place(self, instance: Instance, now: float, datastore_id: str | None = None) -> Placement:
        """Reserve the instance's place.

        An instance that is already stored in a batch not yet closed is not stored again. One whose
        UID is there with other bytes, or still in flight, goes to a second batch beside the first:
        nothing is ever overwritten.
        """
        batches = list(self._in_group(self._group(instance, datastore_id)))
        for batch in batches:
            entry = batch.entries.get(instance.header.sop_instance_uid)
            if entry and entry.state is _State.STORED and _same(entry, instance):
                self._touch(batch, instance.sender, now)
                return Placement(batch.batch_id, entry.instance, already_stored=True)
        for batch in batches:
            if self._takes(batch, instance, now):
                return self._reserve(batch, instance, now)
        return self._reserve(self._open(instance, now, datastore_id), instance, now)

    def stored(self, placement: Placement, now: float) -> None:
        """The instance is durable: it will be in its batch's manifest."""
        self._land(placement, _State.STORED, now)

    def failed(self, placement: Placement, now: float) -> None:
        """The instance is not known to be durable: it will be in no manifest."""
        batch = self._land(placement, _State.FAILED, now)
        batch.files -= 1
        batch.size -= placement.entry.size

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

        A manifest is handed out again each time until ``manifest_written`` confirms it;
        ``manifest_failed`` postpones that.
        """
        for batch in [b for b in self._batches.values() if b.closes_at(self._limits) <= now]:
            self._close(batch, batch.sealed or self._ripe(batch, now), now, utc)
        return tuple(each.manifest for each in self._closed.values() if each.due_at <= now)

    def manifest_written(self, batch_id: str) -> None:
        """The manifest is durable; the batch is forgotten."""
        del self._closed[batch_id]

    def manifest_failed(self, batch_id: str, retry_at: float) -> None:
        """The manifest could not be written; it is due again at ``retry_at``."""
        self._closed[batch_id].due_at = retry_at

    def close_all(self) -> None:
        """Seal every batch for shutdown: each is due as soon as nothing is in flight into it."""
        for batch in self._batches.values():
            batch.sealed = batch.sealed or CloseReason.SHUTDOWN

    def unwritten(self) -> tuple[str, ...]:
        """The ids of all batches whose manifest is not written."""
        return (*self._batches, *self._closed)

    def _group(self, instance: Instance, datastore_id: str | None) -> _Group:
        study = instance.header.study_instance_uid if self._limits.by_study else None
        sender = instance.sender
        return sender.calling_ae_title, sender.called_ae_title, datastore_id, study

    def _in_group(self, group: _Group) -> Iterator[_Batch]:
        return (batch for batch in self._batches.values() if batch.group == group)

    def _open(self, instance: Instance, now: float, datastore_id: str | None) -> _Batch:
        batch = _Batch(self._new_batch_id(), self._group(instance, datastore_id), now, now)
        self._batches[batch.batch_id] = batch
        return batch

    def _takes(self, batch: _Batch, instance: Instance, now: float) -> bool:
        """Whether the instance fits; a batch that is full or too old is sealed on the way."""
        if not batch.sealed:
            if now >= batch.opened_at + self._limits.max_age_seconds:
                batch.sealed = CloseReason.AGE
            elif batch.files and batch.size + instance.size > self._limits.max_bytes:
                batch.sealed = CloseReason.FULL
        entry = batch.entries.get(instance.header.sop_instance_uid)
        free = entry is None or (entry.state is _State.FAILED and _same(entry, instance))
        return free and not batch.sealed

    def _reserve(self, batch: _Batch, instance: Instance, now: float) -> Placement:
        entry = _manifest_instance(batch.batch_id, instance)
        batch.entries[entry.sop_instance_uid] = _Entry(entry, _State.IN_FLIGHT)
        batch.in_flight += 1
        batch.files += 1
        batch.size += entry.size
        if batch.files >= self._limits.max_files:
            batch.sealed = CloseReason.FULL
        self._touch(batch, instance.sender, now)
        return Placement(batch.batch_id, entry)

    def _touch(self, batch: _Batch, sender: Sender, now: float) -> None:
        batch.active_at = now
        batch.holders.add(sender.association_id)
        batch.associations[sender.association_id] = None
        batch.addresses[sender.peer_address] = None

    def _land(self, placement: Placement, state: _State, now: float) -> _Batch:
        batch = self._batches[placement.batch_id]
        batch.entries[placement.entry.sop_instance_uid].state = state
        batch.in_flight -= 1
        batch.active_at = now
        return batch

    def _ripe(self, batch: _Batch, now: float) -> CloseReason:
        too_old = now >= batch.opened_at + self._limits.max_age_seconds
        return CloseReason.AGE if too_old else CloseReason.QUIET

    def _close(self, batch: _Batch, reason: CloseReason, now: float, utc: datetime) -> None:
        del self._batches[batch.batch_id]
        instances = batch.stored()
        if not instances:  # every PUT failed and was answered so
            return
        calling, called, datastore_id, _ = batch.group
        source = Source(calling, called, tuple(batch.addresses), tuple(batch.associations))
        manifest = Manifest(batch.batch_id, utc, reason, source, datastore_id, instances)
        self._closed[batch.batch_id] = _Closed(manifest, now)


def _same(entry: _Entry, instance: Instance) -> bool:
    return entry.instance.checksum == instance.checksum


def _manifest_instance(batch_id: str, instance: Instance) -> ManifestInstance:
    header = instance.header
    key = InstanceKey(
        batch_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
    )
    return ManifestInstance(
        key=str(key),
        size=instance.size,
        checksum=instance.checksum,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        study_date=header.study_date,
        transfer_syntax_uid=instance.transfer_syntax_uid,
    )
