"""What is to be reached, as ratios within one run, and whether it was."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.receiver.peers import (
    AWS_SAMPLE,
    DCMTK,
    DCMTK_FORK,
    ORTHANC,
    OURS,
    PYNETDICOM_APP,
    RAW_TCP,
    Peer,
)
from bench.receiver.rows import Finding, Key, Measured, Row, Sink
from bench.receiver.sets import CT, LARGE, SMALL

_ASSOCIATIONS = (1, 16)
_LARGE_ASSOCIATIONS = 16
_LARGE_MB = 250
_IDLE_PERCENT = 1.0
IDLE = f"300 idle associations: {OURS.name}"

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
    return [
        *_directory_goals(table),
        *_s3_goals(table),
        _small_goal(table),
        *_large_goals(table),
        _idle_goal(findings),
        _nothing_changed(table),
    ]


def _directory_goals(table: _Table) -> Iterator[Verdict]:
    for associations in _ASSOCIATIONS:
        dcmtk = DCMTK if associations <= DCMTK.max_associations else DCMTK_FORK
        directory = (table, Sink.DIRECTORY, associations)
        yield _at_most(*directory, dcmtk, 1.0)
        yield _times_less(*directory, ORTHANC, 12)
        yield _times_less(*directory, PYNETDICOM_APP, 20)
        yield _at_most(*directory, RAW_TCP, 1.3)


def _s3_goals(table: _Table) -> Iterator[Verdict]:
    for associations in _ASSOCIATIONS:
        yield _times_less(table, Sink.S3_HTTP, associations, AWS_SAMPLE, 20)
        yield _times_less(table, Sink.S3_TLS, associations, AWS_SAMPLE, 9)


def _small_goal(table: _Table) -> Verdict:
    associations = max(_ASSOCIATIONS)
    goal = (
        f"39 KB to directory, {associations} associations: our images/s over those of "
        f"{DCMTK_FORK.name}"
    )
    ours, theirs = (
        table.get(Key(SMALL.name, Sink.DIRECTORY, peer.name, associations))
        for peer in (OURS, DCMTK_FORK)
    )
    ratio = ours.rate / theirs.rate if ours and theirs else None
    return _verdict(goal, ratio, "at least 1.00x", "{:.2f}x", ratio is not None and ratio >= 1)


def _large_goals(table: _Table) -> Iterator[Verdict]:
    for sink in (Sink.DIRECTORY, Sink.S3_HTTP):
        goal = f"16 x 210 MB at once to {sink}: peak memory"
        ours = table.get(Key(LARGE.name, sink, OURS.name, _LARGE_ASSOCIATIONS))
        peak = ours.peak_mb if ours else None
        reached = peak is not None and peak <= _LARGE_MB
        yield _verdict(goal, peak, f"at most {_LARGE_MB} MB", "{:.0f} MB", reached)


def _idle_goal(findings: Iterable[Finding]) -> Verdict:
    percent = next((each.value for each in findings if each.name == IDLE), None)
    reached = percent is not None and percent < _IDLE_PERCENT
    limit = f"less than {_IDLE_PERCENT:.0f} % of a core"
    return _verdict("300 idle associations: CPU", percent, limit, "{:.2f} %", reached)


def _nothing_changed(table: _Table) -> Verdict:
    """The condition of all others: what is fast and wrong is not fast."""
    ours = [measured for key, measured in table.items() if key.peer == OURS.name]
    changed = sum(each.images - each.identical for each in ours) if ours else None
    goal = "images lost or changed by this receiver, in all tables"
    return _verdict(goal, changed, "0", "{:.0f}", changed == 0)


def _at_most(table: _Table, sink: Sink, associations: int, peer: Peer, limit: float) -> Verdict:
    """Our CPU for an image, as a multiple of the peer's."""
    ratio = _cpu_ratio(table, sink, associations, OURS, peer)
    goal = f"{_where(sink, associations)}: our CPU over that of {peer.name}"
    reached = ratio is not None and ratio <= limit
    return _verdict(goal, ratio, f"at most {limit:.2f}x", "{:.2f}x", reached)


def _times_less(table: _Table, sink: Sink, associations: int, peer: Peer, limit: float) -> Verdict:
    """The peer's CPU for an image, as a multiple of ours."""
    ratio = _cpu_ratio(table, sink, associations, peer, OURS)
    goal = f"{_where(sink, associations)}: CPU of {peer.name} over ours"
    reached = ratio is not None and ratio >= limit
    return _verdict(goal, ratio, f"at least {limit:.0f}x", "{:.1f}x", reached)


def _cpu_ratio(
    table: _Table, sink: Sink, associations: int, above: Peer, below: Peer
) -> float | None:
    one, other = (table.get(Key(CT.name, sink, peer.name, associations)) for peer in (above, below))
    return one.cpu_ms / other.cpu_ms if one and other else None


def _where(sink: Sink, associations: int) -> str:
    return f"CT to {sink}, {associations} association{'s' if associations > 1 else ''}"


def _verdict(goal: str, number: float | None, limit: str, form: str, reached: bool) -> Verdict:
    if number is None:
        return Verdict(goal, limit, "-", Result.NOT_MEASURED)
    result = Result.REACHED if reached else Result.MISSED
    return Verdict(goal, limit, form.format(number), result)
