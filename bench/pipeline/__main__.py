"""``python -m bench.pipeline``: simulate, print the tables, say which goals are reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from chalicelib import logs
from chalicelib.settings import LogSettings
from rich import box
from rich.console import Console
from rich.table import Table

from bench.pipeline import chart, goals, sheets
from bench.pipeline.assumptions import ImportDuration
from bench.pipeline.costs_page import filled, tables
from bench.pipeline.hospital import HOSPITALS, SMALL, Hospital
from bench.pipeline.scenarios import DURATION, hospital_day, long_queue, migration, per_image_day
from bench.receiver.report import goals_table

SEED = 1
# A job that lasts as long as AWS's example whatever is in it; the assumption; a slow service.
_DURATIONS = (ImportDuration(95.0, 0.0), DURATION, ImportDuration(600.0, 0.0))

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 140


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is simulated; the migration's batches are made of so many studies, and repeated."""

    hospitals: Sequence[Hospital] = HOSPITALS
    images: int = 100_000_000
    studies: int = 500
    waiting: int = 6_000
    seconds: float = 1_200.0


FULL = Plan()
QUICK = Plan((SMALL,), images=4_000_000, studies=50, waiting=1_500, seconds=300.0)


@click.command()
@click.option("--quick", is_flag=True, help="A small hospital, and less of everything.")
@click.option("--chart", "chart_path", type=click.Path(path_type=Path), help="Draw the picture.")
@click.option(
    "--costs", "costs_path", type=click.Path(path_type=Path), help="Fill in docs/costs.md."
)
def main(*, quick: bool, chart_path: Path | None, costs_path: Path | None) -> None:
    """The import pipeline under HealthImaging's published limits, on a virtual clock."""
    logs.configure(LogSettings(log_level="CRITICAL"))
    plan = QUICK if quick else FULL
    _print(sheets.assumption_sheet())
    days = []
    for hospital in plan.hospitals:
        ours = hospital_day(hospital, SEED)
        days.append((ours, per_image_day(ours, SEED)))
        _print(sheets.day_sheet(*days[-1]))
    _print(sheets.service_sheet(*days[-1]))
    _print(sheets.cost_sheet(days))
    moved = migration(plan.images, plan.studies, SEED)
    _print(sheets.migration_sheet(moved))
    queues = [long_queue(plan.waiting, each, plan.seconds, SEED) for each in _DURATIONS]
    _print(sheets.queue_sheet(queues))
    console.print(goals_table(goals.evaluate(days, moved, queues)))
    if chart_path:
        chart.draw(*days[-1], chart_path)
    if costs_path and not quick:
        costs_path.write_text(filled(costs_path.read_text(), tables(days)))


def _print(sheet: sheets.Sheet) -> None:
    table = Table(
        title=f"\n{sheet.title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in sheet.head:
        table.add_column(name)
    for row in sheet.rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
