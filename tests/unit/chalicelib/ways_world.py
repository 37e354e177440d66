"""The scheduled functions over the in-memory stores, on a clock of their own; nothing else runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.events.announce import Announcer, announce
from chalicelib.events.bus import EventBridge
from chalicelib.imports.execution import Execution
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.dispatch import Desk, dispatch
from chalicelib.intake.dropbox import Dropbox, collect
from chalicelib.intake.recovery import Recovery, recover_batches
from chalicelib.operations.expire import Expiry, expire
from chalicelib.operations.journal import MemoryJournal
from chalicelib.operations.repeat import Operations
from chalicelib.settings import AdmissionSettings, RecoverySettings
from chalicelib.stores import Stores
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import MemoryBatches, MemoryGate, MemoryJobs

from contract.keys import InstanceKey
from contract.metadata import Target, to_metadata
from contract.records import BatchRecord, BatchState, Counts, InstanceState, JobRecord, JobStatus
from tests.pipeline.chalicelib.crash_twins import MemoryBus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NOW,
    RESULTS,
    SENDER,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    instance_rows,
    keep_results,
    lines,
    memory_stores,
    outbox_of,
    overwrite,
    success,
    summary,
)

ADMISSION = AdmissionSettings(dicom_bucket=BUCKET, state_machine_arn="arn", datastore_id=DATASTORE)
RECOVERY = RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE)
RETENTION = timedelta(days=30)
MANIFEST = a_manifest(2)
JOB = "job1"


@dataclass
class World:
    """One batch of two instances, which HealthImaging imports as soon as it is asked to.

    ``deaths`` is how many executions more die before their first step.
    """

    now: datetime = NOW
    stores: Stores = field(default_factory=lambda: memory_stores(MANIFEST))
    service: FakeHealthImaging = field(default_factory=FakeHealthImaging)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    gate: MemoryGate = field(default_factory=MemoryGate)
    dropbox_lock: MemoryLock = field(default_factory=MemoryLock)
    announcer_lock: MemoryLock = field(default_factory=MemoryLock)
    bus: MemoryBus = field(default_factory=MemoryBus)
    executions: list[str] = field(default_factory=list)
    deaths: int = 0

    def __post_init__(self) -> None:
        self.service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
        body = lines(*(success(each.key) for each in MANIFEST.instances))
        keep_results(self.stores, summary=summary(2), success=body)
        for each in MANIFEST.instances:
            key = InstanceKey.parse(each.key)
            self.metadata[BUCKET, each.key] = to_metadata(
                key, each.sop_class_uid, each.transfer_syntax_uid, each.study_date,
                each.checksum, SENDER, Target("study"),
            )  # fmt: skip
        self.rows(InstanceState.RECEIVED)

    @property
    def metadata(self) -> dict[tuple[str, str], Any]:
        """Of the objects."""
        return self.stores.objects.metadata  # type: ignore[attr-defined,no-any-return]

    def rows(self, state: InstanceState, job_id: str | None = None) -> None:
        """The ledger has the instances in a state."""
        overwrite(self.stores.instances, instance_rows(MANIFEST, state, NOW, job_id=job_id))

    def put(self, state: BatchState, **more: Any) -> None:
        """The batch is in a state."""
        batches = self.stores.batches
        assert isinstance(batches, MemoryBatches)
        batches.rows[BATCH] = replace(batches.rows[BATCH], state=state, **more)

    def lose_results(self) -> None:
        """There is no job, and so no result file."""
        bodies = self.stores.objects.bodies  # type: ignore[attr-defined]
        for bucket, key in [each for each in bodies if each[0] == RESULTS]:
            del bodies[bucket, key]

    def put_job(self, status: JobStatus) -> None:
        """Its job is recorded in a status."""
        assert isinstance(self.stores.jobs, MemoryJobs)
        self.stores.jobs.rows[JOB] = JobRecord(
            JOB, status, BATCH, DATASTORE, "arn", f"s3://{BUCKET}/instances/{BATCH}/",
            f"s3://{RESULTS}/{BATCH}/", NOW, "CT1", Counts(2),
        )  # fmt: skip

    def batch(self) -> BatchRecord:
        """The batch, as it is now."""
        batch = self.stores.batches.get(BATCH)
        assert batch is not None
        return batch

    @property
    def states(self) -> set[InstanceState]:
        """Of the instances, in the ledger."""
        return {row.state for row in self.stores.instances.by_study("1.2")}

    @property
    def operations(self) -> Operations:
        """What the operator's commands work with."""
        return Operations(a_context(self.stores, self.service, self.now), self.journal)

    def start(self, execution: Execution, attempt: int = 0) -> bool:
        """The state machine: an execution does all its steps at once."""
        name = f"{execution.batch_id}-{attempt}"
        if name in self.executions:
            return False
        self.executions.append(name)
        if self.deaths:
            self.deaths -= 1
        else:
            self._import(execution)
        return True

    def _import(self, execution: Execution) -> None:
        context = a_context(self.stores, self.service, self.now)
        job = start_import(execution, context)
        if check_status(execution, job["jobId"], context)["status"] == JobStatus.FAILED:
            event = {"batchId": execution.batch_id, "bucket": BUCKET, "job": job}
            record_failure(event, context)

    def sleep(self, seconds: float) -> None:
        """Wait, as the dispatcher does."""
        self.now += timedelta(seconds=seconds)

    def clock(self) -> datetime:
        """The time."""
        return self.now

    def run(self, minutes: int) -> None:
        """The schedule."""
        for _ in range(minutes):
            began = self.now
            holder = began.isoformat()
            outbox, files = outbox_of(self.stores), files_of(self.stores)
            recover_batches(Recovery(self.stores, outbox, files, RECOVERY, began))
            dispatch(Desk(self.stores.batches, self.gate, self, ADMISSION, _Clock(self), holder))
            collect(self._dropbox(holder))
            announce(self._announcer(holder))
            expire(self.expiry)
            self.now = began + timedelta(minutes=1)

    def _dropbox(self, holder: str) -> Dropbox:
        files, outbox = files_of(self.stores), outbox_of(self.stores)
        return Dropbox(files, self.stores, outbox, self.dropbox_lock, self.clock, holder)

    def _announcer(self, holder: str) -> Announcer:
        return Announcer(
            self.stores, outbox_of(self.stores), files_of(self.stores), EventBridge(self.bus, "b"),
            lambda batch_id, attempt: self.start(Execution.of(batch_id, BUCKET), attempt),
            self.announcer_lock, timedelta(minutes=15), self.clock, holder,
        )  # fmt: skip

    @property
    def expiry(self) -> Expiry:
        """What expiring works with."""
        files, outbox = files_of(self.stores), outbox_of(self.stores)
        return Expiry(self.stores, outbox, files, RETENTION, self.clock)

    def keys(self, prefix: str) -> Sequence[str]:
        """The objects under a prefix."""
        return [each.key for each in files_of(self.stores).list(prefix)]


@dataclass
class _Clock:
    world: World

    def now(self) -> datetime:
        """The time."""
        return self.world.now

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.world.sleep(seconds)
