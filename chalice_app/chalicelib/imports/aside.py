"""Moving instances out of what HealthImaging imports, by S3's own copy; nothing is ever lost.

Where an object stands says what it is: these moves may be repeated and crash anywhere.
"""

from collections.abc import Callable, Iterable
from functools import partial

from chalicelib.errors import ObjectMissing, ServiceUnavailable
from chalicelib.stores.files import Files, ObjectChanged
from chalicelib.threads import in_threads
from contract.errors import InvalidKey
from contract.keys import (
    INSTANCES_PREFIX,
    QUARANTINE_PREFIX,
    InstanceKey,
    batch_prefix,
    quarantine_key,
)

_IMPORT_FAILED = "import-failed"
_UNLISTED = "unlisted"


def failed_key(key: str) -> str:
    """Where an instance stands that could not be imported."""
    return InstanceKey.parse(key).quarantined(_IMPORT_FAILED)


def duplicate_key(key: str) -> str:
    """Where an instance stands that another batch imports, byte for byte."""
    return InstanceKey.parse(key).duplicate()


def unlisted_key(key: str) -> str:
    """Where an object stands that was under a batch's prefix and not in its manifest."""
    try:
        return InstanceKey.parse(key).quarantined(_UNLISTED)
    except InvalidKey:  # whoever else may write to the bucket chose the name
        return quarantine_key(_UNLISTED, key.removeprefix(INSTANCES_PREFIX))


def aside_of(files: Files, batch_id: str) -> list[str]:
    """The keys of a batch's instances that were put into quarantine and are there still."""
    name = batch_prefix(batch_id).removeprefix(INSTANCES_PREFIX)
    folders = (f"{QUARANTINE_PREFIX}{reason}/{name}" for reason in (_IMPORT_FAILED, _UNLISTED))
    return [each.key for folder in folders for each in files.list(folder)]


def move_all(files: Files, keys: Iterable[str], target: Callable[[str], str], reason: str) -> None:
    """Move objects, each with the reason in its metadata; one that is gone was moved before.

    Raises ServiceUnavailable; some may then have been moved.
    """
    in_threads(partial(_move, files, target, reason), list(keys))


def _move(files: Files, target: Callable[[str], str], reason: str, key: str) -> None:
    try:
        source = files.head(key)
        files.copy(source, target(key), {**source.metadata, "reason": reason})
    except ObjectMissing:
        return
    except ObjectChanged as error:  # a PUT that came late; the next try moves it
        raise ServiceUnavailable("an object was replaced while it was moved") from error
    files.delete([key])
