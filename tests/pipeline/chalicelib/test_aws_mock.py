"""The moto that tests share: nothing of one test is there in the next, and no client leaves it."""

import json
from typing import Any

import boto3
import pytest
from chalicelib import aws
from chalicelib.stores.schema import table_definitions
from moto import mock_aws

from tests.pipeline import aws_mock
from tests.pipeline.chalicelib.crash_cases import a_day_of_facts
from tests.pipeline.chalicelib.crash_cloud import a_cloud


def held() -> dict[str, Any]:
    """All that the services list of themselves."""
    buses: Any = aws.events()
    return {
        "buckets": aws.s3().list_buckets()["Buckets"],
        "tables": aws.dynamodb().list_tables()["TableNames"],
        "queues": aws.sqs().list_queues().get("QueueUrls", []),
        "machines": aws.stepfunctions().list_state_machines()["stateMachines"],
        "data stores": aws.healthimaging().list_datastores()["datastoreSummaries"],
        "rules": buses.list_rules()["Rules"],
    }


def test_a_reset_leaves_nothing_in_any_service() -> None:
    with aws_mock.running(), a_cloud() as cloud:
        a_day_of_facts(cloud)
        assert all(held().values())
        aws_mock.reset()
        assert not any(held().values())
        aws_mock.reset()
        cloud.s3.create_bucket(Bucket="dicom")
        assert cloud.s3.list_objects_v2(Bucket="dicom")["KeyCount"] == 0
        for definition in table_definitions():
            cloud.dynamodb.create_table(**definition)
            assert cloud.dynamodb.scan(TableName=definition["TableName"])["Count"] == 0
        machine = cloud.states.create_state_machine(
            name="dicom-import",
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn="arn:aws:iam::123456789012:role/states",
        )["stateMachineArn"]
        assert cloud.states.list_executions(stateMachineArn=machine)["executions"] == []


def test_what_a_test_leaves_behind_is_found() -> None:
    with aws_mock.running():
        aws_mock.assert_empty()
        aws.s3().create_bucket(Bucket="left-behind")
        with pytest.raises(AssertionError, match="s3"):
            aws_mock.assert_empty()


def test_clients_are_kept_and_handed_out_only_while_moto_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://elsewhere.invalid")
    given = []
    for _ in range(2):
        with aws_mock.running():
            given.append(aws.s3())
            assert given[-1].meta.endpoint_url == "https://s3.amazonaws.com"
            given[-1].create_bucket(Bucket="dicom")  # or it exists since the last time
        assert aws.s3() not in given
        aws.forget_clients()
    assert given[0] is given[1]


def test_no_client_reaches_the_network() -> None:
    with aws_mock.running():
        client = boto3.client("s3", endpoint_url="https://elsewhere.invalid")
        with pytest.raises(AssertionError, match="left moto, for elsewhere"):
            client.list_buckets()


def test_a_moto_that_another_test_left_running_is_no_place_to_begin() -> None:
    with mock_aws(), pytest.raises(AssertionError, match="left"), aws_mock.running():
        pass
