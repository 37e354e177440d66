"""When batches close and manifests are written, by the S3 sink in this process."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from store_scp.batches import BatchLimits
from store_scp.board import Board
from store_scp.clocks import ServerClock
from store_scp.errors import StoreRefused
from store_scp.instance import Instance
from store_scp.sinks import Sink
from store_scp.sinks.keeper import Keeper
from structlog.testing import capture_logs

from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest
from tests.protocol.fake_s3 import FakeS3, Fault
from tests.protocol.sinks import opened, to_bucket
from tests.unit.store_scp.builders import checksum, content, instance

BLOCK = memoryview(bytes(5 * 1024**2))


def manifests(s3: FakeS3) -> list[Manifest]:
    return [Manifest.from_json(s3.objects[key]) for key in s3.keys("/batches/")]


def test_a_batch_is_imported_once_its_association_has_ended(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            await sink.store(instance(), content())
            sink.association_ended("a1")
            await asyncio.to_thread(s3.wait_for_manifest)

    asyncio.run(store())
    (manifest,) = manifests(s3)
    assert f"/bucket/{manifest.instances[0].key}" in s3.objects


def test_many_associations_at_once_fill_one_batch(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(200)

    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch), BATCH_QUIET_SECONDS="5") as sink:
            await asyncio.gather(
                *(
                    sink.store(instance(f"1.{each}", association_id=f"a{each % 8}"), content())
                    for each in numbers
                )
            )

    asyncio.run(store())
    (manifest,) = manifests(s3)
    assert {each.sop_instance_uid for each in manifest.instances} == {f"1.{n}" for n in numbers}
    assert len(manifest.instances) == len(numbers)


def test_a_refused_instance_is_in_no_manifest(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            await sink.store(instance("1.1"), content())
            s3.faults = {"1.2.dcm": (403, "AccessDenied")}
            with pytest.raises(StoreRefused, match="AccessDenied"):
                await sink.store(instance("1.2"), content())

    asyncio.run(store())
    (manifest,) = manifests(s3)
    assert [InstanceKey.parse(each.key).sop_instance_uid for each in manifest.instances] == ["1.1"]


@pytest.mark.parametrize("step", ["put", "begin", "write", "commit"])
def test_a_refused_instance_gives_its_room_back(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    refusal: dict[str, Fault] = {".dcm": (403, "AccessDenied")}

    async def fail(sink: Sink, one: Instance) -> None:
        if step in ("put", "begin"):
            s3.faults = refusal
            await (sink.store(one, content()) if step == "put" else sink.begin(one))
        large = await sink.begin(one)
        s3.faults = refusal
        if step == "commit":
            await large.commit(BLOCK)
        try:
            await large.write(BLOCK)
        finally:
            await large.discard()

    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch), BATCH_MAX_FILES="3") as sink:
            await sink.store(instance("1.0"), content())
            for number in range(3):
                with pytest.raises(StoreRefused, match="AccessDenied"):
                    await fail(sink, instance(f"2.{number}"))
                s3.faults = {}
            for number in (1, 2):
                await sink.store(instance(f"1.{number}"), content())
            await asyncio.to_thread(s3.wait_for_manifest)

    asyncio.run(store())
    (manifest,) = manifests(s3)
    assert manifest.close_reason is CloseReason.FULL
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.0", "1.1", "1.2"]


def test_the_manifest_has_an_uploads_whole_size_and_checksum(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [bytes([number]) * len(BLOCK) for number in range(3)] + [b"end"]

    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            large = await sink.begin(instance())
            for each in parts[:-1]:
                await large.write(memoryview(each))
            await large.commit(memoryview(parts[-1]))

    asyncio.run(store())
    (listed,) = manifests(s3)[0].instances
    assert listed.size == sum(map(len, parts))
    assert listed.checksum == checksum(b"".join(parts))


def test_nothing_is_stored_after_close(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            await sink.close(5)
            with pytest.raises(StoreRefused, match="shutting down"):
                await sink.store(instance(), content())

    asyncio.run(store())
    assert s3.objects == {}


def test_a_manifest_that_could_not_be_written_in_time_is_logged(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            await sink.store(instance(), content())
            s3.manifest_faults = [(403, "AccessDenied")] * 9
            await sink.close(0.2)

    with capture_logs() as lines:
        asyncio.run(store())
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "manifest_not_written"
    ] * 2  # closed twice: here, and by whoever opened it


def test_the_keeper_survives_a_bug_in_the_sink() -> None:
    attempts: list[Manifest] = []

    async def write(manifest: Manifest) -> None:
        attempts.append(manifest)
        if len(attempts) == 1:
            raise RuntimeError("DOE^JANE")

    async def keep(write: Callable[[Manifest], Awaitable[None]]) -> None:
        limits = BatchLimits(5, 30, 10, 10_000, 10**6, 900, 10_000)
        keeper = Keeper(limits, write, Board.create(1, 1).panel(0), None, 60, ServerClock())
        body = checksum(b"pixels")
        keeper.stored(keeper.place(instance(), 6), 6, body)
        await keeper.close(10)

    with capture_logs() as lines:
        asyncio.run(keep(write))
    assert attempts[0] == attempts[1]
    assert [line["event"] for line in lines] == ["manifest_postponed", "batch_closed"]
    assert "DOE" not in str(lines)
