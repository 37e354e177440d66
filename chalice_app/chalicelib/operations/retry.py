"""A batch's failed instances, once more: copied into a new batch, which takes the usual road."""

from dataclasses import replace

import structlog

from chalicelib.errors import NotFound, ObjectDenied, ObjectUnavailable
from chalicelib.imports.aside import failed_key
from chalicelib.imports.completion import manifest_of
from chalicelib.imports.execution import Execution
from chalicelib.operations.journal import Entry
from chalicelib.operations.quarantine import OperationRefused, batch_key, locate
from chalicelib.operations.repeat import (
    Copy,
    Operations,
    Repeat,
    is_published,
    new_entry,
    publish,
    settled,
)
from chalicelib.threads import in_threads
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import InstanceKey, manifest_key
from contract.manifest import Manifest, ManifestInstance
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState

_log = structlog.get_logger()
_RETRIABLE = (BatchState.PARTIAL, BatchState.FAILED)


def retry_subject(batch_id: str, *, force: bool = False) -> str:
    """The journal's name for the retry of a batch."""
    return f"retry-forced:{batch_id}" if force else f"retry:{batch_id}"


def retry_batch(
    batch_id: str, reason: str, operations: Operations, *, force: bool = False
) -> Entry:
    """Make a new batch of a batch's failed instances; the same one however often it is asked.

    By ``force``, of all its instances whose objects are there, to be imported whatever is imported.

    HealthImaging is asked about the batch's job first: what it has imported after all is recorded,
    and not retried. An instance that was sent again since, in a newer batch, is left to that.
    Raises NotFound, and OperationRefused where there is nothing to retry.
    """
    batch = operations.stores.batches.get(batch_id)
    if batch is None:
        raise NotFound("there is no batch of this id")
    subject = retry_subject(batch_id, force=force)
    entry = operations.journal.get(subject)
    if entry is None or not is_published(entry.batch_id, operations.files):
        batch = settled(batch, operations, force=force)
        manifest, copies = _repeatable(batch, operations, force=force)
        entry = operations.journal.begin(entry or new_entry(subject, reason, operations.now))
        publish(Repeat(entry, batch_id, manifest, copies, force), operations)
    operations.files.delete(_copied(entry.batch_id, batch_id, operations))
    operations.stores.batches.link_retry(batch_id, entry.batch_id)
    return entry


def _copied(batch_id: str, old_batch_id: str, operations: Operations) -> list[str]:
    """Where the new batch's instances stood in quarantine."""
    keys = (InstanceKey.parse(each.key) for each in _manifest(batch_id, operations).instances)
    return [failed_key(str(replace(key, batch_id=old_batch_id))) for key in keys]


def _repeatable(
    batch: BatchRecord, operations: Operations, *, force: bool
) -> tuple[Manifest, list[Copy]]:
    allowed = (*_RETRIABLE, BatchState.IMPORTED) if force else _RETRIABLE
    if batch.state not in allowed:
        either = " and ".join(allowed)
        raise OperationRefused(f"the batch is {batch.state}; only {either} can be retried")
    manifest = _manifest(batch.batch_id, operations)
    rows = operations.stores.instances.get_many(
        each.sop_instance_uid for each in manifest.instances
    )

    def copy_of(instance: ManifestInstance) -> Copy | None:
        row = rows.get(instance.sop_instance_uid)
        if not (_waits_nowhere(row) if force else _has_failed(row, instance)):
            return None
        try:
            source = locate(instance.key, operations.files)
        except ObjectDenied as error:  # its neighbours go on; `release` is for it, later
            _log.warning("instance_not_retried", why=str(error))
            return None
        return None if source is None else Copy(source, instance)

    copies = [each for each in in_threads(copy_of, list(manifest.instances)) if each]
    if not copies:
        raise OperationRefused("no failed instance of the batch is there to be retried")
    return manifest, copies


def _manifest(batch_id: str, operations: Operations) -> Manifest:
    try:
        execution = Execution(batch_id, operations.files.bucket, manifest_key(batch_id))
        return manifest_of(execution, operations.imports)
    except (InvalidKey, InvalidManifest, ObjectUnavailable, ObjectDenied) as error:
        raise OperationRefused(f"the batch's manifest cannot be read: {error}") from None


def _has_failed(row: InstanceRecord | None, instance: ManifestInstance) -> bool:
    """And was not sent again since, in a newer batch."""
    if row is None or row.state is not InstanceState.FAILED:
        return False
    return str(batch_key(row.key)) == instance.key


def _waits_nowhere(row: InstanceRecord | None) -> bool:
    """No batch is about to import the instance anyway."""
    return row is None or row.state is not InstanceState.RECEIVED
