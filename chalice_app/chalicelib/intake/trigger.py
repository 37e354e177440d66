"""From the queue: manifests become closed batches that wait for their import, drops batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.errors import (
    InvalidEvent,
    MessagesFailed,
    ObjectChanged,
    ObjectMissing,
    ObjectUnavailable,
    ServiceUnavailable,
)
from chalicelib.imports.aside import failed_key, invalid_manifest_key
from chalicelib.imports.rows import closed_batch, instance_rows
from chalicelib.intake.s3_events import created_keys, parse_event
from chalicelib.logs import describe, manifest_named
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.copies import COPIED_FROM, mark_of
from chalicelib.stores.objects import ObjectStore, read_manifest
from chalicelib.stores.studies import Arrival
from chalicelib.threads import in_threads
from contract.batch_states import BatchEvent
from contract.errors import InvalidKey, InvalidManifest, ProductError
from contract.keys import (
    DROPBOX_PREFIX,
    MANIFESTS_PREFIX,
    InstanceKey,
    parse_manifest_key,
)
from contract.manifest import Manifest
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState

# Of the largest batch, when AWS is slow.
_CLOSING = timedelta(seconds=30)
_log = structlog.get_logger()
_Senders = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Message:
    """One SQS message; the body is as it came. ``message_id`` is what a log line names it by."""

    receipt_handle: str
    body: str
    message_id: str


class Queue(Protocol):
    """Where messages are deleted once they are dealt with."""

    def delete(self, receipt_handles: Iterable[str]) -> None:
        """Delete messages; one that is gone already is no error."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Intake:
    """What messages are turned into something with.

    ``block`` records why a batch cannot be closed; ``take_drops`` makes batches of what lies
    in the dropbox; ``dispatch`` starts imports, of these batches among others. Both end by the
    same ``deadline``. ``clock`` is what the time is asked of.
    """

    bucket: str
    stores: Stores
    default_datastore: str
    now: datetime
    block: Callable[[str, Exception], None]
    take_drops: Callable[[], object]
    dispatch: Callable[[Sequence[BatchRecord]], object]
    deadline: Deadline = UNBOUNDED
    clock: Callable[[], datetime] = _utc_now


def trigger_imports(messages: Iterable[Message], intake: Intake, queue: Queue) -> None:
    """Close a batch for each manifest the messages announce, and start what may start.

    Chalice cannot tell SQS which messages of a batch failed. So those that succeeded are deleted
    here, and MessagesFailed is raised for the rest: they come back alone, and a poisonous one goes
    to the dead-letter queue without its neighbours. So do those that the invocation has no time
    for: each part gets what the ones before it have left of it.
    """
    keys = {message: _keys(message, intake.bucket) for message in messages}
    told = list(dict.fromkeys(key for found in keys.values() for key in found or ()))
    drops = [key for key in told if key.startswith(DROPBOX_PREFIX)]
    senders = _senders(keys)
    manifests = [key for key in told if key.startswith(MANIFESTS_PREFIX)]
    closed, done = _close_all(manifests, intake, senders)
    if drops:
        _take_drops(intake)
    done.update(drops)
    good = [each for each, found in keys.items() if found is not None and done.issuperset(found)]
    if len(good) < len(keys):
        queue.delete(each.receipt_handle for each in good)
    if closed:
        _dispatch(closed, intake)
    if len(good) < len(keys):
        raise MessagesFailed(f"{len(keys) - len(good)} of {len(keys)} messages failed")


def close_batch(
    bucket: str, key: str, stores: Stores, default_datastore: str, now: datetime
) -> BatchRecord | None:
    """Register the batch of a manifest; None where it is gone, not ours, or further already.

    If the manifest names no data store, the batch gets the default here, and keeps it. Safe to
    repeat: its instances are RECEIVED before it is CLOSED, and only then is it imported.
    """
    try:
        manifest = read_manifest(stores.objects, bucket, key)
    except ObjectMissing:
        _log.warning("manifest_gone", **manifest_named(key))
    except (InvalidManifest, InvalidKey, ObjectUnavailable) as error:
        _quarantine(bucket, key, stores.objects, error)
    else:
        return _close(manifest, bucket, key, stores, default_datastore, now)
    return None


def _close(
    manifest: Manifest, bucket: str, key: str, stores: Stores, default: str, now: datetime
) -> BatchRecord | None:
    known = stores.batches.get(manifest.batch_id)
    if known is not None and known.state is not BatchState.OPEN:
        _log.info("batch_closed_before", batch_id=manifest.batch_id, state=known.state)
        return known if known.state is BatchState.CLOSED else None
    batch = closed_batch(manifest, key, known)
    if known is None:
        batch = _as_before(batch, manifest, stores)
    datastore_id = batch.datastore_id or default
    batch = replace(batch, datastore_id=datastore_id)
    rows = instance_rows(manifest, datastore_id, InstanceState.RECEIVED, now)
    if batch.retry_of is not None:
        copied = _copied_keys(rows, batch.retry_of, bucket, stores.objects)
        ledger.inherit(stores.instances, rows, batch.retry_of, copied)
    ledger.register(stores.instances, rows)
    # Before it is CLOSED: no study may be called quiet while a batch of it waits.
    arrival = Arrival(batch.batch_id, batch.calling_ae_title, batch.opened_at)
    in_threads(lambda uid: stores.studies.join(uid, arrival), manifest.studies)
    in_threads(lambda uid: stores.studies.link_sender(uid, arrival), manifest.studies)
    stores.batches.move(batch, BatchEvent.CLOSED)
    _log.info("batch_closed", batch_id=manifest.batch_id, instances=len(rows))
    return batch


