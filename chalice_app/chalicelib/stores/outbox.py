"""What has happened and is still to be dealt with: to be announced, looked at or deleted.

It is an index of the batch table that holds only the items with a ``due``: whoever is done with one
takes that away. A batch gets it with the very write that ends it, so no crash can come between.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from chalicelib.events.event import Event, EventType
from chalicelib.stores.memory import MemoryBatches
from chalicelib.stores.schema import BATCHES_BY_DUE, EXPIRES_AT
from chalicelib.stores.table import Table, expires, serialize
from contract.records import BatchRecord, BatchState
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import PutTypeDef


class Due(StrEnum):
    """What is to be done with an item."""

    ANNOUNCE = "announce"  # a batch has ended: its events are to be sent
    EXPIRE = "expire"  # ... and were sent: its objects are to be deleted some day
    EVENT = "event"  # an event that no other record implies


# A batch in which nothing was stored is nobody's news.
ANNOUNCED = frozenset({BatchState.IMPORTED, BatchState.PARTIAL, BatchState.FAILED})


class Outbox(Protocol):
    """Items by what is due. Keys are those of the batch table."""

    def due(self, what: Due, until: datetime) -> Iterator[str]:
        """The keys of items, oldest first, fetched as they are consumed.

        From an index: what was done in the last second may still be there.
        """
        ...

    def is_due(self, key: str, what: Due) -> bool:
        """The same of one item, for sure."""
        ...

    def done(
        self, key: str, what: Due, then: Due | None = None, at: datetime | None = None
    ) -> bool:
        """Take an item out, or go on to ``then`` from the same time; False if another did.

        ``at``: only if it is due since then, so that what came up again meanwhile stays.
        """
        ...

    def sent(self, key: str, now: datetime) -> None:
        """An event was sent: what is left of it keeps the same one from being kept again."""
        ...

    def keep(self, event: Event) -> str:
        """An event to be sent, kept once however often this is called; returns its key."""
        ...

    def event(self, key: str) -> Event | None:
        """The event, or None once it is done."""
        ...


def event_key(event: Event) -> str:
    """No batch id."""
    return f"event:{event.event_id}"


def event_item(event: Event) -> dict[str, Any]:
    """An item of the batch table."""
    occurred_at = to_iso(event.occurred_at)
    return {
        "batchId": event_key(event),
        "due": Due.EVENT,
        "dueAt": occurred_at,
        "eventType": event.type,
        "detail": json.dumps(event.detail),
    }


class DynamoOutbox:
    """An Outbox; ``retention`` is how long an event that was sent is known, None is for good."""

    def __init__(
        self, client: "DynamoDBClient", table: str, retention: timedelta | None = None
    ) -> None:
        self._table = Table(client, table)
        self._retention = retention

    def due(self, what: Due, until: datetime) -> Iterator[str]:
        """See Outbox."""
        found = self._table.query(
            IndexName=BATCHES_BY_DUE,
            KeyConditionExpression="due = :due AND dueAt <= :until",
            values={":due": what, ":until": to_iso(until)},
        )
        return (str(item["batchId"]) for item in found)

    def is_due(self, key: str, what: Due) -> bool:
        """See Outbox."""
        item = self._table.get({"batchId": key})
        return item is not None and item.get("due") == what

    def done(
        self, key: str, what: Due, then: Due | None = None, at: datetime | None = None
    ) -> bool:
        """See Outbox."""
        expression = "SET due = :then" if then else "REMOVE due, dueAt"
        values: Mapping[str, str] = {"what": what} | ({"then": then} if then else {})
        condition = "due = :what"
        if at is not None:
            condition, values = f"{condition} AND dueAt = :at", {**values, "at": to_iso(at)}
        return self._table.change(
            {"batchId": key}, expression, values, ConditionExpression=condition
        )

    def sent(self, key: str, now: datetime) -> None:
        """See Outbox."""
        expression, values = "REMOVE due, dueAt, detail", {"what": Due.EVENT}
        expiry = expires(now, self._retention)
        if expiry:
            expression = f"SET {EXPIRES_AT} = :{EXPIRES_AT} {expression}"
        self._table.change(
            {"batchId": key}, expression, {**values, **expiry}, ConditionExpression="due = :what"
        )

    def put_of(self, event: Event) -> "PutTypeDef":
        """The request that keeps an event, for a transaction."""
        return {"TableName": self._table.name, "Item": serialize(event_item(event))}

    def keep(self, event: Event) -> str:
        """See Outbox."""
        item = event_item(event)
        key = {"batchId": item.pop("batchId")}
        self._table.update(key, item, (), "attribute_not_exists(batchId)", {})
        return event_key(event)

    def event(self, key: str) -> Event | None:
        """See Outbox."""
        item = self._table.get({"batchId": key})
        if item is None or "due" not in item:
            return None
        kind, occurred_at = EventType(item["eventType"]), from_iso(item["dueAt"])
        return Event(kind, occurred_at, json.loads(item["detail"]))


class MemoryOutbox:
    """An Outbox in memory, over the batches in memory; ``entries`` is what differs from those.

    ``told`` are the batches whose announcement is done, as they had ended then.
    """

    def __init__(self, batches: MemoryBatches) -> None:
        self.batches = batches
        self.told: dict[str, BatchRecord] = {}
        self.entries: dict[str, tuple[Due, datetime] | None] = {}
        self.events: dict[str, Event] = {}

    def due(self, what: Due, until: datetime) -> Iterator[str]:
        """See Outbox."""
        found = {key: self._entry(key) for key in (*self.batches.rows, *self.entries)}
        times = {key: each[1] for key, each in found.items() if each and each[0] is what}
        return iter(sorted((key for key in times if times[key] <= until), key=times.__getitem__))

    def is_due(self, key: str, what: Due) -> bool:
        """See Outbox."""
        entry = self._entry(key)
        return entry is not None and entry[0] is what

    def done(
        self, key: str, what: Due, then: Due | None = None, at: datetime | None = None
    ) -> bool:
        """See Outbox."""
        entry = self._entry(key)
        if entry is None or entry[0] is not what or at not in (None, entry[1]):
            return False
        self.entries[key] = (then, entry[1]) if then else None
        if what is Due.ANNOUNCE:
            self.told[key] = self.batches.rows[key]
        return True

    def sent(self, key: str, _: datetime) -> None:
        """See Outbox."""
        self.done(key, Due.EVENT)

    def keep(self, event: Event) -> str:
        """See Outbox."""
        key = event_key(event)
        if key not in self.events:
            self.send(event)
        return key

    def send(self, event: Event) -> None:
        """Keep an event, even if it was kept before."""
        key = event_key(event)
        self.events[key] = event
        self.entries[key] = (Due.EVENT, event.occurred_at)

    def event(self, key: str) -> Event | None:
        """See Outbox."""
        return self.events.get(key) if self.is_due(key, Due.EVENT) else None

    def _entry(self, key: str) -> tuple[Due, datetime] | None:
        batch, told = self.batches.rows.get(key), self.told.get(key)
        if batch is None or batch.state not in ANNOUNCED:
            return self.entries.get(key)
        if told and (told.state, told.ended_at) == (batch.state, batch.ended_at):
            return self.entries.get(key)
        return Due.ANNOUNCE, batch.ended_at or batch.opened_at
