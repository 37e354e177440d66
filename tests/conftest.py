"""What holds for every test.

Hypothesis has no deadline for each example: it is a timed assertion, which a busy machine fails.
What a run leaves out by its markers is counted and said at its end, under pytest-xdist, too.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings

from tests.distribution import Scheduling, scheduling

# On top of what is in force, which in CI is Hypothesis' own profile for it.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

_LEFT_OUT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEFT_OUT] = 0


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count the exhaustive tests; a worker of pytest-xdist hands its number over."""
    exhaustive = [item for item in items if item.get_closest_marker("exhaustive")]
    if not exhaustive:
        return
    config = exhaustive[0].config
    config.stash[_LEFT_OUT] += len(exhaustive)
    if (output := getattr(config, "workeroutput", None)) is not None:
        output["left_out"] = config.stash[_LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    return scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each worker has collected every test: any worker's number is the run's."""
    config = node.config
    config.stash[_LEFT_OUT] = max(
        config.stash[_LEFT_OUT], getattr(node, "workeroutput", {}).get("left_out", 0)
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if count := config.stash[_LEFT_OUT]:
        terminalreporter.write_line(f"Left to make test-all: {count} exhaustive.")
