"""One server and one clock that the tests move; each test has an account without anything."""

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from local.healthimaging import Emulator, EmulatorOptions, ManualScheduler, install
from tests.pipeline.healthimaging.caller import FAST, Caller


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """One server and one set of clients, which take as long to make as all tests to run."""
    emulator = install()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Caller(f"http://{host}:{port}")
    emulator.shutdown()
    server.stop()


@pytest.fixture
def emulator(caller: Caller) -> Iterator[Emulator]:
    """On a clock that the tests move."""
    emulator = install()
    caller.clock = ManualScheduler()
    emulator.use_scheduler(caller.clock)
    emulator.configure(FAST)
    yield emulator
    emulator.configure(EmulatorOptions())
    emulator.shutdown()


@pytest.fixture
def aws(caller: Caller, emulator: Emulator) -> Caller:
    caller.reset()
    assert caller("list_datastores")["datastoreSummaries"] == []
    assert caller.s3.list_buckets()["Buckets"] == []
    caller.s3.create_bucket(Bucket="input")
    caller.s3.create_bucket(Bucket="output")
    return caller


@pytest.fixture
def datastore(aws: Caller) -> str:
    return str(aws("create_datastore", datastoreName="one", clientToken="t")["datastoreId"])
