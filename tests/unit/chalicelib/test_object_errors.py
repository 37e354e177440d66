"""What an error of S3's says of the one object that was asked for."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from chalicelib.errors import ObjectDenied, ObjectMissing, ServiceUnavailable
from chalicelib.stores.s3 import object_errors

ERRORS = {
    "404": (404, ObjectMissing),
    "NoSuchKey": (404, ObjectMissing),
    "400": (400, ObjectDenied),  # a HEAD of what was encrypted with its owner's key
    "403": (403, ObjectDenied),
    "AccessDenied": (403, ObjectDenied),
    "InvalidObjectState": (403, ObjectDenied),
    "KMS.DisabledException": (400, ObjectDenied),
    "KMS.NotFoundException": (400, ObjectDenied),
    "KMS.KMSInvalidStateException": (400, ObjectDenied),
    "KMS.ThrottlingException": (400, ServiceUnavailable),
    "SlowDown": (503, ServiceUnavailable),
    "NoSuchBucket": (404, ClientError),
}


@pytest.mark.fault("object-denied")
@pytest.mark.parametrize(("code", "status", "kind"), [(k, *v) for k, v in ERRORS.items()])
def test_each_code_of_s3_is_missing_denied_or_transient(
    code: str, status: int, kind: type[Exception]
) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind), object_errors():
        raise ClientError(answer, "HeadObject")
