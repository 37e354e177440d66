"""When the work of an import job runs: a clock and a queue of actions due on it."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol

Action = Callable[[], None]


class Scheduler(Protocol):
    """A clock (seconds since the epoch) that runs actions when they are due."""

    def now(self) -> float:
        """The time."""
        ...

    def at(self, due: float, action: Action) -> None:
        """Run ``action``, which must not raise, at ``due`` or as soon after as can be."""
        ...

    def close(self) -> None:
        """Drop what is not yet due, wait for what runs, leave no thread behind."""
        ...


class ManualScheduler:
    """A clock that a test moves: everything due runs inside :meth:`advance`, in the test's thread.

    Actions run in order of their times, each at its own time.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._queue: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def now(self) -> float:  # noqa: D102 - see Scheduler
        return self._now

    def at(self, due: float, action: Action) -> None:  # noqa: D102
        heapq.heappush(self._queue, (due, next(self._order), action))

    def close(self) -> None:  # noqa: D102
        self._queue.clear()

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        target = self._now + seconds
        while self._queue and self._queue[0][0] <= target:
            due, _, action = heapq.heappop(self._queue)
            self._now = max(self._now, due)
            action()
        self._now = target


class ThreadScheduler:
    """The real clock, and one worker thread that starts with the first action.

    One thread: reading DICOM holds the interpreter lock, so more would finish nothing sooner. The
    concurrency of jobs is in their times, which overlap.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def now(self) -> float:  # noqa: D102 - see Scheduler
        return time.time()

    def at(self, due: float, action: Action) -> None:  # noqa: D102
        with self._changed:
            heapq.heappush(self._queue, (due, next(self._order), action))
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._work, name="healthimaging-worker", daemon=True
                )
                self._worker.start()
            self._changed.notify()

    def close(self) -> None:  # noqa: D102
        with self._changed:
            self._queue.clear()
            worker, self._worker = self._worker, None
            self._changed.notify()
        if worker is not None:
            worker.join()

    def _work(self) -> None:
        while (action := self._next_action()) is not None:
            action()

    def _next_action(self) -> Action | None:
        """The next action once it is due; None when the scheduler was closed."""
        with self._changed:
            while self._worker is threading.current_thread():
                wait = self._queue[0][0] - self.now() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)[2]
                self._changed.wait(wait)
        return None
