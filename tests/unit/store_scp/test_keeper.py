"""The keeper and its leases on a real event loop, over a batch table that answers on command."""

import asyncio
import dataclasses
import itertools
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from store_scp.batches import Placement
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.metrics import Counter, Gauge
from store_scp.sinks import keeper as keeper_module
from store_scp.sinks import leaseholder
from store_scp.sinks.keeper import Keeper
from structlog.testing import capture_logs

from contract.checksums import Checksum
from contract.manifest import CloseReason, Manifest
from contract.records import BatchRecord
from tests.unit.store_scp.builders import LIMITS, instance

BODY = b"pixels"
CHECKSUM = Checksum.of(BODY)
# Longer than any test, so that no lease is renewed but by the clock that a test moves.
LEASE = 3_000.0
DOWN = StoreRefused(Status.OUT_OF_RESOURCES, "lease: ThrottlingException")
Answer = bool | Exception
Timed = Callable[[Callable[[], Awaitable[None]]], None]


@dataclass
class Table:
    """A LeaseStore; a request waits for the next of the answers."""

    answers: "asyncio.Queue[Answer]" = field(default_factory=asyncio.Queue)
    taken: list[BatchRecord] = field(default_factory=list)
    renewals: list[datetime] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def take(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        ends_at = end()
        self.taken.append(dataclasses.replace(batch, lease_expires_at=ends_at))
        return ends_at if await self._answer() else None

    async def renew(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        assert batch.owner == self.taken[0].owner
        ends_at = end()
        self.renewals.append(ends_at)
        return ends_at if await self._answer() else None

    def close(self) -> None:
        self.closed = True

    async def _answer(self) -> bool:
        self.asked.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Meter:
    """Knows how many batches are open."""

    open_batches: float = 0

    def add(self, counter: Counter, amount: float = 1) -> None: ...
    def adjust(self, gauge: Gauge, delta: float) -> None: ...
    def observe_upload(self, seconds: float) -> None: ...

    def gauge(self, gauge: Gauge, value: float) -> None:
        assert gauge is Gauge.BATCHES_OPEN
        self.open_batches = value


@dataclass
class Clock:
    """The leases' clock, which moves when a test says so."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(leaseholder, "clock", moved)
    return moved


class Jumping(selectors.SelectSelector):
    """Waits for no timer: where nothing else is left to do, its time jumps to the next."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(None if timeout is None else 0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


@dataclass
class Bench:
    """A keeper, what it asks of the table, and the manifests it writes."""

    keeper: Keeper
    table: Table
    written: list[Manifest]
    meter: Meter

    def place(self, sop: str = "1.1", study: str = "1.2.3") -> Placement:
        return self.keeper.place(instance(sop, study=study), len(BODY))

    def store(self, placement: Placement) -> None:
        self.keeper.stored(placement, len(BODY), CHECKSUM)

    async def asked(self) -> None:
        """Wait until the table is asked once more."""
        await self.table.asked.wait()
        self.table.asked.clear()


@asynccontextmanager
async def bench(
    *, leased: bool = True, quiet: float = 900, server_clock: ServerClock | None = None
) -> AsyncIterator[Bench]:
    written: list[Manifest] = []

    async def write(manifest: Manifest) -> None:
        written.append(manifest)

    table, meter = Table(), Meter()
    limits = dataclasses.replace(LIMITS, held_quiet_seconds=quiet)
    keeper = Keeper(
        limits, write, meter, table if leased else None, LEASE, server_clock or ServerClock()
    )
    yield Bench(keeper, table, written, meter)
    await keeper.close(0.01)
    assert table.closed is leased


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def run_timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Runs a test whose pauses, and the keeper's, take no time."""

    def run_it(test: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(1_000_000):
                await test()

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            clock = SimpleNamespace(monotonic=runner.get_loop().time)
            monkeypatch.setattr(keeper_module, "time", clock)
            runner.run(bounded())

    return run_it


def test_a_batch_has_a_record_before_anything_goes_into_it(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            placement = on.place()
            waiting = asyncio.ensure_future(on.keeper.is_ours(placement, 10))
            await on.asked()
            assert not waiting.done()
            (record,) = on.table.taken
            assert record.batch_id == placement.batch_id
            assert record.lease_expires_at is not None
            ahead = record.lease_expires_at - datetime.now(UTC)
            assert timedelta(seconds=LEASE - 20) < ahead <= timedelta(seconds=LEASE)
            on.table.answers.put_nowait(True)
            assert await waiting
            # The batch's other instances do not wait, and nothing is asked for them.
            assert await on.keeper.is_ours(on.place("1.2"), 0)
            assert len(on.table.taken) == 1
            on.keeper.failed(placement)

    run(scene)


@pytest.mark.parametrize("error", [DOWN, ValueError("never in a log")])
def test_while_the_table_does_not_answer_instances_are_refused(
    clock: Clock, error: Exception
) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(error)
            placement = on.place()
            with pytest.raises(StoreRefused, match="lease: ") as refused:
                await on.keeper.is_ours(placement, 10)
            assert refused.value.status is Status.OUT_OF_RESOURCES
            assert "never" not in refused.value.detail
            # At once, too, while the next attempt is not due.
            with pytest.raises(StoreRefused):
                await on.keeper.is_ours(placement, 10)
            on.keeper.failed(placement)

    run(scene)


def test_a_table_that_hangs_is_waited_for_in_bounds(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            placement = on.place()
            with pytest.raises(StoreRefused, match="lease: Timeout"):
                await on.keeper.is_ours(placement, 0.01)
            on.keeper.failed(placement)

    run(scene)


@pytest.mark.usefixtures("renewed_at_once")
def test_after_a_failure_the_lease_is_asked_for_again(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(DOWN)
            placement = on.place()
            with pytest.raises(StoreRefused):
                await on.keeper.is_ours(placement, 10)
            clock.now += 1_000
            await on.asked()
            on.table.answers.put_nowait(True)
            await on.asked()  # the second take
            while not await _is_ours(on, placement):
                await asyncio.sleep(0)
            assert len(on.table.taken) == 2
            on.keeper.failed(placement)

    run(scene)


async def _is_ours(on: Bench, placement: Placement) -> bool:
    try:
        return await on.keeper.is_ours(placement, 10)
    except StoreRefused:
        return False


async def stalled(on: Bench, clock: Clock) -> tuple[Placement, "asyncio.Future[bool]"]:
    """An instance that becomes durable just when its batch's lease has run out."""
    on.table.answers.put_nowait(True)
    placement = on.place()
    assert await on.keeper.is_ours(placement, 10)
    clock.now += LEASE + 1
    asking = asyncio.ensure_future(on.keeper.is_ours(placement, 10))
    await asyncio.sleep(0)
    assert not asking.done()
    return placement, asking


@pytest.fixture
def renewed_at_once(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A process that was stopped finds its timers due; ours are due whenever the clock says so."""

    async def sleep_until(moment: float, woken: asyncio.Event) -> None:
        await asyncio.sleep(0)
        while clock.now < moment and not woken.is_set():
            await asyncio.sleep(0)

    monkeypatch.setattr(leaseholder, "sleep_until", sleep_until)


@pytest.mark.usefixtures("renewed_at_once")
def test_an_instance_that_landed_after_the_lease_waits_for_a_renewal(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            placement, asking = await stalled(on, clock)
            on.table.answers.put_nowait(True)
            assert await asking
            assert len(on.table.renewals) == 1
            on.store(placement)

    run(scene)


@pytest.mark.usefixtures("renewed_at_once")
def test_a_batch_that_recovery_has_is_left_to_it(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            placement, asking = await stalled(on, clock)
            with capture_logs() as lines:
                on.table.answers.put_nowait(False)
                assert not await asking
            assert {"event": "batch_lost", "batch_id": placement.batch_id} in [
                {"event": each["event"], "batch_id": each.get("batch_id")} for each in lines
            ]
            on.keeper.failed(placement)
            assert on.place().batch_id != placement.batch_id
        assert on.written == []

    run(scene)


@pytest.mark.usefixtures("renewed_at_once")
def test_a_lost_batch_is_not_kept_until_it_is_quiet(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            assert await on.keeper.is_ours(placement, 10)
            on.store(placement)
            assert on.meter.open_batches == 1
            on.table.answers.put_nowait(False)
            clock.now += LEASE + 1
            while on.meter.open_batches:
                await asyncio.sleep(0)
        assert on.written == []

    run(scene)


@pytest.mark.usefixtures("renewed_at_once")
def test_no_manifest_is_written_of_a_batch_that_recovery_has(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            assert await on.keeper.is_ours(placement, 10)
            on.store(placement)
            clock.now += LEASE + 1
            closing = asyncio.ensure_future(on.keeper.close(10))
            on.table.answers.put_nowait(False)
            await closing
            assert on.written == []

    run(scene)


def test_closing_writes_the_manifest_and_lets_the_lease_go(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            assert await on.keeper.is_ours(placement, 10)
            on.store(placement)
            await on.keeper.close(10)
            (manifest,) = on.written
            assert manifest.batch_id == placement.batch_id
            assert manifest.close_reason is CloseReason.SHUTDOWN
            assert on.table.renewals == []

    run(scene)


def test_without_a_table_nothing_is_asked() -> None:
    async def scene() -> None:
        async with bench(leased=False) as on:
            placement = on.place()
            assert await on.keeper.is_ours(placement, 0)
            on.store(placement)
            await on.keeper.close(10)
            assert len(on.written) == 1
            assert on.table.taken == []

    run(scene)


def test_a_quiet_batch_is_written_and_its_lease_is_not_renewed_any_more(clock: Clock) -> None:
    async def scene() -> None:
        async with bench(quiet=0.01) as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            assert await on.keeper.is_ours(placement, 10)
            on.store(placement)
            while not on.written:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)
            assert on.keeper._leases._held == {}

    run(scene)


@pytest.mark.parametrize("answer", ["stored", "failed", "repeated"])
def test_a_batch_is_quiet_from_its_last_answer_on(run_timed: Timed, answer: str) -> None:
    async def scene() -> None:
        async with bench(leased=False, quiet=100) as on:
            on.store(on.place("1.1"))
            slow = on.place("1.2")
            if answer == "repeated":
                on.store(slow)
            await asyncio.sleep(90)
            if answer == "stored":
                on.store(slow)
            elif answer == "failed":
                on.keeper.failed(slow)
            else:
                (known,) = on.keeper.candidates(instance("1.1"), len(BODY), CHECKSUM)
                assert on.keeper.repeated(instance("1.1"), known)
            await asyncio.sleep(99.9)
            assert on.written == []
            await asyncio.sleep(0.2)
            assert len(on.written) == 1

    run_timed(scene)


def test_a_batch_whose_only_other_put_failed_at_last_is_written(run_timed: Timed) -> None:
    async def scene() -> None:
        async with bench(leased=False, quiet=100) as on:
            failing = on.place("1.1")
            on.store(on.place("1.2"))
            on.keeper.failed(failing)
            await asyncio.sleep(100.1)
            (manifest,) = on.written
            assert [each.sop_instance_uid for each in manifest.instances] == ["1.2"]

    run_timed(scene)


def test_each_of_many_batches_is_written_when_it_is_due(run_timed: Timed) -> None:
    async def scene() -> None:
        async with bench(leased=False, quiet=100) as on:
            for number in range(3):
                on.store(on.place(f"1.{number}", f"2.{number}"))
                await asyncio.sleep(10)
            await asyncio.sleep(69.9)
            for number in range(3):
                assert len(on.written) == number
                await asyncio.sleep(0.2)
                assert len(on.written) == number + 1
                await asyncio.sleep(9.8)

    run_timed(scene)


def test_a_manifest_is_tried_again_after_twice_the_pause_up_to_half_a_minute(
    run_timed: Timed,
) -> None:
    attempts: list[float] = []

    async def write(manifest: Manifest) -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 8:
            raise StoreRefused(Status.OUT_OF_RESOURCES, "SlowDown")

    async def scene() -> None:
        keeper = Keeper(LIMITS, write, Meter(), None, LEASE, ServerClock())
        keeper.stored(keeper.place(instance(), len(BODY)), len(BODY), CHECKSUM)
        await asyncio.sleep(10_000)
        await keeper.close(1)

    run_timed(scene)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.01)


HOURS = timedelta(hours=3)


def told(server_clock: ServerClock) -> None:
    """An answer of S3 or DynamoDB has come, with the true time."""
    date = format_datetime(datetime.now(UTC), usegmt=True)
    server_clock.answered(date, server_clock.steady(), always=True)


@pytest.mark.parametrize("ahead", [-HOURS, HOURS])
def test_records_ids_and_manifests_have_awss_time(clock: Clock, ahead: timedelta) -> None:
    async def scene() -> None:
        server_clock = ServerClock(lambda: time.time() + ahead.total_seconds())
        told(server_clock)
        async with bench(server_clock=server_clock) as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            before = datetime.now(UTC)
            assert await on.keeper.is_ours(placement, 10)
            (record,) = on.table.taken
            assert record.lease_expires_at is not None
            # Never before it is over for its holder.
            late = record.lease_expires_at - (before + timedelta(seconds=LEASE))
            assert timedelta() <= late < timedelta(seconds=10)
            opened = datetime.strptime(f"{placement.batch_id[:15]}+0000", "%Y%m%dT%H%M%S%z")
            for moment in (record.opened_at, opened):
                assert abs(moment - before) < timedelta(seconds=10)
            on.store(placement)
            await on.keeper.close(10)
            (manifest,) = on.written
            assert abs(manifest.closed_at - before) < timedelta(seconds=10)

    run(scene)


def test_a_lease_that_was_granted_before_the_time_was_known_is_renewed_at_once(
    clock: Clock,
) -> None:
    async def scene() -> None:
        server_clock = ServerClock(lambda: time.time() - HOURS.total_seconds())
        async with bench(server_clock=server_clock) as on:
            placement = on.place()
            waiting = asyncio.ensure_future(on.keeper.is_ours(placement, 10))
            await on.asked()
            (record,) = on.table.taken
            assert record.lease_expires_at is not None
            assert record.lease_expires_at < datetime.now(UTC)
            told(server_clock)
            on.table.answers.put_nowait(True)
            await on.asked()
            # Recovery may have the batch until the record is right.
            assert not waiting.done()
            (renewed,) = on.table.renewals
            assert renewed >= datetime.now(UTC) + timedelta(seconds=LEASE - 10)
            on.table.answers.put_nowait(True)
            assert await waiting
            on.keeper.failed(placement)

    run(scene)


def test_where_no_answer_tells_the_time_the_systems_clock_serves(clock: Clock) -> None:
    async def scene() -> None:
        async with bench() as on:
            on.table.answers.put_nowait(True)
            placement = on.place()
            assert await on.keeper.is_ours(placement, 10)
            assert on.table.renewals == []
            on.keeper.failed(placement)

    run(scene)
