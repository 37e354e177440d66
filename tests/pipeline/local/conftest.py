"""One local cloud for the tests of this folder."""

from collections.abc import Iterator

import pytest

from local.cloud import Cloud, CloudOptions
from local.follow import RestClient
from tests.pipeline.local.support import FAST


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """The whole product, with batches that close after one quiet second."""
    options = CloudOptions(
        emulator=FAST,
        lambda_settings={"START_RATE": "100"},
        receiver_environment={"BATCH_QUIET_SECONDS": "1"},
    )
    with Cloud(options) as running:
        yield running


@pytest.fixture
def rest(cloud: Cloud) -> RestClient:
    return RestClient(cloud.rest_url)
