"""Instances and manifests as objects of the DICOM bucket (see contract.keys for their names)."""

import functools
from typing import TYPE_CHECKING, Self

import boto3
import botocore.exceptions as aws
from botocore.config import Config

from contract.keys import manifest_key
from contract.manifest import Manifest
from contract.metadata import to_metadata
from store_scp.batches import BatchLimits, Placement
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Instance
from store_scp.settings import Settings
from store_scp.sinks.keeper import Keeper

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# One try and two retries. botocore's standard mode waits at most 1 s and 2 s between them.
_ATTEMPTS = 3
_BACKOFF_SECONDS = 3.0

_HTTP_TOO_MANY_REQUESTS = 429
_HTTP_SERVER_ERROR = 500
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"})
# The manifest is there: an earlier attempt of ours landed without our learning it.
_ALREADY_WRITTEN = "PreconditionFailed"


@functools.cache
def s3_client(max_pool_connections: int, seconds: float) -> "S3Client":
    """A client whose PUTs end, well or badly, within ``seconds`` of silence from S3."""
    attempt = (seconds - _BACKOFF_SECONDS) / _ATTEMPTS
    config = Config(
        max_pool_connections=max_pool_connections,
        connect_timeout=attempt / 4,
        read_timeout=attempt * 3 / 4,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        tcp_keepalive=True,
    )
    return boto3.client("s3", config=config)


class S3Sink:
    """The DICOM bucket, and the book of the batches that are being filled in it."""

    def __init__(self, client: "S3Client", bucket: str, limits: BatchLimits) -> None:
        self._client = client
        self._bucket = bucket
        self._keeper = Keeper(limits, self._put_manifest)

    @classmethod
    def open(cls, settings: Settings, bucket: str) -> Self:
        """A sink as the settings want it; does not ask S3 anything yet."""
        limits = BatchLimits(
            by_study=settings.batch_by == "study",
            quiet_seconds=settings.batch_quiet_seconds,
            held_quiet_seconds=settings.batch_held_quiet_seconds,
            max_files=settings.batch_max_files,
            max_bytes=settings.batch_max_bytes,
            max_age_seconds=settings.batch_max_age_seconds,
        )
        client = s3_client(settings.max_pool_connections, settings.dimse_timeout)
        return cls(client, bucket, limits)

    def __str__(self) -> str:
        return f"s3://{self._bucket}"

    def store(self, instance: Instance) -> None:
        """PUT the instance into its batch; S3 has confirmed its SHA-256 when this returns."""
        placement = self._keeper.place(instance)
        if placement.already_stored:
            return
        try:
            self._put_instance(placement, instance)
        except BaseException:
            self._keeper.failed(placement)
            raise
        self._keeper.stored(placement)

    def association_ended(self, association_id: str) -> None:
        """Lets the association's batches close after the shorter quiet time."""
        self._keeper.association_ended(association_id)

    def close(self, seconds: float) -> None:
        """Close all batches and write their manifests."""
        self._keeper.close(seconds)

    def _put_instance(self, placement: Placement, instance: Instance) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=placement.entry.key,
                Body=b"".join((instance.file_meta, instance.data_set)),
                ContentType="application/dicom",
                ChecksumSHA256=instance.checksum.base64,
                Metadata=to_metadata(placement.entry, instance.sender),
            )
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise _refused(error) from None

    def _put_manifest(self, manifest: Manifest) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=manifest_key(manifest.batch_id),
                Body=manifest.to_json(),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except (aws.ClientError, aws.BotoCoreError) as error:
            refused = _refused(error)
            if refused.detail != _ALREADY_WRITTEN:
                raise refused from None


def _refused(error: aws.ClientError | aws.BotoCoreError) -> StoreRefused:
    """S3's refusals by whom they concern: A700 says try later, 0110 wants an operator."""
    if isinstance(error, aws.ClientError):
        code = error.response["Error"].get("Code", "")
        http = error.response["ResponseMetadata"]["HTTPStatusCode"]
        busy = http >= _HTTP_SERVER_ERROR or http == _HTTP_TOO_MANY_REQUESTS or code in _BUSY_CODES
    else:
        code = type(error).__name__
        busy = isinstance(error, (aws.ConnectionError, aws.HTTPClientError))
    return StoreRefused(Status.OUT_OF_RESOURCES if busy else Status.PROCESSING_FAILURE, code)
