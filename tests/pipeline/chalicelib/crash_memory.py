"""The world in memory: the handlers run on the adapters' twins, wired as they are on AWS."""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from chalicelib import threads, wiring
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.operations import setup
from chalicelib.operations.journal import MemoryJournal
from chalicelib.stores import items
from chalicelib.stores.instances import Change
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import (
    MemoryBatches,
    MemoryGate,
    MemoryInstances,
    MemoryJobs,
    MemoryObjects,
)
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.outbox import MemoryOutbox
from chalicelib.stores.studies import MemoryStudies, study_key

from contract.records import JobStatus
from contract.times import to_iso
from local.healthimaging import install
from local.healthimaging.jobs import ImportRunner
from local.healthimaging.limits import S3Object
from local.healthimaging.models import MedicalImagingBackend
from local.healthimaging.storage import S3Objects, StoredFiles
from tests.pipeline.aws_mock import ACCOUNT, REGION
from tests.pipeline.chalicelib.crash_world import (
    BUCKET,
    NOW,
    RESULTS,
    Calls,
    Json,
    World,
    described,
    set_environment,
    take_time_from,
    upload_key,
)


class Watched:
    """A port each of whose calls is one of the handler's, and is over before the next begins."""

    def __init__(self, name: str, port: object, calls: Calls, lock: threading.RLock) -> None:
        self._name, self._port, self._calls, self._lock = name, port, calls, lock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self._calls.asked(name)
                answer = found(*arguments, **named)
                self._calls.answered(f"{self._name}:{name}")
            return answer

        return call


class WatchedInstances(Watched):
    """Rows are written one by one, so that a handler may die between two."""

    def swap_many(self, changes: Sequence[Change]) -> frozenset[str]:
        swap = self.__getattr__("swap_many")
        return frozenset(uid for change in changes for uid in swap([change]))


class Mover:
    """The two calls that moving an object is."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects

    def copy_object(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        body = self._objects.read(bucket, key, sys.maxsize)
        self._objects.move(bucket, key, target, metadata)
        self._objects.bodies[bucket, key] = body

    def delete_object(self, bucket: str, key: str) -> None:
        MemoryFiles(self._objects, bucket).delete([key])


class WatchedObjects(Watched):
    """A handler may die between the two calls of a move."""

    def move(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        assert isinstance(self._port, MemoryObjects)
        mover = Watched(self._name, Mover(self._port), self._calls, self._lock)
        mover.copy_object(bucket, key, target, metadata)
        mover.delete_object(bucket, key)


class InTurn:
    """Stands in for ThreadPoolExecutor: the same calls in the same order in every run."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> "InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[Any]:
        """All are tried, as in threads, unless the process dies."""
        answers, errors = [], []
        for value in values:
            try:
                answers.append(function(value))
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]
        return iter(answers)


@dataclass
class MemoryWorkflow:
    """A Workflow whose executions run for ever."""

    executions: dict[str, str] = field(default_factory=dict)

    def start(self, execution: Execution, attempt: int = 0) -> bool:
        name = f"{execution.batch_id}-{attempt}" if attempt else execution.batch_id
        asked = execution.to_input()
        return self.executions.setdefault(name, asked) == asked


@dataclass
class MemoryQueue:
    """A Queue."""

    deleted: list[str] = field(default_factory=list)

    def delete(self, receipt_handles: Iterable[str]) -> None:
        self.deleted += receipt_handles


@dataclass
class MemoryBus:
    """An EventsClient."""

    sent: list[Mapping[str, Any]] = field(default_factory=list)

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:  # noqa: N803
        self.sent += Entries
        return {"Entries": [{"EventId": "x"} for _ in Entries]}


