"""A pytest plugin: what a test's processes execute is recorded under the test's name, too.

pytest-cov names the context of what runs in pytest's own process. A subprocess starts coverage from
COVERAGE_PROCESS_CONFIG, and a fork from the configuration in memory: both have the node id of the
test that runs just now written into them. Each test's duration and its fixtures that
several tests share go to the file that MUTANTS_TESTS names, one JSON object a line.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage
from coverage.config import CoverageConfig

_CONFIG = "COVERAGE_PROCESS_CONFIG"

# An older checkout has not all of them, and pytest refuses to select by a marker it does not know.
_MARKERS = "image", "alone", "exhaustive"


def pytest_configure(config: pytest.Config) -> None:
    """Know the markers that tests are selected by."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure even what has no need to be measured for the coverage report."""
    for node in {node for item in items for node in item.listchain()}:
        node.own_markers[:] = [each for each in node.own_markers if each.name != "no_cover"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test to every process that it starts."""
    name_context(item.nodeid)
    return (yield)


def name_context(name: str) -> None:
    """What is started from here on belongs to this test."""
    if running := Coverage.current():
        running.config.context = name
    if _CONFIG in os.environ:
        config = CoverageConfig.deserialize(os.environ[_CONFIG])
        config.context = name
        os.environ[_CONFIG] = config.serialize()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Keep which shared fixtures the test has."""
    item.stash[_SHARED] = shared_fixtures(item)


_SHARED = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the phase's seconds to the test's line."""
    seconds = item.stash[_SECONDS] = item.stash.get(_SECONDS, 0.0) + call.duration
    if call.when == "teardown" and (file := os.environ.get("MUTANTS_TESTS")):
        line = {
            "test": item.nodeid,
            "seconds": round(seconds, 3),
            "shared": item.stash.get(_SHARED, []),
        }
        with Path(file).open("a") as output:
            output.write(json.dumps(line) + "\n")
    return (yield)


_SECONDS = pytest.StashKey[float]()


def shared_fixtures(item: pytest.Item) -> list[str]:
    """The fixtures of this project that more than one test has, with the place of each."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return []
    return sorted(
        f"{definition.baseid}::{name}"
        for name, definitions in info.name2fixturedefs.items()
        for definition in definitions[-1:]
        if definition.baseid and definition.scope != "function"
    )
