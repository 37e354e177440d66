"""Messages that failed too often: listed, moved back to their queue, or discarded for a reason."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.operations.dead_letter_walk import Queues, Walk, walking
from chalicelib.operations.dead_messages import DeadLetter, letter_view
from chalicelib.operations.failures import FAILURES, in_words
from chalicelib.operations.journal import Discard, Journal
from chalicelib.threads import in_threads

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# How many messages of each outcome an answer names; its counts are of all.
MAX_NAMED = 100
_NOT_JUNK = "it is an S3 event: redrive it, or discard it with --force"
_NAMES_OURS = "it names objects of ours: once their batch is closed, discard it with --force"
_JUNK = "it is no S3 event and would fail again"
_DAMAGED = "it is a damaged event and would fail again"
_IN_BOTH = "sent again, but not deleted here; it will be listed again"
_log = structlog.get_logger()
Json = dict[str, Any]


@dataclass(slots=True)
class Report:
    """What became of the messages that were asked for.

    ``not_found`` may name messages that are there, but hidden by somebody else who has received
    them. ``is_complete`` says whether the walk saw every message, or all that were named;
    ``hidden_count`` how many others hide; ``stopped`` why the walk ended early.
    """

    done: list[Json] = field(default_factory=list)
    left: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    is_complete: bool = False
    hidden_count: int = 0
    stopped: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether all that was asked for is done, but for what was left for a reason."""
        return not (self.failed or self.not_found or self.stopped)

    def to_json(self, verb: str) -> Json:
        """``verb`` is what was done: ``moved``, ``discarded``."""
        answer: Json = _ending(self)
        for name, found in ((verb, self.done), ("left", self.left), ("failed", self.failed)):
            answer |= {f"{name}Count": len(found), name: found[:MAX_NAMED]}
        return answer | ({"notFound": self.not_found} if self.not_found else {})


@dataclass(slots=True)
class Listing:
    """What is in the queue; the other members as a Report has them."""

    messages: list[Json] = field(default_factory=list)
    is_complete: bool = False
    hidden_count: int = 0
    stopped: str | None = None

    def to_json(self) -> Json:
        """The messages by age, and whether they are all."""
        views = sorted(self.messages, key=lambda each: str(each.get("since")))
        return {"messages": views} | _ending(self)


def _ending(told: Report | Listing) -> Json:
    answer: Json = {"complete": told.is_complete}
    answer |= {"hiddenCount": told.hidden_count} if told.hidden_count else {}
    return answer | ({"stopped": told.stopped} if told.stopped else {})


def dead_letters(queues: Queues, most: int) -> Listing:
    """What is in the queue: at most ``most`` messages, which stay there."""
    listing = Listing()
    with walking(queues, listing) as walk:
        for page in walk.letters(most):
            listing.messages += map(letter_view, page)
    return listing


def redrive(queues: Queues, wanted: Collection[str] | None, most: int | None = None) -> Report:
    """Move messages back to their queue: those of the ids ``wanted``, or all whole S3 events.

    Junk and damaged events would come back: they are left. Each is sent, then deleted: a crash
    between leaves it in both queues, and it is dealt with twice, which changes nothing. A moved
    message gets a new id.
    """
    report = Report()
    with mapped_errors():
        target = queues.client.get_queue_url(QueueName=queues.queue)["QueueUrl"]
    with walking(queues, report) as walk:
        for page in _asked_for(walk, wanted, most, report):
            for each in page:
                if each.finding.fails_again:
                    why = _JUNK if each.finding.is_junk else _DAMAGED
                    report.left.append(letter_view(each) | {"why": why})
            good = [each for each in page if not each.finding.fails_again]
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

    An S3 event may be the only one of its manifest, a damaged one too: it is left, unless it is
    named, by ``force``.
    """
    report, now = Report(), datetime.now(UTC)
    with walking(queues, report) as walk:
        for page in _asked_for(walk, wanted, None, report):
            chosen = [each for each in page if each.finding.is_junk or (force and wanted)]
            if wanted is not None:
                for each in page:
                    if each not in chosen:
                        why = _NAMES_OURS if each.finding.is_damaged else _NOT_JUNK
                        report.left.append(letter_view(each) | {"why": why})
            for each in chosen:  # before it is deleted: afterwards nobody could say what it was
                what = each.finding.what
                journal.note_discard(Discard(each.message_id, what, reason, now))
            _delete(chosen, walk, report)
    return report


def _delete(letters: Sequence[DeadLetter], walk: Walk, report: Report) -> None:
    """The report has each, though the call fails; the error passes."""
    deleted: list[DeadLetter] = []
    try:
        deleted = walk.delete(letters)
    finally:
        report.done += map(letter_view, deleted)
        stay = [each for each in letters if each not in deleted]
        report.failed += [_failure(each, "SQS did not delete it") for each in stay]
        if deleted:
            _log.info("dead_letters_discarded", message_ids=[each.message_id for each in deleted])


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
    report.not_found = sorted(missing)


def _move(
    letters: Sequence[DeadLetter], client: "SQSClient", target: str, walk: Walk, report: Report
) -> None:
    """One call for each message: one that SQS does not take must not stop the others."""

    def send(letter: DeadLetter) -> str | Exception:
        try:
            with mapped_errors():
                sent = client.send_message(QueueUrl=target, MessageBody=letter.body)
        except FAILURES as error:
            return error
        return sent["MessageId"]

    answers = list(zip(letters, in_threads(send, letters), strict=True))
    report.failed += [_failure(each, _why(e)) for each, e in answers if isinstance(e, Exception)]
    sent = {each.message_id: new for each, new in answers if isinstance(new, str)}
    deleted: list[DeadLetter] = []
    try:
        deleted = walk.delete([each for each in letters if each.message_id in sent])
    finally:  # the report has each, though the call fails
        moved = {each.message_id for each in deleted}
        for message_id, new_id in sent.items():
            names = {"messageId": message_id, "newMessageId": new_id}
            if message_id in moved:
                _log.info("dead_letter_moved", message_id=message_id, new_message_id=new_id)
                report.done.append(names)
            else:
                _log.warning("dead_letter_copied", message_id=message_id, new_message_id=new_id)
                report.failed.append(names | {"why": _IN_BOTH})


def _failure(letter: DeadLetter, why: str) -> Json:
    return {"messageId": letter.message_id, "why": why}


def _why(error: Exception) -> str:
    return f"SQS: {error_code(error)}" if isinstance(error, ClientError) else in_words(error)
