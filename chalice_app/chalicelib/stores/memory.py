"""The stores' in-memory twins: the same contract tests run over them and over AWS's."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from chalicelib.errors import ObjectDenied, ObjectMissing, ObjectTooLarge
from chalicelib.stores.batches import BatchLine, line_of
from chalicelib.stores.gate import Gate
from chalicelib.stores.instances import Change, Rows
from chalicelib.stores.jobs import list_key
from contract.batch_states import TRANSITIONS, UNDER_WAY, BatchEvent
from contract.keys import RowKey
from contract.records import (
    BatchRecord,
    BatchState,
    InstanceRecord,
    JobRecord,
    JobStatus,
)


class MemoryJobs:
    """A JobStore."""

    def __init__(self) -> None:
        self.rows: dict[str, JobRecord] = {}

    def get(self, job_id: str) -> JobRecord | None:
        """See JobStore."""
        return self.rows.get(job_id)

    def create(self, job: JobRecord) -> bool:
        """See JobStore."""
        return self.rows.setdefault(job.job_id, job) is job

    def put(self, job: JobRecord) -> bool:
        """See JobStore."""
        known = self.rows.get(job.job_id)
        if known is not None and known.job_status.ended:
            return False
        self.rows[job.job_id] = job
        return True

    def correct(self, job: JobRecord) -> bool:
        """See JobStore."""
        known = self.rows.get(job.job_id)
        if known is not None and known.job_status is JobStatus.COMPLETED:
            return False
        self.rows[job.job_id] = job
        return True

    def get_many(self, job_ids: Sequence[str]) -> Mapping[str, JobRecord]:
        """See JobStore."""
        return {each: self.rows[each] for each in job_ids if each in self.rows}

    def keys(self, status: JobStatus | None, low: str, high: str) -> Iterator[str]:
        """See JobStore."""
        jobs = (job for job in self.rows.values() if status in (None, job.job_status))
        keys = (key for key in map(list_key, jobs) if low <= key <= high)
        return iter(sorted(keys, reverse=True))


class MemoryBatches:
    """A BatchStore."""

    def __init__(self) -> None:
        self.rows: dict[str, BatchRecord] = {}

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        return self.rows.get(batch_id)

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch.batch_id)
        sources, target = TRANSITIONS[event]
        if (known.state if known else None) not in sources:
            return False
        row = _merged(known, replace(batch, state=target))
        if target is not BatchState.OPEN:
            row = replace(row, owner=None, lease_expires_at=None)
        self.rows[batch.batch_id] = row
        return True

    def link_retry(self, batch_id: str, retried_as: str) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch_id)
        if known is None or (known.retried_as or "") >= retried_as:
            return False
        self.rows[batch_id] = replace(known, retried_as=retried_as)
        return True

    def mark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch_id)
        if known is None or known.start_asked_at != before:
            return False
        return self._change_unstarted(batch_id, start_asked_at=at)

    def unmark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch_id)
        if known is None or known.start_asked_at != at:
            return False
        return self._change_unstarted(batch_id, start_asked_at=before)

    def attach_job(self, batch_id: str, job_id: str) -> bool:
        """See BatchStore."""
        return self._change_unstarted(batch_id, job_id=job_id)

    def _change_unstarted(self, batch_id: str, **changes: Any) -> bool:
        known = self.rows.get(batch_id)
        if known is None or known.state not in UNDER_WAY or known.job_id:
            return False
        self.rows[batch_id] = replace(known, **changes)
        return True

    def take_lease(self, batch: BatchRecord, owner: str, expires_at: datetime) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch.batch_id)
        if known is None or (known.state, known.owner, known.lease_expires_at) != (
            BatchState.OPEN,
            batch.owner,
            batch.lease_expires_at,
        ):
            return False
        self.rows[batch.batch_id] = replace(known, owner=owner, lease_expires_at=expires_at)
        return True

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRecord]:
        """See BatchStore."""
        return {each: self.rows[each] for each in batch_ids if each in self.rows}

    def lines(
        self, state: BatchState, limit: int | None = None, *, newest: bool = False
    ) -> Iterator[BatchLine]:
        """See BatchStore."""
        found = sorted(each for each, row in self.rows.items() if row.state is state)
        chosen = (found[::-1] if newest else found)[:limit]
        return iter([line_of(self.rows[each]) for each in chosen])

    def ids(self, state: BatchState | None, high: str | None = None) -> Iterator[str]:
        """See BatchStore."""
        found = (each for each, row in self.rows.items() if state in (None, row.state))
        return iter(sorted((each for each in found if not high or each <= high), reverse=True))


def _merged(known: BatchRecord | None, batch: BatchRecord) -> BatchRecord:
    """``batch``, with what only the known record knows."""
    if known is None:
        return batch
    unknown = (None, False)
    kept = {
        each.name: getattr(known, each.name)
        for each in fields(batch)
        if getattr(batch, each.name) in unknown
    }
    return replace(batch, **kept)


class MemoryGate:
    """A GateStore."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.holder: str | None = None
        self.held_until: datetime | None = None

    def enter(self, holder: str, now: datetime, until: datetime) -> Gate | None:
        """See GateStore."""
        if self.holder not in (None, holder) and self.held_until and self.held_until >= now:
            self.gate = replace(self.gate, asked=self.gate.asked + 1)
            return None
        self.holder, self.held_until = holder, until
        return self.gate

    def keep(self, holder: str, gate: Gate, until: datetime) -> bool:
        """See GateStore."""
        if self.holder != holder:
            return False
        self.gate = replace(gate, asked=self.gate.asked)
        self.held_until = until
        return True

    def leave(self, holder: str, asked: int | None = None) -> bool:
        """See GateStore."""
        if self.holder != holder or asked not in (None, self.gate.asked):
            return False
        self.holder = None
        return True


