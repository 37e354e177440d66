"""Where bytes come faster than they become durable (docs/faults.md): memory is bounded."""

import select
import socket
import threading

import pytest

from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import Peer
from tests.protocol.shared import SHORT
from tests.protocol.vitals import CT, store_well, unharmed, until
from tests.protocol.wire import data_pdus, store_request
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set

MIB = 1024**2
# The least that can be set: room for eight blocks of 8 MiB.
SMALL_BUFFER = {"SCP_BUFFER_BYTES": str(64 * MIB)}


def numbered(number: int, size: int) -> tuple[bytes, str]:
    uid = f"1.2.3.20{number}"
    return data_set(replaced={SOP_INSTANCE: uid.encode()}, pixels=bytes(size)), uid


@pytest.mark.fault("sink-refuses")
def test_at_the_watermark_new_associations_are_told_to_come_back(s3: FakeS3) -> None:
    with unharmed(s3.environment | SMALL_BUFFER) as process:
        with Peer(process.port, CT, operations=(8, 1)) as peer:
            with s3.hold("1.2.3.20") as held:
                for number in range(8):  # each takes a block of 8 MiB
                    data, uid = numbered(number, 1_100_000)
                    peer.send_store(data, CT_IMAGE, uid, message_id=number)
                s3.wait_for_held(held, 8)
                assert process.metrics()["in_flight_bytes"] == 64 * MIB
                assert Peer(process.port, CT, "LATE").rejected() == (2, 3, 1)
            assert {peer.response().status for _ in range(8)} == {0x0000}
        store_well(process)
        line = process.wait_for("association", calling_ae="LATE")
        assert (line["outcome"], line["why"]) == ("rejected", "out of memory or uploads")
        assert line["level"] == "warning"


def test_a_stalled_s3_stops_the_reading_and_bounds_the_memory(s3: FakeS3) -> None:
    with unharmed(s3.environment | SMALL_BUFFER) as process:
        (worker,) = process.workers()
        before = worker.memory_info().rss
        with Peer(process.port, CT) as peer:
            data, uid = numbered(0, 100 * MIB)
            peer.wire.send(store_request(CT_IMAGE, uid))
            with s3.hold("1.2.3.20") as held:
                sending = threading.Thread(target=peer.wire.send, args=(data_pdus(data),))
                sending.start()
                s3.wait_for_held(held, 1)
                until(lambda: stands_still(peer.wire.connection), "it still reads")
                assert sending.is_alive()
                assert worker.memory_info().rss - before < 24 * MIB
                store_well(process)
            sending.join()
            assert peer.response().status == 0x0000
        assert s3.objects[s3.keys(uid)[0]].endswith(data)


@pytest.mark.fault("sink-refuses")
def test_who_waits_for_memory_too_long_is_refused(s3: FakeS3) -> None:
    environment = {**s3.environment, **SMALL_BUFFER, "DIMSE_TIMEOUT": "60"}
    with unharmed(environment) as process:
        with Peer(process.port, CT, operations=(8, 1)) as full, Peer(process.port, CT) as late:
            with s3.hold("1.2.3.20") as held:
                for number in range(8):
                    data, uid = numbered(number, 1_100_000)
                    full.send_store(data, CT_IMAGE, uid, message_id=number)
                s3.wait_for_held(held, 8)
                data, uid = numbered(9, 1_100_000)
                assert late.store(data, CT_IMAGE, uid).status == 0xA700
            assert {full.response().status for _ in range(8)} == {0x0000}
        process.wait_for("store_refused", status="A700H", why="no memory for so long")


def stands_still(connection: socket.socket) -> bool:
    """Whether nothing can be sent for a tenth of a second."""
    return not select.select([], [connection], [], 0.1)[1]


def test_a_peer_that_waited_long_for_an_answer_has_its_own_time_after_it(s3: FakeS3) -> None:
    with (
        unharmed(s3.environment, NETWORK_TIMEOUT=str(SHORT)) as process,
        Peer(process.port, CT) as peer,
    ):
        data, uid = numbered(0, 1_000)
        with s3.hold("1.2.3.20") as held:
            peer.send_store(data, CT_IMAGE, uid)
            s3.wait_for_held(held, 1)
            # It is silent for longer than it may be, since it waits for us.
            assert not readable(peer, 2 * SHORT)
        assert peer.response().status == 0x0000
        assert not readable(peer, SHORT / 2)
        assert peer.store(data, CT_IMAGE, uid).status == 0x0000


def readable(peer: Peer, seconds: float) -> bool:
    return bool(select.select([peer.wire.connection], [], [], seconds)[0])
