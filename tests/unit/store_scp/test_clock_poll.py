"""S3 is asked for the time while nothing else is, and no more than that; pauses take no time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.sinks.clock_poll import ClockPoll
from structlog.testing import capture_logs

from tests.unit.store_scp.test_clocks import HOUR, Machine
from tests.unit.store_scp.test_keeper import JumpingLoop


@dataclass
class Bucket:
    """Answers with the machine's true time, unless it is away."""

    machine: Machine
    clock: ServerClock
    asked_at: list[float] = field(default_factory=list)
    away: bool = False

    async def abort_multipart(self, key: str, upload_id: str, *, seconds: float) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.away:
            raise StoreRefused(Status.OUT_OF_RESOURCES, "ConnectionRefused")
        self.machine.answer(self.clock, always=True)


@dataclass
class Looping(Machine):
    """A machine whose steady clock is the event loop's, apart from what answers take."""

    def steady(self) -> float:
        return asyncio.get_running_loop().time() + self.up

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=asyncio.get_running_loop().time())


Scene = Callable[[Bucket], Awaitable[None]]


def run(scene: Scene, *, ahead: float = 0.0, away: bool = False) -> None:
    async def bounded() -> None:
        machine = Looping(ahead)
        bucket = Bucket(machine, machine.clock(), away=away)
        poll = ClockPoll(bucket, bucket.clock)  # type: ignore[arg-type]
        await scene(bucket)
        poll.close()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(bounded())


def test_while_a_receiver_is_idle_s3_is_asked_every_five_minutes() -> None:
    async def scene(bucket: Bucket) -> None:
        await asyncio.sleep(3_600)
        assert 11 <= len(bucket.asked_at) <= 13

    run(scene)


def test_while_answers_come_nobody_asks() -> None:
    async def scene(bucket: Bucket) -> None:
        await asyncio.sleep(2)
        for _ in range(360):
            await asyncio.sleep(10)
            bucket.machine.answer(bucket.clock)
        assert len(bucket.asked_at) == 1

    run(scene)


@pytest.mark.parametrize("missed", [0.0, HOUR])
def test_clocks_that_move_apart_are_compared_at_once_by_two_answers(missed: float) -> None:
    """Either the system's clock was set, or the steady one missed time."""

    async def scene(bucket: Bucket) -> None:
        await asyncio.sleep(10)
        assert len(bucket.asked_at) == 1
        bucket.machine.missed = missed
        bucket.machine.ahead = HOUR - missed
        await asyncio.sleep(5)
        assert len(bucket.asked_at) == 3
        assert bucket.clock.offset() == pytest.approx(HOUR - missed, abs=2)
        await asyncio.sleep(100)
        assert len(bucket.asked_at) == 3

    run(scene)


def test_an_s3_that_is_away_is_asked_ever_more_seldom_and_named_until_it_has_answered() -> None:
    async def scene(bucket: Bucket) -> None:
        with capture_logs() as lines:
            await asyncio.sleep(300)
            bucket.away = False
            await asyncio.sleep(100)
        unknown = [line["again_in"] for line in lines if line["event"] == "clock_unknown"]
        assert unknown[:7] == [1, 2, 4, 8, 16, 30, 30]
        assert len(bucket.asked_at) == len(unknown) + 1
        assert bucket.clock.known

    run(scene, away=True)
