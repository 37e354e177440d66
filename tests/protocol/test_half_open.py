"""Connections that never become an association (docs/faults.md)."""

import select
import time
from contextlib import ExitStack

import pytest

from tests.protocol.peer import SERVICE_PROVIDER, Peer, Wire
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.shared import AT_LEAST, FEW, SHORT, SharedReceivers
from tests.protocol.vitals import CT, GOOD_INSTANCE, store_well
from tests.protocol.wire import P_DATA, Proposal, pdu, pdv
from tests.unit.store_scp.builders import CT_IMAGE

REQUEST = Proposal(CT).encoded()
# A probe is what a load balancer does every few seconds: it must not fill the log.
SILENT = {"association", "connection_refused"}


def noise(receiver: ReceiverProcess) -> int:
    """The lines that are about peers, but for the good ones' releases."""
    return sum(
        each["event"] in SILENT and each.get("outcome") != "released" for each in receiver.lines
    )


@pytest.mark.fault("silent-connection")
def test_a_connection_that_says_nothing_is_closed_at_artim_and_not_logged(
    short_deadlines: ReceiverProcess,
) -> None:
    before = noise(short_deadlines)
    began = time.monotonic()
    with Wire(short_deadlines.port) as silent:
        assert silent.ended_silently()
    assert time.monotonic() - began >= AT_LEAST
    assert noise(short_deadlines) == before


@pytest.mark.fault("silent-connection")
def test_a_connection_that_only_opens_and_closes_is_not_logged(
    short_deadlines: ReceiverProcess,
) -> None:
    before = noise(short_deadlines)
    probes = short_deadlines.metrics()["connections_total{kind=probe}"]
    for _ in range(5):
        Wire(short_deadlines.port).connection.close()
    store_well(short_deadlines)
    assert noise(short_deadlines) == before
    assert short_deadlines.metrics()["connections_total{kind=probe}"] == probes + 5


@pytest.mark.fault("half-a-request")
def test_a_request_that_stops_midway_is_closed_at_artim(short_deadlines: ReceiverProcess) -> None:
    before = noise(short_deadlines)
    began = time.monotonic()
    with ExitStack() as opened:
        stuck = [opened.enter_context(Wire(short_deadlines.port)) for _ in range(3)]
        for wire, size in zip(stuck, (4, 60, len(REQUEST) - 1), strict=True):
            wire.send(REQUEST[:size])
        assert all(wire.ended_silently() for wire in stuck)
    assert time.monotonic() - began >= AT_LEAST
    assert noise(short_deadlines) == before


@pytest.mark.fault("one-byte-a-moment")
def test_a_request_of_one_byte_a_moment_is_closed_at_artim(
    short_deadlines: ReceiverProcess,
) -> None:
    with Wire(short_deadlines.port) as wire:
        assert trickled(wire, REQUEST) < len(REQUEST)


@pytest.mark.fault("one-byte-a-moment")
def test_a_pdu_of_one_byte_a_moment_ends_by_its_own_deadline(
    short_deadlines: ReceiverProcess,
) -> None:
    with Peer(short_deadlines.port, CT, "TRICKLER") as peer:
        peer.start_store(CT_IMAGE, GOOD_INSTANCE)
        trickled(peer.wire, pdu(P_DATA, pdv(bytes(60_000))))
        assert peer.aborted_by() == SERVICE_PROVIDER
    line = short_deadlines.wait_for("association", calling_ae="TRICKLER")
    assert (line["outcome"], line["why"]) == ("aborted", "a PDU took too long")


@pytest.mark.fault("one-byte-a-moment")
def test_a_message_of_two_bytes_a_moment_ends_by_its_own_deadline(
    receivers: SharedReceivers,
) -> None:
    with receivers.using({"MESSAGE_TIMEOUT": str(SHORT)}) as process:
        began = time.monotonic()
        with Peer(process.port, CT, "DRIPPER") as peer:
            peer.start_store(CT_IMAGE, GOOD_INSTANCE)
            while not select.select([peer.wire.connection], [], [], 0.1)[0]:
                peer.wire.send(pdu(P_DATA, pdv(b"\x08\x00", control=0)))
                assert time.monotonic() - began < 20
            assert peer.aborted_by() == SERVICE_PROVIDER
        line = process.wait_for("association", calling_ae="DRIPPER")
        assert line["outcome"] == "aborted"
        assert line["why"] == "a message made too little progress"


@pytest.mark.fault("half-open-flood")
def test_half_open_peers_beyond_the_limit_take_nobodys_place(few_places: ReceiverProcess) -> None:
    with ExitStack() as opened:
        for number in range(40):
            half_open = opened.enter_context(Wire(few_places.port))
            half_open.send(REQUEST[: number % 8 * 20])
        store_well(few_places)
        with ExitStack() as taken:
            for _ in range(FEW):
                taken.enter_context(Peer(few_places.port, CT))
            assert Peer(few_places.port, CT).rejected() == (2, 3, 2)
        store_well(few_places)


def trickled(wire: Wire, data: bytes) -> int:
    """How many bytes go out, one by one, before the receiver answers or closes."""
    for number in range(len(data)):
        if select.select([wire.connection], [], [], 0.05)[0]:
            return number
        wire.send(data[number : number + 1])
    return len(data)
