"""Runs the Chalice app's own handlers where AWS would run Lambda functions.

moto would start Docker for each invocation. Its Step Functions interpreter calls one function for
every Lambda task; that function is replaced here, and the event source mapping of the queue is a
thread, since moto delivers a message once and never again after a failure.
"""

import json
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import structlog
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from local import names

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

Handler = Callable[[Any, Any], Any]
_log = structlog.get_logger()

# SQS lets a consumer wait up to 20 s; a short wait keeps Ctrl-C quick.
_RECEIVE_WAIT_SECONDS = 1
_BATCH_SIZE = 10


class LambdaContext:
    """What handlers may ask of their Lambda context."""

    def __init__(self, function: str) -> None:
        self.function_name = function
        self.invoked_function_arn = names.lambda_arn(function)
        self.aws_request_id = str(uuid.uuid4())


def invoke(handler: Handler, function: str, payload: Any) -> tuple[Any, bool]:
    """Call a handler as the Lambda service would: JSON in, JSON out, and whether it failed."""
    try:
        result = handler(json.loads(json.dumps(payload)), LambdaContext(function))
        return json.loads(json.dumps(result)), False
    except Exception as error:  # noqa: BLE001 - the Lambda service turns every error into a payload
        return {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "stackTrace": traceback.format_tb(error.__traceback__),
        }, True


class StateMachineTasks:
    """While entered, moto's interpreter runs Lambda tasks by calling ``handlers`` by name."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._original = lambda_eval_utils._invoke_lambda_function  # noqa: SLF001 - moto's only seam

    def __enter__(self) -> Self:
        lambda_eval_utils._invoke_lambda_function = self._invoke  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        lambda_eval_utils._invoke_lambda_function = self._original  # noqa: SLF001

    def _invoke(
        self, parameters: dict[str, Any], region: str, state_credentials: object
    ) -> dict[str, Any]:
        del region, state_credentials  # there is one Region and one identity here
        function = parameters["FunctionName"].rpartition(":")[2]
        payload = json.loads(parameters.get("Payload") or b"{}")
        result, failed = invoke(self._handlers[function], function, payload)
        response = {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": result}
        return response | ({"FunctionError": "Unhandled"} if failed else {})


class EventSourceMapping:
    """Polls the queue and invokes a handler with SQS events, as Lambda's mapping does.

    A message is deleted once the handler returned; after an error it becomes visible again and
    ends, when it was received too often, in the dead-letter queue.
    """

    def __init__(self, sqs: "SQSClient", queue_url: str, function: str, handler: Handler) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._function = function
        self._handler = handler
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sqs-to-lambda", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            messages = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=_BATCH_SIZE,
                WaitTimeSeconds=_RECEIVE_WAIT_SECONDS,
                AttributeNames=["All"],
            ).get("Messages", [])
            if messages:
                self._deliver(messages)

    def _deliver(self, messages: "list[MessageTypeDef]") -> None:
        event = {"Records": [_record(message) for message in messages]}
        result, failed = invoke(self._handler, self._function, event)
        if failed:
            _log.warning("lambda failed", function=self._function, error=result["errorType"])
            return
        self._sqs.delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ],
        )


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
