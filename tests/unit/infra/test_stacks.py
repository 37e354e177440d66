"""What takes time on AWS and none in moto, with answers as CloudFormation gives them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from infra.deploy.errors import StackFailed
from infra.deploy.stacks import StackRequest, Stacks
from infra.deploy.states import Outcome

NOW = datetime(2026, 11, 25, tzinfo=UTC)
REQUEST = StackRequest("a-stack", "{}", {"Stage": "prod"}, 2, "deploy-1")
CHANGE_SET = {"StackName": "a-stack", "ChangeSetName": "deploy-1"}


class Script:
    """CloudFormation's answers in their order, and how often somebody waited."""

    def __init__(self) -> None:
        client = boto3.client(
            "cloudformation",
            region_name="eu-west-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",  # noqa: S106 - nobody's
        )
        self.stubber = Stubber(client)
        self.waits: list[float] = []
        self.told: list[str] = []
        self.stacks = Stacks(client, "eu-west-1", self.waits.append)

    def status(self, status: str) -> None:
        stack = {"StackName": "a-stack", "StackStatus": status, "CreationTime": NOW}
        self.stubber.add_response("describe_stacks", {"Stacks": [stack]})

    def template(self, body: str = "{}") -> None:
        asked = {"StackName": "a-stack", "TemplateStage": "Original"}
        self.stubber.add_response("get_template", {"TemplateBody": body}, asked)

    def change_set(self, *statuses: str, reason: str = "") -> None:
        self.template()
        self.stubber.add_response(
            "create_change_set",
            {},
            {
                **CHANGE_SET,
                "ChangeSetType": "UPDATE",
                "TemplateBody": "{}",
                "Parameters": [{"ParameterKey": "Stage", "ParameterValue": "prod"}],
                "Capabilities": ANY,
            },
        )
        for status in statuses:
            answer = {"Status": status, "StatusReason": reason}
            self.stubber.add_response("describe_change_set", answer, CHANGE_SET)

    def events(self, *events: tuple[str, str, str], next_page: str = "") -> None:
        found = [
            {
                "StackId": "s",
                "StackName": "a-stack",
                "EventId": event_id,
                "Timestamp": NOW,
                "LogicalResourceId": "Bucket",
                "ResourceType": "AWS::S3::Bucket",
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }
            for event_id, status, reason in events
        ]
        more = {"NextToken": next_page} if next_page else {}
        self.stubber.add_response("describe_stack_events", {"StackEvents": found, **more})

    def execute(self) -> None:
        self.stubber.add_response("execute_change_set", {}, CHANGE_SET)

    def discard(self) -> None:
        self.stubber.add_response("delete_change_set", {}, CHANGE_SET)

    def deploy(self) -> Outcome:
        return self.stacks.deploy(REQUEST, self.told.append)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    with script.stubber:
        yield script
        script.stubber.assert_no_pending_responses()


def test_an_update_is_waited_for_and_its_progress_is_told(script: Script) -> None:
    script.status("CREATE_COMPLETE")
    script.change_set("CREATE_PENDING", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    script.events(("1", "CREATE_COMPLETE", ""))
    script.execute()
    script.status("CREATE_COMPLETE")  # it has not begun yet
    script.events(("1", "CREATE_COMPLETE", ""))
    script.status("UPDATE_IN_PROGRESS")
    script.events(("2", "UPDATE_COMPLETE", ""), ("1", "CREATE_COMPLETE", ""))
    script.status("UPDATE_COMPLETE")
    script.events(("2", "UPDATE_COMPLETE", ""), ("1", "CREATE_COMPLETE", ""))
    assert script.deploy() is Outcome.UPDATED
    assert len(script.waits) == 4
    assert script.told == ["0 of 2 resources", "1 of 2 resources"]


def test_what_is_under_way_is_waited_for_first(script: Script) -> None:
    script.status("UPDATE_IN_PROGRESS")
    script.status("UPDATE_IN_PROGRESS")
    script.events()
    script.status("UPDATE_COMPLETE")
    script.events(("1", "UPDATE_COMPLETE", ""))
    script.status("UPDATE_COMPLETE")
    script.change_set("FAILED", reason="The submitted information didn't contain changes. Submit")
    script.discard()
    assert script.deploy() is Outcome.UNCHANGED


def test_a_failure_is_told_by_its_own_event_and_no_earlier_operations(script: Script) -> None:
    script.status("UPDATE_COMPLETE")
    script.change_set("CREATE_COMPLETE")
    script.events(("1", "CREATE_FAILED", "long ago"))
    script.execute()
    script.status("UPDATE_ROLLBACK_COMPLETE")
    script.events(
        ("4", "UPDATE_COMPLETE", ""), ("3", "UPDATE_FAILED", "a second"), next_page="more"
    )
    script.events(("2", "UPDATE_FAILED", "the cause"), ("1", "CREATE_FAILED", "long ago"))
    with pytest.raises(StackFailed, match=r"ended in UPDATE_ROLLBACK_COMPLETE\. .*: the cause$"):
        script.deploy()


def test_a_change_set_that_is_refused_says_why(script: Script) -> None:
    script.status("UPDATE_COMPLETE")
    script.change_set("FAILED", reason="No export named x found")
    with pytest.raises(StackFailed, match="refused: No export named x found"):
        script.deploy()


def test_nothing_is_planned_for_a_stack_that_is_being_changed(script: Script) -> None:
    script.status("UPDATE_IN_PROGRESS")
    with pytest.raises(StackFailed, match="is being changed right now"):
        script.stacks.planned(REQUEST)


def test_a_plan_lists_every_page_of_changes_and_leaves_no_change_set(script: Script) -> None:
    script.status("UPDATE_COMPLETE")
    script.change_set("CREATE_COMPLETE")
    for name, more in (("A", {"NextToken": "t"}), ("B", {})):
        change: dict[str, Any] = {"Action": "Modify", "LogicalResourceId": name}
        change |= {"ResourceType": "AWS::S3::Bucket", "Replacement": "True"}
        script.stubber.add_response(
            "describe_change_set", {"Changes": [{"ResourceChange": change}], **more}
        )
    script.discard()
    planned = script.stacks.planned(REQUEST)
    assert [(each.logical_id, each.replaces) for each in planned.changes] == [
        ("A", True),
        ("B", True),
    ]


def a_table(key: str) -> str:
    """A template with a table that has this key."""
    properties = {
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
    }
    table = {"Type": "AWS::DynamoDB::Table", "Properties": properties}
    return json.dumps({"Resources": {"T": table}})


@pytest.mark.parametrize("operation", ["planned", "deploy"])
def test_an_update_that_a_table_does_not_allow_is_refused_before_it_begins(
    script: Script, operation: str
) -> None:
    script.status("CREATE_COMPLETE")
    script.template(a_table("id"))
    request = replace(REQUEST, body=a_table("uid"))
    more = [script.told.append] if operation == "deploy" else []
    with pytest.raises(StackFailed, match="The key of T would change"):
        getattr(script.stacks, operation)(request, *more)
