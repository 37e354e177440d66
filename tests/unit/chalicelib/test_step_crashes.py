"""StartImportJob, CheckStatus and RecordFailure, with a crash around each write."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.sweep import MISSING
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs
from chalicelib.stores.memory_files import MemoryFiles

from contract.batch_states import ENDED
from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import BATCH, BUCKET, EVENT, FakeHealthImaging, a_context
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


@pytest.mark.usefixtures("crash_once")
def test_an_execution_that_dies_while_it_records_a_failure_leaves_the_next_one_all(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """Its objects may be in quarantine by then, and its rows FAILED."""
    error = {"Error": "ObjectDenied", "Cause": json.dumps({"errorMessage": "GetObject: denied"})}
    with suppress(Crash):
        record_failure(EVENT | {"error": error}, a_context(stores, FakeHealthImaging()))
    batches = stores.batches
    assert isinstance(batches, MemoryBatches)
    if batches.rows[BATCH].state in ENDED:
        return
    batches.rows[BATCH] = replace(batches.rows[BATCH], attempt=1)
    survive(start, stores, service)
    completed(stores, service)
    survive(check, stores, service, 9)
    job = stores.jobs.get("job1")
    assert job is not None
    assert job.counts == Counts(2, imported=1, failed=1)  # as the results say
    for row in stores.instances.by_study("1.2"):
        assert (BUCKET, row.key) in stores.objects.bodies  # type: ignore[attr-defined]
        assert row.reason != MISSING
