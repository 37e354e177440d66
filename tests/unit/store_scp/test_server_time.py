"""AWS's time from Date headers: what one answer bounds, what many do, and who is believed."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from store_scp.server_time import (
    DATE_ERROR,
    DRIFT,
    LARGE_OFFSET,
    Measured,
    OffsetState,
    Origin,
    parse_date,
)

# AWS's time when the steady clock read 0; seconds since 1970.
TRUE = 1_764_600_000.4


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, in seconds: since the one before, there, back, and how wrong its server is."""

    pause: float
    there: float
    back: float
    error: float


def seconds(most: float, least: float = 0.0) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


ANSWERS = st.builds(
    Answer, seconds(5_000), seconds(30), seconds(30), seconds(DATE_ERROR, -DATE_ERROR)
)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31)))  # noqa: DTZ001
def test_every_date_that_a_server_may_send_is_read(moment: datetime) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    assert parse_date(format_datetime(whole, usegmt=True)) == whole.timestamp()


@given(st.text() | st.from_regex(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fullmatch=True))
@example("Sun, 31 Feb 2026 00:00:00 GMT")
@example("Sunday, 06-Nov-94 08:49:37 GMT")
@example("Thu, 01 Jan 1970 00:00:00 GMT")
@example("Sun, 06 Nov 2026 08:49:37 +0100")
def test_anything_else_is_no_date(text: str) -> None:
    found = parse_date(text)
    assert found is None or 946_684_800 <= found < 7_258_118_400


@pytest.mark.parametrize(
    "text", ["Sun, 31 Feb 2026 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "", "0"]
)
def test_what_is_no_day_of_ours_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_an_answer_is_as_exact_as_its_round_trip_and_a_second() -> None:
    origin = Origin.of_answer(date=1_000_000, asked_at=10.0, answered_at=10.5)
    assert origin.latest - origin.earliest == pytest.approx(0.5 + 1 + 2 * DATE_ERROR)
    assert origin.middle == pytest.approx(1_000_000 + 0.5 - 10.25)


@given(st.lists(ANSWERS, min_size=1, max_size=30), seconds(DRIFT, -DRIFT), seconds(100_000))
def test_the_truth_is_in_the_interval_whatever_the_servers_and_the_quartz_do(
    answers: list[Answer], drift: float, idle: float
) -> None:
    """AWS's time runs ``drift`` faster than the steady clock; servers differ; answers take time."""
    measured, steady = Measured(), 1_000.0
    for each in answers:
        asked_at = steady + each.pause
        told = asked_at + each.there
        steady = told + each.back
        date = math.floor(TRUE + told * (1 + drift) + each.error)
        measured = measured.after(Origin.of_answer(date, asked_at, steady))
        assert measured.doubt is None
    assert measured.origin is not None
    now = steady + idle
    aged = measured.origin.aged(now)
    slack = 1e-5  # of floats
    assert aged.earliest - slack <= TRUE + now * drift <= aged.latest + slack


@given(st.lists(ANSWERS, min_size=1, max_size=20))
def test_more_answers_never_make_it_less_exact_than_the_clock_does(answers: list[Answer]) -> None:
    measured, steady = Measured(), 1_000.0
    for each in answers:
        before = measured.origin
        asked_at, steady = steady + each.pause, steady + each.pause + each.there
        date = math.floor(TRUE + steady + each.error)
        measured = measured.after(Origin.of_answer(date, asked_at, steady))
        assert measured.origin is not None
        if before is not None:
            aged = before.aged(steady)
            width = measured.origin.latest - measured.origin.earliest
            assert width <= aged.latest - aged.earliest + 1e-6


def honest(at: float, truth: float = TRUE) -> Origin:
    return Origin.of_answer(math.floor(truth + at), at - 0.02, at)


@pytest.mark.fault("wrong-clock")
@given(seconds(10_000_000, -1_000_000_000).filter(lambda error: abs(error) > 10))
def test_one_answer_is_not_believed_against_all_others(error: float) -> None:
    measured = Measured().after(honest(100)).after(honest(101))
    lied_to = measured.after(honest(102, TRUE + error))
    assert lied_to.origin == measured.origin
    agreed = lied_to.after(honest(103))
    assert agreed.doubt is None
    assert agreed.origin is not None
    assert agreed.origin.middle == pytest.approx(TRUE, abs=2)


@given(seconds(10_000_000, -1_000_000_000).filter(lambda jump: abs(jump) > 10))
def test_a_steady_clock_that_missed_time_is_found_out_by_two_answers(jump: float) -> None:
    measured = Measured().after(honest(100)).after(honest(101))
    for at in (200.0, 201.0):
        measured = measured.after(honest(at, TRUE + jump))
    assert measured.doubt is None
    assert measured.origin is not None
    assert measured.origin.middle == pytest.approx(TRUE + jump, abs=2)


def test_a_clock_is_called_wrong_once_and_right_once() -> None:
    state, told = OffsetState(), []
    for offset in (0, 59, 61, 59, 61, -61, 31, 29, 31, -90, 0):
        before, state = state, state.seen(offset)
        if state != before:
            told.append((offset, state.large))
    assert told == [(61, True), (29, False), (-90, True), (0, False)]
    assert timedelta(seconds=LARGE_OFFSET) < timedelta(minutes=2), "the grace of recovery"
