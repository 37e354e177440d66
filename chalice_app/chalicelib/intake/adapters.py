"""The queue and the state machine behind the ports of ``intake.trigger``."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.imports.execution import Execution

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient


class SqsQueue:
    """A Queue; Lambda hands over at most ten messages, which is what one call deletes."""

    def __init__(self, client: "SQSClient", name: str) -> None:
        self._client = client
        self._name = name

    def delete(self, receipt_handles: Iterable[str]) -> None:
        """See Queue."""
        entries = [
            {"Id": str(index), "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        ]
        if not entries:
            return
        with mapped_errors():
            url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
            self._client.delete_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]


class StateMachine:
    """A Workflow: the execution's name is the batch's id, which AWS takes once in 90 days."""

    def __init__(self, client: "SFNClient", arn: str) -> None:
        self._client = client
        self._arn = arn

    def start(self, execution: Execution) -> bool:
        """See Workflow."""
        try:
            with mapped_errors():
                self._client.start_execution(
                    stateMachineArn=self._arn,
                    name=execution.batch_id,
                    input=execution.to_input(),
                )
        except ClientError as error:
            if error_code(error) == "ExecutionAlreadyExists":
                return False
            raise
        return True
