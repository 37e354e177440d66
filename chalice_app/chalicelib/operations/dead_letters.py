"""Messages that failed too often, back to their queue."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ServiceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# What ReceiveMessage, SendMessageBatch and DeleteMessageBatch take.
_MESSAGES_PER_CALL = 10
# A message that is moved here must not come back while it is on the way.
_VISIBILITY_SECONDS = 60
# SQS has a task running already, or is one that stands in for it and does not know the call.
_NO_TASK = frozenset(
    {"500", "InvalidAction", "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation"}
)


def redrive(client: "SQSClient", dead_letters: str, queue: str, limit: int | None) -> str:
    """Move messages back; returns what was done, in words.

    Without a limit SQS moves all of them by itself. Safe to repeat: a message that is moved twice
    is dealt with twice, which changes nothing.
    """
    if limit is None and _start_task(client, dead_letters):
        return f"SQS moves all messages from {dead_letters} to where they came from"
    count = move(client, dead_letters, queue, limit)
    return f"{count} messages moved from {dead_letters} to {queue}"


def move(client: "SQSClient", dead_letters: str, queue: str, limit: int | None) -> int:
    """Move messages one by one, at most ``limit``, or as many as there were; returns how many."""
    with mapped_errors():
        source = client.get_queue_url(QueueName=dead_letters)["QueueUrl"]
        target = client.get_queue_url(QueueName=queue)["QueueUrl"]
    left = _waiting(client, source) if limit is None else limit
    moved = 0
    while moved < left:
        count = _move_some(client, source, target, min(_MESSAGES_PER_CALL, left - moved))
        if not count:
            break
        moved += count
    return moved


def _start_task(client: "SQSClient", dead_letters: str) -> bool:
    """Whether SQS does it."""
    with mapped_errors():
        source = client.get_queue_url(QueueName=dead_letters)["QueueUrl"]
        attributes = client.get_queue_attributes(QueueUrl=source, AttributeNames=["QueueArn"])
    try:
        client.start_message_move_task(SourceArn=attributes["Attributes"]["QueueArn"])
    except ClientError as error:
        if error_code(error) in _NO_TASK:
            return False
        raise
    return True


def _waiting(client: "SQSClient", url: str) -> int:
    with mapped_errors():
        answer = client.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _move_some(client: "SQSClient", source: str, target: str, count: int) -> int:
    """Send, then delete: a crash between leaves a message in both queues."""
    with mapped_errors():
        messages = client.receive_message(
            QueueUrl=source, MaxNumberOfMessages=count, VisibilityTimeout=_VISIBILITY_SECONDS
        ).get("Messages", [])
        if not messages:
            return 0
        bodies: Any = [
            {"Id": str(index), "MessageBody": each["Body"]} for index, each in enumerate(messages)
        ]
        sent = client.send_message_batch(QueueUrl=target, Entries=bodies)
        done = {int(each["Id"]) for each in sent.get("Successful", [])}
        if not done:
            raise ServiceUnavailable("SQS took none of the messages")
        handles: Any = [
            {"Id": str(index), "ReceiptHandle": messages[index]["ReceiptHandle"]} for index in done
        ]
        client.delete_message_batch(QueueUrl=source, Entries=handles)
    return len(done)
