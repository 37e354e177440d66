"""The world of the lease model: what there is in it, and the errors that can be planted."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from store_scp.batches import BatchBook, BatchLimits, Placement
from store_scp.leases import Lease

from contract.keys import new_batch_id
from contract.records import BatchState

P = ParamSpec("P")
T = TypeVar("T")
# A world as a value: every collection in it is a tuple or a frozenset.
Frozen = tuple[Any, ...]

# In ticks: as small as they can be while renewal, expiry and recovery are different moments.
LEASE = 2
GRACE = 1
RECOVERY = "recovery"
EPOCH = datetime(2026, 11, 23, tzinfo=UTC)
# The book's clock stands still: when a batch closes is a step of its own here.
STILL = 0.0
LIMITS = BatchLimits(
    quiet_seconds=1_000,
    held_quiet_seconds=1_000,
    max_files=100,
    max_bytes=10_000,
    max_metadata_bytes=10_000,
    max_age_seconds=1_000,
    max_instance_bytes=1,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Errors that a test plants; as they stand, none."""

    acknowledge_unchecked: bool = False  # no look at the lease once the PUT is done
    lease_from_answer: bool = False  # measured from the table's answer, not from before the request
    renew_anyones: bool = False  # the owner renews whoever the owner is
    no_fence: bool = False  # recovery lists without taking the batch first
    fence_anyones: bool = False  # recovery takes what was renewed since it looked
    recover_half: bool = False  # recovery lists one instance
    no_sweep: bool = False  # what the manifest does not list stays under the prefix
    no_claim: bool = False  # duplicates are told by what is IMPORTED, not by what is IMPORTING
    delete_stray: bool = False  # an object that is put again elsewhere is removed where it was
    late_after_sweep: bool = False  # sweep and import are two steps
    clock_behind: int = 0  # ticks: a lease's end is written by a clock that is so slow
    steady_alone: bool = False  # the holder does not compare the record's end with AWS's time


@dataclass(frozen=True, slots=True)
class Scope:
    """How much can happen: the explorer tries everything within."""

    workers: int = 1
    instances: int = 1
    sends: int = 2
    ticks: int = 5
    crashes: int = 1
    silences: int = 1  # of the batch table
    stops: int = 0  # ticks that a worker's steady clock misses, its machine being stopped
    slow_table: bool = True  # its answers take time, too


@dataclass(slots=True)
class BatchIds:
    """Makes a worker's batch ids."""

    worker: int
    count: int = 0

    def __call__(self) -> str:
        self.count += 1
        return new_batch_id(EPOCH, bytes([self.worker] * 7 + [self.count]))


@dataclass(frozen=True, slots=True)
class Task:
    """A C-STORE request in a worker's hands.

    ``landed`` is the Date of S3's answer to its PUT; where no machine stops, nobody needs it.
    ``arrived`` and ``latest`` are when the answer came: by the steady clock, and in AWS's time.
    """

    sop: str
    placement: Placement
    sent: bool = False
    landed: int = 0
    arrived: int | None = None
    latest: int = 0
    stored: bool = False


@dataclass(slots=True)
class Worker:
    """One receiver process: its book, its leases, and what it is doing.

    Its steady clock has ``missed`` so many ticks, of which answers have shown it ``known``.
    """

    name: str
    shelved: bytes  # the book, which most steps do not open
    leases: dict[str, Lease] = field(default_factory=dict)
    asking: dict[str, int] = field(default_factory=dict)  # since when, by batch
    task: Task | None = None
    to_write: dict[str, frozenset[str]] = field(default_factory=dict)
    writing: dict[str, frozenset[str]] = field(default_factory=dict)
    missed: int = 0
    known: int = 0

    def book(
        self, operation: Callable[Concatenate[BatchBook, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do this to the book."""
        assert not kwargs
        result, self.shelved = _on_book(self.shelved, operation, args)
        return cast("T", result)

    def freeze(self) -> Frozen:
        """The worker as a value."""
        return (
            self.name,
            self.shelved,
            self.task,
            _sorted(self.leases),
            _sorted(self.asking),
            _sorted(self.to_write),
            _sorted(self.writing),
            self.missed,
            self.known,
        )

    @classmethod
    def thaw(cls, frozen: Frozen) -> Self:
        """A worker that may change, from a value."""
        name, shelved, task, leases, asking, to_write, writing, *clock = frozen
        return cls(
            name, shelved, dict(leases), dict(asking), task, dict(to_write), dict(writing), *clock
        )


@cache
def _on_book(
    shelved: bytes, operation: Callable[..., object], args: tuple[object, ...]
) -> tuple[object, bytes]:
    """The operation's result, and the book after it. There are few books, and many worlds."""
    book = pickle.loads(shelved)  # noqa: S301 - our own
    result = operation(book, *args)
    return result, pickle.dumps(book)


def _sorted(items: dict[str, Any]) -> Frozen:
    return tuple(sorted(items.items())) if len(items) > 1 else tuple(items.items())


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the batch table."""

    state: BatchState
    owner: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """A run of recovery on one batch; ``owner`` and ``expires_at`` are what it read."""

    batch_id: str
    owner: str
    expires_at: int
    fenced: bool = False
    listing: frozenset[str] | None = None


@dataclass(slots=True)
class World:
    """Everything there is. Objects are (batch id, SOP Instance UID)."""

    scope: Scope
    workers: list[Worker]
    now: int = 0
    sends: int = 0
    crashes: int = 0
    silences: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    in_flight: set[tuple[str, str]] = field(default_factory=set)
    objects: set[tuple[str, str]] = field(default_factory=set)
    manifests: dict[str, frozenset[str]] = field(default_factory=dict)
    recovery: Recovery | None = None
    ledger: set[str] = field(default_factory=set)
    imported: dict[str, int] = field(default_factory=dict)  # how many times
    acknowledged: set[str] = field(default_factory=set)
    wrong: str | None = None

    @classmethod
    def begin(cls, scope: Scope) -> "World":
        """Nothing has happened."""
        names = range(1, scope.workers + 1)
        return cls(
            scope, [Worker(f"w{n}", pickle.dumps(BatchBook(LIMITS, BatchIds(n)))) for n in names]
        )

    def freeze(self) -> Frozen:
        """The world as a value, which is the same for equal worlds."""
        return (
            self.scope,
            tuple(worker.freeze() for worker in self.workers),
            self.now,
            self.sends,
            self.crashes,
            self.silences,
            _sorted(self.records),
            frozenset(self.in_flight),
            frozenset(self.objects),
            _sorted(self.manifests),
            self.recovery,
            frozenset(self.ledger),
            _sorted(self.imported),
            frozenset(self.acknowledged),
            self.wrong,
        )

    @classmethod
    def thaw(cls, frozen: Frozen) -> Self:
        """A world that may change, from a value."""
        scope, workers, now, sends, crashes, silences, *pipeline = frozen
        records, in_flight, objects, manifests, recovery, *end = pipeline
        ledger, imported, acknowledged, wrong = end
        return cls(
            scope,
            [Worker.thaw(worker) for worker in workers],
            now,
            sends,
            crashes,
            silences,
            dict(records),
            set(in_flight),
            set(objects),
            dict(manifests),
            recovery,
            set(ledger),
            dict(imported),
            set(acknowledged),
            wrong,
        )

    def prefix(self, batch_id: str) -> frozenset[str]:
        """What stands under a batch's prefix."""
        return frozenset(sop for batch, sop in self.objects if batch == batch_id)
