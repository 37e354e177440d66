"""One C-STORE's bytes: held, cut into blocks, streamed, refused; memory always comes back."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import pytest
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Content, Instance
from store_scp.sinks.sink import Kept, LargeObject, Stream
from store_scp.spool import BLOCK_BYTES, Spool
from store_scp.transfer import Depot, Transfer
from store_scp.turns import Turns

from contract.header import MAX_ELEMENTS
from tests.unit.store_scp.builders import (
    BY_STUDY,
    CT_IMAGE,
    EXPLICIT_LE,
    checksum,
    data_set,
    element,
    sender,
)

REQUEST = StoreRequest(CT_IMAGE, "1.2.3.4", CT_IMAGE, EXPLICIT_LE)
PIECE = 100_000


class Bug(Exception):
    """What nobody expects of a sink."""


@dataclass
class MemorySink:
    trouble = None
    """Keeps what it is given; ``fail`` is asked before each step and may raise."""

    streams: bool = False
    fail: Callable[[str], None] = lambda _: None
    objects: list[bytes] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    discarded: int = 0
    # Set while a block may not become durable.
    gate: asyncio.Event | None = None

    async def store(self, instance: Instance, content: Content) -> Kept:
        self.fail("store")
        assert content.checksum == checksum(bytes(content.body))
        self.instances.append(instance)
        self.objects.append(bytes(content.body))
        return Kept.NEW

    def stream(self, instance: Instance) -> Stream:
        self.fail("stream")
        self.instances.append(instance)
        return _Stream(self)

    async def begin(self, instance: Instance) -> LargeObject:
        self.fail("begin")
        self.instances.append(instance)
        return _Large(self)

    def association_ended(self, association_id: str) -> None:
        """Nothing is held."""

    async def close(self, seconds: float) -> None:
        """Nothing is open."""


class _Large:
    def __init__(self, sink: MemorySink) -> None:
        self.sink, self.body, self.ended = sink, b"", False

    async def write(self, block: memoryview) -> None:
        if self.sink.gate:
            await self.sink.gate.wait()
        self.sink.fail("write")
        self.sink.parts.append(len(block))
        self.body += bytes(block)

    async def commit(self, last: memoryview) -> Kept:
        await self.write(last)
        self.sink.objects.append(self.body)
        self.ended = True
        return Kept.NEW

    async def discard(self) -> None:
        self.sink.discarded += not self.ended
        self.ended = True


class _Stream:
    def __init__(self, sink: MemorySink) -> None:
        self.sink, self.body, self.ended = sink, b"", False

    def append(self, data: memoryview) -> None:
        self.sink.fail("append")
        self.body += bytes(data)

    async def commit(self) -> Kept:
        self.sink.fail("commit")
        self.sink.objects.append(self.body)
        self.ended = True
        return Kept.NEW

    def discard(self) -> None:
        self.sink.discarded += not self.ended
        self.ended = True


@dataclass
class Scene:
    """A transfer, what it takes memory from, and what it asks of its association."""

    sink: MemorySink = field(default_factory=MemorySink)
    max_bytes: int = 10**9
    limit: int = 10**9
    expected: int = 0
    taken: int = 0
    held: int = 0
    memory_asked: int = 0
    headers: int = 0
    headers_walked: int = 0

    def transfer(self, request: StoreRequest = REQUEST) -> Transfer:
        def adjust(change: int) -> None:
            self.taken += change

        spool = Spool(self.limit, adjust, lambda: self.taken)
        depot = Depot(spool, Turns(), self.sink, self.max_bytes)
        return Transfer(request, sender(), BY_STUDY, depot, self.expected)

    def hold_for_block(self) -> None:
        self.held += 1

    def go_on_after_block(self) -> None:
        self.held -= 1

    def hold_for_header(self) -> None:
        self.headers += 1

    def go_on_after_header(self) -> None:
        self.headers -= 1
        self.headers_walked += 1

    def hold_for_memory(self) -> None:
        self.memory_asked += 1

    async def send(self, data: bytes, request: StoreRequest = REQUEST) -> Kept:
        """Receive it all, as an association would: nothing more while it is held."""
        transfer = self.transfer(request)
        for at in range(0, len(data), PIECE):
            while self.held:
                await asyncio.sleep(0)
            transfer.write(memoryview(data[at : at + PIECE]), self)
        return await transfer.finish(self)

    def refused(self, data: bytes, request: StoreRequest = REQUEST) -> StoreRefused:
        with pytest.raises(StoreRefused) as caught:
            run(self.send(data, request))
        assert self.taken == 0
        assert self.sink.objects == []
        return caught.value


def run(work: Coroutine[None, None, Kept]) -> Kept:
    with asyncio.Runner() as runner:
        return runner.run(work)


def failing(step: str, error: Exception) -> Callable[[str], None]:
    def fail(asked: str) -> None:
        if asked == step:
            raise error

    return fail


BUSY = StoreRefused(Status.OUT_OF_RESOURCES, "SlowDown")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("pixels", [6, 64_000, 70_000, 1_000_000, 1_100_000, 3_000_000])
@pytest.mark.parametrize("expected", [0, 500_000, 10**8])
def test_an_instance_arrives_byte_for_byte(streams: bool, pixels: int, expected: int) -> None:
    scene = Scene(MemorySink(streams), expected=expected)
    data = data_set(pixels=bytes(range(250)) * (pixels // 250) + b"odd"[: pixels % 2])
    assert run(scene.send(data)) is Kept.NEW
    (stored,) = scene.sink.objects
    assert stored.endswith(data)
    assert stored[128:132] == b"DICM"
    assert scene.sink.instances[0].header.study_instance_uid == "1.2.3"
    assert (scene.taken, scene.held, scene.sink.discarded) == (0, 0, 0)


@pytest.mark.parametrize("over", [-500, -350, 0, 1, PIECE, BLOCK_BYTES, 2 * BLOCK_BYTES + 7])
def test_a_long_instance_goes_out_in_blocks(over: int) -> None:
    scene = Scene()
    data = data_set(pixels=bytes(BLOCK_BYTES + over))
    assert run(scene.send(data)) is Kept.NEW
    (stored,) = scene.sink.objects
    assert stored.endswith(data)
    assert all(each == BLOCK_BYTES for each in scene.sink.parts[:-1])
    assert (scene.taken, scene.held) == (0, 0)


def test_the_end_waits_for_a_block_that_is_on_its_way() -> None:
    async def scenario() -> None:
        sink = MemorySink(gate=asyncio.Event())
        scene, data = Scene(sink), data_set(pixels=bytes(BLOCK_BYTES))
        transfer = scene.transfer()
        transfer.write(memoryview(data), scene)
        assert scene.held == 1
        finishing = asyncio.create_task(transfer.finish(scene))
        await asyncio.sleep(0)
        assert sink.objects == []
        assert sink.gate is not None
        sink.gate.set()
        assert await finishing is Kept.NEW
        assert sink.objects[0].endswith(data)
        assert (scene.held, scene.taken) == (0, 0)

    asyncio.run(scenario())


OTHER = element((0x0009, 0x1001), b"LO", b"")
LONG = data_set(pixels=bytes(2 * BLOCK_BYTES))


@pytest.mark.parametrize("step", ["begin", "write"])
def test_what_a_sink_refuses_midway_is_answered_at_the_end(step: str) -> None:
    scene = Scene(MemorySink(fail=failing(step, BUSY)))
    assert scene.refused(LONG) is BUSY
    assert scene.sink.discarded == (step == "write")


@pytest.mark.parametrize("step", ["begin", "write"])
def test_a_bug_midway_is_answered_too(step: str) -> None:
    scene = Scene(MemorySink(fail=failing(step, Bug("secret"))))
    refusal = scene.refused(LONG)
    assert refusal.status is Status.PROCESSING_FAILURE
    assert "secret" not in str(refusal)


@pytest.mark.parametrize("step", ["stream", "append", "commit"])
def test_what_a_stream_refuses_leaves_nothing(step: str) -> None:
    scene = Scene(MemorySink(streams=True, fail=failing(step, BUSY)))
    assert scene.refused(data_set(pixels=bytes(500_000))) is BUSY
    assert scene.sink.discarded == (step != "stream")


def test_a_bad_command_takes_no_memory_and_forgets_the_data() -> None:
    scene = Scene()
    bad = StoreRequest(CT_IMAGE, "../..", CT_IMAGE, EXPLICIT_LE)
    assert scene.refused(LONG, bad).status is Status.INVALID_SOP_INSTANCE


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", Status.NO_DATA_SET),
        (data_set()[:40], Status.UNREADABLE_HEADER),
        (bytes(200_000), Status.UNREADABLE_HEADER),
        (OTHER * 20_000, Status.NO_SOP_CLASS_UID),
        (OTHER * (MAX_ELEMENTS + 1), Status.HEADER_TOO_COMPLEX),
        (OTHER * 20_000 + data_set(), Status.UNREADABLE_HEADER),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_at_the_end(
    streams: bool, data: bytes, status: Status
) -> None:
    assert Scene(MemorySink(streams)).refused(data).status is status


@pytest.mark.parametrize("streams", [False, True])
def test_an_instance_over_the_cap_is_given_up_as_soon_as_it_is(streams: bool) -> None:
    scene = Scene(MemorySink(streams), max_bytes=300_000)
    transfer = scene.transfer()
    data = memoryview(data_set(pixels=bytes(400_000)))
    transfer.write(data[:250_000], scene)
    transfer.write(data[250_000:], scene)
    assert scene.taken == 0
    with pytest.raises(StoreRefused, match="larger than 300000"):
        run(transfer.finish(scene))


def test_a_header_behind_much_else_is_found_in_a_stream_as_well() -> None:
    private = data_set(pixels=bytes(100_000))  # stands for what comes before the UIDs' group
    long_header = private[: private.index(b"UI\x06\x001.2.3\x00") - 4]
    filler = b"\x09\x00\x10\x10OB\x00\x00" + (90_000).to_bytes(4, "little") + bytes(90_000)
    rest = private[len(long_header) :]
    scene = Scene(MemorySink(streams=True))
    assert run(scene.send(long_header + filler + rest)) is Kept.NEW
    assert scene.sink.objects[0].endswith(filler + rest)


@pytest.mark.parametrize("streams", [False, True])
def test_a_peer_is_held_while_a_long_header_of_its_is_walked(streams: bool) -> None:
    async def scenario() -> None:
        scene = Scene(MemorySink(streams))
        transfer = scene.transfer()
        at = data_set().index(b"\x20\x00\x0d\x00")
        data = data_set()[:at] + OTHER * 7_000 + data_set()[at:]
        transfer.write(memoryview(data), scene)
        finishing = asyncio.create_task(transfer.finish(scene))
        await asyncio.sleep(0)
        assert scene.headers == 1
        assert await finishing is Kept.NEW
        assert (scene.headers, scene.headers_walked, scene.taken) == (0, 1, 0)

    asyncio.run(scenario())


def test_a_header_that_is_walked_at_once_holds_nobody() -> None:
    scene = Scene()
    assert run(scene.send(data_set())) is Kept.NEW
    assert scene.headers_walked == 0


def test_a_full_spool_is_asked_for_a_pause_and_a_refusal_frees_it() -> None:
    scene = Scene(limit=70_000)
    transfer = scene.transfer()
    transfer.write(memoryview(data_set(pixels=bytes(200_000))), scene)
    assert scene.memory_asked == 1
    transfer.refuse(StoreRefused(Status.OUT_OF_RESOURCES, "no memory"))
    assert scene.taken == 0
    with pytest.raises(StoreRefused, match="no memory"):
        run(transfer.finish(scene))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("size", [0, 100, 500_000, BLOCK_BYTES + PIECE])
def test_an_abandoned_instance_leaves_nothing(streams: bool, size: int) -> None:
    async def scenario() -> Scene:
        scene = Scene(MemorySink(streams, gate=asyncio.Event()))
        transfer = scene.transfer()
        transfer.write(memoryview(data_set(pixels=bytes(size))), scene)
        await asyncio.sleep(0)  # a block is on its way by now
        await transfer.abandon()
        return scene

    scene = asyncio.run(scenario())
    assert (scene.taken, scene.sink.objects) == (0, [])
    begun = len(scene.sink.instances)
    assert scene.sink.discarded == begun


@pytest.mark.parametrize("error", [BUSY, Bug("secret")], ids=["refusal", "bug"])
@pytest.mark.parametrize("at", ["the first block", "a later block", "the end"])
def test_a_large_instance_that_fails_at_any_write_leaves_nothing(at: str, error: Exception) -> None:
    writes = iter(range(3))
    failing_at = ["the first block", "a later block", "the end"].index(at)

    def fail(step: str) -> None:
        if step == "write" and next(writes) == failing_at:
            raise error

    scene = Scene(MemorySink(fail=fail))
    with pytest.raises((StoreRefused, Bug)) as caught:  # the end's is the session's to answer
        run(scene.send(LONG))
    if isinstance(caught.value, Bug):
        assert at == "the end"
    assert (scene.taken, scene.held, scene.sink.objects) == (0, 0, [])
    assert scene.sink.discarded == 1


@pytest.mark.parametrize("error", [BUSY, Bug("secret")], ids=["refusal", "bug"])
def test_a_small_instance_whose_put_fails_leaves_no_memory_taken(error: Exception) -> None:
    scene = Scene(MemorySink(fail=failing("store", error)))
    with pytest.raises(type(error)):
        run(scene.send(data_set()))
    assert scene.taken == 0


def test_the_cap_reached_while_a_block_is_on_its_way_frees_the_block_behind_it() -> None:
    async def scenario() -> None:
        sink = MemorySink(gate=asyncio.Event())
        scene = Scene(sink, max_bytes=len(LONG) - 1)
        transfer = scene.transfer()
        transfer.write(memoryview(LONG), scene)
        assert scene.taken == 0  # told by the first write: no block was begun
        transfer = scene.transfer()
        transfer.write(memoryview(LONG)[: BLOCK_BYTES + 1], scene)
        await asyncio.sleep(0)
        transfer.write(memoryview(LONG)[BLOCK_BYTES + 1 :], scene)
        assert scene.taken == BLOCK_BYTES  # the sink still reads from it
        assert sink.gate is not None
        sink.gate.set()
        with pytest.raises(StoreRefused, match="larger than"):
            await transfer.finish(scene)
        assert (scene.taken, scene.held, sink.objects, sink.discarded) == (0, 0, [], 1)

    asyncio.run(scenario())


def test_a_refusal_while_a_block_is_on_its_way_is_the_answer() -> None:
    async def scenario() -> None:
        later = StoreRefused(Status.PROCESSING_FAILURE, "too late to be the answer")
        sink = MemorySink(fail=failing("write", later), gate=asyncio.Event())
        scene = Scene(sink)
        transfer = scene.transfer()
        transfer.write(memoryview(LONG)[: BLOCK_BYTES + 1], scene)
        await asyncio.sleep(0)
        transfer.refuse(BUSY)
        assert sink.gate is not None
        sink.gate.set()
        with pytest.raises(StoreRefused) as caught:
            await transfer.finish(scene)
        assert caught.value is BUSY
        assert (scene.taken, scene.held, sink.objects, sink.discarded) == (0, 0, [], 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", ["before the block left", "between blocks", "after a refusal"])
def test_a_large_instance_abandoned_at_any_moment_leaves_nothing(moment: str) -> None:
    async def scenario() -> Scene:
        refused = moment == "after a refusal"
        scene = Scene(MemorySink(fail=failing("write", BUSY) if refused else lambda _: None))
        transfer = scene.transfer()
        transfer.write(memoryview(LONG)[: BLOCK_BYTES + 1], scene)
        while scene.held and moment != "before the block left":
            await asyncio.sleep(0)
        await transfer.abandon()
        return scene

    scene = asyncio.run(scenario())
    assert (scene.taken, scene.sink.objects) == (0, [])
    assert scene.sink.discarded == len(scene.sink.instances)
    assert bool(scene.sink.parts) == (moment == "between blocks")


def test_an_instance_as_large_as_is_allowed_is_stored() -> None:
    data = data_set(pixels=bytes(1_000))
    scene = Scene(max_bytes=len(data))
    assert run(scene.send(data)) is Kept.NEW


def test_a_refused_blocks_memory_is_free_before_the_data_set_ends() -> None:
    async def scenario() -> None:
        scene = Scene(MemorySink(fail=failing("write", BUSY)))
        transfer = scene.transfer()
        transfer.write(memoryview(LONG)[: BLOCK_BYTES + 1], scene)
        while scene.held:
            await asyncio.sleep(0)
        assert scene.taken == 0
        await transfer.abandon()

    asyncio.run(scenario())


@pytest.mark.parametrize("started", [False, True])
def test_no_sink_reads_from_memory_that_was_abandoned(started: bool) -> None:
    async def scenario() -> MemorySink:
        sink = MemorySink(gate=asyncio.Event())
        scene = Scene(sink)
        transfer = scene.transfer()
        transfer.write(memoryview(LONG)[: BLOCK_BYTES + 1], scene)
        if started:
            await asyncio.sleep(0)
        await transfer.abandon()
        assert sink.gate is not None
        sink.gate.set()
        while len(asyncio.all_tasks()) > 1:  # whatever else is left would go on now
            await asyncio.sleep(0)
        return sink

    sink = asyncio.run(scenario())
    assert (sink.parts, bool(sink.instances)) == ([], started)
