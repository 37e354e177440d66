"""CheckStatus: a job's state and its results, also where they are denied or lost."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.errors import (
    ImportRefused,
    ImportThrottled,
    ObjectDenied,
    ObjectMissing,
    ResultsNotReady,
    ResultsNotUnderstood,
    ServiceUnavailable,
)
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.inventory import LOST, Held
from chalicelib.imports.late import ask_again
from chalicelib.imports.results import results_folder
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryJobs, MemoryObjects
from structlog.testing import capture_logs

from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    keep_metadata,
    keep_results,
    lines,
    success,
    summary,
)
from tests.unit.chalicelib.steps import (
    FOLDER,
    check,
    completed,
    fail,
    start,
    states,
    unsettled,
)


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
    assert check(stores, service)["status"] == "COMPLETED"
    made = stores.jobs.get("job1")
    assert made is not None
    assert (made.counts, made.ended_at) == (kept.counts, kept.ended_at)


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


def test_results_that_nobody_understands_for_a_day_are_taken_from_the_image_sets(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    keep_results(stores, success=lines(success("somewhere/else.dcm")), summary=summary(1, 1))
    service.held = {"1.2.3.2": HELD}
    assert check(stores, service, A_DAY + 1)["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.FAILED, InstanceState.IMPORTED]


def test_a_denied_manifest_is_waited_for_and_told_of_also_where_the_jobs_record_is_gone(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """It may be whole, and the result files are: the image sets would tell less."""
    completed(stores, service)
    for each in a_manifest(2).instances:
        keep_metadata(stores, each)
    assert isinstance(stores.objects, MemoryObjects)
    assert isinstance(stores.jobs, MemoryJobs)
    stores.objects.denied.add((BUCKET, EXECUTION.manifest_key))
    service.held = {"1.2.3.1": HELD, "1.2.3.2": HELD}
    job = stores.jobs.rows["job1"]
    for jobs in ({"job1": job}, {}):
        stores.jobs.rows = jobs
        with capture_logs() as told, pytest.raises(ObjectDenied):
            check(stores, service, A_DAY + 1)
        assert unsettled(told) == ["ObjectDenied"]
    stores.objects.denied.clear()
    assert check(stores, service, A_DAY + 2)["status"] == "COMPLETED"
    assert states(stores) == [InstanceState.IMPORTED, InstanceState.FAILED]


def test_a_completed_job_of_which_neither_manifest_nor_object_is_left_is_told_of(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    assert isinstance(stores.objects, MemoryObjects)
    for key in [key for bucket, key in stores.objects.bodies if bucket == BUCKET]:
        del stores.objects.bodies[BUCKET, key]
    with capture_logs() as told, pytest.raises(ObjectMissing):
        check(stores, service)
    assert unsettled(told) == ["ObjectMissing"]


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize(("seconds", "why"), [(A_DAY - 1, []), (A_DAY + 1, ["ImportThrottled"])])
def test_a_job_that_cannot_be_asked_about_is_told_of_once_it_is_overdue(
    stores: Stores, service: FakeHealthImaging, seconds: int, why: list[str]
) -> None:
    start(stores, service)
    service.faults = [ImportThrottled("GetDICOMImportJob is throttled")]
    with capture_logs() as told, pytest.raises(ImportThrottled):
        check(stores, service, seconds)
    assert unsettled(told) == why


def test_a_batch_that_ended_in_part_without_a_job_asks_about_none(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """RecordFailure died before it wrote the job's record; the execution is started again."""
    assert isinstance(stores.batches, MemoryBatches)
    counts = Counts(2, imported=1, failed=1, duplicates=1)
    stores.batches.rows[BATCH] = replace(
        stores.batches.rows[BATCH], state=BatchState.PARTIAL, job_id=BATCH, counts=counts
    )
    service.faults = [ImportRefused("ValidationException: jobId")]
    state = check_status(EXECUTION, BATCH, a_context(stores, service))
    assert state["status"] == JobStatus.FAILED
    job = stores.jobs.get(BATCH)
    assert job is not None
    assert job.counts == counts


def test_a_job_that_has_ended_is_never_overdue(stores: Stores, service: FakeHealthImaging) -> None:
    """A retry of an old batch asks about it once more."""
    start(stores, service)
    fail(stores)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    service.faults = [ImportThrottled("GetDICOMImportJob is throttled")]
    later = a_context(stores, service, NOW + timedelta(days=3))
    with capture_logs() as told, pytest.raises(ImportThrottled):
        ask_again(batch, later)
    assert unsettled(told) == []
