"""Messages that failed too often: listed, moved back to their queue, or discarded for a reason.

SQS gives no message by its id. So all of them are received once, hidden from others for
``_HIDDEN_SECONDS``, and what was not meant is given back at the end. A command that is killed gives
nothing back: its messages are there again after that time.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.operations.dead_messages import DeadLetter, judge, letter_view
from chalicelib.operations.journal import Discard, Journal
from chalicelib.threads import in_threads

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
# How many messages of each outcome an answer names; its counts are of all.
MAX_NAMED = 100
_ATTRIBUTES: Any = ["SentTimestamp", "ApproximateReceiveCount"]
_NOT_JUNK = "it is an S3 event: redrive it, or discard it with --force"
_JUNK = "it is no S3 event and would fail again"
_log = structlog.get_logger()
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Queues:
    """The dead-letter queue and the one its messages come from, by name; and the DICOM bucket."""

    client: "SQSClient"
    dead_letters: str
    queue: str
    bucket: str


@dataclass(slots=True)
class Report:
    """What became of the messages that were asked for.

    ``not_found`` may name messages that are there, but hidden by somebody else who has received
    them; ``is_complete`` says whether the walk reached the end of the queue.
    """

    done: list[Json] = field(default_factory=list)
    left: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    is_complete: bool = False

    def to_json(self, verb: str) -> Json:
        """``verb`` is what was done: ``moved``, ``discarded``."""
        answer: Json = {"complete": self.is_complete}
        for name, found in ((verb, self.done), ("left", self.left), ("failed", self.failed)):
            answer |= {f"{name}Count": len(found), name: found[:MAX_NAMED]}
        return answer | ({"notFound": self.not_found} if self.not_found else {})


class Walk:
    """One pass over the dead-letter queue. Use within :func:`walking`, which gives back."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._client = queues.client
        with mapped_errors():
            self._url = self._client.get_queue_url(QueueName=queues.dead_letters)["QueueUrl"]
        self._held: dict[str, DeadLetter] = {}
        self.is_complete = False

    def letters(self, most: int | None = None) -> Iterator[list[DeadLetter]]:
        """Messages as they are received, each one once; at most ``most``."""
        ends_at, seen = time.monotonic() + _WALK_SECONDS, 0
        while time.monotonic() < ends_at and (most is None or seen < most):
            left = _MESSAGES_PER_CALL if most is None else min(_MESSAGES_PER_CALL, most - seen)
            found = self._receive(left)
            if not found:
                self.is_complete = True
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

    def give_back(self) -> None:
        """Let others receive at once what was received and not deleted."""
        for _, entries in _chunks(list(self._held.values())):
            shown: Any = [each | {"VisibilityTimeout": 0} for each in entries]
            with mapped_errors():
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=shown)
        self._held.clear()


@contextmanager
def walking(queues: Queues) -> Iterator[Walk]:
    """A pass over the dead-letter queue, which gives back what is left, also after Ctrl-C."""
    walk = Walk(queues)
    try:
        yield walk
    finally:
        walk.give_back()


def dead_letters(queues: Queues, most: int) -> Json:
    """What is in the queue: at most ``most`` messages, which stay there."""
    with walking(queues) as walk:
        found = [each for page in walk.letters(most) for each in page]
    views = sorted(map(letter_view, found), key=lambda each: str(each.get("since")))
    return {"messages": views, "complete": walk.is_complete}


def redrive(queues: Queues, wanted: Collection[str] | None, most: int | None = None) -> Report:
    """Move messages back to their queue: those of the ids ``wanted``, or all that are no junk.

    A message that is junk by itself would come back: it is left. Each is sent, then deleted: a
    crash between leaves it in both queues, and it is dealt with twice, which changes nothing. SQS
    gives it another id by that.
    """
    report = Report()
    with mapped_errors():
        target = queues.client.get_queue_url(QueueName=queues.queue)["QueueUrl"]
    with walking(queues) as walk:
        for page in _asked_for(walk, wanted, most, report):
            junk = [each for each in page if each.finding.is_junk]
            report.left += [letter_view(each) | {"why": _JUNK} for each in junk]
            good = [each for each in page if not each.finding.is_junk]
            _move(good, queues.client, target, walk, report)
    return report


def discard(
    queues: Queues,
    wanted: Collection[str] | None,
    reason: str,
    journal: Journal,
    *,
    force: bool = False,
) -> Report:
    """Delete messages for good: those of the ids ``wanted``, or all junk. The journal has why.

    An S3 event may be the only one of its manifest: it is left, unless it is named, by ``force``.
    """
    report, now = Report(), datetime.now(UTC)
    with walking(queues) as walk:
        for page in _asked_for(walk, wanted, None, report):
            chosen = [each for each in page if each.finding.is_junk or (force and wanted)]
            if wanted is not None:
                others = [each for each in page if each not in chosen]
                report.left += [letter_view(each) | {"why": _NOT_JUNK} for each in others]
            for each in chosen:  # before it is deleted: afterwards nobody could say what it was
                what = each.finding.what
                journal.note_discard(Discard(each.message_id, what, reason, now))
            deleted = walk.delete(chosen)
            report.done += map(letter_view, deleted)
            kept = [each for each in chosen if each not in deleted]
            report.failed += [_failure(each, "SQS did not delete it") for each in kept]
            _log.info("dead_letters_discarded", message_ids=[each.message_id for each in deleted])
    return report


def _asked_for(
    walk: Walk, wanted: Collection[str] | None, most: int | None, report: Report
) -> Iterator[list[DeadLetter]]:
    """The messages that are asked for, until there are no more of them."""
    missing = set(wanted or ())
    for page in walk.letters(most):
        yield page if wanted is None else [each for each in page if each.message_id in missing]
        missing -= {each.message_id for each in page}
        if wanted is not None and not missing:
            walk.is_complete = True
            break
    report.is_complete = walk.is_complete
    report.not_found = sorted(missing)


def _move(
    letters: Sequence[DeadLetter], client: "SQSClient", target: str, walk: Walk, report: Report
) -> None:
    """One call for each message: one that SQS does not take must not stop the others."""

    def send(letter: DeadLetter) -> str | Exception:
        try:
            with mapped_errors():
                sent = client.send_message(QueueUrl=target, MessageBody=letter.body)
        except (ServiceUnavailable, ClientError) as error:
            return error
        return sent["MessageId"]

    answers = list(zip(letters, in_threads(send, letters), strict=True))
    moved = {each.message_id: new for each, new in answers if isinstance(new, str)}
    walk.delete([each for each, new in answers if isinstance(new, str)])
    for message_id, new_id in moved.items():
        _log.info("dead_letter_moved", message_id=message_id, new_message_id=new_id)
        report.done.append({"messageId": message_id, "newMessageId": new_id})
    report.failed += [_failure(each, _why(e)) for each, e in answers if isinstance(e, Exception)]


def _failure(letter: DeadLetter, why: str) -> Json:
    return {"messageId": letter.message_id, "why": why}


def _why(error: Exception) -> str:
    return f"SQS: {error_code(error)}" if isinstance(error, ClientError) else str(error)


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
