"""What all backends of the process share: the clock and the options set at run time."""

import threading
from collections.abc import Callable, Mapping

from local.healthimaging.options import EmulatorOptions
from local.healthimaging.scheduler import Scheduler, ThreadScheduler

# Options that count down: as many times something happens, and then no more.
_COUNTERS = ("failing_jobs", "slow_jobs", "lost_answers")
# Hears of an event: its detail-type, its detail, and the ARN of the data store or image set.
Listener = Callable[[str, Mapping[str, object], str], None]


class Emulator:
    """The emulator's switchboard; moto makes one backend per account and Region behind it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scheduler: Scheduler = ThreadScheduler()
        self._options = EmulatorOptions()
        self._configured_at = 0.0
        self._left = dict.fromkeys(_COUNTERS, 0)
        self._listener: Listener | None = None

    @property
    def options(self) -> EmulatorOptions:
        """The options in force."""
        return self._options

    @property
    def scheduler(self) -> Scheduler:
        """The clock and what is due on it."""
        return self._scheduler

    def use_scheduler(self, scheduler: Scheduler) -> None:
        """Run on another clock from here on; what the old one had queued is dropped."""
        self._scheduler.close()
        self._scheduler = scheduler

    def configure(self, options: EmulatorOptions) -> None:
        """Put options in force: for jobs that start later, and for every call at once."""
        with self._lock:
            self._options = options
            self._configured_at = self._scheduler.now()
            self._left = {name: getattr(options, name) for name in _COUNTERS}

    def listen(self, listener: Listener) -> None:
        """Send events there from now on; it must neither raise nor wait."""
        self._listener = listener

    def tell(self, detail_type: str, detail: Mapping[str, object], resource_arn: str) -> None:
        """Send an event, if anybody listens."""
        if self._listener is not None:
            self._listener(detail_type, detail, resource_arn)

    def take_failure(self) -> str | None:
        """The message the next job must fail with, while ``failing_jobs`` are left."""
        return self._options.failure_message if self._take("failing_jobs") else None

    def take_delay(self) -> float:
        """How much longer the next job takes, while ``slow_jobs`` are left."""
        return self._options.slow_seconds if self._take("slow_jobs") else 0.0

    def take_lost_answer(self) -> bool:
        """Whether the answer to a start is lost, while ``lost_answers`` are left."""
        return self._take("lost_answers")

    def is_throttling(self) -> bool:
        """Whether ``throttled_seconds`` are still running."""
        elapsed = self._scheduler.now() - self._configured_at
        return elapsed < self._options.throttled_seconds

    def shutdown(self) -> None:
        """Stop all work; no thread is left. Whoever comes next has the real clock again."""
        self._listener = None
        self.use_scheduler(ThreadScheduler())

    def _take(self, counter: str) -> bool:
        with self._lock:
            if not self._left[counter]:
                return False
            self._left[counter] -= 1
            return True


EMULATOR = Emulator()
