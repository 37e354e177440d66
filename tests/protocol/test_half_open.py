"""Connections that never become an association (faults.md rows 1 to 4)."""

import select
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.protocol.peer import SERVICE_PROVIDER, Peer, Wire
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD_INSTANCE, store_well, unharmed
from tests.protocol.wire import P_DATA, Proposal, pdu, pdv
from tests.unit.store_scp.builders import CT_IMAGE

ARTIM = 1.5
PDU = 1.5
REQUEST = Proposal(CT).encoded()
# A probe is what a load balancer does every few seconds: it must not fill the log.
SILENT = {"association", "connection_refused"}


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"ARTIM_TIMEOUT": str(ARTIM), "PDU_TIMEOUT": str(PDU)}


def noise(receiver: ReceiverProcess) -> int:
    """The lines that are about peers, but for the good ones' releases."""
    return sum(
        each["event"] in SILENT and each.get("outcome") != "released" for each in receiver.lines
    )


def test_row_01_a_connection_that_says_nothing_is_closed_at_artim_and_not_logged(
    receiver: ReceiverProcess,
) -> None:
    before = noise(receiver)
    began = time.monotonic()
    with Wire(receiver.port) as silent:
        assert silent.ended_silently()
    assert time.monotonic() - began >= ARTIM
    assert noise(receiver) == before


def test_row_01_a_connection_that_only_opens_and_closes_is_not_logged(
    receiver: ReceiverProcess,
) -> None:
    before = noise(receiver)
    probes = receiver.metrics()["connections_total{kind=probe}"]
    for _ in range(5):
        Wire(receiver.port).connection.close()
    store_well(receiver)
    assert noise(receiver) == before
    assert receiver.metrics()["connections_total{kind=probe}"] == probes + 5


def test_row_02_a_request_that_stops_midway_is_closed_at_artim(receiver: ReceiverProcess) -> None:
    before = noise(receiver)
    began = time.monotonic()
    with ExitStack() as opened:
        stuck = [opened.enter_context(Wire(receiver.port)) for _ in range(3)]
        for wire, size in zip(stuck, (4, 60, len(REQUEST) - 1), strict=True):
            wire.send(REQUEST[:size])
        assert all(wire.ended_silently() for wire in stuck)
    assert time.monotonic() - began >= ARTIM
    assert noise(receiver) == before


def test_row_03_a_request_of_one_byte_a_moment_is_closed_at_artim(
    receiver: ReceiverProcess,
) -> None:
    with Wire(receiver.port) as wire:
        assert trickled(wire, REQUEST) < len(REQUEST)


def test_row_03_a_pdu_of_one_byte_a_moment_ends_by_its_own_deadline(
    receiver: ReceiverProcess,
) -> None:
    with Peer(receiver.port, CT, "TRICKLER") as peer:
        peer.start_store(CT_IMAGE, GOOD_INSTANCE)
        trickled(peer.wire, pdu(P_DATA, pdv(bytes(60_000))))
        assert peer.aborted_by() == SERVICE_PROVIDER
    line = receiver.wait_for("association", calling_ae="TRICKLER")
    assert (line["outcome"], line["why"]) == ("aborted", "a PDU took too long")


def test_row_04_half_open_peers_beyond_the_limit_take_nobodys_place(tmp_path: Path) -> None:
    with (
        unharmed(STORAGE_DIR=str(tmp_path), MAXIMUM_ASSOCIATIONS="2") as process,
        ExitStack() as opened,
    ):
        for number in range(40):
            half_open = opened.enter_context(Wire(process.port))
            half_open.send(REQUEST[: number % 8 * 20])
        store_well(process)
        with Peer(process.port, CT), Peer(process.port, CT):
            assert Peer(process.port, CT).rejected() == (2, 3, 2)
        store_well(process)


def trickled(wire: Wire, data: bytes) -> int:
    """How many bytes go out, one by one, before the receiver answers or closes."""
    for number in range(len(data)):
        if select.select([wire.connection], [], [], 0.05)[0]:
            return number
        wire.send(data[number : number + 1])
    return len(data)
