"""What one HealthImaging import job takes, and how much of it a batch uses.

https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# AWS does not say how it counts an instance's metadata. An estimate: 8 KB of JSON for the header of
# a plain image, and half a percent of the size for the per-frame sequences of a multi-frame one:
# 2.6 KB a frame of 0.5 MB. It cannot be more than the object.
_METADATA_BYTES = 8_000
_METADATA_SHARE = 200


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Of all files of one job together."""

    files: int
    size_bytes: int
    metadata_bytes: int


# In the smaller of the ways to read "10 GB" and "50 MB"; one file may be as large as all.
JOB = JobLimits(5_000, 10_000_000_000, 50_000_000)
# A tenth is kept free: for what recovery finds beside it, and for the estimate's error.
BATCH = JobLimits(4_500, 8 * 1024**3, 45_000_000)


def metadata_bytes(size: int) -> int:
    """An estimate of the metadata of an instance of ``size`` bytes."""
    return min(size, _METADATA_BYTES + size // _METADATA_SHARE)


def cut(each: Iterable[T], size_of: Callable[[T], int], limits: JobLimits) -> Iterator[list[T]]:
    """In their order, cut into as few parts within the limits; what is alone in one always fits."""
    part: list[T] = []
    size = metadata = 0
    for item in each:
        own, own_metadata = size_of(item), metadata_bytes(size_of(item))
        size, metadata = size + own, metadata + own_metadata
        full = len(part) == limits.files
        if part and (full or size > limits.size_bytes or metadata > limits.metadata_bytes):
            yield part
            part, size, metadata = [], own, own_metadata
        part.append(item)
    if part:
        yield part
