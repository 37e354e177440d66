"""The deploy command against moto: templates, Chalice and image repository, all as on AWS."""

import json
import re
from typing import Any

import pytest
from moto.apigateway.models import APIGatewayBackend

from infra.deploy import chalice_stage
from infra.deploy.chalice_stage import function_name
from infra.deploy.steps import STEPS
from infra.deploy.templates import NAMES
from tests.pipeline.infra.conftest import Operator

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.no_cover,  # moto's CloudFormation takes twice as long under the tracer
    pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning"),
]
PREFIX = "dicom-store-scp-prod"


def stacks(operator: Operator) -> dict[str, str]:
    found = operator.client("cloudformation").describe_stacks()["Stacks"]
    return {each["StackName"]: each["StackStatus"] for each in found}


def outcomes(output: str) -> dict[str, str]:
    """What up says of each step at its end."""
    return dict(re.findall(r"^(\w+): (created|updated|unchanged)$", output, re.MULTILINE))


def mappings(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.client("lambda").list_event_source_mappings()["EventSourceMappings"])


def rest_apis(operator: Operator) -> list[str]:
    return [each["name"] for each in operator.client("apigateway").get_rest_apis()["items"]]


def test_up_creates_everything_and_a_second_time_finds_it_done(operator: Operator) -> None:
    first = operator.run("up")
    assert first.exit_code == 0, first.output
    assert set(stacks(operator)) == {f"{PREFIX}-{name}" for name in NAMES}
    login, build, push = operator.container_calls()
    assert [each["arguments"][0] for each in (login, build, push)] == ["login", "build", "push"]
    assert login["stdin"].endswith("-auth-token")  # the password, in no command line
    assert not any(login["stdin"] in json.dumps(each["arguments"]) for each in (login, build, push))
    assert "Called AE title STORESCP" in first.output
    assert re.search(r"^REST API https://\w+\.execute-api\.eu-west-1\.", first.output, re.MULTILINE)
    assert "could not be reached from here" in first.output

    elsewhere = operator.run("up", "--region", "us-east-1")
    assert elsewhere.exit_code == 1
    assert "are those of a deployment in eu-west-1" in elsewhere.output

    second = operator.run("up")
    assert second.exit_code == 0, second.output
    done = outcomes(second.output)
    assert done.pop("functions") == "updated"
    assert set(done.values()) == {"unchanged"}
    assert len(operator.container_calls()) == 3
    assert rest_apis(operator) == ["dicom-store-scp"]
    (mapping,) = mappings(operator)
    assert mapping["EventSourceArn"].endswith(f":{PREFIX}-import")

    planned = operator.run("plan")
    assert planned.output.count("unchanged") == len(NAMES)
    assert "CREATE_COMPLETE" in operator.run("status").output


def test_without_a_container_tool_nothing_is_begun(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    refused = operator.run("up")
    assert refused.exit_code == 1
    assert "The image can be built by docker, podman, finch, buildah" in refused.output
    assert stacks(operator) == {}


def test_a_plan_changes_nothing_and_shows_what_up_then_does(operator: Operator) -> None:
    before = operator.run("plan")
    assert before.exit_code == 0, before.output
    assert before.output.count("would be created") == len(NAMES)
    assert stacks(operator) == {}
    assert operator.run("up").exit_code == 0
    operator.configure("RetentionDays = 60\nAlarmEmail = 'pacs@hospital.example'")
    planned = operator.run("plan").output
    assert "storage: would be updated" in planned
    assert "monitoring: would be updated" in planned
    assert "network: unchanged" in planned
    after = outcomes(operator.run("up").output)
    assert (after["storage"], after["network"]) == ("updated", "unchanged")


def test_a_functions_role_and_environment_are_those_of_this_deployment(operator: Operator) -> None:
    """And the REST API private, by the endpoint that the new VPC has for it."""
    operator.configure("PrivateApi = true\n[environment]\nSTART_RATE = 0.25")
    done = operator.run("up")
    assert done.exit_code == 0, done.output
    functions = operator.client("lambda").list_functions()["Functions"]
    assert {each["FunctionName"] for each in functions} == {
        function_name("prod", name) for name in chalice_stage.functions()
    }
    (one,) = [each for each in functions if each["FunctionName"].endswith("-start_import_job")]
    variables = one["Environment"]["Variables"]
    assert variables["DICOM_BUCKET"] == f"{PREFIX}-dicom-123456789012-eu-west-1"
    assert (variables["START_RATE"], variables["RETENTION_DAYS"]) == ("0.25", "30")
    role = one["Role"].rpartition("/")[2]
    policy = operator.client("iam").get_role_policy(RoleName=role, PolicyName=role)
    assert "arn:*" not in json.dumps(policy["PolicyDocument"])
    config = operator.folder / "projects" / PREFIX / ".chalice" / "config.json"
    rendered = json.loads(config.read_text())["stages"]["prod"]
    assert rendered["api_gateway_endpoint_type"] == "PRIVATE"
    (endpoint,) = rendered["api_gateway_endpoint_vpce"]
    found = operator.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[endpoint])
    assert found["VpcEndpoints"][0]["ServiceName"] == "com.amazonaws.eu-west-1.execute-api"


