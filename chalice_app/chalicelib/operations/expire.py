"""Deletes the objects of imported instances, RETENTION_DAYS after their batch ended, and no others.

S3's lifecycle could not: it counts from the PUT and knows no import, so a batch that waits too long
would lose what was acknowledged. Here, whatever stands still deletes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.errors import (
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    ObjectsStay,
    ObjectUnavailable,
)
from chalicelib.isolation import Isolation
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work
from chalicelib.stores.files import Files
from chalicelib.stores.instances import Rows, own, shared_and_own, was_imported
from chalicelib.stores.objects import read_manifest
from chalicelib.stores.outbox import Due, Outbox
from chalicelib.threads import in_threads
from contract.errors import InvalidChecksum, InvalidManifest
from contract.keys import manifest_key
from contract.manifest import Manifest, ManifestInstance
from contract.metadata import told_checksum

# What is begun within this, and before the end of its invocation by what one batch may take.
_WORK = timedelta(seconds=600)
_BATCH_TAKES = timedelta(seconds=60)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Expiry:
    """What expiring works with; nothing expires where ``retention`` is zero."""

    stores: Stores
    outbox: Outbox
    files: Files
    retention: timedelta
    now: Callable[[], datetime]
    deadline: Deadline = UNBOUNDED


def expirable(manifest: Manifest, known: Rows) -> list[ManifestInstance]:
    """What is to be deleted, of a batch that ended IMPORTED or PARTIAL.

    ``known`` are the rows of its instances' checksums, and its own beside those of others. What
    failed was moved away before the batch ended. So what stands there was imported, unless the
    ledger says otherwise, or has lost the instance. A row of a newer batch says nothing of this.
    """
    ours = own(manifest.batch_id, known)

    def is_imported(instance: ManifestInstance) -> bool:
        row = ours.get(instance.instance) or known.get(instance.row_key)
        return row is not None and (was_imported(row) or row.batch_id > manifest.batch_id)

    return [each for each in manifest.instances if is_imported(each)]


def expire(work: Expiry) -> int:
    """Delete for as long as is allowed, the oldest first; returns how many objects.

    A batch that fails stops no other (``isolation``). Raises ServiceUnavailable at the end if AWS
    did not answer for some; they are there for the next invocation.
    """
    run = Isolation(Work.EXPIRY, work.stores.blocked, work.outbox, work.now)
    if not work.retention:
        run.forget_others()
        return 0
    began, count = work.now(), 0
    until = work.deadline.less(_BATCH_TAKES).within(_WORK, began)
    for batch_id in work.outbox.due(Due.EXPIRE, began - work.retention):
        if until.is_over(work.now()):
            break
        if run.is_due(batch_id):
            count += run.attempt(batch_id, partial(_expire, batch_id, work, run)) or 0
    else:
        run.forget_others()
    run.finish()
    return count


def _expire(batch_id: str, work: Expiry, run: Isolation) -> int:
    """Raises ObjectsStay if an object is not deleted: the batch is tried again with the others."""
    deleted = in_threads(partial(_delete, files=work.files), _expirable(batch_id, work))
    if stay := deleted.count(False):
        raise ObjectsStay(f"{stay} of {len(deleted)} objects are denied, or not as the batch's")
    work.outbox.done(batch_id, Due.EXPIRE)
    run.succeeded(batch_id)
    _log.info("batch_expired", batch_id=batch_id, objects=len(deleted))
    return len(deleted)


def _delete(instance: ManifestInstance, files: Files) -> bool:
    """Delete the object if it is the one that the batch had; False if it stays.

    One that is gone was deleted before.
    """
    try:
        found = files.head(instance.key)
        # S3's own, or what the receiver sent along: they may be of different algorithms.
        if instance.checksum not in (found.checksum, told_checksum(found.metadata)):
            return False
        files.delete(instance.key, found.etag)
    except ObjectMissing:
        return True
    except (ObjectChanged, ObjectDenied, InvalidChecksum):
        return False
    return True


def _expirable(batch_id: str, work: Expiry) -> list[ManifestInstance]:
    """None without a manifest: what it listed stays, for reconciliation to account for."""
    try:
        manifest = read_manifest(work.stores.objects, work.files.bucket, manifest_key(batch_id))
    except (InvalidManifest, ObjectUnavailable) as error:
        _log.warning("batch_does_not_expire", batch_id=batch_id, reason=str(error))
        return []
    keys = [each.row_key for each in manifest.instances]
    known = shared_and_own(work.stores.instances, manifest.batch_id, keys)
    return expirable(manifest, known)
