"""RecordFailure: what has failed is recorded, and nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.errors import (
    ImportRefused,
    ImportThrottled,
    ObjectDenied,
    ResultsNotReady,
    ServiceUnavailable,
)
from chalicelib.imports.aside import duplicate_key, failed_key, move_all, unlisted_key
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from structlog.testing import capture_logs

from contract.checksums import Checksum
from contract.errors import ProductError
from contract.keys import batch_prefix
from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_batch,
    a_context,
    a_manifest,
    an_instance,
    files_of,
    instance_row,
    instance_rows,
    keep_metadata,
    memory_stores,
    overwrite,
    the_row,
)
from tests.unit.chalicelib.steps import (
    FOLDER,
    LATER,
    Forgetful,
    check,
    completed,
    fail,
    start,
    states,
    unsettled,
)


def test_an_end_is_told_with_its_counts_once(stores: Stores, service: FakeHealthImaging) -> None:
    start(stores, service)
    with capture_logs() as told:
        fail(stores)
        fail(stores)
    (line,) = [each for each in told if each["event"] == "import_ended"]
    assert (line["ImportedInstances"], line["FailedInstances"]) == (0, 2)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "DicomStoreScp"


def test_a_failed_job_is_left_to_record_failure(stores: Stores, service: FakeHealthImaging) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.FAILED, FOLDER, "INTERNAL_ERROR")
    state = check(stores, service)
    assert (state["status"], state["message"]) == ("FAILED", "HealthImaging: INTERNAL_ERROR")
    fail(stores, "INTERNAL_ERROR")
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, job.counts) == (JobStatus.FAILED, Counts(2, failed=2))
    assert job.message == "HealthImaging: INTERNAL_ERROR"
    assert batch.state is BatchState.FAILED
    assert states(stores) == [InstanceState.FAILED] * 2


def test_an_import_that_never_got_a_job_is_recorded_under_its_batch(stores: Stores) -> None:
    event = EVENT | {"error": {"Error": "ImportThrottled", "Cause": "{}"}}
    record_failure(event, a_context(stores, FakeHealthImaging()))
    job = stores.jobs.get(BATCH)
    assert job is not None
    assert (job.batch_id, job.job_status, job.counts.failed) == (BATCH, JobStatus.FAILED, 2)
    assert job.study_instance_uid == "1.2"


def test_a_batch_whose_failure_is_recorded_starts_nothing_any_more(
    stores: Stores, service: FakeHealthImaging
) -> None:
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    assert start(stores, service)["jobId"] == BATCH
    assert service.started == []
    state = check_status(EXECUTION, BATCH, a_context(stores, service))
    assert state["status"] == "FAILED"


def test_a_failure_is_recorded_even_if_the_manifest_cannot_be_read() -> None:
    stores = memory_stores()
    with pytest.raises(ServiceUnavailable):  # the batch's record is gone, too: see below
        record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    record_failure(EVENT, a_context(stores, FakeHealthImaging(), LATER))
    job, batch = stores.jobs.get(BATCH), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, batch.state) == (JobStatus.FAILED, BatchState.FAILED)


def test_a_failure_without_a_manifest_names_the_data_store_of_its_batch() -> None:
    stores, elsewhere = memory_stores(a_manifest(1)), "2" * 32
    assert isinstance(stores.batches, MemoryBatches)
    assert isinstance(stores.objects, MemoryObjects)
    stores.batches.rows[BATCH] = replace(stores.batches.rows[BATCH], datastore_id=elsewhere)
    del stores.objects.bodies[BUCKET, EXECUTION.manifest_key]
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    job = stores.jobs.get(BATCH)
    assert job is not None
    assert (job.job_status, job.datastore_id) == (JobStatus.FAILED, elsewhere)


def test_a_recorded_end_stays(stores: Stores, service: FakeHealthImaging) -> None:
    completed(stores, service)
    check(stores, service)
    kept = stores.jobs.get("job1")
    fail(stores)
    assert stores.jobs.get("job1") == kept
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


ERRORS = {
    "results denied": ObjectDenied("GetObject: AccessDenied"),
    "throttled by somebody else": ImportThrottled("GetDICOMImportJob is throttled"),
    "a bug": KeyError("a bug"),
    "late results": ResultsNotReady("not there yet"),
    "asking is denied": ImportRefused("AccessDeniedException: no"),
}


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_no_error_of_ours_fails_a_job_that_runs(
    stores: Stores, service: FakeHealthImaging, error: Exception
) -> None:
    start(stores, service)
    before = dict(stores.objects.bodies) if isinstance(stores.objects, MemoryObjects) else {}
    event = EVENT | {"error": {"Error": type(error).__name__, "Cause": "{}"}}
    state = record_failure(event, a_context(stores, service))
    assert (state["status"], state["waitSeconds"]) == ("IN_PROGRESS", 15)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.state is BatchState.IMPORTING
    assert states(stores) == [InstanceState.RECEIVED] * 2
    assert isinstance(stores.objects, MemoryObjects)
    assert stores.objects.bodies == before


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_no_error_of_ours_fails_a_job_that_completed(
    stores: Stores, service: FakeHealthImaging, error: Exception
) -> None:
    completed(stores, service)
    event = EVENT | {"error": {"Error": type(error).__name__, "Cause": "{}"}}
    assert record_failure(event, a_context(stores, service))["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize(
    "error",
    [ImportThrottled("x"), ServiceUnavailable("x"), ImportRefused("AccessDeniedException: no")],
)
def test_a_failure_is_not_recorded_while_healthimaging_does_not_answer(
    stores: Stores, service: FakeHealthImaging, error: ProductError
) -> None:
    start(stores, service)
    service.faults = [error]
    with pytest.raises(type(error)):
        record_failure(EVENT, a_context(stores, service))
    assert states(stores) == [InstanceState.RECEIVED] * 2
    assert record_failure(EVENT, a_context(stores, service))["status"] == "IN_PROGRESS"


def test_an_execution_of_an_open_batch_fails_without_touching_it() -> None:
    stores = memory_stores()
    assert isinstance(stores.batches, MemoryBatches)
    assert isinstance(stores.objects, MemoryObjects)
    stores.batches.rows[BATCH] = opened = a_batch(BatchState.OPEN)
    stores.objects.bodies[BUCKET, a_manifest(1).instances[0].key] = b"acknowledged"
    event = EVENT | {"error": {"Error": "ImportRefused", "Cause": "{}"}}
    assert record_failure(event, a_context(stores, FakeHealthImaging()))["status"] == "FAILED"
    assert stores.batches.get(BATCH) == opened
    assert list(stores.objects.bodies.values()) == [b"acknowledged"]


@pytest.mark.fault("object-denied")
def test_an_object_that_may_not_be_moved_stays_and_its_neighbours_go(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    one, two = (each.key for each in a_manifest(2).instances)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.denied.add((BUCKET, one))
    fail(stores)
    rows = list(stores.instances.by_study("1.2"))
    assert [row.state for row in rows] == [InstanceState.FAILED] * 2
    assert [row.key for row in rows] == [one, failed_key(two)]


def test_an_object_that_is_not_in_the_manifest_of_a_failed_batch_goes_to_quarantine(
    stores: Stores,
) -> None:
    ledger.register(stores.instances, instance_rows(a_manifest(2), InstanceState.RECEIVED, NOW))
    # PUTs without an answer; and StartImportJob, which would have swept them, never got that far.
    late, elsewhere, odd = (
        f"{batch_prefix(BATCH)}{name}"
        for name in ("1.2/1.2.3/1.2.3.9.dcm", "1.2/1.2.9/1.2.3.1.dcm", "DOE^JOHN")
    )
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.bodies |= {(BUCKET, key): key.encode() for key in (late, elsewhere, odd)}
    event = EVENT | {"error": {"Error": "ObjectDenied", "Cause": "{}"}}
    with capture_logs() as told:
        record_failure(event, a_context(stores, FakeHealthImaging()))
    assert unsettled(told) == []
    assert list(files_of(stores).list(batch_prefix(BATCH))) == []
    for key in (late, elsewhere, odd):
        assert stores.objects.bodies[BUCKET, unlisted_key(key)] == key.encode()
        reason = stores.objects.metadata[BUCKET, unlisted_key(key)]["reason"]
        assert reason == "not in the batch's manifest"
    job = stores.jobs.get(BATCH)
    assert job is not None
    assert job.counts == Counts(2, failed=2)


@pytest.mark.parametrize("state", [InstanceState.IMPORTED, InstanceState.DELETED])
def test_what_was_imported_before_the_failure_stays_imported(
    stores: Stores, service: FakeHealthImaging, state: InstanceState
) -> None:
    start(stores, service)
    row = the_row(stores, "1.2.3.1")
    overwrite(stores.instances, [replace(row, state=state)])
    fail(stores)
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.counts == Counts(2, imported=1, failed=1)
    assert states(stores) == [state, InstanceState.FAILED]
    assert [each.key for each in files_of(stores).list("instances/")] == [row.key]


def test_a_failure_of_a_batch_of_duplicates_leaves_nothing_that_failed(stores: Stores) -> None:
    """Its start died behind their move, and was not tried again."""
    keys = [each.key for each in a_manifest(2).instances]
    move_all(files_of(stores), keys, duplicate_key, "another batch imports the same bytes")
    record_failure(EVENT | {"error": {"Error": "Unknown"}}, a_context(stores, FakeHealthImaging()))
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.counts == Counts(2, imported=2, duplicates=2)
    assert batch.state is BatchState.IMPORTED
    job = stores.jobs.get(BATCH)  # HealthImaging has none that could have failed
    assert job is not None
    assert job.job_status is JobStatus.COMPLETED


def test_an_instance_that_was_sent_again_keeps_its_newer_state_and_the_failure_stands_beside(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    row = the_row(stores, "1.2.3.1")
    newer = replace(row, batch_id=NEWER_BATCH, state=InstanceState.RECEIVED)
    overwrite(stores.instances, [newer])
    fail(stores)
    rows = {each.batch_id: each for each in stores.instances.by_sop_instance("1.2.3.1")}
    assert rows.pop(NEWER_BATCH) == newer
    assert (rows[BATCH].state, rows[BATCH].beside) == (InstanceState.FAILED, BATCH)
    assert rows.keys() == {BATCH}


def test_a_failure_waits_for_the_job_of_a_start_that_had_no_answer(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.listed[BATCH] = "job1"
    event = EVENT | {"error": {"Error": "ServiceUnavailable", "Cause": "{}"}}
    assert record_failure(event, a_context(stores, service))["status"] == "IN_PROGRESS"
    assert states(stores) == [InstanceState.RECEIVED] * 2
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")


def test_the_job_that_only_the_execution_knows_is_asked_for(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """StartImportJob died before it could write the job's id into the batch's record."""
    event = EVENT | {"job": {"jobId": "job1"}, "error": {"Error": "KeyError", "Cause": "{}"}}
    assert record_failure(event, a_context(stores, service))["status"] == "IN_PROGRESS"


@pytest.mark.parametrize("is_checked", [True, False], ids=["checked before", "not checked"])
def test_what_has_failed_stays_in_quarantine_though_a_newer_batch_has_its_row(
    stores: Stores, service: FakeHealthImaging, is_checked: bool
) -> None:
    """Under the batch's prefix, expire_objects would delete it: HealthImaging never had it."""
    completed(stores, service)
    _, two = a_manifest(2).instances
    newer = replace(
        an_instance(two.sop_instance_uid, NEWER_BATCH), checksum=Checksum.of(b"other bytes")
    )
    overwrite(stores.instances, [instance_row(NEWER_BATCH, newer, InstanceState.RECEIVED, NOW)])
    if is_checked:
        check(stores, service)
    assert record_failure(EVENT, a_context(stores, service))["status"] == JobStatus.COMPLETED
    assert isinstance(stores.objects, MemoryObjects)
    standing = {key for _, key in stores.objects.bodies if two.sop_instance_uid in key}
    assert standing == {failed_key(two.key)}


