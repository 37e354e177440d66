"""On what a run was measured, and which versions took part: no number means anything without."""

import os
import platform
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.receiver.measure import MEMORY_KIND
from bench.receiver.peers import (
    AWS_SAMPLE,
    DCMTK,
    DCMTK_FORK,
    ORTHANC,
    PYNETDICOM_APP,
    REPOSITORY,
    find,
)

_SECONDS = 10.0
_UNKNOWN = "unknown"
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """What explains the numbers of a run."""

    date: str
    cpus: int
    processor: str
    memory_gb: int
    system: str
    versions: dict[str, str]
    memory: str = MEMORY_KIND

    @property
    def footer(self) -> str:
        """The same for people, in one sentence."""
        versions = ", ".join(f"{name} {each}" for name, each in self.versions.items())
        return (
            f"{self.date}; {self.cpus} x {self.processor}, {self.memory_gb} GB, {self.system}; "
            f"{versions}"
        )


def this_machine(took_part: Collection[str]) -> Machine:
    """This one, now, with the versions of ours and of the peers of these names."""
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        cpus=os.cpu_count() or 0,
        processor=_processor(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        # A kernel's version without what its builder adds to it.
        system=f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        versions={
            name: found()
            for name, (peers, found) in _VERSIONS.items()
            if peers is None or peers & set(took_part)
        },
    )


def _processor() -> str:
    """The processor's name where Linux tells it; a virtual machine may have none."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), "") or platform.processor() or _UNKNOWN


def revision(folder: Path) -> str:
    """The commit of a checkout, with ``+`` where files differ from it."""
    described = _first_line("git", "-C", str(folder), "describe", "--always", "--dirty=+")
    return described.rpartition("-g")[2]


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return _UNKNOWN


def _first_line(program: str, *arguments: str) -> str:
    """What a program prints first; never an error, for no row depends on it."""
    path = find(program)
    if path is None:
        return _UNKNOWN
    try:
        told = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    return next(iter(told.splitlines()), _UNKNOWN)


def _dcmtk() -> str:
    """Of ``$dcmtk: storescp v3.6.7 2022-04-22 $`` the version."""
    words = _first_line("storescp", "--version").split()
    return next((word[1:] for word in words if word[:1] == "v" and word[1:2].isdigit()), _UNKNOWN)


def _orthanc() -> str:
    """Of ``/usr/sbin/Orthanc 1.10.1`` the version."""
    return (_first_line("Orthanc", "--version").split() or [_UNKNOWN])[-1]


# By name: the peers that it belongs to, or None where it always takes part.
_VERSIONS: dict[str, tuple[set[str] | None, Callable[[], str]]] = {
    "this receiver": (None, partial(revision, REPOSITORY)),
    "Python": (None, platform.python_version),
    "uvloop": (None, partial(_package, "uvloop")),
    "DCMTK": ({DCMTK.name, DCMTK_FORK.name}, _dcmtk),
    "Orthanc": ({ORTHANC.name}, _orthanc),
    "pynetdicom": ({PYNETDICOM_APP.name, AWS_SAMPLE.name}, partial(_package, "pynetdicom")),
    "pydicom": ({PYNETDICOM_APP.name, AWS_SAMPLE.name}, partial(_package, "pydicom")),
    "boto3": ({AWS_SAMPLE.name}, partial(_package, "boto3")),
}
