"""Instances and manifests as objects of the DICOM bucket (see contract.keys for their names)."""

import contextlib
import time
from functools import partial
from typing import Self

import structlog

from contract.checksums import Checksum
from contract.keys import manifest_key
from contract.manifest import Manifest
from contract.metadata import Target, to_metadata
from contract.uids import uid_digest
from store_scp.batches import BatchLimits, Placement
from store_scp.clocks import ServerClock
from store_scp.crc import crc64
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Content, Instance
from store_scp.lease_store import DynamoLeases
from store_scp.metrics import Counter, Gauge
from store_scp.s3 import AlreadyExists, Endpoint, ObjectRequest, PartReceipt, S3Bucket
from store_scp.settings import Settings
from store_scp.sinks.clock_poll import ClockPoll
from store_scp.sinks.keeper import Keeper
from store_scp.sinks.sink import Kept, Meter, Stream

_log = structlog.get_logger()


class S3Sink:
    """The DICOM bucket, and the book of the batches that one worker is filling in it."""

    streams = False
    # Each request finds out for itself.
    trouble = None

    def __init__(
        self, bucket: S3Bucket, name: str, keeper: Keeper, seconds: float, clock_poll: ClockPoll
    ) -> None:
        """``seconds`` bounds each request with all its retries."""
        self._clock_poll = clock_poll
        self._bucket = bucket
        self._name = name
        self._keeper = keeper
        self._seconds = seconds

    @classmethod
    def open(
        cls, settings: Settings, name: str, endpoint: Endpoint, meter: Meter, clock: ServerClock
    ) -> Self:
        """A sink as the settings want it; asks S3 what time it is, in the background."""
        limits = BatchLimits(
            quiet_seconds=settings.batch_quiet_seconds,
            held_quiet_seconds=settings.batch_held_quiet_seconds,
            max_files=settings.batch_max_files,
            max_bytes=settings.batch_max_bytes,
            max_metadata_bytes=settings.batch_max_metadata_bytes,
            max_age_seconds=settings.batch_max_age_seconds,
            max_instance_bytes=settings.max_instance_bytes,
        )
        bucket = S3Bucket.open(
            endpoint,
            max_connections=settings.max_pool_connections,
            clock=clock,
            stats=_Stats(meter),
        )
        write = partial(_put_manifest, bucket, settings.dimse_timeout)
        leases = DynamoLeases(settings.batch_table, clock) if settings.batch_table else None
        keeper = Keeper(limits, write, meter, leases, settings.lease_seconds, clock)
        return cls(bucket, name, keeper, settings.dimse_timeout, ClockPoll(bucket, clock))

    def __str__(self) -> str:
        return f"s3://{self._name}"

    async def store(self, instance: Instance, content: Content) -> Kept:
        """PUT the instance into its batch; S3 has confirmed its checksum when this returns."""
        deadline = time.monotonic() + self._seconds
        await self._clock_poll.wait(self._seconds / 2)
        if await self._is_repeated(instance, content, deadline):
            return Kept.REPEATED
        while not await self._put(instance, content, deadline):
            pass  # recovery has taken the batch: once more, into a new one
        return Kept.NEW

    def stream(self, instance: Instance) -> Stream:  # noqa: ARG002
        """S3 wants to know a PUT's length beforehand."""
        raise StoreRefused(Status.PROCESSING_FAILURE, f"{self} takes no stream")

    async def begin(self, instance: Instance) -> "_MultipartObject":
        """A multipart upload, whose parts go out as they arrive.

        It is stored even if the same bytes are: what could be compared has gone out already. The
        import compares the two objects.
        """
        await self._clock_poll.wait(self._seconds / 2)
        placement = self._keeper.place(instance, None)
        try:
            await _expect_ours(self._keeper, placement, self._seconds)
            upload_id = await self._bucket.create_multipart(
                object_request(placement, None), seconds=self._seconds
            )
        except BaseException:
            self._keeper.failed(placement)
            raise
        return _MultipartObject(self._bucket, self._keeper, placement, upload_id, self._seconds)

    def association_ended(self, association_id: str) -> None:
        """Lets the association's batches close after the shorter quiet time."""
        self._keeper.association_ended(association_id)

    async def close(self, seconds: float) -> None:
        """Close all batches and write their manifests."""
        await self._keeper.close(seconds)
        self._clock_poll.close()
        await self._bucket.close()

    async def _is_repeated(self, instance: Instance, content: Content, deadline: float) -> bool:
        """Whether a batch that is still open has the same bytes, as S3 gives them back.

        Whatever prevents the comparison, the instance is stored, and the import compares.
        """
        size = len(content.body)
        for known in self._keeper.candidates(instance, size, content.checksum):
            seconds = (deadline - time.monotonic()) / 2  # the rest is for storing it
            try:
                same = await self._bucket.holds(known.key, content.body, seconds=seconds)
            except StoreRefused as refused:
                _log.warning(
                    "repeat_not_compared",
                    association_id=instance.sender.association_id,
                    sop_instance=uid_digest(known.sop_instance_uid),
                    why=refused.detail,
                )
                return False
            if same and self._keeper.repeated(instance, known):
                return True
        return False

    async def _put(self, instance: Instance, content: Content, deadline: float) -> bool:
        """PUT the instance into its batch; False if that turns out to be recovery's.

        The object is left where it is: if recovery listed it, it is in a manifest, and must not
        vanish; if not, the import sweeps it out.
        """
        checksum, size = content.checksum, len(content.body)
        placement = self._keeper.place(instance, size)
        durable = False
        try:
            request = object_request(placement, checksum)
            if await self._keeper.is_ours(placement, deadline - time.monotonic()):
                left = deadline - time.monotonic()
                await self._bucket.put(request, (content.body,), checksum, seconds=left)
                durable = await self._keeper.is_ours(placement, deadline - time.monotonic())
        finally:
            if not durable:
                self._keeper.failed(placement)
        if durable:
            self._keeper.stored(placement, size, checksum)
        return durable


