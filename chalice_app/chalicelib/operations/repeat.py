"""Instances of an old batch as a new one: copied, opened, committed, each step safe to repeat.

Nothing is opened before everything is copied: recovery, should it have to close the batch, finds it
whole. The manifest's PUT commits; only behind that may the caller delete what was copied.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from chalicelib.errors import (
    ImportRefused,
    ImportRunning,
    ImportThrottled,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    ObjectUnavailable,
    ResultsNotReady,
    ResultsNotUnderstood,
    ServiceUnavailable,
)
from chalicelib.imports.context import ImportContext
from chalicelib.imports.late import ask_again, end_unanswered
from chalicelib.imports.rows import open_batch
from chalicelib.intake.trigger import close_batch
from chalicelib.operations.journal import Entry, Journal, entries, following, numbered
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.stores import Stores
from chalicelib.stores.copies import origin
from chalicelib.stores.files import Files, StoredObject, has_manifest
from chalicelib.threads import in_threads
from contract.batch_states import UNDER_WAY, BatchEvent
from contract.errors import InvalidManifest
from contract.keys import (
    BATCH_ENTROPY_BYTES,
    InstanceKey,
    batch_prefix,
    manifest_key,
    new_batch_id,
)
from contract.manifest import Manifest, ManifestInstance
from contract.records import BatchRecord, BatchState

# This and the longest request are less than an hour, the smallest RECONCILE_AFTER_HOURS.
_GOES_ON = timedelta(minutes=30)
_OWNER = "operator"
_UNANSWERED = (
    ImportRefused,
    ObjectDenied,
    ObjectUnavailable,
    ResultsNotReady,
    ResultsNotUnderstood,
)
_MADE_MEANWHILE = "somebody else has made the batch meanwhile"
_log = structlog.get_logger()


class NothingToRepeat(OperationRefused):
    """No instance that is asked for is there, and may be read."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What operations work with: what imports do, as they ask HealthImaging, and the journal."""

    imports: ImportContext
    journal: Journal

    @property
    def stores(self) -> Stores:
        """The records."""
        return self.imports.stores

    @property
    def files(self) -> Files:
        """The DICOM bucket."""
        return self.imports.files

    @property
    def now(self) -> datetime:
        """When the request came."""
        return self.imports.now


@dataclass(frozen=True, slots=True)
class Copy:
    """An object, and the entry of the old batch's manifest that it is."""

    source: StoredObject
    instance: ManifestInstance


@dataclass(frozen=True, slots=True)
class Repeat:
    """A batch to be made: ``manifest`` is the old batch's, ``copies`` are what it lists.

    A ``forced`` one is imported whatever others have imported.
    """

    entry: Entry
    old_batch_id: str
    manifest: Manifest
    copies: Sequence[Copy]
    forced: bool = False


def new_entry(subject: str, reason: str, now: datetime) -> Entry:
    """An entry whose batch is as old as the request, and as unique as its subject."""
    digest = hashlib.sha256(subject.encode()).digest()
    return Entry(subject, new_batch_id(now, digest[:BATCH_ENTROPY_BYTES]), reason, now)


def settled(batch: BatchRecord, operations: Operations, *, force: bool = False) -> BatchRecord:
    """The batch, once HealthImaging was asked what became of its job.

    One that has not ended gets its end, by what HealthImaging says of it; by ``force``, as failed,
    if it says nothing. Raises OperationRefused where that job runs or, unless by ``force``, cannot
    be asked for: what it has imported, or will, must not be imported again. Raises
    ServiceUnavailable.
    """
    try:
        return ask_again(batch, operations.imports)
    except ImportRunning as error:
        raise OperationRefused(f"{error}: wait for its end") from None
    except ImportThrottled as error:
        raise ServiceUnavailable(str(error)) from error
    except (*_UNANSWERED, InvalidManifest) as error:
        if force:
            has_ended = batch.state not in UNDER_WAY
            return batch if has_ended else end_unanswered(batch, operations.imports)
        raise OperationRefused(
            f"nobody can say what the batch's import job has imported ({type(error).__name__}):"
            ' see "An import is unsettled" in docs/runbook.md'
        ) from error


