"""Batches, result files and a HealthImaging in memory, for the tests of the Lambdas."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from chalicelib.errors import ObjectMissing
from chalicelib.imports import rows
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.inventory import Held
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores.batches import BatchStore
from chalicelib.stores.blocked import MemoryBlocked
from chalicelib.stores.files import Files
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.instances import Change, InstanceStore
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import MemoryOutbox

from contract.checksums import Checksum
from contract.errors import ProductError
from contract.keys import InstanceKey, manifest_key
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, to_metadata
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobStatus,
)

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BATCH = "20261123T093000Z-0001020304050607"
NEWER_BATCH = "20261123T094000Z-0001020304050607"
BUCKET, RESULTS = "dicom", "results"
DATASTORE = "0123456789abcdef0123456789abcdef"
SENDER = Sender("CT1", "STORESCP", "10.0.0.1", "a1")
ARN = "arn:aws:states:us-east-1:123456789012:execution:dicom-import:" + BATCH
SETTINGS = ImportSettings(
    datastore_id=DATASTORE,
    data_access_role_arn="arn:aws:iam::123456789012:role/import",
    results_bucket=RESULTS,
)
EXECUTION = Execution(BATCH, BUCKET, manifest_key(BATCH), ARN)
EVENT: dict[str, Any] = {
    "batchId": BATCH,
    "bucket": BUCKET,
    "manifestKey": manifest_key(BATCH),
    "executionArn": ARN,
}


def an_instance(sop: str, batch_id: str = BATCH) -> ManifestInstance:
    return ManifestInstance(
        key=str(InstanceKey(batch_id, "1.2", "1.2.3", sop)),
        size=10,
        checksum=Checksum.of(sop.encode()),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=sop,
        series_instance_uid="1.2.3",
        study_instance_uid="1.2",
        study_date="20261123",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def a_manifest(count: int = 2, datastore_id: str | None = None, batch_id: str = BATCH) -> Manifest:
    return Manifest(
        batch_id=batch_id,
        closed_at=NOW,
        close_reason=CloseReason.QUIET,
        source=Source("CT1", "STORESCP", ("10.0.0.1",), ("a1",)),
        datastore_id=datastore_id,
        instances=tuple(an_instance(f"1.2.3.{number + 1}", batch_id) for number in range(count)),
    )


def instance_rows(
    manifest: Manifest,
    state: InstanceState,
    now: datetime,
    *,
    datastore_id: str = DATASTORE,
    job_id: str | None = None,
    reason: str | None = None,
) -> list[InstanceRecord]:
    """Every instance of a batch in one and the same state."""
    made = rows.instance_rows(manifest, manifest.datastore_id or datastore_id, state, now)
    return [replace(row, job_id=job_id, reason=reason) for row in made]


def instance_row(
    batch_id: str,
    instance: ManifestInstance,
    state: InstanceState,
    now: datetime,
    *,
    datastore_id: str = DATASTORE,
    job_id: str | None = None,
    reason: str | None = None,
) -> InstanceRecord:
    """One instance's row."""
    made = rows.instance_row(batch_id, datastore_id, instance, state, now)
    return replace(made, job_id=job_id, reason=reason)


def a_batch(state: BatchState = BatchState.CLOSED, batch_id: str = BATCH) -> BatchRecord:
    return BatchRecord(
        batch_id=batch_id,
        state=state,
        calling_ae_title="CT1",
        opened_at=NOW,
        counts=Counts(2),
        manifest_key=manifest_key(batch_id),
        closed_at=NOW,
    )


def memory_stores(manifest: Manifest | None = None) -> Stores:
    """With a manifest: its batch as it is when its execution begins."""
    batches = MemoryBatches()
    studies = MemoryStudies(MemoryOutbox(batches))
    stores = Stores(
        MemoryObjects(),
        MemoryJobs(),
        batches,
        MemoryInstances(),
        studies,
        MemoryImageSets(),
        MemoryBlocked(),
    )
    if manifest is not None:
        keep_batch(stores, manifest)
    return stores


def keep_batch(stores: Stores, manifest: Manifest) -> None:
    """A batch whose turn it is."""
    batch_id, objects, batches = manifest.batch_id, stores.objects, stores.batches
    assert isinstance(objects, MemoryObjects)
    assert isinstance(batches, MemoryBatches)
    objects.bodies[BUCKET, manifest_key(batch_id)] = manifest.to_json()
    objects.bodies |= {(BUCKET, each.key): a_body(each) for each in manifest.instances}
    batch = a_batch(BatchState.IMPORTING, batch_id)
    batches.rows[batch_id] = replace(batch, datastore_id=manifest.datastore_id or DATASTORE)


def a_body(instance: ManifestInstance) -> bytes:
    """Equal bytes for equal checksums, whatever batch they are in."""
    plain = instance.sop_instance_uid.encode()
    is_plain = instance.checksum == Checksum.of(plain)
    return plain if is_plain else str(instance.checksum).encode()


def keep_metadata(stores: Stores, each: ManifestInstance) -> None:
    """As the receiver puts it on an instance's object."""
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.metadata[BUCKET, each.key] = to_metadata(
        InstanceKey.parse(each.key), each.sop_class_uid, each.transfer_syntax_uid,
        each.study_date, each.checksum, SENDER, Target("study", "0" * 32, urgent=True),
    )  # fmt: skip