class MemoryInstances:
    """An InstanceStore."""

    def __init__(self) -> None:
        self.rows: dict[RowKey, InstanceRecord] = {}

    def get_many(self, keys: Iterable[RowKey]) -> Rows:
        """See InstanceStore."""
        return {key: self.rows[key] for key in keys if key in self.rows}

    def swap_many(self, changes: Sequence[Change]) -> frozenset[RowKey]:
        """See InstanceStore."""
        refused = {each.row_key for each in changes if not self._is_as_read(each)}
        for key, row in ((each.row_key, each.row) for each in changes):
            if key not in refused and row is not None:
                self.rows[key] = row
            elif key not in refused:
                del self.rows[key]
        return frozenset(refused)

    def _is_as_read(self, change: Change) -> bool:
        checked = [(change.row_key, change.was), *([change.guard] if change.guard else ())]
        return all(self.rows.get(key) == row for key, row in checked)

    def promote(self, first: InstanceRecord, other: InstanceRecord) -> bool:
        """See InstanceStore."""
        if [self.rows.get(each.row_key) for each in (first, other)] != [first, other]:
            return False
        del self.rows[other.row_key]
        self.rows[first.row_key] = replace(other, beside=None, differs=False)
        return True

    def of_instances(self, instances: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        """See InstanceStore."""
        wanted, found = set(instances), defaultdict[str, list[InstanceRecord]](list)
        for row in self._ordered(lambda row: row.instance in wanted):
            found[row.instance].append(row)
        return {instance: tuple(rows) for instance, rows in found.items()}

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        rows = self._ordered(lambda row: row.study_instance_uid == study_instance_uid)
        return iter(sorted(rows, key=lambda row: row.sop_instance_uid))

    def by_sop_instance(self, sop_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        return iter(self._ordered(lambda row: row.sop_instance_uid == sop_instance_uid))

    def _ordered(self, wanted: Callable[[InstanceRecord], bool]) -> tuple[InstanceRecord, ...]:
        rows = sorted(filter(wanted, self.rows.values()), key=lambda row: row.row_key)
        return tuple(rows)


class MemoryObjects:
    """An ObjectStore; ``metadata`` holds what a move left on its target.

    ``uploads`` are the bucket and key of each multipart upload that is open; ``denied`` those of
    objects that may not be read.
    """

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.metadata: dict[tuple[str, str], Mapping[str, str]] = {}
        self.uploads: list[tuple[str, str]] = []
        self.denied: set[tuple[str, str]] = set()

    def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """See ObjectStore."""
        body = self._body(bucket, key)
        if len(body) > max_bytes:
            raise ObjectTooLarge(f"the object is larger than {max_bytes} bytes")
        return body

    def move(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        """See ObjectStore."""
        self.bodies[bucket, target] = self._body(bucket, key)
        self.metadata[bucket, target] = metadata
        del self.bodies[bucket, key]
        self.metadata.pop((bucket, key), None)

    def metadata_of(self, bucket: str, key: str) -> Mapping[str, str]:
        """See ObjectStore."""
        self._body(bucket, key)
        return self.metadata.get((bucket, key), {})

    def _body(self, bucket: str, key: str) -> bytes:
        if (bucket, key) in self.denied:
            raise ObjectDenied("GetObject: AccessDenied")
        try:
            return self.bodies[bucket, key]
        except KeyError:
            raise ObjectMissing("the object does not exist") from None
