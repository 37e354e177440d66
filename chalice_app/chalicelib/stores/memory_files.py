"""Files in memory, over the objects of ``stores.memory``: one bucket for all of a test's code."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from chalicelib.errors import ObjectChanged, ObjectDenied, ObjectMissing, ObjectTooLarge
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryObjects
from contract.checksums import Checksum


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """Files; every object was modified at ``modified_at``, and has the checksum of its bytes."""

    objects: MemoryObjects
    bucket: str
    modified_at: datetime = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    checksum_of: Callable[[bytes], Checksum] = Checksum.of

    def begin(self, key: str, size: int) -> tuple[bytes, StoredObject]:
        """See Files."""
        return self._body(key)[:size], self.head(key)

    def head(self, key: str) -> StoredObject:
        """See Files."""
        body = self._body(key)
        metadata = self.objects.metadata.get((self.bucket, key), {})
        checksum = self.checksum_of(body)
        return StoredObject(key, len(body), _etag(body), self.modified_at, metadata, checksum)

    def read(self, key: str, max_bytes: int) -> bytes:
        """See Files."""
        if len(self._body(key)) > max_bytes:
            raise ObjectTooLarge(f"the object is larger than {max_bytes} bytes")
        return self._body(key)

    def digest_of_both(self, key: str, other: str) -> Checksum | None:
        """See Files."""
        body = self._body(key)
        return Checksum.of(body) if body == self._body(other) else None

    def digest(self, key: str) -> Checksum:
        """See Files."""
        return Checksum.of(self._body(key))

    def copy(self, source: StoredObject, target: str, metadata: Mapping[str, str]) -> Checksum:
        """See Files."""
        body = self._body(source.key)
        if _etag(body) != source.etag:
            raise ObjectChanged("the object was replaced meanwhile")
        self.put(target, body)
        self.objects.metadata[self.bucket, target] = metadata
        return self.checksum_of(body)

    def create(self, key: str, body: bytes) -> bool:
        """See Files."""
        if (self.bucket, key) in self.objects.bodies:
            return False
        self.put(key, body)
        return True

    def put(self, key: str, body: bytes) -> None:
        """See Files."""
        self.objects.bodies[self.bucket, key] = body
        self.objects.metadata.pop((self.bucket, key), None)

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """See Files."""
        keys = sorted(
            key
            for bucket, key in self.objects.bodies
            if bucket == self.bucket and key.startswith(prefix) and key > after
        )
        return iter([self._listed(key) for key in keys])

    def folders(self, prefix: str) -> Iterator[str]:
        """See Files."""
        names = (each.key.removeprefix(prefix).partition("/") for each in self.list(prefix))
        return iter(sorted({name for name, slash, _ in names if slash}))

    def end_uploads(self, prefix: str) -> int:
        """See Files."""
        uploads = self.objects.uploads
        ended = [each for each in uploads if each[0] == self.bucket and each[1].startswith(prefix)]
        for each in ended:
            uploads.remove(each)
        return len(ended)

    def delete(self, key: str, etag: str) -> None:
        """See Files."""
        body = self.objects.bodies.get((self.bucket, key))
        if body is None:
            return
        if _etag(body) != etag:
            raise ObjectChanged("the object was replaced meanwhile")
        del self.objects.bodies[self.bucket, key]
        self.objects.metadata.pop((self.bucket, key), None)

    def _listed(self, key: str) -> StoredObject:
        body = self.objects.bodies[self.bucket, key]
        return StoredObject(key, len(body), _etag(body), self.modified_at)

    def _body(self, key: str) -> bytes:
        if (self.bucket, key) in self.objects.denied:
            raise ObjectDenied("GetObject: AccessDenied")
        try:
            return self.objects.bodies[self.bucket, key]
        except KeyError:
            raise ObjectMissing("the object does not exist") from None


def _etag(body: bytes) -> str:
    """S3's, of an object that was not encrypted and did not come in parts."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
