"""HealthImaging's events, as they come: early, late, twice, somebody else's."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import ImportThrottled, ServiceUnavailable
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.notice import import_noticed
from chalicelib.imports.start import start_import
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryJobs
from hypothesis import given
from hypothesis import strategies as st

from contract.records import BatchState, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    EXECUTION,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    success,
    summary,
)

DETAIL = {"jobId": "job1", "datastoreId": DATASTORE, "jobStatus": "COMPLETED"}
FOLDER = f"s3://{RESULTS}/{BATCH}/"


@pytest.fixture
def stores(service: FakeHealthImaging) -> Stores:
    stores = memory_stores(a_manifest())
    start_import(EXECUTION, a_context(stores, service))
    return stores


def notice(stores: Stores, service: FakeHealthImaging, detail: Any = DETAIL) -> BatchState:
    import_noticed(detail, BUCKET, a_context(stores, service))
    batch = stores.batches.get(BATCH)
    assert batch is not None
    return batch.state


def keep_all_imported(stores: Stores, service: FakeHealthImaging) -> None:
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    body = lines(*(success(each.key) for each in a_manifest().instances))
    keep_results(stores, summary=summary(2), success=body)


def test_results_are_recorded_at_once_and_once(stores: Stores, service: FakeHealthImaging) -> None:
    keep_all_imported(stores, service)
    assert notice(stores, service) is BatchState.IMPORTED
    service.faults = [ImportThrottled("must not be called")]
    assert notice(stores, service) is BatchState.IMPORTED


def test_a_job_that_failed_is_recorded_with_its_message(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
    assert notice(stores, service) is BatchState.FAILED
    job = stores.jobs.get("job1")
    assert job is not None
    assert (job.job_status, job.message) == (JobStatus.FAILED, "HealthImaging: it broke")


def test_the_event_of_a_job_that_nobody_knew_of_corrects_a_recorded_failure(
    service: FakeHealthImaging,
) -> None:
    stores = memory_stores(a_manifest())
    service.faults = [ServiceUnavailable("no answer")]
    with pytest.raises(ServiceUnavailable):
        start_import(EXECUTION, a_context(stores, service))
    record_failure(EVENT, a_context(stores, service, NOW + timedelta(hours=1)))
    keep_all_imported(stores, service)
    named = DETAIL | {"jobName": BATCH}
    assert notice(stores, service, named) is BatchState.FAILED  # GetDICOMImportJob has no name
    assert service.view is not None
    service.view = replace(service.view, job_name=BATCH)
    assert notice(stores, service, DETAIL | {"jobName": 7}) is BatchState.FAILED
    assert notice(stores, service, named) is BatchState.IMPORTED


def test_the_event_of_a_job_whose_record_is_gone_corrects_a_recorded_failure(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
    assert notice(stores, service) is BatchState.FAILED
    assert isinstance(stores.jobs, MemoryJobs)
    stores.jobs.rows.clear()
    keep_all_imported(stores, service)
    service.view = replace(service.view, status=JobStatus.COMPLETED, job_name=BATCH)
    assert notice(stores, service, DETAIL | {"jobName": BATCH}) is BatchState.IMPORTED


@pytest.mark.parametrize("cause", ["its start had no answer", "its record is gone"])
def test_the_event_of_a_job_that_no_record_names_corrects_a_failure_in_part(
    service: FakeHealthImaging, cause: str
) -> None:
    stores = memory_stores(a_manifest())
    if cause == "its start had no answer":
        service.faults = [ServiceUnavailable("no answer")]
        with pytest.raises(ServiceUnavailable):
            start_import(EXECUTION, a_context(stores, service))
    else:
        start_import(EXECUTION, a_context(stores, service))
    one = next(iter(stores.instances.by_study("1.2")))
    overwrite(stores.instances, [replace(one, state=InstanceState.IMPORTED)])
    if cause == "its start had no answer":
        record_failure(EVENT, a_context(stores, service, NOW + timedelta(hours=1)))
    else:
        service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
        notice(stores, service)
        assert isinstance(stores.jobs, MemoryJobs)
        stores.jobs.rows.clear()
    keep_all_imported(stores, service)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.state is BatchState.PARTIAL
    assert service.view is not None
    service.view = replace(service.view, job_name=BATCH)
    assert notice(stores, service, DETAIL | {"jobName": BATCH}) is BatchState.IMPORTED


def test_an_event_before_its_time_is_left_to_the_execution(
    stores: Stores, service: FakeHealthImaging
) -> None:
    assert notice(stores, service) is BatchState.IMPORTING  # HealthImaging says: IN_PROGRESS
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    assert notice(stores, service) is BatchState.IMPORTING  # the result files are not there yet


def test_a_late_success_corrects_a_recorded_failure(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.view = ImportView(JobStatus.FAILED, FOLDER, "it broke")
    assert notice(stores, service) is BatchState.FAILED
    keep_all_imported(stores, service)
    assert notice(stores, service) is BatchState.IMPORTED
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.job_status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    "detail",
    [
        {},
        DETAIL | {"jobId": "another"},
        DETAIL | {"jobId": ""},
        DETAIL | {"jobId": "x" * 4_000},
        DETAIL | {"jobId": 7},
        DETAIL | {"datastoreId": "another"},
    ],
)
def test_an_event_of_somebody_elses_job_changes_nothing(
    stores: Stores, service: FakeHealthImaging, detail: dict[str, object]
) -> None:
    keep_all_imported(stores, service)
    service.faults = [ImportThrottled("must not be called")]
    assert notice(stores, service, detail) is BatchState.IMPORTING


def test_an_answer_that_must_wait_lets_the_event_come_back(
    stores: Stores, service: FakeHealthImaging
) -> None:
    keep_all_imported(stores, service)
    service.faults = [ImportThrottled("later")]
    with pytest.raises(ImportThrottled):
        notice(stores, service)
    assert notice(stores, service) is BatchState.IMPORTED


values = st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=2)


@given(st.dictionaries(st.sampled_from(["jobId", "datastoreId", "x"]), values))
def test_any_detail_is_read_without_an_error(detail: dict[str, object]) -> None:
    stores = memory_stores()
    import_noticed(detail, BUCKET, a_context(stores, FakeHealthImaging()))
