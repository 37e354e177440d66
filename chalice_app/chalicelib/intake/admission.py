"""Which batch's import starts next, and when. Pure: times and records in, decisions out.

HealthImaging starts one job a second for an account and runs 100 at once in a data store. Batches
wait here, where waiting is free, and not in an execution, where each retry is a billed transition.
https://docs.aws.amazon.com/healthimaging/latest/devguide/throttling-limits.html
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.stores.batches import BatchLine
from contract.records import BatchRecord

# How many of the latest starts count against a calling AE title: as many as run at once.
MAX_RECENT = 100
# Between the starts of a batch's first two executions; it doubles with each.
_FIRST_INTERVAL, _LONGEST_INTERVAL = timedelta(minutes=5), timedelta(hours=1)
_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """So many starts a second, and so many at once after a rest (a virtual scheduling bucket).

    ``next_start`` is when the next one is due if nobody hurries; None before the first.
    """

    per_second: float
    burst: int

    def wait(self, next_start: datetime | None, now: datetime) -> float:
        """Seconds until a start is allowed."""
        if next_start is None:
            return 0.0
        ahead = (self._sane(next_start, now) - now).total_seconds()
        return max(0.0, ahead - (self.burst - 1) / self.per_second)

    def after(self, next_start: datetime | None, now: datetime) -> datetime:
        """The ``next_start`` that a start at ``now`` leaves."""
        due = now if next_start is None else max(now, self._sane(next_start, now))
        return due + timedelta(seconds=1 / self.per_second)

    def _sane(self, next_start: datetime, now: datetime) -> datetime:
        # A Lambda whose clock was wrong must not stop all imports until its time has come.
        return min(next_start, now + timedelta(seconds=self.burst / self.per_second))


@dataclass(frozen=True, slots=True)
class Slots:
    """How many jobs a data store runs at once; a batch that names none goes to the default."""

    per_datastore: int
    default_datastore: str

    def datastore(self, batch: BatchLine) -> str:
        """Where a batch goes."""
        return batch.datastore_id or self.default_datastore


def choose(
    waiting: Iterable[BatchLine],
    importing: Collection[BatchLine],
    recent: Collection[str],
    slots: Slots,
) -> BatchLine | None:
    """The batch whose turn it is; None where every one's data store is busy, or none waits.

    A STALLED batch is in neither list. It holds no slot, so that others start, and waits for none,
    so that it is started again however many others come. If its job runs in HealthImaging all the
    same, one start too many is answered with 402, which the state machine tries again.
    Urgent ones first; then that of the calling AE title with the fewest imports running and
    recently started, so that nobody's thousand batches keep another's one waiting; then the oldest.
    """
    busy = Counter(slots.datastore(batch) for batch in importing)
    load = Counter(batch.calling_ae_title for batch in importing) + Counter(recent)
    admissible = (batch for batch in waiting if busy[slots.datastore(batch)] < slots.per_datastore)
    return min(
        admissible,
        key=lambda batch: (
            not batch.urgent,
            load[batch.calling_ae_title],
            batch.opened_at,
            batch.batch_id,
        ),
        default=None,
    )


def remembered(recent: tuple[str, ...], batch: BatchLine) -> tuple[str, ...]:
    """``recent`` after a batch's start."""
    return (*recent, batch.calling_ae_title)[-MAX_RECENT:]


def is_due(attempt: int, started_at: datetime, now: datetime) -> bool:
    """Whether a STALLED batch's next execution is due: ``attempt`` was its last, from 0.

    5 minutes after the start of the first, then 10, 20 and 40 minutes, then each hour, without end:
    whatever ends executions may last for days, and be mended at any time. A start that lies as far
    ahead was noted by a clock that was wrong.
    """
    doublings: int = 2 ** min(attempt, _DOUBLINGS)
    interval = min(_FIRST_INTERVAL * doublings, _LONGEST_INTERVAL)
    return abs(now - started_at) >= interval


def due_again(stalled: Iterable[BatchRecord], now: datetime) -> list[BatchRecord]:
    """Those whose next execution is due; whose last one was started first, comes first."""
    due = (batch for batch in stalled if is_due(batch.attempt, last_start(batch), now))
    return sorted(due, key=lambda batch: (last_start(batch), batch.batch_id))


def last_start(batch: BatchLine | BatchRecord) -> datetime:
    """When the latest execution of a batch was to start."""
    return batch.admitted_at or batch.opened_at
