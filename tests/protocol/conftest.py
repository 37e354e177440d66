import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.protocol.fake_s3 import CREDENTIALS, FakeS3, fake_s3
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import Vitals, assert_unharmed, baseline, files


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    """The settings of a module's receiver; the defaults, where a module has no others."""
    return {}


@pytest.fixture(scope="module")
def running(storage: Path, settings: Mapping[str, str]) -> Iterator[tuple[ReceiverProcess, Vitals]]:
    with ReceiverProcess(STORAGE_DIR=str(storage), **settings) as process:
        yield process, baseline(process)


@pytest.fixture
def receiver(running: tuple[ReceiverProcess, Vitals]) -> Iterator[ReceiverProcess]:
    """A receiver shared by a module's tests: unharmed after each, with nothing stored of it."""
    process, base = running
    yield process
    assert_unharmed(process, base)
    assert files(process) == base.files


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    """An S3 that stalls and fails as the test says."""
    with fake_s3() as running:
        yield running


@pytest.fixture(scope="module")
def shared_s3() -> Iterator[FakeS3]:
    """The S3 of ``s3_receiver``."""
    with fake_s3() as running:
        yield running


@pytest.fixture(scope="module")
def running_to_s3(shared_s3: FakeS3) -> Iterator[tuple[ReceiverProcess, Vitals]]:
    with ReceiverProcess(**shared_s3.environment) as process:
        yield process, baseline(process)


@pytest.fixture
def s3_receiver(
    running_to_s3: tuple[ReceiverProcess, Vitals], shared_s3: FakeS3
) -> Iterator[ReceiverProcess]:
    """A receiver with a bucket, shared by a module's tests; unharmed, and no upload left open."""
    process, base = running_to_s3
    shared_s3.part_sizes.clear()
    yield process
    assert_unharmed(process, base)
    assert not shared_s3.uploads


@pytest.fixture(scope="session")
def aws() -> Iterator[dict[str, str]]:
    """The environment that points at a loopback S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
