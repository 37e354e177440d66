from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.dimse.status import Status
from store_scp.s3 import answers
from store_scp.s3.answers import Response
from store_scp.s3.errors import AttemptFailed, Remedy

from contract.checksums import Checksum

WHOLE = Checksum.crc64nvme(1)
LATER, OPERATOR = Status.OUT_OF_RESOURCES, Status.PROCESSING_FAILURE


def error(code: str, status: int = 400) -> Response:
    return Response(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


@pytest.mark.parametrize(
    ("response", "code", "status", "remedy"),
    [
        (error("SlowDown", 503), "SlowDown", LATER, Remedy.TRY_LATER),
        (error("InternalError", 200), "InternalError", LATER, Remedy.TRY_LATER),
        (error("RequestTimeout"), "RequestTimeout", LATER, Remedy.TRY_LATER),
        (error("ThrottlingException"), "ThrottlingException", LATER, Remedy.TRY_LATER),
        (error("AnythingNew", 599), "AnythingNew", LATER, Remedy.TRY_LATER),
        (error("AnythingNew", 400), "AnythingNew", OPERATOR, Remedy.GIVE_UP),
        (error("NotImplemented", 501), "NotImplemented", OPERATOR, Remedy.GIVE_UP),
        (error("AccessDenied", 403), "AccessDenied", OPERATOR, Remedy.GIVE_UP),
        (error("NoSuchUpload", 404), "NoSuchUpload", LATER, Remedy.GIVE_UP),
        (error("ExpiredToken"), "ExpiredToken", LATER, Remedy.NEW_CREDENTIALS),
        (error("InvalidAccessKeyId", 403), "InvalidAccessKeyId", OPERATOR, Remedy.NEW_CREDENTIALS),
        (error("RequestTimeTooSkewed", 403), "RequestTimeTooSkewed", OPERATOR, Remedy.NEW_TIME),
        (error("BadDigest"), "BadDigest", OPERATOR, Remedy.SEND_AGAIN),
        (error("DOE^JANE", 403), "HTTP 403", OPERATOR, Remedy.GIVE_UP),
        (error("C" * 65, 403), "HTTP 403", OPERATOR, Remedy.GIVE_UP),
        (Response(502, {}, b"<html>bad gateway"), "HTTP 502", LATER, Remedy.TRY_LATER),
        (Response(301, {}, b""), "PermanentRedirect", OPERATOR, Remedy.GIVE_UP),
    ],
)
def test_a_failure_has_its_meaning(
    response: Response, code: str, status: Status, remedy: Remedy
) -> None:
    failed = answers.failure(response)
    assert (failed.code, failed.status, failed.remedy) == (code, status, remedy)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("", 0), ("-1", 0), ("1e9", 0), ("9" * 7, 0)]
)
def test_retry_after_is_believed_if_it_is_seconds(header: str, seconds: float) -> None:
    assert answers.failure(Response(503, {"retry-after": header}, b"")).retry_after == seconds


def test_an_entity_is_not_expanded() -> None:
    bomb = b"<!DOCTYPE a [<!ENTITY b 'SlowDown'>]><Error><Code>&b;</Code></Error>"
    assert answers.failure(Response(400, {}, bomb)).code == "HTTP 400"


@pytest.mark.parametrize("etag", [None, "", "a b", "a\r\nb", "é", "x" * 1025])
def test_a_receipt_needs_an_etag_that_can_be_repeated(etag: str | None) -> None:
    headers = {} if etag is None else {"etag": etag}
    with pytest.raises(AttemptFailed, match="BadResponse"):
        answers.accept_part(Response(200, headers, b""), 1, WHOLE)


def test_s3_s_own_checksum_of_the_bytes_has_to_be_ours() -> None:
    header = "x-amz-checksum-crc64nvme"
    for given_back in ({}, {header: WHOLE.base64}):
        answers.accept_object(Response(200, given_back, b""), WHOLE)
    with pytest.raises(AttemptFailed, match="WrongChecksum"):
        answers.accept_object(Response(200, {header: Checksum.crc64nvme(2).base64}, b""), WHOLE)


ACCEPT: list[Callable[[Response], object]] = [
    lambda response: answers.accept_object(response, WHOLE),
    lambda response: answers.accept_part(response, 1, WHOLE),
    lambda response: answers.accept_completed(response, WHOLE),
    answers.accept_upload_id,
    answers.accept_aborted,
]
NAMES = ["Error", "Code", "UploadId", "InitiateMultipartUploadResult", "!DOCTYPE", "a:b", "?xml"]
XML = st.lists(
    st.sampled_from([f"<{slash}{name}>" for name in NAMES for slash in ("", "/")]) | st.text()
).map(lambda parts: "".join(parts).encode(errors="surrogatepass"))


@given(
    st.sampled_from(ACCEPT),
    st.sampled_from([200, 204, 404, 503]) | st.integers(200, 999),
    st.dictionaries(
        st.sampled_from(["etag", "retry-after", "x-amz-checksum-crc64nvme"]), st.text()
    ),
    XML | st.binary(),
)
def test_any_response_is_accepted_or_a_failed_attempt(
    accept: Callable[[Response], object], status: int, headers: dict[str, str], body: bytes
) -> None:
    try:
        accept(Response(status, headers, body))
    except AttemptFailed as caught:
        failed = caught
    else:
        return
    assert len(failed.code) <= 64
    assert failed.code.isascii()
    assert failed.code.isprintable()
