"""The stores' in-memory twins: the same contract tests run over them and over AWS's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from chalicelib.errors import ObjectMissing, ObjectTooLarge
from chalicelib.stores.batches import ENDED
from chalicelib.stores.jobs import Window, newest_first
from contract.records import BatchRecord, InstanceRecord, JobRecord, JobStatus


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

    def by_status(self, status: JobStatus, window: Window, limit: int) -> list[JobRecord]:
        """See JobStore."""
        return self._select(lambda job: job.job_status is status, window, limit)

    def by_study(
        self, study_instance_uid: str, status: JobStatus | None, window: Window, limit: int
    ) -> list[JobRecord]:
        """See JobStore."""
        return self._select(
            lambda job: (
                job.study_instance_uid == study_instance_uid and status in (None, job.job_status)
            ),
            window,
            limit,
        )

    def _select(
        self, wanted: Callable[[JobRecord], bool], window: Window, limit: int
    ) -> list[JobRecord]:
        return newest_first(
            (job for job in self.rows.values() if wanted(job) and _within(job, window)), limit
        )


def _within(job: JobRecord, window: Window) -> bool:
    return (window.since is None or window.since <= job.submitted_at) and (
        window.until is None or job.submitted_at <= window.until
    )


class MemoryBatches:
    """A BatchStore."""

    def __init__(self) -> None:
        self.rows: dict[str, BatchRecord] = {}

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        return self.rows.get(batch_id)

    def create(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        return self.rows.setdefault(batch.batch_id, batch) is batch

    def start(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch.batch_id)
        if known is not None and known.job_id is not None:
            return False
        self.rows[batch.batch_id] = batch
        return True

    def end(self, batch: BatchRecord) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch.batch_id)
        if known is not None and known.state in ENDED:
            return False
        self.rows[batch.batch_id] = batch
        return True


class MemoryInstances:
    """An InstanceStore."""

    def __init__(self) -> None:
        self.rows: dict[str, InstanceRecord] = {}

    def get_many(self, sop_instance_uids: Iterable[str]) -> Mapping[str, InstanceRecord]:
        """See InstanceStore."""
        return {uid: self.rows[uid] for uid in sop_instance_uids if uid in self.rows}

    def put_many(self, instances: Sequence[InstanceRecord]) -> None:
        """See InstanceStore."""
        self.rows.update({row.sop_instance_uid: row for row in instances})

    def by_study(self, study_instance_uid: str) -> Iterator[InstanceRecord]:
        """See InstanceStore."""
        rows = (row for row in self.rows.values() if row.study_instance_uid == study_instance_uid)
        return iter(sorted(rows, key=lambda row: row.sop_instance_uid))


class MemoryObjects:
    """An ObjectStore; ``metadata`` holds what a move left on its target."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.metadata: dict[tuple[str, str], Mapping[str, str]] = {}

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

    def _body(self, bucket: str, key: str) -> bytes:
        try:
            return self.bodies[bucket, key]
        except KeyError:
            raise ObjectMissing("the object does not exist") from None
