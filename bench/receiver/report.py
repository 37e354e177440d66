"""The tables a run ends with, and the same as JSON."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from bench.receiver.goals import Result, Verdict
from bench.receiver.measure import MEMORY_KIND
from bench.receiver.rows import Finding, Measured, Row, Sink
from bench.receiver.sets import LARGE, SETS

_STYLES = {Result.REACHED: "green", Result.MISSED: "red", Result.NOT_MEASURED: "yellow"}


def set_table(image_set: str, sink: Sink, rows: Iterable[Row]) -> Table:
    """All peers on one set and sink, the cheapest first within a number of associations."""
    by_object = image_set == LARGE.name
    table = _table(f"{SETS[image_set].title} to {sink}")
    table.add_column("associations", justify="right")
    table.add_column("receiver", no_wrap=True)
    columns = ("images", "images/s", "CPU s/GB" if by_object else "CPU ms/image",
               f"peak MB ({MEMORY_KIND})", "stored as sent")  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for row in sorted(rows, key=_order):
        cells = _cells(row.measured, by_object=by_object) if row.measured else ["-"] * len(columns)
        problem = f": {row.problem}" if row.problem else ""
        table.add_row(str(row.key.associations), row.key.peer + problem, *cells)
    return table


def findings_table(findings: Iterable[Finding]) -> Table:
    """Everything that is one number."""
    table = _table("Waiting, and others that wait")
    table.add_column("what")
    for name in ("measured", "possible", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for each in findings:
        value = "-" if each.value is None else f"{each.value:.4g} {each.unit}"
        possible = "" if each.possible is None else f"{each.possible:.4g}"
        share = f"{each.value / each.possible:.0%}" if each.value and each.possible else ""
        table.add_row(each.name, value, possible, share, each.note)
    return table


def goals_table(verdicts: Iterable[Verdict]) -> Table:
    """Every goal and how it came out."""
    table = _table("What was to be reached")
    table.add_column("goal")
    for name in ("limit", "measured", "result"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in verdicts:
        style = _STYLES[each.result]
        table.add_row(each.goal, each.limit, each.measured, f"[{style}]{each.result}[/]")
    return table


def as_json(
    rows: Sequence[Row], findings: Sequence[Finding], verdicts: Sequence[Verdict], *, quick: bool
) -> dict[str, Any]:
    """The whole run, with what of the machine explains its numbers."""
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "memory": MEMORY_KIND,
        },
        "quick": quick,
        "rows": [_row_as_json(row) for row in rows],
        "findings": [asdict(each) for each in findings],
        "goals": [asdict(each) for each in verdicts],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    measured = row.measured
    if measured is None:
        return asdict(row.key) | {"problem": row.problem}
    derived = {
        "cpu_ms_per_image": round(measured.cpu_ms, 4),
        "images_per_second": round(measured.rate, 1),
    }
    return asdict(row.key) | asdict(measured) | derived


def _cells(measured: Measured, *, by_object: bool) -> list[str]:
    cpu = f"{measured.cpu_seconds_per_gb:.2f}" if by_object else f"{measured.cpu_ms:.3f}"
    kept = "all" if measured.identical == measured.images else f"{measured.identical} only"
    peak = f"{measured.peak_mb:.0f}"
    return [str(measured.images), f"{measured.rate:.4g}", cpu, peak, kept]


def _order(row: Row) -> tuple[int, float]:
    cost = row.measured.cpu_seconds_per_gb if row.measured else float("inf")
    return row.key.associations, cost


def _table(title: str) -> Table:
    return Table(
        title=f"\n{title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
