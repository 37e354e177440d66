"""StartImportJob: one job for a batch, also where answers are lost."""

from dataclasses import replace

import pytest
from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ObjectMissing,
    ServiceUnavailable,
)
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryJobs, MemoryObjects
from structlog.testing import capture_logs

from contract.errors import InvalidManifest, ProductError
from contract.keys import manifest_key
from contract.records import (
    BatchRecord,
    BatchState,
    InstanceState,
    JobStatus,
)
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_batch,
    a_context,
    a_manifest,
    keep_results,
    memory_stores,
    summary,
)
from tests.unit.chalicelib.steps import (
    FOLDER,
    Crash,
    Forgetful,
    start,
    states,
    unsettled,
)


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
    before = stores.batches.get(BATCH)
    for _ in range(2):
        with pytest.raises(fault):
            start(stores, service)
        assert stores.batches.get(BATCH) == before
    start(stores, service)
    assert stores.jobs.get("job1") is not None


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


@pytest.mark.fault("start-unanswered")
@pytest.mark.parametrize(
    "status", [JobStatus.SUBMITTED, JobStatus.IN_PROGRESS, JobStatus.COMPLETED]
)
def test_a_job_whose_start_had_no_answer_is_found_before_its_results_however_far_it_is(
    stores: Stores, status: JobStatus
) -> None:
    service = Forgetful(view=ImportView(status, FOLDER))
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.listed[BATCH], service.lost = "job1", None
    assert start(stores, service)["jobId"] == "job1"
    assert len(service.started) == 1
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.job_id == "job1"


def test_a_start_that_had_no_answer_and_no_job_is_sent_again(stores: Stores) -> None:
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.lost = None
    assert start(stores, service)["jobId"] == "job2"


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


def test_a_start_beside_another_without_an_answer_does_not_take_its_mark(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stores.batches.get(BATCH)
    assert kept is not None
    unmarked = replace(kept, state=BatchState.IMPORTING)
    service = Forgetful()
    with pytest.raises(ServiceUnavailable):
        start(stores, service)
    service.lost = ImportThrottled("the second")
    with monkeypatch.context() as patch:  # the second has read the batch before the first's mark
        patch.setattr("chalicelib.imports.start._admitted", lambda *_: unmarked)
        with pytest.raises(ServiceUnavailable, match="somebody else"):
            start(stores, service)
    assert len(service.started) == 1
    service.listed[BATCH] = "job1"
    assert start(stores, service)["jobId"] == "job1"


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
