"""Every handler dies at each of its AWS calls, once AWS has answered it and before anything else.

That is before the next call, too, so that no moment between two of them is left out. The handler is
then invoked again, as AWS does; what is kept in the end must be what is kept without a crash.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.pipeline.chalicelib.crash_cases import CASES, a_day_of_facts
from tests.pipeline.chalicelib.crash_cloud import (
    Cloud,
    NewCloud,
    hooks,
    new_cloud,
)

__all__ = ["hooks", "new_cloud"]  # fixtures
# One cloud and one run of it for each call of a handler, in moto. Other tests cover what these do.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]


def reference(
    function: str, arrange: Callable[[Cloud], Any], new_cloud: NewCloud
) -> tuple[list[str], dict[str, Any]]:
    """The calls of an invocation that does not die, and what is kept after it."""
    with new_cloud() as cloud:
        cloud.invoke(function, arrange(cloud))
        names = list(cloud.calls.names)
        assert names, "the hooks saw no call"
        cloud.settle()
        contents = cloud.contents()
        assert contents["uploads"] == []
        return names, contents


@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_any_call_changes_nothing_about_the_end(case: str, new_cloud: NewCloud) -> None:
    function, arrange = CASES[case]
    names, expected = reference(function, arrange, new_cloud)
    for number, name in enumerate(names):
        with new_cloud() as cloud:
            event = arrange(cloud)
            cloud.calls.dies_at = number
            cloud.invoke_twice_if_it_dies(function, event)
            cloud.settle()
            found = cloud.contents()
            if name == "events:PutEvents":  # the one moment after which an event comes twice
                found["events"] = sorted(set(found["events"]))
                assert len(cloud.event_ids) == len(expected["events"])
            assert found == expected, f"after a crash at call {number}, {name}"


@pytest.mark.parametrize("case", CASES)
def test_a_repeated_invocation_changes_nothing(case: str, new_cloud: NewCloud) -> None:
    function, arrange = CASES[case]
    _, expected = reference(function, arrange, new_cloud)
    with new_cloud() as cloud:
        event = arrange(cloud)
        for _ in range(2):
            cloud.invoke(function, event)
            cloud.now += timedelta(minutes=6)
        cloud.settle()
        assert cloud.contents() == expected


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
