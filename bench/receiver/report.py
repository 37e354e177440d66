"""The tables a run ends with, and the same as JSON; each says where and when it was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

from bench.receiver.goals import ROUNDS_TO_JUDGE, Result, Verdict
from bench.receiver.machine import Machine
from bench.receiver.measure import MEMORY_KIND
from bench.receiver.plan import Plan
from bench.receiver.rows import Finding, Measured, Row, Sink
from bench.receiver.sets import LARGE, SETS

_STYLES = {Result.REACHED: "green", Result.MISSED: "red", Result.NOT_MEASURED: "yellow"}


def footer(machine: Machine, plan: Plan) -> str:
    """What stands below each table."""
    rounds = "1 round" if plan.rounds == 1 else f"median of {plan.rounds} rounds"
    quick = ", fewer images than in a full run" if plan.quick else ""
    return f"{rounds}{quick}. {machine.footer}."


def goals_footer(plan: Plan, below: str) -> str:
    """The same below the goals, which fewer rounds judge less well."""
    if plan.rounds >= ROUNDS_TO_JUDGE:
        return below
    return f"To be judged by {ROUNDS_TO_JUDGE} rounds (--rounds {ROUNDS_TO_JUDGE}). {below}"


def set_tables(rows: Iterable[Row], below: str) -> Iterable[Table]:
    """A table for each set and sink, in their order."""
    for (image_set, sink), group in groupby(rows, lambda row: (row.key.image_set, row.key.sink)):
        yield set_table(image_set, sink, group, below)


def set_table(image_set: str, sink: Sink, rows: Iterable[Row], below: str) -> Table:
    """All peers on one set and sink, the cheapest first within a number of associations."""
    by_object = image_set == LARGE.name
    table = new_table(f"{SETS[image_set].title} to {sink}", below)
    table.add_column("associations", justify="right")
    table.add_column("receiver", no_wrap=True)
    columns = ("images", "images/s", "CPU s/GB" if by_object else "CPU ms/image", "minimum",
               f"peak MB ({MEMORY_KIND})", "stored as sent")  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for row in sorted(rows, key=_order):
        cells = _cells(row, by_object=by_object) or ["-"] * len(columns)
        problem = f": {row.problem}" if row.problem else ""
        table.add_row(str(row.key.associations), row.key.peer + problem, *cells)
    return table


def findings_table(findings: Iterable[Finding], below: str) -> Table:
    """Everything that is one number."""
    table = new_table("Waiting, and others that wait", below)
    table.add_column("what")
    for name in ("measured", "minimum", "possible", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for each in findings:
        value = "-" if each.value is None else f"{each.value:.4g} {each.unit}"
        least = "" if each.least is None else f"{each.least:.4g}"
        possible = "" if each.possible is None else f"{each.possible:.4g}"
        share = f"{each.value / each.possible:.0%}" if each.value and each.possible else ""
        table.add_row(each.name, value, least, possible, share, each.note)
    return table


def goals_table(verdicts: Iterable[Verdict], below: str | None = None) -> Table:
    """Every goal and how it came out."""
    table = new_table("What was to be reached", below)
    table.add_column("goal")
    for name in ("limit", "measured", "result"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in verdicts:
        style = _STYLES[each.result]
        table.add_row(each.goal, each.limit, each.measured, f"[{style}]{each.result}[/]")
    return table


def new_table(title: str, below: str | None) -> Table:
    """A table with what explains its numbers below it."""
    return Table(
        title=f"\n{title}",
        title_justify="left",
        caption=below,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )


def as_json(
    machine: Machine,
    plan: Plan,
    rows: Sequence[Row] = (),
    findings: Sequence[Finding] = (),
    verdicts: Sequence[Verdict] = (),
) -> dict[str, Any]:
    """The whole run, with what of the machine explains its numbers."""
    return {
        "machine": asdict(machine),
        "quick": plan.quick,
        "rounds": plan.rounds,
        "rows": [_row_as_json(row) for row in rows],
        "findings": [asdict(each) for each in findings],
        "goals": [asdict(each) for each in verdicts],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    measured, least = row.measured, row.least
    if measured is None or least is None:
        return asdict(row.key) | {"problem": row.problem}
    derived = {
        "cpu_ms_per_image": round(measured.cpu_ms, 4),
        "least_cpu_ms_per_image": round(least.cpu_ms, 4),
        "images_per_second": round(measured.rate, 1),
        "rounds": [asdict(run) for run in row.runs],
    }
    return asdict(row.key) | asdict(measured) | derived


def _cells(row: Row, *, by_object: bool) -> list[str]:
    measured, least = row.measured, row.least
    if measured is None or least is None:
        return []
    kept = "all" if measured.identical == measured.images else f"{measured.identical} only"
    costs = [_cost(each, by_object=by_object) for each in (measured, least)]
    return [str(measured.images), f"{measured.rate:.4g}", *costs, f"{measured.peak_mb:.0f}", kept]


def _cost(measured: Measured, *, by_object: bool) -> str:
    return f"{measured.cpu_seconds_per_gb:.2f}" if by_object else f"{measured.cpu_ms:.3f}"


def _order(row: Row) -> tuple[int, float]:
    cost = row.measured.cpu_seconds_per_gb if row.measured else float("inf")
    return row.key.associations, cost
