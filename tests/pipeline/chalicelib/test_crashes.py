"""Every handler dies at its AWS calls on moto, once AWS has answered and before anything else.

That is before the next call, too, so that no moment between two of them is left out. The handler is
then invoked again, as AWS does; what is kept in the end must be what is kept without a crash. The
same cases die at each of their calls on the twins (test_crashes_in_memory.py), which take a
hundredth of the time; here is shown that the twins are no easier to please than moto.
"""

import functools
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.pipeline.chalicelib.crash_cases import CASES, a_day_of_facts
from tests.pipeline.chalicelib.crash_cloud import NewCloud, a_cloud, hooks, new_cloud
from tests.pipeline.chalicelib.crash_memory import in_memory
from tests.pipeline.chalicelib.crash_snapshot import in_order
from tests.pipeline.chalicelib.crash_verdict import (
    Reference,
    changes,
    dies_at,
    reference,
    repeated,
)

__all__ = ["hooks", "new_cloud"]  # fixtures
# The twins' crashes cover the handlers, other tests what these run on.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]
Expected = Callable[[str], Reference]


@pytest.fixture(scope="module")
def expected(hooks: None) -> Expected:
    """The run of a case without a crash, which all of its crashes are held against."""
    return functools.cache(lambda case: reference(case, a_cloud))


def telling(count: int) -> list[int]:
    """A handler's first call, the one in its middle, and its last."""
    return sorted({0, count // 2, count - 1})


@pytest.mark.fault("events-repeated-or-lost")
@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_the_first_middle_or_last_call_changes_nothing_about_the_end(
    case: str, expected: Expected
) -> None:
    for number in telling(len(expected(case).names)):
        dies_at(number, expected(case), a_cloud)


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_any_other_call_changes_nothing_about_the_end(
    case: str, expected: Expected
) -> None:
    count = len(expected(case).names)
    for number in sorted({*range(count)} - {*telling(count)}):
        dies_at(number, expected(case), a_cloud, always_settle=True)


@pytest.mark.fault("events-repeated-or-lost")
@pytest.mark.parametrize("case", CASES)
def test_a_repeated_invocation_changes_nothing(case: str, expected: Expected) -> None:
    repeated(expected(case), a_cloud)


@pytest.mark.parametrize("case", CASES)
def test_a_handler_dies_after_as_many_changes_in_memory_and_ends_alike(
    case: str, expected: Expected
) -> None:
    on_moto, in_memory_ = expected(case), reference(case, in_memory)
    assert changes(in_memory_.names) == changes(on_moto.names)
    assert in_order(in_memory_.end) == in_order(on_moto.end)


def test_each_fact_is_told_once_though_announcing_is_repeated(new_cloud: NewCloud) -> None:
    with new_cloud() as cloud:
        event = a_day_of_facts(cloud)
        told = []
        for _ in range(3):
            cloud.invoke("announce_events", event)
            told += [json.loads(each)[0] for each in cloud.events()]
            cloud.now += timedelta(minutes=20)
        assert sorted(told) == [
            "Batch Imported",
            "Import Failed",
            "Instance Quarantined",
            "Instance Quarantined",
            "Study Quiet",
        ]
