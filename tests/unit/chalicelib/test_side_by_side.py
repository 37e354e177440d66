"""Two steps of one batch at the same time: one runs whole behind each call of the other.

What HealthImaging has is IMPORTED, with its object in place, and batch and jobs add up to it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations
from typing import Any

import pytest
from chalicelib import threads
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Failure
from chalicelib.imports.failure import fail_import, record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryObjects

from contract.keys import manifest_key
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceState,
    JobStatus,
)
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    failed,
    keep_metadata,
    keep_results,
    lines,
    memory_stores,
    success,
    summary,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.in_turn import InTurn
from tests.unit.chalicelib.steps import FOLDER, LATER, start


class OutOfDate:
    """Batches whose first answer is as old as a batch without a job."""

    def __init__(self, batches: MemoryBatches) -> None:
        self._batches = batches
        self._is_first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def get(self, batch_id: str) -> BatchRecord | None:
        batch = self._batches.get(batch_id)
        if batch is None or not self._is_first:
            return batch
        self._is_first = False
        return replace(batch, job_id=None, state=BatchState.IMPORTING)


@dataclass
class World:
    """A batch of two whose job has completed at HealthImaging, and was not looked at since."""

    stores: Stores
    service: FakeHealthImaging
    imported: int

    def context(self, calls: Calls, **stores: Any) -> ImportContext:
        context = a_context(self.stores, self.service, LATER)
        ports = {each.name: getattr(self.stores, each.name) for each in fields(Stores)} | stores
        watched = Stores(**{name: calls.port(port) for name, port in ports.items()})
        return replace(context, stores=watched, files=calls.port(context.files))

    def check(self, calls: Calls) -> None:
        """CheckStatus, which is repeated while a service does not answer."""
        self.check_job("job1", calls)

    def check_job(self, job_id: str, calls: Calls) -> None:
        try:
            check_status(EXECUTION, job_id, self.context(calls))
        except ServiceUnavailable:
            check_status(EXECUTION, job_id, self.context(Calls()))

    def fail(self, calls: Calls) -> None:
        """A RecordFailure that read the batch before its job was known; repeated likewise."""
        assert isinstance(self.stores.batches, MemoryBatches)
        context = self.context(calls, batches=OutOfDate(self.stores.batches))
        try:
            why, looked_for = Failure("Unknown", "it broke"), self.asked_at()
            fail_import(EXECUTION, BATCH, why, context, looked_for)
        except ServiceUnavailable:
            self.fail_again()

    def asked_at(self) -> datetime | None:
        batch = self.stores.batches.get(BATCH)
        return batch.start_asked_at if batch else None

    def fail_again(self) -> None:
        record_failure(EVENT, self.context(Calls()))

    def assert_told(self, where: object) -> None:
        """The same by the records of the job and of the one that never was."""
        jobs, counts = self.stores.jobs, self.assert_batch(where)
        job, unstarted = jobs.get("job1"), jobs.get(BATCH)
        assert job is not None
        assert (job.job_status, job.counts) == (JobStatus.COMPLETED, counts), where
        # It is superseded, or says itself that all is there.
        assert unstarted is None or unstarted.counts.failed == 0, where

    def assert_batch(self, where: object) -> Counts:
        """What HealthImaging has is IMPORTED, and every object stands at its row's key."""
        counts = Counts(2, imported=self.imported, failed=2 - self.imported)
        ends = [InstanceState.IMPORTED] * counts.imported + [InstanceState.FAILED] * counts.failed
        rows = list(self.stores.instances.by_study("1.2"))
        assert [row.state for row in rows] == ends, where
        assert isinstance(self.stores.objects, MemoryObjects)
        standing = {key for _, key in self.stores.objects.bodies if key.endswith(".dcm")}
        assert standing == {row.key for row in rows}, where
        batch = self.stores.batches.get(BATCH)
        assert batch is not None
        state = BatchState.PARTIAL if counts.failed else BatchState.IMPORTED
        assert (batch.state, batch.counts) == (state, counts), where
        return counts


def a_world(imported: int, *, has_manifest: bool) -> World:
    manifest, service = a_manifest(2), FakeHealthImaging()
    stores = memory_stores(manifest)
    start(stores, service)
    for each in manifest.instances:
        keep_metadata(stores, each)
    assert isinstance(stores.objects, MemoryObjects)
    if not has_manifest:
        del stores.objects.bodies[BUCKET, manifest_key(BATCH)]
    service.view = ImportView(JobStatus.COMPLETED, FOLDER)
    keys = [each.key for each in manifest.instances]
    keep_results(
        stores,
        summary=summary(imported, 2 - imported),
        success=lines(*map(success, keys[:imported])),
        failure=lines(*map(failed, keys[imported:])),
    )
    return World(stores, service, imported)


