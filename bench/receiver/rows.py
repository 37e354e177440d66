"""What was measured, as values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

_MB = 1_000_000


class Sink(StrEnum):
    """Where the images go."""

    DIRECTORY = "directory"
    S3_HTTP = "S3 http"
    S3_TLS = "S3 TLS"


@dataclass(frozen=True, slots=True)
class Key:
    """Which row of which table."""

    image_set: str
    sink: Sink
    peer: str
    associations: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, or the medians of several rounds."""

    images: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    # How many were stored exactly as they were sent.
    identical: int
    bytes: int
    window: int = 1

    @property
    def cpu_ms(self) -> float:
        """CPU for one image, user and system."""
        return self.cpu_seconds / self.images * 1000

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def peak_mb(self) -> float:
        """Peak memory of the process tree."""
        return self.peak_bytes / _MB

    @property
    def cpu_seconds_per_gb(self) -> float:
        """CPU for 10^9 bytes of data sets."""
        return self.cpu_seconds / self.bytes * 1e9


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what was measured in each round, or why it was not."""

    key: Key
    runs: tuple[Measured, ...] = ()
    problem: str = ""

    @property
    def measured(self) -> Measured | None:
        """The median of the rounds, but the worst of what may never be bad."""
        if not self.runs:
            return None
        return replace(
            self.runs[0],
            seconds=median(each.seconds for each in self.runs),
            cpu_seconds=median(each.cpu_seconds for each in self.runs),
            peak_bytes=max(each.peak_bytes for each in self.runs),
            identical=min(each.identical for each in self.runs),
        )

    @property
    def least(self) -> Measured | None:
        """The round that took the least CPU."""
        return min(self.runs, key=lambda each: each.cpu_seconds, default=None)


@dataclass(frozen=True, slots=True)
class Finding:
    """A number that is no row of a table; ``possible`` is what nothing could be better than."""

    name: str
    value: float | None
    unit: str
    note: str = ""
    possible: float | None = None
    # The smallest of the rounds, where ``value`` is their median.
    least: float | None = None


def finding(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    note: str = "",
    possible: float | None = None,
) -> Finding:
    """The median of the rounds, and the smallest."""
    return Finding(name, median(values), unit, note, possible, min(values))


def combine(rounds: Sequence[Row]) -> Row:
    """The rounds of one row as one; a round that failed fails the row."""
    failed = next((each for each in rounds if not each.runs), None)
    if failed is not None:
        return failed
    return Row(rounds[0].key, tuple(run for each in rounds for run in each.runs))
