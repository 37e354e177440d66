"""Studies whose batches have not all been quiet yet: an item of the batch table for each.

Batches join when they close, and bring the study up for a look when they have ended.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.event import Event
from chalicelib.stores.outbox import Due, MemoryOutbox, event_item
from chalicelib.stores.table import Table, serialize
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# No study has as many batches without a pause; an item may have 400 KB, some 10,000 ids.
MAX_BATCHES = 1_000
_PREFIX = "study:"


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study since it was quiet last. ``changes`` counts what happened to it, for conditions."""

    study_instance_uid: str
    batch_ids: frozenset[str] = frozenset()
    changes: int = 0


class StudyStore(Protocol):
    """Studies by UID; when one is to be looked at, the outbox tells (Due.STUDY)."""

    def join(self, study_instance_uid: str, batch_id: str) -> None:
        """A batch with instances of the study has closed; beyond MAX_BATCHES it is ignored."""
        ...

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """Something has happened to the study: it is to be looked at then."""
        ...

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """The study, or None."""
        ...

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """Look then, or only when something happens; False if something has since ``study``."""
        ...

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """The study is quiet: forget its batches and keep the event, both or neither.

        False, and neither, if something has happened since ``study`` was read.
        """
        ...


def study_key(study_instance_uid: str) -> str:
    """No batch id."""
    return f"{_PREFIX}{study_instance_uid}"


def study_of(key: str) -> str:
    """The inverse of :func:`study_key`."""
    return key.removeprefix(_PREFIX)


class DynamoStudies:
    """A StudyStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def join(self, study_instance_uid: str, batch_id: str) -> None:
        """See StudyStore."""
        self._table.change(
            _key(study_instance_uid),
            "ADD batches :batch, changes :one",
            {"batch": {batch_id}, "one": 1, "max": MAX_BATCHES},
            ConditionExpression="attribute_not_exists(batches) OR size(batches) < :max",
        )

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """See StudyStore."""
        self._table.change(
            _key(study_instance_uid),
            "SET due = :due, dueAt = :at ADD changes :one",
            {"due": Due.STUDY, "at": to_iso(at), "one": 1},
        )

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """See StudyStore."""
        item = self._table.get(_key(study_instance_uid))
        if item is None:
            return None
        return StudyRecord(
            study_instance_uid, frozenset(item.get("batches", ())), int(item["changes"])
        )

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """See StudyStore."""
        later = {"at": to_iso(until)} if until else {}
        return self._table.change(
            _key(study.study_instance_uid),
            "SET dueAt = :at" if until else "REMOVE due, dueAt",
            {"changes": study.changes, **later},
            ConditionExpression="changes = :changes",
        )

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """See StudyStore."""
        update: Any = {
            "TableName": self._table.name,
            "Key": serialize(_key(study.study_instance_uid)),
            "UpdateExpression": "REMOVE batches, due, dueAt",
            "ConditionExpression": "changes = :changes",
            "ExpressionAttributeValues": serialize({":changes": study.changes}),
        }
        put: Any = {"TableName": self._table.name, "Item": serialize(event_item(event))}
        try:
            with mapped_errors():
                self._table.client.transact_write_items(
                    TransactItems=[{"Update": update}, {"Put": put}]
                )
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            if not _condition_failed(error):
                raise ServiceUnavailable("DynamoDB cancelled a transaction") from error
            return False
        return True


def _condition_failed(error: ClientError) -> bool:
    response: Any = error.response
    reasons = response.get("CancellationReasons", [])
    return any(each.get("Code") == "ConditionalCheckFailed" for each in reasons)


def _key(study_instance_uid: str) -> dict[str, str]:
    return {"batchId": study_key(study_instance_uid)}


@dataclass(slots=True)
class MemoryStudies:
    """A StudyStore in memory."""

    outbox: MemoryOutbox
    rows: dict[str, StudyRecord] = field(default_factory=dict)

    def join(self, study_instance_uid: str, batch_id: str) -> None:
        """See StudyStore."""
        study = self._changed(study_instance_uid)
        if len(study.batch_ids) < MAX_BATCHES:
            joined = replace(study, batch_ids=study.batch_ids | {batch_id})
            self.rows[study_instance_uid] = joined

    def look(self, study_instance_uid: str, at: datetime) -> None:
        """See StudyStore."""
        self.rows[study_instance_uid] = self._changed(study_instance_uid)
        self.outbox.entries[study_key(study_instance_uid)] = (Due.STUDY, at)

    def get(self, study_instance_uid: str) -> StudyRecord | None:
        """See StudyStore."""
        return self.rows.get(study_instance_uid)

    def put_off(self, study: StudyRecord, until: datetime | None) -> bool:
        """See StudyStore."""
        if self.rows.get(study.study_instance_uid) != study:
            return False
        entry = (Due.STUDY, until) if until else None
        self.outbox.entries[study_key(study.study_instance_uid)] = entry
        return True

    def settle(self, study: StudyRecord, event: Event) -> bool:
        """See StudyStore."""
        if not self.put_off(study, None):
            return False
        self.rows[study.study_instance_uid] = replace(study, batch_ids=frozenset())
        self.outbox.send(event)
        return True

    def _changed(self, study_instance_uid: str) -> StudyRecord:
        study = self.rows.get(study_instance_uid) or StudyRecord(study_instance_uid)
        return replace(study, changes=study.changes + 1)
