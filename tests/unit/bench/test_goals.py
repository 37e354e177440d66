"""Goals: reached at their limit, missed beyond it, and never judged without both numbers."""

from dataclasses import replace

import pytest

from bench.receiver.findings import IDLE, TOGETHER
from bench.receiver.goals import Result, Verdict, evaluate
from bench.receiver.peers import AWS_SAMPLE, DCMTK, DCMTK_FORK, OURS, RAW_TCP, Peer
from bench.receiver.rows import Finding, Key, Measured, Row, Sink


def measured(cpu_ms: float = 1.0, rate: float = 100.0, peak_mb: float = 80.0) -> Measured:
    return Measured(
        images=100,
        seconds=100 / rate,
        cpu_seconds=cpu_ms / 10,
        peak_bytes=int(peak_mb * 1e6),
        identical=100,
        bytes=10**8,
    )


def row(
    peer: Peer, value: Measured, *, associations: int = 1, image_set: str = "mixed",
    sink: Sink = Sink.DIRECTORY,
) -> Row:  # fmt: skip
    return Row(Key(image_set, sink, peer.name, associations), (value,))


def verdict(goal: str, rows: list[Row], findings: list[Finding] | None = None) -> Verdict:
    (found,) = (each for each in evaluate(rows, findings or []) if each.goal == goal)
    return found


@pytest.mark.parametrize("associations", [1, 16])
@pytest.mark.parametrize(("ours", "result"), [(1.05, Result.REACHED), (1.06, Result.MISSED)])
def test_cpu_is_held_to_dcmtk_which_forks_for_16(
    associations: int, ours: float, result: Result
) -> None:
    dcmtk = DCMTK if associations == 1 else DCMTK_FORK
    rows = [row(peer, measured(cpu), associations=associations) for peer, cpu in
            ((OURS, ours), (dcmtk, 1.0))]  # fmt: skip
    many = "s" if associations > 1 else ""
    goal = f"CT to directory, {associations} association{many}: our CPU over that of {dcmtk.name}"
    found = verdict(goal, rows)
    assert (found.result, found.measured) == (result, f"{ours:.2f}x")
    assert found.limit == "at most 1.05x (better 1.00x)"


@pytest.mark.parametrize("associations", [1, 16])
@pytest.mark.parametrize(("ours", "result"), [(1.15, Result.REACHED), (1.16, Result.MISSED)])
def test_cpu_is_held_to_raw_tcp(associations: int, ours: float, result: Result) -> None:
    rows = [row(peer, measured(cpu), associations=associations) for peer, cpu in
            ((OURS, ours), (RAW_TCP, 1.0))]  # fmt: skip
    many = "s" if associations > 1 else ""
    goal = f"CT to directory, {associations} association{many}: our CPU over that of {RAW_TCP.name}"
    assert verdict(goal, rows).result is result


@pytest.mark.parametrize(
    ("sink", "limit"), [(Sink.S3_HTTP, "at least 20x (better 22x)"), (Sink.S3_TLS, "at least 12x")]
)
def test_each_way_to_s3_has_its_own_limit(sink: Sink, limit: str) -> None:
    goal = f"CT to {sink}, 16 associations: CPU of AWS sample's way over ours"
    ours = row(OURS, measured(1.0), associations=16, sink=sink)
    least = {Sink.S3_HTTP: 20, Sink.S3_TLS: 12}[sink]
    for cpu, result in ((least, Result.REACHED), (least - 0.1, Result.MISSED)):
        theirs = row(AWS_SAMPLE, measured(cpu), associations=16, sink=sink)
        found = verdict(goal, [ours, theirs])
        assert (found.result, found.limit) == (result, limit)


@pytest.mark.parametrize(("ours", "result"), [(99.0, Result.MISSED), (100.0, Result.REACHED)])
def test_small_files_are_held_to_dcmtks_rate(ours: float, result: Result) -> None:
    rows = [
        row(peer, measured(rate=rate), associations=16, image_set="small-mixed")
        for peer, rate in ((OURS, ours), (DCMTK_FORK, 100.0))
    ]
    goal = f"39 KB to directory, 16 associations: our images/s over those of {DCMTK_FORK.name}"
    assert verdict(goal, rows).result is result


@pytest.mark.parametrize(("ours", "result"), [(1.2, Result.REACHED), (1.21, Result.MISSED)])
def test_small_files_of_one_association_are_held_to_dcmtks_cpu(ours: float, result: Result) -> None:
    rows = [row(peer, measured(cpu), image_set="small-mixed") for peer, cpu in
            ((OURS, ours), (DCMTK, 1.0))]  # fmt: skip
    goal = f"39 KB to directory, 1 association: our CPU over that of {DCMTK.name}"
    assert verdict(goal, rows).result is result


@pytest.mark.parametrize(("sink", "limit"), [(Sink.DIRECTORY, 90), (Sink.S3_HTTP, 200)])
def test_memory_of_16_large_objects_is_bounded(sink: Sink, limit: int) -> None:
    for peak, result in ((limit, Result.REACHED), (limit + 1, Result.MISSED)):
        value = measured(peak_mb=peak)
        rows = [row(OURS, value, associations=16, image_set="large", sink=sink)]
        assert verdict(f"16 x 210 MB at once to {sink}: peak memory", rows).result is result


@pytest.mark.parametrize(("percent", "result"), [(0.3, Result.REACHED), (0.31, Result.MISSED)])
def test_idle_associations_take_less_than_a_third_of_a_percent(
    percent: float, result: Result
) -> None:
    found = verdict("300 idle associations: CPU", [], [Finding(IDLE, percent, "% of a core")])
    assert found.result is result


@pytest.mark.parametrize(("rate", "result"), [(1472, Result.REACHED), (1471, Result.MISSED)])
def test_a_slow_s3_is_used_as_far_as_its_latency_allows(rate: float, result: Result) -> None:
    finding = Finding(TOGETHER, rate, "images/s", possible=1600)
    assert verdict(f"{TOGETHER}: of what is possible", [], [finding]).result is result


def test_a_changed_image_is_a_missed_goal_however_fast() -> None:
    changed = replace(measured(0.001), identical=99)
    goal = "images lost or changed by this receiver, in all tables"
    assert verdict(goal, [row(OURS, changed)]).result is Result.MISSED
    assert verdict(goal, [row(RAW_TCP, changed), row(OURS, measured())]).result is Result.REACHED


def test_one_header_for_all_images_reaches_no_goal() -> None:
    rows = [row(peer, measured(), image_set="ct") for peer in (OURS, DCMTK)]
    goal = f"CT to directory, 1 association: our CPU over that of {DCMTK.name}"
    assert verdict(goal, rows).result is Result.NOT_MEASURED


def test_without_both_numbers_nothing_is_claimed() -> None:
    failed = Row(Key("mixed", Sink.DIRECTORY, DCMTK.name, 1), problem="not installed")
    verdicts = evaluate([row(OURS, measured(0.001)), failed], [])
    judged = {each.goal for each in verdicts if each.result is not Result.NOT_MEASURED}
    assert judged == {"images lost or changed by this receiver, in all tables"}
