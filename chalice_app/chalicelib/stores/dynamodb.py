"""Jobs, batches and instances in DynamoDB; what an attribute is called is in items.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from chalicelib.stores import bulk, items
from chalicelib.stores.instances import Change
from chalicelib.stores.jobs import Window
from chalicelib.stores.outbox import ANNOUNCED, Due
from chalicelib.stores.schema import (
    BATCHES_BY_STATE,
    INSTANCES_BY_STUDY,
    JOBS_BY_STATUS,
    JOBS_BY_STUDY,
)
from chalicelib.stores.table import Table, deserialize, serialize
from chalicelib.threads import in_threads
from contract.batch_states import TRANSITIONS, BatchEvent
from contract.records import BatchRecord, BatchState, InstanceRecord, JobRecord, JobStatus
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_LAST = "9999-12-31T23:59:59.999999Z"
_STARTABLE = "#state = :importing AND attribute_not_exists(jobId)"
_RUNNING = [status for status in JobStatus if not status.ended]


class DynamoJobs:
    """A JobStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

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

    def correct(self, job: JobRecord) -> bool:
        """See JobStore."""
        condition = "attribute_not_exists(jobId) OR jobStatus <> :completed"
        return self._table.put(items.job_item(job), condition, completed=JobStatus.COMPLETED)

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
        until = to_iso(window.until) if window.until else _LAST
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
        self._table = Table(client, table)

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        item = self._table.get({"batchId": batch_id})
        return None if item is None else items.batch_from_item(item)

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """See BatchStore."""
        sources, target = TRANSITIONS[event]
        item = items.batch_item(replace(batch, state=target))
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
            {"importing": BatchState.IMPORTING, **values},
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
            {"importing": BatchState.IMPORTING},
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

    def by_state(self, state: BatchState, limit: int | None = None) -> Iterator[BatchRecord]:
        """See BatchStore."""
        page = {} if limit is None else {"Limit": limit}
        found = self._table.query(**page, **_in_state(state))
        return (items.batch_from_item(item) for item in islice(found, limit))

    def newest(self, state: BatchState, until: datetime | None, limit: int) -> list[BatchRecord]:
        """See BatchStore."""
        query = _in_state(state)
        query["KeyConditionExpression"] += " AND openedAt <= :until"
        query["values"] |= {":until": to_iso(until) if until else _LAST}
        found = self._table.query(ScanIndexForward=False, Limit=limit, **query)
        return [items.batch_from_item(item) for item in islice(found, limit)]

    def count(self, state: BatchState) -> int:
        """See BatchStore."""
        return sum(page["Count"] for page in self._table.pages(Select="COUNT", **_in_state(state)))


def _in_state(state: BatchState) -> dict[str, Any]:
    return {
        "IndexName": BATCHES_BY_STATE,
        "KeyConditionExpression": "#state = :state",
        "ExpressionAttributeNames": {"#state": "state"},
        "values": {":state": state},
    }


class DynamoInstances:
    """An InstanceStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def get_many(self, sop_instance_uids: Iterable[str]) -> Mapping[str, InstanceRecord]:
        """See InstanceStore."""
        keys = [serialize({"sopInstanceUID": uid}) for uid in dict.fromkeys(sop_instance_uids)]
        found = bulk.get_all(self._table.client, self._table.name, keys)
        rows = (items.instance_from_item(deserialize(item)) for item in found)
        return {row.sop_instance_uid: row for row in rows}

    def swap_many(self, changes: Sequence[Change]) -> frozenset[str]:
        """See InstanceStore."""
        # One by one: BatchWriteItem takes no conditions, and a transaction costs twice as much.
        done = in_threads(self._swap, changes)
        pairs = zip(changes, done, strict=True)
        return frozenset(row.sop_instance_uid for (_, row), is_done in pairs if not is_done)

    def _swap(self, change: Change) -> bool:
        was, row = change
        if was is None:
            return self._table.put(items.instance_item(row), "attribute_not_exists(sopInstanceUID)")
        read = items.instance_item(was)
        condition = "#state = :state AND batchId = :batch AND updatedAt = :at AND "
        values = {"state": read["state"], "batch": read["batchId"], "at": read["updatedAt"]}
        # Another batch's note of a conflict leaves the others as they are.
        if was.conflicts:
            condition += "conflicts = :conflicts"
            values["conflicts"] = read["conflicts"]
        else:
            condition += "attribute_not_exists(conflicts)"
        return self._table.put(items.instance_item(row), condition, **values)

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        found = self._table.query(
            IndexName=INSTANCES_BY_STUDY,
            KeyConditionExpression="studyInstanceUID = :study",
            values={":study": study_instance_uid},
        )
        return (items.instance_from_item(item) for item in found)
