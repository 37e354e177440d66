"""Rounds become one row, rows become tables, bars and JSON."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.receiver.chart import bars, draw, has_bars
from bench.receiver.machine import Machine, this_machine
from bench.receiver.peers import AWS_SAMPLE, DCMTK, OURS, OURS_FLUSHED
from bench.receiver.plan import Plan, in_turns
from bench.receiver.report import (
    as_json,
    findings_table,
    footer,
    goals_footer,
    goals_table,
    set_table,
)
from bench.receiver.rows import Finding, Key, Measured, Row, Sink, combine, finding
from bench.receiver.sets import MIXED

KEY = Key("mixed", Sink.DIRECTORY, OURS.name, 1)
MACHINE = Machine("2026-12-02", 2, "Some Processor", 24, "Linux", {"DCMTK": "3.6.7"})
BELOW = footer(MACHINE, Plan())


def run(cpu_seconds: float, peak: int = 1, identical: int = 10, seconds: float = 2.0) -> Row:
    return Row(KEY, (Measured(10, seconds, cpu_seconds, peak, identical, 5_000_000),))


def text(table: object) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rounds_give_medians_the_least_the_highest_peak_and_the_worst_check() -> None:
    runs = [run(0.3, 5, seconds=1.0), run(0.1, 9, identical=8), run(0.2, 7, seconds=3.0)]
    combined = combine(runs)
    assert combined.measured == Measured(10, 2.0, 0.2, 9, 8, 5_000_000)
    assert combined.least == runs[1].runs[0]
    assert len(combined.runs) == 3


def test_one_failed_round_fails_the_row() -> None:
    failed = Row(KEY, problem="closed the association")
    assert combine([run(0.1), failed]) == failed


def test_a_finding_of_several_rounds_is_their_median_and_their_least() -> None:
    found = finding("together", [3.0, 1.0, 2.0], "images/s", possible=4.0)
    assert (found.value, found.least, found.possible) == (2.0, 1.0, 4.0)


def test_cost_and_speed_are_for_one_image() -> None:
    measured = run(0.5).measured
    assert measured is not None
    assert (measured.cpu_ms, measured.rate) == (50, 5)
    assert measured.cpu_seconds_per_gb == pytest.approx(100)


def test_every_round_has_everybody_and_every_other_one_is_backwards() -> None:
    turns = [each for _, each in in_turns(["a", "b", "c"], 3)]
    assert turns == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    assert all(each == "abc"[index] for index, each in in_turns(["a", "b", "c"], 2))


def test_a_table_has_the_cheapest_first_and_says_why_a_peer_is_missing() -> None:
    missing = Row(Key("mixed", Sink.DIRECTORY, "Orthanc", 1), problem="not installed")
    cheap = Row(Key("mixed", Sink.DIRECTORY, "cheap", 1), run(0.1, identical=7).runs)
    ours = combine([run(0.5), run(0.4), run(0.6)])
    shown = text(set_table("mixed", Sink.DIRECTORY, [missing, ours, cheap], BELOW))
    assert shown.index("cheap") < shown.index(OURS.name) < shown.index("Orthanc: not installed")
    assert "50.000" in shown
    assert "40.000" in shown
    assert "7 only" in shown


def test_a_finding_is_shown_beside_what_was_possible() -> None:
    shown = text(findings_table([Finding("together", 1200.0, "images/s", "", 1600.0)], BELOW))
    assert "75%" in shown


def test_every_table_says_how_often_when_and_on_what_it_was_measured() -> None:
    tables = [
        set_table("mixed", Sink.DIRECTORY, [run(0.1)], BELOW),
        findings_table([Finding("together", 1.0, "images/s")], BELOW),
        goals_table([], BELOW),
    ]
    for table in tables:
        shown = " ".join(text(table).split())
        for told in (
            "median of 3 rounds",
            "2026-12-02",
            "2 x Some Processor, 24 GB",
            "DCMTK 3.6.7",
        ):
            assert told in shown


def test_a_footer_says_when_goals_need_more_rounds_or_images() -> None:
    assert "by 5 rounds" in goals_footer(Plan(), "below")
    assert goals_footer(Plan(wanted_rounds=5), "below") == "below"
    quick = footer(MACHINE, Plan(quick=True))
    assert quick.startswith("1 round")
    assert "fewer images than in a full run" in quick


def test_versions_are_those_of_who_took_part() -> None:
    alone = this_machine({OURS.name}).versions
    assert alone.keys() == {"this receiver", "Python", "uvloop"}
    beside = this_machine({OURS.name, AWS_SAMPLE.name}).versions
    assert {"boto3", "pynetdicom", "pydicom"} <= beside.keys()
    assert "DCMTK" in this_machine({DCMTK.name}).versions
    assert all(beside[name][0].isdigit() for name in beside.keys() - {"this receiver"})


def test_the_chart_shows_mixed_headers_the_most_expensive_first() -> None:
    rows = [
        run(0.1),
        Row(Key("mixed", Sink.S3_TLS, DCMTK.name, 1), run(0.2).runs),
        Row(Key("small", Sink.DIRECTORY, DCMTK.name, 1), run(0.3).runs),
        Row(Key("mixed", Sink.DIRECTORY, DCMTK.name, 16), run(0.4).runs),
        Row(Key("mixed", Sink.DIRECTORY, "Orthanc", 1), problem="not installed"),
    ]
    assert bars(rows, 1) == [(f"{DCMTK.name} → S3 TLS", 20.0), (OURS.name, 10.0)]
    assert has_bars(rows)
    assert not has_bars(rows[-1:])


def test_the_chart_says_when_and_on_what_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    draw([run(0.1)], BELOW, path)
    assert "2026-12-02; 2 x Some Processor" in " ".join(path.read_text().split())


def test_results_are_json_with_problems_numbers_and_machine() -> None:
    rows = [combine([run(0.5), run(0.3), run(0.4)]), Row(KEY, problem="not installed")]
    told = json.loads(json.dumps(as_json(MACHINE, Plan(quick=True), rows)))
    assert told["rows"][0]["cpu_ms_per_image"] == pytest.approx(40)
    assert told["rows"][0]["least_cpu_ms_per_image"] == pytest.approx(30)
    assert len(told["rows"][0]["rounds"]) == 3
    assert told["rows"][1]["problem"] == "not installed"
    assert told["quick"] is True
    assert told["machine"]["date"] == "2026-12-02"
    assert told["machine"]["versions"] == {"DCMTK": "3.6.7"}


def test_a_quick_run_has_the_same_rows() -> None:
    def keys(plan: Plan) -> list[tuple[str, str, str, int]]:
        return [
            (each.image_set.name, each.sink, each.peer.name, each.associations)
            for each in plan.trials()
        ]

    assert keys(Plan(quick=True)) == keys(Plan())
    assert len(set(keys(Plan()))) == len(keys(Plan()))


def test_rounds_are_three_or_one_unless_told() -> None:
    assert (Plan().rounds, Plan(quick=True).rounds) == (3, 1)
    assert Plan(quick=True, wanted_rounds=5).rounds == 5


@pytest.mark.parametrize("rounds", [None, 1, 5, 7])
def test_rows_of_latency_send_10_000_images_in_all(rounds: int | None) -> None:
    plan = Plan(wanted_rounds=rounds)
    assert plan.latency_images * plan.rounds >= 10_000


def test_one_table_can_be_had_alone() -> None:
    plan = Plan(tables=frozenset({"small"}))
    assert {trial.image_set.name for trial in plan.trials()} == {"small"}
    assert not plan.waiting


def test_a_comparison_is_of_each_set_to_a_directory_and_to_s3() -> None:
    trials = list(Plan().comparison((OURS, OURS_FLUSHED)))
    kinds = {(each.image_set.name, each.sink, each.associations) for each in trials}
    assert len(kinds) * 2 == len(trials)
    assert kinds == {
        (name, sink, associations)
        for name in ("mixed", "small-mixed", "ct", "small")
        for sink in (Sink.DIRECTORY, Sink.S3_HTTP)
        for associations in (1, 16)
    }


def test_no_peer_is_asked_for_more_associations_than_it_serves() -> None:
    for trial in Plan().trials():
        assert 1 <= trial.associations <= trial.peer.max_associations
        assert trial.associations <= trial.images
    assert any(trial.images == MIXED.count for trial in Plan().trials())
