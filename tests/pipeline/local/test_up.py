"""``make up`` while the local AWS throttles."""

import pytest
from chalicelib import wiring

from local.cloud import Cloud
from local.follow import RestClient
from local.outage import Outage
from local.up import describe_progress
from tests.chaos.weather import Endpoint, Weather


def test_a_throttled_table_is_said_and_the_line_goes_on_afterwards(
    cloud: Cloud, rest: RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    outage = Outage(said.append)
    assert describe_progress(rest, outage) is not None
    with Endpoint("seed") as endpoint, monkeypatch.context() as patch:
        endpoint.weather = {"dynamodb": Weather(throttled=1.0)}
        patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint.url)
        wiring.forget()
        try:
            assert describe_progress(rest, outage) is None
            assert describe_progress(rest, outage) is None
            endpoint.weather = {}
            assert describe_progress(rest, outage) is not None
        finally:
            patch.undo()
            wiring.forget()
    assert said == [
        "GET /jobs is answered 503 Service Unavailable. This goes on and asks again.",
        "The job API works again.",
    ]