def test_after_a_failure_at_any_step_up_goes_on_where_it_stopped(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = APIGatewayBackend.import_rest_api

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError

    for position, step in enumerate(STEPS):
        operator.cloud.failing = {f"{PREFIX}-{step.name}": "Somebody has taken this name"}
        if step.name == "functions":  # half of Chalice's work is done, and nothing recorded
            monkeypatch.setattr(APIGatewayBackend, "import_rest_api", refused)
        if step.name == "image":
            monkeypatch.setenv("REGISTRY_IS_AWAY", "yes")
        failed = operator.run("up")
        assert failed.exit_code == 1
        assert f"{step.name} failed: " in failed.output
        assert ("Somebody has taken this name" in failed.output) == (step.name in NAMES)
        assert "run again (what is done is found done): python -m infra.deploy up" in failed.output
        assert set(outcomes(failed.output)) == {each.name for each in STEPS[:position]}
        monkeypatch.setattr(APIGatewayBackend, "import_rest_api", imported)
        monkeypatch.delenv("REGISTRY_IS_AWAY", raising=False)
    operator.cloud.failing = {}
    healed = operator.run("up")
    assert healed.exit_code == 0, healed.output
    assert set(stacks(operator).values()) == {"CREATE_COMPLETE"}
    assert rest_apis(operator) == ["dicom-store-scp"]
    assert len(mappings(operator)) == 1


def test_down_keeps_data_and_up_brings_the_rest_back(existing_vpc: Operator) -> None:
    operator = existing_vpc
    assert operator.run("up").exit_code == 0
    down = operator.run("down")
    assert down.exit_code == 0, down.output
    assert set(stacks(operator)) == {f"{PREFIX}-storage", f"{PREFIX}-workflow"}
    assert operator.client("lambda").list_functions()["Functions"] == []
    assert rest_apis(operator) == []
    again = operator.run("down")
    assert again.output.count("not there") == 4
    assert operator.run("up").exit_code == 0
    assert len(stacks(operator)) == len(NAMES)


def test_down_deletes_data_only_if_it_is_named(existing_vpc: Operator) -> None:
    operator = existing_vpc
    operator.run("up")
    s3 = operator.client("s3")
    buckets = {each["Name"] for each in s3.list_buckets()["Buckets"]}
    dicom = next(each for each in buckets if "-dicom-" in each)
    for _ in range(2):  # a version beneath the current one
        s3.put_object(Bucket=dicom, Key="instances/a", Body=b"x")

    refused = operator.run("down", "--delete-data", answers="prod\n")
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.output
    assert len(stacks(operator)) == len(NAMES)

    deleted = operator.run("down", "--delete-data", "--yes-delete-data", PREFIX)
    assert deleted.exit_code == 0, deleted.output
    assert stacks(operator) == {}
    assert s3.list_buckets()["Buckets"] == []
    assert operator.client("dynamodb").list_tables()["TableNames"] == []
    assert operator.client("ecr").describe_repositories()["repositories"] == []
