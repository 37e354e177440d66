"""What operators asked for, and why; and what makes a repeated request the same one.

Entries are items of the batch table under keys that are no batch ids, without a ``state`` and so in
no index. They are kept for JOURNAL_RETENTION_DAYS after the newest request for the same. Each is
written once more under the batch that it makes, so that the batch's view can say why there is one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Protocol

from chalicelib.stores.schema import EXPIRES_AT
from chalicelib.stores.table import Table, expires, serialize, write_together
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import PutTypeDef


# DynamoDB deletes an item some days after it has expired.
_APART = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. ``subject`` says what was asked of what, ``batch_id`` which batch it makes."""

    subject: str
    batch_id: str
    reason: str
    requested_at: datetime

    @property
    def kind(self) -> str:
        """What was asked: ``retry``, ``retry-forced``, ``release`` or ``release-forced``."""
        return self.subject.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Discard:
    """A dead letter that an operator had deleted. ``what`` says in our words what it was."""

    message_id: str
    what: str
    reason: str
    requested_at: datetime


def numbered(subject: str, number: int) -> str:
    """The name of the ``number``-th request for the same."""
    return subject if number == 1 else f"{subject}#{number}"


def following(subject: str) -> str:
    """The name of the request after the one of this name."""
    first, _, number = subject.partition("#")
    return numbered(first, int(number or 1) + 1)


def before(subject: str) -> list[str]:
    """The names of the requests before the one of this name."""
    first, _, number = subject.partition("#")
    return [numbered(first, each) for each in range(1, int(number or 1))]


class Journal(Protocol):
    """Entries by subject."""

    def begin(self, entry: Entry) -> Entry:
        """Keep an entry, and return it; or the one that was there before."""
        ...

    def get(self, subject: str) -> Entry | None:
        """The entry, or None."""
        ...

    def of_batch(self, batch_id: str) -> Entry | None:
        """The request that the batch was made for; None if it was made for none."""
        ...

    def note_discard(self, discard: Discard) -> None:
        """Keep why a message is deleted; the first reason for a message stays."""
        ...

    def discarded(self, message_id: str) -> Discard | None:
        """Why a message was deleted, or None."""
        ...


def entries(subject: str, journal: Journal) -> Iterator[Entry]:
    """All requests for the same, the first one first."""
    for number in count(1):
        entry = journal.get(numbered(subject, number))
        if entry is None:
            return
        yield entry


class DynamoJournal:
    """A Journal; ``retention`` is how long an entry is kept, None is for good."""

    def __init__(
        self, client: "DynamoDBClient", table: str, retention: timedelta | None = None
    ) -> None:
        self._table = Table(client, table)
        self._retention = retention

    def begin(self, entry: Entry) -> Entry:
        """See Journal."""
        item: dict[str, str | int] = {
            "batchId": entry.subject,
            "newBatchId": entry.batch_id,
            "reason": entry.reason,
            "requestedAt": to_iso(entry.requested_at),
        }
        expiry = expires(entry.requested_at, self._retention)
        if expiry:
            # Written before the new entry, with a later expiry: entries are read from the first
            # one on.
            for number, subject in enumerate(reversed(before(entry.subject)), start=1):
                later = expires(entry.requested_at + number * _APART, self._retention)
                self._table.change(
                    {"batchId": subject}, f"SET {EXPIRES_AT} = :{EXPIRES_AT}", later,
                    ConditionExpression="attribute_exists(batchId)",
                )  # fmt: skip
        made: dict[str, str | int] = {
            "batchId": _request_key(entry.batch_id),
            "subject": entry.subject,
            "reason": entry.reason,
            "requestedAt": to_iso(entry.requested_at),
        }
        # Together: no batch is made whose request nobody finds by the batch.
        first = "attribute_not_exists(batchId)"
        write_together(
            self._table.client,
            [
                {"Put": {**self._put(item | expiry), "ConditionExpression": first}},
                {"Put": self._put(made | expiry)},
            ],
        )
        return self.get(entry.subject) or entry

    def _put(self, item: Mapping[str, str | int]) -> "PutTypeDef":
        return {"TableName": self._table.name, "Item": serialize(item)}

    def get(self, subject: str) -> Entry | None:
        """See Journal."""
        item = self._table.get({"batchId": subject})
        if item is None:
            return None
        return Entry(subject, item["newBatchId"], item["reason"], from_iso(item["requestedAt"]))

    def of_batch(self, batch_id: str) -> Entry | None:
        """See Journal."""
        item = self._table.get({"batchId": _request_key(batch_id)})
        if item is None:
            return None
        return Entry(item["subject"], batch_id, item["reason"], from_iso(item["requestedAt"]))

    def note_discard(self, discard: Discard) -> None:
        """See Journal."""
        item = {
            "batchId": _discard_key(discard.message_id),
            "what": discard.what,
            "reason": discard.reason,
            "requestedAt": to_iso(discard.requested_at),
        } | expires(discard.requested_at, self._retention)
        self._table.put(item, "attribute_not_exists(batchId)")

    def discarded(self, message_id: str) -> Discard | None:
        """See Journal."""
        item = self._table.get({"batchId": _discard_key(message_id)})
        if item is None:
            return None
        return Discard(message_id, item["what"], item["reason"], from_iso(item["requestedAt"]))


class MemoryJournal:
    """A Journal in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.discards: dict[str, Discard] = {}

    def begin(self, entry: Entry) -> Entry:
        """See Journal."""
        return self.entries.setdefault(entry.subject, entry)

    def get(self, subject: str) -> Entry | None:
        """See Journal."""
        return self.entries.get(subject)

    def of_batch(self, batch_id: str) -> Entry | None:
        """See Journal."""
        found = (each for each in self.entries.values() if each.batch_id == batch_id)
        return next(found, None)

    def note_discard(self, discard: Discard) -> None:
        """See Journal."""
        self.discards.setdefault(discard.message_id, discard)

    def discarded(self, message_id: str) -> Discard | None:
        """See Journal."""
        return self.discards.get(message_id)


def _request_key(batch_id: str) -> str:
    return f"request:{batch_id}"


def _discard_key(message_id: str) -> str:
    return f"discard:{message_id}"
