"""Deletes the objects of imported instances, RETENTION_DAYS after their batch ended, and no others.

S3's lifecycle could not: it counts from the PUT and knows no import, so a batch that waits too long
would lose what was acknowledged. Here, whatever stands still deletes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from chalicelib.errors import ObjectDenied, ObjectUnavailable
from chalicelib.stores import Stores
from chalicelib.stores.files import Files
from chalicelib.stores.instances import Rows, own, shared_and_own, was_imported
from chalicelib.stores.objects import read_manifest
from chalicelib.stores.outbox import Due, Outbox
from contract.errors import InvalidManifest
from contract.keys import manifest_key
from contract.manifest import Manifest, ManifestInstance

# What is begun within this ends within the function's 900 s.
_WORK = timedelta(seconds=600)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Expiry:
    """What expiring works with; nothing expires where ``retention`` is zero."""

    stores: Stores
    outbox: Outbox
    files: Files
    retention: timedelta
    now: Callable[[], datetime]


def expirable(manifest: Manifest, known: Rows) -> list[str]:
    """The keys to delete, of a batch that ended IMPORTED or PARTIAL.

    ``known`` are the rows of its instances' checksums, and its own beside those of others. What
    failed was moved away before the batch ended. So what stands there was imported, unless the
    ledger says otherwise, or has lost the instance. A row of a newer batch says nothing of this.
    """
    ours = own(manifest.batch_id, known)

    def is_imported(instance: ManifestInstance) -> bool:
        row = ours.get(instance.instance) or known.get(instance.row_key)
        return row is not None and (was_imported(row) or row.batch_id > manifest.batch_id)

    return [each.key for each in manifest.instances if is_imported(each)]


def expire(work: Expiry) -> int:
    """Delete for as long as is allowed, the oldest first; returns how many objects.

    Raises ServiceUnavailable; the rest is there for the next invocation.
    """
    return sum(_expire(batch_id, work) for batch_id in _ripe(work)) if work.retention else 0


def _ripe(work: Expiry) -> Iterator[str]:
    began = work.now()
    for batch_id in work.outbox.due(Due.EXPIRE, began - work.retention):
        if work.now() - began > _WORK:
            return
        yield batch_id


def _expire(batch_id: str, work: Expiry) -> int:
    try:
        keys = _keys(batch_id, work)
        work.files.delete(keys)
    except ObjectDenied as error:  # it is tried again in an hour; the others go on
        _log.warning("batch_not_expired", batch_id=batch_id, reason=str(error))
        return 0
    work.outbox.done(batch_id, Due.EXPIRE)
    _log.info("batch_expired", batch_id=batch_id, objects=len(keys))
    return len(keys)


def _keys(batch_id: str, work: Expiry) -> list[str]:
    """None without a manifest: what it listed stays, for reconciliation to account for."""
    try:
        manifest = read_manifest(work.stores.objects, work.files.bucket, manifest_key(batch_id))
    except (InvalidManifest, ObjectUnavailable) as error:
        _log.warning("batch_does_not_expire", batch_id=batch_id, reason=str(error))
        return []
    keys = [each.row_key for each in manifest.instances]
    known = shared_and_own(work.stores.instances, manifest.batch_id, keys)
    return expirable(manifest, known)
