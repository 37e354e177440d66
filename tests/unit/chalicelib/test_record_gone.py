"""Somebody has deleted the record of a batch whose import goes on: it comes back, with its job."""

from dataclasses import replace
from typing import Any

import pytest
from chalicelib.errors import ObjectDenied, ServiceUnavailable
from chalicelib.imports.aside import duplicate_key, move_all
from chalicelib.imports.failure import record_failure
from chalicelib.imports.rows import instance_rows
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.trigger import close_batch
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryBatches, MemoryJobs, MemoryObjects

from contract.keys import manifest_key
from contract.records import BatchRecord, BatchState, Counts, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    keep_metadata,
    memory_stores,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.steps import LATER, Forgetful, completed, start, states

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


@pytest.mark.parametrize("step", ["StartImportJob", "RecordFailure"])
def test_a_record_that_the_manifests_event_has_made_again_may_have_a_job(
    stores: Stores, step: str
) -> None:
    """S3 sends the event twice, or reconciliation finds the manifest."""
    service = start_unanswered(stores)
    delete_record(stores)
    assert close_batch(BUCKET, KEY, stores, NOW)
    service.lost = None
    if step == "StartImportJob":
        assert start_import(EXECUTION, a_context(stores, service, LATER))["jobId"] == "job1"
    else:
        answer = record_failure(LOST, a_context(stores, service, LATER))
        assert answer["status"] == "IN_PROGRESS"
    assert len(service.started) == 1
    assert (batch_of(stores).state, batch_of(stores).job_id) == (BatchState.IMPORTING, "job1")
    assert states(stores) == [InstanceState.RECEIVED] * 2


def test_a_batch_that_is_new_has_no_job_to_be_looked_for() -> None:
    stores = memory_stores(a_manifest(2))
    delete_record(stores)
    closed = close_batch(BUCKET, KEY, stores, NOW)
    assert closed
    assert closed.start_asked_at is None


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("jobs_record", ["there", "gone"])
@pytest.mark.parametrize("step", ["CheckStatus", "RecordFailure"])
def test_a_batch_that_is_recorded_again_ends_though_that_dies_behind_any_write(
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
    assert call(stores)["status"] == "COMPLETED"
    batch = batch_of(stores)
    assert (batch.state, batch.job_id) == (BatchState.PARTIAL, "job1")
    assert batch.counts == Counts(2, imported=1, failed=1)


@pytest.mark.parametrize("number", range(1, 4))
def test_a_batch_without_a_job_ends_in_part_though_its_failure_dies_behind_any_write(
    stores: Stores, number: int
) -> None:
    move_all(files_of(stores), [a_manifest(2).instances[0].key], duplicate_key, "another's")
    delete_record(stores)
    dying = replace(stores, batches=Calls({number: die}).port(stores.batches))
    with pytest.raises(Crash):
        record_failure(LOST, a_context(dying, FakeHealthImaging()))
    record_failure(LOST, a_context(stores, FakeHealthImaging(), LATER))
    assert batch_of(stores).state is BatchState.PARTIAL


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
