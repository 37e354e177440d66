"""S3's event notifications: what a queue message says, whoever has written it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

from chalicelib.errors import InvalidEvent
from contract.keys import DROPBOX_PREFIX, MANIFESTS_PREFIX

_CREATED = ("ObjectCreated:", "s3:ObjectCreated:")
_OURS = (MANIFESTS_PREFIX, DROPBOX_PREFIX)
Json = dict[str, Any]


def parse_event(body: str) -> Json:
    """A message's JSON object, with a list of ``Records`` unless it is S3's test event.

    Raises InvalidEvent for any other text.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidEvent("the message is not JSON") from None
    if not isinstance(event, dict):
        raise InvalidEvent("the message is not a JSON object")
    if event.get("Event") != "s3:TestEvent" and not isinstance(event.get("Records"), list):
        raise InvalidEvent("the message has no Records")
    return event


def created_keys(event: Json, bucket: str) -> list[str]:
    """The keys of the objects that an S3 event says were created in ``bucket``, decoded.

    Only those of manifests and drops: whatever the queue was wired to, instances are not ours to
    move, and quarantine must not send itself events. Keys come quote_plus'ed; the message may hold
    several records, or none (``s3:TestEvent``).
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    Raises InvalidEvent if a record is not S3's.
    """
    if event.get("Event") == "s3:TestEvent":
        return []
    keys = (_created_key(record, bucket) for record in event["Records"])
    return list(dict.fromkeys(key for key in keys if key is not None))


def named_keys(body: str, bucket: str) -> list[str]:
    """The keys of manifests and drops that a damaged or wrapped event names, decoded.

    Of the records of S3 and of EventBridge, at any depth and in any JSON text within, as SNS sends
    it; where the bucket cannot be read, it may be ours.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    found = (_named_key(each, bucket) for each in _objects(body))
    return list(dict.fromkeys(key for key in found if key is not None))


def _created_key(record: object, bucket: str) -> str | None:
    """The record's key; None for another event, bucket or prefix."""
    try:
        name, place = _event_name(record), record["s3"]  # type: ignore[index]
        key, where = place["object"]["key"], place["bucket"]["name"]
        if not (isinstance(key, str) and isinstance(where, str)):
            raise TypeError("not texts")
    except (KeyError, TypeError):
        raise InvalidEvent("a record is not S3's") from None
    key = unquote_plus(key)
    if not _is_utf8(key):
        raise InvalidEvent("a key is not UTF-8")
    ours = where == bucket and key.startswith(_OURS)
    return key if ours and name.startswith(_CREATED) else None


def _event_name(record: object) -> str:
    if not isinstance(record, Mapping) or not isinstance(record.get("eventName"), str):
        raise TypeError("not an event")
    return str(record["eventName"])


def _is_utf8(key: str) -> bool:
    """Whether S3 can have an object of this key. JSON can name half of a surrogate pair.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _objects(text: str) -> Iterator[Json]:
    """Each JSON object in a JSON text. Not by recursion: it may be as deep as its parser allows."""
    waiting: list[object] = [text]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += reversed(each.values())
        elif isinstance(each, list):
            waiting += reversed(each)
        elif isinstance(each, str) and each.lstrip().startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                waiting.append(json.loads(each))


def _named_key(each: Json, bucket: str) -> str | None:
    """The key of ours in S3's record, where it is quoted, or in EventBridge's, where it is not."""
    place = each.get("s3", each.get("detail"))
    key, where = _inner(place, "object", "key"), _inner(place, "bucket", "name")
    if not isinstance(key, str) or (isinstance(where, str) and where != bucket):
        return None
    key = unquote_plus(key) if "s3" in each else key
    return key if key.startswith(_OURS) and _is_utf8(key) else None


def _inner(place: object, outer: str, inner: str) -> object:
    found = place.get(outer) if isinstance(place, dict) else None
    return found.get(inner) if isinstance(found, dict) else None
