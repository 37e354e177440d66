"""AWS's time by clocks that a test moves."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from store_scp.clocks import ServerClock

STARTED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
HOUR = 3_600.0


@dataclass
class Machine:
    """A machine, started at STARTED, whose system's clock is ``ahead`` of the truth."""

    ahead: float = 0.0
    up: float = 0.0

    def system(self) -> float:
        return STARTED.timestamp() + self.up + self.ahead

    def steady(self) -> float:
        return self.up

    def clock(self) -> ServerClock:
        return ServerClock(self.system, self.steady)

    def now(self) -> datetime:
        return STARTED + timedelta(seconds=self.up)

    def date(self) -> str:
        """What AWS says now."""
        return format_datetime(self.now(), usegmt=True)

    def answer(self, clock: ServerClock, *, always: bool = False) -> None:
        asked_at = clock.steady()
        self.up += 0.1
        clock.answered(self.date(), asked_at, always=always)


def distance(one: datetime, two: datetime) -> float:
    return abs((one - two).total_seconds())


def test_before_an_answer_there_is_only_the_systems_time() -> None:
    machine = Machine(ahead=HOUR)
    clock = machine.clock()
    assert not clock.known
    assert clock.offset() is None
    assert clock.now() == clock.latest() == machine.now() + timedelta(hours=1)


@pytest.mark.parametrize("ahead", [-48 * HOUR, -HOUR, -180, 0, 180, HOUR, 48 * HOUR])
def test_one_answer_tells_the_time_whatever_the_systems_clock_says(ahead: float) -> None:
    machine = Machine(ahead)
    clock = machine.clock()
    machine.answer(clock)
    assert clock.known
    assert distance(clock.now(), machine.now()) < 2
    assert machine.now() <= clock.latest() < machine.now() + timedelta(seconds=4)
    assert clock.offset() == pytest.approx(ahead, abs=2)


def test_a_systems_clock_that_is_set_moves_the_offset_and_not_the_time() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    for ahead in (HOUR, -HOUR, 0.0):
        machine.ahead = ahead
        assert distance(clock.now(), machine.now()) < 2
        assert clock.offset() == pytest.approx(ahead, abs=2)


def test_without_answers_the_latest_moment_moves_away_and_never_behind_the_truth() -> None:
    machine = Machine(ahead=-HOUR)
    clock = machine.clock()
    machine.answer(clock)
    machine.up += 24 * HOUR
    assert machine.now() + timedelta(seconds=80) < clock.latest()
    assert clock.latest() < machine.now() + timedelta(seconds=100)
    machine.answer(clock)
    assert clock.latest() < machine.now() + timedelta(seconds=4)


def test_one_answer_a_second_is_measured_and_a_refusal_always() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    wrong = format_datetime(machine.now() + timedelta(hours=1), usegmt=True)
    # Two of these would be believed.
    for _ in range(3):
        clock.answered(wrong, clock.steady())
    assert distance(clock.now(), machine.now()) < 2
    for _ in range(2):
        clock.answered(wrong, clock.steady(), always=True)
    assert distance(clock.now(), machine.now() + timedelta(hours=1)) < 2


def test_after_a_contradiction_the_next_answer_decides_at_once() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    machine.up += 2
    clock.answered("Sun, 06 Nov 2033 08:49:37 GMT", clock.steady())
    machine.answer(clock)
    clock.answered("Sun, 06 Nov 2033 08:49:37 GMT", clock.steady(), always=True)
    assert distance(clock.now(), machine.now()) < 2


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_an_answer_that_does_not_tell_the_time_leaves_it_unknown(date: str | None) -> None:
    clock = Machine().clock()
    clock.answered(date, clock.steady())
    assert not clock.known


def test_nothing_has_expired_before_the_time_is_known() -> None:
    machine = Machine(ahead=48 * HOUR)
    clock = machine.clock()
    assert clock.expiry_time() < machine.now() - timedelta(days=365)
    machine.answer(clock)
    assert distance(clock.expiry_time(), machine.now()) < 2
