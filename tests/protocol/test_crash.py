"""Workers that are killed (docs/faults.md): what was acknowledged is durable, others go on.

Events that come twice or never are the Lambdas': see tests/pipeline.
"""

from contextlib import ExitStack
from pathlib import Path

import pytest

from contract.manifest import Manifest
from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import Peer, Wire
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, busy, store_well, until
from tests.protocol.wire import ASSOCIATE_AC, Proposal
from tests.unit.store_scp.builders import CT_IMAGE


@pytest.mark.fault("killed-or-stopped")
def test_what_was_stored_and_not_answered_is_stored_again_and_imported(s3: FakeS3) -> None:
    with ReceiverProcess(**s3.environment) as process:
        with s3.hold(once_stored=True) as held, Peer(process.port, CT) as peer:
            peer.send_store(GOOD, CT_IMAGE, GOOD_INSTANCE)
            s3.wait_for_held(held, 1)
            (first,) = s3.keys()
            process.workers()[0].kill()
            assert peer.aborted_by() == -1  # and no answer, so its sender tries again
        process.wait_for("worker_died", signal="SIGKILL")
        with Peer(process.port, CT) as again:
            assert again.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        s3.wait_for_manifest()
    # The first object's batch died with its worker; the acknowledged one is in a manifest, and so
    # imported once: the other prefix is for recovery, which knows by the checksum that it is known.
    (key,) = s3.keys("/batches/")
    (entry,) = Manifest.from_json(s3.objects[key]).instances
    assert first.endswith(f"/{GOOD_INSTANCE}.dcm")
    assert f"/bucket/{entry.key}" != first
    assert s3.objects[f"/bucket/{entry.key}"] == s3.objects[first]


@pytest.mark.fault("killed-or-stopped")
def test_what_a_killed_worker_acknowledged_stays(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as process:
        with Peer(process.port, CT) as peer:
            assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
            process.workers()[0].kill()
            assert peer.aborted_by() == -1
        store_well(process)
    (stored,) = tmp_path.rglob("*.dcm")
    assert stored.read_bytes().endswith(GOOD)


def test_a_worker_that_died_is_replaced_and_the_others_associations_go_on(tmp_path: Path) -> None:
    with (
        ReceiverProcess(STORAGE_DIR=str(tmp_path), SCP_WORKERS="2") as process,
        ExitStack() as opened,
    ):
        until(lambda: len(process.workers()) == 2, "a worker is missing")
        peers = [opened.enter_context(Peer(process.port, CT)) for _ in range(16)]
        ports = [peer.wire.connection.getsockname()[1] for peer in peers]
        owners = {port: process.worker_of(port).pid for port in ports}
        assert len(set(owners.values())) == 2
        victim = process.worker_of(ports[0])
        victim.kill()
        process.wait_for("worker_died", signal="SIGKILL")
        for peer, port in zip(peers, ports, strict=True):
            if owners[port] == victim.pid:
                assert peer.aborted_by() == -1
            else:
                assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        until(lambda: len(process.workers()) == 2, "nobody replaces it")
        for _ in range(8):
            store_well(process)
        opened.close()
        until(lambda: not busy(process), "what the dead worker held stays taken")


def test_connections_that_wait_for_a_dead_worker_are_served_by_the_next(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as process, ExitStack() as opened:
        store_well(process)
        worker = process.workers()[0]
        worker.suspend()
        waiting = [opened.enter_context(Wire(process.port)) for _ in range(10)]
        for wire in waiting:
            wire.send(Proposal(CT).encoded())
        worker.kill()
        assert {wire.read()[0] for wire in waiting} == {ASSOCIATE_AC}
