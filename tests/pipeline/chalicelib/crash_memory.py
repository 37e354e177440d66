"""The world in memory: the handlers run on the adapters' twins, wired as they are on AWS."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from chalicelib import threads, wiring
from chalicelib.operations import setup
from chalicelib.operations.journal import MemoryJournal
from chalicelib.stores import items
from chalicelib.stores.blocked import MemoryBlocked
from chalicelib.stores.image_sets import MemoryImageSets, image_set_key
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import (
    MemoryBatches,
    MemoryGate,
    MemoryInstances,
    MemoryJobs,
    MemoryObjects,
)
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import MemoryOutbox
from chalicelib.stores.studies import STUDY
from moto.core.base_backend import BackendDict

from contract.times import to_iso
from local.healthimaging import install
from local.healthimaging.models import MedicalImagingBackend
from tests.pipeline.chalicelib.crash_snapshot import Json, described
from tests.pipeline.chalicelib.crash_twins import (
    EmulatedImaging,
    MemoryBus,
    MemoryQueue,
    MemoryWorkflow,
    Watched,
    WatchedInstances,
    WatchedObjects,
)
from tests.pipeline.chalicelib.crash_world import (
    BUCKET,
    NOW,
    RESULTS,
    World,
    checksum_of,
    set_environment,
    take_time_from,
    upload_key,
)
from tests.unit.chalicelib import builders
from tests.unit.chalicelib.in_turn import InTurn


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
        self.image_sets = MemoryImageSets()
        self.gate, self.journal, self.blocked = MemoryGate(), MemoryJournal(), MemoryBlocked()
        self.locks: dict[str, MemoryLock] = {}
        self.workflow, self.queue, self.bus = MemoryWorkflow(), MemoryQueue(), MemoryBus()
        self.imaging = EmulatedImaging(self.objects)
        self.datastore_id = self.imaging.datastore_id
        self._lock = threading.RLock()

    def remove_results(self) -> None:
        results = self.files(RESULTS)
        builders.remove(results, [each.key for each in results.list("")])

    @property
    def healthimaging(self) -> MedicalImagingBackend:
        return self.imaging.backend

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        self.files(BUCKET).put(key, body)
        self.objects.metadata[BUCKET, key] = metadata or {}

    def remove(self, key: str) -> None:
        builders.remove(self.files(BUCKET), [key])

    def files(self, bucket: str) -> MemoryFiles:
        return MemoryFiles(self.objects, bucket, NOW, checksum_of)

    def forget_job(self, job_id: str) -> None:
        del self.jobs.rows[job_id]

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
                "DicomBatchRecordTable": [*self._batch_items(), *self._other_items()],
                "DicomImportJobTable": [items.job_row(row) for row in self.jobs.rows.values()],
                "DicomStudyTable": [*self._study_items()],
                "DicomInstanceRecordTable": [
                    items.instance_row(row) for row in self.instances.rows.values()
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
            yield items.batch_row(row) | self._due(batch_id)

    def _study_items(self) -> Iterator[Json]:
        for uid, study in self.studies.rows.items():
            due = study.due_at
            yield {
                "studyInstanceUID": uid,
                "item": STUDY,
                "changes": study.changes,
                **({"batches": sorted(study.batch_ids)} if study.batch_ids else {}),
                **({"due": "quiet", "dueAt": to_iso(due)} if due else {}),
                **self._link(uid, STUDY),
            }
        for uid, item in self.studies.links:
            if item != STUDY:
                yield {"studyInstanceUID": uid, "item": item, **self._link(uid, item)}
        for uid, key in self.studies.jobs:
            yield {"studyInstanceUID": uid, "item": f"job#{key}"}

    def _link(self, uid: str, item: str) -> Json:
        if (uid, item) not in self.studies.links:
            return {}
        link, key = self.studies.links[uid, item]
        return {"link": link, "linkKey": key, "firstReceivedAt": key.partition("#")[0]}

    def _other_items(self) -> Iterator[Json]:
        """What else DynamoDB's table of batches holds."""
        for key, event in sorted(self.outbox.events.items()):
            due = self._due(key)
            told = {"detail": json.dumps(event.detail)} if due else {}
            yield {"batchId": key, "eventType": event.type} | told | due
        for (work, subject), record in sorted(self.blocked.records.items()):
            yield {"batchId": f"blocked:{work}:{subject}", "reason": record.reason}
        for subject, entry in sorted(self.journal.entries.items()):
            yield {"batchId": subject, "newBatchId": entry.batch_id, "reason": entry.reason,
                   "requestedAt": to_iso(entry.requested_at)}  # fmt: skip
            yield {"batchId": f"request:{entry.batch_id}", "subject": subject,
                   "reason": entry.reason, "requestedAt": to_iso(entry.requested_at)}  # fmt: skip
        for image_set_id, (uid_or_none, at) in sorted(self.image_sets.rows.items()):
            noted = {"studyInstanceUID": uid_or_none} if uid_or_none else {}
            deleted = {"deletedAt": to_iso(at)} if at else {}
            yield {"batchId": image_set_key(image_set_id)} | noted | deleted
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
            "DynamoImageSets": watched("image_sets", self.image_sets),
            "DynamoBlocked": watched("blocked", self.blocked),
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

    s3 = sqs = dynamodb = stepfunctions = healthimaging = healthimaging_starts = _none


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
            # The emulator's data stores are the process's, and not this world's.
            BackendDict.reset()
            forget()


def forget() -> None:
    """Settings and stores are another world's."""
    wiring.settings.cache_clear()
    wiring.stores.cache_clear()
