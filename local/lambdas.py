"""Runs the Chalice app's own handlers where AWS would run Lambda functions.

moto would start Docker for each invocation. Its Step Functions interpreter calls one function for
every Lambda task; that function is replaced here, and the event source mapping of the queue is a
thread, since moto delivers a message once and never again after a failure.
"""

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Self

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from local import names
from local.errors import in_one_line
from local.healthimaging import ThreadScheduler
from local.invocations import Handler, invoke
from local.outage import Outage
from local.roads import Road

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = structlog.get_logger()
_terminal = logging.getLogger(__name__)

# SQS lets a consumer wait up to 20 s; a short wait keeps Ctrl-C quick.
_RECEIVE_WAIT_SECONDS = 1
_AGAIN_SECONDS = 1.0
# Longer than any handler takes here, unless AWS was stopped under it.
_DRAIN_SECONDS = 30


class StateMachineTasks:
    """While entered, moto's interpreter runs Lambda tasks by calling ``handlers`` by name.

    Leaving waits for the calls that run: they need what is stopped next.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._running = 0
        self._changed = threading.Condition()
        self._original = lambda_eval_utils._invoke_lambda_function  # noqa: SLF001 - moto's only seam

    def __enter__(self) -> Self:
        lambda_eval_utils._invoke_lambda_function = self._invoke  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running, _DRAIN_SECONDS)
        lambda_eval_utils._invoke_lambda_function = self._original  # noqa: SLF001

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _invoke(
        self, parameters: dict[str, Any], region: str, state_credentials: object
    ) -> dict[str, Any]:
        del region, state_credentials  # there is one Region and one identity here
        function = parameters["FunctionName"].rpartition(":")[2]
        payload = json.loads(parameters.get("Payload") or b"{}")
        with self._counted():
            result, failed = invoke(self._handlers[function], function, payload)
        response = {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": result}
        return response | ({"FunctionError": "Unhandled"} if failed else {})


class EventSourceMapping:
    """Polls the queue and invokes a handler with SQS events, as Lambda's mapping does.

    A message is deleted once the handler returned; after an error it becomes visible again and
    ends, when it was received too often, in the dead-letter queue. ``road`` is S3's and SQS's: an
    event that is lost on it is deleted unseen, one that comes twice is not deleted. An invocation
    has at most ``batch_size`` messages.
    """

    def __init__(
        self,
        sqs: "SQSClient",
        queue_url: str,
        function: str,
        handler: Handler,
        road: Road,
        batch_size: int,
    ) -> None:
        self._batch_size = batch_size
        self._sqs = sqs
        self._queue_url = queue_url
        self._function = function
        self._handler = handler
        self._road = road
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sqs-to-lambda", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        """Until it is stopped: a queue that cannot be read now is read again a second later."""
        outage = Outage(_terminal.warning)
        while not self._stop.is_set():
            try:
                self._receive()
            except (BotoCoreError, ClientError) as error:
                outage.failed(f"The queue of S3's events cannot be read: {in_one_line(error)}")
                self._stop.wait(_AGAIN_SECONDS)
            else:
                outage.worked("The queue of S3's events")

    def _receive(self) -> None:
        messages = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=self._batch_size,
            WaitTimeSeconds=_RECEIVE_WAIT_SECONDS,
            AttributeNames=["All"],
        ).get("Messages", [])
        if messages:
            self._sort(messages)

    def _sort(self, messages: "list[MessageTypeDef]") -> None:
        """What comes now, once or again; what comes later; what never comes."""
        now, done = [], []
        for message in messages:
            delays = self._road.delays()
            if not delays:
                done.append(message)
            elif delays[0] > 0:
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue_url,
                    ReceiptHandle=message["ReceiptHandle"],
                    VisibilityTimeout=ceil(delays[0]),
                )
            else:
                now.append(message)
                done += [message] if len(delays) == 1 else []
        if now and not self._deliver(now):
            done = [message for message in done if message not in now]
        if done:
            self._delete(done)

    def _deliver(self, messages: "list[MessageTypeDef]") -> bool:
        event = {"Records": [_record(message) for message in messages]}
        result, failed = invoke(self._handler, self._function, event)
        if failed:
            _log.warning("lambda failed", function=self._function, error=result["errorType"])
        return not failed

    def _delete(self, messages: "list[MessageTypeDef]") -> None:
        self._sqs.delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ],
        )


class Schedule:
    """Invokes a handler again and again, as an EventBridge rule with a rate does.

    The next time is counted from the last one's end, so that none runs beside itself.
    """

    def __init__(self, function: str, handler: Handler, every_seconds: float) -> None:
        self._function = function
        self._handler = handler
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=function, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            event = event_bridge_event("aws.events", "Scheduled Event", {})
            result, failed = invoke(self._handler, self._function, event)
            if failed:
                _log.warning("lambda failed", function=self._function, error=result["errorType"])


class EventRule:
    """Invokes a handler with the events sent to it, as an EventBridge rule's target.

    Best effort, as HealthImaging says of its events: one that the handler failed on is gone. On AWS
    it would come twice more, minutes later; here with ``again_seconds``, until it is dealt with.
    """

    def __init__(
        self, function: str, handler: Handler, road: Road, again_seconds: float | None = None
    ) -> None:
        self._function = function
        self._handler = handler
        self._road = road
        self._again_seconds = again_seconds
        self._queue = ThreadScheduler()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.close()

    def send(self, event: Mapping[str, Any]) -> None:
        """Deliver an event, from another thread, as the road will have it."""
        for delay in self._road.delays():
            self._send_in(delay, event)

    def _send_in(self, seconds: float, event: Mapping[str, Any]) -> None:
        self._queue.at(self._queue.now() + seconds, partial(self._invoke, event))

    def _invoke(self, event: Mapping[str, Any]) -> None:
        result, failed = invoke(self._handler, self._function, event)
        if failed:
            _log.warning("lambda failed", function=self._function, error=result["errorType"])
            if self._again_seconds is not None:
                self._send_in(self._again_seconds, event)


def event_listener(
    source: str, rules: Mapping[str, EventRule]
) -> Callable[[str, Mapping[str, object], str], None]:
    """Sends an event (detail-type, detail, resource) to the rule for its detail-type, if any."""

    def send(detail_type: str, detail: Mapping[str, object], resource_arn: str) -> None:
        rule = rules.get(detail_type)
        if rule is not None:
            rule.send(event_bridge_event(source, detail_type, detail, [resource_arn]))

    return send


def event_bridge_event(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str] = ()
) -> dict[str, Any]:
    """What a rule's target is invoked with."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": names.ACCOUNT_ID,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": names.REGION,
        "resources": list(resources),
        "detail": dict(detail),
    }


def _record(message: "MessageTypeDef") -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "md5OfBody": message["MD5OfBody"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": names.QUEUE_ARN,
        "awsRegion": names.REGION,
    }
