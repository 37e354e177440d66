"""Where bytes are: moto's S3 in this process, and the files the data stores keep."""

import tempfile
import uuid
from pathlib import Path

from moto.s3.exceptions import AccessDeniedByLock, MissingBucket
from moto.s3.models import FakeKey, S3Backend, s3_backends
from moto.s3.utils import ARCHIVE_STORAGE_CLASSES
from moto.utilities.utils import get_partition

from local.healthimaging.errors import ImportFailed
from local.healthimaging.limits import S3Object
from local.moto_gaps import S3_TURN


class S3Objects:
    """moto's S3 as one account sees it."""

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id = account_id
        self._partition = get_partition(region)

    def list(self, bucket: str, prefix: str, owner: str | None) -> list[S3Object]:
        """Every object under a prefix, in key order; raises ImportFailed.

        ``owner`` is inputOwnerAccountId, without which another account's bucket stays closed.
        https://docs.aws.amazon.com/healthimaging/latest/devguide/cross-account-imports.html
        """
        with S3_TURN:
            backend = self._backend(bucket, owner)
            keys, *_ = backend.list_objects(backend.get_bucket(bucket), prefix, None, None, None)
        return [S3Object(key.name, key.size, _is_archived(key)) for key in keys]

    def read(self, bucket: str, key: str, owner: str | None) -> bytes | None:
        """An object's bytes; None if it is gone since it was listed."""
        with S3_TURN:
            found = self._backend(bucket, owner).get_object(bucket, key)
            return found.value if found else None

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Put an object, with the notifications of any PUT; raises ImportFailed."""
        with S3_TURN:
            self._backend(bucket, None).put_object(bucket, key, body)

    def require(self, bucket: str) -> None:
        """Raise ImportFailed unless the bucket can be written to."""
        self._backend(bucket, None)

    def _backend(self, bucket: str, owner: str | None) -> S3Backend:
        backend = s3_backends[owner or self._account_id][self._partition]
        try:
            backend.get_bucket(bucket)
        except MissingBucket:
            raise ImportFailed(f"NO_SUCH_BUCKET: The bucket {bucket} does not exist.") from None
        except AccessDeniedByLock:
            raise ImportFailed(f"ACCESS_DENIED: No access to the bucket {bucket}.") from None
        return backend


def _is_archived(key: FakeKey) -> bool:
    """Whether GetObject would answer InvalidObjectState; not so Glacier Instant Retrieval.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html
    """
    is_restored = key.expiry_date is not None and key.status != "IN_PROGRESS"
    return key.storage_class in ARCHIVE_STORAGE_CLASSES and not is_restored


def new_stored_id() -> str:
    """Names a kept file; an imageFrameId of 32 characters leaves 24 for it."""
    return uuid.uuid4().hex[:24]


class StoredFiles:
    """The Part 10 files a data store keeps, whatever becomes of the objects they came from."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def put(self, stored_id: str, data: bytes) -> None:
        """Keep a file under an id of :func:`new_stored_id`."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="healthimaging-")
        Path(self._directory.name, stored_id).write_bytes(data)

    def read(self, stored_id: str) -> bytes:
        """A kept file's bytes."""
        if self._directory is None:
            raise KeyError(stored_id)
        return Path(self._directory.name, stored_id).read_bytes()

    def close(self) -> None:
        """Remove every file."""
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None