def test_a_failure_of_a_completed_job_moves_nothing_of_it(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """Its manifest is gone, and an object's metadata: somebody has copied it over itself."""
    completed(stores, service)
    one, two = a_manifest(2).instances
    keep_metadata(stores, two)
    check(stores, service)
    assert isinstance(stores.objects, MemoryObjects)
    del stores.objects.bodies[BUCKET, EXECUTION.manifest_key]
    before = set(stores.objects.bodies)
    assert record_failure(EVENT, a_context(stores, service))["status"] == JobStatus.COMPLETED
    assert set(stores.objects.bodies) == before
    assert (BUCKET, one.key) in before


@pytest.mark.parametrize("spoilt", ["gone", "denied"])
def test_a_failure_of_a_completed_job_of_which_nothing_can_be_read_is_answered(
    stores: Stores, service: FakeHealthImaging, spoilt: str
) -> None:
    completed(stores, service)
    check(stores, service)
    assert isinstance(stores.objects, MemoryObjects)
    if spoilt == "gone":
        stores.objects.bodies.clear()
    stores.objects.denied = set(stores.objects.bodies)
    assert record_failure(EVENT, a_context(stores, service))["status"] == JobStatus.COMPLETED


def test_a_job_that_cannot_be_looked_for_is_told_of_once_its_start_is_a_day_old(
    stores: Stores,
) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.faults = [ImportThrottled("ListDICOMImportJobs is throttled")] * 2
    for days, why in ((0.9, []), (1.1, ["ImportThrottled"])):
        later = a_context(stores, service, NOW + timedelta(days=days))
        with capture_logs() as told, pytest.raises(ImportThrottled):
            record_failure(EVENT, later)
        assert unsettled(told) == why
