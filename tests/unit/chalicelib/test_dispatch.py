"""Dispatchers over in-memory stores and a clock of their own."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from chalicelib.deadline import Deadline
from chalicelib.errors import RowUnreadable, ServiceUnavailable
from chalicelib.imports.execution import Execution
from chalicelib.intake import dispatch as dispatching
from chalicelib.intake.dispatch import Desk, dispatch
from chalicelib.settings import AdmissionSettings
from chalicelib.stores.batches import BatchLine
from chalicelib.stores.memory import MemoryBatches, MemoryGate
from structlog.testing import capture_logs

from contract.batch_states import BatchEvent
from contract.records import BatchRecord, BatchState
from tests.unit.chalicelib.builders import BUCKET, DATASTORE, NOW, a_batch, in_state

SETTINGS = AdmissionSettings(dicom_bucket=BUCKET, state_machine_arn="arn", datastore_id=DATASTORE)


class FakeClock:
    """Time passes where it is slept; ``on_sleep`` is what the rest of the world does meanwhile."""

    def __init__(self) -> None:
        self.time = NOW
        self.on_sleep: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.on_sleep()


class FakeWorkflow:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.started: dict[str, float] = {}
        self.ended: set[str] = set()
        self.fault: Exception | None = None
        self.all_die = False
        self.dies_at: str | None = None

    def start(self, execution: Execution, attempt: int = 0) -> bool:
        if self.fault:
            raise self.fault
        name = execution.batch_id + (f"-{attempt}" if attempt else "")
        if name == self.dies_at:
            raise ServiceUnavailable("StartExecution failed")
        is_new = name not in self.started
        self.started.setdefault(name, (self.clock.time - NOW).total_seconds())
        is_running = name not in self.ended
        if is_new and self.all_die:
            self.ended.add(name)
        return is_running


class LaggingBatches(MemoryBatches):
    """A BatchStore whose index shows nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.lags = False
        self.on_query: Callable[[], None] = lambda: None

    def lines(
        self, state: BatchState, limit: int | None = None, *, newest: bool = False
    ) -> Iterator[BatchLine]:
        self.on_query()
        return iter(()) if self.lags else super().lines(state, limit, newest=newest)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.batches = LaggingBatches()
        self.gate = MemoryGate()
        self.workflow = FakeWorkflow(self.clock)

    def desk(self, holder: str = "me", settings: AdmissionSettings = SETTINGS) -> Desk:
        return Desk(self.batches, self.gate, self.workflow, settings, self.clock, holder)

    def close(self, count: int, ae: str = "CT1", first: int = 0) -> list[BatchRecord]:
        closed = [
            replace(a_batch(batch_id=f"20261123T093000Z-{number:016x}"), calling_ae_title=ae)
            for number in range(first, first + count)
        ]
        for batch in closed:
            assert self.batches.move(batch, BatchEvent.CLOSED)
        return closed

    def states(self) -> list[BatchState]:
        return [batch.state for batch in self.batches.rows.values()]


@pytest.fixture
def world() -> World:
    return World()


def test_a_batch_that_waits_alone_starts_at_once(world: World) -> None:
    (batch,) = world.close(1)
    assert dispatch(world.desk()) == 1
    assert world.workflow.started == {batch.batch_id: 0.0}
    known = world.batches.get(batch.batch_id)
    assert known is not None
    assert (known.state, known.admitted_at) == (BatchState.IMPORTING, NOW)
    assert world.gate.holder is None


def test_what_was_closed_a_moment_ago_starts_though_the_index_lags(world: World) -> None:
    closed = world.close(1)
    world.batches.lags = True
    assert dispatch(world.desk(), closed) == 1


def test_a_dispatcher_tells_what_waits_and_for_how_long(world: World) -> None:
    world.close(3)
    world.clock.time = max(each.closed_at or NOW for each in world.batches.rows.values())
    world.clock.time += timedelta(seconds=90)
    with capture_logs() as lines:
        dispatch(world.desk())
    backlog = next(line for line in lines if line["event"] == "backlog")
    assert (backlog["WaitingBatches"], backlog["BacklogSeconds"]) == (3, 90)
    assert (backlog["ImportingBatches"], backlog["ImportingSeconds"]) == (0, 0)
    (directive,) = backlog["_aws"]["CloudWatchMetrics"]
    units = {each["Name"]: each["Unit"] for each in directive["Metrics"]}
    assert (units["WaitingBatches"], units["BacklogSeconds"]) == ("Count", "Seconds")


