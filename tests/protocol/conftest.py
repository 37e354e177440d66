import os
from collections.abc import Iterator

import pytest

from tests.protocol.fake_s3 import CREDENTIALS, FakeS3, fake_s3
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.shared import FEW, SHORT, SharedReceivers, receivers
from tests.protocol.vitals import until

__all__ = ["receivers"]  # a fixture


@pytest.fixture
def receiver(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver with the default settings and a directory: nothing may be stored."""
    with receivers.using({}) as process:
        yield process


@pytest.fixture
def storing(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """The same receiver, for a test that stores something."""
    with receivers.using({}, stores=True) as process:
        yield process


@pytest.fixture
def short_deadlines(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver that waits SHORT seconds for a request and for a PDU, and long for silence."""
    names = ("ARTIM_TIMEOUT", "PDU_TIMEOUT")
    with receivers.using(dict.fromkeys(names, str(SHORT))) as process:
        yield process


@pytest.fixture
def short_silence(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver that ends an association after SHORT seconds of silence, by that deadline only."""
    with receivers.using({"NETWORK_TIMEOUT": str(SHORT)}) as process:
        yield process


@pytest.fixture
def few_places(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver of two workers that has room for FEW associations."""
    with receivers.using({"MAXIMUM_ASSOCIATIONS": str(FEW), "SCP_WORKERS": "2"}) as process:
        yield process


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    """An S3 that stalls and fails as the test says."""
    with fake_s3() as running:
        yield running


@pytest.fixture(scope="session")
def session_s3() -> Iterator[FakeS3]:
    with fake_s3() as running:
        yield running


@pytest.fixture
def shared_s3(session_s3: FakeS3) -> Iterator[FakeS3]:
    """The S3 of ``s3_receiver``: empty before each test, and with no upload left open after it."""
    session_s3.reset()
    yield session_s3
    assert not session_s3.uploads


@pytest.fixture
def s3_receiver(receivers: SharedReceivers, shared_s3: FakeS3) -> Iterator[ReceiverProcess]:
    """A receiver with a bucket."""
    with receivers.using(shared_s3.environment) as process:
        # A batch of the test before would write its manifest into this one's S3.
        until(lambda: not process.metrics()["open_batches"], "a batch is open")
        shared_s3.reset()
        process.forget()
        yield process


@pytest.fixture(scope="session")
def aws() -> Iterator[dict[str, str]]:
    """The environment that points at a loopback S3 and DynamoDB."""
    from local.aws import AwsServer  # noqa: PLC0415 - not in every process of xdist

    server = AwsServer()
    server.start()
    host, port = server.get_host_and_port()
    yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
