"""``python -m bench.receiver``: measure, print the tables, say which goals are reached."""

import json
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.receiver import chart, findings, goals, report
from bench.receiver.errors import BenchError
from bench.receiver.flood import Flood, flood_table, floods
from bench.receiver.machine import this_machine
from bench.receiver.plan import TABLES, Plan, Trial, in_turns
from bench.receiver.rows import Finding, Row, combine
from bench.receiver.runs import measure
from bench.receiver.stage import SHARED_MEMORY, memory_folder
from bench.receiver.versus import revisions, versus_tables

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 140  # a log has no width, and rich would wrap the tables at 80

_Results = dict[str, Any]


@click.command()
@click.option("--quick", is_flag=True, help="The same rows with fewer images, in one round.")
@click.option("--rounds", type=click.IntRange(1, 99), help="Rounds; 3 by default, --quick 1.")
@click.option("--only", multiple=True, type=click.Choice(TABLES), help="Of all tables only these.")
@click.option("--vs", "commit", metavar="REV", help="Only compare this checkout with a commit.")
@click.option("--flood", is_flag=True, help="Only measure a good peer beside hostile ones.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results.")
@click.option("--chart", "chart_path", type=click.Path(path_type=Path), help="Draw the picture.")
def main(
    *,
    quick: bool,
    rounds: int | None,
    only: tuple[str, ...],
    commit: str | None,
    flood: bool,
    json_path: Path | None,
    chart_path: Path | None,
) -> None:
    """This receiver beside its peers, under one load, in one run."""
    if flood and (commit or only or rounds):
        raise click.UsageError("--flood goes with --quick and --json only")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything, as Ctrl-C does
    if memory_folder() != SHARED_MEMORY:
        console.print("No file system in memory with room: the disk takes part in every number.")
    plan = Plan(quick, frozenset(only or TABLES), rounds)
    try:
        if flood:
            results = _flood(plan)
        elif commit:
            results = _compare(plan, commit)
        else:
            results = _all_tables(plan, chart_path)
    except KeyboardInterrupt:
        raise click.Abort from None
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    if json_path:
        json_path.write_text(json.dumps(results, indent=2) + "\n")


def _all_tables(plan: Plan, chart_path: Path | None) -> _Results:
    trials = list(plan.trials())
    _announce(plan, trials)
    rows = _measure_rows(trials, plan.rounds)
    found = list(_tell(findings.found(plan))) if plan.waiting else []
    machine = this_machine({row.key.peer for row in rows if row.measured})
    below = report.footer(machine, plan)
    verdicts = goals.evaluate(rows, found)
    _print(report.set_tables(rows, below))
    if found:
        _print([report.findings_table(found, below)])
    _print([report.goals_table(verdicts, report.goals_footer(plan, below))])
    if chart_path and chart.has_bars(rows):
        chart.draw(rows, below, chart_path)
    return report.as_json(machine, plan, rows, found, verdicts)


def _compare(plan: Plan, commit: str) -> _Results:
    with revisions(commit) as peers:
        trials = list(plan.comparison(peers))
        _announce(plan, trials)
        rows = _measure_rows(trials, plan.rounds)
    machine = this_machine({peer.name for peer in peers})
    _print(versus_tables(rows, peers, report.footer(machine, plan)))
    return report.as_json(machine, plan, rows)


def _flood(plan: Plan) -> _Results:
    found: list[Flood] = []
    for each in floods(quick=plan.quick):
        console.print(f"  {each.receiver} beside {each.beside}: {each.problem or 'done'}")
        found.append(each)
    machine = this_machine(())
    _print([flood_table(found, f"{machine.footer}.")])
    return report.as_json(machine, plan) | {"floods": [asdict(each) for each in found]}


def _announce(plan: Plan, trials: Sequence[Trial]) -> None:
    """What is going to be measured, a line a table."""
    many = "s" if plan.rounds > 1 else ""
    console.print(f"{plan.rounds} round{many} of:")
    for (image_set, sink), group in groupby(trials, lambda each: (each.image_set, each.sink)):
        rows = list(group)
        peers = ", ".join(dict.fromkeys(each.peer.name for each in rows))
        counts = " / ".join(str(each) for each in dict.fromkeys(row.associations for row in rows))
        most = max(each.images for each in rows)
        console.print(
            f"  {image_set.name} to {sink}: {most} images over {counts} associations; {peers}",
            soft_wrap=True,
        )
    if plan.waiting and trials:
        console.print(f"  waiting: {plan.latency_images} images a row, and idle associations")


def _measure_rows(trials: Iterable[Trial], rounds: int) -> list[Row]:
    """Each row, its rounds in turns with those of its table."""
    rows: list[Row] = []
    for _, group in groupby(trials, lambda each: (each.image_set, each.sink)):
        table = list(group)
        runs: list[list[Row]] = [[] for _ in table]
        for index, trial in in_turns(table, rounds):
            runs[index].append(_measure(trial))
        rows += [combine(each) for each in runs]
    return rows


def _measure(trial: Trial) -> Row:
    row = measure(trial.image_set, trial.sink, trial.peer, trial.associations, trial.images)
    told = f"{row.measured.cpu_ms:.3f} ms/image" if row.measured else row.problem
    where = f"{trial.image_set.name} to {trial.sink}, {trial.associations} association(s)"
    console.print(f"  {where}, {trial.peer.name}: {told}", soft_wrap=True)
    return row


def _tell(found: Iterator[Finding]) -> Iterator[Finding]:
    for each in found:
        value = each.note if each.value is None else f"{each.value:.4g} {each.unit}"
        console.print(f"  {each.name}: {value}", soft_wrap=True)
        yield each


def _print(tables: Iterable[Table]) -> None:
    for each in tables:
        console.print(each)


if __name__ == "__main__":
    main()