def test_a_burst_starts_at_the_rate_and_goes_on_in_the_next_invocation(world: World) -> None:
    world.close(100)
    assert dispatch(world.desk()) == 55
    world.clock.time = NOW + timedelta(seconds=60)
    assert dispatch(world.desk()) == 45
    times = list(world.workflow.started.values())
    assert min(b - a for a, b in itertools.pairwise(times)) >= 1


@pytest.mark.parametrize(("seconds", "started"), [(120, 55), (40, 25), (15, 0), (-1, 0)])
def test_a_dispatcher_ends_before_its_invocation_does(
    world: World, seconds: int, started: int
) -> None:
    world.close(100)
    until = Deadline(NOW + timedelta(seconds=seconds))
    assert dispatch(replace(world.desk(), deadline=until)) == started
    assert world.gate.holder is None
    assert dispatch(world.desk("schedule")) > 0


def test_the_pace_is_shared_by_invocations_that_follow_at_once(world: World) -> None:
    for number in range(5):
        dispatch(world.desk(), world.close(1, first=number))
    assert list(world.workflow.started.values()) == [0, 1, 2, 3, 4]


def test_no_more_run_at_once_than_the_data_store_allows(world: World) -> None:
    world.close(5)
    two = SETTINGS.model_copy(update={"max_concurrent_jobs": 2})
    assert dispatch(world.desk(settings=two)) == 2
    assert world.states().count(BatchState.IMPORTING) == 2


def test_a_slot_that_becomes_free_is_used_within_seconds(world: World) -> None:
    world.close(2)

    def end_the_first() -> None:
        for batch in in_state(world.batches, BatchState.IMPORTING):
            if world.clock.time - NOW > timedelta(seconds=10):
                world.batches.move(batch, BatchEvent.IMPORTED)

    world.clock.on_sleep = end_the_first
    one = SETTINGS.model_copy(update={"max_concurrent_jobs": 1})
    assert dispatch(world.desk(settings=one)) == 2
    assert list(world.workflow.started.values())[1] <= 13


def test_only_one_dispatcher_works_and_it_sees_what_the_other_closed(world: World) -> None:
    world.close(2)
    other: list[int] = []

    def another_comes() -> None:
        if not other:
            other.append(dispatch(world.desk("other"), world.close(1, first=7)))

    world.clock.on_sleep = another_comes
    assert dispatch(world.desk()) == 3
    assert other == [0]


