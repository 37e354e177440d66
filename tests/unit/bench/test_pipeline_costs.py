"""What is billed, and the page that tells it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chalicelib.stores.schema import Index, Schema
from structlog.testing import capture_logs

from bench.pipeline.__main__ import SEED
from bench.pipeline.assumptions import Timing
from bench.pipeline.clock import VirtualClock
from bench.pipeline.costs import Purpose, dollars, storage
from bench.pipeline.costs_page import filled, fixed_tables
from bench.pipeline.hospital import SMALL
from bench.pipeline.meter import Lambdas, Meter, write_units
from bench.pipeline.prices import PRICES, Unit
from bench.pipeline.scenarios import hospital_day, per_image_day
from bench.pipeline.sheets import Sheet, cost_sheet

DOCS = Path(__file__).parents[3] / "docs"
PAGE, BENCHMARKS = ((DOCS / f"{name}.md").read_text() for name in ("costs", "benchmarks"))


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    with capture_logs():
        yield


def _nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("before", "after", "units"),
    [
        (None, {"id": "1"}, 1),
        (None, {"id": "1", "p": "a", "s": "b"}, 2),
        ({"id": "1", "p": "a", "s": "b"}, {"id": "1", "p": "a", "s": "b", "x": "y"}, 1),
        ({"id": "1", "p": "a", "s": "b"}, {"id": "1", "p": "a", "s": "b", "shown": "y"}, 2),
        ({"id": "1", "p": "a", "s": "b"}, {"id": "1", "p": "c", "s": "b"}, 3),
        ({"id": "1", "p": "a", "s": "b"}, {"id": "1"}, 2),
        (None, {"id": "1", "p": "a", "s": "b", "x": "y" * 1_500}, 3),
        (None, {"id": "1", "p": "a", "s": "b", "shown": "y" * 1_500}, 4),
    ],
)
def test_a_write_costs_its_size_in_the_table_and_in_each_index_it_touches(
    before: dict[str, Any] | None, after: dict[str, Any], units: int
) -> None:
    table = Schema("job_table", ("id",), (Index("byP", "p", "s", ("shown",)),))
    assert write_units(before, after, table) == units


def test_a_function_is_billed_for_its_memory_and_is_warm_the_second_time() -> None:
    clock, meter, timing = VirtualClock(), Meter(), Timing()
    lambdas = Lambdas(clock, timing, meter)
    for moment in (0.0, 60.0, 60.0 + 2 * timing.lambda_idle):
        clock.at(moment, lambda: lambdas.invoke("check_status", 3.0, _nothing, _nothing))
    clock.run()
    assert (meter.invocations["check_status"], meter.cold_starts) == (3, 2)
    seconds = 3 * 3.0 + 2 * timing.lambda_cold
    assert meter.gb_seconds["check_status"] == pytest.approx(seconds * 0.5)


def test_dollars_are_units_times_prices() -> None:
    assert dollars({Unit.TRANSITION: 4_000, Unit.S3_GET: 10_000}) == pytest.approx(0.104)
    assert set(PRICES) == set(Unit)


def test_the_pages_fixed_tables_are_the_codes() -> None:
    for name, sheet in fixed_tables().items():
        assert f"<!-- table: {name} -->\n{sheet.as_markdown()}<!-- end -->" in PAGE


def test_a_table_is_written_between_its_marks_and_nothing_else_changes() -> None:
    begin, end = "# A\n<!-- table: x -->\n", "<!-- end -->\nprose\n"
    sheet = Sheet("", ("a", "b"), (("1", "2"),))
    again = filled(f"{begin}old\n{end}", {"x": sheet})
    assert again == f"{begin}| a | b |\n| --- | --- |\n| 1 | 2 |\n{end}"
    assert filled(again, {"x": sheet}) == again


@pytest.mark.exhaustive  # two whole days
def test_the_pages_small_hospital_is_what_the_code_simulates() -> None:
    ours = hospital_day(SMALL, SEED)
    other = per_image_day(ours, SEED)
    for row in cost_sheet([(ours, other)]).rows:
        assert f"| {' | '.join(row)} |\n" in PAGE
    theirs, own = (dollars(bill[Purpose.WORKFLOW]) for bill in (other.bill, ours.bill))
    (told,) = re.findall(r"workflow cost over ours.*\| (\d+), \d+, \d+ times", BENCHMARKS)
    assert f"{theirs / own:.0f}" == told
    assert storage(ours.day) > 0
