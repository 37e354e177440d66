"""Instances that were put aside: where they stand, and what they were."""

from dataclasses import dataclass
from http import HTTPStatus

from chalicelib.errors import ApiProblem, ObjectMissing
from chalicelib.imports.aside import duplicate_key, failed_key
from chalicelib.stores.files import Files, StoredObject
from contract.errors import InvalidKey, InvalidMetadata
from contract.keys import INSTANCES_PREFIX, QUARANTINE_PREFIX, InstanceKey
from contract.manifest import ManifestInstance
from contract.metadata import Sender, Target, from_metadata


class OperationRefused(ApiProblem):
    """What is asked for does not fit what there is."""

    status = HTTPStatus.CONFLICT


@dataclass(frozen=True, slots=True)
class Aside:
    """An instance that was put aside; ``instance.key`` is the one it had in its batch."""

    source: StoredObject
    instance: ManifestInstance
    sender: Sender
    target: Target


def original_key(key: str) -> InstanceKey:
    """The key in its batch of an instance under ``quarantine/<reason>/``; raises InvalidKey."""
    reason, _, rest = key.removeprefix(QUARANTINE_PREFIX).partition("/")
    original = InstanceKey.parse(f"{INSTANCES_PREFIX}{rest}")
    if original.quarantined(reason) != key:
        raise InvalidKey("not an instance's key under quarantine/")
    return original


def batch_key(key: str) -> InstanceKey:
    """The key in its batch of an instance in the ledger, wherever it stands; raises InvalidKey."""
    return original_key(key) if key.startswith(QUARANTINE_PREFIX) else InstanceKey.parse(key)


def locate(key: str, files: Files) -> StoredObject | None:
    """Where an instance stands now: in quarantine, in its batch, or among duplicates; or nowhere.

    ``key`` is the one it had in its batch. Raises ObjectDenied.
    """
    for place in (failed_key(key), key, duplicate_key(key)):
        try:
            return files.head(place)
        except ObjectMissing:
            continue
    return None


def identify(source: StoredObject, key: str) -> Aside:
    """What an object is that had ``key`` in its batch; raises OperationRefused."""
    try:
        found = from_metadata(key, source.size, source.metadata, source.checksum)
    except InvalidMetadata as error:
        raise OperationRefused(
            f"{error}: copy the object to dropbox/ to have it imported"
        ) from None
    return Aside(source, *found)
