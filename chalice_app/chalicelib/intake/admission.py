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

# How many of the latest starts count against a calling AE title: as many as run at once.
MAX_RECENT = 100


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
