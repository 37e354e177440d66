"""Peers that take all they can get, beside a good one (docs/faults.md): nobody else is harmed."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from bench.receiver.hostile import Hostile, hostile_peers
from tests.protocol.peer import SERVICE_PROVIDER, Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.shared import SharedReceivers
from tests.protocol.vitals import CT
from tests.protocol.wire import P_DATA, VERIFICATION, pdu, pdv
from tests.unit.store_scp.builders import CT_IMAGE, IMPLICIT_LE, SOP_INSTANCE, data_set

ECHO = [(VERIFICATION, [IMPLICIT_LE])]

# Generous: the benchmark has the numbers (make bench-receiver ARGS=--flood).
_ANSWERED_IN = 10.0
_STORES = 10


# What the sockets of these hold is still dealt with for half a minute after they have gone.
_LASTING = frozenset({Hostile.ONE_BYTE_FRAGMENTS})


@pytest.mark.fault("flood")
@pytest.mark.parametrize(
    "kind", sorted(set(Hostile) - _LASTING), ids=lambda kind: kind.name.lower()
)
def test_a_good_peer_is_served_beside_hostile_ones(
    receivers: SharedReceivers, kind: Hostile
) -> None:
    with receivers.using({}, stores=True) as process:
        assert_served_beside(process, kind)


@pytest.mark.fault("flood")
@pytest.mark.parametrize("kind", sorted(_LASTING), ids=lambda kind: kind.name.lower())
def test_a_good_peer_is_served_beside_such_as_last(kind: Hostile, tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="0") as process:
        assert_served_beside(process, kind)


@pytest.mark.fault("flood")
def test_fragments_without_bytes_end_an_association(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, CT, "EMPTY") as peer:
        peer.start_store(CT_IMAGE, "1.2.3.6")
        peer.wire.send(pdu(P_DATA, pdv(b"", control=0) * 5_000))
        assert peer.aborted_by() == SERVICE_PROVIDER
    line = receiver.wait_for("association", calling_ae="EMPTY")
    assert line["why"] == "too many fragments without bytes in a row"


@pytest.mark.fault("flood")
def test_a_data_set_in_fragments_of_one_byte_is_stored_as_it_is(storing: ReceiverProcess) -> None:
    image = data_set(pixels=bytes(range(256)) * 400)
    with Peer(storing.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.4")
        values = [pdv(image[at : at + 1], control=0) for at in range(len(image))]
        for at in range(0, len(values), 10_000):
            peer.wire.send(pdu(P_DATA, b"".join(values[at : at + 10_000])))
        assert peer.finish_store(b"").status == 0x0000
    (stored,) = storing.storage.rglob("1.2.3.4.*.dcm")
    assert stored.read_bytes().endswith(image)


def assert_served_beside(process: ReceiverProcess, kind: Hostile) -> None:
    with ExitStack() as opened:
        idle = opened.enter_context(Peer(process.port, ECHO))
        good = opened.enter_context(Peer(process.port, CT))
        with hostile_peers(process.port, kind), watched_health(process) as bad:
            for number in range(_STORES):
                store_in_time(good, f"1.2.3.4.{number}")
            with Peer(process.port, CT) as later:
                store_in_time(later, "1.2.3.5")
            assert idle.echo().status == 0x0000
        assert bad == []


@contextmanager
def watched_health(process: ReceiverProcess) -> Iterator[list[str]]:
    """What /health/live says meanwhile, other than that all live."""
    stop, bad = Event(), list[str]()

    def watch() -> None:
        while not stop.wait(0.2):
            answer = process.answer("/health/live")
            if json.loads(answer)["status"] != "live":
                bad.append(answer)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield bad
    finally:
        stop.set()
        thread.join()


def store_in_time(peer: Peer, uid: str) -> None:
    """Store half a megabyte, and have it answered."""
    padded = uid.encode() + b"\x00" * (len(uid) % 2)
    image = data_set(replaced={SOP_INSTANCE: padded}, pixels=bytes(500_000))
    began = time.monotonic()
    assert peer.store(image, CT_IMAGE, uid).status == 0x0000
    assert time.monotonic() - began < _ANSWERED_IN
