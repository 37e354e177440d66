"""The queue, the state machine and the clock behind the ports of ``intake``."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.imports.execution import Execution

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient


# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
_DELETIONS_PER_CALL = 10


class SystemClock:
    """A Clock."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


class SqsQueue:
    """A Queue."""

    def __init__(self, client: "SQSClient", name: str) -> None:
        self._client = client
        self._name = name

    def delete(self, receipt_handles: Iterable[str]) -> None:
        """See Queue."""
        entries = (
            {"Id": str(index), "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        )
        while chunk := list(islice(entries, _DELETIONS_PER_CALL)):
            with mapped_errors():
                url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
                self._client.delete_message_batch(QueueUrl=url, Entries=chunk)  # type: ignore[arg-type]


class StateMachine:
    """A Workflow: an execution's name is its batch's id, which AWS takes once in 90 days.

    While that one runs, the same call is answered as if it had started it.
    https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
    """

    def __init__(self, client: "SFNClient", arn: str) -> None:
        self._client = client
        self._arn = arn

    def start(self, execution: Execution, attempt: int = 0) -> bool:
        """See Workflow."""
        try:
            with mapped_errors():
                self._client.start_execution(
                    stateMachineArn=self._arn,
                    name=f"{execution.batch_id}-{attempt}" if attempt else execution.batch_id,
                    input=execution.to_input(),
                )
        except ClientError as error:
            if error_code(error) == "ExecutionAlreadyExists":
                return False
            raise
        return True
