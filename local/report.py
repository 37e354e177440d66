"""What the commands print: the tables the demo ends with, and what was not stored."""

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from contract.records import InstanceState
from contract.times import from_iso
from local.follow import Json
from local.scu import Sent

_UID_TAIL = 12
console = Console(highlight=False)


def jobs_table(jobs: Iterable[Json]) -> Table:
    """One row for each import job, the oldest first."""
    table = Table(
        title="\nImport jobs",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("study", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for name in ("instances", "imported", "failed", "warned", "sec.", "sets"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in sorted(jobs, key=lambda each: str(each["submittedAt"])):
        table.add_row(
            _tail(job.get("studyInstanceUID", "several")),
            job["jobStatus"],
            str(job["instanceCount"]),
            str(job["importedCount"]),
            str(job["failedCount"]),
            str(job["warningCount"]),
            _seconds(job),
            str(len(job.get("imageSetIds", []))),
        )
    return table


def events_line(counts: Mapping[str, int]) -> str:
    """What was told on EventBridge so far; studies are quiet only later."""
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return f"Events: {told or 'none'}."


def print_failures(console: Console, instances: Iterable[Json]) -> None:
    """A line for each instance that was acknowledged and could not be imported."""
    for instance in instances:
        if instance["state"] != InstanceState.IMPORTED:
            reason = instance.get("reason", "no reason given")
            console.print(f"{instance['state']}: {instance['sopInstanceUID']}: {reason}")


def print_refusals(console: Console, sent: Iterable[Sent]) -> int:
    """A line for each instance that was not acknowledged; returns how many there are."""
    refused = [each for each in sent if not each.acknowledged]
    for each in refused:
        console.print(f"NOT STORED: {each.sample.path.name}: {each.reason}")
    return len(refused)


def _seconds(job: Json) -> str:
    if "endedAt" not in job:
        return ""
    return f"{(from_iso(job['endedAt']) - from_iso(job['submittedAt'])).total_seconds():.1f}"


def _tail(uid: str) -> str:
    return uid if len(uid) <= _UID_TAIL else f"…{uid[-_UID_TAIL:]}"
