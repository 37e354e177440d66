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
    """One run, or the medians of several."""

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
    """One row: what was measured, or why it was not."""

    key: Key
    measured: Measured | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A number that is no row of a table; ``possible`` is what nothing could be better than."""

    name: str
    value: float | None
    unit: str
    note: str = ""
    possible: float | None = None


def combine(runs: Sequence[Row]) -> Row:
    """Several runs of one row: medians, but the worst of what may never be bad."""
    measured = [run.measured for run in runs if run.measured is not None]
    failed = next((run for run in runs if run.measured is None), None)
    if failed is not None:
        return failed
    return replace(
        runs[0],
        measured=replace(
            measured[0],
            seconds=median(each.seconds for each in measured),
            cpu_seconds=median(each.cpu_seconds for each in measured),
            peak_bytes=max(each.peak_bytes for each in measured),
            identical=min(each.identical for each in measured),
        ),
    )
