"""PDUs that break PS3.8 (docs/faults.md)."""

import struct

import pytest

from tests.protocol.peer import SERVICE_PROVIDER, SERVICE_USER, Peer, Wire
from tests.protocol.receiver import PLANTED, ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, store_well
from tests.protocol.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    LAST,
    P_DATA,
    Proposal,
    context,
    item,
    pdu,
    pdv,
    store_request,
)
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE

MIB = 1024**2
FIXED = struct.pack(">HH16s16s32x", 1, 0, b"STORESCP".ljust(16), b"TESTER".ljust(16))
CONTEXTS_20_000 = pdu(
    ASSOCIATE_RQ,
    FIXED + b"".join(context(2 * n % 256 + 1, "1.2", ["1.2"]) for n in range(20_000)),
)
SUB_ITEMS_40_000 = pdu(
    ASSOCIATE_RQ,
    FIXED + b"".join(item(0x50, item(0x54, b"") * 15_000) for _ in range(16)),
)


@pytest.mark.fault("impossible-pdu")
@pytest.mark.parametrize(
    "request_bytes",
    [
        pdu(ASSOCIATE_RQ, FIXED, length=0xFFFFFFF0),
        pdu(ASSOCIATE_RQ, FIXED, length=MIB + 1),
        pdu(ASSOCIATE_RQ, FIXED, length=67),
        CONTEXTS_20_000,
        SUB_ITEMS_40_000,
        pdu(ASSOCIATE_RQ, FIXED[:20]),
        pdu(ASSOCIATE_RQ, b""),
    ],
    ids=["FFFFFFF0", "1 MiB + 1", "67", "20,000 contexts", "40,000 sub-items", "short", "empty"],
)
def test_an_impossible_request_is_an_invalid_pdu(
    receiver: ReceiverProcess, request_bytes: bytes
) -> None:
    (worker,) = receiver.workers()
    before = worker.cpu_times()
    with Wire(receiver.port) as wire:
        wire.send(request_bytes + bytes(1 if len(request_bytes) < 100 else 0))
        assert wire.abort_source() == SERVICE_USER
    after = worker.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.5


@pytest.mark.fault("impossible-pdu")
def test_a_length_of_4_gib_takes_no_memory(receiver: ReceiverProcess) -> None:
    (worker,) = receiver.workers()
    before = worker.memory_info().rss
    with Wire(receiver.port) as wire:
        wire.send(pdu(ASSOCIATE_RQ, bytes(100_000), length=0xFFFFFFF0))
        assert wire.abort_source() == SERVICE_USER
    assert worker.memory_info().rss - before < 4 * MIB


@pytest.mark.fault("p-data-too-long")
@pytest.mark.parametrize("length", [131_073, 0xFFFFFFF0])
def test_an_overlong_p_data_tf_is_a_protocol_error(receiver: ReceiverProcess, length: int) -> None:
    with Peer(receiver.port, CT) as peer:
        assert peer.accepted.max_length == 131_072
        peer.wire.send(pdu(P_DATA, b"", length))
        assert peer.aborted_by() == SERVICE_PROVIDER


@pytest.mark.fault("p-data-too-long")
def test_the_longest_p_data_tf_is_none(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, CT) as peer:
        peer.wire.send(store_request(CT_IMAGE, "1.2.3.5"))  # not the data set's
        peer.wire.send(pdu(P_DATA, pdv(GOOD.ljust(131_066, b"\0"), control=0)))
        peer.wire.send(pdu(P_DATA, pdv(b"", control=LAST)))
        assert peer.response().status == 0xA900


@pytest.mark.fault("unknown-pdu")
@pytest.mark.parametrize("body", [b"", bytes(4), bytes(200)])
def test_an_unknown_pdu_before_a_request_is_answered_as_a_user(
    receiver: ReceiverProcess, body: bytes
) -> None:
    with Wire(receiver.port) as wire:
        wire.send(pdu(0x42, body))
        assert wire.abort_source() == SERVICE_USER


@pytest.mark.fault("unknown-pdu")
@pytest.mark.parametrize("kind", [0x00, 0x08, 0xFF])
def test_an_unknown_pdu_in_an_association_is_answered_as_the_provider(
    receiver: ReceiverProcess, kind: int
) -> None:
    with Peer(receiver.port, CT, "UNKNOWN") as peer:
        peer.wire.send(pdu(kind, bytes(4)))
        assert peer.aborted_by() == SERVICE_PROVIDER
    line = receiver.wait_for("association", calling_ae="UNKNOWN")
    assert (line["outcome"], line["why"]) == ("aborted", "unknown PDU type")


