"""What the scheduled functions cannot handle until somebody changes something, and when they retry.

A subject is an object in the dropbox or a batch. Its record is made when the work on it fails for a
reason that time alone does not change: S3 denies an object, a manifest is damaged, or the code has
met something unknown. The subject is skipped until its next try, so that thousands of them cost the
others nothing; it is tried again for ever, at growing intervals. The record goes when the work
succeeds, or the subject is gone.

Records are items of the batch table under keys that are no batch ids, in the index of what is due.
DynamoDB deletes those that nobody has written for 30 days.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from chalicelib.stores.items import readable
from chalicelib.stores.schema import BATCHES_BY_DUE
from chalicelib.stores.table import Table, expires
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The names of so many records of one kind of work are read at the start of an invocation, some
# 100 bytes each. A subject that is beyond them is tried in each invocation.
MAX_READ = 100_000
_KEPT = timedelta(days=30)
_FIRST_PAUSE = timedelta(minutes=1)


class Work(StrEnum):
    """What was to be done with the subject."""

    DROPBOX = "dropbox"  # copy an object out of the dropbox; the subject is a digest
    INTAKE = "intake"  # close the batch of a manifest
    RECOVERY = "recovery"  # close a batch whose receiver has died
    ANNOUNCEMENT = "announcement"  # send the events of a batch, a study, or one event
    EXPIRY = "expiry"  # delete a batch's objects after their retention


# The longest time between two tries.
_LONGEST = dict.fromkeys(Work, timedelta(hours=1)) | {Work.EXPIRY: timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Blocked:
    """One subject. ``reason`` is an error's name, and ``why`` what it says: never others' text."""

    work: Work
    subject: str
    reason: str
    why: str
    since: datetime
    tried_at: datetime
    next_try_at: datetime
    tries: int = 1


def failed_again(known: Blocked | None, failure: Blocked, *, grows: bool = True) -> Blocked:
    """The record of a subject that has failed now, as ``failure`` says, and as ``known`` before.

    The pause before the next try is as long as the subject has been blocked, so it doubles; unless
    it does not grow, because time alone may mend the subject.
    """
    since = known.since if known else failure.since
    longest = _LONGEST[failure.work] if grows else _FIRST_PAUSE
    pause = min(max(failure.tried_at - since, _FIRST_PAUSE), longest)
    tries = known.tries + 1 if known else 1
    return replace(failure, since=since, tries=tries, next_try_at=failure.tried_at + pause)


class BlockedStore(Protocol):
    """Records by work and subject. Every method raises ServiceUnavailable."""

    def next_tries(self, work: Work) -> Mapping[str, datetime]:
        """Of the blocked subjects, at most MAX_READ: when each is tried again.

        From an index: what was written in the last second may be missing.
        """
        ...

    def get(self, work: Work, subject: str) -> Blocked | None:
        """The record, or None."""
        ...

    def get_many(self, names: Sequence[tuple[Work, str]]) -> Sequence[Blocked]:
        """Those records that exist."""
        ...

    def put(self, record: Blocked) -> None:
        """Write a record, over the one that was there."""
        ...

    def remove(self, work: Work, subject: str) -> None:
        """The subject is blocked no more, or gone."""
        ...


def of_batch(batch_id: str, store: BlockedStore) -> list[Blocked]:
    """What is blocked of a batch, by work."""
    found = store.get_many([(work, batch_id) for work in Work if work is not Work.DROPBOX])
    return sorted(found, key=lambda record: record.work)


class DynamoBlocked:
    """A BlockedStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def next_tries(self, work: Work) -> Mapping[str, datetime]:
        """See BlockedStore."""
        found = self._table.query(
            IndexName=BATCHES_BY_DUE,
            KeyConditionExpression="due = :due",
            values={":due": _due(work)},
        )
        prefix = f"{_due(work)}:"
        return {
            str(item["batchId"]).removeprefix(prefix): _time_of(item)
            for item in islice(found, MAX_READ)
        }

    def get(self, work: Work, subject: str) -> Blocked | None:
        """See BlockedStore."""
        item = self._table.get(_key(work, subject))
        return None if item is None else _record(item)

    def get_many(self, names: Sequence[tuple[Work, str]]) -> Sequence[Blocked]:
        """See BlockedStore."""
        found = self._table.get_many([_key(*name) for name in names])
        return [*readable(_record, found, "batchId")]

    def put(self, record: Blocked) -> None:
        """See BlockedStore."""
        item: dict[str, Any] = {
            "due": _due(record.work),
            "dueAt": to_iso(record.next_try_at),
            "work": record.work,
            "subject": record.subject,
            "reason": record.reason,
            "why": record.why,
            "since": to_iso(record.since),
            "triedAt": to_iso(record.tried_at),
            "tries": record.tries,
            **expires(record.next_try_at, _KEPT),
        }
        self._table.put({**_key(record.work, record.subject), **item})

    def remove(self, work: Work, subject: str) -> None:
        """See BlockedStore."""
        self._table.delete(_key(work, subject))


def _due(work: Work) -> str:
    return f"blocked:{work}"


def _key(work: Work, subject: str) -> dict[str, str]:
    return {"batchId": f"{_due(work)}:{subject}"}


def _time_of(item: Mapping[str, Any]) -> datetime:
    """When it is tried again: now, if somebody else has written there what is no time."""
    try:
        return from_iso(item["dueAt"])
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _record(item: Mapping[str, Any]) -> Blocked:
    return Blocked(
        Work(item["work"]),
        item["subject"],
        item["reason"],
        item["why"],
        from_iso(item["since"]),
        from_iso(item["triedAt"]),
        from_iso(item["dueAt"]),
        int(item["tries"]),
    )


class MemoryBlocked:
    """A BlockedStore in memory."""

    def __init__(self) -> None:
        self.records: dict[tuple[Work, str], Blocked] = {}

    def next_tries(self, work: Work) -> Mapping[str, datetime]:
        """See BlockedStore."""
        found = (each for each in self.records.values() if each.work is work)
        in_order = sorted(found, key=lambda each: each.next_try_at)
        return {each.subject: each.next_try_at for each in in_order[:MAX_READ]}

    def get(self, work: Work, subject: str) -> Blocked | None:
        """See BlockedStore."""
        return self.records.get((work, subject))

    def get_many(self, names: Sequence[tuple[Work, str]]) -> Sequence[Blocked]:
        """See BlockedStore."""
        return [self.records[name] for name in names if name in self.records]

    def put(self, record: Blocked) -> None:
        """See BlockedStore."""
        self.records[record.work, record.subject] = record

    def remove(self, work: Work, subject: str) -> None:
        """See BlockedStore."""
        self.records.pop((work, subject), None)


def names(store: BlockedStore, works: Iterable[Work]) -> list[tuple[Work, str]]:
    """The work and subject of every record of some kinds of work, in an order that no try changes.

    At most MAX_READ of each work.
    """
    return sorted((work, subject) for work in works for subject in store.next_tries(work))


def listed(store: BlockedStore, works: Iterable[Work]) -> list[Blocked]:
    """Every record of some kinds of work, in that order."""
    return sorted(store.get_many(names(store, works)), key=lambda each: (each.work, each.subject))
