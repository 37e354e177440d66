"""What operators asked for, and why: kept for good, and what makes a repeated request the same one.

Entries are items of the batch table under keys that are no batch ids, without a ``state`` and so in
no index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Protocol

from chalicelib.stores.table import Table
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. ``subject`` says what was asked of what, ``batch_id`` which batch it makes."""

    subject: str
    batch_id: str
    reason: str
    requested_at: datetime


def numbered(subject: str, number: int) -> str:
    """The name of the ``number``-th request for the same."""
    return subject if number == 1 else f"{subject}#{number}"


def following(subject: str) -> str:
    """The name of the request after the one of this name."""
    first, _, number = subject.partition("#")
    return numbered(first, int(number or 1) + 1)


class Journal(Protocol):
    """Entries by subject."""

    def begin(self, entry: Entry) -> Entry:
        """Keep an entry, and return it; or the one that was there before."""
        ...

    def get(self, subject: str) -> Entry | None:
        """The entry, or None."""
        ...


def entries(subject: str, journal: Journal) -> Iterator[Entry]:
    """All requests for the same, the first one first."""
    for number in count(1):
        entry = journal.get(numbered(subject, number))
        if entry is None:
            return
        yield entry


class DynamoJournal:
    """A Journal."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def begin(self, entry: Entry) -> Entry:
        """See Journal."""
        item = {
            "batchId": entry.subject,
            "newBatchId": entry.batch_id,
            "reason": entry.reason,
            "requestedAt": to_iso(entry.requested_at),
        }
        self._table.put(item, "attribute_not_exists(batchId)")
        return self.get(entry.subject) or entry

    def get(self, subject: str) -> Entry | None:
        """See Journal."""
        item = self._table.get({"batchId": subject})
        if item is None:
            return None
        return Entry(subject, item["newBatchId"], item["reason"], from_iso(item["requestedAt"]))


class MemoryJournal:
    """A Journal in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def begin(self, entry: Entry) -> Entry:
        """See Journal."""
        return self.entries.setdefault(entry.subject, entry)

    def get(self, subject: str) -> Entry | None:
        """See Journal."""
        return self.entries.get(subject)
