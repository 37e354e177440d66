"""One instance out of quarantine, into a batch of its own."""

import hashlib
from dataclasses import replace

from chalicelib.errors import BadParameter, NotFound, ObjectDenied, ObjectMissing
from chalicelib.imports.aside import failed_key
from chalicelib.operations.journal import Entry
from chalicelib.operations.quarantine import (
    Aside,
    OperationRefused,
    batch_key,
    identify,
    locate,
    original_key,
)
from chalicelib.operations.repeat import (
    Copy,
    Operations,
    Repeat,
    publish,
    requests,
    settled,
)
from chalicelib.stores.files import StoredObject
from contract.batch_states import ENDED
from contract.errors import InvalidKey
from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, Source
from contract.records import InstanceState

_RELEASABLE = (InstanceState.FAILED, InstanceState.QUARANTINED)


def release_subject(
    sop_instance_uid: str, batch_id: str, key: str | None = None, *, force: bool = False
) -> str:
    """The journal's name for the release of an instance that was put aside from a batch.

    With ``key``, it is for that one object: the batch may have others of this UID.
    """
    which = "" if key is None else f":{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return f"release{'-forced' if force else ''}:{sop_instance_uid}:{batch_id}{which}"


def release_instance(
    sop_instance_uid: str,
    reason: str,
    key: str | None,
    operations: Operations,
    *,
    force: bool = False,
) -> Entry:
    """Import an instance that was put aside; the same batch however often it is asked.

    ``key`` says which object, where it is not the ledger's: one that was swept as unlisted, say. By
    ``force``, it is imported whatever is imported. Raises NotFound, BadParameter and
    OperationRefused.
    """
    if key is None:
        original = _ledgers(sop_instance_uid, operations, force=force)
    else:
        original = _named(key, sop_instance_uid)
    subject = release_subject(sop_instance_uid, original.batch_id, key, force=force)
    made, asked = requests(subject, reason, operations)
    if not made:
        _settle(original.batch_id, operations, force=force)
        original = original if key else _ledgers(sop_instance_uid, operations, force=force)
        source = _find(key, original, operations)
        made = [_publish(asked, source, original, operations, force=force)]
    operations.files.delete([key or failed_key(str(original))])
    return made[-1]


def _settle(batch_id: str, operations: Operations, *, force: bool) -> None:
    """HealthImaging is asked first: the instance may have been imported after all."""
    batch = operations.stores.batches.get(batch_id)
    if batch is not None and (batch.state in ENDED or batch.job_id):
        settled(batch, operations, force=force)


def _publish(
    asked: Entry,
    source: StoredObject,
    original: InstanceKey,
    operations: Operations,
    *,
    force: bool,
) -> Entry:
    found = identify(source, str(original))
    entry = operations.journal.begin(asked)
    manifest = _manifest(original.batch_id, found, operations)
    copies = [Copy(source, found.instance)]
    publish(Repeat(entry, original.batch_id, manifest, copies, force), operations)
    return entry


def _ledgers(sop_instance_uid: str, operations: Operations, *, force: bool) -> InstanceKey:
    """The key that the instance had in the batch it was put aside from."""
    row = operations.stores.instances.get_many([sop_instance_uid]).get(sop_instance_uid)
    if row is None:
        raise NotFound("no instance of this UID has reached the import pipeline")
    key = batch_key(row.key)
    # What was deleted after a release is not what that release was asked for.
    if row.state in _RELEASABLE or (force and row.state is InstanceState.DELETED):
        return key
    batch = operations.stores.batches.get(row.batch_id)
    if batch and batch.retry_of:  # the row may be what an earlier call with this very request made
        subject = release_subject(sop_instance_uid, batch.retry_of, force=force)
        if operations.journal.get(subject):
            return replace(key, batch_id=batch.retry_of)
    if force and row.state is not InstanceState.RECEIVED:
        return key
    raise OperationRefused(f"the instance is {row.state}")


def _named(key: str, sop_instance_uid: str) -> InstanceKey:
    try:
        original = original_key(key)
    except InvalidKey as error:
        raise BadParameter("key", str(error)) from None
    if original.sop_instance_uid != sop_instance_uid:
        raise BadParameter("key", "the key of another instance")
    return original


def _find(key: str | None, original: InstanceKey, operations: Operations) -> StoredObject:
    try:
        files = operations.files
        source = files.head(key) if key else locate(str(original), files)
    except ObjectMissing:
        source = None
    except ObjectDenied as error:
        raise OperationRefused(f"S3 does not let the object be read: {error}") from None
    if source is None:
        raise OperationRefused("the object is not in the bucket")
    return source


def _manifest(batch_id: str, found: Aside, operations: Operations) -> Manifest:
    """As the instance's own batch had it; publishing gives it its id and its instance."""
    sender, target = found.sender, found.target
    return Manifest(
        batch_id=batch_id,
        closed_at=operations.now,
        close_reason=CloseReason.RECOVERED,
        source=Source(
            sender.calling_ae_title,
            sender.called_ae_title,
            (sender.peer_address,),
            (sender.association_id,),
        ),
        datastore_id=target.datastore_id,
        instances=(found.instance,),
        urgent=target.urgent,
    )
