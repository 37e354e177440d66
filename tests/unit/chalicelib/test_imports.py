"""One batch through StartImportJob, CheckStatus and RecordFailure, with crashes between writes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ObjectDenied,
    ObjectMissing,
    ResultsNotReady,
    ResultsNotUnderstood,
    ServiceUnavailable,
)
from chalicelib.imports.aside import duplicate_key, failed_key, move_all
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.inventory import LOST, Held
from chalicelib.imports.late import ask_again
from chalicelib.imports.results import results_folder
from chalicelib.imports.start import start_import
from chalicelib.imports.status import ask, check_status
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from structlog.testing import capture_logs

from contract.errors import InvalidManifest, ProductError
from contract.keys import manifest_key
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceState,
    JobRecord,
    JobStatus,
)
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_batch,
    a_context,
    a_manifest,
    failed,
    files_of,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    success,
    summary,
)

LATER = NOW + timedelta(hours=1)
FOLDER = f"s3://{RESULTS}/{BATCH}/{DATASTORE}-DicomImport-job1/"


@pytest.fixture
def stores() -> Stores:
    return memory_stores(a_manifest(2))


@pytest.fixture
def service() -> FakeHealthImaging:
    return FakeHealthImaging()


def start(stores: Stores, service: FakeHealthImaging) -> dict[str, Any]:
    return start_import(EXECUTION, a_context(stores, service))


def check(stores: Stores, service: FakeHealthImaging, seconds: float = 0) -> dict[str, Any]:
    now = NOW + timedelta(seconds=seconds)
    return check_status(EXECUTION, "job1", a_context(stores, service, now))


def fail(stores: Stores, message: str = "it broke", **more: Any) -> dict[str, Any]:
    """RecordFailure, of a job that HealthImaging calls FAILED."""
    event = EVENT | {"job": {"jobId": "job1", "status": "FAILED"}} | more
    view = ImportView(JobStatus.FAILED, FOLDER, message)
    return record_failure(event, a_context(stores, FakeHealthImaging(view=view)))


def states(stores: Stores) -> list[InstanceState]:
    return [row.state for row in stores.instances.by_study("1.2")]


def test_a_started_batch_stands_in_every_table(stores: Stores, service: FakeHealthImaging) -> None:
    state = start(stores, service)
    assert state == {
        "jobId": "job1",
        "datastoreId": DATASTORE,
        "status": "SUBMITTED",
        "waitSeconds": 15,
    }
    (request,) = service.started
    assert request.input_s3_uri == f"s3://{BUCKET}/instances/{BATCH}/"
    assert request.output_s3_uri == f"s3://{RESULTS}/{BATCH}/"
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, job.calling_ae_title, job.study_instance_uid, job.study_date) == (
        JobStatus.SUBMITTED,
        "CT1",
        "1.2",
        "20261123",
    )
    assert job.sop_instance_uid is None  # it has two
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")
    assert states(stores) == [InstanceState.RECEIVED] * 2


def test_a_manifest_may_name_its_own_data_store(service: FakeHealthImaging) -> None:
    stores = memory_stores(a_manifest(1, datastore_id="f" * 32))
    assert start(stores, service)["datastoreId"] == "f" * 32


@pytest.mark.parametrize("fault", [ImportThrottled, ImportQuotaExceeded])
def test_a_start_that_is_put_off_changes_nothing_and_succeeds_later(
    stores: Stores, service: FakeHealthImaging, fault: type[ProductError]
) -> None:
    service.faults = [fault("later"), fault("later")]
    for _ in range(2):
        with pytest.raises(fault):
            start(stores, service)
        assert stores.batches.get(BATCH) == a_batch(BatchState.IMPORTING)
    start(stores, service)
    assert stores.jobs.get("job1") is not None


class Forgetful(FakeHealthImaging):
    """It starts a job for each request: the clientToken is forgotten. The first has no answer."""

    lost: ProductError | None = ServiceUnavailable("AWS could not be reached: ReadTimeoutError")

    def start(self, request: ImportRequest) -> str:
        """See ImportService."""
        self.started.append(request)
        if self.lost is not None:
            raise self.lost
        return f"job{len(self.started)}"


@pytest.mark.fault("start-unanswered")
@pytest.mark.parametrize("seen", ["listed", "by its results"])
def test_a_job_whose_start_had_no_answer_is_found_and_no_second_is_started(
    stores: Stores, seen: str
) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.start_asked_at, batch.job_id) == (NOW, None)
    if seen == "listed":
        service.listed[BATCH] = "job1"
    else:
        keep_results(stores, summary=summary(2))
    service.lost = None
    assert start(stores, service)["jobId"] == "job1"
    assert len(service.started) == 1
    batch, job = stores.batches.get(BATCH), stores.jobs.get("job1")
    assert batch is not None
    assert job is not None
    assert batch.job_id == "job1"


def test_a_start_that_had_no_answer_and_no_job_is_sent_again(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.lost = None
    assert start(stores, service)["jobId"] == "job2"


class Crash(Exception):
    """The Lambda dies."""


class Dead(FakeHealthImaging):
    """The process dies at its start."""

    def start(self, request: ImportRequest) -> str:
        """See ImportService."""
        raise Crash


def test_a_process_that_dies_at_its_start_leaves_the_mark(
    stores: Stores, service: FakeHealthImaging
) -> None:
    with pytest.raises(Crash):
        start(stores, Dead())
    service.listed[BATCH] = "job1"
    assert start(stores, service)["jobId"] == "job1"
    assert service.started == []


def test_nobody_looks_for_a_job_after_a_clear_no(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.faults = [ImportThrottled("later")]
    with pytest.raises(ImportThrottled):
        start(stores, service)
    service.listed[BATCH] = "somebody else's of that name"
    assert start(stores, service)["jobId"] == "job1"


def test_a_clear_no_to_a_second_start_says_nothing_of_the_first(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.lost = ImportThrottled("the second")
    with pytest.raises(ImportThrottled):
        start(stores, service)
    service.listed[BATCH], service.lost = "job1", None  # the list shows it now
    assert start(stores, service)["jobId"] == "job1"
    assert len(service.started) == 2


def test_nothing_is_moved_from_under_a_job_that_was_found(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.listed[BATCH] = "job1"
    assert isinstance(stores.objects, MemoryObjects)
    late = f"instances/{BATCH}/1.2/1.2.3/1.2.3.9.dcm"
    stores.objects.bodies[BUCKET, late] = b"a PUT that came late"
    keys = [each.key for each in a_manifest(2).instances]
    for key in keys:
        del stores.objects.bodies[BUCKET, key]
    before = dict(stores.objects.bodies)
    assert start(stores, service)["jobId"] == "job1"
    assert stores.objects.bodies == before
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.job_id) == (BatchState.IMPORTING, "job1")


def test_nothing_is_started_while_nobody_can_look_for_the_job(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.faults, service.lost = [ImportThrottled("the list is throttled")], None
    with pytest.raises(ImportThrottled):
        start(stores, service)
    assert len(service.started) == 1


def test_a_list_that_is_denied_fails_nothing_and_is_told_of(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.faults = [ImportRefused("AccessDeniedException: no")]
    with capture_logs() as told, pytest.raises(ImportRefused):
        record_failure(EVENT, a_context(stores, service))
    assert unsettled(told) == ["ImportRefused"]
    assert states(stores) == [InstanceState.RECEIVED] * 2


def test_a_batch_that_was_ended_meanwhile_is_not_started(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBatches, "mark_start", lambda *_: False)
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    assert service.started == []


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


def test_a_job_that_is_found_behind_the_recorded_failure_corrects_it(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    with pytest.raises(ServiceUnavailable, match="may not be listed yet"):
        record_failure(EVENT, a_context(stores, service, NOW + timedelta(minutes=14)))
    assert states(stores) == [InstanceState.RECEIVED] * 2
    record_failure(EVENT, a_context(stores, service, LATER))  # the list does not show it even now
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.job_id) == (BatchState.FAILED, BATCH)
    service.listed[BATCH] = "job1"
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    keys = (each.key for each in a_manifest(2).instances)
    keep_results(stores, summary=summary(2), success=lines(*map(success, keys)))
    batch = ask_again(batch, a_context(stores, service))
    assert (batch.state, batch.job_id) == (BatchState.IMPORTED, "job1")
    assert states(stores) == [InstanceState.IMPORTED] * 2
    first, second = stores.jobs.get(BATCH), stores.jobs.get("job1")
    assert first is not None
    assert second is not None
    assert (first.counts, second.counts) == (Counts(0), Counts(2, imported=2))
    assert first.message is not None
    assert "see job job1" in first.message


def test_a_refused_start_leaves_its_instances_received(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.faults = [ImportRefused("AccessDeniedException: no")]
    with pytest.raises(ImportRefused):
        start(stores, service)
    assert states(stores) == [InstanceState.RECEIVED] * 2


def test_a_repeated_start_starts_nothing_and_answers_the_same(
    stores: Stores, service: FakeHealthImaging
) -> None:
    assert start(stores, service) == start(stores, service)
    assert len(service.started) == 1


def test_the_first_of_two_starts_at_once_decides_the_job(
    stores: Stores, service: FakeHealthImaging
) -> None:
    other = FakeHealthImaging()
    service.on_start = lambda: None if other.started else void(start(stores, other))
    assert start(stores, service)["jobId"] == "job1"
    assert isinstance(stores.jobs, MemoryJobs)
    assert list(stores.jobs.rows) == ["job1"]


def void(_: object) -> None:
    return None


def test_a_manifest_that_is_gone_or_another_batchs_is_permanent(
    stores: Stores, service: FakeHealthImaging
) -> None:
    assert isinstance(stores.objects, MemoryObjects)
    newer = replace(a_manifest(), batch_id=NEWER_BATCH)
    stores.objects.bodies[BUCKET, manifest_key(BATCH)] = newer.to_json()
    with pytest.raises(InvalidManifest):
        start(stores, service)
    del stores.objects.bodies[BUCKET, manifest_key(BATCH)]
    with pytest.raises(ObjectMissing):
        start(stores, service)


@pytest.mark.parametrize("batch", [None, a_batch(BatchState.OPEN)], ids=["no", "an open"])
def test_an_execution_for_a_batch_that_is_not_closed_is_refused(
    batch: BatchRecord | None, service: FakeHealthImaging
) -> None:
    stores = memory_stores()
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows |= {BATCH: batch} if batch else {}
    with pytest.raises(ImportRefused, match="not closed"):
        start(stores, service)
    assert service.started == []


def test_a_running_job_is_kept_up_to_date_and_looked_at_less_often(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    assert check(stores, service, 1)["waitSeconds"] == 15
    assert check(stores, service, 100)["waitSeconds"] == 25
    assert check(stores, service, 9_999)["waitSeconds"] == 60
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.job_status is JobStatus.IN_PROGRESS


@pytest.mark.fault("import-unanswered")
def test_a_job_that_takes_days_is_waited_for_and_told_of(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    with capture_logs() as told:
        state = check(stores, service, 5 * 86_400)
    assert (state["status"], state["waitSeconds"]) == ("IN_PROGRESS", 5 * 3_600)
    assert unsettled(told) == ["overdue"]
    assert states(stores) == [InstanceState.RECEIVED] * 2
    completed(stores, service)
    assert check(stores, service, 5 * 86_400 + 60)["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


def unsettled(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the alarm's metric was told."""
    return [each["why"] for each in told if each.get("UnsettledImports") == 1]


