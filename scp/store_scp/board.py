"""The shared board: what the workers' processes count, share and say of themselves, in one mmap.

Each worker writes its own panel and nobody else's, so that counting takes no lock; a number is one
aligned word, which no processor tears. Only the seats, a limit over all workers, are taken under a
lock: the kernel's own on the file, which dies with its holder.

The supervisor makes the board before it forks; its children inherit it.
"""

import fcntl
import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, Self

from store_scp.errors import ReceiverError
from store_scp.files import anonymous_file
from store_scp.metrics import UPLOAD_BOUNDS, Counter, Gauge, PanelReading, WorkerState

# Until Python 3.14 memoryview takes a subscript in its stub only: hence the quotes below.
_WORD = 8
# Panels begin on cache lines of their own, or one worker's counting would slow another's.
_LINE_WORDS = 8

_BEAT_AT = 0
_STATE = 1
_COUNTERS = slice(2, 2 + len(Counter))
_GAUGES = slice(_COUNTERS.stop, _COUNTERS.stop + len(Gauge))
_UPLOADS = slice(_GAUGES.stop, _GAUGES.stop + len(UPLOAD_BOUNDS) + 1)
_UPLOAD_SECONDS = _UPLOADS.stop
_CLOCK_OFFSET = _UPLOAD_SECONDS + 1
_PANEL_WORDS = -(-(_CLOCK_OFFSET + 1) // _LINE_WORDS) * _LINE_WORDS

# What is no worker's.
_HEALTH_BEAT_AT = 0
_CERTIFICATE_EXPIRES_AT = 1
_SHARED_WORDS = 2

# In place of an offset, or of a certificate's end, that is not known.
_UNKNOWN = math.nan
# In place of a worker and of a group; a worker's own number is kept plus one.
_FREE = 0


class SeatsTaken(ReceiverError):
    """No seat is left: in total, or for the group."""

    def __init__(self, scope: Literal["total", "group"]) -> None:
        super().__init__(f"no seat is free ({scope})")
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Seat:
    """A place among those that a limit over all workers allows."""

    place: int


class Board:
    """All panels and the table of seats; make it with :meth:`create`."""

    def __init__(self, workers: int, seats: int, descriptor: int) -> None:
        panels = workers * _PANEL_WORDS * _WORD
        table = seats * _WORD
        shared = panels + 2 * table
        os.ftruncate(descriptor, shared + _SHARED_WORDS * _WORD)
        memory = memoryview(mmap.mmap(descriptor, shared + _SHARED_WORDS * _WORD))
        self._workers = workers
        self._numbers = memory[:panels].cast("d")
        for each in range(workers):
            _row(each, self._numbers)[_CLOCK_OFFSET] = _UNKNOWN
        self._seats = _Seats(
            descriptor,
            owners=memory[panels : panels + table].cast("Q"),
            groups=memory[panels + table : shared].cast("Q"),
        )
        self._shared = memory[shared:].cast("d")
        self._shared[_CERTIFICATE_EXPIRES_AT] = _UNKNOWN

    @classmethod
    def create(cls, workers: int, seats: int) -> Self:
        """A board of zeros, in memory that every process forked from now on shares."""
        return cls(workers, seats, anonymous_file("store-scp-board"))

    def panel(self, worker: int) -> "Panel":
        """The panel of one worker, for that worker's process to write."""
        return Panel(worker, self._numbers, self._seats)

    def read(self) -> tuple[PanelReading, ...]:
        """Every panel as it stands now."""
        return tuple(_reading(each, self._numbers) for each in range(self._workers))

    def certificate_expires_at(self, moment: float | None) -> None:
        """The first certificate expires then, in seconds since 1970; None: there is none."""
        self._shared[_CERTIFICATE_EXPIRES_AT] = _UNKNOWN if moment is None else moment

    def certificate_seconds(self, now: float) -> float | None:
        """Until the first certificate expires, at ``now`` of the system's clock; None: none."""
        left = self._shared[_CERTIFICATE_EXPIRES_AT] - now
        return None if math.isnan(left) else left

    def beat_health(self, now: float) -> None:
        """Say that the health process serves, at ``now`` of the monotonic clock."""
        self._shared[_HEALTH_BEAT_AT] = now

    def beat_at(self, worker: int | None) -> float:
        """The last heartbeat of a worker, or of the health process (None)."""
        if worker is None:
            return self._shared[_HEALTH_BEAT_AT]
        return _row(worker, self._numbers)[_BEAT_AT]

    def worker_died(self, worker: int) -> None:
        """Take back what the worker held; what it counted stays, since counters only grow."""
        row = _row(worker, self._numbers)
        row[_GAUGES] = memoryview(bytes(len(Gauge) * _WORD)).cast("d")
        row[_STATE] = WorkerState.STARTING
        row[_CLOCK_OFFSET] = _UNKNOWN
        self._seats.leave_all(worker)


class Panel:
    """One worker's numbers, its heartbeat, and its seats among everyone's."""

    __slots__ = ("_counters", "_gauges", "_in_flight", "_row", "_seats", "_uploads", "_worker")

    def __init__(self, worker: int, numbers: "memoryview[float]", seats: "_Seats") -> None:
        self._worker = worker
        self._seats = seats
        self._row = _row(worker, numbers)
        self._counters = self._row[_COUNTERS]
        self._gauges = self._row[_GAUGES]
        self._uploads = self._row[_UPLOADS]
        self._in_flight = numbers[_GAUGES.start + Gauge.BYTES_IN_FLIGHT :: _PANEL_WORDS]

    def add(self, counter: Counter, amount: float = 1) -> None:
        """Count."""
        self._counters[counter] += amount

    def gauge(self, gauge: Gauge, value: float) -> None:
        """Set a gauge."""
        self._gauges[gauge] = value

    def adjust(self, gauge: Gauge, delta: float) -> None:
        """Move a gauge."""
        self._gauges[gauge] += delta

    def observe_upload(self, seconds: float) -> None:
        """Count one upload by how long it took."""
        self._uploads[bisect_left(UPLOAD_BOUNDS, seconds)] += 1
        self._row[_UPLOAD_SECONDS] += seconds

    def beat(self, now: float, state: WorkerState) -> None:
        """Say that the worker lives, at ``now`` of the monotonic clock, and how it does."""
        self._row[_STATE] = state
        self._row[_BEAT_AT] = now

    def clock_offset(self, seconds: float | None) -> None:
        """The system's clock is so far ahead of AWS's; None: not known."""
        self._row[_CLOCK_OFFSET] = _UNKNOWN if seconds is None else seconds

    def take_seat(self, group: str, limit: int, group_limit: int | None) -> Seat:
        """Take one of ``limit`` seats over all workers, and of ``group_limit`` for the group.

        Raises SeatsTaken. A seat is given back with ``leave_seat``, once; a dead worker's seats
        come back with ``Board.worker_died``.
        """
        return self._seats.take(self._worker, _digest(group), limit, group_limit)

    def leave_seat(self, seat: Seat) -> None:
        """Give a seat back."""
        self._seats.leave(seat)

    def buffered(self) -> int:
        """Bytes in flight over all workers."""
        return int(sum(self._in_flight))


class _Seats:
    """Who sits where: each place's worker, and the digest of the group it sits for."""

    def __init__(
        self, descriptor: int, owners: "memoryview[int]", groups: "memoryview[int]"
    ) -> None:
        self._descriptor = descriptor
        self._owners = owners
        self._groups = groups

    def take(self, worker: int, group: int, limit: int, group_limit: int | None) -> Seat:
        with self._locked():
            owners = self._owners.tolist()
            free = owners.count(_FREE)
            if not free or len(owners) - free >= limit:
                raise SeatsTaken("total")
            if group_limit is not None and self._groups.tolist().count(group) >= group_limit:
                raise SeatsTaken("group")
            place = owners.index(_FREE)
            # The owner first and away last: where a worker dies in between, its seat is known.
            self._owners[place] = worker + 1
            self._groups[place] = group
        return Seat(place)

    def leave(self, seat: Seat) -> None:
        with self._locked():
            self._clear(seat.place)

    def leave_all(self, worker: int) -> None:
        with self._locked():
            for place, owner in enumerate(self._owners.tolist()):
                if owner == worker + 1:
                    self._clear(place)

    def _clear(self, place: int) -> None:
        self._groups[place] = _FREE
        self._owners[place] = _FREE

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Between processes only; each has one thread that takes seats.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def _row(worker: int, numbers: "memoryview[float]") -> "memoryview[float]":
    return numbers[worker * _PANEL_WORDS : (worker + 1) * _PANEL_WORDS]


def _reading(worker: int, numbers: "memoryview[float]") -> PanelReading:
    row = _row(worker, numbers).tolist()
    return PanelReading(
        worker=worker,
        state=WorkerState(int(row[_STATE])),
        beat_at=row[_BEAT_AT],
        counters=tuple(row[_COUNTERS]),
        gauges=tuple(row[_GAUGES]),
        uploads=tuple(row[_UPLOADS]),
        upload_seconds=row[_UPLOAD_SECONDS],
        clock_offset=None if math.isnan(row[_CLOCK_OFFSET]) else row[_CLOCK_OFFSET],
    )


def _digest(group: str) -> int:
    return int.from_bytes(blake2b(group.encode(), digest_size=_WORD).digest())
