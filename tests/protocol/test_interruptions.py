"""Peers that stop in the middle of a data set (docs/faults.md), and slow ones that do not."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import SERVICE_PROVIDER, Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, unfinished, until
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


@pytest.mark.fault("interrupted-transfer")
@pytest.mark.parametrize("size", PIECES.keys())
@pytest.mark.parametrize("way", STOPS.keys())
def test_a_peer_that_stops_midway_leaves_nothing(
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


@pytest.mark.fault("interrupted-transfer")
@pytest.mark.parametrize("way", STOPS.keys())
def test_a_multipart_upload_of_a_peer_that_stops_is_aborted(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3, way: str
) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
        shared_s3.wait_for_part()
        STOPS[way][0](peer)
    shared_s3.wait_for_no_uploads()
    assert not shared_s3.keys("1.2.3.77")


@pytest.mark.fault("interrupted-transfer")
def test_a_peer_that_stalls_is_aborted_at_the_network_timeout(
    short_silence: ReceiverProcess,
) -> None:
    port = short_silence.port
    with Peer(port, CT, "SMALL") as small, Peer(port, CT, "LARGE") as large:
        small.start_store(CT_IMAGE, "1.2.3.77", PIECES["small"])
        large.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
        assert [small.aborted_by(), large.aborted_by()] == [SERVICE_PROVIDER] * 2
    for title in ("SMALL", "LARGE"):
        line = short_silence.wait_for("association", calling_ae=title)
        assert (line["outcome"], line["why"]) == ("aborted", "the peer fell silent")


@pytest.mark.fault("interrupted-transfer")
def test_a_stalled_large_file_is_removed_while_the_receiver_goes_on(
    receiver: ReceiverProcess,
) -> None:
    with Peer(receiver.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", PIECES["large"])
        until(lambda: unfinished(receiver), "nothing is written")
        peer.vanish()
        until(lambda: not unfinished(receiver), "the temporary file stays")


def test_a_slow_sender_and_fast_ones_all_complete(storing: ReceiverProcess) -> None:
    slow = data_pdus(data_set(replaced={SOP_INSTANCE: b"1.2.3.70"}, pixels=bytes(60_000)))
    with Peer(storing.port, CT) as peer, Peer(storing.port, CT) as fast:
        peer.start_store(CT_IMAGE, "1.2.3.70")
        for number, piece in enumerate(batched(slow, 5_000)):
            peer.wire.send(piece)
            uid = f"1.2.3.9{number}"
            encoded = data_set(replaced={SOP_INSTANCE: uid.encode()})
            assert fast.store(encoded, CT_IMAGE, uid).status == 0x0000
        assert peer.response().status == 0x0000


def batched(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
