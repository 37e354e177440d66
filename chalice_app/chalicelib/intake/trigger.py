"""TriggerImport's first half: queue messages to manifests to executions of the state machine."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_plus

import structlog

from chalicelib.errors import InvalidEvent, MessagesFailed, ObjectMissing, ObjectUnavailable
from chalicelib.imports.execution import Execution
from chalicelib.logs import describe
from chalicelib.stores.objects import ObjectStore, read_manifest
from contract.errors import InvalidKey, InvalidManifest, ProductError
from contract.keys import MANIFESTS_PREFIX, quarantine_key

_QUARANTINE = "invalid-manifest"
_CREATED = ("ObjectCreated:", "s3:ObjectCreated:")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    """One SQS message; the body is as it came."""

    receipt_handle: str
    body: str


class Queue(Protocol):
    """Where messages are deleted once they are dealt with."""

    def delete(self, receipt_handles: Iterable[str]) -> None:
        """Delete messages; one that is gone already is no error."""
        ...


class Workflow(Protocol):
    """The state machine."""

    def start(self, execution: Execution) -> bool:
        """Start an execution named for its batch; False if it exists. Raises ServiceUnavailable."""
        ...


def created_keys(body: str, bucket: str) -> list[str]:
    """The keys of the objects that an S3 event says were created in ``bucket``, decoded.

    Only those where manifests stand: whatever the queue was wired to, instances are not ours to
    move, and quarantine must not send itself events. Keys come quote_plus'ed; the message may hold
    several records, or none (``s3:TestEvent``).
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    Raises InvalidEvent for a text that is no S3 event.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidEvent("the message is not JSON") from None
    if not isinstance(event, dict):
        raise InvalidEvent("the message is not a JSON object")
    if event.get("Event") == "s3:TestEvent":
        return []
    records = event.get("Records")
    if not isinstance(records, list):
        raise InvalidEvent("the message has no Records")
    keys = (_created_key(record, bucket) for record in records)
    return list(dict.fromkeys(key for key in keys if key is not None))


def trigger_imports(
    messages: Iterable[Message],
    bucket: str,
    objects: ObjectStore,
    workflow: Workflow,
    queue: Queue,
) -> None:
    """Start an execution for each manifest the messages announce; each at most once.

    Chalice cannot tell SQS which messages of a batch failed. So those that succeeded are deleted
    here, and MessagesFailed is raised for the rest: they come back alone, and a poisonous one goes
    to the dead-letter queue without its neighbours.
    """
    done, failed = [], 0
    for message in messages:
        try:
            for key in created_keys(message.body, bucket):
                trigger_import(bucket, key, objects, workflow)
        except Exception as error:  # noqa: BLE001 - its neighbours must not suffer for it
            failed += 1
            _log.warning("message_failed", **describe(error))
        else:
            done.append(message.receipt_handle)
    if failed:
        queue.delete(done)
        raise MessagesFailed(f"{failed} of {failed + len(done)} messages failed")


def trigger_import(bucket: str, key: str, objects: ObjectStore, workflow: Workflow) -> None:
    """Start the import of one manifest; one that is gone or not ours is dealt with for good."""
    try:
        manifest = read_manifest(objects, bucket, key)
    except ObjectMissing:
        _log.warning("manifest_gone", key=_safe(key))
    except (InvalidManifest, InvalidKey, ObjectUnavailable) as error:
        _quarantine(bucket, key, objects, error)
    else:
        is_new = workflow.start(Execution(manifest.batch_id, bucket, key))
        event = "import_triggered" if is_new else "import_triggered_before"
        _log.info(event, batch_id=manifest.batch_id, instances=len(manifest.instances))


def _quarantine(bucket: str, key: str, objects: ObjectStore, reason: ProductError) -> None:
    target = quarantine_key(_QUARANTINE, key.removeprefix(MANIFESTS_PREFIX))
    with suppress(ObjectMissing):  # a second event for it, at the same time
        objects.move(bucket, key, target, {"reason": str(reason)})
    _log.warning("manifest_quarantined", key=target, reason=str(reason))


def _created_key(record: object, bucket: str) -> str | None:
    """The record's key; None for another event or bucket."""
    try:
        name, place = _event_name(record), record["s3"]  # type: ignore[index]
        key, where = place["object"]["key"], place["bucket"]["name"]
        if not (isinstance(key, str) and isinstance(where, str)):
            raise TypeError("not texts")
    except (KeyError, TypeError):
        raise InvalidEvent("a record is not S3's") from None
    key = unquote_plus(key)
    ours = where == bucket and key.startswith(MANIFESTS_PREFIX)
    return key if ours and name.startswith(_CREATED) else None


def _event_name(record: object) -> str:
    if not isinstance(record, Mapping) or not isinstance(record.get("eventName"), str):
        raise TypeError("not an event")
    return str(record["eventName"])


def _safe(key: str) -> str:
    """A key for a log line: whoever may write to the bucket may have chosen it."""
    return quarantine_key(_QUARANTINE, key)
