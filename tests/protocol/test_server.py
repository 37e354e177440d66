"""The server in this process, with a sink that does what a test needs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from store_scp.errors import CannotStart
from store_scp.server import StoreServer
from store_scp.settings import Settings
from structlog.testing import capture_logs

from tests.protocol.peer import ABORT, VERIFICATION, Peer
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE, data_set
from tests.unit.store_scp.test_session import MemorySink

LOOPBACK = {"SCP_BIND_ADDRESS": "127.0.0.1", "SCP_PORT": "0"}
CONTEXTS = [(CT_IMAGE, [EXPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE])]
GOOD = data_set()


@contextmanager
def serving(sink: MemorySink, **environ: str) -> Iterator[StoreServer]:
    before = set(threading.enumerate())
    server = StoreServer(Settings.from_env({**LOOPBACK, **environ}), sink)
    yield server
    server.stop(5)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_store_and_echo_on_one_association() -> None:
    sink = MemorySink()
    with serving(sink) as server, Peer(server.port, CONTEXTS) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        assert peer.echo(3).status == 0x0000
        assert peer.store(GOOD, "../..", "../..").status == 0x0117
    assert [bytes(each.data_set) for each in sink.stored] == [GOOD]
    assert len(sink.ended) == 1


def test_a_bug_in_the_sink_is_0110_and_the_association_goes_on() -> None:
    def fail() -> None:
        raise RuntimeError("DOE^JANE")

    sink = MemorySink(fail)
    with capture_logs() as lines, serving(sink) as server, Peer(server.port, CONTEXTS) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0110
        sink.fail = lambda: None
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    assert "DOE" not in str(lines)


def test_rejection_and_abort_leave_no_thread_behind() -> None:
    with serving(MemorySink(), REQUIRE_CALLING_AE_TITLE="CT1") as server:
        with Peer(server.port, CONTEXTS) as peer:
            assert peer.triple == (1, 1, 3)
        with Peer(server.port, CONTEXTS, "CT1") as peer:
            peer.send_store(GOOD, CT_IMAGE, "1.2.3.4", context_id=99)
            assert peer.closed_with()[0] == ABORT


def test_who_is_still_here_at_the_deadline_is_aborted() -> None:
    sink = MemorySink()
    with serving(sink) as server, Peer(server.port, CONTEXTS) as peer:
        server.stop(0)
        assert peer.closed_with()[0] == ABORT
    assert len(sink.ended) == 1


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with serving(MemorySink()) as server, pytest.raises(CannotStart, match="already in use"):
        StoreServer(Settings.from_env({**LOOPBACK, "SCP_PORT": str(server.port)}), MemorySink())