class EmulatorsObjects(S3Objects):
    """What HealthImaging reads and writes."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects

    def list(self, bucket: str, prefix: str, owner: str | None) -> list[S3Object]:
        found = MemoryFiles(self._objects, bucket).list(prefix)
        return [S3Object(each.key, each.size) for each in found]

    def read(self, bucket: str, key: str, owner: str | None) -> bytes | None:
        return self._objects.bodies.get((bucket, key))

    def write(self, bucket: str, key: str, body: bytes) -> None:
        self._objects.bodies[bucket, key] = body

    def require(self, bucket: str) -> None:
        assert bucket == RESULTS


class KeptFiles(StoredFiles):
    """What a data store keeps: nobody reads it here."""

    def put(self, stored_id: str, data: bytes) -> None:
        pass


class EmulatedImaging:
    """An ImportService: the emulator's own backend, without HTTP."""

    def __init__(self, objects: MemoryObjects) -> None:
        self.backend = MedicalImagingBackend(REGION, ACCOUNT)
        self.backend._runner = ImportRunner(
            install(), EmulatorsObjects(objects), KeptFiles(), self.backend._lock
        )
        parameters = {"datastoreName": "d", "clientToken": "t"}
        self.datastore_id = self.backend.create_datastore(parameters).datastore_id

    def start(self, request: ImportRequest) -> str:
        parameters = {
            "jobName": request.batch_id,
            "clientToken": request.batch_id,
            "datastoreId": request.datastore_id,
            "dataAccessRoleArn": request.data_access_role_arn,
            "inputS3Uri": request.input_s3_uri,
            "outputS3Uri": request.output_s3_uri,
        }
        return self.backend.start_import_job(parameters).job_id

    def look(self, datastore_id: str, job_id: str) -> ImportView:
        job = self.backend.import_job(datastore_id, job_id)
        return ImportView(JobStatus(job.status), job.output_s3_uri, job.message)


