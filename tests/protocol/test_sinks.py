"""What every sink promises, asked of each; and what only one of them can get wrong."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from store_scp.batches import BatchLimits
from store_scp.dimse.status import Status
from store_scp.errors import CannotStart, StoreRefused
from store_scp.settings import Settings
from store_scp.sinks import Sink, open_sink
from store_scp.sinks.directory import DirectorySink
from store_scp.sinks.keeper import Keeper
from store_scp.sinks.s3 import S3Sink, s3_client
from structlog.testing import capture_logs

from contract.keys import InstanceKey
from contract.manifest import Manifest
from tests.protocol.conftest import TEST_CREDENTIALS
from tests.protocol.fake_s3 import FakeS3, fake_s3
from tests.unit.store_scp.builders import instance


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with fake_s3() as running:
        for name, value in {**TEST_CREDENTIALS, **running.environment}.items():
            monkeypatch.setenv(name, value)
        s3_client.cache_clear()
        yield running
        s3_client(50, 10.0).close()


def s3_sink(**settings: str) -> S3Sink:
    quick = {"BATCH_QUIET_SECONDS": "0.05", "DIMSE_TIMEOUT": "10"}
    return S3Sink.open(Settings.from_env({**quick, **settings}), "bucket")


@pytest.fixture(params=["directory", "s3"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    if request.param == "directory":
        yield DirectorySink(tmp_path)
    else:
        request.getfixturevalue("s3")
        opened = s3_sink()
        yield opened
        opened.close(5)


def stored(sink: Sink, tmp_path: Path, request: pytest.FixtureRequest) -> list[bytes]:
    """Every instance object there is, shortest first."""
    if isinstance(sink, DirectorySink):
        bodies = [path.read_bytes() for path in tmp_path.rglob("*.dcm")]
    else:
        s3: FakeS3 = request.getfixturevalue("s3")
        bodies = [body for key, body in s3.objects.items() if key.endswith(".dcm")]
    return sorted(bodies, key=len)


def test_what_was_stored_is_there_byte_for_byte(
    sink: Sink, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    one = instance(body=b"pixels")
    sink.store(one)
    assert stored(sink, tmp_path, request) == [one.file_meta + b"pixels"]


def test_the_same_bytes_again_are_one_object_and_other_bytes_another(
    sink: Sink, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    one, other = instance(body=b"pixels"), instance(body=b"other pixels")
    for each in (one, one, other, other, one):
        sink.store(each)
    assert stored(sink, tmp_path, request) == [
        one.file_meta + b"pixels",
        other.file_meta + b"other pixels",
    ]


def test_the_settings_choose_the_sink(tmp_path: Path, s3: FakeS3) -> None:
    directory = open_sink(Settings.from_env({"STORAGE_DIR": str(tmp_path)}))
    bucket = open_sink(Settings.from_env({"DICOM_BUCKET": "bucket", "DIMSE_TIMEOUT": "10"}))
    assert str(directory) == str(tmp_path)
    assert str(bucket) == "s3://bucket"
    directory.association_ended("a1")
    for each in (directory, bucket):
        each.close(5)


def test_a_directory_that_cannot_be_used_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="Not a directory"):
        DirectorySink(tmp_path / "file")


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
    sink = DirectorySink(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(StoreRefused) as caught:
            sink.store(instance())
    assert caught.value.status is status
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    sink.store(instance())


def manifests(s3: FakeS3) -> list[Manifest]:
    return [Manifest.from_json(body) for key, body in s3.objects.items() if "/batches/" in key]


def test_a_batch_is_imported_once_its_association_has_ended(s3: FakeS3) -> None:
    sink = s3_sink()
    sink.store(instance())
    sink.association_ended("a1")
    s3.wait_for_manifest()
    (manifest,) = manifests(s3)
    assert f"/bucket/{manifest.instances[0].key}" in s3.objects
    sink.close(5)


def test_many_associations_at_once_fill_one_batch(s3: FakeS3) -> None:
    sink = s3_sink(BATCH_QUIET_SECONDS="5")
    numbers = range(200)

    def store(number: int) -> None:
        sink.store(instance(f"1.{number}", association_id=f"a{number % 8}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, numbers))
    sink.close(10)
    (manifest,) = manifests(s3)
    assert {each.sop_instance_uid for each in manifest.instances} == {f"1.{n}" for n in numbers}
    assert len(manifest.instances) == len(numbers)


def test_a_refused_instance_is_in_no_manifest(s3: FakeS3) -> None:
    sink = s3_sink()
    sink.store(instance("1.1"))
    s3.fault = (403, "AccessDenied")
    with pytest.raises(StoreRefused, match="AccessDenied"):
        sink.store(instance("1.2"))
    sink.close(5)
    (manifest,) = manifests(s3)
    assert [InstanceKey.parse(each.key).sop_instance_uid for each in manifest.instances] == ["1.1"]


def test_nothing_is_stored_after_close(s3: FakeS3) -> None:
    sink = s3_sink()
    sink.close(5)
    with pytest.raises(StoreRefused, match="shutting down"):
        sink.store(instance())
    assert s3.objects == {}


def test_a_manifest_that_could_not_be_written_in_time_is_logged(s3: FakeS3) -> None:
    sink = s3_sink()
    sink.store(instance())
    s3.manifest_faults = [(403, "AccessDenied")] * 9
    with capture_logs() as lines:
        sink.close(0.2)
    (error,) = [line for line in lines if line["log_level"] == "error"]
    assert error["event"] == "manifest_not_written"


def test_the_keeper_survives_a_bug_in_the_sink() -> None:
    attempts: list[Manifest] = []

    def write(manifest: Manifest) -> None:
        attempts.append(manifest)
        if len(attempts) == 1:
            raise RuntimeError("DOE^JANE")

    keeper = Keeper(BatchLimits(True, 5, 30, 10, 10_000, 900), write)
    with capture_logs() as lines:
        keeper.stored(keeper.place(instance()))
        keeper.close(10)
    assert attempts[0] == attempts[1]
    assert [line["event"] for line in lines] == ["manifest_postponed", "batch_closed"]
    assert "DOE" not in str(lines)
