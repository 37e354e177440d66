"""What was in a batch that failed: its manifest tells, or its objects' keys and the ledger do."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from chalicelib.errors import ObjectChanged, ObjectDenied, ObjectMissing, ObjectUnavailable
from chalicelib.imports.aside import NOT_LISTED, invalid_manifest_key, move_all, unlisted_key
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.listing import Rebuilt, instance_key, rebuilt
from chalicelib.imports.measures import report_unsettled
from chalicelib.stores.instances import InstanceStore
from chalicelib.stores.objects import read_manifest
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import batch_prefix
from contract.manifest import Manifest, ManifestInstance
from contract.records import BatchRecord, InstanceRecord, InstanceState

_STRAY = "the batch's manifest could not be read, and the object has no metadata of an instance"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was in a batch.

    ``manifest`` is the batch's, or one made of its objects (``is_rebuilt``), or None if it has
    none. ``others`` are rows of the batch that are then in no manifest: their objects are gone, or
    may not be read.
    """

    manifest: Manifest | None
    is_rebuilt: bool = False
    others: tuple[InstanceRecord, ...] = ()


def contents(execution: Execution, context: ImportContext, *, forced: bool = False) -> Contents:
    """Read the manifest, or make one; and move objects that are not the batch's out of its prefix.

    A batch that fails before its sweep may have such objects: PUTs that S3 stored and whose answer
    was lost. Raises ServiceUnavailable; ObjectDenied if the prefix may not be listed, or, unless
    ``forced``, if nobody can tell all that was in the batch: neither the manifest nor an object
    without a row can be read.
    """
    try:
        manifest = read_manifest(context.stores.objects, execution.bucket, execution.manifest_key)
    except (InvalidKey, InvalidManifest, ObjectUnavailable, ObjectDenied) as error:
        _log.warning("manifest_unreadable", batch_id=execution.batch_id, error=type(error).__name__)
        return _salvaged(execution, context, forced=forced)
    _move_strays(execution.batch_id, manifest, NOT_LISTED, context)
    return Contents(manifest)


def _salvaged(execution: Execution, context: ImportContext, *, forced: bool) -> Contents:
    found, own = _found(execution.batch_id, context)
    if not forced:
        _refuse_if_unknown(execution.batch_id, found, own, context)
    manifest = found.manifest
    listed = {each.instance for each in manifest.instances} if manifest else set()
    waiting = (InstanceState.RECEIVED, InstanceState.FAILED)
    others = tuple(row for name, row in own.items() if name not in listed and row.state in waiting)
    _move_strays(execution.batch_id, manifest, _STRAY, context)
    return Contents(manifest, True, others)


def _refuse_if_unknown(
    batch_id: str, found: Rebuilt, own: Mapping[str, InstanceRecord], context: ImportContext
) -> None:
    """An object that nobody can read now is an acknowledged instance, too, and must get a row.

    A batch has no row of an instance while another batch has the row of its checksum, and the two
    objects were not compared.
    """
    parsed = map(instance_key, found.denied)
    unknown = [each for each in parsed if each and each.instance not in own]
    if unknown:
        report_unsettled(batch_id, ObjectDenied.__name__, context.settings, context.now)
        raise ObjectDenied(f"the manifest and {len(unknown)} objects of the batch cannot be read")


def _move_strays(
    batch_id: str, manifest: Manifest | None, reason: str, context: ImportContext
) -> None:
    """Move away what neither the manifest nor a row of the batch names.

    A manifest that was made of the objects lacks those that could not be read; their rows do not.
    An object that S3 does not let go stays, and reconciliation reports it.
    """
    listed = {each.key for each in manifest.instances} if manifest else set()
    under = (each.key for each in context.files.list(batch_prefix(batch_id)))
    others = {key: instance_key(key) for key in under if key not in listed}
    names = [parsed.instance for parsed in others.values() if parsed]
    rows = context.stores.instances.of_instances(names).values()
    own = {row.key for found in rows for row in found if row.batch_id == batch_id}
    move_all(context.files, [key for key in others if key not in own], unlisted_key, reason)


def told_by_objects(batch_id: str, context: ImportContext) -> Rebuilt:
    """The batch as its objects tell, with the checksums of its rows. Raises ServiceUnavailable."""
    return _found(batch_id, context)[0]


def _found(batch_id: str, context: ImportContext) -> tuple[Rebuilt, Mapping[str, InstanceRecord]]:
    """The same, and the batch's rows by instance."""
    found = rebuilt(batch_id, context.files, context.now)
    own = _own_rows(batch_id, found, context.stores.instances)
    return replace(found, manifest=found.manifest and _as_registered(found.manifest, own)), own


def _own_rows(batch_id: str, found: Rebuilt, ledger: InstanceStore) -> Mapping[str, InstanceRecord]:
    """The batch's rows of the studies that were found, by instance."""
    rows = (row for study in sorted(found.studies) for row in ledger.by_study(study))
    return {row.instance: row for row in rows if row.batch_id == batch_id}


def _as_registered(manifest: Manifest, own: Mapping[str, InstanceRecord]) -> Manifest:
    """With the checksums that the rows have: a copy's may be of another algorithm."""

    def registered(instance: ManifestInstance) -> ManifestInstance:
        row = own.get(instance.instance)
        return instance if row is None else replace(instance, checksum=row.checksum)

    return replace(manifest, instances=tuple(map(registered, manifest.instances)))


def restore_manifest(
    manifest: Manifest, batch: BatchRecord | None, execution: Execution, context: ImportContext
) -> None:
    """Write a manifest that was made of the objects, so that the batch can be retried.

    What stands there and is none is put aside. One that may not be read is left: it may be whole.
    """
    objects, key = context.stores.objects, execution.manifest_key
    try:
        read_manifest(objects, execution.bucket, key)
    except ObjectMissing:
        pass  # nothing to put aside: it is written below
    except (InvalidManifest, ObjectUnavailable) as error:
        target = invalid_manifest_key(key)
        with suppress(ObjectMissing, ObjectChanged):  # what stands there then is kept
            objects.move(execution.bucket, key, target, {"reason": str(error)})
    except (InvalidKey, ObjectDenied):
        return
    else:
        return
    closed_at = batch.closed_at if batch else None
    whole = replace(manifest, closed_at=closed_at or manifest.closed_at)
    context.files.create(key, whole.to_json())
