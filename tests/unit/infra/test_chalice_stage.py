"""The rendered stage and its policies: nothing in them is another account's or bucket's."""

from typing import Any

import pytest

from infra.deploy import chalice_stage
from infra.deploy.chalice_stage import Stage
from infra.deploy.errors import DeployError
from infra.deploy.policies import Place, narrowed
from infra.deploy.sections import FunctionSettings

ACCOUNT, REGION, PARTITION = "111122223333", "cn-north-1", "aws-cn"


def arn(service: str, rest: str) -> str:
    return f"arn:{PARTITION}:{service}:{REGION}:{ACCOUNT}:{rest}"


OUTPUTS = {
    "DicomBucketArn": "arn:aws-cn:s3:::the-dicom",
    "ResultsBucketArn": "arn:aws-cn:s3:::the-results",
    "JobTableArn": arn("dynamodb", "table/the-jobs"),
    "BatchTableArn": arn("dynamodb", "table/the-batches"),
    "InstanceTableArn": arn("dynamodb", "table/the-instances"),
    "StudyTableArn": arn("dynamodb", "table/the-studies"),
    "StudyTableName": "the-studies",
    "ImportQueueArn": arn("sqs", "the-queue"),
    "StateMachineArn": arn("states", "stateMachine:the-machine"),
    "DatastoreArns": ",".join(arn("medical-imaging", f"datastore/{n}") for n in range(2)),
    "EventBusArn": arn("events", "event-bus/default"),
    "DataAccessRoleArn": f"arn:{PARTITION}:iam::{ACCOUNT}:role/the-role",
}
PLACE = Place(PARTITION, REGION, ACCOUNT, OUTPUTS)
STAGE = Stage("prod", PLACE, {"DICOM_BUCKET": "the-dicom", "START_RATE": "0.25"})


def statements(policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["Sid"]: each for each in policy["Statement"]}


def policy(*resources: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": list(resources)}
    return {"Version": "2012-10-17", "Statement": [statement]}


def resources_of(*resources: str) -> list[str]:
    return list(narrowed(policy(*resources), "f", PLACE)["Statement"][0]["Resource"])


@pytest.mark.parametrize("function", sorted(chalice_stage.functions()))
def test_no_wildcard_for_partition_account_bucket_or_table_is_left(function: str) -> None:
    rendered = chalice_stage.render_policies(STAGE)[chalice_stage.policy_file(function)]
    for statement in rendered["Statement"]:
        for resource in statement["Resource"]:
            if statement["Sid"] == "Traces":  # X-Ray takes no resource
                continue
            _, partition, _, _, account, rest = resource.split(":", 5)
            assert partition == PARTITION
            assert account in {ACCOUNT, ""}
            assert not rest.startswith("*")
            if "/" in rest:
                assert "*" not in rest.split("/")[0]


def test_each_function_logs_into_its_own_group_and_no_other() -> None:
    policies = chalice_stage.render_policies(STAGE)
    group = arn("logs", "log-group:/aws/lambda/dicom-store-scp-prod-reconcile")
    logs = statements(policies["policy-reconcile.json"])["Logs"]
    assert logs["Resource"] == [group, f"{group}:*"]
    api = statements(policies["policy-api_handler.json"])["Logs"]
    assert api["Resource"][0] == arn("logs", "log-group:/aws/lambda/dicom-store-scp-prod")


def test_each_resource_becomes_the_one_of_the_outputs() -> None:
    assert resources_of(
        "arn:*:dynamodb:*:*:table/DicomBatchRecordTable/index/byState",
        "arn:*:s3:::*",
        "arn:*:s3:::*/batches/*",
        "arn:*:s3:::*/*-DicomImport-*",
        "arn:*:s3:::*/reports/*",
        "arn:*:iam::*:role/*",
        "arn:*:events:*:*:event-bus/*",
    ) == [
        arn("dynamodb", "table/the-batches/index/byState"),
        "arn:aws-cn:s3:::the-dicom",
        "arn:aws-cn:s3:::the-results",
        "arn:aws-cn:s3:::the-dicom/batches/*",
        "arn:aws-cn:s3:::the-results/*-DicomImport-*",
        "arn:aws-cn:s3:::the-results/reports/*",
        f"arn:{PARTITION}:iam::{ACCOUNT}:role/the-role",
        arn("events", "event-bus/default"),
    ]


@pytest.mark.parametrize(
    "resource", ["arn:*:kinesis:*:*:stream/s", "arn:*:dynamodb:*:*:table/Other"]
)
def test_a_resource_that_no_stack_makes_is_an_error(resource: str) -> None:
    with pytest.raises(DeployError, match="nothing tells what"):
        resources_of(resource)


def test_the_stage_has_its_environment_sizes_and_policies() -> None:
    sizes = {"start_import_job": FunctionSettings(memory=1024, reserved_concurrency=5)}
    stage = Stage("prod", PLACE, STAGE.environment, sizes)
    document = chalice_stage.render_config(stage)
    assert list(document["stages"]) == ["prod"]
    rendered = document["stages"]["prod"]
    assert rendered["autogen_policy"] is False
    assert rendered["environment_variables"]["START_RATE"] == "0.25"
    function = rendered["lambda_functions"]["start_import_job"]
    assert function["lambda_memory_size"] == 1024
    assert function["reserved_concurrency"] == 5
    assert function["lambda_timeout"] == 300  # as in chalice_app/.chalice/config.json
    files = {each["iam_policy_file"] for each in rendered["lambda_functions"].values()}
    assert files == set(chalice_stage.render_policies(stage))


def test_the_rest_api_is_regional_or_private_to_its_endpoints() -> None:
    assert _endpoint(()) == ("REGIONAL", None)
    assert _endpoint(("vpce-1",)) == ("PRIVATE", ["vpce-1"])


def _endpoint(ids: tuple[str, ...]) -> tuple[str, list[str] | None]:
    rendered = chalice_stage.render_config(Stage("prod", PLACE, {}, vpc_endpoints=ids))
    stage = rendered["stages"]["prod"]
    return stage["api_gateway_endpoint_type"], stage.get("api_gateway_endpoint_vpce")


def test_what_all_deployments_share_is_left_as_it_is() -> None:
    chalice_stage.render_config(STAGE)
    assert list(chalice_stage.base()["stages"]) == ["dev"]
