"""CPU and memory of a process with everything it started."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import psutil  # type: ignore[import-untyped]

_Number = TypeVar("_Number", int, float)

_SAMPLE_SECONDS = 0.1
_HAS_CPU_CLOCKS = sys.platform == "linux"
# Proportional set size counts a page that forked processes share once, where RSS counts it for
# each of them.
_HAS_PSS = Path("/proc/self/smaps_rollup").exists()
MEMORY_KIND = "PSS" if _HAS_PSS else "RSS"


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and all its descendants, the ended ones included."""
    return sum(_each(pid, _cpu))


def memory_bytes(pid: int) -> int:
    """Memory of the process and all its descendants, now."""
    return sum(_each(pid, _memory))


class PeakMemory:
    """The most memory a process tree had, sampled from a thread."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            ended = self._stop.wait(_SAMPLE_SECONDS)
            self.peak = max(self.peak, memory_bytes(self._pid))
            if ended:
                return


def _each(pid: int, quantity: Callable[[psutil.Process], _Number]) -> Iterator[_Number]:
    for process in _tree(pid):
        try:
            yield quantity(process)
        except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            continue  # it ended; its parent's children times have it now


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    own = _cpu_clock(process.pid) if _HAS_CPU_CLOCKS else times.user + times.system
    return float(own + times.children_user + times.children_system)


def _cpu_clock(pid: int) -> float:
    """The process's CPU-time clock: nanoseconds, where /proc's ticks are 10 ms.

    Its id is what clock_getcpuclockid(3) computes, which Python has no call for.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        raise ProcessLookupError from None


def _memory(process: psutil.Process) -> int:
    if not _HAS_PSS:
        return int(process.memory_info().rss)
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    line = next((each for each in rollup.splitlines() if each.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024
