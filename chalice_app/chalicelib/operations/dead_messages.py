"""What a dead letter is, said in words of our own: never its text, which anybody may have written.

Junk is what is no S3 event and names nothing of ours: ``trigger_import`` fails on it each time,
whatever AWS does. So it does on a damaged event, one with an odd record or in another service's
envelope, but that may be the only event of a manifest. A whole event that names nothing of ours is
dealt with by deleting it, and one that names a manifest or a dropped object failed for another
reason than itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import InvalidEvent
from chalicelib.intake.s3_events import created_keys, named_keys, parse_event
from chalicelib.stores.copies import mark_of
from contract.errors import InvalidKey
from contract.keys import MANIFESTS_PREFIX, parse_manifest_key
from contract.times import to_iso

# Objects of one message that a view names; S3 itself puts one into each.
_MOST_OBJECTS = 10
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
_KINDS = frozenset(
    {
        "IntelligentTiering",
        "LifecycleExpiration",
        "LifecycleTransition",
        "ObjectAcl",
        "ObjectCreated",
        "ObjectRemoved",
        "ObjectRestore",
        "ObjectTagging",
        "ReducedRedundancyLostObject",
        "Replication",
    }
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a message says. ``keys`` are those of manifests and drops in our bucket, in clear."""

    what: str
    keys: tuple[str, ...] = ()
    is_junk: bool = False
    is_damaged: bool = False

    @property
    def fails_again(self) -> bool:
        """Whether ``trigger_import`` cannot deal with the message at any time."""
        return self.is_junk or self.is_damaged


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of the dead-letter queue, as it was received.

    ``sent_at`` is when it came to the first queue: SQS keeps that time, and the message's id, when
    it moves a message to the dead-letter queue of a standard queue.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at: datetime | None
    receive_count: int
    finding: Finding


def judge(body: str, bucket: str) -> Finding:
    """What a message is, for the DICOM bucket ``bucket``."""
    try:
        event = parse_event(body)
        keys = created_keys(event, bucket)
    except InvalidEvent as error:  # its words are ours
        named = tuple(named_keys(body, bucket))
        if named:
            what = f"damaged event that names {_count(named)} of ours: {error}"
            return Finding(what, named, is_damaged=True)
        return Finding(f"no S3 event: {error}", is_junk=True)
    if keys:
        return Finding(f"S3 event {_kinds(event)} that names {_count(keys)} of ours", tuple(keys))
    if event.get("Event") == "s3:TestEvent":
        return Finding("S3's test event, which names no object")
    return Finding(f"S3 event {_kinds(event)} that names no object of ours")


def letter_view(letter: DeadLetter) -> Json:
    """A dead letter as the command line shows it."""
    finding = letter.finding
    view = {
        "messageId": letter.message_id,
        "receiveCount": letter.receive_count,
        "what": finding.what,
        "junk": finding.is_junk,
        "damaged": finding.is_damaged,
    }
    view |= {"since": to_iso(letter.sent_at)} if letter.sent_at else {}
    named = [_object_view(key) for key in finding.keys[:_MOST_OBJECTS]]
    return view | ({"objects": named, "objectCount": len(finding.keys)} if named else {})


def _object_view(key: str) -> Json:
    """A batch's id is ours; a name that others chose is shown as its digest."""
    if not key.startswith(MANIFESTS_PREFIX):
        return {"kind": "dropped object", "keySha256": mark_of(key)}
    try:
        return {"kind": "manifest", "batchId": parse_manifest_key(key)}
    except InvalidKey:
        return {"kind": "manifest", "keySha256": mark_of(key)}


def _count(keys: Sequence[str]) -> str:
    return f"{len(keys)} objects" if len(keys) > 1 else "an object"


def _kinds(event: Json) -> str:
    """The kinds of the records' events, by AWS's names; any other text is not repeated."""
    return " and ".join(sorted(set(_each_kind(event)))) or "without records"


def _each_kind(event: Json) -> Iterator[str]:
    for record in event.get("Records", ()):
        kind = str(record["eventName"]).removeprefix("s3:").partition(":")[0]
        yield kind if kind in _KINDS else "of another kind"
