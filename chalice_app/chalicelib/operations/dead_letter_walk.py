"""One pass over the dead-letter queue.

SQS gives no message by its id. So all of them are received once, hidden from others for
``_HIDDEN_SECONDS``, and what was not meant is given back at the end. A command that is killed gives
nothing back: its messages are there again after that time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from chalicelib.aws import mapped_errors
from chalicelib.operations.dead_messages import DeadLetter, judge
from chalicelib.operations.failures import FAILURES, in_words

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# What ReceiveMessage, DeleteMessageBatch and ChangeMessageVisibilityBatch take.
_MESSAGES_PER_CALL = 10
# A walk ends before the first message that it received can come again.
_HIDDEN_SECONDS = 600
_WALK_SECONDS = 480
# Long polling asks all of SQS's servers; without it, an empty answer does not mean an empty queue.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
_WAIT_SECONDS = 1
_ATTRIBUTES: Any = ["SentTimestamp", "ApproximateReceiveCount"]
_HIDDEN: Any = ["ApproximateNumberOfMessagesNotVisible"]
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Queues:
    """The dead-letter queue and the one its messages come from, by name; and the DICOM bucket."""

    client: "SQSClient"
    dead_letters: str
    queue: str
    bucket: str


class Walk:
    """One pass over the dead-letter queue. Use within :func:`walking`, which gives back.

    ``is_complete`` says whether it saw every message, ``hidden_count`` how many others hold.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._client = queues.client
        with mapped_errors():
            self._url = self._client.get_queue_url(QueueName=queues.dead_letters)["QueueUrl"]
        self._held: dict[str, DeadLetter] = {}
        self.is_complete = False
        self.hidden_count = 0

    def letters(self, most: int | None = None) -> Iterator[list[DeadLetter]]:
        """Messages as they are received, each one once; at most ``most``."""
        ends_at, seen = time.monotonic() + _WALK_SECONDS, 0
        while time.monotonic() < ends_at and (most is None or seen < most):
            left = _MESSAGES_PER_CALL if most is None else min(_MESSAGES_PER_CALL, most - seen)
            found = self._receive(left)
            if not found:
                self.hidden_count = self._hidden_by_others()
                self.is_complete = self.hidden_count == 0
                return
            fresh = [each for each in found if each.message_id not in self._held]
            self._held |= {each.message_id: each for each in found}
            seen += len(fresh)
            yield fresh

    def _receive(self, count: int) -> list[DeadLetter]:
        with mapped_errors():
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=count,
                VisibilityTimeout=_HIDDEN_SECONDS,
                WaitTimeSeconds=_WAIT_SECONDS,
                AttributeNames=_ATTRIBUTES,
            )
        return [self._letter(each) for each in answer.get("Messages", [])]

    def _letter(self, message: Any) -> DeadLetter:
        attributes = message.get("Attributes", {})
        sent = attributes.get("SentTimestamp")
        return DeadLetter(
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            body=message["Body"],
            sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
            receive_count=int(attributes.get("ApproximateReceiveCount", 0)),
            finding=judge(message["Body"], self._queues.bucket),
        )

    def delete(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Delete messages; returns those that SQS says are deleted."""
        deleted: list[DeadLetter] = []
        for chunk, entries in _chunks(letters):
            with mapped_errors():
                answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            done = {int(each["Id"]) for each in answer.get("Successful", [])}
            deleted += [each for number, each in enumerate(chunk) if number in done]
        for each in deleted:
            self._held.pop(each.message_id, None)
        return deleted

    def _hidden_by_others(self) -> int:
        """How many messages somebody else has received, by SQS's approximate count.

        It may have, for a minute, what was deleted just now.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        with mapped_errors():
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=_HIDDEN)
        count = int(answer.get("Attributes", {}).get(_HIDDEN[0], 0))
        return max(0, count - len(self._held))

    def give_back(self) -> None:
        """Let others receive at once what was received and not deleted. Raises nothing.

        What SQS does not give back, it shows again after ``_HIDDEN_SECONDS``.
        """
        for chunk, entries in _chunks(list(self._held.values())):
            shown: Any = [each | {"VisibilityTimeout": 0} for each in entries]
            try:
                with mapped_errors():
                    answer = self._client.change_message_visibility_batch(
                        QueueUrl=self._url, Entries=shown
                    )
            except (*FAILURES, KeyboardInterrupt) as error:
                _log.warning("dead_letters_stay_hidden", count=len(chunk), why=in_words(error))
                if isinstance(error, KeyboardInterrupt):
                    return
                continue
            if refused := answer.get("Failed", []):
                codes = sorted({each["Code"] for each in refused})
                _log.warning("dead_letters_stay_hidden", count=len(refused), why=", ".join(codes))
        self._held.clear()


class Told(Protocol):
    """What a walk tells at its end: ``stopped`` is why it did not reach the queue's."""

    is_complete: bool
    hidden_count: int
    stopped: str | None


@contextmanager
def walking(queues: Queues, report: Told) -> Iterator[Walk]:
    """A pass over the dead-letter queue, which gives back what is left, also after Ctrl-C.

    An error ends the walk, and the report has it beside what was done before. Raises what the first
    call raises, before anything is received.
    """
    walk = Walk(queues)
    try:
        yield walk
    except (*FAILURES, KeyboardInterrupt) as error:
        report.stopped = in_words(error)
        _log.warning("dead_letters_stopped", why=report.stopped)
    finally:
        report.is_complete = walk.is_complete and report.stopped is None
        report.hidden_count = walk.hidden_count
        walk.give_back()


def _chunks(letters: Sequence[DeadLetter]) -> Iterator[tuple[Sequence[DeadLetter], Any]]:
    for start in range(0, len(letters), _MESSAGES_PER_CALL):
        chunk = letters[start : start + _MESSAGES_PER_CALL]
        yield (
            chunk,
            [
                {"Id": str(number), "ReceiptHandle": each.receipt_handle}
                for number, each in enumerate(chunk)
            ],
        )
