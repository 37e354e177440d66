"""The ledger in DynamoDB; what an attribute is called is in items.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from chalicelib.stores import items
from chalicelib.stores.bulk import READS_PER_CALL
from chalicelib.stores.instances import Change, Rows
from chalicelib.stores.schema import INSTANCES_BY_SOP_INSTANCE, INSTANCES_BY_STUDY
from chalicelib.stores.table import Conditional, Table
from chalicelib.threads import in_threads
from contract.keys import RowKey
from contract.records import InstanceRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


_ABSENT = "attribute_not_exists(instance)"
_AS_READ = "#state = :state AND batchId = :batch AND updatedAt = :at"


def _read(row: InstanceRecord) -> dict[str, str]:
    """What tells whether a row is as it was read."""
    item = items.instance_item(row)
    return {"state": item["state"], "batch": item["batchId"], "at": item["updatedAt"]}


def _as_read(key: RowKey, row: InstanceRecord | None) -> Conditional:
    """A row's key, if the row is as it was read, or absent."""
    condition, values = (_AS_READ, _read(row)) if row else (_ABSENT, {})
    return key._asdict(), condition, values


class DynamoInstances:
    """An InstanceStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def get_many(self, keys: Iterable[RowKey]) -> Rows:
        """See InstanceStore."""
        found = self._table.get_many([key._asdict() for key in dict.fromkeys(keys)])
        rows = map(items.instance_from_item, found)
        return {row.row_key: row for row in rows}

    def swap_many(self, changes: Sequence[Change]) -> frozenset[RowKey]:
        """See InstanceStore."""
        # One by one: BatchWriteItem takes no conditions, and a transaction costs twice as much.
        done = in_threads(self._swap, changes)
        pairs = zip(changes, done, strict=True)
        return frozenset(change.row_key for change, is_done in pairs if not is_done)

    def _swap(self, change: Change) -> bool:
        was, row = change.was, change.row
        if row is None:
            return was is None or self._table.delete(was.row_key._asdict(), _AS_READ, **_read(was))
        item = items.instance_row(row)
        condition, values = (_AS_READ, _read(was)) if was else (_ABSENT, {})
        if change.guard is None:
            return self._table.put(item, condition, **values)
        return self._table.transact(put=(item, condition, values), check=_as_read(*change.guard))

    def promote(self, first: InstanceRecord, other: InstanceRecord) -> bool:
        """See InstanceStore."""
        promoted = items.instance_row(replace(other, beside=None, differs=False))
        return self._table.transact(
            put=(promoted, _AS_READ, _read(first)), delete=_as_read(other.row_key, other)
        )

    def of_instances(self, instances: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        """See InstanceStore."""
        wanted = list(dict.fromkeys(instances))
        found = in_threads(self._of_instance, wanted)
        return {instance: rows for instance, rows in zip(wanted, found, strict=True) if rows}

    def _of_instance(self, instance: str) -> tuple[InstanceRecord, ...]:
        found = self._table.query(
            KeyConditionExpression="instance = :instance",
            ConsistentRead=True,
            values={":instance": instance},
        )
        return tuple(items.readable(items.instance_from_item, found, "instance"))

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        return self._indexed(INSTANCES_BY_STUDY, "studyInstanceUID", study_instance_uid)

    def by_sop_instance(self, sop_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        return self._indexed(INSTANCES_BY_SOP_INSTANCE, "sopInstanceUID", sop_instance_uid)

    def _indexed(self, index: str, attribute: str, uid: str) -> Iterator[InstanceRecord]:
        found = self._table.query(
            IndexName=index,
            KeyConditionExpression=f"{attribute} = :uid",
            values={":uid": uid},
        )
        keys = (RowKey(item["instance"], item["version"]) for item in found)
        while chunk := list(islice(keys, READS_PER_CALL)):
            rows = self.get_many(chunk)
            yield from (rows[key] for key in chunk if key in rows)
