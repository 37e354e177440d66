"""The DICOM bucket as operations and the dropbox see it: objects to list, copy and remove."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chalicelib.errors import ObjectDenied, ObjectMissing
from contract.checksums import Checksum
from contract.keys import manifest_key

# S3 copies up to 5 GiB in one call, and beyond that part by part.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
MAX_WHOLE_COPY_BYTES = 5 * 1024**3


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What S3 says of an object; a listing tells no ``metadata`` and no ``checksum``."""

    key: str
    size: int
    etag: str
    modified_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksum: Checksum | None = None


class Files(Protocol):
    """One bucket's objects. Every method raises ServiceUnavailable for what may work later."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        ...

    def begin(self, key: str, size: int) -> tuple[bytes, StoredObject]:
        """The first ``size`` bytes, or fewer if there are no more; raises ObjectMissing."""
        ...

    def head(self, key: str) -> StoredObject:
        """What S3 says of the object; raises ObjectMissing or ObjectDenied."""
        ...

    def read(self, key: str, max_bytes: int) -> bytes:
        """The whole object; raises ObjectMissing or ObjectTooLarge."""
        ...

    def digest_of_both(self, key: str, other: str) -> Checksum | None:
        """The SHA-256 of two objects with the same bytes, read until one differs: None if one does.

        Raises ObjectMissing or ObjectDenied.
        """
        ...

    def digest(self, key: str) -> Checksum:
        """An object's SHA-256, from its bytes; raises ObjectMissing or ObjectDenied."""
        ...

    def copy(self, source: StoredObject, target: str, metadata: Mapping[str, str]) -> Checksum:
        """Copy inside the bucket, whatever the size; returns what S3 computed of the copy.

        Its tags are not copied: a scanner that tags each new object tags the copy, too, and no
        role needs a right to tags. Raises ObjectMissing, ObjectDenied, or ObjectChanged if the
        source is not the one that was read.
        """
        ...

    def create(self, key: str, body: bytes) -> bool:
        """Write an object unless there is one; False if there is."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write or replace an object."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """What is under a prefix and behind a key, in the order of keys, as it is consumed."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """The names right below a prefix that ends in ``/``, of what has more below it."""
        ...

    def end_uploads(self, prefix: str) -> int:
        """Abort the multipart uploads under a prefix; how many there were.

        Behind this no upload begun before it can become an object.
        """
        ...

    def delete(self, key: str, etag: str) -> None:
        """Delete the object that was read with this ETag; it is no error if it is gone.

        Raises ObjectDenied, or ObjectChanged if another object stands there.
        """
        ...


def has_manifest(batch_id: str, files: Files) -> bool:
    """Whether the batch has its manifest. Raises ObjectDenied and ServiceUnavailable."""
    try:
        files.head(manifest_key(batch_id))
    except ObjectMissing:
        return False
    return True


def exists(key: str, files: Files) -> bool:
    """Whether there is an object, be it that it may not be read. Raises ServiceUnavailable."""
    try:
        files.head(key)
    except ObjectMissing:
        return False
    except ObjectDenied:
        pass  # it is there, and HealthImaging may have read it by now
    return True
