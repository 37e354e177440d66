"""A batch's failed instances, once more: copied into a new batch, which takes the usual road."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from chalicelib.errors import NotFound, ObjectChanged, ObjectDenied, ObjectUnavailable
from chalicelib.imports.aside import aside_of, failed_key
from chalicelib.imports.completion import manifest_of
from chalicelib.imports.execution import Execution
from chalicelib.operations.journal import Entry, Journal, entries
from chalicelib.operations.quarantine import OperationRefused, locate
from chalicelib.operations.repeat import (
    Copy,
    NothingToRepeat,
    Operations,
    Repeat,
    close,
    publish,
    requests,
    settled,
)
from chalicelib.stores.copies import delete_original
from chalicelib.stores.files import Files
from chalicelib.stores.instances import Rows, all_of, own, shared_and_own
from chalicelib.threads import in_threads
from contract.batch_states import ENDED
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import InstanceKey, RowKey, key_digest, manifest_key
from contract.manifest import Manifest, ManifestInstance
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState

_log = structlog.get_logger()
_RETRIABLE = (BatchState.PARTIAL, BatchState.FAILED)
_HINTS = {
    BatchState.OPEN: ": it is closed by its receiver, or by recover_batches once its lease is over",
    BatchState.CLOSED: ": dispatch_imports starts its import when it is its turn",
    BatchState.IMPORTING: (
        ": its execution imports it. If that has died, the batch is STALLED within minutes, while"
        " dispatch_imports runs, and can be retried"
    ),
}


@dataclass(frozen=True, slots=True)
class _Before:
    """The retries that were made: their batches, and the instances that their manifests list."""

    batch_ids: frozenset[str]
    instances: frozenset[str]


class _ManifestGone(OperationRefused):
    """Nothing tells any more what the batch had."""


def retry_subject(batch_id: str, *, force: bool = False) -> str:
    """The journal's name for a batch's retry."""
    return f"{'retry-forced' if force else 'retry'}:{batch_id}"


def last_request(batch: BatchRecord, journal: Journal) -> Entry | None:
    """What was asked for when ``batch.retried_as`` was made."""
    if batch.retried_as is None:
        return None
    subjects = [retry_subject(batch.batch_id, force=force) for force in (False, True)]
    asked = (entry for subject in subjects for entry in entries(subject, journal))
    return next((each for each in asked if each.batch_id == batch.retried_as), None)


def retry_batch(
    batch_id: str, reason: str, operations: Operations, *, force: bool = False
) -> Entry:
    """Make a new batch of a batch's failed instances; asked again, the same one is the answer.

    Only what could not be read then, and can now, makes a further one. By ``force``, of all its
    instances whose objects are there, to be imported whatever is imported. HealthImaging is asked
    about the batch's job first: what it has imported after all is recorded, and not retried. An
    instance that was sent again since, in a newer batch, is left to that.

    Raises NotFound; NothingToRepeat if there is nothing to retry and never was; OperationRefused
    while the batch's job runs, or if what is needed cannot be read.
    """
    batch = operations.stores.batches.get(batch_id)
    if batch is None:
        raise NotFound("there is no batch of this id")
    made, asked = requests(retry_subject(batch_id, force=force), reason, operations)
    before = _Before(
        frozenset(each.batch_id for each in made),
        frozenset().union(*(_finish(each, batch_id, operations) for each in made)),
    )
    try:
        batch = settled(batch, operations, force=force)
        manifest, copies = _repeatable(batch, before, operations, force=force)
        entry = operations.journal.begin(asked)
        publish(Repeat(entry, batch_id, manifest, copies, force), operations)
    except (NothingToRepeat, _ManifestGone):
        if not made:
            raise
        return made[-1]
    _finish(entry, batch_id, operations)
    return entry


def _finish(entry: Entry, batch_id: str, operations: Operations) -> frozenset[str]:
    """Behind the new batch's manifest: its instances leave quarantine. Returns their names.

    The batch is closed before that, so that nobody finds a row whose object is gone. None, if the
    new batch has ended and its manifest and objects are gone: then the rows tell.
    """
    batches = operations.stores.batches
    batches.link_retry(batch_id, entry.batch_id)
    try:
        manifest = _manifest(entry.batch_id, operations)
    except _ManifestGone:
        batch = batches.get(entry.batch_id)
        if batch is None or batch.state not in ENDED:
            raise
        return frozenset()
    close(entry, operations)
    aside = set(aside_of(operations.files, batch_id))  # mostly nothing, when it is asked again
    places = {each.key: _place(each.key, batch_id) for each in manifest.instances}
    left = [(key, place) for key, place in places.items() if place in aside]
    in_threads(lambda each: _delete_original(*each, operations.files), left)
    return frozenset(each.instance for each in manifest.instances)


def _place(copied: str, batch_id: str) -> str:
    """Where the original of a copy was put aside."""
    return failed_key(str(replace(InstanceKey.parse(copied), batch_id=batch_id)))


def _delete_original(copied: str, place: str, files: Files) -> None:
    """Delete what was put aside and is copied, and nothing that came to its place since.

    Where the copy is gone, nobody can say that they are the same.
    """
    try:
        copy = locate(copied, files)
        if copy is not None:
            delete_original(place, copy, files)
    except (ObjectChanged, ObjectDenied) as error:
        _log.warning("retried_object_stays", key_digest=key_digest(place), reason=str(error))


def _repeatable(
    batch: BatchRecord, before: _Before, operations: Operations, *, force: bool
) -> tuple[Manifest, list[Copy]]:
    allowed = (*_RETRIABLE, BatchState.IMPORTED) if force else _RETRIABLE
    if batch.state not in allowed:
        *others, last = allowed
        either = f"{', '.join(others)} or {last}"
        hint = _HINTS.get(batch.state, "")
        raise NothingToRepeat(f"the batch is {batch.state}; only {either} can be retried{hint}")
    manifest = _manifest(batch.batch_id, operations)
    wanted = [each for each in manifest.instances if each.instance not in before.instances]
    keys = [each.row_key for each in wanted]
    known = _known(batch.batch_id, keys, before, operations)
    ours = own(batch.batch_id, known)
    again = {row.instance for row in known.values() if row.batch_id in before.batch_ids}

    def copy_of(instance: ManifestInstance) -> Copy | None:
        row = ours.get(instance.instance) or known.get(instance.row_key)
        if instance.instance in again:
            return None
        if not (_waits_nowhere(row) if force else _has_failed(row, batch)):
            return None
        try:
            source = locate(instance.key, operations.files)
        except ObjectDenied as error:  # its neighbours go on; it can be retried later
            _log.warning("instance_not_retried", why=str(error))
            return None
        return None if source is None else Copy(source, instance)

    copies = [each for each in in_threads(copy_of, wanted) if each]
    if not copies:
        raise NothingToRepeat("no failed instance of the batch is there to be retried")
    return manifest, copies


def _known(batch_id: str, keys: Sequence[RowKey], before: _Before, operations: Operations) -> Rows:
    """The batch's rows, and the first ones that theirs stand beside.

    With those of the retries before, which may stand anywhere: every row of the instances then.
    """
    ledger = operations.stores.instances
    return all_of(ledger, keys) if before.batch_ids else shared_and_own(ledger, batch_id, keys)


def _manifest(batch_id: str, operations: Operations) -> Manifest:
    try:
        execution = Execution(batch_id, operations.files.bucket, manifest_key(batch_id))
        return manifest_of(execution, operations.imports)
    except ObjectDenied as error:
        raise OperationRefused(f"batch {batch_id}'s manifest cannot be read: {error}") from None
    except (InvalidKey, InvalidManifest, ObjectUnavailable) as error:
        raise _ManifestGone(f"batch {batch_id}'s manifest cannot be read: {error}") from None


def _has_failed(row: InstanceRecord | None, batch: BatchRecord) -> bool:
    """And was not sent again since, in a newer batch."""
    if row is None or row.batch_id != batch.batch_id:
        return False
    return row.state is InstanceState.FAILED


def _waits_nowhere(row: InstanceRecord | None) -> bool:
    """No batch is about to import the instance anyway."""
    return row is None or row.state is not InstanceState.RECEIVED
