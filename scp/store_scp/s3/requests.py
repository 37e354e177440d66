"""The requests that store objects, as values; and the one place where they become HTTP."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape

from botocore.credentials import ReadOnlyCredentials

from contract.checksums import Checksum, ChecksumAlgorithm
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.sigv4 import UNSIGNED_PAYLOAD, sign

_METADATA_NAME = re.compile(r"[a-z0-9-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """What both PutObject and CreateMultipartUpload say of an object.

    Metadata names come without ``x-amz-meta-``, in lower case; values are printable ASCII.
    """

    key: str
    content_type: str
    metadata: Mapping[str, str]

    def __post_init__(self) -> None:
        names_are_good = all(map(_METADATA_NAME.fullmatch, self.metadata))
        values = "".join((self.content_type, *self.metadata.values()))
        if not (names_are_good and _PRINTABLE.fullmatch(values)):
            # A line break here would be a header of the peer's own.
            raise StoreRefused(Status.PROCESSING_FAILURE, "InvalidMetadata")

    def headers(self) -> dict[str, str]:
        """The object's own headers."""
        return {
            "content-type": self.content_type,
            **{f"x-amz-meta-{name}": value for name, value in self.metadata.items()},
        }


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """What S3 said of a part it has; CompleteMultipartUpload repeats it."""

    number: int
    etag: str
    checksum: Checksum


@dataclass(frozen=True, slots=True)
class Request:
    """One request, not yet signed; ``body`` is borrowed from the caller."""

    method: str
    key: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[bytes | memoryview] = ()
    payload: str = UNSIGNED_PAYLOAD

    def head(self, endpoint: Endpoint, credentials: ReadOnlyCredentials, timestamp: str) -> bytes:
        """The signed request line and headers."""
        path = endpoint.path + quote(self.key, safe="/~")
        query = "&".join(
            f"{name}={quote(self.query[name], safe='~')}" for name in sorted(self.query)
        )
        signed = sign(
            self.method,
            path,
            query,
            {**self.headers, "host": endpoint.authority},
            self.payload,
            region=endpoint.region,
            credentials=credentials,
            timestamp=timestamp,
        )
        signed["content-length"] = str(sum(map(len, self.body)))
        lines = "\r\n".join([f"{name}: {value}" for name, value in signed.items()])
        target = f"{path}?{query}" if query else path
        return f"{self.method} {target} HTTP/1.1\r\n{lines}\r\n\r\n".encode("ascii")


def checksum_header(algorithm: ChecksumAlgorithm) -> str:
    """The header that carries a checksum of this kind, both ways."""
    return f"x-amz-checksum-{algorithm.lower()}"


def put_object(
    wanted: ObjectRequest,
    body: Sequence[bytes | memoryview],
    checksum: Checksum,
    *,
    if_none_match: bool,
) -> Request:
    """PutObject, which S3 refuses unless the bytes have the checksum."""
    headers = wanted.headers()
    headers[checksum_header(checksum.algorithm)] = checksum.base64
    if if_none_match:
        headers["if-none-match"] = "*"
    return Request("PUT", wanted.key, headers=headers, body=body)


def get_range(key: str, start: int, end: int) -> Request:
    """GetObject of the bytes from ``start`` up to, and not including, ``end``."""
    return Request("GET", key, headers={"range": f"bytes={start}-{end - 1}"}, payload=_EMPTY)


def create_multipart_upload(wanted: ObjectRequest) -> Request:
    """CreateMultipartUpload of an object with one checksum over all of it."""
    headers = wanted.headers()
    headers["x-amz-checksum-algorithm"] = ChecksumAlgorithm.CRC64NVME
    headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return Request("POST", wanted.key, {"uploads": ""}, headers, payload=_EMPTY)


def upload_part(
    key: str, upload_id: str, number: int, body: memoryview, checksum: Checksum
) -> Request:
    """UploadPart, with the part's own checksum."""
    query = {"partNumber": str(number), "uploadId": upload_id}
    headers = {checksum_header(checksum.algorithm): checksum.base64}
    return Request("PUT", key, query, headers, (body,))


def complete_multipart_upload(
    key: str, upload_id: str, parts: Sequence[PartReceipt], checksum: Checksum
) -> Request:
    """CompleteMultipartUpload, which S3 refuses unless the whole has the checksum."""
    headers = {
        "content-type": "application/xml",
        checksum_header(checksum.algorithm): checksum.base64,
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    listed = "".join(map(_part_element, sorted(parts, key=lambda part: part.number)))
    body = (
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{listed}</CompleteMultipartUpload>"
    ).encode()
    digest = hashlib.sha256(body).hexdigest()
    return Request("POST", key, {"uploadId": upload_id}, headers, (body,), digest)


def abort_multipart_upload(key: str, upload_id: str) -> Request:
    """AbortMultipartUpload."""
    return Request("DELETE", key, {"uploadId": upload_id}, payload=_EMPTY)


_EMPTY = hashlib.sha256(b"").hexdigest()


def _part_element(part: PartReceipt) -> str:
    checksum = f"Checksum{part.checksum.algorithm}"
    return (
        f"<Part><{checksum}>{part.checksum.base64}</{checksum}>"
        f"<ETag>{escape(part.etag)}</ETag><PartNumber>{part.number}</PartNumber></Part>"
    )