def requests(subject: str, reason: str, operations: Operations) -> tuple[list[Entry], Entry]:
    """The requests whose batches were made, the oldest first; and the one to be made next.

    One whose batch recovery found empty has made nothing. One that has not opened its batch yet is
    gone on with; but an old one is not, whose copies reconciliation may be deleting.
    """
    made: list[Entry] = []
    known = list(entries(subject, operations.journal))
    for entry in known:
        batch = operations.stores.batches.get(entry.batch_id)
        if _is_published(entry.batch_id, batch, operations.files):
            if batch is None or batch.state is not BatchState.QUARANTINED:
                made.append(entry)
        elif batch is not None or not _is_given_up(entry, operations):
            return made, entry
    return made, new_entry(numbered(subject, len(known) + 1), reason, operations.now)


def _is_given_up(entry: Entry, operations: Operations) -> bool:
    """Whether the request's copies are so old that reconciliation may be deleting them."""
    is_old = operations.now - entry.requested_at >= _GOES_ON
    return is_old and any(operations.files.list(batch_prefix(entry.batch_id)))


def _is_published(batch_id: str, batch: BatchRecord | None, files: Files) -> bool:
    """Whether the batch has its manifest, or had one: S3 deletes it after its retention."""
    is_closed = batch is not None and batch.state is not BatchState.OPEN
    return is_closed or has_manifest(batch_id, files)


def publish(repeat: Repeat, operations: Operations) -> None:
    """Copy, open, commit; an object that may not be read is left where it is.

    The new batch goes to the old one's data store, whatever the default is by now. Raises
    NothingToRepeat if no object may be read, and ServiceUnavailable; the same call may then go on.
    """
    files, batch_id = operations.files, repeat.entry.batch_id
    if _is_published(batch_id, operations.stores.batches.get(batch_id), files):
        raise ServiceUnavailable(_MADE_MEANWHILE)
    copied = in_threads(lambda copy: _copy(copy, batch_id, files), list(repeat.copies))
    instances = tuple(each for each in copied if each is not None)
    if not instances:
        raise NothingToRepeat("S3 lets no object of it be copied: restore it, or give access")
    old = operations.stores.batches.get(repeat.old_batch_id)
    manifest = replace(
        repeat.manifest,
        batch_id=batch_id,
        datastore_id=(old and old.datastore_id) or repeat.manifest.datastore_id,
        closed_at=operations.now,
        instances=instances,
    )
    if operations.journal.get(following(repeat.entry.subject)):
        raise ServiceUnavailable(_MADE_MEANWHILE)  # this request was given up as too old
    _open(repeat, manifest, operations)
    files.create(manifest_key(batch_id), manifest.to_json())
    _log.info(
        "batch_repeated", batch_id=batch_id, retry_of=repeat.old_batch_id, instances=len(instances)
    )


def close(entry: Entry, operations: Operations) -> None:
    """Close the new batch, before the objects that it copied are deleted.

    It inherits the rows that name those: nobody finds a row whose object is gone. Raises
    ServiceUnavailable.
    """
    files = operations.files
    try:
        key, default = manifest_key(entry.batch_id), operations.imports.settings.datastore_id
        close_batch(files.bucket, key, operations.stores, default, operations.now)
    except ObjectDenied as error:
        raise ServiceUnavailable(f"the new batch cannot be closed yet: {error}") from error
    batch = operations.stores.batches.get(entry.batch_id)
    if batch is None or batch.state is BatchState.OPEN:
        raise ServiceUnavailable("the new batch's manifest is gone: recovery has to make it again")


def _copy(copy: Copy, batch_id: str, files: Files) -> ManifestInstance | None:
    """None, and its neighbours go on, where S3 does not let the object be read."""
    key = str(replace(InstanceKey.parse(copy.instance.key), batch_id=batch_id))
    # The reason it was put aside for is over.
    metadata = {name: text for name, text in copy.source.metadata.items() if name != "reason"}
    try:
        files.copy(copy.source, key, metadata | origin(copy.source))
    except (ObjectMissing, ObjectChanged) as error:
        raise ServiceUnavailable("an object was moved meanwhile") from error
    except ObjectDenied as error:
        _log.warning("instance_not_repeated", batch_id=batch_id, why=str(error))
        return None
    return replace(copy.instance, key=key)


def _open(repeat: Repeat, manifest: Manifest, operations: Operations) -> None:
    batches = operations.stores.batches
    opened = open_batch(manifest, _OWNER, operations.now)
    opened = replace(opened, retry_of=repeat.old_batch_id, forced=repeat.forced)
    if batches.move(opened, BatchEvent.OPENED):
        return
    known = batches.get(manifest.batch_id)
    if known is None or known.state is not BatchState.OPEN:
        raise ServiceUnavailable(_MADE_MEANWHILE)
