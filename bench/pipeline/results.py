"""What the simulations came to, as values."""

from dataclasses import dataclass

from bench.pipeline.assumptions import ImportDuration
from bench.pipeline.costs import Bill, Day
from bench.pipeline.hospital import Hospital
from bench.pipeline.per_image import Storm


@dataclass(frozen=True, slots=True)
class Counted:
    """What a simulation of our design counted."""

    images: int
    imported: int
    jobs: int
    start_calls: int
    starts_throttled: int
    over_quota: int
    most_at_once: int
    polls: int
    polls_throttled: int
    transitions: int
    invocations: int

    @property
    def throttled_share(self) -> float:
        """Of the calls that start jobs."""
        return self.starts_throttled / self.start_calls


@dataclass(frozen=True, slots=True)
class HospitalDay:
    """A day in our design.

    ``to_done`` and ``to_start`` are medians and 99th percentiles, in seconds from an association's
    end; ``imported`` counts images by the quarter of an hour.
    """

    hospital: Hospital
    counted: Counted
    to_done: tuple[float, float]
    to_start: tuple[float, float]
    started_on_the_day: int
    last_start: float
    imported: tuple[int, ...]
    day: Day
    bill: Bill


@dataclass(frozen=True, slots=True)
class PerImageDay:
    """The same day with a job for each image; ``to_start`` counts from an image's arrival."""

    images: int
    started_on_the_day: int
    last_start: float
    to_start: tuple[float, float]
    storm: Storm
    transitions: float
    received: tuple[int, ...]
    started: tuple[int, ...]
    bill: Bill


@dataclass(frozen=True, slots=True)
class Migration:
    """Images that wait for HealthImaging only."""

    counted: Counted
    ceiling: float
    jobs_per_second: float
    hours: float
    longest_queue: int
    bill: Bill

    @property
    def share(self) -> float:
        """Of the service's ceiling."""
        return self.jobs_per_second / self.ceiling


@dataclass(frozen=True, slots=True)
class LongQueue:
    """A modality's studies beside a queue; it waits from a batch's close to its job's start."""

    waiting: int
    duration: ImportDuration
    ceiling: float
    jobs_per_second: float
    modality_wait: tuple[float, float]

    @property
    def share(self) -> float:
        """Of the service's ceiling."""
        return self.jobs_per_second / self.ceiling
