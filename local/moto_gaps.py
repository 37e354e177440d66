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
- SQS: ``Queue.delete_message`` makes a new list of the messages and loses one that is sent
  meanwhile. ``Queue.pending_message_groups`` goes through a set that others change.

So DynamoDB and S3 do one thing at a time, as ``turn_of`` says, and ``mend`` replaces the two of
SQS, whose receivers wait within their requests.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from moto.sqs.models import Queue

# Of every server in this process, since moto's tables and buckets are the process's. Whoever uses
# moto's S3 without a request, as HealthImaging's emulator does, takes its turn as well.
S3_TURN = threading.RLock()
_TURNS: dict[str, AbstractContextManager[Any]] = {"dynamodb": threading.RLock(), "s3": S3_TURN}
_FREE: AbstractContextManager[Any] = nullcontext()
_delete_message = Queue.delete_message


def is_in_turn(service: str) -> bool:
    """Whether the service does one thing at a time."""
    return service in _TURNS


def turn_of(service: str) -> AbstractContextManager[Any]:
    """To be entered for as long as the service works on a request."""
    return _TURNS.get(service, _FREE)


def mend() -> None:
    """Replace what can be replaced; again is harmless."""
    Queue.delete_message = _delete_in_turn  # type: ignore[assignment,method-assign]
    Queue.pending_message_groups = property(_pending_groups)  # type: ignore[assignment,method-assign]


def _delete_in_turn(queue: Queue, receipt_handle: str) -> None:
    with queue._messages_lock:  # noqa: SLF001 - which moto takes to add a message
        _delete_message(queue, receipt_handle)


def _pending_groups(queue: Queue) -> set[str]:
    pending = queue.pending_messages.copy()
    return {message.group_id for message in pending if message.group_id is not None}
