"""What an operator may do with a batch that no execution brings to its end."""

from datetime import timedelta

import pytest
from chalicelib.errors import ImportRefused, ImportUnknown
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import NothingToRepeat
from chalicelib.operations.retry import retry_batch

from contract.records import BatchState, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    EVENT,
    NOW,
    RESULTS,
    RUNNING,
    a_context,
)
from tests.unit.chalicelib.ways_world import JOB, World

WHY = "its executions die"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world() -> World:
    return World()


def test_a_stalled_batch_without_a_job_fails_and_is_repeated(world: World) -> None:
    world.put(BatchState.STALLED, attempt=4)
    entry = retry_batch(BATCH, WHY, world.operations)
    assert (world.batch().state, world.batch().retried_as) == (BatchState.FAILED, entry.batch_id)
    assert "no execution" in (world.batch().message or "")
    job = world.stores.jobs.get(BATCH)
    assert job is not None
    assert job.job_status is JobStatus.FAILED
    assert world.keys("quarantine/") == []
    assert len(world.keys(f"instances/{entry.batch_id}/")) == 2
    assert retry_batch(BATCH, WHY, world.operations) == entry


def test_a_job_that_may_not_be_listed_yet_is_waited_for(world: World) -> None:
    world.put(BatchState.STALLED, start_asked_at=NOW)
    world.lose_results()
    world.now = NOW + 14 * MINUTE
    with pytest.raises(OperationRefused, match="not be listed yet"):
        retry_batch(BATCH, WHY, world.operations)
    assert world.batch().state is BatchState.STALLED
    world.now = NOW + 16 * MINUTE
    retry_batch(BATCH, WHY, world.operations)
    assert world.batch().state is BatchState.FAILED


def test_the_job_of_a_start_without_an_answer_ends_a_stalled_batch(world: World) -> None:
    world.put(BatchState.STALLED, start_asked_at=NOW)
    world.service.listed[BATCH] = JOB
    with pytest.raises(NothingToRepeat, match="IMPORTED"):
        retry_batch(BATCH, WHY, world.operations)
    assert (world.batch().state, world.batch().job_id) == (BatchState.IMPORTED, JOB)
    assert world.states == {InstanceState.IMPORTED}


def test_a_job_of_a_stalled_batch_that_runs_is_waited_for_by_force_too(world: World) -> None:
    world.put(BatchState.STALLED, job_id=JOB)
    world.service.view = RUNNING
    for force in (False, True):
        with pytest.raises(OperationRefused, match="still runs: wait for its end"):
            retry_batch(BATCH, WHY, world.operations, force=force)
    assert world.batch().state is BatchState.STALLED


def test_a_job_of_a_stalled_batch_that_has_failed_is_recorded_and_repeated(world: World) -> None:
    world.put(BatchState.STALLED, job_id=JOB)
    world.service.view = ImportView(JobStatus.FAILED, f"s3://{RESULTS}/{BATCH}/", "too many files")
    retry_batch(BATCH, WHY, world.operations)
    assert world.batch().state is BatchState.FAILED
    assert "too many files" in (world.batch().message or "")


@pytest.mark.parametrize("state", [BatchState.IMPORTING, BatchState.STALLED])
def test_force_ends_a_batch_of_whose_job_nobody_can_say_anything(
    world: World, state: BatchState
) -> None:
    """The data store was deleted, and the start had no answer."""
    world.put(state, start_asked_at=NOW)
    world.now = NOW + timedelta(days=2)
    gone = ImportUnknown("there is no such data store")
    world.service.faults = [gone]
    with pytest.raises(OperationRefused, match="An import is unsettled"):
        retry_batch(BATCH, WHY, world.operations)
    assert world.batch().state is state
    world.service.faults = [gone]
    entry = retry_batch(BATCH, WHY, world.operations, force=True)
    assert (world.batch().state, world.batch().retried_as) == (BatchState.FAILED, entry.batch_id)
    assert len(world.keys(f"instances/{entry.batch_id}/")) == 2
    # An execution that still waits for the answer comes to its end, and the alarm with it.
    world.service.faults = [gone]
    context = a_context(world.stores, world.service, world.now)
    assert record_failure(EVENT, context)["status"] == JobStatus.FAILED


def test_who_waits_for_an_answer_of_a_batch_that_has_not_ended_goes_on_waiting(
    world: World,
) -> None:
    world.put(BatchState.IMPORTING, start_asked_at=NOW)
    world.service.faults = [ImportUnknown("there is no such data store")]
    with pytest.raises(ImportRefused):
        record_failure(EVENT, a_context(world.stores, world.service, world.now))


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (BatchState.OPEN, "recover_batches"),
        (BatchState.CLOSED, "dispatch_imports"),
        (BatchState.IMPORTING, "STALLED within minutes"),
    ],
)
def test_a_refusal_says_what_gives_the_batch_its_end(
    world: World, state: BatchState, then: str
) -> None:
    world.put(state)
    with pytest.raises(OperationRefused, match=then):
        retry_batch(BATCH, WHY, world.operations)


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (BatchState.STALLED, "is STALLED, retry that batch"),
        (BatchState.IMPORTING, "is IMPORTING, wait for its end"),
        (BatchState.PARTIAL, "dropbox/"),
    ],
)
def test_an_instance_that_waits_is_not_released_and_the_refusal_names_its_batch(
    world: World, state: BatchState, then: str
) -> None:
    world.put(state)
    with pytest.raises(OperationRefused, match=then):
        release_instance("1.2.3.1", WHY, None, world.operations)


def test_a_failed_instance_of_a_stalled_batch_is_released_once_the_batch_has_its_end(
    world: World,
) -> None:
    """Its end was half recorded when the execution died."""
    world.put(BatchState.STALLED)
    world.rows(InstanceState.FAILED)
    entry = release_instance(
        "1.2.3.1", WHY, f"instances/{BATCH}/1.2/1.2.3/1.2.3.1.dcm", world.operations
    )
    assert world.batch().state is BatchState.FAILED
    assert world.stores.batches.get(entry.batch_id) is not None