def test_a_batch_announced_just_before_the_end_is_not_left_to_the_schedule(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index showed nothing, another came and went, and only then does this one leave."""
    closed = world.close(1)
    world.batches.lags = True
    leave = world.gate.leave
    asked: list[int] = []

    def leave_after_another(holder: str, asked_before: int | None = None) -> bool:
        if not asked:
            asked.append(dispatch(world.desk("other"), closed))
            world.batches.lags = False
        return leave(holder, asked_before)

    monkeypatch.setattr(world.gate, "leave", leave_after_another)
    assert dispatch(world.desk()) == 1
    assert asked == [0]


def test_a_dispatcher_that_died_is_followed_after_its_hold(world: World) -> None:
    world.close(1)
    world.gate.enter("dead", NOW, NOW + timedelta(seconds=60))
    assert dispatch(world.desk()) == 0
    world.clock.time += timedelta(seconds=61)
    assert dispatch(world.desk()) == 1


def test_a_dispatcher_that_was_taken_over_starts_nothing_more(world: World) -> None:
    world.close(2)
    world.clock.on_sleep = lambda: void(
        world.gate.enter("other", NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    )
    assert dispatch(world.desk()) == 1
    assert world.gate.holder == "other"


def void(_: object) -> None:
    return None


def test_an_execution_that_a_crash_prevented_is_started_later(world: World) -> None:
    (batch,) = world.close(1)
    world.workflow.fault = ServiceUnavailable("StartExecution failed")
    with pytest.raises(ServiceUnavailable):
        dispatch(world.desk())
    world.workflow.fault = None
    world.clock.time += timedelta(minutes=4)
    dispatch(world.desk())
    assert world.workflow.started == {}  # StartImportJob may just take long
    world.clock.time += timedelta(minutes=2)
    dispatch(world.desk())
    assert list(world.workflow.started) == [batch.batch_id]


def test_an_execution_that_died_before_its_batch_is_followed_by_another(world: World) -> None:
    (batch,) = world.close(1)
    dispatch(world.desk())
    assert world.batches.attach_job(batch.batch_id, "job1")
    world.workflow.ended.add(batch.batch_id)
    world.clock.time += timedelta(minutes=4)
    dispatch(world.desk())
    assert len(world.workflow.started) == 1  # most have ended by then
    world.clock.time += timedelta(minutes=2)
    dispatch(world.desk())
    assert list(world.workflow.started) == [batch.batch_id, f"{batch.batch_id}-1"]
    known = world.batches.get(batch.batch_id)
    assert known is not None
    assert (known.state, known.attempt, known.job_id) == (BatchState.IMPORTING, 1, "job1")


def each_minute(world: World, minutes: int) -> list[dict[str, Any]]:
    """The schedule's invocations; returns what each told of the backlog."""
    told = []
    for _ in range(minutes):
        began = world.clock.time
        with capture_logs() as lines:
            dispatch(world.desk())
        told += [dict(line) for line in lines if line["event"] == "backlog"]
        world.clock.time = began + timedelta(minutes=1)
    return told


def test_executions_that_die_again_and_again_are_followed_without_end(world: World) -> None:
    world.workflow.all_die = True
    (batch,) = world.close(1)
    told = each_minute(world, 3 * 24 * 60)
    names = list(world.workflow.started)
    assert names == [batch.batch_id, *(f"{batch.batch_id}-{n}" for n in range(1, len(names)))]
    minutes = [at / 60 for at in world.workflow.started.values()]
    gaps = [b - a for a, b in itertools.pairwise(minutes)]
    assert all(gap <= 61 for gap in gaps)  # three days on, it is tried each hour
    assert len(gaps) > 70
    assert sorted(gaps[:4]) == gaps[:4]  # and ever less often before
    # The alarm's two of twelve periods of five minutes.
    stalled = [each["StalledBatches"] for each in told]
    hours = [stalled[at : at + 60] for at in range(60, len(stalled) - 60, 60)]
    assert all(sum(hour) >= 10 for hour in hours)


def test_dead_executions_in_all_slots_do_not_keep_others_waiting(world: World) -> None:
    """All 100 slots; an hour without a start, before."""
    dead = world.close(100, "MIGRATION")
    each_minute(world, 3)
    world.workflow.all_die = True
    world.workflow.ended |= {batch.batch_id for batch in dead}
    waiting = world.close(3, "CT1", first=1000)
    began = world.clock.time
    each_minute(world, 7)
    world.workflow.all_die = False
    starts = [world.workflow.started.get(batch.batch_id, 1e9) for batch in waiting]
    assert max(starts) - (began - NOW).total_seconds() < 7 * 60
    # And those that died are all tried again, beside them.
    each_minute(world, 20)
    assert {f"{batch.batch_id}-1" for batch in dead} <= world.workflow.started.keys()


def test_many_dead_executions_leave_nine_turns_of_ten_to_those_who_wait(world: World) -> None:
    many = SETTINGS.model_copy(update={"max_concurrent_jobs": 10_000})
    dead = world.close(60, "CT1")
    for _ in range(2):
        dispatch(world.desk(settings=many))
    world.workflow.ended |= {batch.batch_id for batch in dead}
    world.clock.time += timedelta(minutes=6)
    world.close(200, "CT1", first=1000)
    before = len(world.workflow.started)
    assert dispatch(world.desk(settings=many)) >= 50
    again = [each for each in list(world.workflow.started)[before:] if each.endswith("-1")]
    assert len(again) == 5


def test_a_crash_between_the_number_and_the_start_costs_no_batch(world: World) -> None:
    (batch,) = world.close(1)
    dispatch(world.desk())
    world.workflow.ended.add(batch.batch_id)
    world.workflow.dies_at = f"{batch.batch_id}-1"
    world.clock.time += timedelta(minutes=6)
    with pytest.raises(ServiceUnavailable):
        dispatch(world.desk())
    world.workflow.dies_at = None
    each_minute(world, 9)
    assert list(world.workflow.started) == [batch.batch_id, f"{batch.batch_id}-1"]


def test_an_execution_that_cannot_be_asked_after_keeps_nobody_waiting(world: World) -> None:
    (old,) = world.close(1)
    dispatch(world.desk())
    world.clock.time += timedelta(minutes=10)
    (new,) = world.close(1, first=7)
    world.workflow.dies_at = old.batch_id
    dispatch(world.desk())
    assert new.batch_id in world.workflow.started
    known = world.batches.get(old.batch_id)
    assert known is not None
    assert known.state is BatchState.IMPORTING


def test_a_name_that_was_used_before_is_passed_over(world: World) -> None:
    """The record was deleted and made again, and counts from 0."""
    (batch,) = world.close(1)
    dispatch(world.desk())
    world.workflow.ended |= {batch.batch_id, *(f"{batch.batch_id}-{n}" for n in (1, 2))}
    each_minute(world, 40)
    assert f"{batch.batch_id}-3" in world.workflow.started
    known = world.batches.get(batch.batch_id)
    assert known is not None
    assert (known.state, known.attempt) == (BatchState.IMPORTING, 3)


def test_a_batch_admitted_before_the_index_knew_is_not_admitted_twice(world: World) -> None:
    (batch,) = world.close(1)
    dispatch(world.desk())
    assert dispatch(world.desk(), [batch]) == 0
    assert len(world.workflow.started) == 1


def test_a_small_sender_is_served_between_a_large_ones_batches(world: World) -> None:
    world.close(40, "MIGRATION")
    small = world.close(2, "CT1", first=1000)
    dispatch(world.desk())
    order = list(world.workflow.started)
    assert [order.index(batch.batch_id) for batch in small] == [1, 3]


def test_a_small_sender_is_served_however_long_a_large_ones_queue_is(world: World) -> None:
    world.close(5001, "MIGRATION")
    small = replace(
        a_batch(batch_id="20261124T093000Z-0000000000000000"),
        calling_ae_title="CT1",
        opened_at=NOW + timedelta(days=1),
    )
    world.batches.move(small, BatchEvent.CLOSED)
    dispatch(world.desk())
    assert list(world.workflow.started)[1] == small.batch_id


def test_looking_at_who_waits_costs_no_start(world: World) -> None:
    """Reading the index takes most of a second, which is spent where a start waits anyway."""
    world.close(100)
    world.batches.on_query = lambda: world.clock.sleep(0.4)
    assert dispatch(world.desk()) == 55
    times = list(world.workflow.started.values())
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.5


def test_a_first_look_that_takes_long_leaves_time_to_start(world: World) -> None:
    world.close(10)
    world.batches.on_query = lambda: world.clock.sleep(3)
    assert dispatch(world.desk(settings=SETTINGS.model_copy(update={"dispatch_seconds": 2})))


def test_a_queue_that_is_not_seen_whole_is_started_whole_and_no_more_than_one_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "_OLDEST", 50)
    monkeypatch.setattr(dispatching, "_NEWEST", 100)
    world.close(300)
    many = SETTINGS.model_copy(update={"max_concurrent_jobs": 10_000})
    invocations = 0
    while len(world.workflow.started) < 300:
        dispatch(world.desk(settings=many))
        invocations += 1
        world.clock.time = NOW + timedelta(minutes=invocations)
    assert invocations <= 300 / 55 + 1
    times = list(world.workflow.started.values())
    assert all(b - a >= 1 for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("state", [BatchState.CLOSED, BatchState.IMPORTING, BatchState.STALLED])
def test_a_batch_whose_record_cannot_be_read_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, state: BatchState
) -> None:
    """Somebody has changed it: it stays as it is, and has a line in the log."""
    bad, *others = world.close(4)
    world.workflow.all_die = True
    for each in (bad, *others):
        world.batches.rows[each.batch_id] = replace(each, state=state, admitted_at=NOW)
    real = world.batches.get

    def get(batch_id: str) -> BatchRecord | None:
        if batch_id == bad.batch_id:
            raise RowUnreadable("an item of a table is not what the product writes")
        return real(batch_id)

    monkeypatch.setattr(world.batches, "get", get)
    each_minute(world, 12)
    with capture_logs() as lines:
        dispatch(world.desk())
    started = {name[: len(bad.batch_id)] for name in world.workflow.started}
    assert started == {each.batch_id for each in others}
    assert "batch_unreadable" in {line["event"] for line in lines}
