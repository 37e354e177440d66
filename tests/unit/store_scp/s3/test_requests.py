import hashlib

import pytest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.requests import (
    ObjectRequest,
    PartReceipt,
    abort_multipart_upload,
    complete_multipart_upload,
    put_object,
    upload_part,
)

from contract.checksums import Checksum

ENDPOINT = Endpoint("h", 80, None, "h:80", "/bucket/", "eu-west-1")
KEYS = ReadOnlyCredentials("AKID", "secret", None)
WHOLE = Checksum.crc64nvme(0xAE8B14860A799888)


def test_a_crc64nvme_is_written_as_s3_does() -> None:
    assert str(WHOLE) == "CRC64NVME:rosUhgp5mIg="
    assert Checksum.parse(str(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    ("content_type", "metadata"),
    [
        ("application/dicom", {"ae": "A\r\nx-amz-acl: public-read"}),
        ("application/dicom", {"ae: x\r\ny": "A"}),
        ("application/dicom", {"": "A"}),
        ("application/dicom", {"AE": "A"}),
        ("application/dicom", {"ae": "Ä"}),
        ("application/dicom", {"ae": "\x00"}),
        ("text/plain\n", {}),
    ],
)
def test_nothing_can_add_a_header_of_its_own(content_type: str, metadata: dict[str, str]) -> None:
    with pytest.raises(StoreRefused) as caught:
        ObjectRequest("key", content_type, metadata)
    assert caught.value.status is Status.PROCESSING_FAILURE
    assert caught.value.detail == "InvalidMetadata"


@given(st.dictionaries(st.text(), st.text()), st.text(st.characters(codec="utf-8")))
def test_any_metadata_and_key_make_one_head_or_none(metadata: dict[str, str], key: str) -> None:
    try:
        wanted = ObjectRequest(key, "application/dicom", metadata)
    except StoreRefused:
        return
    request = put_object(wanted, [b"12", memoryview(b"345")], WHOLE, if_none_match=False)
    first, *lines = request.head(ENDPOINT, KEYS, "20261125T000000Z").decode().split("\r\n")
    assert first.startswith("PUT /bucket/")
    assert first.count(" ") == 2
    assert lines[-3:] == ["content-length: 5", "", ""]
    # Host, type, checksum, payload's hash, date, signature, length; and the two at the end.
    assert len(lines) == len(metadata) + 9


def test_an_upload_s_id_cannot_leave_its_parameter() -> None:
    part = upload_part("k", "a&b=c d/+", 2, memoryview(b"1"), WHOLE)
    head = part.head(ENDPOINT, KEYS, "20261125T000000Z")
    assert head.startswith(b"PUT /bucket/k?partNumber=2&uploadId=a%26b%3Dc%20d%2F%2B HTTP/1.1\r\n")


def test_parts_are_listed_in_order_and_escaped() -> None:
    receipts = [PartReceipt(2, "<e>", WHOLE), PartReceipt(1, '"1"', WHOLE)]
    request = complete_multipart_upload("k", "u", receipts, WHOLE)
    (body,) = request.body
    first, second = bytes(body).split(b"</Part>")[:2]
    assert b"<PartNumber>1</PartNumber>" in first
    assert b"<ETag>&lt;e&gt;</ETag><PartNumber>2</PartNumber>" in second
    assert b"<ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME>" in first
    assert request.payload == hashlib.sha256(body).hexdigest()


def test_a_request_without_a_body_says_so() -> None:
    head = abort_multipart_upload("k", "u").head(ENDPOINT, KEYS, "20261125T000000Z")
    assert head.startswith(b"DELETE /bucket/k?uploadId=u HTTP/1.1\r\n")
    assert b"\r\ncontent-length: 0\r\n" in head
