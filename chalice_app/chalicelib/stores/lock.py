"""A lock that one invocation at a time has, for a bounded time; who dies holding it is waited out.

It is an item of the batch table under a key that is no batch id, without a ``state`` and so in no
index.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from chalicelib.stores.table import Table
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Lock(Protocol):
    """``holder`` is an invocation's own name."""

    def take(self, holder: str, now: datetime, until: datetime) -> bool:
        """Hold the lock at most ``until``; False if another does."""
        ...

    def leave(self, holder: str) -> None:
        """Let the next one in; nothing happens if another has the lock by now."""
        ...


class DynamoLock:
    """A Lock, one for each ``name``."""

    def __init__(self, client: "DynamoDBClient", table: str, name: str) -> None:
        self._table = Table(client, table)
        self._key = {"batchId": name}

    def take(self, holder: str, now: datetime, until: datetime) -> bool:
        """See Lock."""
        condition = "attribute_not_exists(holder) OR heldUntil < :now"
        held = {"holder": holder, "heldUntil": to_iso(until)}
        return self._table.update(self._key, held, (), condition, {"now": to_iso(now)})

    def leave(self, holder: str) -> None:
        """See Lock."""
        free = {"heldUntil": "0"}
        self._table.update(self._key, free, (), "holder = :me", {"me": holder})


class MemoryLock:
    """A Lock in memory."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.held_until: datetime | None = None

    def take(self, holder: str, now: datetime, until: datetime) -> bool:
        """See Lock."""
        if self.holder is not None and self.held_until is not None and self.held_until >= now:
            return False
        self.holder, self.held_until = holder, until
        return True

    def leave(self, holder: str) -> None:
        """See Lock."""
        if self.holder == holder:
            self.holder = None
