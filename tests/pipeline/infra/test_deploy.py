"""The deploy command against moto: templates, Chalice and image repository, all as on AWS.

One deployment, from nothing to its first change: the tests follow each other.
"""

import json
import re

import pytest
from click.testing import Result

from infra.deploy import chalice_stage
from infra.deploy.chalice_stage import function_name
from infra.deploy.invocations import EVENTS, QUEUE_CONCURRENCY, SCHEDULES
from infra.deploy.templates import NAMES
from tests.pipeline.infra.conftest import PREFIX, Operator, outcomes

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.no_cover,  # moto's CloudFormation takes twice as long under the tracer
    pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning"),
]
SETTINGS = "PrivateApi = true"
ENVIRONMENT = "\n[environment]\nSTART_RATE = 0.25"


@pytest.fixture(scope="module")
def first_up(operator: Operator) -> Result:
    """The deployment, and what up said of it."""
    operator.configure(SETTINGS + ENVIRONMENT)
    done = operator.run("up")
    assert done.exit_code == 0, done.output
    return done


def test_without_a_container_tool_nothing_is_begun(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    refused = operator.run("up")
    assert refused.exit_code == 1
    assert "The image can be built by docker, podman, finch, buildah" in refused.output
    assert operator.stacks() == {}


def test_a_plan_changes_nothing(operator: Operator) -> None:
    before = operator.run("plan")
    assert before.exit_code == 0, before.output
    assert before.output.count("would be created") == len(NAMES)
    assert operator.stacks() == {}


def test_up_creates_everything(operator: Operator, first_up: Result) -> None:
    done = outcomes(first_up.output)
    assert done.pop("functions") == "updated"  # Chalice does not say which
    assert done == dict.fromkeys([*NAMES, "image"], "created")
    assert set(operator.stacks()) == {f"{PREFIX}-{name}" for name in NAMES}
    login, build, push = operator.container_calls()
    assert [each["arguments"][0] for each in (login, build, push)] == ["login", "build", "push"]
    assert login["stdin"].endswith("-auth-token")  # the password, in no command line
    assert not any(login["stdin"] in json.dumps(each["arguments"]) for each in (login, build, push))
    assert "Called AE title STORESCP" in first_up.output
    url = r"^REST API https://\w+\.execute-api\.eu-west-1\."
    assert re.search(url, first_up.output, re.MULTILINE)
    assert "could not be reached from here" in first_up.output


@pytest.mark.usefixtures("first_up")
def test_a_functions_role_and_environment_are_those_of_this_deployment(operator: Operator) -> None:
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


@pytest.mark.usefixtures("first_up")
def test_the_schedules_functions_are_not_asked_again_later_and_those_of_events_are(
    operator: Operator,
) -> None:
    client = operator.client("lambda")
    for name, period in SCHEDULES.items():
        told = client.get_function_event_invoke_config(FunctionName=function_name("prod", name))
        assert (told["MaximumEventAgeInSeconds"], told["MaximumRetryAttempts"]) == (period, 0)
    for name in EVENTS:
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_function_event_invoke_config(FunctionName=function_name("prod", name))


@pytest.mark.usefixtures("first_up")
def test_a_plan_and_an_up_name_a_quota_that_is_too_small(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Throttled then" not in operator.run("plan").output
    monkeypatch.setattr(operator.cloud, "concurrency", 10)
    planned = operator.run("plan")
    assert planned.exit_code == 0
    assert "Lambda runs 10 executions at once in this account and Region" in planned.output
    assert "--quota-code L-B99A9384" in planned.output
    operator.configure(
        SETTINGS + ENVIRONMENT + "\n[functions.api_handler]\nreserved_concurrency = 2"
    )
    for command in ("plan", "up"):
        refused = operator.run(command)
        assert refused.exit_code == 1
        assert "Lambda has to keep 10 of 10 unreserved" in refused.output
    operator.configure(SETTINGS + ENVIRONMENT)


@pytest.mark.usefixtures("first_up")
def test_a_private_rest_api_has_the_endpoint_of_the_new_vpc(operator: Operator) -> None:
    config = operator.folder / "projects" / PREFIX / ".chalice" / "config.json"
    rendered = json.loads(config.read_text())["stages"]["prod"]
    assert rendered["api_gateway_endpoint_type"] == "PRIVATE"
    (endpoint,) = rendered["api_gateway_endpoint_vpce"]
    found = operator.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[endpoint])
    assert found["VpcEndpoints"][0]["ServiceName"] == "com.amazonaws.eu-west-1.execute-api"


@pytest.mark.usefixtures("first_up")
def test_the_same_stage_in_another_region_is_refused(operator: Operator) -> None:
    elsewhere = operator.run("up", "--region", "us-east-1")
    assert elsewhere.exit_code == 1
    assert "are those of a deployment in eu-west-1" in elsewhere.output


@pytest.mark.usefixtures("first_up")
def test_up_a_second_time_finds_it_done(operator: Operator) -> None:
    second = operator.run("up")
    assert second.exit_code == 0, second.output
    done = outcomes(second.output)
    assert done.pop("functions") == "updated"
    assert set(done.values()) == {"unchanged"}
    assert len(operator.container_calls()) == 3
    assert operator.rest_apis() == ["dicom-store-scp"]
    (mapping,) = operator.mappings()
    assert mapping["EventSourceArn"].endswith(f":{PREFIX}-import")
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": QUEUE_CONCURRENCY}

    planned = operator.run("plan")
    assert planned.output.count("unchanged") == len(NAMES)
    assert "CREATE_COMPLETE" in operator.run("status").output


@pytest.mark.usefixtures("first_up")
def test_a_plan_shows_what_up_then_changes(operator: Operator) -> None:
    more = "\nRetentionDays = 60\nAlarmEmail = 'pacs@hospital.example'"
    operator.configure(SETTINGS + more + ENVIRONMENT)
    planned = operator.run("plan").output
    assert "storage: would be updated" in planned
    assert "monitoring: would be updated" in planned
    assert "network: unchanged" in planned
    after = outcomes(operator.run("up").output)
    assert (after["storage"], after["network"]) == ("updated", "unchanged")
