"""What S3's answers mean: each is what was asked for, or a failure with its remedy.

An endpoint may lie or be no S3 at all, so nothing is taken for success that does not look like it.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from xml.etree import ElementTree as ET

from contract.checksums import Checksum
from store_scp.dimse.status import Status
from store_scp.s3.errors import AttemptFailed, Remedy
from store_scp.s3.requests import PartReceipt, checksum_header

BAD_RESPONSE = "BadResponse"
WRONG_CHECKSUM = "WrongChecksum"
PRECONDITION_FAILED = "PreconditionFailed"
_NO_SUCH_UPLOAD = "NoSuchUpload"

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
# S3's are about 40 and 130 characters; more than this is not repeated in a request.
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_SECONDS = re.compile(r"[0-9]{1,6}")

_CAUSES: dict[tuple[Status, Remedy], tuple[str, ...]] = {
    (Status.OUT_OF_RESOURCES, Remedy.TRY_LATER): (
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "KMS.ThrottlingException",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    ),
    # The upload was completed or aborted meanwhile; the peer's next try starts another.
    (Status.OUT_OF_RESOURCES, Remedy.GIVE_UP): (_NO_SUCH_UPLOAD,),
    (Status.OUT_OF_RESOURCES, Remedy.NEW_CREDENTIALS): (
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
    ),
    # Once more with what the provider has now, since keys are rotated; then someone has to look.
    (Status.PROCESSING_FAILURE, Remedy.NEW_CREDENTIALS): (
        "InvalidAccessKeyId",
        "InvalidToken",
    ),
    # S3 tolerates 15 minutes; its answer says what time it is.
    (Status.PROCESSING_FAILURE, Remedy.NEW_TIME): ("RequestExpired", "RequestTimeTooSkewed"),
    (Status.PROCESSING_FAILURE, Remedy.SEND_AGAIN): ("BadDigest", "XAmzContentChecksumMismatch"),
    # A 501, and the only 5xx that does not pass.
    (Status.PROCESSING_FAILURE, Remedy.GIVE_UP): ("NotImplemented",),
}
_BY_CODE = {code: meaning for meaning, codes in _CAUSES.items() for code in codes}

_LATER_STATUSES = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
)
# For answers without a body; S3 may leave it out.
_CODE_OF_STATUS: dict[int, str] = {
    HTTPStatus.MOVED_PERMANENTLY: "PermanentRedirect",
    HTTPStatus.TEMPORARY_REDIRECT: "TemporaryRedirect",
    HTTPStatus.PRECONDITION_FAILED: PRECONDITION_FAILED,
}


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response; header names are in lower case, values as Latin-1 text."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def accept_object(response: Response, checksum: Checksum) -> None:
    """PutObject succeeded, or AttemptFailed."""
    _expect_ok(response)
    _compare(response.headers.get(checksum_header(checksum.algorithm)), checksum)


def accept_range(response: Response, start: int, end: int, size: int) -> bytes:
    """GetObject gave the bytes from ``start`` to ``end`` of ``size`` bytes, or AttemptFailed.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise failure(response)
    given = response.headers.get("content-range")
    if given != f"bytes {start}-{end - 1}/{size}" or len(response.body) != end - start:
        # Trying again cannot help: it is another object.
        raise AttemptFailed(BAD_RESPONSE, Status.PROCESSING_FAILURE, Remedy.GIVE_UP)
    return response.body


def accept_part(response: Response, number: int, checksum: Checksum) -> PartReceipt:
    """UploadPart's receipt, or AttemptFailed."""
    accept_object(response, checksum)
    return PartReceipt(number, _token(response.headers.get("etag")), checksum)


def accept_upload_id(response: Response) -> str:
    """CreateMultipartUpload's id, or AttemptFailed."""
    # Some engines name the element differently; an error has no such child.
    _expect_ok(response)
    return _token(_parse(response.body)[1].get("UploadId"))


def accept_completed(response: Response, checksum: Checksum) -> None:
    """CompleteMultipartUpload succeeded, or AttemptFailed: its status is 200 for failures too."""
    _expect_ok(response)
    name, result = _parse(response.body)
    if name == "Error":
        raise failure(response)
    if name != "CompleteMultipartUploadResult":
        raise AttemptFailed(BAD_RESPONSE)
    _compare(result.get(f"Checksum{checksum.algorithm}"), checksum)


def accept_aborted(response: Response) -> None:
    """AbortMultipartUpload left no upload, or AttemptFailed."""
    if response.status == HTTPStatus.NO_CONTENT:
        return
    failed = failure(response)
    if failed.code != _NO_SUCH_UPLOAD:
        raise failed


def failure(response: Response) -> AttemptFailed:
    """What a response that is no success means."""
    code = _error_code(response)
    after = response.headers.get("retry-after", "")
    retry_after = float(after) if _SECONDS.fullmatch(after) else 0.0
    by_status = (Status.PROCESSING_FAILURE, Remedy.GIVE_UP)
    if response.status in _LATER_STATUSES:
        by_status = (Status.OUT_OF_RESOURCES, Remedy.TRY_LATER)
    status, remedy = _BY_CODE.get(code, by_status)
    return AttemptFailed(code, status, remedy, retry_after)


def _expect_ok(response: Response) -> None:
    if response.status != HTTPStatus.OK:
        raise failure(response)


def _compare(given: str | None, checksum: Checksum) -> None:
    # ``<base64>-<parts>`` is a checksum of checksums, which says nothing of the whole.
    if given is not None and "-" not in given and given != checksum.base64:
        raise AttemptFailed(WRONG_CHECKSUM, Status.PROCESSING_FAILURE, Remedy.SEND_AGAIN)


def _token(text: str | None) -> str:
    if text is None or not _TOKEN.fullmatch(text):
        raise AttemptFailed(BAD_RESPONSE)
    return text


def _error_code(response: Response) -> str:
    name, fields = _parse(response.body)
    code = fields.get("Code", "") if name == "Error" else ""
    if _CODE.fullmatch(code):
        return code
    return _CODE_OF_STATUS.get(response.status, f"HTTP {response.status}")


def _parse(body: bytes) -> tuple[str, dict[str, str]]:
    """The root element's name and its children's texts, all empty if this is no XML of S3's."""
    try:
        text = body.decode().strip()
        # No document type: entities could grow without bound, and S3 sends none.
        root = ET.fromstring("" if "<!" in text else text)  # noqa: S314 - bounded, see above
    except (UnicodeDecodeError, ET.ParseError):
        return "", {}
    return _local(root), {_local(child): (child.text or "").strip() for child in root}


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
