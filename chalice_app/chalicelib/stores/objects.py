"""Objects in S3, as far as the Lambdas touch them, and the batch manifests among them."""

from collections.abc import Mapping
from typing import Protocol

from contract.errors import InvalidManifest
from contract.keys import parse_manifest_key
from contract.manifest import Manifest

# A manifest of 5,000 instances is about 3 MB; anything above this is none of ours.
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class ObjectStore(Protocol):
    """Objects by bucket and key."""

    def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's body; raises ObjectMissing, or ObjectTooLarge without reading it."""
        ...

    def metadata_of(self, bucket: str, key: str) -> Mapping[str, str]:
        """The object's own metadata; raises ObjectMissing and ObjectDenied."""
        ...

    def move(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        """Copy inside the bucket and delete the source.

        Raises ObjectMissing, ObjectDenied, or ObjectChanged if the source was replaced meanwhile.
        """
        ...


def read_manifest(objects: ObjectStore, bucket: str, key: str) -> Manifest:
    """The manifest under ``key``; raises InvalidKey, InvalidManifest or ObjectUnavailable."""
    batch_id = parse_manifest_key(key)
    manifest = Manifest.from_json(objects.read(bucket, key, MAX_MANIFEST_BYTES))
    if manifest.batch_id != batch_id:
        raise InvalidManifest("the manifest stands under another batch's key")
    return manifest
