"""Stacks on AWS: looked at, changed by change sets, followed to their end."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.deploy import states
from infra.deploy.errors import StackFailed
from infra.deploy.states import Action, Change, Outcome, Planned
from infra.deploy.tables import refusals

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef, StackTypeDef

Tell = Callable[[str], None]
_EVERY_SECONDS = 5.0
# The longest, a service that cannot start, is ended by its circuit breaker; the rest takes minutes.
_PATIENCE_SECONDS = 7_200.0


@dataclass(frozen=True, slots=True)
class StackRequest:
    """What a stack is to be. ``resource_count`` is for the progress only.

    Its change set has a name of its own, so that one left by a run that was killed is in nobody's
    way.
    """

    name: str
    body: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    resource_count: int = 0
    change_set: str = field(default_factory=lambda: f"deploy-{uuid.uuid4()}")

    def arguments(self) -> dict[str, Any]:
        """As CreateChangeSet takes them."""
        return {
            "StackName": self.name,
            "TemplateBody": self.body,
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in self.parameters.items()
            ],
        }


class Stacks:
    """The stacks of one account and Region. ``sleep`` is the clock's, or a test's."""

    def __init__(
        self,
        client: "CloudFormationClient",
        region: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._region = region
        self._sleep = sleep

    def find(self, name: str) -> "StackTypeDef | None":
        """The stack, unless there is none."""
        try:
            return self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response.get("Error", {}).get("Message", ""):
                return None
            raise

    def outputs(self, name: str) -> dict[str, str]:
        """What a stack says of itself; nothing if it is not there."""
        stack = self.find(name)
        outputs = stack.get("Outputs", []) if stack else []
        return {each["OutputKey"]: each.get("OutputValue", "") for each in outputs}

    def planned(self, request: StackRequest) -> Planned:
        """What ``deploy`` would do.

        Nothing is left behind: a change set of a stack that is not there would create it, empty.
        """
        action = self._action(request.name)
        if action is Action.WAIT:
            raise StackFailed(f"{request.name} is being changed right now.", "Try again later.")
        if action is not Action.UPDATE:
            return Planned(Outcome.CREATED)
        self._refuse_impossible(request)
        try:
            if not self._prepare(request, action):
                return Planned(Outcome.UNCHANGED)
            return Planned(Outcome.UPDATED, tuple(self._changes(request)))
        finally:
            self._client.delete_change_set(StackName=request.name, ChangeSetName=request.change_set)

    def deploy(self, request: StackRequest, tell: Tell) -> Outcome:
        """Create or update the stack, or leave it; raises StackFailed with the first cause."""
        action = self._action(request.name)
        if action is Action.WAIT:
            tell("waiting for what is under way")
            self._follow(request, "", tell)
            action = self._action(request.name)
        if action is Action.RECREATE:
            tell("removing what is left of a first attempt that failed")
            self.delete(request.name, tell)
            action = Action.CREATE
        if action is Action.UPDATE:
            self._refuse_impossible(request)
        if not self._prepare(request, action):
            self._client.delete_change_set(StackName=request.name, ChangeSetName=request.change_set)
            return Outcome.UNCHANGED
        before = self._last_event(request.name)
        self._client.execute_change_set(StackName=request.name, ChangeSetName=request.change_set)
        self._finish(request, before, tell)
        return Outcome.CREATED if action is Action.CREATE else Outcome.UPDATED

    def delete(self, name: str, tell: Tell) -> None:
        """Delete the stack, if it is there; raises StackFailed with the first cause."""
        stack = self.find(name)
        if stack is None:
            return
        before = self._last_event(name)
        self._client.delete_stack(StackName=name)
        # By its id, which answers even when it is gone.
        self._finish(StackRequest(stack["StackId"], ""), before, tell)

    def _action(self, name: str) -> Action:
        stack = self.find(name)
        return states.action_for(name, stack["StackStatus"] if stack else None, self._region)

    def _prepare(self, request: StackRequest, action: Action) -> bool:
        """Make the change set; False if it would change nothing."""
        self._client.create_change_set(
            ChangeSetName=request.change_set,
            ChangeSetType="CREATE" if action is Action.CREATE else "UPDATE",
            Capabilities=["CAPABILITY_NAMED_IAM"],
            **request.arguments(),
        )
        for _ in range(int(_PATIENCE_SECONDS / _EVERY_SECONDS)):
            found = self._client.describe_change_set(
                StackName=request.name, ChangeSetName=request.change_set
            )
            if found["Status"] == "CREATE_COMPLETE":
                return True
            if found["Status"] == "FAILED":
                reason = found.get("StatusReason", "")
                if states.is_without_changes(reason):
                    return False
                raise StackFailed(f"The change set of {request.name} was refused: {reason}")
            self._sleep(_EVERY_SECONDS)
        raise StackFailed(f"The change set of {request.name} is not ready after two hours.")

    def _refuse_impossible(self, request: StackRequest) -> None:
        """A change set is made, and half of it carried out, before AWS refuses such changes."""
        deployed = self._client.get_template(StackName=request.name, TemplateStage="Original")
        body: Any = deployed["TemplateBody"]
        before = json.loads(body) if isinstance(body, str) else body
        if problems := refusals(before, json.loads(request.body)):
            raise StackFailed(
                f"{request.name} cannot be updated: {' '.join(problems)}",
                "Deploy the versions in between one after another; each does one step.",
            )

    def _changes(self, request: StackRequest) -> list[Change]:
        pages = self._client.get_paginator("describe_change_set").paginate(
            StackName=request.name, ChangeSetName=request.change_set
        )
        changes = [each for page in pages for each in page.get("Changes", [])]
        return [Change.parse(each["ResourceChange"]) for each in changes]

    def _finish(self, request: StackRequest, before: str, tell: Tell) -> None:
        status, events = self._follow(request, before, tell)
        if status not in states.SUCCEEDED:
            raise StackFailed(f"{request.name} ended in {status}. {states.first_failure(events)}")

    def _follow(
        self, request: StackRequest, before: str, tell: Tell
    ) -> "tuple[str, list[StackEventTypeDef]]":
        """The status in which the operation ends, and its events.

        Until the first of them is there, the status may still be what it was before.
        """
        for _ in range(int(_PATIENCE_SECONDS / _EVERY_SECONDS)):
            stack = self.find(request.name)
            if stack is None or stack["StackStatus"] == "DELETE_COMPLETE":
                return "DELETE_COMPLETE", []
            events = self._events_after(request.name, before)
            if events and not states.is_busy(stack["StackStatus"]):
                return stack["StackStatus"], events
            if request.resource_count:
                tell(f"{states.finished_resources(events)} of {request.resource_count} resources")
            self._sleep(_EVERY_SECONDS)
        raise StackFailed(f"{request.name} is still busy after two hours.", "Run status later.")

    def _last_event(self, name: str) -> str:
        events = self._client.describe_stack_events(StackName=name)["StackEvents"]
        return events[0]["EventId"] if events else ""

    def _events_after(self, name: str, event_id: str) -> "list[StackEventTypeDef]":
        """The events since that one, the oldest first."""
        found = []
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=name)
        for event in (event for page in pages for event in page["StackEvents"]):
            if event["EventId"] == event_id:
                break
            found.append(event)
        return found[::-1]
