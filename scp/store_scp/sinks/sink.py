"""What the receiver asks of a place to store."""

from enum import Enum, auto
from typing import Protocol

from store_scp.instance import Content, Instance
from store_scp.metrics import Counter, Gauge


class Kept(Enum):
    """What became of an instance that may be acknowledged."""

    NEW = auto()
    REPEATED = auto()  # the same bytes are durable already


class LargeObject(Protocol):
    """An instance that is stored while it arrives; ends with ``commit`` or ``discard``."""

    async def write(self, block: memoryview) -> None:
        """Take the next bytes; the memory is the caller's again when this returns or raises."""
        ...

    async def commit(self, last: memoryview) -> Kept:
        """Take the last bytes; durable when this returns. Raises StoreRefused and discards."""
        ...

    async def discard(self) -> None:
        """Leave nothing behind; never raises."""
        ...


class Stream(Protocol):
    """An instance that is written as it arrives; ends with ``commit`` or ``discard``."""

    def append(self, data: memoryview) -> None:
        """Take the next bytes at once; raises StoreRefused."""
        ...

    async def commit(self) -> Kept:
        """Durable when this returns. Raises StoreRefused and discards."""
        ...

    def discard(self) -> None:
        """Leave nothing behind; never raises."""
        ...


class Sink(Protocol):
    """What a worker asks of a place to store; all in one event loop."""

    @property
    def streams(self) -> bool:
        """Whether an instance goes out as it arrives (``stream``), or in blocks (``begin``)."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it takes nothing now, in a word for the log; None if it does."""
        ...

    async def store(self, instance: Instance, content: Content) -> Kept:
        """Return only once the instance is durable; raise StoreRefused if it may not be."""
        ...

    def stream(self, instance: Instance) -> Stream:
        """Begin an instance of which only the header has arrived; raises StoreRefused."""
        ...

    async def begin(self, instance: Instance) -> LargeObject:
        """Begin an instance that is larger than a block; raises StoreRefused."""
        ...

    def association_ended(self, association_id: str) -> None:
        """No more instances come from this association."""
        ...

    async def close(self, seconds: float) -> None:
        """Finish what is begun, within so many seconds; nothing is stored after this."""
        ...


class Meter(Protocol):
    """Where a sink counts what it does: a worker's panel."""

    def add(self, counter: Counter, amount: float = 1) -> None:
        """Count."""
        ...

    def adjust(self, gauge: Gauge, delta: float) -> None:
        """Move a gauge."""
        ...

    def gauge(self, gauge: Gauge, value: float) -> None:
        """Set a gauge."""
        ...

    def observe_upload(self, seconds: float) -> None:
        """Count one upload by how long it took."""
        ...
