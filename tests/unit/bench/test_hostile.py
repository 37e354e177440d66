"""Hostile peers: each kind sends what its name says, and comes again when it is sent away."""

import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from bench.receiver.errors import PeerFailed
from bench.receiver.hostile import Hostile, hostile_peers
from bench.receiver.hostile_pieces import (
    LONG_ELEMENTS,
    echoes,
    empty_fragments,
    long_header,
    long_headers,
    one_byte_fragments,
    trickle,
)
from bench.receiver.pdus import echo_request
from contract.header import read_header
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.wire import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, item, pdu
from tests.unit.bench.test_pdus import fragments

EXPLICIT_LE = "1.2.840.10008.1.2.1"
MAX_PDU = 16_384
REJECTED = pdu(ASSOCIATE_RJ, bytes.fromhex("00 02 03 02"))  # transient: local limit exceeded
ABORTED = pdu(ABORT, bytes(4))
ACCEPTED = pdu(
    ASSOCIATE_AC,
    struct.pack(">HH16s16s32x", 1, 0, b"STORESCP", b"BENCH")
    + item(0x10, b"1.2.840.10008.3.1.1.1")
    + item(0x21, b"\x01\0\0\0" + item(0x40, EXPLICIT_LE.encode()))
    + item(0x50, item(0x51, struct.pack(">I", MAX_PDU)) + item(0x52, b"1.2.3")),
)
Accept = Callable[[bytes], AbstractContextManager[socket.socket]]


@contextmanager
def hostile_peers_beside(
    listener: socket.socket, kind: Hostile = Hostile.TRICKLE
) -> Iterator[Accept]:
    """One peer that connects to a listener of the test's, and what answers its next connection.

    The peers' context begins only when they have begun, so it lives in a thread.
    """
    listener.settimeout(30)
    ending = threading.Event()

    def keep() -> None:
        with hostile_peers(listener.getsockname()[1], kind, 1):
            ending.wait()

    @contextmanager
    def accept(answer: bytes) -> Iterator[socket.socket]:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(4096)[0] == 0x01
            connection.sendall(answer)
            assert connection.recv(4096) or answer == REJECTED
            yield connection

    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(keep)
        try:
            yield accept
        finally:
            ending.set()
        kept.result()


def first(pieces: Iterator[bytes], count: int) -> list[tuple[int, bytes]]:
    return fragments(b"".join(itertools.islice(pieces, count)))


def test_empty_fragments_are_a_store_request_and_then_nothing_in_long_pdus() -> None:
    (command, _), *rest = first(empty_fragments(MAX_PDU), 2)
    assert command == 0x03
    assert set(rest) == {(0x00, b"")}
    pdu = next(itertools.islice(empty_fragments(MAX_PDU), 1, None))
    assert MAX_PDU - 6 < int.from_bytes(pdu[2:6], "big") <= MAX_PDU


def test_one_byte_fragments_are_a_store_request_a_header_and_then_a_byte_at_a_time() -> None:
    (command, _), (_, header), *rest = first(one_byte_fragments(MAX_PDU), 3)
    assert command == 0x03
    assert read_header(memoryview(header), EXPLICIT_LE).study_instance_uid
    assert set(rest) == {(0x00, b"\x00")}


def test_echoes_are_whole_requests() -> None:
    assert set(first(echoes(MAX_PDU), 1)) == {(0x03, echo_request(1))}


def test_long_headers_are_stores_that_a_receiver_can_accept_only_after_200_000_elements() -> None:
    sent = first(long_headers(MAX_PDU), 1)
    assert b"".join(fragment for _, fragment in sent[1:]) == long_header()
    assert [control for control, _ in sent] == [0x03, *[0x00] * (len(sent) - 2), 0x02]
    assert read_header(memoryview(long_header()), EXPLICIT_LE).study_instance_uid
    tags = list(pydicom.dcmread(BytesIO(long_header()), force=True).keys())
    assert len(tags) == LONG_ELEMENTS
    assert tags == sorted(tags)


def test_a_trickle_is_a_store_request_and_then_two_bytes_at_a_time() -> None:
    (command, _), *rest = first(trickle(MAX_PDU), 6)
    assert command == 0x03
    assert rest == [(0x00, long_header()[at : at + 2]) for at in range(0, 10, 2)]


@pytest.mark.parametrize("kind", Hostile)
def test_a_receiver_has_as_many_associations_of_a_kind_as_were_asked_for(
    kind: Hostile, tmp_path: Path
) -> None:
    settings = {"STORAGE_DIR": str(tmp_path), "LOG_LEVEL": "INFO", "DRAIN_SECONDS": "1"}
    with ReceiverProcess(**settings) as receiver, hostile_peers(receiver.port, kind, 3):
        # The receiver ends those that send nothing but fragments without bytes.
        assert receiver.metrics()["associations_total{outcome=accepted}"] >= 3


@pytest.mark.parametrize("answer", [REJECTED, ACCEPTED + ABORTED, ACCEPTED])
def test_a_peer_that_is_rejected_aborted_or_closed_comes_again_but_not_at_once(
    answer: bytes,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        hostile_peers_beside(listener) as accept,
    ):
        with accept(answer):
            ended = time.monotonic()
        with accept(ACCEPTED):
            assert time.monotonic() - ended >= 0.1


def test_peers_that_cannot_begin_say_how_many_and_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    problem = "of 2 hostile peers only 0 began in 1 s: .*refused"
    with pytest.raises(PeerFailed, match=problem), hostile_peers(port, Hostile.ECHOES, 2, 1.0):
        pytest.fail("nobody listens")


def test_a_peer_that_never_reads_leaves_the_answers_in_the_way() -> None:
    """An acceptor that only writes is stopped by the peer's small buffer."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        hostile_peers_beside(listener, Hostile.NEVER_READS) as accept,
        accept(ACCEPTED) as connection,
    ):
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.sendall(bytes(64 * 1024**2))
