"""One instance out of quarantine, into a batch of its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

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
    close,
    publish,
    requests,
    settled,
)
from chalicelib.stores.files import StoredObject
from contract.batch_states import ENDED
from contract.errors import InvalidKey
from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, Source
from contract.records import InstanceRecord, InstanceState

# Rows of one UID that are looked at, and named in an answer.
_MOST_ROWS = 100
_MOST_NAMED = 10


def release_subject(original: InstanceKey, key: str | None = None, *, force: bool = False) -> str:
    """The journal's name for the release of an instance that was put aside from a batch.

    With ``key``, it is for that one object: another of the instance may stand elsewhere.
    """
    which = hashlib.sha256((key or str(original)).encode()).hexdigest()[:16]
    road = "release-forced" if force else "release"
    return f"{road}:{original.sop_instance_uid}:{original.batch_id}:{which}"


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
    subject = release_subject(original, key, force=force)
    made, asked = requests(subject, reason, operations)
    place = key or failed_key(str(original))
    if made and _is_released(place, original, made, operations):
        operations.files.delete([place])
        return made[-1]
    _settle(original.batch_id, operations, force=force)
    original = original if key else _ledgers(sop_instance_uid, operations, force=force)
    source = _find(key, original, operations)
    entry = _publish(asked, source, original, operations, force=force)
    close(entry, operations)
    operations.files.delete([place])
    return entry


def _is_released(
    place: str, original: InstanceKey, made: Sequence[Entry], operations: Operations
) -> bool:
    """Whether what stands there now, if anything does, is what a request before has copied.

    Another object may have come to the same place since: it is not deleted, but released as well.
    """
    files = operations.files
    try:
        files.head(place)
        for entry in made:
            copy = locate(str(replace(original, batch_id=entry.batch_id)), files)
            if copy is not None and files.same(place, copy.key):
                return True
    except ObjectMissing:
        return True
    except ObjectDenied as error:
        raise OperationRefused(f"S3 does not let the object be read: {error}") from None
    return False


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
    rows = list(islice(operations.stores.instances.by_sop_instance(sop_instance_uid), _MOST_ROWS))
    if not rows:
        raise NotFound("no instance of this UID has reached the import pipeline")
    # What was deleted after a release is not what that release was asked for.
    aside = (InstanceState.FAILED, InstanceState.DELETED) if force else (InstanceState.FAILED,)
    if found := [row for row in rows if row.state in aside]:
        return _the_one(found)
    released = [key for row in rows if (key := _released_before(row, operations, force=force))]
    if released:
        return released[0]
    if force and (found := [row for row in rows if row.state is not InstanceState.RECEIVED]):
        return _the_one(found)
    raise OperationRefused(f"the instance is {', '.join(sorted({row.state for row in rows}))}")


def _the_one(rows: Sequence[InstanceRecord]) -> InstanceKey:
    """Of one UID there may be objects of several studies, and of other bytes."""
    if len(rows) > 1:
        keys = ", ".join(row.key for row in rows[:_MOST_NAMED])
        raise OperationRefused(
            f"{len(rows)} objects of this UID can be released: say which by its key ({keys})"
        )
    return batch_key(rows[0].key)


def _released_before(
    row: InstanceRecord, operations: Operations, *, force: bool
) -> InstanceKey | None:
    """The key that the instance had before an earlier call with this very request."""
    batch = operations.stores.batches.get(row.batch_id)
    if batch is None or batch.retry_of is None:
        return None
    original = replace(batch_key(row.key), batch_id=batch.retry_of)
    is_known = operations.journal.get(release_subject(original, force=force)) is not None
    return original if is_known else None


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