class Memory(World):
    """The world on the twins."""

    batches: MemoryBatches
    instances: MemoryInstances
    jobs: MemoryJobs

    def __init__(self) -> None:
        super().__init__(install())
        self.objects = MemoryObjects()
        self.batches, self.instances, self.jobs = MemoryBatches(), MemoryInstances(), MemoryJobs()
        self.outbox = MemoryOutbox(self.batches)
        self.studies = MemoryStudies(self.outbox)
        self.gate, self.journal = MemoryGate(), MemoryJournal()
        self.locks: dict[str, MemoryLock] = {}
        self.workflow, self.queue, self.bus = MemoryWorkflow(), MemoryQueue(), MemoryBus()
        self.imaging = EmulatedImaging(self.objects)
        self.datastore_id = self.imaging.datastore_id
        self._lock = threading.RLock()

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        self.files(BUCKET).put(key, body)
        self.objects.metadata[BUCKET, key] = metadata or {}

    def remove(self, key: str) -> None:
        self.files(BUCKET).delete([key])

    def files(self, bucket: str) -> MemoryFiles:
        return MemoryFiles(self.objects, bucket, NOW)

    def begin_upload(self, batch_id: str) -> None:
        self.objects.uploads.append((BUCKET, upload_key(batch_id)))

    def read_events(self) -> Sequence[Mapping[str, Any]]:
        sent, self.bus.sent = self.bus.sent, []
        return [
            {"detail-type": each["DetailType"], "detail": json.loads(each["Detail"])}
            for each in sent
        ]

    def state(self) -> Json:
        objects = self.objects
        return {
            "tables": {
                "DicomBatchTable": [*self._batch_items(), *self._other_items()],
                "DicomImportJobTable": [items.job_item(row) for row in self.jobs.rows.values()],
                "DicomInstanceTable": [
                    items.instance_item(row) for _, row in sorted(self.instances.rows.items())
                ],
            },
            "objects": {
                f"{bucket}/{key}": described(key, body, objects.metadata.get((bucket, key), {}))
                for (bucket, key), body in objects.bodies.items()
            },
            "uploads": [key for _, key in objects.uploads],
            "executions": sorted(self.workflow.executions),
            "jobs": sorted(
                [each.job_name, str(each.status)]
                for each in self.imaging.backend.import_jobs(self.datastore_id, None)
            ),
        }

    def _batch_items(self) -> Iterator[Json]:
        for batch_id, row in sorted(self.batches.rows.items()):
            yield items.batch_item(row) | self._due(batch_id)

    def _other_items(self) -> Iterator[Json]:
        """What else DynamoDB's table of batches holds."""
        for uid, study in sorted(self.studies.rows.items()):
            batches = {"batches": sorted(study.batch_ids)} if study.batch_ids else {}
            key = study_key(uid)
            yield {"batchId": key, "changes": study.changes} | batches | self._due(key)
        for key, event in sorted(self.outbox.events.items()):
            due = self._due(key)
            told = {"detail": json.dumps(event.detail)} if due else {}
            yield {"batchId": key, "eventType": event.type} | told | due
        for subject, entry in sorted(self.journal.entries.items()):
            yield {"batchId": subject, "newBatchId": entry.batch_id, "reason": entry.reason,
                   "requestedAt": to_iso(entry.requested_at)}  # fmt: skip
        for name, lock in sorted(self.locks.items()):
            yield {"batchId": name} | ({"holder": lock.holder} if lock.holder else {})
        gate = self.gate.gate
        yield {"batchId": "admission", "asked": gate.asked, "recent": list(gate.recent),
               "holder": self.gate.holder, "nextStartAt": str(gate.next_start)}  # fmt: skip

    def _due(self, key: str) -> Json:
        entry = self.outbox._entry(key)
        return {} if entry is None else {"due": str(entry[0]), "dueAt": to_iso(entry[1])}

    def wire(self, patch: pytest.MonkeyPatch) -> None:
        """``wiring`` and ``setup`` make twins where they would make adapters."""

        def watched(name: str, port: object, kind: type[Watched] = Watched) -> Callable[..., Any]:
            port = kind(name, port, self.calls, self._lock)
            return lambda *_: port

        def files(_: object, bucket: str) -> Any:
            return watched("s3", self.files(bucket))()

        def lock(_: object, __: str, name: str) -> Any:
            return watched("lock", self.locks.setdefault(name, MemoryLock()))()

        twins = {
            "S3Objects": watched("s3", self.objects, WatchedObjects),
            "DynamoJobs": watched("jobs", self.jobs),
            "DynamoBatches": watched("batches", self.batches),
            "DynamoInstances": watched("instances", self.instances, WatchedInstances),
            "DynamoStudies": watched("studies", self.studies),
            "DynamoOutbox": watched("outbox", self.outbox),
            "DynamoGate": watched("gate", self.gate),
            "DynamoLock": lock,
            "S3Files": files,
            "HealthImaging": watched("medical-imaging", self.imaging),
            "SqsQueue": watched("sqs", self.queue),
            "StateMachine": watched("stepfunctions", self.workflow),
        }
        for name, twin in twins.items():
            patch.setattr(wiring, name, twin)
        patch.setattr(setup, "S3Files", files)
        patch.setattr(setup, "DynamoJournal", watched("journal", self.journal))
        for module in (wiring, setup):
            patch.setattr(module, "aws", _NoClients(watched("events", self.bus)()))
        patch.setattr(threads, "ThreadPoolExecutor", InTurn)


@dataclass(frozen=True)
class _NoClients:
    """Stands in for ``chalicelib.aws``: only the bus is reached by its client."""

    bus: Any

    def events(self) -> Any:
        return self.bus

    def _none(self) -> None:
        return None

    s3 = sqs = dynamodb = stepfunctions = healthimaging = _none


@contextmanager
def in_memory() -> Iterator[Memory]:
    with pytest.MonkeyPatch.context() as patch:
        world = Memory()
        set_environment(world, patch)
        take_time_from(world, patch)
        world.wire(patch)
        forget()
        try:
            yield world
        finally:
            install().shutdown()
            forget()


def forget() -> None:
    """Settings and stores are another world's."""
    wiring.settings.cache_clear()
    wiring.stores.cache_clear()
