import pytest

from infra.deploy import states
from infra.deploy.errors import StackStuck
from infra.deploy.states import Action, Change, Outcome
from infra.deploy.steps import STEPS, Done, failure


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (None, Action.CREATE),
        ("DELETE_COMPLETE", Action.CREATE),
        ("CREATE_COMPLETE", Action.UPDATE),
        ("UPDATE_COMPLETE", Action.UPDATE),
        ("UPDATE_ROLLBACK_COMPLETE", Action.UPDATE),
        # Only a creation ends so: nothing of the stack has ever stood.
        ("ROLLBACK_COMPLETE", Action.RECREATE),
        ("REVIEW_IN_PROGRESS", Action.RECREATE),
        ("UPDATE_IN_PROGRESS", Action.WAIT),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Action.WAIT),
        ("DELETE_IN_PROGRESS", Action.WAIT),
    ],
)
def test_what_a_status_asks_for(status: str | None, action: Action) -> None:
    assert states.action_for("a-stack", status, "eu-west-1") is action


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("DELETE_FAILED", "delete-stack"),
        ("SOMETHING_NEW", "describe-stack-events"),
    ],
)
def test_a_stack_that_a_person_must_look_at_is_left_alone(status: str, command: str) -> None:
    with pytest.raises(StackStuck) as raised:
        states.action_for("a-stack", status, "eu-west-1")
    expected = f"aws cloudformation {command} --stack-name a-stack --region eu-west-1"
    assert expected in raised.value.format_message()


def event(resource: str, status: str, reason: str = "") -> dict[str, str]:
    return {
        "LogicalResourceId": resource,
        "ResourceType": "AWS::S3::Bucket",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def test_the_first_failure_is_the_cause_and_what_was_cancelled_by_it_is_none() -> None:
    events = [
        event("A", "CREATE_IN_PROGRESS"),
        event("B", "CREATE_FAILED", "Resource creation cancelled"),
        event("A", "CREATE_FAILED", "the name is taken"),
        event("stack", "ROLLBACK_FAILED", "and more"),
    ]
    assert states.first_failure(events) == "A (AWS::S3::Bucket): the name is taken"
    assert states.first_failure(events[:1]) == "CloudFormation gives no reason"


def test_progress_counts_each_resource_once() -> None:
    events = [event("A", "CREATE_IN_PROGRESS"), event("A", "CREATE_COMPLETE")]
    assert states.finished_resources([*events, event("B", "CREATE_IN_PROGRESS")]) == 1


def test_a_change_says_whether_it_replaces() -> None:
    change = {"Action": "Modify", "LogicalResourceId": "A", "ResourceType": "T"}
    assert not Change.parse(change).replaces
    assert Change.parse(change | {"Replacement": "Conditional"}).replaces


def test_a_failure_says_what_was_done_why_it_stopped_and_how_to_go_on() -> None:
    done = [Done(STEPS[0], Outcome.UNCHANGED), Done(STEPS[1], Outcome.CREATED)]
    assert failure(done, STEPS[2], "no", "Ask somebody.", "up").splitlines() == [
        "workflow failed: no",
        "Done before it: network (unchanged), storage (created). Nothing of that is undone.",
        "Ask somebody.",
        "Then run again (what is done is found done): up",
    ]
