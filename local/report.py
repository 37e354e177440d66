"""What the commands print: the tables the demo ends with, and what was not stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from contract.records import InstanceState
from contract.times import from_iso
from local.files import LeftOut, Skipped
from local.follow import Json
from local.scu import Sent

if TYPE_CHECKING:
    from local.sending import Tally

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


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """A line that each call replaces; what is printed next begins a line of its own."""
    try:
        with Live(console=console, refresh_per_second=4) as line:
            yield line.update
    finally:
        if not console.is_terminal:
            console.print()  # Live ends its last line only there


def print_line(text: str) -> None:
    """One line as it stands: a file's name may look like rich's markup, or be none of UTF-8."""
    console.print(printable(text), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """``text`` with what a terminal would obey, or could not encode, escaped as Python does."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def print_failures(instances: Iterable[Json]) -> None:
    """A line for each instance that was acknowledged and could not be imported."""
    for instance in instances:
        if instance["state"] != InstanceState.IMPORTED:
            reason = instance.get("reason", "no reason given")
            print_line(f"{instance['state']}: {instance['sopInstanceUID']}: {reason}")


def print_unsent(found: Skipped | LeftOut) -> None:
    """A line for a file that was not sent."""
    said = "SKIPPED" if isinstance(found, Skipped) else "LEFT OUT"
    print_line(f"{said}: {found.path}: {found.reason}")


def print_refusal(sent: Sent) -> None:
    """A line for an instance that was not acknowledged."""
    print_line(f"NOT STORED: {sent.sample.path}: {sent.reason}")


def print_tally(tally: "Tally") -> None:
    """How many files came to which end, and what to do about those that were not stored."""
    print_line(
        f"{tally.acknowledged} acknowledged, {tally.refused} refused, {tally.skipped} skipped, "
        f"{tally.unsent} not sent, {tally.left_out} left out."
    )
    if tally.skipped:
        print_line("Repair what was skipped, or give access to it, and send it again.")
    if tally.refused:
        print_line("Why an instance was refused is in the Store SCP's log, by its status.")
    if tally.unsent:
        print_line("Send the same files again: what was acknowledged before is imported once.")


def _seconds(job: Json) -> str:
    if "endedAt" not in job:
        return ""
    return f"{(from_iso(job['endedAt']) - from_iso(job['submittedAt'])).total_seconds():.1f}"


def _tail(uid: str) -> str:
    return uid if len(uid) <= _UID_TAIL else f"…{uid[-_UID_TAIL:]}"
