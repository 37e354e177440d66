"""A batch of which some instances failed, and what an operator may do with it, in memory."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import (
    ObjectDenied,
)
from chalicelib.imports.aside import failed_key, move_all
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.late import ask_again
from chalicelib.imports.start import start_import
from chalicelib.intake.trigger import close_batch
from chalicelib.operations.journal import Entry, MemoryJournal
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryBatches
from chalicelib.stores.memory_files import MemoryFiles

from contract.keys import InstanceKey, manifest_key
from contract.manifest import Manifest
from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    instance_row,
    keep_metadata,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    success,
    summary,
    the_row,
)

LATER = NOW + timedelta(hours=2)


WHY = "the data store was full"


FAILED = "1.2.3.1", "1.2.3.2"


def a_partial_batch() -> Stores:
    """Of its four instances two have failed, one is imported, one was sent again since."""
    manifest = a_manifest(4)
    stores = memory_stores(manifest)
    for each in manifest.instances:
        keep_metadata(stores, each)
    batches, instances = stores.batches, stores.instances
    assert isinstance(batches, MemoryBatches)
    batches.rows[BATCH] = replace(batches.rows[BATCH], state=BatchState.PARTIAL)
    rows = [
        replace(
            instance_row(BATCH, each, InstanceState.FAILED, NOW, job_id="job1", reason="why"),
            key=failed_key(each.key),
        )
        for each in manifest.instances
    ]
    moved = InstanceKey(NEWER_BATCH, "1.2", "1.2.3", "1.2.3.4")
    rows[2] = replace(rows[2], state=InstanceState.IMPORTED, reason=None)
    rows[3] = replace(rows[3], batch_id=NEWER_BATCH, key=str(moved))
    overwrite(instances, rows)
    failed = [each.key for each in manifest.instances[:2]]
    move_all(files_of(stores), failed, failed_key, "why")
    return stores


@dataclass
class Desk:
    stores: Stores = field(default_factory=a_partial_batch)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    service: FakeHealthImaging = field(default_factory=FakeHealthImaging)

    @property
    def files(self) -> MemoryFiles:
        return files_of(self.stores)

    def operations(self, files: Any = None, journal: Any = None, **stores: Any) -> Operations:
        imports = a_context(replace(self.stores, **stores), self.service, LATER)
        return Operations(replace(imports, files=files or self.files), journal or self.journal)

    def manifest(self, batch_id: str) -> Manifest:
        return Manifest.from_json(self.files.read(manifest_key(batch_id), 10**6))

    def keys(self, prefix: str) -> list[str]:
        return [each.key for each in self.files.list(prefix)]

    def row(self, uid: str) -> Any:
        return the_row(self.stores, uid)

    def state(self, batch_id: str) -> BatchState | None:
        batch = self.stores.batches.get(batch_id)
        return batch.state if batch else None

    def close(self, batch_id: str) -> None:
        """What the manifest's event does."""
        assert close_batch(BUCKET, manifest_key(batch_id), self.stores, DATASTORE, LATER)


def retry(operations: Operations) -> Entry:
    return retry_batch(BATCH, WHY, operations)


def release(operations: Operations) -> Entry:
    return release_instance("1.2.3.1", WHY, None, operations)


KEYS = [each.key for each in a_manifest(4).instances]


def a_failed_batch(view: ImportView | None) -> Desk:
    """Its job is recorded FAILED; HealthImaging says ``view`` of it now, and has its results."""
    desk = Desk()
    stores = desk.stores
    start_import(EXECUTION, a_context(memory := memory_stores(a_manifest(4)), desk.service))
    job = memory.jobs.get("job1")
    assert job is not None
    assert isinstance(stores.batches, MemoryBatches)
    stores.jobs.create(replace(job, job_status=JobStatus.FAILED, counts=Counts(4, failed=4)))
    stores.batches.rows[BATCH] = replace(
        stores.batches.rows[BATCH],
        state=BatchState.FAILED,
        job_id="job1",
        counts=Counts(4, failed=4),
    )
    desk.service.view = view
    return desk


RUNNING = ImportView(JobStatus.IN_PROGRESS, f"s3://{RESULTS}/{BATCH}/")


COMPLETED = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")


def repeat(desk: Desk, operation: str) -> Entry:
    if operation == "retry":
        return retry_batch(BATCH, WHY, desk.operations())
    return release_instance("1.2.3.1", WHY, None, desk.operations())


def an_imported_batch() -> Desk:
    desk = a_failed_batch(COMPLETED)
    body = lines(*(success(key) for key in KEYS))
    keep_results(desk.stores, summary=summary(4), success=body)
    batch = desk.stores.batches.get(BATCH)
    assert batch is not None
    ask_again(batch, a_context(desk.stores, desk.service))
    return desk


def archived(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """S3 tells of these objects, and does not let them be copied."""
    real = MemoryFiles.copy

    def copy(files: MemoryFiles, source: StoredObject, *arguments: Any) -> Any:
        if source.key in keys:
            raise ObjectDenied("CopyObject: ObjectNotInActiveTierError")
        return real(files, source, *arguments)

    monkeypatch.setattr(MemoryFiles, "copy", copy)
