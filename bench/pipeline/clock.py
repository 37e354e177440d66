"""The virtual clock: the emulator's own scheduler, which the product's code sleeps on."""

from collections.abc import Callable
from datetime import UTC, datetime

from local.healthimaging.scheduler import ManualScheduler

START = datetime(2026, 11, 23, tzinfo=UTC)
# Longer than anything here takes. One call of ``advance`` runs a whole simulation: a second one
# would set the clock back to where the first ended, after a dispatcher had slept beyond it.
_FOREVER = 3_650 * 86_400.0


class VirtualClock:
    """A dispatcher's Clock, and what is due when.

    Work that takes time is an action now and another later. Only dispatchers sleep: while one
    does, everything else that is due happens. As the gate lets one in at a time, sleeps never nest.
    """

    def __init__(self) -> None:
        self._scheduler = ManualScheduler(START.timestamp())

    @property
    def seconds(self) -> float:
        """Seconds since the simulation began."""
        return self._scheduler.now() - START.timestamp()

    def now(self) -> datetime:
        """See Clock."""
        return datetime.fromtimestamp(self._scheduler.now(), UTC)

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        self._scheduler.advance(seconds)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` so many seconds after the beginning."""
        self._scheduler.at(START.timestamp() + seconds, action)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` so many seconds from now."""
        self._scheduler.at(self._scheduler.now() + seconds, action)

    def run(self, until: float = _FOREVER) -> None:
        """Until then, or until nothing is due any more."""
        self._scheduler.advance(until)
