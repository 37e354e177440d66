"""Memory for instances that are being received: reused, and bounded over all workers.

An instance of up to BLOCK_BYTES is held whole until it is durable; of a longer one no more than a
block at a time. Its memory is taken in three steps, so that a small image takes little.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass

# Up to here one PUT, above it a multipart upload with parts of this size: S3 wants at least 5 MiB,
# and its 10,000 parts of 8 MiB are more than any DICOM object may have.
BLOCK_BYTES = 8 * 1024 * 1024
# How many unused buffers of each size are kept: for the busiest senders, and 26 MiB at most.
_KEPT = {64 * 1024: 32, 1024 * 1024: 8, BLOCK_BYTES: 2}
_SIZES = tuple(_KEPT)
# New associations are turned away before those inside have to wait.
_WATERMARK = 0.9


@dataclass(frozen=True, slots=True)
class Buffer:
    """Some memory of one of the three sizes."""

    memory: memoryview

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.memory)


class Spool:
    """One worker's buffers.

    ``adjust`` counts bytes taken (or, negative, given back), ``buffered`` tells how many all
    workers have taken. The limit may be exceeded by what each association had received before it
    could be stopped, 256 KiB: whoever finds the spool full stops reading until it is not.
    """

    def __init__(
        self, limit: int, adjust: Callable[[int], None], buffered: Callable[[], int]
    ) -> None:
        self._limit = limit
        self._adjust = adjust
        self._buffered = buffered
        self._unused: dict[int, list[Buffer]] = {size: [] for size in _SIZES}

    @property
    def full(self) -> bool:
        """Whether who holds a buffer has to wait before receiving more."""
        return self._buffered() > self._limit

    @property
    def congested(self) -> bool:
        """Whether no new association should come."""
        return self._buffered() > self._limit * _WATERMARK

    def take(self, size: int) -> Buffer:
        """A buffer of at least ``size`` bytes, BLOCK_BYTES at most."""
        fitting = next(each for each in _SIZES if each >= min(size, BLOCK_BYTES))
        self._adjust(fitting)
        unused = self._unused[fitting]
        # An anonymous map goes back to the system whole when it is dropped; a heap does not.
        return unused.pop() if unused else Buffer(memoryview(mmap.mmap(-1, fitting)))

    def grow(self, buffer: Buffer, filled: int) -> Buffer:
        """The next larger buffer with the first ``filled`` bytes of this one, which is given up."""
        larger = self.take(buffer.size + 1)
        larger.memory[:filled] = buffer.memory[:filled]
        self.give(buffer)
        return larger

    def give(self, buffer: Buffer) -> None:
        """Give a buffer back; nobody may use it any more."""
        self._adjust(-buffer.size)
        unused = self._unused[buffer.size]
        if len(unused) < _KEPT[buffer.size]:
            unused.append(buffer)
