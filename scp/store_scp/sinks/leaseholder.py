"""Takes and renews the leases of the batches that one worker fills; answers whose a batch is.

The shell around :class:`store_scp.leases.Lease`: it has the clocks and one task for each lease.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from contract.records import BatchRecord, BatchState, Counts
from store_scp.batches import Placement
from store_scp.clocks import ServerClock, clock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.lease_store import LeaseStore
from store_scp.leases import Lease, Standing
from store_scp.logs import describe


async def sleep_until(moment: float, woken: asyncio.Event) -> None:
    """Return when the clock says so, or once ``woken`` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, moment - clock())):
            await woken.wait()


@dataclass(slots=True)
class _Held:
    """A lease, the task that renews it, and the events between that task and those who wait."""

    lease: Lease
    task: "asyncio.Task[None] | None" = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)


class Leaseholder:
    """Holds leases for a worker; without a store, every lease is endless."""

    def __init__(
        self,
        store: LeaseStore | None,
        seconds: float,
        on_lost: Callable[[str], None],
        server_clock: ServerClock,
    ) -> None:
        """``on_lost`` hears of a batch that is recovery's, before anyone who waits for it does.

        Records get ``server_clock``'s time.
        """
        self._store = store
        self._server_clock = server_clock
        self._seconds = seconds
        self._on_lost = on_lost
        # No process before or beside this one has this name.
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._held: dict[str, _Held] = {}

    def hold(self, placement: Placement) -> None:
        """Begin to take the lease of the batch that an instance was placed in, if it is new."""
        batch_id = placement.batch_id
        if batch_id in self._held:
            return
        if self._store is None:
            self._held[batch_id] = _Held(Lease.endless())
            return
        held = self._held[batch_id] = _Held(Lease(self._seconds))
        keeping = self._keep(self._store, self._opening(placement), held)
        held.task = asyncio.get_running_loop().create_task(keeping)

    async def is_ours(self, batch_id: str, seconds: float) -> bool:
        """Whether a batch is ours at the moment of the call; False: it is recovery's.

        Waits so many seconds for an answer, where it needs one; raises StoreRefused without.
        """
        moment = clock()
        held = self._held[batch_id]
        if self._standing(held, moment) is Standing.UNKNOWN:
            try:
                async with asyncio.timeout(seconds):
                    await self._known(held, moment)
            except TimeoutError:
                raise StoreRefused(Status.OUT_OF_RESOURCES, "lease: Timeout") from None
        return self._standing(held, moment) is Standing.OURS

    def keep_only(self, batch_ids: Collection[str]) -> None:
        """Let all other leases run out."""
        for batch_id in self._held.keys() - set(batch_ids):
            task = self._held.pop(batch_id).task
            if task:
                task.cancel()

    def close(self) -> None:
        """Let all leases run out; nothing is held after this."""
        self.keep_only(())
        if self._store:
            self._store.close()

    def _standing(self, held: _Held, moment: float) -> Standing:
        """Whose the batch was at that moment, by what the answers so far say of AWS's time then."""
        return held.lease.standing(moment, self._latest() - (clock() - moment))

    async def _known(self, held: _Held, moment: float) -> None:
        """Wait until it is known whose the batch was; raises StoreRefused while nothing answers."""
        while self._standing(held, moment) is Standing.UNKNOWN:
            if held.lease.failure is not None:
                raise StoreRefused(Status.OUT_OF_RESOURCES, held.lease.failure)
            held.lease = held.lease.hurried(clock())
            held.hurried.set()
            await held.answered.wait()

    def _latest(self) -> float:
        """The latest that AWS's time can be now, in seconds since 1970."""
        return self._server_clock.latest().timestamp()

    def _end(self) -> datetime:
        """Of a lease that is written now."""
        return self._server_clock.latest() + timedelta(seconds=self._seconds)

    def _opening(self, placement: Placement) -> BatchRecord:
        sender, route = placement.instance.sender, placement.instance.route
        return BatchRecord(
            batch_id=placement.batch_id,
            state=BatchState.OPEN,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            opened_at=self._server_clock.now(),
            counts=Counts(0),
            datastore_id=route.datastore_id,
            urgent=route.urgent,
            owner=self._owner,
        )

    async def _keep(self, store: LeaseStore, batch: BatchRecord, held: _Held) -> None:
        """Take the lease and renew it, until it is lost or nobody needs it."""
        taken = False
        while not held.lease.lost:
            await _due(held)
            # Our own clock first: a stall between the two makes the record's lease the longer one.
            asked_at = clock()
            request = store.renew if taken else store.take
            try:
                ends_at = await request(batch, self._end)
            except StoreRefused as refused:
                held.lease = held.lease.unanswered(clock(), refused.detail)
            except Exception as error:  # noqa: BLE001 - or nobody would ever ask again
                held.lease = held.lease.unanswered(clock(), f"lease: {describe(error)}")
            else:
                taken = True
                held.lease = (
                    held.lease.denied()
                    if ends_at is None
                    else held.lease.granted(asked_at, ends_at.timestamp(), clock(), self._latest())
                )
            if held.lease.lost:
                self._on_lost(batch.batch_id)
            held.answered.set()
            held.answered.clear()


async def _due(held: _Held) -> None:
    """Wait until the lease is to be taken or renewed."""
    while clock() < held.lease.renews_at:
        held.hurried.clear()
        await sleep_until(held.lease.renews_at, held.hurried)
