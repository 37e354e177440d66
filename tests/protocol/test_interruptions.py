"""Peers that stop in the middle of a data set (faults.md row 20), and slow ones that do not."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import SERVICE_PROVIDER, Peer, send_slowly
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, unfinished, unharmed, until
from tests.protocol.wire import P_DATA, data_pdus, pdu, pdv
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set

MIB = 1024**2
# More than a block of 8 MiB, so that a part of it is in the sink when the peer stops.
LARGE = data_set(replaced={SOP_INSTANCE: b"1.2.3.77"}, pixels=bytes(20 * MIB))
PIECES = {"small": GOOD[:60], "large": LARGE[: 12 * MIB]}

Stop = Callable[[Peer], None]


def in_a_pdu(peer: Peer) -> None:
    peer.wire.send(pdu(P_DATA, pdv(GOOD, control=0))[:-20])
    peer.vanish()


# How a peer stops, and what the association's line says of it.
STOPS: Mapping[str, tuple[Stop, str, str | None]] = {
    "vanishes": (Peer.vanish, "aborted", "the connection was lost"),
    "cut in a PDU": (in_a_pdu, "aborted", "the connection was lost"),
    "aborts": (Peer.abort, "aborted", "the peer aborted"),
    "releases": (Peer.release_and_go, "released", None),
}


@pytest.mark.parametrize("size", PIECES.keys())
@pytest.mark.parametrize("way", STOPS.keys())
def test_row_20_a_peer_that_stops_midway_leaves_nothing(
    receiver: ReceiverProcess, size: str, way: str
) -> None:
    stop, outcome, why = STOPS[way]
    title = f"{size} {way}"[:16].upper()
    with Peer(receiver.port, CT, title) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", PIECES[size])
        stop(peer)
    line = receiver.wait_for("association", calling_ae=title)
    assert (line["outcome"], line.get("why")) == (outcome, why)
    assert (line["stored"], line["refused"]) == (0, 0)


@pytest.mark.parametrize("way", STOPS.keys())
def test_row_20_a_multipart_upload_of_a_peer_that_stops_is_aborted(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3, way: str
) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
        shared_s3.wait_for_part()
        STOPS[way][0](peer)
    shared_s3.wait_for_no_uploads()
    assert not shared_s3.keys("1.2.3.77")


def test_row_20_a_peer_that_stalls_is_aborted_at_the_network_timeout(tmp_path: Path) -> None:
    with unharmed(STORAGE_DIR=str(tmp_path), NETWORK_TIMEOUT="1.5") as process:
        with Peer(process.port, CT, "SMALL") as small, Peer(process.port, CT, "LARGE") as large:
            small.start_store(CT_IMAGE, "1.2.3.77", PIECES["small"])
            large.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
            assert [small.aborted_by(), large.aborted_by()] == [SERVICE_PROVIDER] * 2
        for title in ("SMALL", "LARGE"):
            line = process.wait_for("association", calling_ae=title)
            assert (line["outcome"], line["why"]) == ("aborted", "the peer fell silent")


def test_row_20_a_stalled_large_file_is_removed_while_the_receiver_goes_on(tmp_path: Path) -> None:
    with unharmed(STORAGE_DIR=str(tmp_path)) as process, Peer(process.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
        until(lambda: unfinished(process), "nothing is written")
        peer.vanish()
        until(lambda: not unfinished(process), "the temporary file stays")


def test_a_slow_sender_and_a_fast_one_both_complete(tmp_path: Path) -> None:
    slow = data_set(replaced={SOP_INSTANCE: b"1.2.3.70"}, pixels=bytes(60_000))
    with (
        unharmed(stores=True, STORAGE_DIR=str(tmp_path)) as process,
        Peer(process.port, CT) as peer,
        Peer(process.port, CT) as fast,
    ):
        peer.start_store(CT_IMAGE, "1.2.3.70")
        sending = threading.Thread(target=send_slowly, args=(peer, data_pdus(slow), 30_000))
        sending.start()
        number = 0
        while sending.is_alive():
            number += 1
            uid = f"1.2.3.9{number}"
            encoded = data_set(replaced={SOP_INSTANCE: uid.encode()})
            assert fast.store(encoded, CT_IMAGE, uid).status == 0x0000
        sending.join()
        assert peer.response().status == 0x0000
        assert number > 10
