"""What every sink promises, asked of each; and what only one of them can get wrong."""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvloop
from store_scp.dimse.status import Status
from store_scp.errors import CannotStart, StoreRefused
from store_scp.settings import Settings
from store_scp.sinks import Kept, prepare_sink
from store_scp.sinks.directory import DirectorySink

from tests.forgery import forged
from tests.protocol.fake_s3 import FakeS3
from tests.protocol.sinks import opened, to_bucket
from tests.unit.store_scp.builders import content, instance

MIB = 1024**2
BLOCK = memoryview(bytes(range(256)) * (8 * MIB // 256))

Stored = Callable[[], list[bytes]]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture(params=["directory", "s3"])
def environment(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    s3: FakeS3,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The settings of a directory, or of the fake S3's bucket."""
    if request.param == "directory":
        return {"STORAGE_DIR": str(tmp_path)}
    return to_bucket(s3, monkeypatch)


@pytest.fixture
def stored(environment: dict[str, str], tmp_path: Path, s3: FakeS3) -> Stored:
    """Every instance object there is, shortest first."""

    def bodies() -> list[bytes]:
        if "STORAGE_DIR" in environment:
            return sorted((path.read_bytes() for path in tmp_path.rglob("*.dcm")), key=len)
        return sorted((s3.objects[key] for key in s3.keys(".dcm")), key=len)

    return bodies


def test_what_was_stored_is_there_byte_for_byte(
    run: Run, environment: dict[str, str], stored: Stored
) -> None:
    async def store() -> None:
        async with opened(environment) as sink:
            assert await sink.store(instance(), content(b"pixels")) is Kept.NEW

    run(store())
    assert stored() == [b"pixels"]


def test_the_same_bytes_again_are_one_object_and_other_bytes_another(
    run: Run, environment: dict[str, str], stored: Stored
) -> None:
    async def store() -> None:
        async with opened(environment) as sink:
            for body in (b"pixels", b"pixels", b"other pixels", b"other pixels", b"pixels"):
                await sink.store(instance(), content(body))

    run(store())
    assert stored() == [b"pixels", b"other pixels"]


@pytest.mark.fault("forged-checksum")
def test_other_bytes_with_the_same_checksum_are_kept_and_only_equal_bytes_are_repetitions(
    run: Run, environment: dict[str, str], stored: Stored
) -> None:
    genuine = b"genuine pixels, longer than eight bytes"
    others = [forged(bytes([each]) * len(genuine), genuine) for each in range(3)]

    async def store() -> None:
        async with opened(environment) as sink:
            for expected in (Kept.NEW, Kept.REPEATED):
                for body in (*others, genuine):
                    assert await sink.store(instance(), content(body)) is expected

    run(store())
    assert sorted(stored()) == sorted((*others, genuine))


def test_bytes_that_are_too_long_for_one_answer_are_compared_to_their_end(
    run: Run, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = bytes(BLOCK[: 2 * MIB + 16])
    other = forged(genuine[:-16] + bytes(16), genuine)
    known = ((genuine, Kept.NEW), (genuine, Kept.REPEATED), (other, Kept.NEW))

    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            for body, expected in known:
                assert await sink.store(instance(), content(body)) is expected

    run(store())
    assert s3.gets == 6
    assert sorted(s3.objects[key] for key in s3.keys(".dcm")) == sorted((genuine, other))


@pytest.mark.parametrize("fault", [(403, "AccessDenied"), (404, "NoSuchKey"), "shorter", "longer"])
def test_what_cannot_be_compared_is_stored_again(
    run: Run, s3: FakeS3, monkeypatch: pytest.MonkeyPatch, fault: tuple[int, str] | str
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            assert await sink.store(instance(), content(b"pixels")) is Kept.NEW
            if isinstance(fault, tuple):
                s3.get_fault = fault
            else:  # somebody else has replaced it
                s3.objects[s3.keys()[0]] = b"pix" if fault == "shorter" else b"pixels and more"
            assert await sink.store(instance(), content(b"pixels")) is Kept.NEW

    run(store())
    assert len(s3.keys()) == 2


def test_the_file_of_a_conflict_that_is_damaged_is_no_repetition(run: Run, tmp_path: Path) -> None:
    async def store() -> None:
        async with opened({"STORAGE_DIR": str(tmp_path)}) as sink:
            for body in (b"pixels", b"other pixels"):
                assert await sink.store(instance(), content(body)) is Kept.NEW
            (beside,) = tmp_path.rglob(f"*{sha256(b'other pixels').hexdigest()}.dcm")
            beside.write_bytes(b"other pix")
            with pytest.raises(StoreRefused, match="EEXIST"):
                await sink.store(instance(), content(b"other pixels"))

    run(store())


def test_an_upload_is_stored_even_if_it_is_a_repetition(
    run: Run, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            for before in range(2):
                large = await sink.begin(instance())
                await large.write(BLOCK)
                assert len(s3.keys()) == before
                assert await large.commit(memoryview(b"end")) is Kept.NEW

    run(store())
    assert [s3.objects[key] for key in s3.keys(".dcm")] == 2 * [bytes(BLOCK) + b"end"]
    assert not s3.uploads


def test_an_upload_that_is_discarded_leaves_nothing(
    run: Run, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            large = await sink.begin(instance())
            await large.write(BLOCK)
            await large.discard()
            await large.discard()  # as often as anybody likes

    run(store())
    assert (s3.keys(), s3.uploads) == ([], {})


def test_an_upload_that_is_cancelled_in_a_part_can_be_discarded(
    run: Run, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def store() -> None:
        async with opened(to_bucket(s3, monkeypatch)) as sink:
            large = await sink.begin(instance())
            with s3.hold() as held:
                writing = asyncio.create_task(large.write(BLOCK))
                await asyncio.to_thread(s3.wait_for_held, held, 1)
                writing.cancel()
                await asyncio.wait([writing])
            await large.discard()

    run(store())
    assert (s3.keys(), s3.uploads) == ([], {})


@pytest.mark.parametrize("flush", ["true", "false"])
def test_a_stream_has_no_name_before_it_is_committed(run: Run, tmp_path: Path, flush: str) -> None:
    async def store() -> None:
        async with opened({"STORAGE_DIR": str(tmp_path)}, STORAGE_FSYNC=flush) as sink:
            for expected in (Kept.NEW, Kept.REPEATED):
                file = sink.stream(instance())
                for piece in (b"pixels, ", b"more pixels"):
                    file.append(memoryview(piece))
                assert len(list(tmp_path.rglob("*.dcm"))) == (expected is Kept.REPEATED)
                assert await file.commit() is expected

    run(store())
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored.read_bytes() == b"pixels, more pixels"


def test_a_stream_that_is_discarded_leaves_nothing(run: Run, tmp_path: Path) -> None:
    async def store() -> None:
        async with opened({"STORAGE_DIR": str(tmp_path)}) as sink:
            file = sink.stream(instance())
            file.append(memoryview(b"pixels"))
            file.discard()
            file.discard()  # as often as anybody likes

    run(store())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def claims(storage: Path) -> list[Path]:
    """The files by which the sinks that are open are known to live."""
    return list((storage / ".incoming").glob("*.lock"))


def test_a_directory_that_cannot_be_used_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="Not a directory"):
        prepare_sink(Settings.from_env({"STORAGE_DIR": str(tmp_path / "file")}))


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, Status.OUT_OF_RESOURCES),
        (errno.EACCES, Status.PROCESSING_FAILURE),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_failing_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, status: Status
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no")

    async def store() -> None:
        async with opened({"STORAGE_DIR": str(tmp_path)}) as sink:
            assert isinstance(sink, DirectorySink)
            with monkeypatch.context() as broken:
                broken.setattr(os, step, fail)
                with pytest.raises(StoreRefused) as caught:
                    await sink.store(instance(), content())
            assert caught.value.status is status
            assert [each for each in tmp_path.rglob("*") if each.is_file()] == claims(tmp_path)
            await sink.store(instance(), content())

    asyncio.run(store())
