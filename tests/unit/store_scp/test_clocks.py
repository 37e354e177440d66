"""AWS's time by clocks that a test moves."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.clocks import ServerClock
from store_scp.server_time import DATE_ERROR

STARTED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
HOUR = 3_600.0


@dataclass
class Machine:
    """A machine, started at STARTED, whose system's clock is ``ahead`` of the truth.

    Its steady clock says ``up``, and ``missed`` the time that the machine was stopped.
    """

    ahead: float = 0.0
    up: float = 0.0
    missed: float = 0.0

    def system(self) -> float:
        return self.now().timestamp() + self.ahead

    def steady(self) -> float:
        return self.up

    def clock(self) -> ServerClock:
        return ServerClock(self.system, self.steady)

    def now(self) -> datetime:
        return STARTED + timedelta(seconds=self.up + self.missed)

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


@pytest.mark.parametrize("ahead", [-48 * HOUR, -180, 0, 180, 48 * HOUR])
def test_a_large_offset_takes_two_answers_that_agree(ahead: float) -> None:
    machine = Machine(ahead)
    clock = machine.clock()
    machine.answer(clock)
    assert clock.wants_answer() is (ahead != 0)
    assert clock.offset() == (None if ahead else pytest.approx(0, abs=2))
    machine.answer(clock, always=True)
    assert not clock.wants_answer()
    assert clock.offset() == pytest.approx(ahead, abs=2)


def test_a_systems_clock_that_is_set_moves_the_offset_and_not_the_time() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    before = 0.0
    for ahead in (HOUR, -HOUR, 0.0):
        machine.ahead = ahead
        assert distance(clock.now(), machine.now()) < 2
        # Which of the clocks has moved, S3 has to say.
        assert clock.offset() == pytest.approx(before, abs=2)
        assert clock.wants_answer()
        for _ in range(2):
            machine.answer(clock, always=True)
        assert not clock.wants_answer()
        assert clock.offset() == pytest.approx(ahead, abs=2)
        assert distance(clock.now(), machine.now()) < 2
        before = ahead


def test_a_steady_clock_that_missed_hours_while_nobody_sent_makes_no_offset() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    machine.missed += 8 * HOUR
    assert clock.wants_answer()
    assert clock.offset() == pytest.approx(0, abs=2)
    machine.answer(clock, always=True)
    # One answer is not believed against all others.
    assert clock.wants_answer()
    assert clock.offset() == pytest.approx(0, abs=2)
    machine.answer(clock, always=True)
    assert not clock.wants_answer()
    assert clock.offset() == pytest.approx(0, abs=2)
    assert distance(clock.now(), machine.now()) < 2


def test_after_five_minutes_of_silence_an_answer_is_wanted() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    machine.up += 299
    assert not clock.wants_answer()
    machine.up += 1
    assert clock.wants_answer()


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(-5_000, 5_000)), min_size=1, max_size=12))
def test_after_an_answer_the_latest_time_is_not_before_its_date(
    turns: list[tuple[float, float]],
) -> None:
    """Whatever clocks and servers do: it is what a lease rests on."""
    machine = Machine()
    clock = machine.clock()
    for pause, missed in turns:
        machine.up += pause
        machine.missed += missed
        told = machine.now().replace(microsecond=0)
        machine.answer(clock)
        assert clock.latest() >= told - timedelta(seconds=DATE_ERROR)


def test_without_answers_the_latest_moment_moves_away_and_never_behind_the_truth() -> None:
    machine = Machine(ahead=-HOUR)
    clock = machine.clock()
    machine.answer(clock)
    machine.up += 24 * HOUR
    assert machine.now() + timedelta(seconds=80) < clock.latest()
    assert clock.latest() < machine.now() + timedelta(seconds=100)
    machine.answer(clock)
    assert clock.latest() < machine.now() + timedelta(seconds=4)


def test_the_same_date_is_measured_once_a_second_and_a_refusals_always() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    date = machine.date()
    machine.up += 0.9
    before = clock.latest()
    clock.answered(date, clock.steady())
    assert clock.latest() == before
    clock.answered(date, clock.steady(), always=True)
    assert clock.latest() < before


def test_a_date_that_contradicts_the_last_is_measured_within_the_second() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.answer(clock)
    machine.missed = HOUR
    machine.answer(clock)
    assert clock.latest() >= machine.now()
    machine.answer(clock)
    assert distance(clock.now(), machine.now()) < 2


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