def calls_of(run: Callable[[Calls], object]) -> range:
    """The numbers of the calls that a step makes by itself."""
    calls = Calls()
    run(calls)
    assert calls.number > 10
    return range(calls.number)


@pytest.fixture(autouse=True)
def _in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ThreadPoolExecutor", InTurn)


@pytest.fixture(params=[(1, True), (1, False), (2, True), (2, False)], ids=str)
def new_world(request: pytest.FixtureRequest) -> Callable[[], World]:
    imported, has_manifest = request.param
    return lambda: a_world(imported, has_manifest=has_manifest)


def test_a_success_that_is_recorded_at_any_moment_of_a_failure_stands(
    new_world: Callable[[], World],
) -> None:
    for number in calls_of(new_world().fail):
        world = new_world()
        world.fail(Calls({number: partial(world.check, Calls())}))
        world.assert_told(number)


def test_a_failure_that_is_recorded_at_any_moment_of_a_success_does_not_stand(
    new_world: Callable[[], World],
) -> None:
    for number in calls_of(new_world().check):
        world = new_world()
        world.check(Calls({number: partial(world.fail, Calls())}))
        world.assert_told(number)


def test_a_failure_that_died_at_any_moment_does_not_stand_before_a_success(
    new_world: Callable[[], World],
) -> None:
    for number in calls_of(new_world().fail):
        world = new_world()
        with pytest.raises(Crash):
            world.fail(Calls({number: die}))
        world.check(Calls())
        world.fail_again()
        world.assert_told(number)


def test_a_failure_that_died_while_a_success_was_recorded_does_not_stand(
    new_world: Callable[[], World],
) -> None:
    numbers = calls_of(new_world().fail)
    for number, end in combinations(numbers, 2):
        world = new_world()
        try:
            world.fail(Calls({number: partial(world.check, Calls()), end: die}))
        except Crash:
            world.fail_again()
        world.assert_told((number, end))


def two_jobs() -> World:
    """Each of them has imported what the other has not: the start's answer was lost."""
    world = a_world(1, has_manifest=True)
    world.service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
    one, two = (each.key for each in a_manifest(2).instances)
    first = world.stores.jobs.get("job1")
    assert first is not None
    world.stores.jobs.create(replace(first, job_id="job2"))
    keep_results(
        world.stores,
        job_id="job2",
        summary=summary(1, 1),
        success=lines(success(two)),
        failure=lines(failed(one)),
    )
    return replace(world, imported=2)


def test_two_jobs_that_end_at_once_do_not_fail_what_the_other_has_imported() -> None:
    for number in calls_of(two_jobs().check):
        world = two_jobs()
        world.check(Calls({number: partial(world.check_job, "job2", Calls())}))
        world.check_job("job2", Calls())
        world.assert_batch(number)


MUCH_LATER = LATER + timedelta(hours=1)


def a_batch_without_a_job() -> World:
    stores = memory_stores(a_manifest(2))
    for each in a_manifest(2).instances:
        keep_metadata(stores, each)
    return World(stores, FakeHealthImaging(), 2)


def start_late(world: World, dies: bool) -> None:
    """A StartImportJob that was given up, and goes on; its job is listed at once, and completes.

    ``dies``: with the answer, before it has recorded the job.
    """
    world.service.on_start = die if dies else lambda: None
    with suppress(ServiceUnavailable, Crash):
        start_import(EXECUTION, a_context(world.stores, world.service, LATER))
    if world.service.started:
        world.service.listed[BATCH] = "job1"
        world.service.view = ImportView(JobStatus.COMPLETED, FOLDER)
        keys = (each.key for each in a_manifest(2).instances)
        keep_results(world.stores, summary=summary(2), success=lines(*map(success, keys)))


@pytest.mark.parametrize("dies", [False, True])
def test_a_failure_does_not_stand_where_a_job_is_started_meanwhile(dies: bool) -> None:
    def fail(world: World, calls: Calls) -> Any:
        try:
            return record_failure(EVENT, world.context(calls))
        except ServiceUnavailable:
            return record_failure(EVENT, replace(world.context(Calls()), now=MUCH_LATER))

    for number in calls_of(partial(fail, a_batch_without_a_job())):
        world = a_batch_without_a_job()
        state = fail(world, Calls({number: partial(start_late, world, dies)}))
        if world.service.started:
            assert state["status"] == JobStatus.COMPLETED, number
            world.assert_told(number)
        else:
            assert state["status"] == JobStatus.FAILED, number
