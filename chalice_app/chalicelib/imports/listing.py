"""What a batch's objects say of it: its manifest, where that is lost or was never written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.errors import ObjectDenied, ObjectMissing, ServiceUnavailable
from chalicelib.imports.aside import IMPORT_FAILED
from chalicelib.stores.files import Files, StoredObject
from chalicelib.threads import in_threads
from contract.errors import InvalidKey, InvalidMetadata
from contract.keys import (
    DUPLICATES_PREFIX,
    INSTANCES_PREFIX,
    QUARANTINE_PREFIX,
    InstanceKey,
    batch_prefix,
)
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, from_metadata

# Where a batch's instances can stand, in the order in which they are believed.
_PLACES = (INSTANCES_PREFIX, f"{QUARANTINE_PREFIX}{IMPORT_FAILED}/", DUPLICATES_PREFIX)


@dataclass(frozen=True, slots=True)
class Found:
    """An instance of a batch, and what its metadata says; ``source`` is where it stands now."""

    instance: ManifestInstance
    sender: Sender
    target: Target
    source: StoredObject


def found_in(batch_id: str, files: Files) -> tuple[list[Found], list[str]]:
    """The instances under a batch's prefix, and the keys of what is none."""
    keys = [each.key for each in files.list(batch_prefix(batch_id))]
    read = in_threads(lambda key: _read(key, key, files), keys)
    found = [each for each in read if each is not None]
    known = {each.instance.key for each in found}
    return found, [key for key in keys if key not in known]


class _Denied:
    """In place of an object that may not be read."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A batch as its objects tell: its manifest, if one can be made of them, and its studies.

    ``denied`` are the keys, as they were in the batch, of the objects that may not be read. Those
    that another batch imports are not among them: their place tells what became of them.
    """

    manifest: Manifest | None
    studies: frozenset[str]
    denied: frozenset[str]


def rebuilt(batch_id: str, files: Files, now: datetime) -> Rebuilt:
    """From all objects of a batch, wherever they were moved.

    An object that may not be read, or has no metadata, is in no manifest; its study is told by its
    key. Raises ServiceUnavailable, also if objects are moved meanwhile: the lists may miss one.
    """
    stands = _places_of(batch_id, files)
    places = sorted(stands.items())
    read = in_threads(lambda place: _read_if_allowed(*place, files), places)
    if _places_of(batch_id, files) != stands:
        raise ServiceUnavailable("the batch's objects were moved while they were listed")
    found = [each for each in read if isinstance(each, Found)]
    pairs = zip(places, read, strict=True)
    denied = frozenset(
        key
        for (key, place), each in pairs
        if isinstance(each, _Denied) and not place.startswith(DUPLICATES_PREFIX)
    )
    manifest = recovered_manifest(batch_id, found, now) if found else None
    return Rebuilt(manifest, _studies(stands), denied)


def studies_of(batch_id: str, files: Files) -> frozenset[str]:
    """A batch's studies by the keys of its objects, wherever they were moved."""
    return _studies(_places_of(batch_id, files))


def _places_of(batch_id: str, files: Files) -> dict[str, str]:
    """Where a batch's objects stand, by the keys they had in the batch."""
    name = batch_prefix(batch_id).removeprefix(INSTANCES_PREFIX)
    stands: dict[str, str] = {}
    for place in _PLACES:
        for each in files.list(f"{place}{name}"):
            stands.setdefault(INSTANCES_PREFIX + each.key.removeprefix(place), each.key)
    return stands


def _studies(keys: Iterable[str]) -> frozenset[str]:
    parsed = map(instance_key, keys)
    return frozenset(each.study_instance_uid for each in parsed if each)


def recovered_manifest(batch_id: str, found: Sequence[Found], now: datetime) -> Manifest:
    """The manifest of a batch, from at least one of its instances."""
    first = found[0]
    source = Source(
        calling_ae_title=first.sender.calling_ae_title,
        called_ae_title=first.sender.called_ae_title,
        peer_addresses=tuple(sorted({each.sender.peer_address for each in found})),
        association_ids=tuple(sorted({each.sender.association_id for each in found})),
    )
    return Manifest(
        batch_id=batch_id,
        closed_at=now,
        close_reason=CloseReason.RECOVERED,
        source=source,
        datastore_id=first.target.datastore_id,
        instances=tuple(under(batch_id, each.instance) for each in found),
        urgent=any(each.target.urgent for each in found),
    )


def under(batch_id: str, instance: ManifestInstance) -> ManifestInstance:
    """The entry of the same instance in another batch's manifest."""
    return replace(instance, key=str(replace(InstanceKey.parse(instance.key), batch_id=batch_id)))


def _read_if_allowed(key: str, stands: str, files: Files) -> Found | _Denied | None:
    try:
        return _read(key, stands, files)
    except ObjectDenied:
        return _Denied()


def instance_key(key: str) -> InstanceKey | None:
    """The parts of an instance's key; None for another."""
    try:
        return InstanceKey.parse(key)
    except InvalidKey:  # whoever else may write to the bucket chose the name
        return None


def _read(key: str, stands: str, files: Files) -> Found | None:
    """``key`` is what the instance had in its batch, ``stands`` where it is now."""
    try:
        stored = files.head(stands)
        found = from_metadata(key, stored.size, stored.metadata, stored.checksum)
    except (InvalidMetadata, ObjectMissing):  # the owner deletes what it stored again elsewhere
        return None
    return Found(*found, stored)
