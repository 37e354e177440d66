"""The last look at a batch's prefix before HealthImaging imports everything under it.

What is not in the manifest must not be imported: a PUT that timed out but landed would be, beside
its retry in another batch. What another batch imports, byte for byte, need not be. An upload that
is open still is nobody's: its creation was never answered, or its abort, or its receiver died.
"""

from collections.abc import Set
from dataclasses import dataclass

import structlog

from chalicelib.errors import ObjectDenied, ServiceUnavailable
from chalicelib.imports.aside import NOT_LISTED, duplicate_key, move_all, unlisted_key
from chalicelib.imports.claims import Claimant, claim
from chalicelib.imports.context import ImportContext
from chalicelib.stores.files import Files
from contract.keys import DUPLICATES_PREFIX, INSTANCES_PREFIX
from contract.manifest import Manifest, ManifestInstance

MISSING = "the object is not in the bucket"
_ANOTHERS = "another batch imports the same bytes"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a batch's prefix holds, against its manifest.

    ``unlisted`` and ``copies`` are the keys to move away; ``copies`` are those ``duplicates`` that
    still stand under the prefix.
    """

    left: tuple[ManifestInstance, ...]
    missing: tuple[ManifestInstance, ...]
    duplicates: tuple[ManifestInstance, ...]
    unlisted: tuple[str, ...]
    copies: tuple[str, ...]


def plan_sweep(manifest: Manifest, present: Set[str], aside: Set[str], others: Set[str]) -> Sweep:
    """``present`` and ``aside`` are the keys under the prefix and those moved from it before.

    ``others`` are those of what other batches import, byte for byte.
    """
    duplicates = [each for each in manifest.instances if each.key in aside | (present & others)]
    left_out = {each.key for each in duplicates}
    listed = {each.key for each in manifest.instances}
    rest = [each for each in manifest.instances if each.key not in left_out]
    return Sweep(
        left=tuple(each for each in rest if each.key in present),
        missing=tuple(each for each in rest if each.key not in present),
        duplicates=tuple(duplicates),
        unlisted=tuple(sorted(present - listed)),
        copies=tuple(sorted(present & left_out)),
    )


def sweep(manifest: Manifest, claimant: Claimant, context: ImportContext) -> Sweep:
    """Leave under the prefix what is to be imported, and say what became of the rest."""
    files = context.files
    uploads = files.end_uploads(manifest.prefix)  # first: or one ends behind the listing
    present = {each.key for each in files.list(manifest.prefix)}
    aside = moved_duplicates(manifest, files)
    wanted = [each for each in manifest.instances if each.key in present - aside]
    claims = claim(claimant, wanted, context)
    plan = plan_sweep(manifest, present, aside, claims.duplicates)
    stay = move_all(files, plan.unlisted, unlisted_key, NOT_LISTED)
    stay |= move_all(files, plan.copies, duplicate_key, _ANOTHERS)
    if stay:  # HealthImaging would import them
        raise ObjectDenied(f"{len(stay)} objects cannot be moved out of the batch's prefix")
    if claims.undecided:  # the next call goes on with them
        raise ServiceUnavailable(f"{len(claims.undecided)} objects are still to be compared")
    if plan.unlisted or plan.missing or uploads:
        _log.warning(
            "batch_swept",
            batch_id=manifest.batch_id,
            unlisted=len(plan.unlisted),
            missing=len(plan.missing),
            uploads=uploads,
        )
    return plan


def seen(manifest: Manifest, files: Files) -> Sweep:
    """What the prefix of a batch whose job was started holds; nothing is moved or claimed."""
    files.end_uploads(manifest.prefix)
    present = {each.key for each in files.list(manifest.prefix)}
    return plan_sweep(manifest, present, moved_duplicates(manifest, files), frozenset())


def moved_duplicates(manifest: Manifest, files: Files) -> frozenset[str]:
    """The batch's instances that were left out of its job, by the keys they had."""
    prefix = DUPLICATES_PREFIX + manifest.prefix.removeprefix(INSTANCES_PREFIX)
    return frozenset(
        INSTANCES_PREFIX + each.key.removeprefix(DUPLICATES_PREFIX) for each in files.list(prefix)
    )