@pytest.mark.fault("another-protocol")
@pytest.mark.parametrize(
    ("payload", "why", "needs"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n", "an HTTP request", "SCP_HEALTH_PORT"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%b",
            "a TLS hello on the plain port",
            "TLS is off (SCP_TLS_PORT is not set)",
        ),
        (b"PROXY TCP4 %b 192.0.2.1 1 2\r\n", "SCP_PROXY_PROTOCOL is off", "version 2"),
        (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c%b", "SCP_PROXY_PROTOCOL is off", "TRUSTED_CIDRS"),
        (b"SSH-2.0-%b\r\n", "unknown PDU type", "A-ASSOCIATE-RQ"),
    ],
    ids=["HTTP", "TLS", "PROXY v1", "PROXY v2", "other"],
)
@pytest.mark.parametrize("pieces", [1, 20])
def test_another_protocol_is_cut_off_and_named_without_its_payload(
    receiver: ReceiverProcess, payload: bytes, why: str, needs: str, pieces: int
) -> None:
    sent = payload % PLANTED.encode()
    refused = receiver.metrics()["connections_total{kind=refused}"]
    with Wire(receiver.port) as wire:
        for at in range(pieces):
            wire.send(sent[at::pieces] if pieces == 1 else sent[at : at + 1])
        assert wire.abort_source() == SERVICE_USER
    line = receiver.wait_for("connection_refused", peer="127.0.0.1")
    assert why in line["why"]
    assert needs in line["needs"]
    assert receiver.metrics()["connections_total{kind=refused}"] == refused + 1
    assert PLANTED not in "".join(receiver.raw)


@pytest.mark.fault("pdu-out-of-turn")
def test_data_before_a_request_is_answered_as_a_user(receiver: ReceiverProcess) -> None:
    with Wire(receiver.port) as wire:
        wire.send(pdu(P_DATA, pdv(GOOD)))
        assert wire.abort_source() == SERVICE_USER


@pytest.mark.fault("pdu-out-of-turn")
@pytest.mark.parametrize("kind", [0x02, 0x03, 0x05, 0x06])
def test_no_other_pdu_may_come_first(receiver: ReceiverProcess, kind: int) -> None:
    with Wire(receiver.port) as wire:
        wire.send(pdu(kind, bytes(4)))
        assert wire.abort_source() == SERVICE_USER


@pytest.mark.fault("pdu-out-of-turn")
def test_a_second_request_is_answered_as_the_provider(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, CT) as peer:
        peer.wire.send(Proposal(CT).encoded())
        assert peer.aborted_by() == SERVICE_PROVIDER


@pytest.mark.fault("protocol-version")
def test_a_version_without_bit_0_is_rejected(receiver: ReceiverProcess) -> None:
    with Wire(receiver.port) as wire:
        wire.send(Proposal(CT, version=2).encoded())
        assert wire.reject() == (1, 2, 2)


@pytest.mark.fault("protocol-version")
def test_only_bit_0_of_the_version_counts(receiver: ReceiverProcess) -> None:
    with Wire(receiver.port) as wire:
        wire.send(Proposal(CT, version=3).encoded())
        kind, body = wire.read()
    assert kind == ASSOCIATE_AC
    assert body[:2] == b"\x00\x01"


def test_another_application_context_is_rejected(receiver: ReceiverProcess) -> None:
    with Wire(receiver.port) as wire:
        wire.send(Proposal(CT, application_context=EXPLICIT_LE).encoded())
        assert wire.reject() == (1, 1, 2)


def test_an_answer_is_cut_into_pdus_as_short_as_the_peer_wants(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, CT, max_length=20) as peer:
        assert peer.store(None, CT_IMAGE, GOOD_INSTANCE).status == 0xC001


@pytest.mark.fault("pdu-out-of-turn")
@pytest.mark.parametrize(
    "late", [Proposal(CT).encoded(), pdu(9, b"late")], ids=["a request", "no PDU"]
)
def test_what_comes_behind_a_release_makes_no_error_line(
    receiver: ReceiverProcess, late: bytes
) -> None:
    with Peer(receiver.port, CT, "LATE") as peer:
        peer.release()
        peer.wire.send(late)
        assert peer.wire.ended_silently()
        peer.vanish()
    assert receiver.wait_for("association", calling_ae="LATE")["outcome"] == "released"
    store_well(receiver)
    assert not receiver.events("unexpected")
