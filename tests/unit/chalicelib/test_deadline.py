"""What is left of an invocation, as a value."""

from datetime import timedelta

import pytest
from chalicelib.deadline import UNBOUNDED, Deadline

from tests.unit.chalicelib.builders import NOW

SECOND = timedelta(seconds=1)


class Context:
    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def test_lambdas_own_remaining_time_is_the_deadline_less_what_lambda_needs_itself() -> None:
    assert Deadline.of(Context(120_000), NOW) == Deadline(NOW + 118 * SECOND, NOW)


@pytest.mark.parametrize("context", [None, object()])
def test_without_lambda_there_is_no_deadline(context: object) -> None:
    deadline = Deadline.of(context, NOW)
    assert deadline == UNBOUNDED
    assert not deadline.less(timedelta(days=365)).is_over(NOW)
    assert deadline.within(SECOND, NOW) == Deadline(NOW + SECOND)


def test_a_part_begins_nothing_that_does_not_fit() -> None:
    deadline = Deadline(NOW + 60 * SECOND)
    assert deadline.left(NOW + 20 * SECOND) == 40 * SECOND
    assert deadline.left(NOW + 90 * SECOND) == timedelta(0)
    last = deadline.less(45 * SECOND)
    assert not last.is_over(NOW + 14 * SECOND)
    assert last.is_over(NOW + 15 * SECOND)
    assert deadline.within(90 * SECOND, NOW) == deadline


def test_a_part_of_an_invocation_began_when_the_invocation_did() -> None:
    whole = Deadline.of(Context(22_000), NOW)
    assert whole.less(SECOND).began_at == NOW
    part = whole.within(16 * SECOND, NOW)
    assert part.began_at == NOW
    # Whether a part is limited first or last, it begins work in its first quarter.
    last = part.less(60 * SECOND)
    assert not last.is_over(NOW + 3 * SECOND)
    assert last.is_over(NOW + 4 * SECOND)
    assert whole.less(60 * SECOND).within(4 * SECOND, NOW) == last


def test_a_timeout_shorter_than_the_work_lets_it_begin_at_once_and_not_later() -> None:
    short = Deadline.of(Context(22_000), NOW).less(60 * SECOND)
    assert not short.is_over(NOW + 4 * SECOND)
    assert short.is_over(NOW + 5 * SECOND)
