from collections import Counter
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.chaos.weather import CALM, Ban, Endpoint, Weather, fate_of, service_of

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


def test_each_service_denies_in_a_form_that_its_client_understands() -> None:
    codes = {
        "s3": ("list_buckets", "AccessDenied"),
        "dynamodb": ("list_tables", "AccessDeniedException"),
        "sqs": ("list_queues", "AccessDeniedException"),
        "stepfunctions": ("list_state_machines", "AccessDeniedException"),
        "events": ("list_rules", "AccessDeniedException"),
        "medical-imaging": ("list_datastores", "AccessDeniedException"),
    }
    with Endpoint("seed") as endpoint:
        signed = ("s3", "dynamodb", "sqs", "states", "events", "medical-imaging")
        endpoint.weather = dict.fromkeys(signed, Weather(denied=1))
        for service, (action, code) in codes.items():
            with pytest.raises(ClientError) as raised:
                getattr(client(service, endpoint), action)()
            assert raised.value.response["Error"]["Code"] == code
        with pytest.raises(ClientError, match="403"):
            client("s3", endpoint).head_object(Bucket="weather", Key="a")


def test_some_objects_cannot_be_read_or_copied_and_all_can_be_listed_and_written() -> None:
    keys = [f"instances/{number}+x y.dcm" for number in range(20)]
    with Endpoint("seed") as endpoint:
        s3 = client("s3", endpoint)
        s3.create_bucket(Bucket="banned")

        def copy(**source: str) -> None:
            s3.copy_object(Bucket="banned", Key="copy", CopySource=source)

        for key in keys:
            s3.put_object(Bucket="banned", Key=key, Body=b"a")
        endpoint.bans = [Ban("banned", 0.5, "seed"), Ban("another")]
        banned = [key for key in keys if endpoint.bans[0].hits("banned", key)]
        assert 0 < len(banned) < len(keys)
        for key in keys:
            if key in banned:
                for read in (s3.get_object, s3.head_object, copy):
                    with pytest.raises(ClientError, match=r"403|AccessDenied"):
                        read(Bucket="banned", Key=key)
            else:
                for read in (s3.get_object, s3.head_object, copy):
                    read(Bucket="banned", Key=key)
            s3.put_object(Bucket="banned", Key=key, Body=b"b")
        assert len(s3.list_objects_v2(Bucket="banned")["Contents"]) == len(keys) + 1
