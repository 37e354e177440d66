"""What moto does otherwise than AWS when requests come at once, put right in one place.

moto says of itself that it is not safe for threads (https://github.com/getmoto/moto/issues/372,
closed; pull request 10185 mends one more place of the kind). Found in moto 5.2.5:

- DynamoDB: a condition is checked, and the write comes later; a refused transaction restores the
  table as it was when the transaction began, so that what others wrote meanwhile is lost.
- S3: an object is there before its metadata, its checksum and its tags are. A HEAD or GET then
  finds half of them, or ends in "dictionary changed size during iteration", since
  ``S3Response`` copies ``FakeKey.metadata`` while ``FakeKey.set_metadata`` fills it. A listing
  ends in a KeyError where ``_VersionedKeyStore.items`` meets a key that was deleted since; a read
  in "I/O operation on closed file", where the object is replaced; a copy in an AttributeError.
- S3: ``x-amz-copy-source-if-match`` is not looked at, so that an object is copied that has replaced
  the one that was asked for.
- SQS: ``Queue.delete_message`` makes a new list of the messages and loses one that is sent
  meanwhile. ``Queue.pending_message_groups`` goes through a set that others change.

So DynamoDB and S3 do one thing at a time, as ``turn_of`` says. ``mend`` adds the condition to S3's
copies, and replaces the two of SQS, whose receivers wait within their requests.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from moto.s3.exceptions import PreconditionFailed
from moto.s3.responses import S3Response
from moto.sqs.models import Queue

# Of every server in this process, since moto's tables and buckets are the process's. Whoever uses
# moto's S3 without a request, as HealthImaging's emulator does, takes its turn as well.
S3_TURN = threading.RLock()
_TURNS: dict[str, AbstractContextManager[Any]] = {"dynamodb": threading.RLock(), "s3": S3_TURN}
_FREE: AbstractContextManager[Any] = nullcontext()
_Copy = Callable[[S3Response], Any]
_delete_message = Queue.delete_message
_copies: dict[str, _Copy] = {
    name: getattr(S3Response, name) for name in ("copy_object", "upload_part_copy")
}


def is_in_turn(service: str) -> bool:
    """Whether the service does one thing at a time."""
    return service in _TURNS


def turn_of(service: str) -> AbstractContextManager[Any]:
    """To be entered for as long as the service works on a request."""
    return _TURNS.get(service, _FREE)


def mend() -> None:
    """Replace what can be replaced; again is harmless."""
    for name, copy in _copies.items():
        setattr(S3Response, name, _if_it_matches(copy))
    Queue.delete_message = _delete_in_turn  # type: ignore[assignment,method-assign]
    Queue.pending_message_groups = property(_pending_groups)  # type: ignore[assignment,method-assign]


def _if_it_matches(copy: _Copy) -> _Copy:
    """The copy, refused as S3 refuses it where the source is not the object that is asked for."""

    @wraps(copy)
    def answer(response: S3Response) -> Any:
        wanted = response.headers.get("x-amz-copy-source-if-match")
        if wanted and _etag_of_source(response) not in (None, wanted.strip('"')):
            raise PreconditionFailed(failed_condition="x-amz-copy-source-If-Match")
        return copy(response)

    return answer


def _etag_of_source(response: S3Response) -> str | None:
    """None if it is not there, which moto says itself."""
    source = urlsplit(response.headers["x-amz-copy-source"])
    bucket, _, key = unquote(source.path).lstrip("/").partition("/")
    version = parse_qs(source.query).get("versionId", [None])[0]
    found = response.backend.get_object(bucket, key, version_id=version)
    return found.etag.strip('"') if found else None


def _delete_in_turn(queue: Queue, receipt_handle: str) -> None:
    with queue._messages_lock:  # noqa: SLF001 - which moto takes to add a message
        _delete_message(queue, receipt_handle)


def _pending_groups(queue: Queue) -> set[str]:
    pending = queue.pending_messages.copy()
    return {message.group_id for message in pending if message.group_id is not None}
