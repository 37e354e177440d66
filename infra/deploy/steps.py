"""The steps of a deployment, in their order: a table, and what is said when one fails."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.deploy.states import Outcome


class Kind(StrEnum):
    """How a step is done."""

    STACK = "stack"
    FUNCTIONS = "functions"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Step:
    """One row. A stack's name is its template's."""

    name: str
    about: str
    kind: Kind = Kind.STACK


STEPS = (
    Step("network", "VPC, subnets, endpoints"),
    Step("storage", "buckets, tables, queue, image repository"),
    Step("workflow", "data store, import role, state machine"),
    Step("functions", "Lambdas and REST API, by Chalice", Kind.FUNCTIONS),
    Step("image", "the receiver's image", Kind.IMAGE),
    Step("service", "load balancer, receiver, autoscaling"),
    Step("monitoring", "alarms, dashboard"),
)


@dataclass(frozen=True, slots=True)
class Done:
    """A step and what it did."""

    step: Step
    outcome: Outcome


def failure(done: Sequence[Done], failed: Step, reason: str, remedy: str, command: str) -> str:
    """What was done, what was not and why, and the way on."""
    finished = ", ".join(f"{each.step.name} ({each.outcome})" for each in done) or "nothing"
    lines = [
        f"{failed.name} failed: {reason}",
        f"Done before it: {finished}. Nothing of that is undone.",
        *([remedy] if remedy else []),
        f"Then run again (what is done is found done): {command}",
    ]
    return "\n".join(lines)
