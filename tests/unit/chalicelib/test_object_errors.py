"""What an error of S3's says of the one object that was asked for."""

from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from chalicelib.errors import ObjectChanged, ObjectDenied, ObjectMissing, ServiceUnavailable
from chalicelib.stores.files import StoredObject
from chalicelib.stores.s3 import object_errors
from chalicelib.stores.s3_files import S3Files

from tests.unit.chalicelib.builders import NOW

ERRORS = {
    "404": (404, ObjectMissing),
    "NoSuchKey": (404, ObjectMissing),
    "InvalidRequest": (400, ObjectDenied),  # encrypted with a key that the request has to bring
    "403": (403, ObjectDenied),
    "AccessDenied": (403, ObjectDenied),
    "InvalidObjectState": (403, ObjectDenied),
    "KMS.DisabledException": (400, ObjectDenied),
    "KMS.NotFoundException": (400, ObjectDenied),
    "KMS.KMSInvalidStateException": (400, ObjectDenied),
    "KMS.ThrottlingException": (400, ServiceUnavailable),
    "SlowDown": (503, ServiceUnavailable),
    "NoSuchBucket": (404, ClientError),
    "InvalidTag": (400, ObjectDenied),
    "412": (412, ObjectChanged),
    "PreconditionFailed": (412, ObjectChanged),
    "400": (400, ClientError),  # a HEAD's, which is asked about: see below
}
# What a GET says where a HEAD has said 400.
BEHIND_400 = {
    "InvalidRequest": (400, ObjectDenied),
    "KMS.DisabledException": (400, ObjectDenied),
    "AccessDenied": (403, ObjectDenied),
    "NoSuchKey": (404, ObjectMissing),
    "KMS.ThrottlingException": (400, ServiceUnavailable),
    "InvalidRange": (416, ServiceUnavailable),  # an object of no bytes
    "MethodNotAllowed": (405, ObjectDenied),  # as any 4xx that nobody has met yet
    None: (206, ServiceUnavailable),  # it has passed
}


@pytest.mark.fault("object-denied")
@pytest.mark.parametrize(("code", "status", "kind"), [(k, *v) for k, v in ERRORS.items()])
def test_each_code_of_s3_is_missing_denied_or_transient(
    code: str, status: int, kind: type[Exception]
) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind), object_errors():
        raise ClientError(answer, "HeadObject")


@pytest.mark.fault("object-denied")
@pytest.mark.parametrize(("code", "status", "kind"), [(k, *v) for k, v in BEHIND_400.items()])
@pytest.mark.parametrize("asked", ["a HEAD", "a copy in parts"])
def test_a_head_without_a_code_is_explained_by_a_get(
    code: str | None,
    status: int,
    kind: type[Exception],
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Taken for a denial, a throttled KMS key would leave an instance out of its batch for good."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client = boto3.client("s3", region_name="us-east-1")
    with Stubber(client) as answers:
        answers.add_client_error("head_object", "400", http_status_code=400)
        if code is None:
            body, byte = {"Body": StreamingBody(BytesIO(b"x"), 1)}, {"Range": "bytes=0-0"}
            answers.add_response("get_object", body, {"Bucket": "dicom", "Key": "a", **byte})
        else:
            answers.add_client_error("get_object", code, http_status_code=status)
        files = S3Files(client, "dicom", whole_copy_bytes=1)
        large = StoredObject("a", 2, '"etag"', NOW)
        asks: dict[str, Any] = {
            "a HEAD": lambda: files.head("a"),
            "a copy in parts": lambda: files.copy(large, "b", {}),
        }
        with pytest.raises(kind):
            asks[asked]()
        answers.assert_no_pending_responses()
