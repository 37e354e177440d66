"""A recorded failure that HealthImaging's later answer corrects."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.aside import failed_key
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.late import ask_again
from chalicelib.imports.status import ask
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryJobs, MemoryObjects
from structlog.testing import capture_logs

from contract.records import (
    BatchState,
    Counts,
    InstanceState,
    JobRecord,
    JobStatus,
)
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    failed,
    keep_results,
    lines,
    overwrite,
    success,
    summary,
    the_row,
)
from tests.unit.chalicelib.steps import (
    FOLDER,
    LATER,
    Crash,
    Forgetful,
    check,
    completed,
    fail,
    start,
    states,
)


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
    with capture_logs() as told:
        batch = ask_again(batch, a_context(stores, service))
    (line,) = [each for each in told if "ImportedInstances" in each]
    assert (line["event"], line["ImportedInstances"], line["FailedInstances"]) == (
        "import_corrected", 2, -2,
    )  # fmt: skip
    assert (batch.state, batch.job_id) == (BatchState.IMPORTED, "job1")
    assert states(stores) == [InstanceState.IMPORTED] * 2
    first, second = stores.jobs.get(BATCH), stores.jobs.get("job1")
    assert first is not None
    assert second is not None
    assert (first.counts, second.counts) == (Counts(0), Counts(2, imported=2))
    assert first.message is not None
    assert "see job job1" in first.message


@pytest.mark.parametrize("state", [InstanceState.IMPORTED, InstanceState.DELETED])
def test_a_second_jobs_failure_leaves_what_the_first_has_imported(
    stores: Stores, service: FakeHealthImaging, state: InstanceState
) -> None:
    """Its start had no answer, and the batch was started again."""
    completed(stores, service)
    check(stores, service)
    one, two = (each.key for each in a_manifest(2).instances)
    row = replace(the_row(stores, "1.2.3.1"), state=state)
    overwrite(stores.instances, [row])
    first = stores.jobs.get("job1")
    assert first is not None
    second = replace(first, job_id="job2", job_status=JobStatus.IN_PROGRESS, counts=Counts(2))
    stores.jobs.create(second)
    service.view = ImportView(JobStatus.COMPLETED, FOLDER.replace("job1", "job2"))
    keep_results(
        stores, job_id="job2", summary=summary(0, 2), failure=lines(failed(one), failed(two))
    )
    ended = ask(EXECUTION, second, a_context(stores, service, LATER))
    assert ended.counts == Counts(2, imported=1, failed=1)
    assert the_row(stores, "1.2.3.1") == row
    assert isinstance(stores.objects, MemoryObjects)
    assert {key for _, key in stores.objects.bodies if key.endswith(".dcm")} == {
        one,
        failed_key(two),
    }
