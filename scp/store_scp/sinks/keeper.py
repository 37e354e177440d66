"""Closes batches when they are due and sees to it that their manifests are written.

The shell around :class:`store_scp.batches.BatchBook`: it has the clocks, chance and the timer.
Everything here runs in one event loop.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable

import structlog

from contract.checksums import Checksum
from contract.keys import BATCH_ENTROPY_BYTES, new_batch_id
from contract.manifest import Manifest, ManifestInstance
from store_scp.batches import BatchBook, BatchLimits, Placement
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Instance
from store_scp.lease_store import LeaseStore
from store_scp.logs import describe
from store_scp.metrics import Counter, Gauge
from store_scp.sinks.leaseholder import Leaseholder
from store_scp.sinks.sink import Meter

# Seconds between two attempts at one manifest: doubled each time, from the first to the last.
_FIRST_RETRY = 1.0
_LAST_RETRY = 30.0

_log = structlog.get_logger()


class Keeper:
    """A batch book that a worker's associations share; ``write`` puts a manifest into the sink."""

    def __init__(
        self,
        limits: BatchLimits,
        write: Callable[[Manifest], Awaitable[None]],
        meter: Meter,
        leases: LeaseStore | None,
        lease_seconds: float,
        clock: ServerClock,
    ) -> None:
        """Without ``leases``, nobody recovers batches, and all are this worker's for good.

        Batch ids, records and manifests get ``clock``'s time.
        """
        self._book = BatchBook(limits, self._new_batch_id)
        self._clock = clock
        self._write = write
        self._meter = meter
        self._leases = Leaseholder(leases, lease_seconds, self._lost, clock)
        self._lease_seconds = lease_seconds
        # Failed attempts at the manifest of each batch that is closed.
        self._attempts: dict[str, int] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._closed = False
        self._empty = asyncio.Event()

    def candidates(
        self, instance: Instance, size: int, checksum: Checksum
    ) -> list[ManifestInstance]:
        """What may be the same bytes, durable and in a batch that is still open."""
        return self._book.candidates(instance, size, checksum)

    def repeated(self, instance: Instance, known: ManifestInstance) -> bool:
        """The bytes of ``known`` came again; False if its batch is not open any more."""
        return self._book.repeated(instance, known, time.monotonic())

    def place(self, instance: Instance, size: int | None) -> Placement:
        """Reserve a place; ``stored`` or ``failed`` must follow."""
        if self._closed:
            raise StoreRefused(Status.OUT_OF_RESOURCES, "shutting down")
        placement = self._book.place(instance, time.monotonic(), size)
        self._leases.hold(placement)
        self._meter.gauge(Gauge.BATCHES_OPEN, self._book.open_batches)
        return placement

    async def is_ours(self, placement: Placement, seconds: float) -> bool:
        """Whether the placement's batch is ours at the moment of the call; False: recovery's.

        To be asked before anything is written, so that no object is without a record, and again
        once it is durable and before ``stored``. Raises StoreRefused if it cannot be known within
        so many seconds.
        """
        return await self._leases.is_ours(placement.batch_id, seconds)

    def stored(self, placement: Placement, size: int, checksum: Checksum) -> None:
        """The placed instance is durable."""
        self._wake_at(self._book.stored(placement, time.monotonic(), size, checksum))

    def failed(self, placement: Placement) -> None:
        """The placed instance is not known to be durable."""
        self._wake_at(self._book.failed(placement, time.monotonic()))

    def association_ended(self, association_id: str) -> None:
        """The association holds its batches no longer."""
        self._book.association_ended(association_id)
        self._wake_at(self._book.next_due())

    async def close(self, seconds: float) -> None:
        """Close every batch and write every manifest, in so many seconds; log what is left."""
        self._closed = True
        self._book.close_all()
        self._look()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            for batch_id in self._book.unwritten():
                _log.error("manifest_not_written", batch_id=batch_id)
        if self._timer:
            self._timer.cancel()
        for each in self._deliveries:
            each.cancel()
        self._leases.close()

    def _wake_at(self, moment: float) -> None:
        """Look again at that moment of the monotonic clock, or before."""
        if moment >= self._wakes_at:
            return
        if self._timer:
            self._timer.cancel()
        self._wakes_at = moment
        pause = max(0.0, moment - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Close what is due, and hand every manifest that is due to a task of its own."""
        self._wakes_at = math.inf
        for manifest in self._book.due(time.monotonic(), self._clock.now()):
            if manifest.batch_id not in self._attempts:  # else it was closed before
                self._meter.add(Counter.BATCHES_CLOSED)
                self._attempts[manifest.batch_id] = 0
            delivery = asyncio.get_running_loop().create_task(self._deliver(manifest))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        self._leases.keep_only(self._book.unwritten())
        self._meter.gauge(Gauge.BATCHES_OPEN, self._book.open_batches)
        if self._closed and self._book.is_empty:
            self._empty.set()
        self._wake_at(self._book.next_due())

    async def _deliver(self, manifest: Manifest) -> None:
        try:
            # Recovery's manifest and ours would list the same acknowledged instances, but it may
            # have split the batch: what is its is left to it.
            if not await self._leases.is_ours(manifest.batch_id, self._lease_seconds):
                return
            await self._write(manifest)
        except StoreRefused as refused:
            self._postpone(manifest, refused.detail)
        except Exception as error:  # noqa: BLE001 - a batch without a manifest is never imported
            self._postpone(manifest, describe(error))
        else:
            self._written(manifest)

    def _lost(self, batch_id: str) -> None:
        _log.warning("batch_lost", batch_id=batch_id)
        self._attempts.pop(batch_id, None)
        self._wake_at(self._book.lost(batch_id))

    def _written(self, manifest: Manifest) -> None:
        self._book.manifest_written(manifest.batch_id)
        self._attempts.pop(manifest.batch_id, None)
        self._meter.add(Counter.MANIFESTS_WRITTEN)
        _log.info(
            "batch_closed",
            batch_id=manifest.batch_id,
            reason=manifest.close_reason,
            instances=len(manifest.instances),
            bytes=sum(each.size for each in manifest.instances),
        )
        self._look()

    def _postpone(self, manifest: Manifest, why: str) -> None:
        if manifest.batch_id not in self._attempts:
            return  # it was lost meanwhile
        pause = min(_FIRST_RETRY * 2 ** self._attempts[manifest.batch_id], _LAST_RETRY)
        self._attempts[manifest.batch_id] += 1
        moment = time.monotonic() + pause
        self._book.manifest_failed(manifest.batch_id, moment)
        _log.warning("manifest_postponed", batch_id=manifest.batch_id, seconds=pause, why=why)
        self._wake_at(moment)

    def _new_batch_id(self) -> str:
        return new_batch_id(self._clock.now(), os.urandom(BATCH_ENTROPY_BYTES))
