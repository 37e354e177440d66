"""The ways that events take, and how unreliable these are: AWS promises "at least once" for S3's,
"best effort" for HealthImaging's, and an order for neither.
"""

import random
import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventFaults:
    """Chances from 0 to 1, one event suffering one fault at most.

    One that is late comes up to ``late_seconds`` later, after others that were sent behind it.
    """

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_seconds: float = 5.0


RELIABLE = EventFaults()


class Road:
    """Decides each event's fate. The same seed decides alike for as many events."""

    def __init__(self, faults: EventFaults, seed: str) -> None:
        self.faults = faults
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._lock = threading.Lock()

    def delays(self) -> list[float]:
        """When the next event is delivered, in seconds from now; nothing if it is lost."""
        faults = self.faults
        with self._lock:
            lot, later = self._random.random(), self._random.uniform(0.1, 1.0)
        if lot < faults.lost:
            return []
        if lot < faults.lost + faults.twice:
            return [0.0, later * faults.late_seconds]
        if lot < faults.lost + faults.twice + faults.late:
            return [later * faults.late_seconds]
        return [0.0]