@pytest.mark.fault("import-unanswered")
def test_a_jobs_record_that_is_gone_is_made_again(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    kept = stores.jobs.get("job1")
    assert isinstance(stores.jobs, MemoryJobs)
    stores.jobs.rows.clear()
    assert check(stores, service)["status"] == "IN_PROGRESS"
    made = stores.jobs.get("job1")
    assert kept is not None
    assert made == replace(kept, job_status=JobStatus.IN_PROGRESS)


def test_a_batchs_record_that_is_gone_as_well_is_made_again(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    assert isinstance(stores.jobs, MemoryJobs)
    assert isinstance(stores.batches, MemoryBatches)
    stores.jobs.rows.clear()
    stores.batches.rows.clear()
    assert check(stores, service)["status"] == "COMPLETED"
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.job_id) == (BatchState.PARTIAL, "job1")


def test_a_record_that_goes_behind_its_end_comes_back_as_that(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    check(stores, service)
    kept = stores.jobs.get("job1")
    assert kept is not None
    assert isinstance(stores.jobs, MemoryJobs)
    stores.jobs.rows.clear()
    service.faults = [ServiceUnavailable("must not be called")]
    assert check(stores, service)["status"] == "COMPLETED"
    made = stores.jobs.get("job1")
    assert made is not None
    assert (made.counts, made.ended_at) == (kept.counts, kept.ended_at)


def completed(
    stores: Stores, service: FakeHealthImaging, output: str = f"s3://{RESULTS}/{BATCH}/"
) -> None:
    start(stores, service)
    one, two = (each.key for each in a_manifest(2).instances)
    service.view = ImportView(JobStatus.COMPLETED, output)
    keep_results(
        stores, summary=summary(1, 1), success=lines(success(one)), failure=lines(failed(two))
    )


@pytest.mark.parametrize("output", [f"s3://{RESULTS}/{BATCH}/", FOLDER, FOLDER.rstrip("/")])
def test_a_completed_job_that_hides_a_failure_is_partial(
    stores: Stores, service: FakeHealthImaging, output: str
) -> None:
    completed(stores, service, output)
    assert check(stores, service, 9)["status"] == "COMPLETED"
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.counts, job.output_s3_uri) == (Counts(2, imported=1, failed=1), FOLDER)
    assert job.message == "1 of 2 instances were not imported"
    assert job.image_set_ids == ("a" * 32,)
    assert (batch.state, batch.counts) == (BatchState.PARTIAL, job.counts)
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


def test_an_end_is_told_with_its_counts_once(stores: Stores, service: FakeHealthImaging) -> None:
    start(stores, service)
    with capture_logs() as told:
        fail(stores)
        fail(stores)
    (line,) = [each for each in told if each["event"] == "import_ended"]
    assert (line["ImportedInstances"], line["FailedInstances"]) == (0, 2)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "DicomStoreScp"


def test_a_repeated_check_of_an_ended_job_asks_nobody(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    check(stores, service)
    service.faults = [ServiceUnavailable("must not be called")]
    assert check(stores, service)["status"] == "COMPLETED"


def test_missing_results_are_waited_for(stores: Stores, service: FakeHealthImaging) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    with pytest.raises(ResultsNotReady):
        check(stores, service)


def test_a_result_file_that_was_not_written_is_empty(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    keep_results(
        stores,
        summary=summary(2),
        success=lines(*(success(each.key) for each in a_manifest(2).instances)),
        failure=b"",
    )
    check(stores, service)
    assert states(stores) == [InstanceState.IMPORTED] * 2


def test_the_results_folder_is_the_jobs_own() -> None:
    assert results_folder("s3://r/x", "d", "j") == "s3://r/x/d-DicomImport-j/"
    assert results_folder("s3://r/x/d-DicomImport-j", "d", "j") == "s3://r/x/d-DicomImport-j/"


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
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    job, batch = stores.jobs.get(BATCH), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, batch.state) == (JobStatus.FAILED, BatchState.FAILED)


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


def test_results_that_may_not_be_read_fail_nothing_and_are_told_of(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    assert isinstance(stores.objects, MemoryObjects)
    key = f"{FOLDER.removeprefix(f's3://{RESULTS}/')}SUCCESS/success.ndjson"
    stores.objects.denied.add((RESULTS, key))
    for step in (check, lambda *_: record_failure(EVENT, a_context(stores, service))):
        with capture_logs() as told, pytest.raises(ObjectDenied):
            step(stores, service)
        assert unsettled(told) == ["ObjectDenied"]
    assert states(stores) == [InstanceState.RECEIVED] * 2
    stores.objects.denied.clear()
    assert check(stores, service)["status"] == "COMPLETED"


def test_results_that_nobody_understands_fail_nothing_and_are_told_of(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    keep_results(stores, success=lines(success("somewhere/else.dcm")), summary=summary(1, 1))
    for step in (check, lambda *_: record_failure(EVENT, a_context(stores, service))):
        with capture_logs() as told, pytest.raises(ResultsNotUnderstood):
            step(stores, service)
        assert unsettled(told) == ["ResultsNotUnderstood"]
    assert states(stores) == [InstanceState.RECEIVED] * 2


@pytest.mark.parametrize(("minutes", "why"), [(14, []), (16, ["ResultsNotReady"])])
def test_results_that_do_not_come_are_told_of(
    stores: Stores, service: FakeHealthImaging, minutes: int, why: list[str]
) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER, ended_at=NOW)
    with capture_logs() as told, pytest.raises(ResultsNotReady):
        check(stores, service, minutes * 60)
    assert unsettled(told) == why


def test_a_job_that_healthimaging_does_not_know_has_completed_if_it_left_results(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    service.view = None
    assert check(stores, service, 100 * 86_400)["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


def test_a_job_that_healthimaging_does_not_know_has_failed_if_it_left_none(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    service.view = None
    with pytest.raises(ServiceUnavailable, match="yet"):
        check(stores, service, 60)
    state = check(stores, service, 3_700)
    assert state["status"] == "FAILED"
    later = a_context(stores, service, NOW + timedelta(seconds=3_700))
    assert record_failure(EVENT | {"job": state}, later)["status"] == "FAILED"
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.message is not None
    assert "does not know" in job.message
    assert states(stores) == [InstanceState.FAILED] * 2


A_DAY = 86_400
HELD = Held("b" * 32, 3, is_primary=True)


@pytest.mark.parametrize("known", [True, False], ids=["completed", "not known any more"])
def test_where_results_are_lost_the_image_sets_tell_what_was_imported(
    stores: Stores, service: FakeHealthImaging, known: bool
) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER, ended_at=NOW) if known else None
    service.held = {"1.2.3.1": HELD, "1.2.3.99": HELD}
    assert check(stores, service, A_DAY + 1)["status"] == "COMPLETED"
    first, second = stores.instances.by_study("1.2")
    assert (first.state, first.image_set_id, first.image_set_version, first.is_primary) == (
        InstanceState.IMPORTED, "b" * 32, 3, True,
    )  # fmt: skip
    assert (second.state, second.reason) == (InstanceState.FAILED, LOST)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.counts) == (BatchState.PARTIAL, Counts(2, imported=1, failed=1))


def test_a_job_whose_results_are_lost_has_failed_if_nothing_of_it_is_there(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER, ended_at=NOW)
    with pytest.raises(ResultsNotReady):
        check(stores, service, A_DAY - 1)
    assert check(stores, service, A_DAY + 1)["status"] == "FAILED"
    later = a_context(stores, service, NOW + timedelta(seconds=A_DAY + 1))
    assert record_failure(EVENT, later)["status"] == "FAILED"
    assert states(stores) == [InstanceState.FAILED] * 2


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


def late(stores: Stores, service: FakeHealthImaging) -> JobRecord:
    """HealthImaging says that a job has completed after all that was recorded as failed."""
    start(stores, service)
    fail(stores)
    told = stores.jobs.get("job1")
    assert told is not None
    one, two = (each.key for each in a_manifest(2).instances)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    keep_results(stores, summary=summary(2), success=lines(success(one), success(two)))
    return told


def test_a_late_success_corrects_what_was_recorded(
    stores: Stores, service: FakeHealthImaging
) -> None:
    told = late(stores, service)
    later = NOW + timedelta(hours=1)
    with capture_logs() as logs:
        ask(EXECUTION, told, a_context(stores, service, later))
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, job.counts) == (JobStatus.COMPLETED, Counts(2, imported=2))
    assert (batch.state, batch.counts) == (BatchState.IMPORTED, Counts(2, imported=2))
    assert (batch.corrected_at, batch.ended_at) == (later, later)
    assert states(stores) == [InstanceState.IMPORTED] * 2
    keys = [row.key for row in stores.instances.by_study("1.2")]
    assert keys == [each.key for each in a_manifest(2).instances]
    assert isinstance(stores.objects, MemoryObjects)
    assert {key for bucket, key in stores.objects.bodies if "quarantine" in key} == set()
    assert all((BUCKET, key) in stores.objects.bodies for key in keys)
    (line,) = [each for each in logs if each["event"] == "import_corrected"]
    assert (line["ImportedInstances"], line["FailedInstances"]) == (2, -2)


@pytest.mark.parametrize("crash", ["before the job is written", "behind it"])
def test_an_end_is_told_though_the_step_died_between_batch_and_job(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    completed(stores, service)
    real = MemoryJobs.correct

    def dying(store: MemoryJobs, job: JobRecord) -> bool:
        if crash == "behind it":
            real(store, job)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(MemoryJobs, "correct", dying)
        with pytest.raises(Crash):
            check(stores, service)
    with capture_logs() as told:
        check(stores, service)
    ends = [each["FailedInstances"] for each in told if each["event"] == "import_ended"]
    assert ends == ([1] if crash == "before the job is written" else [])


def test_the_job_that_an_execution_names_is_asked_about_though_all_records_are_gone(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    assert isinstance(stores.jobs, MemoryJobs)
    assert isinstance(stores.batches, MemoryBatches)
    stores.jobs.rows.clear()
    stores.batches.rows.clear()
    event = EVENT | {"job": {"jobId": "job1"}, "error": {"Error": "KeyError", "Cause": "{}"}}
    assert record_failure(event, a_context(stores, service))["status"] == "IN_PROGRESS"
    assert states(stores) == [InstanceState.RECEIVED] * 2


def test_results_that_nobody_understands_for_a_day_are_taken_from_the_image_sets(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    keep_results(stores, success=lines(success("somewhere/else.dcm")), summary=summary(1, 1))
    service.held = {"1.2.3.2": HELD}
    assert check(stores, service, A_DAY + 1)["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.FAILED, InstanceState.IMPORTED]


def test_a_failure_that_a_dead_execution_did_not_record_is_recorded_by_who_asks(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert ask_again(batch, a_context(stores, service)).state is BatchState.FAILED
    assert states(stores) == [InstanceState.FAILED] * 2


def test_a_correction_is_made_and_told_once(stores: Stores, service: FakeHealthImaging) -> None:
    told = late(stores, service)
    ask(EXECUTION, told, a_context(stores, service, NOW + timedelta(hours=1)))
    first = stores.batches.get(BATCH)
    with capture_logs() as logs:
        ask(EXECUTION, told, a_context(stores, service, NOW + timedelta(hours=2)))
    assert stores.batches.get(BATCH) == first
    assert [each["event"] for each in logs] == []


def test_what_was_imported_before_the_failure_stays_imported(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    row = stores.instances.get_many(["1.2.3.1"])["1.2.3.1"]
    overwrite(stores.instances, [replace(row, state=InstanceState.IMPORTED)])
    fail(stores)
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.counts == Counts(2, imported=1, failed=1)
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


def test_a_failure_of_a_batch_of_duplicates_leaves_nothing_that_failed(stores: Stores) -> None:
    """Its start died behind their move, and was not tried again."""
    keys = [each.key for each in a_manifest(2).instances]
    move_all(files_of(stores), keys, duplicate_key, "another batch imports the same bytes")
    record_failure(EVENT | {"error": {"Error": "Unknown"}}, a_context(stores, FakeHealthImaging()))
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.counts == Counts(2, imported=2, duplicates=2)
    assert batch.state is BatchState.IMPORTED


def test_an_instance_that_was_sent_again_keeps_its_newer_state(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    row = stores.instances.get_many(["1.2.3.1"])["1.2.3.1"]
    newer = replace(row, batch_id=NEWER_BATCH, state=InstanceState.RECEIVED)
    overwrite(stores.instances, [newer])
    fail(stores)
    assert stores.instances.get_many(["1.2.3.1"])["1.2.3.1"] == newer


WRITES = [
    (MemoryBatches, "move"),
    (MemoryBatches, "mark_start"),
    (MemoryBatches, "attach_job"),
    (MemoryJobs, "create"),
    (MemoryJobs, "put"),
    (MemoryJobs, "correct"),
    (MemoryInstances, "swap_many"),
    (MemoryFiles, "copy"),
    (MemoryFiles, "delete"),
    (MemoryFiles, "end_uploads"),
]


@pytest.fixture(params=[(*write, after) for write in WRITES for after in (False, True)], ids=str)
def crash_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first call of one write crashes, before or after it is done; the list has its count."""
    store, name, after = request.param
    real, calls = getattr(store, name), list[int]()

    def crashing(*values: object) -> object:
        calls.append(1)
        result = real(*values) if after or len(calls) > 1 else None
        if len(calls) == 1:
            raise Crash
        return result

    monkeypatch.setattr(store, name, crashing)
    return calls


def survive(step: Any, *arguments: Any) -> None:
    """Run one state as the state machine would: once more after a crash."""
    try:
        step(*arguments)
    except Crash:
        step(*arguments)


@pytest.mark.usefixtures("crash_once")
def test_a_crash_around_any_write_changes_nothing_about_the_end(
    stores: Stores, service: FakeHealthImaging
) -> None:
    survive(start, stores, service)
    service.view = ImportView(JobStatus.IN_PROGRESS, FOLDER)
    survive(check, stores, service, 5)
    completed(stores, service)
    survive(check, stores, service, 9)
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, job.counts) == (JobStatus.COMPLETED, Counts(2, imported=1, failed=1))
    assert (batch.state, batch.job_id) == (BatchState.PARTIAL, "job1")
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


@pytest.mark.usefixtures("crash_once")
def test_a_crash_around_any_write_does_not_lose_a_failure(
    stores: Stores, service: FakeHealthImaging
) -> None:
    survive(start, stores, service)
    survive(fail, stores)
    job, batch = stores.jobs.get("job1"), stores.batches.get(BATCH)
    assert job is not None
    assert batch is not None
    assert (job.job_status, batch.state) == (JobStatus.FAILED, BatchState.FAILED)
    assert states(stores) == [InstanceState.FAILED] * 2
