"""The Lambdas' own code from a manifest's event to the records' end, on the virtual clock.

What runs is the product: ``trigger_imports``, ``dispatch`` with its gate and pace, the state
machine's definition, ``start_import``, ``check_status``, ``import_noticed``, ``record_failure``.
A batch's manifest lists one instance that stands for all; what is done for each instance is
counted (``ledger.py``), and takes its time.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from chalicelib.errors import ImportThrottled
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution as ImportExecution
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import HealthImaging
from chalicelib.imports.notice import import_noticed
from chalicelib.imports.rows import opened
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.dispatch import Desk, dispatch
from chalicelib.intake.trigger import Intake, Message, trigger_imports
from chalicelib.settings import AdmissionSettings
from chalicelib.stores import Stores
from chalicelib.stores.blocked import MemoryBlocked
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryInstances
from chalicelib.stores.outbox import MemoryOutbox

from bench.pipeline.account import ADMISSION, BUCKET, DATASTORE, IMPORTS, RESULTS
from bench.pipeline.assumptions import ImportDuration, Timing
from bench.pipeline.clock import VirtualClock
from bench.pipeline.machine import Execution, Machine, Outcome
from bench.pipeline.meter import Lambdas, Meter
from bench.pipeline.receiver import ClosedBatch
from bench.pipeline.samples import CHECKSUM, manifest_of, result_bodies, s3_event
from bench.pipeline.service import ImportJobs, Job, Load
from bench.pipeline.stores import (
    DeskBatches,
    DeskGate,
    ListedFiles,
    MeteredBatches,
    MeteredImageSets,
    MeteredJobs,
    MeteredObjects,
    MeteredStudies,
)
from contract.batch_states import BatchEvent
from contract.errors import ProductError
from contract.keys import InstanceKey, RowKey, batch_prefix, manifest_key
from contract.records import BatchRecord, BatchState, Counts

if TYPE_CHECKING:
    from mypy_boto3_medical_imaging import HealthImagingClient

_MINUTE = 60.0
# Lambda tries an asynchronous event again after one minute, and after two.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
_EVENT_RETRIES = (60.0, 120.0)


@dataclass(slots=True)
class Tally:
    """What became of the batches, in seconds since the beginning."""

    ended: Counter[BatchState] = field(default_factory=Counter)
    images: Counter[BatchState] = field(default_factory=Counter)
    done: dict[str, float] = field(default_factory=dict)
    waiting: list[tuple[float, int]] = field(default_factory=list)


class NoQueue:
    """A Queue no message is deleted from: each comes alone, and none fails."""

    def delete(self, receipt_handles: Iterable[str]) -> None:
        """See Queue."""
        raise AssertionError(f"messages failed: {list(receipt_handles)}")


class Pipeline:
    """One account: its functions, tables, state machine, and HealthImaging."""

    def __init__(
        self,
        duration: ImportDuration,
        timing: Timing,
        seed: int,
        admission: AdmissionSettings = ADMISSION,
    ) -> None:
        self.clock = VirtualClock()
        self.meter = Meter()
        self.tally = Tally()
        self.lambdas = Lambdas(self.clock, timing, self.meter)
        self.jobs = ImportJobs(self.clock, duration, self._load, self._job_ended)
        rng = random.Random(seed)  # noqa: S311
        self.machine = Machine(self.clock, self._task, self._execution_ended, rng)
        self._timing = timing
        self._fed: dict[str, ClosedBatch] = {}
        self._bodies: dict[str, list[tuple[str, str]]] = {}
        self._expected = self._manifests = 0
        self._batches = MeteredBatches(self.meter, self._batch_ended)
        self._objects = MeteredObjects(self.meter)
        self._instances = MemoryInstances()
        self._files = ListedFiles(self._objects, BUCKET, meter=self.meter)
        self._jobs = MeteredJobs(self.meter)
        # The announcer, which would look at the studies, is counted and not run.
        self._studies = MeteredStudies(self.meter, MemoryOutbox(self._batches))
        self._stores = Stores(
            self._objects,
            self._jobs,
            self._batches,
            self._instances,
            self._studies,
            MeteredImageSets(self.meter),
            MemoryBlocked(),
        )
        self._gate = DeskGate(self.meter, self.clock, timing.call)
        self._admission = admission
        self._service = HealthImaging(cast("HealthImagingClient", self.jobs))
        self._holders = 0
        self._running: set[str] = set()

    def run(self, batches: Iterable[ClosedBatch], until: float | None = None) -> None:
        """From the first manifest until every batch has come to its end, or until then."""
        for batch in batches:
            self._expected += 1
            self.clock.at(batch.closed_at, partial(self._manifest_put, batch))
        self._each_minute()
        self.clock.run() if until is None else self.clock.run(until)

    def start(self, execution: ImportExecution, attempt: int = 0) -> bool:
        """The dispatcher's Workflow; no execution ends here before its batch does."""
        if attempt:
            raise AssertionError(f"the execution of {execution.batch_id} has died")
        self.clock.sleep(self._timing.call)
        if execution.batch_id not in self._running:
            self._running.add(execution.batch_id)
            self.machine.start(execution.batch_id, json.loads(execution.to_input()))
        return True

    @property
    def _is_over(self) -> bool:
        return self.tally.ended.total() == self._expected

    def _load(self, batch_id: str) -> Load:
        batch = self._fed[batch_id]
        return Load(batch.files, batch.size)

    def _manifest_put(self, batch: ClosedBatch) -> None:
        self._fed[batch.batch_id] = batch
        self._manifests += 1
        opened_at = opened(batch.batch_id)
        lease = BatchRecord(
            batch_id=batch.batch_id,
            state=BatchState.OPEN,
            calling_ae_title=batch.calling_ae_title,
            opened_at=opened_at or self.clock.now(),
            counts=Counts(0),
            owner="receiver",
            lease_expires_at=self.clock.now(),
        )
        self._batches.move(lease, BatchEvent.OPENED)
        manifest = manifest_of(batch, self._manifests, self.clock.now())
        only = manifest.instances[0]
        self._put(batch.batch_id, BUCKET, {manifest_key(batch.batch_id): manifest.to_json()})
        self._files.under[manifest.prefix] = [
            StoredObject(only.key, only.size, "", self.clock.now())
        ]
        self.clock.after(self._timing.s3_event, partial(self._trigger, batch))

    def _put(self, batch_id: str, bucket: str, bodies: Mapping[str, bytes]) -> None:
        self.meter.s3["PUT"] += len(bodies)
        self._objects.bodies.update({(bucket, key): body for key, body in bodies.items()})
        self._bodies.setdefault(batch_id, []).extend((bucket, key) for key in bodies)

    def _trigger(self, batch: ClosedBatch) -> None:
        # Received, and deleted after the handler has returned.
        self.meter.sqs_requests += 3
        message = Message("", s3_event(BUCKET, manifest_key(batch.batch_id)), "")

        def work() -> None:
            intake = Intake(
                BUCKET,
                self._stores,
                IMPORTS.datastore_id,
                self.clock.now(),
                block=_never_blocked,
                take_drops=_nothing,
                dispatch=partial(self._dispatch, "trigger_import"),
            )
            trigger_imports([message], intake, NoQueue())

        puts = self.lambdas.seconds("trigger_import", batch.files * self._timing.cpu_per_put)
        before = self._timing.handler + puts
        self.lambdas.invoke("trigger_import", before, work, _nothing)

    def _each_minute(self) -> None:
        if self._is_over:
            return
        self.clock.after(_MINUTE, self._each_minute)
        waits = sum(row.state is BatchState.CLOSED for row in self._batches.rows.values())
        self.tally.waiting.append((self.clock.seconds, waits))

        def work() -> None:
            self._dispatch("dispatch_imports")

        self.lambdas.invoke("dispatch_imports", self._timing.handler, work, _nothing)

    def _dispatch(self, function: str, fresh: Iterable[BatchRecord] = ()) -> int:
        """The product's dispatcher, in the function that it runs in."""
        per_record = self.lambdas.seconds(function, self._timing.cpu_per_record)
        self._holders += 1
        desk = Desk(
            DeskBatches(self._batches, self.clock, self._timing.call, per_record),
            self._gate,
            self,
            self._admission,
            self.clock,
            f"{function}-{self._holders}",
        )
        return dispatch(desk, fresh)

    def _context(self) -> ImportContext:
        files, now = self._files, self.clock.now()
        # Of the results bucket only what a start without an answer left is asked for.
        return ImportContext(self._stores, files, files, self._service, IMPORTS, now)

    def _task(self, state: str, data: dict[str, Any], done: Callable[[Outcome], None]) -> None:
        """Invoke a state's function; what it is the product's code that says."""
        batch, execution = self._fed[data["batchId"]], ImportExecution.parse(data)
        first, images = self._timing.handler, batch.files
        match state:
            case "StartImportJob":
                cpu = images * self._timing.cpu_per_instance
                before = first + self.lambdas.seconds("start_import_job", cpu)
                work = partial(self._start_import, execution)
                self._invoke("start_import_job", before, work, done)
            case "CheckStatus":
                job_id = data["job"]["jobId"]
                before = self._handler("check_status", self._to_record(job_id, images))
                work = partial(self._check_status, execution, job_id)
                self._invoke("check_status", before, work, done)
            case "RecordFailure":
                before = self._handler("record_failure", images)
                work = partial(self._record_failure, data)
                self._invoke("record_failure", before, work, done)
            case _:
                raise NotImplementedError(state)

    def _start_import(self, execution: ImportExecution) -> dict[str, Any]:
        return start_import(execution, self._context())

    def _check_status(self, execution: ImportExecution, job_id: str) -> dict[str, Any]:
        return check_status(execution, job_id, self._context())

    def _record_failure(self, data: dict[str, Any]) -> dict[str, Any]:
        return dict(record_failure(data, self._context()))

    def _invoke(
        self,
        function: str,
        before: float,
        call: Callable[[], dict[str, Any]],
        done: Callable[[Outcome], None],
    ) -> None:
        outcome: Outcome = (None, "")

        def work() -> None:
            nonlocal outcome
            try:
                outcome = call(), ""
            except ProductError as error:
                outcome = None, type(error).__name__

        self.lambdas.invoke(function, before, work, lambda: done(outcome))

    def _handler(self, function: str, images: int) -> float:
        cpu = images * (self._timing.cpu_per_instance + self._timing.cpu_per_put)
        return self._timing.handler + self.lambdas.seconds(function, cpu)

    def _to_record(self, job_id: str, images: int) -> int:
        """How many instances' results a look at the job would find, and record."""
        known = self._jobs.rows.get(job_id)
        is_recorded = known is None or known.job_status.ended
        return 0 if is_recorded or self.jobs.live_job(job_id) else images

    def _job_ended(self, job: Job) -> None:
        batch_id = job.params["clientToken"]
        bodies = result_bodies(job.job_id, job.params, self._files.under[batch_prefix(batch_id)])
        self._put(batch_id, RESULTS, bodies)
        self.clock.after(self._timing.import_event, partial(self._notice, job, _EVENT_RETRIES))

    def _notice(self, job: Job, retries: tuple[float, ...]) -> None:
        batch = self._fed.get(job.params["clientToken"])
        if batch is None:
            return
        detail = {"jobId": job.job_id, "datastoreId": DATASTORE}

        def work() -> None:
            try:
                import_noticed(detail, BUCKET, self._context())
            except ImportThrottled:
                if retries:
                    again = partial(self._notice, job, retries[1:])
                    self.clock.after(retries[0], again)

        before = self._handler("on_import_event", self._to_record(job.job_id, batch.files))
        self.lambdas.invoke("on_import_event", before, work, _nothing)

    def _batch_ended(self, batch: BatchRecord) -> None:
        self.tally.ended[batch.state] += 1
        self.tally.images[batch.state] += self._fed[batch.batch_id].files
        self.tally.done[batch.batch_id] = self.clock.seconds

    def _execution_ended(self, execution: Execution, state: str) -> None:
        """Forget what nobody asks for any more: memory, and the time to search the stores."""
        del state
        batch_id = execution.data["batchId"]
        self._running.remove(batch_id)
        row = self._batches.rows.pop(batch_id)
        if row.job_id:
            self._jobs.rows.pop(row.job_id, None)
            self.jobs.forget(row.job_id)
        for listed in self._files.under.pop(batch_prefix(batch_id)):
            key = InstanceKey.parse(listed.key)
            self._instances.rows.pop(RowKey(key.instance, str(CHECKSUM)))
            self._studies.forget(key.study_instance_uid)
        for place in self._bodies.pop(batch_id):
            del self._objects.bodies[place]
        del self._fed[batch_id]


def _never_blocked(batch_id: str, error: Exception) -> None:
    """Nothing fails here for good."""
    raise NotImplementedError from error


def _nothing() -> None:
    """What comes after an invocation that nobody waits for."""
