"""Signals as values: a loop waits for them, so that no handler runs code of ours."""

import math
import os
import select
import signal
from collections.abc import Iterable
from types import TracebackType
from typing import Self

_CHUNK = 4_096


class SignalQueue:
    """Collects signals while it is entered; a context manager for the main thread.

    Every signal writes its number to a pipe, which also works where sigtimedwait is missing. A
    pipe that is full loses numbers: it holds thousands, and the same few over and over.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, _noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Give the signals back to the system; also what a forked child has to do first."""
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float | None) -> tuple[int, ...]:
        """The signals that came, as soon as there are any; none after ``seconds``."""
        poll = select.poll()  # unlike select(2), for descriptors above 1,023, too
        poll.register(self._reader, select.POLLIN)
        ready = poll.poll(None if seconds is None else math.ceil(seconds * 1_000))
        return tuple(os.read(self._reader, _CHUNK)) if ready else ()


def _noted(number: int, frame: object) -> None:
    """Not SIG_IGN, which would keep the number from the pipe."""
