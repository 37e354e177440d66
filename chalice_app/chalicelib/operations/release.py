"""One instance out of quarantine, into a batch of its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import structlog

from chalicelib.errors import (
    BadParameter,
    NotFound,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
)
from chalicelib.imports.aside import failed_key
from chalicelib.operations.journal import Entry
from chalicelib.operations.quarantine import (
    Aside,
    OperationRefused,
    batch_key,
    identify,
    locate,
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
from chalicelib.stores.files import StoredObject, exists
from contract.batch_states import ENDED
from contract.errors import InvalidKey
from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, Source
from contract.records import BatchState, InstanceRecord, InstanceState

# Rows of one UID that are looked at, and named in an answer.
_MOST_ROWS = 100
_MOST_NAMED = 10
# Whose end can be asked for though no job is known.
_SETTLED = ENDED | {BatchState.STALLED}
_log = structlog.get_logger()


def release_subject(original: InstanceKey, aside: str | None = None, *, force: bool = False) -> str:
    """The journal's name for the release of an instance that was put aside from a batch.

    With ``aside``, it is for the one object of that key: another of the instance may stand
    elsewhere.
    """
    which = hashlib.sha256((aside or str(original)).encode()).hexdigest()[:16]
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

    ``key`` says which object: under ``instances/``, what the ledger has of that batch, wherever it
    stands now; under ``quarantine/``, what stands there, which the ledger need not know (it may
    have been swept as unlisted). By ``force``, it is imported whatever is imported. Raises
    NotFound, BadParameter, OperationRefused and ServiceUnavailable.
    """
    if key is None:
        original = _ledgers(sop_instance_uid, operations, force=force)
    else:
        original = _named(key, sop_instance_uid)
    aside = None if key == str(original) else key
    subject = release_subject(original, aside, force=force)
    made, asked = requests(subject, reason, operations)
    place = aside or failed_key(str(original))
    if made and not exists(place, operations.files):
        return made[-1]
    before = _copied_before(place, original, made, operations)
    if before is not None:
        entry, source = before
    else:
        _settle(original.batch_id, operations, force=force)
        if key is None:
            if _ledgers(sop_instance_uid, operations, force=force) != original:
                raise OperationRefused("the ledger has changed meanwhile: ask again")
        elif aside is None:
            _check(original, operations, force=force)
        source = _find(aside, original, operations)
        entry = _publish(asked, source, original, operations, force=force)
    close(entry, operations)  # an earlier call may have died before it did
    if source.key == place:
        _delete(source, entry, operations)
    return entry


def _delete(source: StoredObject, entry: Entry, operations: Operations) -> None:
    """Delete what was released, and nothing that came to its place since."""
    try:
        operations.files.delete(source.key, source.etag)
    except (ObjectChanged, ObjectDenied) as error:
        _log.warning("released_object_stays", batch_id=entry.batch_id, reason=str(error))


def _copied_before(
    place: str, original: InstanceKey, made: Sequence[Entry], operations: Operations
) -> tuple[Entry, StoredObject] | None:
    """The request before, the newest first, whose copy is the same as what stands there now.

    With what stands there, as it was before it was compared.

    Another object may have come to the same place since: it is not deleted, but released as well.
    So is one whose copies are gone: nobody can say that it is the same.
    """
    files = operations.files
    for entry in reversed(made):
        try:
            standing = files.head(place)
            copy = locate(str(replace(original, batch_id=entry.batch_id)), files)
            if copy is not None and files.digest_of_both(place, copy.key) is not None:
                return entry, standing
        except ObjectMissing:
            continue
        except ObjectDenied as error:
            raise OperationRefused(f"S3 does not let the object be read: {error}") from None
    return None


def _settle(batch_id: str, operations: Operations, *, force: bool) -> None:
    """HealthImaging is asked first: the instance may have been imported after all."""
    batch = operations.stores.batches.get(batch_id)
    if batch is not None and (batch.state in _SETTLED or batch.job_id):
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
    raise _refused(rows, operations)


def _the_one(rows: Sequence[InstanceRecord]) -> InstanceKey:
    """Of one UID there may be objects of several studies, and of other bytes.

    They are named by the keys that they had in their batches, which stay the same wherever the
    objects stand, and are the same requests as those by UID alone.
    """
    first, *others = (batch_key(row.key) for row in rows)
    if others:
        more = ", ".join(map(str, others[: _MOST_NAMED - 1]))
        raise OperationRefused(
            f"{len(rows)} objects of this UID can be released: say which by its key,"
            f' as in --key {first} (in a request\'s body: "key"); the others: {more}'
        )
    return first


def _check(original: InstanceKey, operations: Operations, *, force: bool) -> None:
    """Raises OperationRefused unless the ledger has it of its batch, as what can be released."""
    found = operations.stores.instances.of_instances([original.instance])
    rows = found.get(original.instance, ())
    ours = [row for row in rows if row.batch_id == original.batch_id]
    if not ours:
        raise OperationRefused("the ledger has nothing of this key: look up the instance's UID")
    released = set(InstanceState) - {InstanceState.RECEIVED} if force else {InstanceState.FAILED}
    if not {row.state for row in ours} <= released:
        raise _refused(ours, operations)


def _refused(rows: Sequence[InstanceRecord], operations: Operations) -> OperationRefused:
    """With the batch that an instance waits in, and what gives that batch its end."""
    states = ", ".join(sorted({row.state for row in rows}))
    waiting = sorted({row.batch_id for row in rows if row.state is InstanceState.RECEIVED})
    batch = operations.stores.batches.get(waiting[-1]) if waiting else None
    if batch is None:
        return OperationRefused(f"the instance is {states}")
    then = "retry that batch" if batch.state is BatchState.STALLED else "wait for its end"
    if batch.state in ENDED:
        then = "and nobody imports it: copy its object to dropbox/"
    return OperationRefused(
        f"the instance is {states}: its batch {batch.batch_id} is {batch.state}, {then}"
    )


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
        original = batch_key(key)
    except InvalidKey as error:
        raise BadParameter("key", str(error)) from None
    if original.sop_instance_uid != sop_instance_uid:
        raise BadParameter("key", "the key of another instance")
    return original


def _find(aside: str | None, original: InstanceKey, operations: Operations) -> StoredObject:
    try:
        files = operations.files
        source = files.head(aside) if aside else locate(str(original), files)
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
