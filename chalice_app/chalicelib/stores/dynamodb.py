"""Jobs and batches in DynamoDB; what an attribute is called is in items.py."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from chalicelib.stores import items
from chalicelib.stores.batches import BatchLine
from chalicelib.stores.outbox import ANNOUNCED, Due
from chalicelib.stores.schema import (
    BATCH,
    BATCHES_BY_STATE,
    BATCHES_BY_TIME,
    JOB,
    JOBS_BY_STATUS,
    JOBS_BY_TIME,
)
from chalicelib.stores.table import Table
from contract.batch_states import TRANSITIONS, BatchEvent
from contract.records import BatchRecord, BatchState, JobRecord, JobStatus
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ADMITTED = {"importing": BatchState.IMPORTING, "stalled": BatchState.STALLED}
_STARTABLE = "#state IN (:importing, :stalled) AND attribute_not_exists(jobId)"
# A batch's id begins with a digit, and has letters, digits and dashes.
_FIRST_ID, _BEHIND_IDS = "0", "~"
_RUNNING = [status for status in JobStatus if not status.ended]


class DynamoJobs:
    """A JobStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def get(self, job_id: str) -> JobRecord | None:
        """See JobStore."""
        item = self._table.get({"jobId": job_id})
        return None if item is None else items.read(items.job_from_item, item)

    def create(self, job: JobRecord) -> bool:
        """See JobStore."""
        return self._table.put(items.job_row(job), "attribute_not_exists(jobId)")

    def put(self, job: JobRecord) -> bool:
        """See JobStore."""
        submitted, in_progress = _RUNNING
        return self._table.put(
            items.job_row(job),
            "attribute_not_exists(jobId) OR jobStatus IN (:submitted, :in_progress)",
            submitted=submitted,
            in_progress=in_progress,
        )

    def correct(self, job: JobRecord) -> bool:
        """See JobStore."""
        condition = "attribute_not_exists(jobId) OR jobStatus <> :completed"
        return self._table.put(items.job_row(job), condition, completed=JobStatus.COMPLETED)

    def get_many(self, job_ids: Sequence[str]) -> Mapping[str, JobRecord]:
        """See JobStore."""
        found = self._table.get_many([{"jobId": each} for each in job_ids])
        rows = items.readable(items.job_from_item, found, "jobId")
        return {row.job_id: row for row in rows}

    def keys(self, status: JobStatus | None, low: str, high: str) -> Iterator[str]:
        """See JobStore."""
        index, partition = JOBS_BY_TIME, ("kind", JOB)
        if status is not None:
            index, partition = JOBS_BY_STATUS, ("jobStatus", status)
        return self._table.keys(partition, "listKey", (low, high), IndexName=index)


class DynamoBatches:
    """A BatchStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        item = self._table.get({"batchId": batch_id})
        return None if item is None else items.read(items.batch_from_item, item)

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """See BatchStore."""
        sources, target = TRANSITIONS[event]
        item = items.batch_row(replace(batch, state=target))
        del item["batchId"]
        if target in ANNOUNCED:
            ended_at = to_iso(batch.ended_at or batch.opened_at)
            item |= {"due": Due.ANNOUNCE, "dueAt": ended_at}
        known = sorted(state for state in sources if state is not None)
        values = {f"from{number}": state for number, state in enumerate(known)}
        condition = f"#state IN ({', '.join(f':{name}' for name in values)})" if known else ""
        if None in sources:
            condition = " OR ".join(filter(None, ["attribute_not_exists(batchId)", condition]))
        # A lease is an open batch's.
        gone = () if target is BatchState.OPEN else ("owner", "leaseExpiresAt")
        return self._table.update({"batchId": batch.batch_id}, item, gone, condition, values)

    def link_retry(self, batch_id: str, retried_as: str) -> bool:
        """See BatchStore."""
        newest = "attribute_not_exists(retriedAs) OR retriedAs < :retriedAs"
        condition = f"attribute_exists(batchId) AND ({newest})"
        return self._table.update(
            {"batchId": batch_id}, {"retriedAs": retried_as}, (), condition, {}
        )

    def mark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """See BatchStore."""
        times = {"at": at} if before is None else {"at": at, "before": before}
        stands = "startAskedAt = :before" if before else "attribute_not_exists(startAskedAt)"
        return self._mark(batch_id, "SET startAskedAt = :at", f"{_STARTABLE} AND {stands}", **times)

    def unmark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """See BatchStore."""
        condition = f"{_STARTABLE} AND startAskedAt = :at"
        if before is None:
            return self._mark(batch_id, "REMOVE startAskedAt", condition, at=at)
        expression = "SET startAskedAt = :before"
        return self._mark(batch_id, expression, condition, at=at, before=before)

    def _mark(self, batch_id: str, expression: str, condition: str, **times: datetime) -> bool:
        values = {name: to_iso(time) for name, time in times.items()}
        return self._table.change(
            {"batchId": batch_id},
            expression,
            {**_ADMITTED, **values},
            ConditionExpression=condition,
            ExpressionAttributeNames={"#state": "state"},
        )

    def attach_job(self, batch_id: str, job_id: str) -> bool:
        """See BatchStore."""
        return self._table.update(
            {"batchId": batch_id},
            {"jobId": job_id},
            (),
            _STARTABLE,
            _ADMITTED,
        )

    def take_lease(self, batch: BatchRecord, owner: str, expires_at: datetime) -> bool:
        """See BatchStore."""
        read = items.batch_item(batch)
        values = {
            "open": BatchState.OPEN,
            "was": read["owner"],
            "until": read["leaseExpiresAt"],
        }
        return self._table.update(
            {"batchId": batch.batch_id},
            {"owner": owner, "leaseExpiresAt": to_iso(expires_at)},
            (),
            "#state = :open AND #owner = :was AND leaseExpiresAt = :until",
            values,
        )

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRecord]:
        """See BatchStore."""
        found = self._table.get_many([{"batchId": each} for each in batch_ids])
        rows = items.readable(items.batch_from_item, found, "batchId")
        return {row.batch_id: row for row in rows}

    def lines(
        self, state: BatchState, limit: int | None = None, *, newest: bool = False
    ) -> Iterator[BatchLine]:
        """See BatchStore."""
        page = {} if limit is None else {"Limit": limit}
        found = self._table.query(
            IndexName=BATCHES_BY_STATE,
            KeyConditionExpression="#state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ScanIndexForward=not newest,
            values={":state": state},
            **page,
        )
        return items.readable(items.line_from_item, islice(found, limit), "batchId")

    def ids(self, state: BatchState | None, high: str | None = None) -> Iterator[str]:
        """See BatchStore."""
        index, partition = BATCHES_BY_TIME, ("kind", BATCH)
        if state is not None:
            index, partition = BATCHES_BY_STATE, ("state", state)
        bounds = _FIRST_ID, high or _BEHIND_IDS
        return self._table.keys(partition, "batchId", bounds, IndexName=index)
