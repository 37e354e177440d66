"""``python -m bench.receiver``: measure, print the tables, say which goals are reached."""

import json
import signal
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console

from bench.receiver import chart, findings, goals, report
from bench.receiver.plan import TABLES, Plan, Trial
from bench.receiver.rows import Finding, Row, combine
from bench.receiver.runs import measure
from bench.receiver.sets import CT
from bench.receiver.stage import SHARED_MEMORY, memory_folder

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 120  # a log has no width, and rich would wrap the tables at 80


@click.command()
@click.option("--quick", is_flag=True, help="The same rows with fewer images, each once.")
@click.option("--only", multiple=True, type=click.Choice(TABLES), help="Of all tables only these.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results.")
@click.option("--chart", "chart_path", type=click.Path(path_type=Path), help="Draw the picture.")
def main(
    *, quick: bool, only: tuple[str, ...], json_path: Path | None, chart_path: Path | None
) -> None:
    """This receiver beside its peers, under one load, in one run."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything, as Ctrl-C does
    if memory_folder() != SHARED_MEMORY:
        console.print("No file system in memory with room: the disk takes part in every number.")
    plan = Plan(quick, frozenset(only or TABLES))
    try:
        rows = _measure_rows(plan)
        found = list(_tell(_find(plan)))
    except KeyboardInterrupt:
        raise click.Abort from None
    verdicts = goals.evaluate(rows, found)
    _print(rows, found, verdicts)
    if json_path:
        results = report.as_json(rows, found, verdicts, quick=quick)
        json_path.write_text(json.dumps(results, indent=2) + "\n")
    if chart_path:
        chart.draw(rows, chart_path)


def _measure_rows(plan: Plan) -> list[Row]:
    """Each row, its repeats between those of the others, so that no moment favours a peer."""
    rows = []
    trials = plan.trials()
    for _, group in groupby(trials, lambda each: (each.image_set, each.sink, each.associations)):
        rows += _measure_side_by_side(list(group))
    return rows


def _measure_side_by_side(trials: list[Trial]) -> list[Row]:
    runs: list[list[Row]] = [[] for _ in trials]
    for turn in range(max(each.repeats for each in trials)):
        for trial, row in zip(trials, runs, strict=True):
            if turn < trial.repeats:
                row.append(_measure(trial))
    return [combine(each) for each in runs]


def _measure(trial: Trial) -> Row:
    row = measure(trial.image_set, trial.sink, trial.peer, trial.associations, trial.images)
    told = f"{row.measured.cpu_ms:.3f} ms/image" if row.measured else row.problem
    where = f"{trial.image_set.name} to {trial.sink}, {trial.associations} association(s)"
    console.print(f"  {where}, {trial.peer.name}: {told}", soft_wrap=True)
    return row


def _find(plan: Plan) -> Iterator[Finding]:
    if not plan.waiting:
        return
    yield from findings.idle(plan.idle_seconds)
    yield from findings.slow_s3(plan.scale)
    yield from findings.slow_sender(int(CT.count * plan.scale), plan.repeats)


def _tell(found: Iterator[Finding]) -> Iterator[Finding]:
    for each in found:
        value = each.note if each.value is None else f"{each.value:.4g} {each.unit}"
        console.print(f"  {each.name}: {value}", soft_wrap=True)
        yield each


def _print(rows: list[Row], found: list[Finding], verdicts: list[goals.Verdict]) -> None:
    for (image_set, sink), group in groupby(rows, lambda row: (row.key.image_set, row.key.sink)):
        console.print(report.set_table(image_set, sink, group))
    if found:
        console.print(report.findings_table(found))
    console.print(report.goals_table(verdicts))


if __name__ == "__main__":
    main()
