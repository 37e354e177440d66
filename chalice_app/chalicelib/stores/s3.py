"""Objects in Amazon S3."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ObjectDenied, ObjectMissing, ObjectTooLarge

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
# A HEAD's answer has no body, and so no code but its status. KMS's refusals of a caller are
# AccessDenied, too. InvalidRequest is the answer to a GET or a copy of an object that is encrypted
# with a key of the customer's (SSE-C).
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "Forbidden",
        "InvalidObjectState",
        "InvalidRequest",
        "KMS.DisabledException",
        "KMS.KMSInvalidStateException",
        "KMS.NotFoundException",
        "ObjectNotInActiveTierError",
    }
)


@contextmanager
def object_errors() -> Iterator[None]:
    """Raises ObjectMissing, ObjectDenied and ServiceUnavailable; lets every other error pass."""
    try:
        with mapped_errors():
            yield
    except ClientError as error:
        if error_code(error) in _MISSING:
            raise ObjectMissing("the object does not exist") from error
        if error_code(error) in DENIED:
            raise ObjectDenied(f"{error.operation_name}: {error_code(error)}") from error
        raise


class S3Objects:
    """An ObjectStore."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """See ObjectStore."""
        with object_errors():
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                if answer["ContentLength"] > max_bytes:
                    raise ObjectTooLarge(f"the object is larger than {max_bytes} bytes")
                return body.read()

    def metadata_of(self, bucket: str, key: str) -> Mapping[str, str]:
        """See ObjectStore."""
        with object_errors():
            return self._client.head_object(Bucket=bucket, Key=key)["Metadata"]

    def move(self, bucket: str, key: str, target: str, metadata: Mapping[str, str]) -> None:
        """See ObjectStore."""
        with object_errors():
            self._client.copy_object(
                Bucket=bucket,
                Key=target,
                CopySource={"Bucket": bucket, "Key": key},
                MetadataDirective="REPLACE",
                Metadata=dict(metadata),
            )
            self._client.delete_object(Bucket=bucket, Key=key)
