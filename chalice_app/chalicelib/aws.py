"""AWS clients, made on first use and kept; and botocore's errors turned into the product's.

Nothing here runs at import: Chalice imports the app on the machine that packages it. boto3 itself
honours AWS_ENDPOINT_URL and AWS_DEFAULT_REGION; AWS_REGION is contract.regions' matter.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name, not a subclass of the built-in
    HTTPClientError,
    IncompleteReadError,
)

from chalicelib.errors import ServiceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_medical_imaging import HealthImagingClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

    from chalicelib.events.bus import EventsClient

_CONNECT_SECONDS, _READ_SECONDS = 3, 20
_ATTEMPTS = 5
# Step Functions paces the starts of import jobs: every further attempt here would be a call that no
# state's Retry knows of, against a limit of one a second; and a second start whose first had no
# answer, which nobody knew of.
_START_ATTEMPTS = 1

# What AWS says of itself or of the moment, whatever its HTTP status. S3 has the codes of 409 and of
# its KMS key, DynamoDB those of transactions; most others are botocore's own list.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "KMS.ThrottlingException",
        "KMSThrottlingException",
        "LimitExceededException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_SERVER_ERROR = 500
# boto3.client() is not safe to call from two threads at once; the clients it makes are.
_making = threading.Lock()


def _client(service: Any, attempts: int = _ATTEMPTS) -> Any:
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    with _making:
        return boto3.client(service, config=config)


@functools.cache
def s3() -> "S3Client":
    """Amazon S3."""
    return _client("s3")  # type: ignore[no-any-return]


@functools.cache
def sqs() -> "SQSClient":
    """Amazon SQS."""
    return _client("sqs")  # type: ignore[no-any-return]


@functools.cache
def dynamodb() -> "DynamoDBClient":
    """Amazon DynamoDB."""
    return _client("dynamodb")  # type: ignore[no-any-return]


@functools.cache
def stepfunctions() -> "SFNClient":
    """AWS Step Functions."""
    return _client("stepfunctions")  # type: ignore[no-any-return]


@functools.cache
def healthimaging() -> "HealthImagingClient":
    """AWS HealthImaging, for all but starts: what only asks may be sent again."""
    return _client("medical-imaging")  # type: ignore[no-any-return]


@functools.cache
def healthimaging_starts() -> "HealthImagingClient":
    """The same for StartDICOMImportJob: each request is sent once."""
    return _client("medical-imaging", _START_ATTEMPTS)  # type: ignore[no-any-return]


@functools.cache
def events() -> "EventsClient":
    """Amazon EventBridge."""
    return _client("events")  # type: ignore[no-any-return]


def forget_clients() -> None:
    """Make new clients on next use; for a process whose environment was changed."""
    factories = (s3, sqs, dynamodb, stepfunctions, healthimaging, healthimaging_starts, events)
    for factory in factories:
        factory.cache_clear()


def error_code(error: ClientError) -> str:
    """AWS's code of an error: ``ThrottlingException``, ``NoSuchKey`` ..."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Raises ServiceUnavailable for what may work later; lets every other error pass."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= _SERVER_ERROR or error_code(error) in _TRANSIENT:
            raise ServiceUnavailable(
                f"{error.operation_name} failed: {error_code(error)}"
            ) from error
        raise
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise ServiceUnavailable(f"AWS could not be reached: {type(error).__name__}") from error
