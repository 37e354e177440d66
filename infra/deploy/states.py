"""What a stack's state asks for, and what a change set or a failed operation says: no AWS here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from infra.deploy.errors import StackStuck


class Action(StrEnum):
    """What is to be done with a stack."""

    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"  # its first creation failed and was rolled back: nothing of it is left
    WAIT = "wait"  # for what somebody else began


class Outcome(StrEnum):
    """What a step did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


_ACTIONS = {
    None: Action.CREATE,
    "DELETE_COMPLETE": Action.CREATE,
    "REVIEW_IN_PROGRESS": Action.RECREATE,
    "ROLLBACK_COMPLETE": Action.RECREATE,
    "CREATE_COMPLETE": Action.UPDATE,
    "UPDATE_COMPLETE": Action.UPDATE,
    "UPDATE_ROLLBACK_COMPLETE": Action.UPDATE,
    "IMPORT_COMPLETE": Action.UPDATE,
    "IMPORT_ROLLBACK_COMPLETE": Action.UPDATE,
}
SUCCEEDED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"})
_STUCK = {
    "UPDATE_ROLLBACK_FAILED": "continue-update-rollback",
    "CREATE_FAILED": "delete-stack",
    "ROLLBACK_FAILED": "delete-stack",
    "DELETE_FAILED": "delete-stack",
}


def action_for(stack: str, status: str | None, region: str) -> Action:
    """What a deployment does with a stack in this status; raises StackStuck where it must not."""
    if status in _ACTIONS:
        return _ACTIONS[status]
    if status is not None and is_busy(status):
        return Action.WAIT
    command = _STUCK.get(status or "", "describe-stack-events")
    raise StackStuck(
        f"The stack {stack} is in {status}: only you can say what is to happen to what it holds.",
        f"Look at its events, then run: aws cloudformation {command} --stack-name {stack} "
        f"--region {region}",
    )


def is_busy(status: str) -> bool:
    """Whether an operation is under way."""
    return status.endswith("_IN_PROGRESS")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a change set."""

    action: str
    logical_id: str
    type: str
    replaces: bool = False

    @classmethod
    def parse(cls, change: Mapping[str, Any]) -> "Change":
        """A ``ResourceChange`` of DescribeChangeSet."""
        return cls(
            change["Action"],
            change["LogicalResourceId"],
            change["ResourceType"],
            change.get("Replacement") in {"True", "Conditional"},
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """What a stack's step would come to, and which resources it would touch."""

    outcome: Outcome
    changes: tuple[Change, ...] = ()


def is_without_changes(status_reason: str) -> bool:
    """Whether a change set failed only because nothing is to change (AWS has no code for it)."""
    return "didn't contain changes" in status_reason or "No updates are to" in status_reason


def first_failure(events: Sequence[Mapping[str, Any]]) -> str:
    """Why an operation failed: its first failure, which the later ones follow from.

    ``events`` are the operation's, the oldest first.
    """
    for event in events:
        reason = event.get("ResourceStatusReason", "")
        failed = event["ResourceStatus"].endswith("_FAILED")
        if failed and "cancelled" not in reason:
            return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
    return "CloudFormation gives no reason"


def finished_resources(events: Iterable[Mapping[str, Any]]) -> int:
    """How many resources an operation is done with."""
    last = {each["LogicalResourceId"]: each["ResourceStatus"] for each in events}
    return sum(status.endswith("_COMPLETE") for status in last.values())
