"""Whether a study is quiet. Pure: its batches and the time in, what to do out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract.batch_states import ENDED
from contract.records import BatchRecord


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing has happened since this time, long enough ago."""

    since: datetime


@dataclass(frozen=True, slots=True)
class LookAgain:
    """At this time, unless something happens before; None: only if something happens."""

    at: datetime | None = None


def decide(
    batches: Iterable[BatchRecord | None], now: datetime, quiet: timedelta
) -> Quiet | LookAgain:
    """From all batches that closed since the study was quiet last; None has no record yet.

    A batch that waits or imports brings the study back by its end: nobody looks until then.
    """
    since = None
    for batch in batches:
        if batch is None or batch.state not in ENDED:
            return LookAgain()
        since = max(since or ended_at(batch), ended_at(batch))
    if since is None:
        return LookAgain()
    return Quiet(since) if since + quiet <= now else LookAgain(since + quiet)


def ended_at(batch: BatchRecord) -> datetime:
    """When a batch that has ended did so."""
    return batch.ended_at or batch.opened_at
