"""The state machine's definition, as AWS and as the Lambdas see it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chalicelib import errors

DEFINITION = Path(__file__).parents[2] / "stepfunctions" / "definition.asl.json"
FUNCTIONS = {"StartImportJobFunctionArn", "CheckStatusFunctionArn", "RecordFailureFunctionArn"}


@pytest.fixture(scope="module")
def states() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DEFINITION.read_text())
    return dict(document["States"])


def test_statelint_finds_nothing(tmp_path: Path) -> None:
    text = DEFINITION.read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == FUNCTIONS
    arn = "arn:aws:lambda:us-east-1:123456789012:function:name"
    substituted = tmp_path / "definition.json"
    substituted.write_text(re.sub(r"\$\{\w+\}", arn, text))
    tool = Path(sys.executable).with_name("statelint")
    done = subprocess.run([tool, substituted], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_every_error_it_retries_is_one_the_lambdas_raise_or_awss_own(
    states: dict[str, Any],
) -> None:
    named = {
        name
        for state in states.values()
        for retrier in state.get("Retry", [])
        for name in retrier["ErrorEquals"]
    }
    ours = {name for name in named if "." not in name}
    assert ours == {
        errors.ImportThrottled.__name__,
        errors.ImportQuotaExceeded.__name__,
        errors.ServiceUnavailable.__name__,
        errors.ResultsNotReady.__name__,
    }


def test_a_function_whose_process_died_is_tried_again(states: dict[str, Any]) -> None:
    """The names that Step Functions has for timeouts, exhausted memory, and crashes."""
    for state in ("StartImportJob", "CheckStatus"):
        retried = {name for each in states[state]["Retry"] for name in each["ErrorEquals"]}
        assert {"Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"} <= retried


def test_every_failure_ends_in_record_failure(states: dict[str, Any]) -> None:
    for name in ("StartImportJob", "CheckStatus"):
        assert [each["Next"] for each in states[name]["Catch"]] == ["RecordFailure"]
        assert states[name]["Catch"][0]["ErrorEquals"] == ["States.ALL"]
    choices = {each["StringEquals"]: each["Next"] for each in states["IsComplete"]["Choices"]}
    assert choices == {"COMPLETED": "ImportSucceeded", "FAILED": "RecordFailure"}
    assert states["RecordFailure"]["Next"] == "ImportFailed"


def test_no_timeout_ends_an_execution_where_nothing_can_record_it() -> None:
    assert "TimeoutSeconds" not in json.loads(DEFINITION.read_text())


def test_a_permanent_error_is_not_retried(states: dict[str, Any]) -> None:
    retried = json.dumps([states[name]["Retry"] for name in ("StartImportJob", "CheckStatus")])
    for permanent in (errors.ImportRefused, errors.ImportStalled):
        assert permanent.__name__ not in retried
    assert "States.ALL" not in retried
