from collections import Counter
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.chaos.weather import CALM, Endpoint, Weather, fate_of, service_of

NEVER = Config(retries={"total_max_attempts": 1})


def test_fates_are_as_frequent_as_the_weather_says() -> None:
    weather = Weather(throttled=0.1, refused=0.2, stalled=0.3, unanswered=0.1)
    fates = Counter(fate_of(weather, lot / 1000) for lot in range(1000))
    assert fates["throttled"] == pytest.approx(100, abs=1)
    assert fates["refused"] == pytest.approx(200, abs=1)
    assert fates["stalled"] == pytest.approx(300, abs=1)
    assert fates["unanswered"] == pytest.approx(100, abs=1)
    assert fate_of(CALM, 0.0) is None


def test_the_service_is_read_from_the_signature() -> None:
    scope = "AWS4-HMAC-SHA256 Credential=k/20261123/us-east-1/{}/aws4_request, SignedHeaders=host"
    for service in ("s3", "dynamodb"):
        assert service_of({"HTTP_AUTHORIZATION": scope.format(service)}) == service
    assert service_of({}) == ""


def client(service: Any, endpoint: Endpoint) -> Any:
    session = boto3.Session("a", "b", region_name="us-east-1")
    return session.client(service, endpoint_url=endpoint.url, config=NEVER)


def test_each_fault_is_what_an_aws_client_takes_it_for() -> None:
    with Endpoint("seed") as endpoint:
        s3, dynamodb = client("s3", endpoint), client("dynamodb", endpoint)
        s3.create_bucket(Bucket="weather")
        endpoint.weather = {"s3": Weather(throttled=1), "dynamodb": Weather(throttled=1)}
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket="weather", Key="a", Body=b"a" * 100_000)
        with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
            dynamodb.list_tables()
        endpoint.weather = {"s3": Weather(refused=1)}
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket="weather", Key="refused", Body=b"a" * 100_000)
        endpoint.weather = {"s3": Weather(unanswered=1)}
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket="weather", Key="unanswered", Body=b"a" * 100_000)
        endpoint.weather = {}
        listed = s3.list_objects_v2(Bucket="weather")["Contents"]
        assert [each["Key"] for each in listed] == ["unanswered"]
        assert endpoint.hits == 4
