"""Every test, in the parts that may run at once: ``python -m tests.suite``; ``make test`` runs it.

What computes runs on every CPU. What waits for deadlines and for other processes runs six files at
once. What compares times or measures a process has the machine for itself. The end names the ten
slowest tests, each test that was skipped and why, and the time that it all took.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET  # the files are pytest's own
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_RESULTS = ROOT / "build" / "tests"
_SLOWEST = 10
# pytest's compiled tests are kept: without that each of its processes compiles all of them again.
_ENVIRONMENT = {n: value for n, value in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the tests, and how many files of them run at once."""

    name: str
    folders: Sequence[str]
    workers: str
    marks: str = "not alone"

    def command(self, *, everything: bool, coverage: bool) -> list[str]:
        """pytest's command line; ``everything``: what is exhaustive, too."""
        words = [sys.executable, "-m", "pytest"]
        marks = [self.marks, "not image", *([] if everything else ["not exhaustive"])]
        words += ["-m", " and ".join(marks), f"--junitxml={_RESULTS / self.name}.xml"]
        if self.workers != "0":
            words += [f"--numprocesses={self.workers}", "--dist=loadfile", "--no-loadscope-reorder"]
        if coverage:
            words += ["--cov", "--cov-append", "--cov-report="]
        return [*words, *self.folders]


# Folders whose files take longest come first, so that no worker is left alone with one at the end.
COMPUTING = (
    "tests/pipeline/infra", "tests/model", "tests/pipeline/chalicelib",
    "tests/pipeline/healthimaging", "tests/infra", "tests/unit",
)  # fmt: skip
WAITING = ("tests/pipeline/local", "tests/protocol", "tests/interop")
PARTS = (
    Part("computing", COMPUTING, "auto"),
    Part("waiting", WAITING, "6"),
    Part("alone", ("tests/protocol",), "0", "alone"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: its seconds with setup and teardown, and how it ended."""

    name: str
    seconds: float
    state: str
    why: str = ""


def outcomes(report: str) -> Iterator[Outcome]:
    """What a JUnit file of pytest's says of each test."""
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - the file is pytest's own
        state, why = "passed", ""
        for child in case:
            if child.tag in {"failure", "error"}:
                state = "failed"
            elif child.tag == "skipped":
                state, why = "skipped", child.get("message", "")
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        yield Outcome(name, float(case.get("time", 0)), state, why)


def summary(found: Sequence[Outcome], seconds: float, ended: Mapping[str, int]) -> str:
    """The ten slowest, what was skipped and why, parts that went wrong, and the counts."""
    slowest = sorted(found, key=lambda each: -each.seconds)[:_SLOWEST]
    lines = ["", "The ten slowest tests:"]
    lines += [f"{each.seconds:7.1f} s  {each.name}" for each in slowest]
    for each in found:
        if each.state == "skipped":
            lines.append(f"Skipped: {each.name}: {each.why}")
    for name, status in ended.items():
        if status:
            lines.append(f"The part {name!r} ended with pytest's exit code {status}.")
    count = Counter(each.state for each in found)
    minutes, rest = divmod(round(seconds), 60)
    lines.append(f"It took {minutes} min {rest} s.")
    lines.append(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return "\n".join(lines)


def run(command: Sequence[str]) -> int:
    """pytest's exit code. Ctrl-C reaches pytest, too, which first stops what it has started."""
    with subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, also after one that failed; the exit status is 1 if any did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--everything", action="store_true", help="what is exhaustive, too")
    parser.add_argument("--coverage", action="store_true", help="measure branches")
    chosen = parser.parse_args(arguments)
    _RESULTS.mkdir(parents=True, exist_ok=True)
    if chosen.coverage:
        subprocess.run([sys.executable, "-m", "coverage", "erase"], cwd=ROOT, check=True)
    began = time.monotonic()
    found: list[Outcome] = []
    ended: dict[str, int] = {}
    for part in PARTS:
        report = _RESULTS / f"{part.name}.xml"
        report.unlink(missing_ok=True)
        print(f"== {part.name}", flush=True)
        ended[part.name] = run(part.command(everything=chosen.everything, coverage=chosen.coverage))
        if report.exists():
            found += outcomes(report.read_text())
        if ended[part.name] == pytest.ExitCode.INTERRUPTED:
            break
    if not chosen.everything:
        print("\nLeft to make test-all: the exhaustive tests, and those of the container image.")
    print(summary(found, time.monotonic() - began, ended), flush=True)
    return int(any(ended.values()))


if __name__ == "__main__":
    sys.exit(main())
