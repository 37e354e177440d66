"""The state machine's definition, as AWS and as the Lambdas see it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chalicelib import errors

from contract import errors as contract_errors

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


def named(states: dict[str, Any], retriers: str = "all") -> set[str]:
    """The product's errors in the states' retriers: ``all``, or those that are not tried again."""
    found = [each for state in states.values() for each in state.get("Retry", [])]
    chosen = [each for each in found if retriers == "all" or each["MaxAttempts"] == 0]
    return {name for each in chosen for name in each["ErrorEquals"] if "." not in name}


def test_every_error_it_names_is_one_the_lambdas_raise_or_awss_own(states: dict[str, Any]) -> None:
    known = {**vars(contract_errors), **vars(errors)}
    for name in named(states):
        assert issubclass(known[name], contract_errors.ProductError)


def test_the_errors_that_no_repetition_changes_are_not_tried_again(states: dict[str, Any]) -> None:
    start = {"StartImportJob": states["StartImportJob"]}
    assert named(start, "none") == {
        contract_errors.InvalidKey.__name__,
        contract_errors.InvalidManifest.__name__,
        errors.ImportUnknown.__name__,
        errors.ImportRefused.__name__,
        errors.ObjectMissing.__name__,
        errors.ObjectTooLarge.__name__,
    }
    for name in ("StartImportJob", "CheckStatus"):
        assert states[name]["Retry"][0]["MaxAttempts"] == 0  # the first that fits, counts


def test_whatever_nobody_foresaw_is_tried_again_for_hours(states: dict[str, Any]) -> None:
    """A bug, an unknown code of AWS's, timeouts, exhausted memory, crashes."""
    for name in ("StartImportJob", "CheckStatus", "RecordFailure"):
        assert states[name]["Retry"][-1]["ErrorEquals"] == ["States.ALL"]
    last = states["StartImportJob"]["Retry"][-1]
    assert last["MaxAttempts"] * last["MaxDelaySeconds"] / 2 > 2 * 3_600


def test_only_healthimaging_says_that_a_job_has_failed(states: dict[str, Any]) -> None:
    def caught(name: str) -> str:
        (catch,) = states[name]["Catch"]
        assert catch["ErrorEquals"] == ["States.ALL"]
        return str(catch["Next"])

    def chosen(name: str) -> dict[str, str]:
        return {each["StringEquals"]: each["Next"] for each in states[name]["Choices"]}

    assert caught("StartImportJob") == "RecordFailure"
    assert states[caught("CheckStatus")]["Next"] == "CheckStatus"
    assert states[caught("RecordFailure")]["Next"] == "RecordFailure"
    assert chosen("IsComplete") == {"COMPLETED": "ImportSucceeded", "FAILED": "RecordFailure"}
    assert chosen("HasFailed") == {"COMPLETED": "ImportSucceeded", "FAILED": "ImportFailed"}
    for choice in ("IsComplete", "HasFailed"):
        assert states[choice]["Default"] == "WaitForCompletion"


def test_no_timeout_ends_an_execution_where_nothing_can_record_it() -> None:
    assert "TimeoutSeconds" not in json.loads(DEFINITION.read_text())
