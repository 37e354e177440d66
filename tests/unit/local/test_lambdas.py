"""What stands in for the Lambda service."""

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import app
import boto3
import pytest
from chalice.app import SQSEvent
from chalicelib.deadline import Deadline
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from local import lambdas, names
from local.aws import AwsServer
from local.cloud import batch_size
from local.invocations import invoke
from local.lambdas import EventRule, EventSourceMapping, StateMachineTasks, event_listener
from local.roads import RELIABLE, Road

CONFIG = json.loads((names.CHALICE_APP / ".chalice" / "config.json").read_text())


def test_what_a_task_needs_is_not_stopped_while_it_runs() -> None:
    began, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def check_status(event: Any, context: Any) -> dict[str, Any]:
        del event, context
        began.set()
        assert go_on.wait(10)
        order.append("the task ends")
        return {}

    def leave(tasks: StateMachineTasks) -> None:
        tasks.__exit__()
        order.append("the rest is stopped")

    parameters = {"FunctionName": names.lambda_arn("check_status")}
    with StateMachineTasks({"check_status": check_status}) as tasks:
        task = threading.Thread(
            target=lambda_eval_utils._invoke_lambda_function,
            args=(parameters, names.REGION, None),
        )
        task.start()
        assert began.wait(10)
        leaving = threading.Thread(target=leave, args=(tasks,))
        leaving.start()
        leaving.join(0.1)
        go_on.set()
        leaving.join(10)
        task.join(10)
    assert order == ["the task ends", "the rest is stopped"]


@pytest.mark.parametrize("function", CONFIG["stages"]["dev"]["lambda_functions"])
def test_a_handler_has_the_budget_that_it_has_on_aws(function: str) -> None:
    found: list[Deadline] = []
    now = datetime.now(UTC)

    def handle(event: Any, context: Any) -> None:
        found.append(Deadline.of(SQSEvent(event, context).context, now))

    assert invoke(handle, function, {"Records": []}) == (None, False)
    (deadline,) = found
    timeout = CONFIG["stages"]["dev"]["lambda_functions"][function].get("lambda_timeout", 60)
    assert (
        timedelta(0) <= timedelta(seconds=timeout - 2) - deadline.left(now) < timedelta(seconds=2)
    )


def test_the_time_that_is_left_of_an_invocation_becomes_less() -> None:
    left: list[int] = []
    waited = threading.Event()

    def handle(event: Any, context: Any) -> None:
        del event
        left.append(context.get_remaining_time_in_millis())
        waited.wait(0.01)
        left.append(context.get_remaining_time_in_millis())

    assert invoke(handle, "trigger_import", {}) == (None, False)
    assert 119_000 < left[1] < left[0] <= 120_000


def test_an_event_goes_to_the_rule_for_its_type_and_one_without_a_rule_nowhere() -> None:
    received: dict[str, Any] = {}
    both = threading.Barrier(3, timeout=10)

    def consumer(name: str) -> EventRule:
        def handle(event: Any, context: Any) -> None:
            del context
            received[name] = event
            both.wait()

        return EventRule(name, handle, Road(RELIABLE, "seed"))

    with consumer("on_job") as on_job, consumer("on_image_set") as on_image_set:
        listener = event_listener("aws.x", {"Job": on_job, "Image Set": on_image_set})
        listener("Something Else", {"id": 0}, "arn:else")
        listener("Job", {"id": 1}, "arn:store")
        listener("Image Set", {"id": 2, "isPrimary": True}, "arn:set")
        both.wait()
    told = {
        name: (event["source"], event["detail-type"], event["resources"], event["detail"])
        for name, event in received.items()
    }
    assert told == {
        "on_job": ("aws.x", "Job", ["arn:store"], {"id": 1}),
        "on_image_set": ("aws.x", "Image Set", ["arn:set"], {"id": 2, "isPrimary": True}),
    }


def test_an_event_that_the_handler_failed_on_comes_again_if_the_rule_says_so() -> None:
    calls: list[Any] = []
    third = threading.Event()

    def handle(event: Any, context: Any) -> None:
        del context
        calls.append(event["detail"])
        if len(calls) < 3:
            raise ValueError("not yet")
        third.set()

    with EventRule("on_image_set", handle, Road(RELIABLE, "seed"), again_seconds=0.01) as rule:
        rule.send({"detail": {"id": 1}})
        assert third.wait(10)
    assert calls == [{"id": 1}] * 3


def test_an_invocation_has_as_many_messages_as_the_app_takes_at_once() -> None:
    asked: list[int] = []
    received = threading.Event()

    class Sqs:
        def receive_message(self, **asked_for: Any) -> dict[str, Any]:
            asked.append(asked_for["MaxNumberOfMessages"])
            received.set()
            return {}

    size = batch_size(app.app, "trigger_import")
    sqs: Any = Sqs()
    with EventSourceMapping(sqs, "", "late", print, Road(RELIABLE, "seed"), size):
        assert received.wait(10)
    assert {*asked} == {5}


def test_a_queue_that_cannot_be_read_is_said_once_and_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(lambdas, "_AGAIN_SECONDS", 0.02)
    handled, refused = threading.Event(), threading.Semaphore(0)
    caplog.set_level(logging.WARNING)
    server = AwsServer()
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    sqs = boto3.client("sqs", endpoint_url=url, region_name=names.REGION)

    def handle(event: Any, context: Any) -> None:
        del event, context
        handled.set()

    queue = f"{url}/{names.ACCOUNT_ID}/late"
    sqs.meta.events.register("after-call.sqs.ReceiveMessage", lambda **_: refused.release())
    with EventSourceMapping(sqs, queue, "late", handle, Road(RELIABLE, "seed"), 5):
        for _ in range(3):
            assert refused.acquire(timeout=10)
        sqs.create_queue(QueueName="late")
        sqs.send_message(QueueUrl=queue, MessageBody="{}")
        assert handled.wait(10)
    sqs.delete_queue(QueueUrl=queue)
    sqs.close()
    server.stop()
    lines = [each.getMessage() for each in caplog.records if each.name == "local.lambdas"]
    assert len(lines) == 2
    assert lines[0].startswith("The queue of S3's events cannot be read: QueueDoesNotExist")
    assert lines[1] == "The queue of S3's events works again."
