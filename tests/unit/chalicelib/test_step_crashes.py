"""StartImportJob, CheckStatus and RecordFailure, with a crash around each write."""

from typing import Any

import pytest
from chalicelib.imports.healthimaging import ImportView
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs
from chalicelib.stores.memory_files import MemoryFiles

from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import BATCH, FakeHealthImaging
from tests.unit.chalicelib.steps import (
    FOLDER,
    Crash,
    check,
    completed,
    fail,
    start,
    states,
)

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
