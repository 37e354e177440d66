"""Somebody has deleted the record of a batch whose import goes on: it comes back, with its job."""

from dataclasses import replace
from typing import Any

import pytest
from chalicelib.errors import ObjectDenied, ServiceUnavailable
from chalicelib.imports.aside import duplicate_key, move_all
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.notice import import_noticed
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.trigger import close_batch
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryBatches, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.keys import manifest_key
from contract.records import BatchRecord, BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    EXECUTION,
    NOW,
    SETTINGS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    instance_rows,
    keep_metadata,
    memory_stores,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.steps import FOLDER, LATER, Forgetful, completed, start, states

KEY = manifest_key(BATCH)
pytestmark = pytest.mark.fault("record-deleted")
LOST = EVENT | {"error": {"Error": "ServiceUnavailable", "Cause": "{}"}}
WITH_JOB = LOST | {"job": {"jobId": "job1"}}


@pytest.fixture
def stores() -> Stores:
    stores = memory_stores(a_manifest(2))
    rows = instance_rows(a_manifest(2), InstanceState.RECEIVED, NOW)
    ledger.register(stores.instances, rows)
    return stores


def delete_record(stores: Stores) -> None:
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows.clear()


def batch_of(stores: Stores) -> BatchRecord:
    batch = stores.batches.get(BATCH)
    assert batch is not None
    return batch


def ends(stores: Stores) -> list[tuple[InstanceState, str | None, str | None]]:
    rows = stores.instances.by_study("1.2")
    return [(row.state, row.job_id, row.reason) for row in rows]


def start_unanswered(stores: Stores) -> Forgetful:
    """HealthImaging has the job, and lists it."""
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.listed[BATCH] = "job1"
    return service


def test_a_batch_whose_record_is_gone_may_have_a_job_all_the_same(stores: Stores) -> None:
    """Its start had no answer, and the mark that says so was in that record."""
    service = start_unanswered(stores)
    service.listed.clear()
    delete_record(stores)
    event = EVENT | {"error": {"Error": "ImportRefused", "Cause": "{}"}}
    with pytest.raises(ServiceUnavailable, match="may not be listed yet"):
        record_failure(event, a_context(stores, service))
    assert states(stores) == [InstanceState.RECEIVED] * 2
    service.listed[BATCH] = "job1"
    assert record_failure(event, a_context(stores, service))["status"] == "IN_PROGRESS"
    batch = batch_of(stores)
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")


@pytest.mark.parametrize("number", range(4))
def test_a_batch_that_is_recorded_again_is_marked_from_its_first_write(
    stores: Stores, number: int
) -> None:
    """The Lambda dies behind any call: the next try must look for the job all the same."""
    delete_record(stores)
    calls = Calls({number: die})
    dying = replace(stores, batches=calls.port(stores.batches))
    with pytest.raises(Crash):
        record_failure(EVENT, a_context(dying, FakeHealthImaging()))
    with pytest.raises(ServiceUnavailable, match="may not be listed yet"):
        record_failure(EVENT, a_context(stores, FakeHealthImaging()))