def _copied_keys(
    rows: Sequence[InstanceRecord], old_batch_id: str, bucket: str, objects: ObjectStore
) -> frozenset[str]:
    """The places where the old batch's objects that these are copies of may have stood.

    Raises ObjectDenied: a row that nobody inherits would name an object that is then deleted.
    """

    def copied(row: InstanceRecord) -> tuple[str, ...]:
        try:
            mark = objects.metadata_of(bucket, row.key).get(COPIED_FROM)
        except ObjectMissing:
            return ()
        old = str(replace(InstanceKey.parse(row.key), batch_id=old_batch_id))
        # Its row may name the one while it stands at the other.
        places = old, failed_key(old)
        return places if mark in [mark_of(each) for each in places] else ()

    return frozenset(key for keys in in_threads(copied, list(rows)) for key in keys)


def _as_before(batch: BatchRecord, manifest: Manifest, stores: Stores) -> BatchRecord:
    """With the job and the data store that the rows name of a batch without a record.

    Somebody has deleted the record, or the batch was not closed to the end. Without its job, it
    would be imported again.
    """
    wanted = [each.row_key for each in manifest.instances]
    rows = ledger.own_rows(stores.instances, manifest.batch_id, wanted).values()
    jobs = {row.job_id for row in rows if row.job_id}
    named = {row.datastore_id for row in rows}
    return replace(
        batch,
        # A batch that never got a job has its own id there.
        job_id=max(jobs - {manifest.batch_id}, default=None),
        datastore_id=batch.datastore_id or min(named, default=None),
    )


def _keys(message: Message, bucket: str) -> list[str] | None:
    try:
        return created_keys(parse_event(message.body), bucket)
    except InvalidEvent as error:
        # By the id that the command ``dead-letters`` knows it by, too; the words are ours.
        _log.warning(
            "message_failed", message_ids=[message.message_id], why=str(error), **describe(error)
        )
        return None


def _senders(keys: Mapping[Message, list[str] | None]) -> _Senders:
    """The ids of the messages that name a key."""
    found: dict[str, list[str]] = {}
    for message, named in keys.items():
        for key in named or ():
            found.setdefault(key, []).append(message.message_id)
    return found


def _close_all(
    keys: Iterable[str], intake: Intake, senders: _Senders
) -> tuple[list[BatchRecord], set[str]]:
    """The batches that wait now, and the keys that are dealt with."""
    closed: dict[str, BatchRecord] = {}
    done = set()
    until = intake.deadline.less(_CLOSING)
    for key in keys:
        if until.is_over(intake.clock()):
            _log.warning("message_put_off", message_ids=senders[key])
            continue
        try:
            batch = close_batch(
                intake.bucket, key, intake.stores, intake.default_datastore, intake.now
            )
        except Exception as error:  # noqa: BLE001 - its neighbours must not suffer for it
            _log.warning("message_failed", message_ids=senders[key], **describe(error))
            _block(key, error, intake)
            continue
        closed |= {batch.batch_id: batch} if batch else {}
        done.add(key)
    return list(closed.values()), done


def _block(key: str, error: Exception, intake: Intake) -> None:
    """Record why a batch cannot be closed, if time alone does not mend it; recovery tries again."""
    if isinstance(error, ServiceUnavailable):
        return
    with suppress(InvalidKey, ServiceUnavailable):  # the log has it
        intake.block(parse_manifest_key(key), error)


def _take_drops(intake: Intake) -> None:
    """An event only says that there is something: the schedule collects what this does not."""
    try:
        intake.take_drops()
    except Exception as error:  # noqa: BLE001 - the manifests beside them must not suffer for it
        _log.warning("dropbox_not_collected", **describe(error))


def _dispatch(closed: Sequence[BatchRecord], intake: Intake) -> None:
    """The batches are closed, and the schedule dispatches what this does not."""
    try:
        intake.dispatch(closed)
    except Exception as error:  # noqa: BLE001 - the messages are dealt with
        _log.warning("imports_not_dispatched", **describe(error))


def _quarantine(bucket: str, key: str, objects: ObjectStore, reason: ProductError) -> None:
    target = invalid_manifest_key(key)
    # A second event for it, at the same time; or another object, which has its own event.
    with suppress(ObjectMissing, ObjectChanged):
        objects.move(bucket, key, target, {"reason": str(reason)})
    _log.warning("manifest_quarantined", **manifest_named(key), reason=str(reason))
