"""The real clock and the one that a test moves run what is due in the order of its times."""

import threading
from collections.abc import Iterator

import pytest

from local.healthimaging import ManualScheduler, Scheduler, ThreadScheduler


def until_done(scheduler: Scheduler, done: threading.Event) -> None:
    if isinstance(scheduler, ManualScheduler):
        scheduler.advance(1)
    assert done.wait(10)


@pytest.fixture(params=[ManualScheduler, ThreadScheduler])
def scheduler(request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    scheduler: Scheduler = request.param()
    yield scheduler
    scheduler.close()


def test_actions_run_in_the_order_of_their_times_and_may_add_others(scheduler: Scheduler) -> None:
    ran: list[str] = []
    all_are_there, done = threading.Event(), threading.Event()
    began = scheduler.now() - 10

    def first() -> None:
        ran.append("first")
        scheduler.at(began + 2, lambda: ran.append("added"))
        scheduler.at(began + 4, done.set)

    scheduler.at(began, lambda: void(all_are_there.wait(10)))
    scheduler.at(began + 3, lambda: ran.append("later"))
    scheduler.at(began + 1, first)
    all_are_there.set()
    until_done(scheduler, done)
    assert ran == ["first", "added", "later"]


def void(_: object) -> None:
    return None


def test_what_is_not_due_yet_is_dropped_at_the_end() -> None:
    scheduler, ran = ThreadScheduler(), list[str]()
    began = threading.Event()
    scheduler.at(scheduler.now() + 3600, lambda: ran.append("in an hour"))
    scheduler.at(scheduler.now(), began.set)
    assert began.wait(10)
    threads = threading.active_count()
    scheduler.close()
    assert threading.active_count() == threads - 1
    assert ran == []


def test_a_clock_that_a_test_moves_runs_nothing_before_its_time() -> None:
    scheduler, ran = ManualScheduler(now=100.0), list[float]()
    for due in (103.0, 101.0):
        scheduler.at(due, lambda: ran.append(scheduler.now()))
    scheduler.advance(2)
    assert ran == [101.0]
    scheduler.advance(1)
    assert (ran, scheduler.now()) == ([101.0, 103.0], 103.0)
