"""What the handlers run on in memory, beside the twins that ``chalicelib`` has of its stores."""

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.inventory import Held
from chalicelib.stores.instances import Change
from chalicelib.stores.memory import (
    MemoryObjects,
)
from chalicelib.stores.memory_files import MemoryFiles

from contract.records import JobStatus
from local.healthimaging import install
from local.healthimaging.jobs import ImportRunner
from local.healthimaging.limits import S3Object
from local.healthimaging.models import MedicalImagingBackend
from local.healthimaging.storage import S3Objects, StoredFiles
from tests.pipeline.aws_mock import ACCOUNT, REGION
from tests.pipeline.chalicelib.crash_world import (
    RESULTS,
    Calls,
)
from tests.unit.chalicelib import builders


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
        builders.remove(MemoryFiles(self._objects, bucket), [key])


class WatchedObjects(Watched):
    """A handler may die between the two calls of a move."""

    def move(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        assert isinstance(self._port, MemoryObjects)
        mover = Watched(self._name, Mover(self._port), self._calls, self._lock)
        mover.copy_object(bucket, key, target, metadata)
        mover.delete_object(bucket, key)


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
        job_id = self.backend.start_import_job(parameters).job_id
        if install().take_lost_answer():
            raise ServiceUnavailable("no answer")
        return job_id

    def find(self, datastore_id: str, job_name: str, statuses: Sequence[JobStatus]) -> str | None:
        jobs = [
            each for status in statuses for each in self.backend.import_jobs(datastore_id, status)
        ]
        return next((each.job_id for each in jobs if each.job_name == job_name), None)

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:
        return {
            uid: Held(each.image_set_id, each.latest.number, each.is_primary)
            for each in self.backend.datastore(datastore_id).image_sets.values()
            for uid, instance in each.latest.instances.items()
            if instance.attributes["StudyInstanceUID"] == study_instance_uid
        }

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:
        return image_set_id in self.backend.datastore(datastore_id).image_sets

    def look(self, datastore_id: str, job_id: str) -> ImportView | None:
        job = self.backend.import_job(datastore_id, job_id)
        name = job.job_name
        return ImportView(JobStatus(job.status), job.output_s3_uri, job.message, job_name=name)
