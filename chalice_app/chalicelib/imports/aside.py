"""Moving instances out of what HealthImaging imports, by S3's own copy; nothing is ever lost.

Where an object stands says what it is: these moves may be repeated and crash anywhere.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial

import structlog

from chalicelib.errors import ObjectChanged, ObjectDenied, ObjectMissing, ServiceUnavailable
from chalicelib.stores.files import Files
from chalicelib.threads import in_threads
from contract.errors import InvalidKey
from contract.keys import (
    INSTANCES_PREFIX,
    MANIFEST_SUFFIX,
    QUARANTINE_PREFIX,
    InstanceKey,
    batch_prefix,
    key_digest,
    parse_manifest_key,
    quarantine_key,
)

IMPORT_FAILED = "import-failed"
INVALID_MANIFEST = "invalid-manifest"
NOT_LISTED = "not in the batch's manifest"
_UNLISTED = "unlisted"
_log = structlog.get_logger()


def failed_key(key: str) -> str:
    """Where an instance stands that could not be imported."""
    return InstanceKey.parse(key).quarantined(IMPORT_FAILED)


def places(key: str) -> tuple[str, ...]:
    """Where to look, in this order, for an instance whose row says that it stands at ``key``.

    A row does not say that its object was put aside while the failure is not recorded yet, nor that
    it is being brought back: both first copy it, so that one of these looks finds it.
    """
    return (key, failed_key(key), key) if key.startswith(INSTANCES_PREFIX) else (key,)


def duplicate_key(key: str) -> str:
    """Where an instance stands that another batch imports, byte for byte."""
    return InstanceKey.parse(key).duplicate()


def unlisted_key(key: str) -> str:
    """Where an object stands that was under a batch's prefix and not in its manifest."""
    try:
        return InstanceKey.parse(key).quarantined(_UNLISTED)
    except InvalidKey:  # whoever else may write to the bucket chose the name
        return quarantine_key(_UNLISTED, key.removeprefix(INSTANCES_PREFIX))


def invalid_manifest_key(key: str) -> str:
    """Where an object stands that was under a manifest's key, and is none of ours.

    Others chose its name, if that is no batch's: then a digest of the key stands for it, so that
    two of them never have one place.
    """
    try:
        name = f"{parse_manifest_key(key)}{MANIFEST_SUFFIX}"
    except InvalidKey:
        name = key_digest(key)
    return quarantine_key(INVALID_MANIFEST, name)


def aside_of(files: Files, batch_id: str) -> list[str]:
    """The keys of a batch's instances that were put into quarantine and are there still."""
    name = batch_prefix(batch_id).removeprefix(INSTANCES_PREFIX)
    folders = (f"{QUARANTINE_PREFIX}{reason}/{name}" for reason in (IMPORT_FAILED, _UNLISTED))
    return [each.key for folder in folders for each in files.list(folder)]


def move_all(
    files: Files, keys: Iterable[str], target: Callable[[str], str], reason: str
) -> frozenset[str]:
    """Move objects, each with the reason in its metadata; one that is gone was moved before.

    Returns the keys of those that S3 does not let go (denied, archived): they stay where they are,
    and are in nobody's way. Raises ServiceUnavailable; some may then have been moved.
    """
    given = list(keys)
    moved = in_threads(partial(_move, files, target, {"reason": reason}), given)
    return frozenset(key for key, is_moved in zip(given, moved, strict=True) if not is_moved)


def bring_back(files: Files, batch_id: str, keys: Container[str]) -> None:
    """Move those of a batch's ``keys`` back under its prefix that were put aside as failed.

    Raises ServiceUnavailable.
    """
    folder = f"{QUARANTINE_PREFIX}{IMPORT_FAILED}/"
    name = batch_prefix(batch_id).removeprefix(INSTANCES_PREFIX)

    def home(key: str) -> str:
        return INSTANCES_PREFIX + key.removeprefix(folder)

    aside = [each.key for each in files.list(f"{folder}{name}") if home(each.key) in keys]
    in_threads(partial(_move, files, home, {}), aside)


def _move(files: Files, target: Callable[[str], str], more: Mapping[str, str], key: str) -> bool:
    try:
        source = files.head(key)
        kept = {name: text for name, text in source.metadata.items() if name != "reason"}
        files.copy(source, target(key), {**kept, **more})
        files.delete(key, source.etag)
    except ObjectMissing:
        return True
    except ObjectDenied as error:
        # HEAD is denied, but a listing shows whether an earlier try has moved the object.
        if not any(each.key == key for each in files.list(key)):
            return True
        _log.warning("object_not_moved", key_digest=key_digest(key), why=str(error))
        return False
    except ObjectChanged as error:  # a PUT that came late; the next try moves it
        raise ServiceUnavailable("an object was replaced while it was moved") from error
    return True
