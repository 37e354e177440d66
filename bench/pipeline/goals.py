"""What is to be reached, and whether it was."""

from collections.abc import Iterable, Iterator, Sequence

from bench.pipeline.costs import Purpose, dollars
from bench.pipeline.receiver import default_limits
from bench.pipeline.results import HospitalDay, LongQueue, Migration, PerImageDay
from bench.receiver.goals import Result, Verdict

_SHARE = 0.90
_THROTTLED = 0.01
_TIMES_CHEAPER = 100
# On top of the time a batch has to be quiet before it closes.
_START_SECONDS = 2.0


def evaluate(
    days: Sequence[tuple[HospitalDay, PerImageDay]],
    migration: Migration,
    queues: Iterable[LongQueue],
) -> list[Verdict]:
    """Every goal."""
    return [
        *_ceilings(migration, queues),
        *_throttled(days, migration),
        *_costs(days),
        *_starts(days),
        _lost(days, migration),
    ]


def _ceilings(migration: Migration, queues: Iterable[LongQueue]) -> Iterator[Verdict]:
    limit = f"at least {_SHARE:.0%}"
    yield _verdict(
        "migration: jobs started, of the service's ceiling",
        limit,
        f"{migration.share:.1%}",
        reached=migration.share >= _SHARE,
    )
    for queue in queues:
        seconds = queue.duration.seconds(default_limits().max_files)
        goal = f"{queue.waiting:,} batches waiting, jobs of {seconds:.0f} s: of the ceiling"
        yield _verdict(goal, limit, f"{queue.share:.1%}", reached=queue.share >= _SHARE)


def _throttled(
    days: Iterable[tuple[HospitalDay, PerImageDay]], migration: Migration
) -> Iterator[Verdict]:
    counted = [(f"{ours.hospital.name} hospital", ours.counted) for ours, _ in days]
    for name, each in (*counted, ("migration", migration.counted)):
        share = each.throttled_share
        goal = f"{name}: start calls that were throttled"
        limit = f"less than {_THROTTLED:.0%}"
        yield _verdict(goal, limit, f"{share:.2%}", reached=share < _THROTTLED)


def _costs(days: Iterable[tuple[HospitalDay, PerImageDay]]) -> Iterator[Verdict]:
    for ours, other in days:
        times = dollars(other.bill[Purpose.WORKFLOW]) / dollars(ours.bill[Purpose.WORKFLOW])
        goal = f"{ours.hospital.name} hospital: one job per image's workflow cost over ours"
        limit = f"at least {_TIMES_CHEAPER}x"
        yield _verdict(goal, limit, f"{times:.0f}x", reached=times >= _TIMES_CHEAPER)


def _starts(days: Iterable[tuple[HospitalDay, PerImageDay]]) -> Iterator[Verdict]:
    most = default_limits().quiet_seconds + _START_SECONDS
    for ours, _ in days:
        median, _ = ours.to_start
        goal = f"{ours.hospital.name} hospital: association end to start of its job, median"
        yield _verdict(goal, f"at most {most:.0f} s", f"{median:.1f} s", reached=median <= most)


def _lost(days: Iterable[tuple[HospitalDay, PerImageDay]], migration: Migration) -> Verdict:
    counted = [*(ours.counted for ours, _ in days), migration.counted]
    lost = sum(each.images - each.imported for each in counted)
    return _verdict("images not imported, in all of them", "0", f"{lost}", reached=lost == 0)


def _verdict(goal: str, limit: str, measured: str, *, reached: bool) -> Verdict:
    return Verdict(goal, limit, measured, Result.REACHED if reached else Result.MISSED)
