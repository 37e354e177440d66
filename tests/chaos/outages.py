"""When which objects could not be read, though they were there."""

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import NamedTuple


class Outage(NamedTuple):
    """Objects that nobody could read; ``until`` is None while that lasts."""

    hits: Callable[[str], bool]
    since: datetime
    until: datetime | None = None

    def met(self, key: str, since: datetime, until: datetime) -> bool:
        """Whether an object could not be read at some moment between two."""
        overlaps = self.since <= until and (self.until is None or self.until >= since)
        return overlaps and self.hits(key)


class Outages:
    """Those that there were, and those that there are, by what they are known by."""

    def __init__(self) -> None:
        self._over: list[Outage] = []
        self._now: dict[Hashable, Outage] = {}

    def begin(self, name: Hashable, hits: Callable[[str], bool]) -> None:
        """Nothing, if there is one of that name."""
        self._now.setdefault(name, Outage(hits, datetime.now(UTC)))

    def end(self, name: Hashable) -> None:
        """Nothing, if there is none of that name."""
        if name in self._now:
            self._over.append(self._now.pop(name)._replace(until=datetime.now(UTC)))

    def end_all(self) -> None:
        for name in list(self._now):
            self.end(name)

    def all(self) -> list[Outage]:
        return [*self._over, *self._now.values()]
