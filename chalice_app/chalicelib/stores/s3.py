"""Objects in Amazon S3."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ObjectChanged, ObjectDenied, ObjectMissing, ObjectTooLarge

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A HEAD's answer has no body, and so no code but its status.
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
# These say something of the request or the bucket, and nothing of the object. A 400 without a code
# is a HEAD's; S3Files asks on.
_NOT_OF_THE_OBJECT = frozenset({"400", "416", "InvalidRange", "NoSuchBucket", "NoSuchUpload"})
_CLIENT_ERRORS = range(400, 500)


@contextmanager
def object_errors() -> Iterator[None]:
    """Raises ObjectMissing, ObjectChanged, ObjectDenied and ServiceUnavailable.

    Every 4xx that says something of the object is a denial, also one that nobody has met yet: an
    archived object, one encrypted with a customer's key (SSE-C is InvalidRequest) or a KMS key that
    is disabled, one of another owner, one whose tags may not be copied. Somebody can change that,
    and the same call again cannot. Lets every other error pass.
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    try:
        with mapped_errors():
            yield
    except ClientError as error:
        if error_code(error) in _MISSING:
            raise ObjectMissing("the object does not exist") from error
        if error_code(error) in _CHANGED:
            raise ObjectChanged("the object was replaced meanwhile") from error
        if _is_refusal(error):
            raise ObjectDenied(f"{error.operation_name}: {error_code(error)}") from error
        raise


def _is_refusal(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _CLIENT_ERRORS and error_code(error) not in _NOT_OF_THE_OBJECT


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
            etag = self._client.head_object(Bucket=bucket, Key=key)["ETag"]
            self._client.copy_object(
                Bucket=bucket,
                Key=target,
                CopySource={"Bucket": bucket, "Key": key},
                CopySourceIfMatch=etag,
                MetadataDirective="REPLACE",
                Metadata=dict(metadata),
                TaggingDirective="REPLACE",
            )
            self._client.delete_object(Bucket=bucket, Key=key, IfMatch=etag)
