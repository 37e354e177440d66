"""The definition itself, run by moto's interpreter, with Python functions in the Lambdas' place."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chalicelib import aws
from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ObjectDenied,
    ObjectMissing,
    ResultsNotReady,
    ResultsNotUnderstood,
    ServiceUnavailable,
)
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (
    WaitFunction,
)
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker

from contract.errors import InvalidManifest
from tests.pipeline import aws_mock

DEFINITION = Path(__file__).parents[3] / "stepfunctions" / "definition.asl.json"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:"
BATCH = "20261123T093000Z-0001020304050607"
INPUT = {"batchId": BATCH, "bucket": "dicom", "manifestKey": f"batches/{BATCH}.json"}
Answer = dict[str, Any] | Exception


def job(status: str, wait: int = 5, **more: str) -> dict[str, Any]:
    return {"jobId": "j", "datastoreId": "d", "status": status, "waitSeconds": wait} | more


class Cloud:
    """Answers each function's calls from a script; its last answer is given again."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {"RecordFailure": [job("FAILED", 0)]}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.delays: list[float] = []
        self.waits: list[int] = []

    def invoke(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["FunctionName"].rpartition(":")[2].removesuffix("FunctionArn")
        self.calls.append((name, json.loads(parameters["Payload"])))
        answers = self.script[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not isinstance(answer, Exception):
            return {"StatusCode": 200, "Payload": answer}
        error = {"errorType": type(answer).__name__, "errorMessage": str(answer)}
        return {"StatusCode": 200, "Payload": error, "FunctionError": "Unhandled"}

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def run(self, **script: Sequence[Answer]) -> dict[str, Any]:
        """Run one execution to its end; returns its description."""
        self.script.update({name: list(answers) for name, answers in script.items()})
        client = aws.stepfunctions()
        text = re.sub(r"\$\{(\w+)\}", lambda found: FUNCTION + found[1], DEFINITION.read_text())
        machine = client.create_state_machine(
            name="dicom-import", definition=text, roleArn="arn:aws:iam::123456789012:role/states"
        )
        execution = client.start_execution(
            stateMachineArn=machine["stateMachineArn"], name=BATCH, input=json.dumps(INPUT)
        )
        found = client.describe_execution(executionArn=execution["executionArn"])
        assert found["status"] != "RUNNING"
        return dict(found)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[None]:
    """moto that runs executions, each inside the very call that starts it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        aws_mock.running({"stepfunctions": {"execute_state_machine": True}}),
    ):
        patch.setattr(ExecutionWorker, "start", ExecutionWorker._execution_logic)
        yield


@pytest.fixture
def cloud(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    cloud = Cloud()

    def invoke(parameters: dict[str, Any], region: str, state_credentials: object) -> Any:
        return cloud.invoke(parameters)

    def wait(self: object, env: object, wait_seconds: int) -> None:
        cloud.waits.append(wait_seconds)

    monkeypatch.setattr(lambda_eval_utils, "_invoke_lambda_function", invoke)
    monkeypatch.setattr(retrier_decl, "time", SimpleNamespace(sleep=cloud.delays.append))
    monkeypatch.setattr(WaitFunction, "_wait_interval", wait)
    aws_mock.reset()
    return cloud


def test_a_batch_is_started_watched_and_done(cloud: Cloud) -> None:
    running, done = job("IN_PROGRESS", 7), job("COMPLETED", 9)
    found = cloud.run(StartImportJob=[job("SUBMITTED")], CheckStatus=[running, done])
    assert found["status"] == "SUCCEEDED"
    assert cloud.names() == ["StartImportJob", "CheckStatus", "CheckStatus"]
    assert cloud.waits == [5, 7]
    _, asked = cloud.calls[0]
    assert asked == INPUT | {"executionArn": found["executionArn"]}
    _, asked = cloud.calls[2]
    assert asked == INPUT | {"executionArn": found["executionArn"], "job": running}


@pytest.mark.parametrize(
    ("fault", "longest"),
    [(ImportThrottled, 60), (ImportQuotaExceeded, 120), (ServiceUnavailable, 300)],
)
def test_a_start_that_must_wait_is_tried_again_with_growing_pauses(
    cloud: Cloud, fault: type[Exception], longest: int
) -> None:
    faults = [fault("later") for _ in range(20)]
    found = cloud.run(StartImportJob=[*faults, job("SUBMITTED")], CheckStatus=[job("COMPLETED")])
    assert found["status"] == "SUCCEEDED"
    assert len(cloud.delays) == 20
    assert max(cloud.delays) <= longest
    assert sum(cloud.delays[10:]) > sum(cloud.delays[:5])


def test_an_error_nobody_foresaw_is_tried_again_for_hours(cloud: Cloud) -> None:
    faults = [KeyError("a bug"), RuntimeError("another")] * 25
    found = cloud.run(
        StartImportJob=[*faults, job("SUBMITTED")], CheckStatus=[*faults, job("COMPLETED")]
    )
    assert found["status"] == "SUCCEEDED"
    assert sum(cloud.delays) > 2 * 3_600  # both states'; half of that on average for each


def test_results_that_come_late_are_waited_for(cloud: Cloud) -> None:
    late = [ResultsNotReady("not there yet")] * 5
    found = cloud.run(StartImportJob=[job("SUBMITTED")], CheckStatus=[*late, job("COMPLETED")])
    assert found["status"] == "SUCCEEDED"
    assert cloud.waits == [5]


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        (ImportThrottled, 601),
        (ImportRefused, 1),
        (InvalidManifest, 1),
        (ObjectMissing, 1),
        (KeyError, 61),
        (ObjectDenied, 61),
    ],
)
def test_a_start_that_never_succeeds_is_recorded(
    cloud: Cloud, fault: type[Exception], calls: int
) -> None:
    found = cloud.run(StartImportJob=[fault("no")])
    assert found["status"] == "FAILED"
    assert cloud.names() == ["StartImportJob"] * calls + ["RecordFailure"]
    _, asked = cloud.calls[-1]
    assert asked["batchId"] == BATCH
    assert asked["error"]["Error"] == fault.__name__
    assert "no" in json.loads(asked["error"]["Cause"])["errorMessage"]


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (ResultsNotReady, 26),
        (ImportThrottled, 21),
        (ImportRefused, 1),
        (ObjectDenied, 1),
        (ResultsNotUnderstood, 1),
        (KeyError, 13),
    ],
)
def test_no_error_fails_a_job_and_it_is_looked_at_again_later(
    cloud: Cloud, fault: type[Exception], tries: int
) -> None:
    faults = [fault("no") for _ in range(3 * tries)]
    found = cloud.run(StartImportJob=[job("SUBMITTED")], CheckStatus=[*faults, job("COMPLETED")])
    assert found["status"] == "SUCCEEDED"
    assert "RecordFailure" not in cloud.names()
    assert cloud.waits == [5, 900, 900, 900]


def test_a_job_nobody_can_ask_for_is_asked_for_over_days_of_one_history(cloud: Cloud) -> None:
    """https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
    looks = 20 * 13
    faults = [KeyError("no") for _ in range(looks)]
    found = cloud.run(StartImportJob=[job("SUBMITTED")], CheckStatus=[*faults, job("COMPLETED")])
    pages = aws.stepfunctions().get_paginator("get_execution_history")
    events = sum(len(page["events"]) for page in pages.paginate(executionArn=found["executionArn"]))
    passed = sum(cloud.waits) + sum(cloud.delays)
    assert 25_000 / events * passed > 10 * 86_400


def test_a_job_that_runs_or_has_completed_has_not_failed(cloud: Cloud) -> None:
    found = cloud.run(
        StartImportJob=[ImportRefused("no")],
        RecordFailure=[job("IN_PROGRESS", 7)],
        CheckStatus=[job("COMPLETED")],
    )
    assert found["status"] == "SUCCEEDED"
    assert cloud.names() == ["StartImportJob", "RecordFailure", "CheckStatus"]
    assert cloud.waits == [7]


def test_what_had_completed_ends_the_execution(cloud: Cloud) -> None:
    found = cloud.run(StartImportJob=[ImportRefused("no")], RecordFailure=[job("COMPLETED")])
    assert found["status"] == "SUCCEEDED"


def test_a_job_that_healthimaging_fails_is_recorded_with_its_message(cloud: Cloud) -> None:
    end = job("FAILED", message="it broke")
    found = cloud.run(StartImportJob=[job("SUBMITTED")], CheckStatus=[end])
    assert found["status"] == "FAILED"
    assert cloud.names()[-1] == "RecordFailure"
    _, asked = cloud.calls[-1]
    assert asked["job"] == end
    assert "error" not in asked


@pytest.mark.parametrize("faults", [3, 30])
def test_recording_a_failure_is_tried_until_it_is_recorded(cloud: Cloud, faults: int) -> None:
    record: list[Answer] = [KeyError("a bug") for _ in range(faults)]
    found = cloud.run(StartImportJob=[ImportRefused("no")], RecordFailure=[*record, job("FAILED")])
    assert found["status"] == "FAILED"
    assert cloud.names() == ["StartImportJob", *["RecordFailure"] * (faults + 1)]
    assert cloud.waits == [900] * (faults // 13)


def test_a_failure_that_healthimaging_does_not_confirm_is_asked_for_later(cloud: Cloud) -> None:
    record: list[Answer] = [ImportRefused("denied"), job("FAILED")]
    cloud.run(StartImportJob=[KeyError("a bug")], RecordFailure=record)
    assert cloud.waits == [900]
