"""The leaseholder by clocks that a test moves, over a table whose answers say the true time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest
from store_scp.batches import BatchBook, Placement
from store_scp.clocks import ServerClock
from store_scp.sinks import leaseholder
from store_scp.sinks.leaseholder import Leaseholder

from contract.records import BatchRecord
from tests.unit.store_scp.builders import LIMITS, instance
from tests.unit.store_scp.test_clocks import HOUR, Machine

LEASE = timedelta(seconds=300)
GRACE = timedelta(seconds=120)
MINUTES = 600.0


@dataclass
class Table:
    """A LeaseStore in which recovery may come for what is over by the true time."""

    machine: Machine
    clock: ServerClock
    ends: list[datetime] = field(default_factory=list)
    recovery_is_quick: bool = False
    taken_by_recovery: bool = False

    async def take(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        return await self._write(end)

    async def renew(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        return await self._write(end)

    def close(self) -> None:
        """Nothing to do."""

    async def _write(self, end: Callable[[], datetime]) -> datetime | None:
        if self.taken_by_recovery:
            return None
        ends_at = end()
        self.ends.append(ends_at)
        if self.recovery_is_quick:
            self.recover()
        self.machine.answer(self.clock, always=True)
        await asyncio.sleep(0)
        return ends_at

    def recover(self) -> None:
        """Recovery, as it runs each minute."""
        if self.ends[-1] + GRACE <= self.machine.now():
            self.taken_by_recovery = True

    @property
    def left(self) -> timedelta:
        """Of the lease in the record."""
        return self.ends[-1] - self.machine.now()


@dataclass
class Bench:
    machine: Machine
    clock: ServerClock
    table: Table
    holder: Leaseholder
    lost: list[str]

    def hold(self) -> Placement:
        batch_ids = iter(("20261123T093000Z-0001020304050607",))
        placement = BatchBook(LIMITS, lambda: next(batch_ids)).place(instance("1.1"), 0.0, 1)
        self.holder.hold(placement)
        return placement


@asynccontextmanager
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    machine = Machine(up=1_000.0)
    clock = machine.clock()
    monkeypatch.setattr(leaseholder, "clock", machine.steady)
    table, lost = Table(machine, clock), list[str]()
    holder = Leaseholder(table, LEASE.total_seconds(), lost.append, clock)
    async with asyncio.timeout(20):
        yield Bench(machine, clock, table, holder, lost)
    holder.close()


def stopped(on: Bench) -> None:
    """S3 has said the time; then the machine is stopped, which the steady clock misses."""
    on.machine.answer(on.clock)
    on.machine.missed = MINUTES


def told_wrong(on: Bench) -> None:
    """S3's first answer is an hour slow."""
    date = format_datetime(on.machine.now() - timedelta(seconds=HOUR), usegmt=True)
    on.clock.answered(date, on.clock.steady())


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("before", [stopped, told_wrong])
def test_no_batch_is_ours_by_a_record_that_is_over(
    before: Callable[[Bench], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with bench(monkeypatch) as on:
            before(on)
            placement = on.hold()
            assert await on.holder.is_ours(placement.batch_id, 10)
            assert len(on.table.ends) == 2
            assert LEASE - timedelta(seconds=5) <= on.table.left < LEASE + timedelta(seconds=5)
            on.table.recover()
            assert not on.table.taken_by_recovery

    asyncio.run(scene())


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("before", [stopped, told_wrong])
def test_a_batch_that_recovery_has_right_after_it_was_taken_is_not_ours(
    before: Callable[[Bench], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with bench(monkeypatch) as on:
            before(on)
            on.table.recovery_is_quick = True
            placement = on.hold()
            assert not await on.holder.is_ours(placement.batch_id, 10)
            assert on.table.taken_by_recovery
            assert on.lost == [placement.batch_id]

    asyncio.run(scene())


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("recovered", [False, True])
def test_a_lease_that_is_held_is_renewed_before_it_counts_again_once_an_answer_shows_a_stop(
    recovered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with bench(monkeypatch) as on:
            placement = on.hold()
            assert await on.holder.is_ours(placement.batch_id, 10)
            assert len(on.table.ends) == 1
            on.machine.up += 2
            on.machine.missed = MINUTES
            if recovered:
                on.table.recover()
            # A PUT's, which was stored after the stop.
            on.machine.answer(on.clock)
            assert await on.holder.is_ours(placement.batch_id, 10) is not recovered
            if not recovered:
                assert len(on.table.ends) == 2
                assert on.table.left >= LEASE - timedelta(seconds=5)

    asyncio.run(scene())


def test_by_a_clock_that_is_right_a_lease_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with bench(monkeypatch) as on:
            on.machine.answer(on.clock)
            placement = on.hold()
            for _ in range(90):
                assert await on.holder.is_ours(placement.batch_id, 10)
                on.machine.up += 1
                on.machine.answer(on.clock)
            assert len(on.table.ends) == 1

    asyncio.run(scene())
