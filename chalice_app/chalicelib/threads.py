"""Many calls to AWS at once, each of which takes some tens of milliseconds."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# As many as botocore's pool holds connections.
_THREADS = 10

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], values: Sequence[T]) -> list[R]:
    """``function`` of every value; raises the first error once all have been tried."""
    if len(values) <= 1:  # most batches of a modality: no threads for one call
        return [function(value) for value in values]
    with ThreadPoolExecutor(min(_THREADS, len(values))) as threads:
        return list(threads.map(function, values))