def overwrite(store: InstanceStore, rows: Sequence[InstanceRecord]) -> None:
    """Rows as they are to be, whatever stood there."""
    known = store.get_many(row.row_key for row in rows)
    assert not store.swap_many([Change(known.get(row.row_key), row) for row in rows])


def is_there(_: str) -> bool:
    """Every object exists."""
    return True


def the_row(stores: Stores, sop_instance_uid: str = "1.2.3.1") -> InstanceRecord:
    """The only one of a SOP Instance UID."""
    (row,) = stores.instances.by_sop_instance(sop_instance_uid)
    return row


def rows_by_uid(stores: Stores, study: str = "1.2") -> dict[str, InstanceRecord]:
    """A study's rows, of which each has a SOP Instance UID of its own."""
    rows = list(stores.instances.by_study(study))
    found = {row.sop_instance_uid: row for row in rows}
    assert len(found) == len(rows)
    return found


def in_state(batches: BatchStore, state: BatchState) -> list[BatchRecord]:
    """A state's batches, the oldest first."""
    return list(batches.get_many([line.batch_id for line in batches.lines(state)]).values())


def files_of(stores: Stores) -> MemoryFiles:
    assert isinstance(stores.objects, MemoryObjects)
    return MemoryFiles(stores.objects, BUCKET)


def remove(files: Files, keys: Iterable[str]) -> None:
    """Delete objects as somebody else does, whatever stands there; or not, if nothing does."""
    for key in keys:
        with suppress(ObjectMissing):
            files.delete(key, files.head(key).etag)


def outbox_of(stores: Stores) -> MemoryOutbox:
    assert isinstance(stores.studies, MemoryStudies)
    return stores.studies.outbox


def a_context(
    stores: Stores,
    service: "FakeHealthImaging",
    now: datetime = NOW,
    settings: ImportSettings = SETTINGS,
) -> ImportContext:
    assert isinstance(stores.objects, MemoryObjects)
    results = MemoryFiles(stores.objects, RESULTS)
    return ImportContext(stores, files_of(stores), results, service, settings, now)


RUNNING = ImportView(JobStatus.IN_PROGRESS, f"s3://{RESULTS}/{BATCH}/")


@dataclass
class FakeHealthImaging:
    """An ImportService: ``faults`` are raised first, one a call; jobs then stand as ``view``."""

    faults: list[ProductError] = field(default_factory=list)
    view: ImportView | None = RUNNING
    started: list[ImportRequest] = field(default_factory=list)
    job_id: str = "job1"
    on_start: Callable[[], None] = lambda: None
    # What ListDICOMImportJobs shows, by job name, to who asks for the status of ``view``.
    listed: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    # The answer to every start.
    refused: ProductError | None = None
    held: dict[str, Held] = field(default_factory=dict)

    def start(self, request: ImportRequest) -> str:
        """The same job for the same batch, as the clientToken has it."""
        if self.faults:
            raise self.faults.pop(0)
        if self.refused is not None:
            raise self.refused
        self.started.append(request)
        self.on_start()
        return self.job_id

    def find(self, datastore_id: str, job_name: str, statuses: Sequence[JobStatus]) -> str | None:
        """See ImportService."""
        if self.faults:
            raise self.faults.pop(0)
        is_asked_for = self.view is not None and self.view.status in statuses
        return self.listed.get(job_name) if is_asked_for else None

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:
        """See ImportService."""
        if self.faults:
            raise self.faults.pop(0)
        return self.held

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:
        """See ImportService."""
        if self.faults:
            raise self.faults.pop(0)
        return image_set_id not in self.gone

    def look(self, datastore_id: str, job_id: str) -> ImportView | None:
        """See ImportService."""
        if self.faults:
            raise self.faults.pop(0)
        return self.view


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in documents)


def success(key: str, image_set: str = "a" * 32, primary: bool | None = True) -> dict[str, Any]:
    return {
        "inputFile": key,
        "importResponse": {"imageSetId": image_set, "isPrimary": primary},
    }


def failed(key: str, message: str = "DICOM attributes does not exist") -> dict[str, Any]:
    exception = {"exceptionType": "ValidationException", "message": message}
    return {"inputFile": key, "exception": exception}


def summary(imported: int = 0, customer_errors: int = 0, server_errors: int = 0) -> bytes:
    document = {
        "numberOfImportedFiles": imported,
        "numberOfFilesWithCustomerError": customer_errors,
        "numberOfFilesWithServerError": server_errors,
    }
    return json.dumps({"jobSummary": document}).encode()


def keep_results(
    stores: Stores, *, batch_id: str = BATCH, job_id: str = "job1", **files: bytes
) -> None:
    """Put result files where HealthImaging puts those of a batch's job."""
    where = {
        "summary": "job-output-manifest.json",
        "success": "SUCCESS/success.ndjson",
        "failure": "FAILURE/failure.ndjson",
        "warning": "WARNING/warning.ndjson",
    }
    assert isinstance(stores.objects, MemoryObjects)
    for name, body in files.items():
        key = f"{batch_id}/{DATASTORE}-DicomImport-{job_id}/{where[name]}"
        stores.objects.bodies[RESULTS, key] = body