def test_a_batch_whose_record_is_gone_keeps_the_job_that_the_execution_knows(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    delete_record(stores)
    event = EVENT | {"job": {"jobId": "job1"}, "error": {"Error": "KeyError", "Cause": "{}"}}
    assert record_failure(event, a_context(stores, service))["status"] == "IN_PROGRESS"
    batch = batch_of(stores)
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")
    assert (batch.start_asked_at, batch.admitted_at) == (None, NOW)
    assert batch.calling_ae_title == "CT1"


@pytest.mark.parametrize("jobs_record", ["there", "gone"])
def test_a_batch_that_was_imported_and_is_closed_again_gets_no_second_job(
    stores: Stores, service: FakeHealthImaging, jobs_record: str
) -> None:
    """S3 sends the event of its manifest again, or reconciliation finds the manifest."""
    completed(stores, service)
    assert check_status(EXECUTION, "job1", a_context(stores, service))["status"] == "COMPLETED"
    before = ends(stores)
    delete_record(stores)
    if jobs_record == "gone":
        assert isinstance(stores.jobs, MemoryJobs)
        stores.jobs.rows.clear()
    closed = close_batch(BUCKET, KEY, stores, DATASTORE, LATER)
    assert closed
    assert closed.job_id == "job1"
    assert start_import(EXECUTION, a_context(stores, service, LATER))["jobId"] == "job1"
    assert len(service.started) == 1
    answer = check_status(EXECUTION, "job1", a_context(stores, service, LATER))
    assert answer["status"] == "COMPLETED"
    assert (batch_of(stores).state, batch_of(stores).job_id) == (BatchState.PARTIAL, "job1")
    assert ends(stores) == before


def test_a_batch_whose_failed_job_was_recorded_without_it_ends_all_the_same(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """HealthImaging's event came while the record was gone; one instance is a duplicate."""
    start(stores, service)
    service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
    move_all(files_of(stores), [a_manifest(2).instances[0].key], duplicate_key, "another's")
    delete_record(stores)
    detail = {"jobId": "job1", "datastoreId": DATASTORE, "jobName": BATCH}
    import_noticed(detail, BUCKET, a_context(stores, service))
    assert record_failure(WITH_JOB, a_context(stores, service))["status"] == "FAILED"
    assert batch_of(stores).state is BatchState.PARTIAL
    assert batch_of(stores).counts == Counts(2, imported=1, failed=1, duplicates=1)


def test_a_crash_before_a_batch_is_recorded_leaves_it_as_new_as_it_was() -> None:
    """A dropped batch has no record before: a start that is refused ends it at once."""
    stores = memory_stores(a_manifest(2))
    delete_record(stores)
    dying = replace(stores, batches=Calls({0: die}).port(stores.batches))
    rows = instance_rows(a_manifest(2), InstanceState.RECEIVED, NOW)
    ledger.register(stores.instances, rows)
    with pytest.raises(Crash):
        close_batch(BUCKET, KEY, dying, DATASTORE, NOW)
    closed = close_batch(BUCKET, KEY, stores, DATASTORE, NOW)
    assert closed
    assert (closed.start_asked_at, closed.job_id) == (None, None)


def test_a_batch_that_is_new_has_no_job_to_be_looked_for() -> None:
    stores = memory_stores(a_manifest(2))
    delete_record(stores)
    closed = close_batch(BUCKET, KEY, stores, DATASTORE, NOW)
    assert closed
    assert closed.start_asked_at is None


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("jobs_record", ["there", "gone"])
@pytest.mark.parametrize("step", ["CheckStatus", "RecordFailure"])
def test_a_batch_that_is_recorded_again_ends_also_after_a_crash_behind_any_call(
    stores: Stores, service: FakeHealthImaging, step: str, jobs_record: str, number: int
) -> None:
    completed(stores, service)
    delete_record(stores)
    if jobs_record == "gone":
        assert isinstance(stores.jobs, MemoryJobs)
        stores.jobs.rows.clear()

    def call(stores: Stores) -> Any:
        context = a_context(stores, service)
        if step == "CheckStatus":
            return check_status(EXECUTION, "job1", context)
        return record_failure(WITH_JOB, context)

    with pytest.raises(Crash):
        call(replace(stores, batches=Calls({number: die}).port(stores.batches)))
    left = stores.batches.get(BATCH)
    assert left is None or left.job_id == "job1"
    assert call(stores)["status"] == "COMPLETED"
    batch = batch_of(stores)
    assert (batch.state, batch.job_id) == (BatchState.PARTIAL, "job1")
    assert batch.counts == Counts(2, imported=1, failed=1)


@pytest.mark.parametrize("number", range(1, 4))
def test_a_batch_without_a_job_ends_in_part_also_after_a_crash_behind_any_write(
    stores: Stores, number: int
) -> None:
    move_all(files_of(stores), [a_manifest(2).instances[0].key], duplicate_key, "another's")
    delete_record(stores)
    dying = replace(stores, batches=Calls({number: die}).port(stores.batches))
    with pytest.raises(Crash):
        record_failure(LOST, a_context(dying, FakeHealthImaging()))
    record_failure(LOST, a_context(stores, FakeHealthImaging(), LATER))
    assert batch_of(stores).state is BatchState.PARTIAL


def test_a_job_that_is_known_is_asked_for_though_nothing_of_the_batch_may_be_read(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: Any) -> Any:
        raise ObjectDenied("ListObjectsV2: AccessDenied")

    start(stores, service)
    delete_record(stores)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.denied.add((BUCKET, KEY))
    monkeypatch.setattr(MemoryFiles, "list", no)
    default = SETTINGS.model_copy(update={"datastore_id": "1" * 32})
    context = a_context(stores, service, settings=default)
    assert record_failure(WITH_JOB, context)["status"] == "IN_PROGRESS"
    assert batch_of(stores).datastore_id == DATASTORE


def test_the_job_is_looked_for_in_the_data_store_that_the_objects_name(stores: Stores) -> None:
    """The manifest may not be read."""

    class Asked(Forgetful):
        def find(self, datastore_id: str, *more: Any) -> str | None:
            return "job1" if datastore_id == "0" * 32 else None

    for each in a_manifest(2).instances:
        keep_metadata(stores, each)
    delete_record(stores)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.denied.add((BUCKET, KEY))
    with pytest.raises(ObjectDenied):  # the job is found, and waits for the manifest
        record_failure(LOST, a_context(stores, Asked()))
    batch = batch_of(stores)
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")
    assert states(stores) == [InstanceState.RECEIVED] * 2


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_batch_ends_in_its_data_store_though_the_default_and_its_job_record_changed(
    stores: Stores, service: FakeHealthImaging, is_gone: bool
) -> None:
    assert isinstance(stores.batches, MemoryBatches)
    assert isinstance(stores.jobs, MemoryJobs)
    stores.batches.rows[BATCH] = replace(batch_of(stores), datastore_id=DATASTORE)
    completed(stores, service)
    if is_gone:
        stores.jobs.rows.clear()
    default = SETTINGS.model_copy(update={"datastore_id": "1" * 32})
    context = a_context(stores, service, LATER, settings=default)
    assert check_status(EXECUTION, "job1", context)["datastoreId"] == DATASTORE
    assert batch_of(stores).state in (BatchState.IMPORTED, BatchState.PARTIAL)
    assert batch_of(stores).datastore_id == DATASTORE
