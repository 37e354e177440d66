"""What each function may do, and that it may do what it needs."""

import json
from pathlib import Path
from typing import Any

import app
import pytest

CHALICE = Path(__file__).parents[2] / "chalice_app" / ".chalice"
STAGE = json.loads((CHALICE / "config.json").read_text())["stages"]["dev"]
POLICIES = sorted(CHALICE.glob("policy-*.json"))
# X-Ray takes no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/
ANY_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def statements(policy: Path) -> list[dict[str, Any]]:
    return list(json.loads(policy.read_text())["Statement"])


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_every_function_has_a_policy_of_its_own() -> None:
    functions = {"api_handler"}
    functions |= {each.name for each in app.app.pure_lambda_functions}
    functions |= {each.name for each in app.app.event_sources}
    assert set(STAGE["lambda_functions"]) == functions
    used = {each["iam_policy_file"] for each in STAGE["lambda_functions"].values()}
    assert used == {policy.name for policy in POLICIES}
    assert STAGE["autogen_policy"] is False


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.stem)
def test_no_policy_allows_every_action_or_resource(policy: Path) -> None:
    for statement in statements(policy):
        actions = set(listed(statement["Action"]))
        assert not any("*" in action for action in actions)
        assert "*" not in listed(statement["Resource"]) or actions <= ANY_RESOURCE