class _MultipartObject:
    """One multipart upload: completed or aborted, whatever happens."""

    def __init__(
        self,
        bucket: S3Bucket,
        keeper: Keeper,
        placement: Placement,
        upload_id: str,
        seconds: float,
    ) -> None:
        self._bucket = bucket
        self._keeper = keeper
        self._placement = placement
        self._upload_id = upload_id
        self._seconds = seconds
        self._parts: list[PartReceipt] = []
        self._size = 0
        self._checksum = 0
        self._ended = False

    async def write(self, block: memoryview) -> None:
        """Upload the next part."""
        checksum = Checksum.crc64nvme(crc64(block))
        number = len(self._parts) + 1
        self._parts.append(
            await self._bucket.put_part(
                self._placement.key,
                self._upload_id,
                number,
                block,
                checksum,
                seconds=self._seconds,
            )
        )
        self._checksum = crc64(block, self._checksum)
        self._size += len(block)

    async def commit(self, last: memoryview) -> Kept:
        """Upload the last part and complete the upload."""
        try:
            await self.write(last)
            checksum = Checksum.crc64nvme(self._checksum)
            await _expect_ours(self._keeper, self._placement, self._seconds)
            await self._bucket.complete_multipart(
                self._placement.key,
                self._upload_id,
                self._parts,
                checksum,
                seconds=self._seconds,
            )
            await _expect_ours(self._keeper, self._placement, self._seconds)
        except BaseException:
            await self.discard()
            raise
        self._ended = True
        self._keeper.stored(self._placement, self._size, checksum)
        return Kept.NEW

    async def discard(self) -> None:
        """Abort the upload, so that no part of it is kept; the import ends what this cannot."""
        if self._ended:
            return
        self._ended = True
        self._keeper.failed(self._placement)
        with contextlib.suppress(StoreRefused):
            await self._bucket.abort_multipart(
                self._placement.key, self._upload_id, seconds=self._seconds
            )


class _Stats:
    """The client's requests, as the worker's panel counts them."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def uploading(self, delta: int) -> None:
        """Requests begin or end."""
        self._meter.adjust(Gauge.UPLOADS_IN_FLIGHT, delta)

    def uploaded(self, seconds: float, ok: bool) -> None:
        """One attempt is over."""
        self._meter.add(Counter.UPLOADS_OK if ok else Counter.UPLOADS_FAILED)
        if ok:
            self._meter.observe_upload(seconds)

    def retried(self) -> None:
        """One attempt more."""
        self._meter.add(Counter.UPLOADS_RETRIED)


async def _expect_ours(keeper: Keeper, placement: Placement, seconds: float) -> None:
    """For an object whose bytes are gone already: only the peer can send it anew."""
    if not await keeper.is_ours(placement, seconds):
        raise StoreRefused(Status.OUT_OF_RESOURCES, "recovery has the batch")


async def _put_manifest(bucket: S3Bucket, seconds: float, manifest: Manifest) -> None:
    body = manifest.to_json()
    request = ObjectRequest(manifest_key(manifest.batch_id), "application/json", {})
    # Where it exists, an earlier attempt of ours landed without our learning it, or recovery came
    # first, which has listed all that ours would.
    with contextlib.suppress(AlreadyExists):
        checksum = Checksum.crc64nvme(crc64(body))
        await bucket.put(request, (body,), checksum, seconds=seconds, if_none_match=True)


def object_request(placement: Placement, checksum: Checksum | None) -> ObjectRequest:
    """An instance's object: its name, and the metadata that its manifest can be rebuilt from."""
    instance, route = placement.instance, placement.instance.route
    key = instance.key(placement.batch_id)
    metadata = to_metadata(
        key,
        instance.header.sop_class_uid,
        instance.transfer_syntax_uid,
        instance.header.study_date,
        checksum,
        instance.sender,
        Target("study" if route.by_study else "mixed", route.datastore_id, route.urgent),
    )
    return ObjectRequest(str(key), "application/dicom", metadata)
