"""One invocation of a handler of the Chalice app, as the Lambda service makes it.

A handler is told how much of its function's timeout is left, and ends by it; nothing here ends one
that does not.
"""

import functools
import json
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

from local import names

Handler = Callable[[Any, Any], Any]


@functools.cache
def timeout_seconds(function: str) -> int:
    """After so long, Lambda ends an invocation of the function, as .chalice/config.json says.

    https://aws.github.io/chalice/topics/configfile.html#lambda-timeout
    """
    path = names.CHALICE_APP / ".chalice" / "config.json"
    (stage,) = json.loads(path.read_text(encoding="utf-8"))["stages"].values()
    own = stage["lambda_functions"].get(function, {})
    return int(own.get("lambda_timeout", stage["lambda_timeout"]))


class LambdaContext:
    """What handlers may ask of their Lambda context.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(self, function: str) -> None:
        self._ends_at = time.monotonic() + timeout_seconds(function)
        self.function_name = function
        self.invoked_function_arn = names.lambda_arn(function)
        self.aws_request_id = str(uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        """How much of the function's timeout is left."""
        return max(0, round((self._ends_at - time.monotonic()) * 1_000))


def invoke(handler: Handler, function: str, payload: Any) -> tuple[Any, bool]:
    """Call a handler as the Lambda service would: JSON in, JSON out, and whether it failed."""
    try:
        result = handler(json.loads(json.dumps(payload)), LambdaContext(function))
        return json.loads(json.dumps(result)), False
    except SystemExit:  # what the service makes of a function whose process is gone
        return {"errorMessage": "Runtime exited", "errorType": "Runtime.ExitError"}, True
    except Exception as error:  # noqa: BLE001 - the Lambda service turns every error into a payload
        return {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "stackTrace": traceback.format_tb(error.__traceback__),
        }, True
