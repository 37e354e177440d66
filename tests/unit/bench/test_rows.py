"""Repeats become one row, rows become tables, bars and JSON."""

import io
import json

import pytest
from rich.console import Console

from bench.receiver.chart import bars
from bench.receiver.peers import DCMTK, OURS
from bench.receiver.plan import Plan
from bench.receiver.report import as_json, findings_table, set_table
from bench.receiver.rows import Finding, Key, Measured, Row, Sink, combine
from bench.receiver.sets import CT

KEY = Key("ct", Sink.DIRECTORY, OURS.name, 1)


def run(cpu_seconds: float, peak: int = 1, identical: int = 10, seconds: float = 2.0) -> Row:
    return Row(KEY, Measured(10, seconds, cpu_seconds, peak, identical, 5_000_000))


def text(table: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_repeats_give_medians_the_highest_peak_and_the_worst_check() -> None:
    runs = [run(0.3, 5, seconds=1.0), run(0.1, 9, identical=8), run(0.2, 7, seconds=3.0)]
    combined = combine(runs)
    assert combined.measured == Measured(10, 2.0, 0.2, 9, 8, 5_000_000)


def test_one_failed_repeat_fails_the_row() -> None:
    failed = Row(KEY, problem="closed the association")
    assert combine([run(0.1), failed]) == failed


def test_cost_and_speed_are_for_one_image() -> None:
    measured = run(0.5).measured
    assert measured is not None
    assert (measured.cpu_ms, measured.rate) == (50, 5)
    assert measured.cpu_seconds_per_gb == pytest.approx(100)


def test_a_table_has_the_cheapest_first_and_says_why_a_peer_is_missing() -> None:
    missing = Row(Key("ct", Sink.DIRECTORY, "Orthanc", 1), problem="not installed")
    cheap = Row(Key("ct", Sink.DIRECTORY, "cheap", 1), run(0.1, identical=7).measured)
    shown = text(set_table("ct", Sink.DIRECTORY, [missing, run(0.5), cheap]))
    assert shown.index("cheap") < shown.index(OURS.name) < shown.index("Orthanc: not installed")
    assert "50.000" in shown
    assert "7 only" in shown


def test_a_finding_is_shown_beside_what_was_possible() -> None:
    shown = text(findings_table([Finding("together", 1200.0, "images/s", "", 1600.0)]))
    assert "75%" in shown


def test_the_chart_shows_ct_slices_the_most_expensive_first() -> None:
    rows = [
        run(0.1),
        Row(Key("ct", Sink.S3_TLS, DCMTK.name, 1), run(0.2).measured),
        Row(Key("small", Sink.DIRECTORY, DCMTK.name, 1), run(0.3).measured),
        Row(Key("ct", Sink.DIRECTORY, DCMTK.name, 16), run(0.4).measured),
        Row(Key("ct", Sink.DIRECTORY, "Orthanc", 1), problem="not installed"),
    ]
    assert bars(rows, 1) == [(f"{DCMTK.name} → S3 TLS", 20.0), (OURS.name, 10.0)]


def test_results_are_json_with_problems_and_numbers() -> None:
    rows = [run(0.5), Row(KEY, problem="not installed")]
    told = json.loads(json.dumps(as_json(rows, [], [], quick=True)))
    assert told["rows"][0]["cpu_ms_per_image"] == 50
    assert told["rows"][1]["problem"] == "not installed"
    assert told["quick"] is True


def test_a_quick_run_has_the_same_rows() -> None:
    def keys(plan: Plan) -> list[tuple[str, str, str, int]]:
        return [
            (each.image_set.name, each.sink, each.peer.name, each.associations)
            for each in plan.trials()
        ]

    assert keys(Plan(quick=True)) == keys(Plan())
    assert len(set(keys(Plan()))) == len(keys(Plan()))


def test_one_table_can_be_had_alone() -> None:
    plan = Plan(tables=frozenset({"small"}))
    assert {trial.image_set.name for trial in plan.trials()} == {"small"}
    assert not plan.waiting


def test_no_peer_is_asked_for_more_associations_than_it_serves() -> None:
    for trial in Plan().trials():
        assert 1 <= trial.associations <= trial.peer.max_associations
        assert trial.associations <= trial.images
    assert any(trial.images == CT.count for trial in Plan().trials())
