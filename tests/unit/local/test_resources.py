"""The buckets' lifecycle: what it must never touch, and that operators read the same."""

from pathlib import Path
from typing import Any

import pytest
from chalicelib.settings import RetentionSettings

from contract.keys import (
    DROPBOX_PREFIX,
    INSTANCES_PREFIX,
    MANIFESTS_PREFIX,
    QUARANTINE_PREFIX,
)
from local import names
from local.aws import AwsServer
from local.environment import aws_environment
from local.resources import lifecycle, stop_executions

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
RULES: dict[str, Any] = {rule["ID"]: rule for rules in lifecycle().values() for rule in rules}


def current_objects_of(rule: Any, prefix: str) -> bool:
    own = rule["Filter"]["Prefix"]
    overlaps = own.startswith(prefix) or prefix.startswith(own)
    return overlaps and "Days" in rule.get("Expiration", {})


@pytest.mark.parametrize("prefix", [INSTANCES_PREFIX, QUARANTINE_PREFIX, DROPBOX_PREFIX])
def test_no_rule_expires_what_may_not_be_imported(prefix: str) -> None:
    rules = lifecycle()[names.DICOM_BUCKET]
    assert [rule for rule in rules if current_objects_of(rule, prefix)] == []


def test_manifests_outlive_the_longest_retention() -> None:
    rules = lifecycle()[names.DICOM_BUCKET]
    (rule,) = (each for each in rules if current_objects_of(each, MANIFESTS_PREFIX))
    bounds = RetentionSettings.model_json_schema()["properties"]["retention_days"]
    assert rule["Expiration"]["Days"] > bounds["maximum"]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule["ID"])
def test_the_runbook_has_each_rule(rule: Any) -> None:
    row = next(line for line in PAGE.splitlines() if f"| `{rule['ID']}` |" in line)
    days = [
        number
        for action in rule.values()
        if isinstance(action, dict)
        for number in action.values()
        if type(number) is int
    ]
    assert all(f" {number} days" in row for number in days)
    prefix = rule["Filter"]["Prefix"]
    assert f"| `{prefix}` |" in row if prefix else "| all |" in row


def test_what_somebody_has_deleted_has_nothing_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    server = AwsServer()
    server.start()
    for name, value in aws_environment("http://{}:{}".format(*server.get_host_and_port())).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    try:
        stop_executions()  # no state machine was ever made
    finally:
        server.stop()
