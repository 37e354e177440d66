"""Whose turn it is, and when: over simulated time, with HealthImaging's own token bucket."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from chalicelib.intake.admission import (
    MAX_RECENT,
    Pace,
    Slots,
    choose,
    due_again,
    is_due,
    remembered,
)
from chalicelib.stores.batches import BatchLine, line_of
from hypothesis import given
from hypothesis import strategies as st

from local.healthimaging.quotas import Rate, TokenBucket
from tests.unit.chalicelib.builders import NOW, a_batch

SLOTS = Slots(per_datastore=3, default_datastore="d")


def waiting(number: int, ae: str = "CT1", *, urgent: bool = False) -> BatchLine:
    batch = a_batch(batch_id=f"20261123T093000Z-{number:016x}")
    opened_at = NOW + timedelta(seconds=number)
    return line_of(replace(batch, calling_ae_title=ae, urgent=urgent, opened_at=opened_at))


def starts(pace: Pace, until: float) -> list[float]:
    """The times at which somebody who always has work starts it."""
    now, next_start, times = NOW, None, list[float]()
    while (now - NOW).total_seconds() < until:
        now += timedelta(seconds=pace.wait(next_start, now))
        next_start = pace.after(next_start, now)
        times.append((now - NOW).total_seconds())
    return times


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 1), (0.25, 1), (1.0, 2), (20.0, 5)])
def test_starts_come_at_the_rate_after_a_first_burst(rate: float, burst: int) -> None:
    times = starts(Pace(rate, burst), 100)
    assert times[:burst] == [0.0] * burst
    assert len(times) == pytest.approx(100 * rate + burst, abs=1.01)


@given(st.lists(st.floats(0, 0.999), min_size=60, max_size=60))
def test_the_default_pace_is_never_throttled_though_each_start_arrives_up_to_a_second_late(
    late: list[float],
) -> None:
    arrivals = sorted(at + delay for at, delay in zip(starts(Pace(1.0, 1), 60), late, strict=False))
    bucket = TokenBucket.full(Rate(1, 2), 0)
    for at in arrivals:
        taken = bucket.take(at + 1e-6)
        assert taken is not None
        bucket = taken


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - naive bounds
def test_a_clock_that_was_wrong_does_not_stop_imports(left: datetime) -> None:
    pace = Pace(1.0, 2)
    assert pace.wait(left.replace(tzinfo=NOW.tzinfo), NOW) <= 2


def test_the_oldest_comes_first_where_nothing_else_decides() -> None:
    batches = [waiting(3), waiting(1), waiting(2)]
    assert choose(batches, [], (), SLOTS) == batches[1]
    assert choose([], [], (), SLOTS) is None


def test_an_urgent_batch_comes_before_all_others() -> None:
    batches = [waiting(1), waiting(9, urgent=True)]
    assert choose(batches, [], ("CT1",) * 9, SLOTS) == batches[1]


def test_a_calling_ae_title_with_less_on_its_way_comes_first() -> None:
    batches = [waiting(1, "MIGRATION"), waiting(9, "CT1")]
    assert choose(batches, [waiting(0, "MIGRATION")], (), SLOTS) == batches[1]
    assert choose(batches, [], ("MIGRATION",), SLOTS) == batches[1]
    assert choose(batches, [waiting(0, "CT1")], (), SLOTS) == batches[0]


def test_a_busy_data_store_does_not_hold_up_another() -> None:
    busy = [waiting(number) for number in range(3)]
    other = replace(waiting(9), datastore_id="other")
    named = replace(waiting(5), datastore_id="d")
    assert choose([waiting(4), named], busy, (), SLOTS) is None
    assert choose([waiting(4), named, other], busy, (), SLOTS) == other


@given(st.lists(st.sampled_from(["CT1", "CT2", "MIGRATION"]), min_size=1, max_size=60))
def test_turns_differ_by_one_at_most_between_those_who_wait(senders: list[str]) -> None:
    left = [waiting(number, ae) for number, ae in enumerate(senders)]
    recent: tuple[str, ...] = ()
    given_turns: Counter[str] = Counter()
    while left:
        batch = choose(left, [], recent, SLOTS)
        assert batch is not None
        served = {each.calling_ae_title for each in left}
        assert given_turns[batch.calling_ae_title] == min(given_turns[ae] for ae in served)
        given_turns[batch.calling_ae_title] += 1
        recent = remembered(recent, batch)
        left.remove(batch)


def test_what_is_remembered_is_bounded() -> None:
    recent: tuple[str, ...] = ()
    for number in range(2 * MAX_RECENT):
        recent = remembered(recent, waiting(number))
    assert len(recent) == MAX_RECENT


@given(st.integers(0, 10_000), st.integers(0, 10**6))
def test_a_stalled_batch_is_due_again_within_an_hour_however_often_it_was(
    attempt: int, minutes: int
) -> None:
    now = NOW + timedelta(minutes=minutes)
    assert is_due(attempt, NOW, now) or minutes < 60
    assert not is_due(attempt, NOW, now) or minutes >= 5
    assert is_due(attempt, NOW, now) >= is_due(attempt + 1, NOW, now)


def test_a_start_that_a_wrong_clock_noted_is_not_waited_for() -> None:
    assert is_due(3, NOW + timedelta(days=400), NOW)
    assert not is_due(3, NOW + timedelta(seconds=2), NOW)


def test_of_those_that_are_due_again_the_one_that_waits_longest_comes_first() -> None:
    batches = [
        replace(a_batch(batch_id=f"20261123T093000Z-{number:016x}"), admitted_at=at)
        for number, at in enumerate(NOW - timedelta(minutes=each) for each in (6, 1, 90))
    ]
    assert due_again(batches, NOW) == [batches[2], batches[0]]
