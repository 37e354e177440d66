"""Goals: reached at their limit, missed beyond it, and never judged without both numbers."""

from dataclasses import replace

import pytest

from bench.receiver.goals import IDLE, Result, Verdict, evaluate
from bench.receiver.peers import AWS_SAMPLE, DCMTK, DCMTK_FORK, ORTHANC, OURS, RAW_TCP, Peer
from bench.receiver.rows import Finding, Key, Measured, Row, Sink


def measured(cpu_ms: float = 1.0, rate: float = 100.0, peak_mb: float = 100.0) -> Measured:
    return Measured(
        images=100,
        seconds=100 / rate,
        cpu_seconds=cpu_ms / 10,
        peak_bytes=int(peak_mb * 1e6),
        identical=100,
        bytes=10**8,
    )


def row(
    peer: Peer, value: Measured, *, associations: int = 1, image_set: str = "ct",
    sink: Sink = Sink.DIRECTORY,
) -> Row:  # fmt: skip
    return Row(Key(image_set, sink, peer.name, associations), value)


def verdict(goal: str, rows: list[Row], findings: list[Finding] | None = None) -> Verdict:
    (found,) = (each for each in evaluate(rows, findings or []) if each.goal == goal)
    return found


@pytest.mark.parametrize(
    ("ours", "result"), [(0.5, Result.REACHED), (1.0, Result.REACHED), (1.01, Result.MISSED)]
)
def test_cpu_is_held_to_dcmtk(ours: float, result: Result) -> None:
    rows = [row(OURS, measured(ours)), row(DCMTK, measured(1.0))]
    found = verdict("CT to directory, 1 association: our CPU over that of DCMTK storescp +B", rows)
    assert (found.result, found.measured) == (result, f"{ours:.2f}x")


def test_with_16_associations_dcmtk_forks() -> None:
    rows = [row(peer, measured(), associations=16) for peer in (OURS, DCMTK_FORK)]
    goal = f"CT to directory, 16 associations: our CPU over that of {DCMTK_FORK.name}"
    assert verdict(goal, rows).result is Result.REACHED


@pytest.mark.parametrize(
    ("theirs", "result"), [(11.9, Result.MISSED), (12.0, Result.REACHED), (50.0, Result.REACHED)]
)
def test_orthanc_needs_twelve_times_as_much(theirs: float, result: Result) -> None:
    rows = [row(OURS, measured(1.0)), row(ORTHANC, measured(theirs))]
    goal = "CT to directory, 1 association: CPU of Orthanc over ours"
    assert verdict(goal, rows).result is result


@pytest.mark.parametrize(("sink", "limit"), [(Sink.S3_HTTP, 20), (Sink.S3_TLS, 9)])
def test_each_way_to_s3_has_its_own_limit(sink: Sink, limit: int) -> None:
    goal = f"CT to {sink}, 16 associations: CPU of AWS sample's way over ours"
    ours = row(OURS, measured(1.0), associations=16, sink=sink)
    for cpu, result in ((limit, Result.REACHED), (limit - 0.1, Result.MISSED)):
        theirs = row(AWS_SAMPLE, measured(cpu), associations=16, sink=sink)
        assert verdict(goal, [ours, theirs]).result is result


@pytest.mark.parametrize(("ours", "result"), [(99.0, Result.MISSED), (101.0, Result.REACHED)])
def test_small_files_are_held_to_dcmtks_rate(ours: float, result: Result) -> None:
    rows = [
        row(peer, measured(rate=rate), associations=16, image_set="small")
        for peer, rate in ((OURS, ours), (DCMTK_FORK, 100.0))
    ]
    goal = f"39 KB to directory, 16 associations: our images/s over those of {DCMTK_FORK.name}"
    assert verdict(goal, rows).result is result


@pytest.mark.parametrize(("peak", "result"), [(250, Result.REACHED), (251, Result.MISSED)])
def test_memory_of_16_large_objects_is_bounded(peak: float, result: Result) -> None:
    rows = [row(OURS, measured(peak_mb=peak), associations=16, image_set="large")]
    assert verdict("16 x 210 MB at once to directory: peak memory", rows).result is result


@pytest.mark.parametrize(("percent", "result"), [(0.99, Result.REACHED), (1.0, Result.MISSED)])
def test_idle_associations_take_less_than_a_percent(percent: float, result: Result) -> None:
    found = verdict("300 idle associations: CPU", [], [Finding(IDLE, percent, "% of a core")])
    assert found.result is result


def test_a_changed_image_is_a_missed_goal_however_fast() -> None:
    changed = replace(measured(0.001), identical=99)
    goal = "images lost or changed by this receiver, in all tables"
    assert verdict(goal, [row(OURS, changed)]).result is Result.MISSED
    assert verdict(goal, [row(RAW_TCP, changed), row(OURS, measured())]).result is Result.REACHED


def test_without_both_numbers_nothing_is_claimed() -> None:
    failed = Row(Key("ct", Sink.DIRECTORY, DCMTK.name, 1), problem="not installed")
    verdicts = evaluate([row(OURS, measured(0.001)), failed], [])
    judged = {each.goal for each in verdicts if each.result is not Result.NOT_MEASURED}
    assert judged == {"images lost or changed by this receiver, in all tables"}
