"""One local cloud for all tests of this folder.

After each of them the cloud is shown to be as it was when it started (base.py). Before a test of
another folder it is stopped: moto's state, and the environment, are the process's.
"""

from collections.abc import Iterator

import pytest

from local.cloud import Cloud, CloudOptions
from local.follow import RestClient
from tests.pipeline.local.base import Base, assert_back_to
from tests.pipeline.local.support import FAST

_FILES = "tests/pipeline/local/"


class SharedCloud:
    """Starts on first use."""

    def __init__(self) -> None:
        self._cloud: Cloud | None = None
        self._base: Base | None = None

    def start(self) -> tuple[Cloud, Base]:
        if self._cloud is None or self._base is None:
            self._cloud = Cloud(
                CloudOptions(
                    emulator=FAST,
                    lambda_settings={
                        "START_RATE": "100",
                        "RECOVERY_GRACE_SECONDS": "1",
                        "STUDY_QUIET_MINUTES": "0.03",
                    },
                    receiver_environment={"BATCH_QUIET_SECONDS": "0.3"},
                )
            )
            self._cloud.__enter__()
            try:
                self._base = Base.of(self._cloud)
            except BaseException:
                self.stop()
                raise
        return self._cloud, self._base

    def stop(self) -> None:
        cloud, self._cloud, self._base = self._cloud, None, None
        if cloud is not None:
            cloud.__exit__()


_SHARED = SharedCloud()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    if nextitem is None or not nextitem.nodeid.startswith(_FILES):
        _SHARED.stop()


def pytest_sessionfinish() -> None:
    """Also after Ctrl-C, or a failure that ends the run."""
    _SHARED.stop()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """The whole product, with batches that close a third of a second after their association."""
    running, base = _SHARED.start()
    yield running
    try:
        assert_back_to(base, running)
    except Exception:
        _SHARED.stop()  # the next test gets a new one
        raise


@pytest.fixture
def rest(cloud: Cloud) -> RestClient:
    return RestClient(cloud.rest_url)
