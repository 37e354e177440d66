"""Files in Amazon S3."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.aws import error_code
from chalicelib.errors import ObjectChanged, ObjectMissing, ObjectTooLarge, ServiceUnavailable
from chalicelib.stores.files import MAX_WHOLE_COPY_BYTES, StoredObject
from chalicelib.stores.s3 import object_errors
from contract.checksums import Checksum, ChecksumAlgorithm
from contract.errors import ProductError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

# What the receiver uses: S3 keeps it for the whole object even where that comes in parts.
_ALGORITHM = ChecksumAlgorithm.CRC64NVME
_EMPTY = "InvalidRange"
_NO_CODE = "400"
# Bytes at once of each of two objects.
_COMPARED = 1024 * 1024


class S3Files:
    """Files; objects above ``whole_copy_bytes`` are copied part by part."""

    def __init__(
        self, client: "S3Client", bucket: str, whole_copy_bytes: int = MAX_WHOLE_COPY_BYTES
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._whole_copy_bytes = whole_copy_bytes

    @property
    def bucket(self) -> str:
        """See Files."""
        return self._bucket

    def begin(self, key: str, size: int) -> tuple[bytes, StoredObject]:
        """See Files."""
        try:
            with object_errors():
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes=0-{size - 1}"
                )
                with closing(answer["Body"]) as body:
                    data = body.read()
        except ClientError as error:
            if error_code(error) != _EMPTY:
                raise
            return b"", self.head(key)  # an object of no bytes has no first byte
        total = int(answer["ContentRange"].rpartition("/")[2])
        return data, _stored(key, total, answer)

    def head(self, key: str) -> StoredObject:
        """See Files."""
        with self._explained(key):
            answer = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        return _stored(key, answer["ContentLength"], answer)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Maps the errors of requests about one object, also a HEAD's 400."""
        try:
            with object_errors():
                yield
        except ClientError as error:
            if error_code(error) == _NO_CODE:
                raise self._reason(key) from error
            raise

    def _reason(self, key: str) -> ProductError:
        """Why a HEAD was answered 400: only the answer to a GET has an error code.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
        """
        try:
            with object_errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")
                answer["Body"].close()
        except ProductError as error:
            return error
        except ClientError as error:
            if error_code(error) != _EMPTY:
                raise
        return ServiceUnavailable("S3 answered a HEAD with 400, and then a GET with the object")

    def read(self, key: str, max_bytes: int) -> bytes:
        """See Files."""
        data, stored = self.begin(key, max_bytes)
        if stored.size > max_bytes:
            raise ObjectTooLarge(f"the object is larger than {max_bytes} bytes")
        return data

    def digest_of_both(self, key: str, other: str) -> Checksum | None:
        """See Files."""
        found = hashlib.sha256()
        with object_errors(), self._opened(key) as one, self._opened(other) as two:
            while (chunk := one.read(_COMPARED)) == two.read(_COMPARED):
                if not chunk:
                    return Checksum.sha256(found.digest())
                found.update(chunk)
        return None

    def digest(self, key: str) -> Checksum:
        """See Files."""
        found = hashlib.sha256()
        with object_errors(), self._opened(key) as body:
            while chunk := body.read(_COMPARED):
                found.update(chunk)
        return Checksum.sha256(found.digest())

    def _opened(self, key: str) -> "closing[StreamingBody]":
        return closing(self._client.get_object(Bucket=self._bucket, Key=key)["Body"])

    def copy(self, source: StoredObject, target: str, metadata: Mapping[str, str]) -> Checksum:
        """See Files."""
        whence: Any = {"Bucket": self._bucket, "Key": source.key}
        arguments: dict[str, Any] = {
            "ChecksumAlgorithm": _ALGORITHM.value,
            "CopySourceIfMatch": source.etag,
            "Metadata": dict(metadata),
            "MetadataDirective": "REPLACE",
            # Copying tags takes s3:GetObjectTagging and s3:PutObjectTagging.
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
            "TaggingDirective": "REPLACE",
        }
        with self._explained(source.key):  # copying in parts begins with a HEAD
            if source.size <= self._whole_copy_bytes:
                self._client.copy_object(
                    Bucket=self._bucket, Key=target, CopySource=whence, **arguments
                )
            else:
                self._client.copy(whence, self._bucket, target, ExtraArgs=arguments)
        checksum = self.head(target).checksum
        if checksum is None:
            raise ServiceUnavailable("S3 told no checksum of a copy")
        return checksum

    def create(self, key: str, body: bytes) -> bool:
        """See Files."""
        try:
            with object_errors():
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")
        except ObjectChanged:
            return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """See Files."""
        with object_errors():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body)

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """See Files."""
        for page in self._pages("list_objects_v2", Prefix=prefix, StartAfter=after):
            for each in page.get("Contents", []):
                yield StoredObject(each["Key"], each["Size"], each["ETag"], each["LastModified"])

    def folders(self, prefix: str) -> Iterator[str]:
        """See Files."""
        for page in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", []):
                yield each["Prefix"].removeprefix(prefix).removesuffix("/")

    def end_uploads(self, prefix: str) -> int:
        """See Files."""
        ended = 0
        for page in self._pages("list_multipart_uploads", Prefix=prefix):
            for each in page.get("Uploads", []):
                with object_errors(), suppress(self._client.exceptions.NoSuchUpload):
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                    )
                ended += 1
        return ended

    def delete(self, key: str, etag: str) -> None:
        """See Files. It takes s3:GetObject as well as s3:DeleteObject, and costs nothing.

        One by one: DeleteObjects is an XML document, which cannot name a key that has a control
        character. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
        """
        with suppress(ObjectMissing), self._explained(key):
            self._client.delete_object(Bucket=self._bucket, Key=key, IfMatch=etag)

    def _pages(self, operation: Any, **arguments: Any) -> Iterator[Any]:
        paginator = self._client.get_paginator(operation)
        pages = iter(paginator.paginate(Bucket=self._bucket, **arguments))
        while True:
            with object_errors():
                page = next(pages, None)
            if page is None:
                return
            yield page


def _stored(key: str, size: int, answer: Any) -> StoredObject:
    digest = answer.get(f"Checksum{_ALGORITHM}")
    checksum = Checksum.parse(f"{_ALGORITHM}:{digest}") if digest else None
    return StoredObject(
        key, size, answer["ETag"], answer["LastModified"], answer["Metadata"], checksum
    )
