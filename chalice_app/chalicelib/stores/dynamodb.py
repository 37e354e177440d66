"""Jobs, batches and instances in DynamoDB; what an attribute is called is in items.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.stores import bulk, items
from chalicelib.stores.batches import ENDED
from chalicelib.stores.jobs import Window
from chalicelib.stores.schema import INSTANCES_BY_STUDY, JOBS_BY_STATUS, JOBS_BY_STUDY
from contract.records import BatchRecord, InstanceRecord, JobRecord, JobStatus
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_RUNNING = [status for status in JobStatus if not status.ended]


class _Table:
    """One table, read and written as plain maps."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self.client = client
        self.name = name

    def get(self, key: dict[str, str]) -> dict[str, Any] | None:
        with mapped_errors():
            # A state written by one Lambda is read by the next: never from a stale replica.
            answer = self.client.get_item(
                TableName=self.name, Key=serialize(key), ConsistentRead=True
            )
        return deserialize(answer["Item"]) if "Item" in answer else None

    def put(self, item: Mapping[str, Any], condition: str, **values: Any) -> bool:
        """Put on a condition, whose ``:name`` values and ``#state`` are filled in; False if not."""
        arguments: dict[str, Any] = {"ConditionExpression": condition}
        if values:
            arguments["ExpressionAttributeValues"] = serialize(
                {f":{name}": value for name, value in values.items()}
            )
        if "#state" in condition:
            arguments["ExpressionAttributeNames"] = {"#state": "state"}
        try:
            with mapped_errors():
                self.client.put_item(TableName=self.name, Item=serialize(item), **arguments)
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def query(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """All items of a query, page after page, as they are consumed."""
        values = serialize(arguments.pop("values"))
        start: dict[str, Any] = {}
        while True:
            with mapped_errors():
                answer = self.client.query(
                    TableName=self.name, ExpressionAttributeValues=values, **arguments, **start
                )
            yield from (deserialize(item) for item in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


class DynamoJobs:
    """A JobStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = _Table(client, table)

    def get(self, job_id: str) -> JobRecord | None:
        """See JobStore."""
        item = self._table.get({"jobId": job_id})
        return None if item is None else items.job_from_item(item)

    def create(self, job: JobRecord) -> bool:
        """See JobStore."""
        return self._table.put(items.job_item(job), "attribute_not_exists(jobId)")

    def put(self, job: JobRecord) -> bool:
        """See JobStore."""
        submitted, in_progress = _RUNNING
        return self._table.put(
            items.job_item(job),
            "attribute_not_exists(jobId) OR jobStatus IN (:submitted, :in_progress)",
            submitted=submitted,
            in_progress=in_progress,
        )

    def by_status(self, status: JobStatus, window: Window, limit: int) -> list[JobRecord]:
        """See JobStore."""
        return self._newest(JOBS_BY_STATUS, "jobStatus", status, None, window, limit)

    def by_study(
        self, study_instance_uid: str, status: JobStatus | None, window: Window, limit: int
    ) -> list[JobRecord]:
        """See JobStore."""
        return self._newest(
            JOBS_BY_STUDY, "studyInstanceUID", study_instance_uid, status, window, limit
        )

    def _newest(
        self,
        index: str,
        partition: str,
        value: str,
        status: JobStatus | None,
        window: Window,
        limit: int,
    ) -> list[JobRecord]:
        since = to_iso(window.since) if window.since else "0"
        until = to_iso(window.until) if window.until else "9999-12-31T23:59:59.999999Z"
        if since > until:  # DynamoDB refuses such a BETWEEN
            return []
        found = self._table.query(
            IndexName=index,
            KeyConditionExpression=(
                f"{partition} = :value AND submittedAt BETWEEN :since AND :until"
            ),
            ScanIndexForward=False,
            Limit=limit,
            values={":value": value, ":since": since, ":until": until},
        )
        wanted = (item for item in found if status in (None, item["jobStatus"]))
        return [items.job_from_item(item) for item in islice(wanted, limit)]


class DynamoBatches:
    """A BatchStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = _Table(client, table)

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        item = self._table.get({"batchId": batch_id})
        return None if item is None else items.batch_from_item(item)

    def create(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        return self._table.put(items.batch_item(batch), "attribute_not_exists(batchId)")

    def start(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        return self._table.put(items.batch_item(batch), "attribute_not_exists(jobId)")

    def end(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        values = {state.lower(): state for state in sorted(ENDED)}
        ended = ", ".join(f":{name}" for name in values)
        condition = f"attribute_not_exists(batchId) OR NOT #state IN ({ended})"
        return self._table.put(items.batch_item(batch), condition, **values)


class DynamoInstances:
    """An InstanceStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = _Table(client, table)

    def get_many(self, sop_instance_uids: Iterable[str]) -> Mapping[str, InstanceRecord]:
        """See InstanceStore."""
        keys = [serialize({"sopInstanceUID": uid}) for uid in dict.fromkeys(sop_instance_uids)]
        found = bulk.get_all(self._table.client, self._table.name, keys)
        rows = (items.instance_from_item(deserialize(item)) for item in found)
        return {row.sop_instance_uid: row for row in rows}

    def put_many(self, instances: Sequence[InstanceRecord]) -> None:
        """See InstanceStore."""
        rows = [serialize(items.instance_item(row)) for row in instances]
        bulk.put_all(self._table.client, self._table.name, rows)

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        found = self._table.query(
            IndexName=INSTANCES_BY_STUDY,
            KeyConditionExpression="studyInstanceUID = :study",
            values={":study": study_instance_uid},
        )
        return (items.instance_from_item(item) for item in found)


def serialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """A plain map in DynamoDB's typed form."""
    # A StrEnum is a str to everyone but boto3's serializer.
    serializer = TypeSerializer()
    return {
        name: serializer.serialize(str(value) if isinstance(value, str) else value)
        for name, value in item.items()
    }


def deserialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`serialize`; numbers come back as Decimal."""
    deserializer = TypeDeserializer()
    return {name: deserializer.deserialize(value) for name, value in item.items()}
