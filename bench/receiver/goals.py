"""What is to be reached, as ratios within one run under mixed real headers, and whether it was."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.receiver.findings import IDLE, TOGETHER
from bench.receiver.peers import AWS_SAMPLE, DCMTK, DCMTK_FORK, OURS, RAW_TCP, Peer
from bench.receiver.rows import Finding, Key, Measured, Row, Sink
from bench.receiver.sets import LARGE, MIXED, SMALL_MIXED, ImageSet

ROUNDS_TO_JUDGE = 5

_ASSOCIATIONS = (1, 16)
_MANY = 16
_LARGE_MB = {Sink.DIRECTORY: 90, Sink.S3_HTTP: 200}
_IDLE_PERCENT = 0.3
_TOGETHER_SHARE = 0.92

_NAMES = {MIXED: "CT", SMALL_MIXED: "39 KB"}

_Table = Mapping[Key, Measured]


class Result(StrEnum):
    """How a goal came out."""

    REACHED = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal: the number measured, and the limit it is held to, as people read them."""

    goal: str
    limit: str
    measured: str
    result: Result


def evaluate(rows: Iterable[Row], findings: Iterable[Finding]) -> list[Verdict]:
    """Every goal that this benchmark can judge."""
    table = {row.key: row.measured for row in rows if row.measured is not None}
    found = {each.name: each for each in findings}
    return [
        *_directory_goals(table),
        *_s3_goals(table),
        _together_goal(found.get(TOGETHER)),
        *_large_goals(table),
        _idle_goal(found.get(IDLE)),
        _nothing_changed(table),
    ]


def _directory_goals(table: _Table) -> Iterator[Verdict]:
    for associations in _ASSOCIATIONS:
        dcmtk = DCMTK if associations <= DCMTK.max_associations else DCMTK_FORK
        yield _at_most(table, MIXED, associations, dcmtk, 1.05, stretch=1.0)
        yield _at_most(table, MIXED, associations, RAW_TCP, 1.15)
    yield _at_most(table, SMALL_MIXED, 1, DCMTK, 1.2)
    yield _small_rate_goal(table)


def _s3_goals(table: _Table) -> Iterator[Verdict]:
    for associations in _ASSOCIATIONS:
        yield _times_less(table, Sink.S3_HTTP, associations, 20, stretch=22)
        yield _times_less(table, Sink.S3_TLS, associations, 12)


def _small_rate_goal(table: _Table) -> Verdict:
    where = _where(SMALL_MIXED, Sink.DIRECTORY, _MANY)
    ours, theirs = (
        table.get(Key(SMALL_MIXED.name, Sink.DIRECTORY, peer.name, _MANY))
        for peer in (OURS, DCMTK_FORK)
    )
    ratio = ours.rate / theirs.rate if ours and theirs else None
    goal = f"{where}: our images/s over those of {DCMTK_FORK.name}"
    return _verdict(goal, ratio, "at least 1.00x", "{:.2f}x", ratio is not None and ratio >= 1)


def _together_goal(found: Finding | None) -> Verdict:
    """Of a slow S3, as much as its latency allows."""
    share = found.value / found.possible if found and found.value and found.possible else None
    reached = share is not None and share >= _TOGETHER_SHARE
    percent = None if share is None else share * 100
    limit = f"at least {_TOGETHER_SHARE:.0%}"
    return _verdict(f"{TOGETHER}: of what is possible", percent, limit, "{:.1f}%", reached)


def _large_goals(table: _Table) -> Iterator[Verdict]:
    for sink, limit in _LARGE_MB.items():
        ours = table.get(Key(LARGE.name, sink, OURS.name, _MANY))
        peak = ours.peak_mb if ours else None
        reached = peak is not None and peak <= limit
        goal = f"{_MANY} x 210 MB at once to {sink}: peak memory"
        yield _verdict(goal, peak, f"at most {limit} MB", "{:.0f} MB", reached)


def _idle_goal(found: Finding | None) -> Verdict:
    percent = found.value if found else None
    reached = percent is not None and percent <= _IDLE_PERCENT
    limit = f"at most {_IDLE_PERCENT} % of a core"
    return _verdict("300 idle associations: CPU", percent, limit, "{:.2f} %", reached)


def _nothing_changed(table: _Table) -> Verdict:
    """The condition of all others: what is fast and wrong is not fast."""
    ours = [measured for key, measured in table.items() if key.peer == OURS.name]
    changed = sum(each.images - each.identical for each in ours) if ours else None
    goal = "images lost or changed by this receiver, in all tables"
    return _verdict(goal, changed, "0", "{:.0f}", changed == 0)


def _at_most(
    table: _Table,
    image_set: ImageSet,
    associations: int,
    peer: Peer,
    limit: float,
    *,
    stretch: float | None = None,
) -> Verdict:
    """Into a directory: our CPU for an image, as a multiple of the peer's."""
    where = Sink.DIRECTORY, associations
    ratio = _cpu_ratio(table, image_set, *where, OURS, peer)
    goal = f"{_where(image_set, *where)}: our CPU over that of {peer.name}"
    more = f" (better {stretch:.2f}x)" if stretch else ""
    reached = ratio is not None and ratio <= limit
    return _verdict(goal, ratio, f"at most {limit:.2f}x{more}", "{:.2f}x", reached)


def _times_less(
    table: _Table, sink: Sink, associations: int, limit: float, *, stretch: float | None = None
) -> Verdict:
    """To S3: the CPU of the AWS sample's way for an image, as a multiple of ours."""
    ratio = _cpu_ratio(table, MIXED, sink, associations, AWS_SAMPLE, OURS)
    goal = f"{_where(MIXED, sink, associations)}: CPU of {AWS_SAMPLE.name} over ours"
    more = f" (better {stretch:.0f}x)" if stretch else ""
    reached = ratio is not None and ratio >= limit
    return _verdict(goal, ratio, f"at least {limit:.0f}x{more}", "{:.1f}x", reached)


def _cpu_ratio(
    table: _Table, image_set: ImageSet, sink: Sink, associations: int, above: Peer, below: Peer
) -> float | None:
    one, other = (
        table.get(Key(image_set.name, sink, peer.name, associations)) for peer in (above, below)
    )
    return one.cpu_ms / other.cpu_ms if one and other else None


def _where(image_set: ImageSet, sink: Sink, associations: int) -> str:
    many = "s" if associations > 1 else ""
    return f"{_NAMES[image_set]} to {sink}, {associations} association{many}"


def _verdict(goal: str, number: float | None, limit: str, form: str, reached: bool) -> Verdict:
    if number is None:
        return Verdict(goal, limit, "-", Result.NOT_MEASURED)
    result = Result.REACHED if reached else Result.MISSED
    return Verdict(goal, limit, form.format(number), result)
