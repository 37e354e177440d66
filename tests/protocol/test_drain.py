"""SIGTERM with work open (docs/faults.md), and settings that are read anew on SIGHUP."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from contract.manifest import CloseReason, Manifest
from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import SERVICE_USER, Peer, Wire
from tests.protocol.receiver import REPOSITORY, ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, store_well, unharmed, until
from tests.protocol.wire import ABORT, VERIFICATION, data_pdus
from tests.unit.store_scp.builders import CT_IMAGE, IMPLICIT_LE, SOP_INSTANCE, data_set

ECHO = [(VERIFICATION, [IMPLICIT_LE])]
OTHER = data_set(replaced={SOP_INSTANCE: b"1.2.3.5"})
LARGE = data_set(replaced={SOP_INSTANCE: b"1.2.3.6"}, pixels=bytes(60 * 1024**2))
# So that nothing but the shutdown closes a batch.
PATIENT = {"BATCH_QUIET_SECONDS": "30"}
ALL_BUT_CT1 = """
[[ae]]
name = "others"
calling = ["MR1", "TESTER"]
"""


@pytest.mark.fault("killed-or-stopped")
def test_sigterm_lets_a_transfer_finish_and_sends_newcomers_away(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="20") as process:
        with Peer(process.port, CT, "OPEN") as peer:
            peer.start_store(CT_IMAGE, GOOD_INSTANCE, GOOD[:60])
            process.terminate()
            process.wait_for("stopping")
            until(lambda: process.states() == ["draining"], "it takes newcomers")
            assert Peer(process.port, CT, "LATE").rejected() == (2, 3, 1)
            assert peer.finish_store(GOOD[60:]).status == 0x0000
        process.wait_for("stopped")
    line = process.wait_for("association", calling_ae="LATE", outcome="rejected")
    assert line["why"] == "the receiver is shutting down"
    process.wait_for("association", calling_ae="OPEN", outcome="released", stored=1)
    assert (tmp_path / "1.2.3" / "1.2.3.3" / "1.2.3.4.dcm").read_bytes().endswith(GOOD)


@pytest.mark.fault("killed-or-stopped")
def test_at_the_deadline_the_rest_is_aborted_and_every_manifest_written(s3: FakeS3) -> None:
    with (
        ReceiverProcess(**s3.environment | {"DRAIN_SECONDS": "1", **PATIENT}) as process,
        Peer(process.port, CT) as idle,
        Peer(process.port, CT) as stuck,
    ):
        assert idle.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        stuck.start_store(CT_IMAGE, "1.2.3.5", OTHER[:60])
        stuck.wire.send(b"\x04\x00\x00\x00\xff\xff")
        process.metrics()  # until it serves, the health process has the workers' sockets open
        began = time.monotonic()
        process.terminate()
        assert [idle.aborted_by(), stuck.aborted_by()] == [SERVICE_USER] * 2
        assert time.monotonic() - began >= 1
        process.wait_for("stopped")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port))
    assert len(process.events("association", why="the receiver stopped")) == 2
    manifest = Manifest.from_json(s3.objects[s3.wait_for_manifest()])
    assert manifest.close_reason is CloseReason.SHUTDOWN
    assert [each.sop_instance_uid for each in manifest.instances] == [GOOD_INSTANCE]


@pytest.mark.fault("killed-or-stopped")
def test_an_upload_that_is_under_way_is_finished_and_answered(s3: FakeS3) -> None:
    with (
        ReceiverProcess(**s3.environment | {"DRAIN_SECONDS": "20", **PATIENT}) as process,
        Peer(process.port, CT) as peer,
    ):
        with s3.hold() as held:
            peer.send_store(GOOD, CT_IMAGE, GOOD_INSTANCE)
            s3.wait_for_held(held, 1)
            process.terminate()
            process.wait_for("stopping")
        assert peer.response().status == 0x0000
        peer.release()
        peer.vanish()
        process.wait_for("batch_closed", reason="shutdown", instances=1)


@pytest.mark.fault("killed-or-stopped")
def test_a_peer_that_released_and_does_not_close_costs_no_manifest(s3: FakeS3) -> None:
    with ReceiverProcess(**s3.environment | PATIENT) as process, Peer(process.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        peer.release()
        process.terminate()
        process.wait_for("stopped")
        peer.vanish()
    assert process.events("batch_closed", reason="shutdown", instances=1)


@pytest.mark.fault("killed-or-stopped")
def test_a_sender_in_full_flow_reads_the_abort(s3: FakeS3) -> None:
    with (
        ReceiverProcess(**s3.environment | {"DRAIN_SECONDS": "0"}) as process,
        Peer(process.port, CT) as peer,
    ):
        peer.start_store(CT_IMAGE, "1.2.3.6")
        with s3.hold() as held:
            sending = threading.Thread(target=send_what_goes, args=(peer, data_pdus(LARGE)))
            sending.start()
            s3.wait_for_held(held, 1)
            process.terminate()
            assert peer.wire.read()[0] == ABORT
            sending.join()
            peer.vanish()


def test_a_connection_that_never_asked_holds_nobody_up(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="60") as process:
        store_well(process)
        with Wire(process.port) as silent:
            silent.send(b"\x01\x00\x00\x00")
            process.terminate()
            process.wait_for("stopped")


def test_sigterm_right_behind_listening_is_a_drain_whatever_threads_a_library_started(
    tmp_path: Path,
) -> None:
    """Such as numpy's, which take the signals that the first thread holds back."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    path = f"{tmp_path}:{REPOSITORY}:{REPOSITORY / 'scp'}"
    for _ in range(3):
        with ReceiverProcess(STORAGE_DIR=str(tmp_path / "storage"), PYTHONPATH=path) as process:
            assert process.stop() == 0


def test_a_new_policy_holds_for_those_who_come_after_sighup(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[ae]]\nname = "all"\n')
    with unharmed(STORAGE_DIR=str(tmp_path / "storage"), SCP_POLICY=str(policy)) as process:
        with Peer(process.port, CT, "CT1") as peer:
            policy.write_text(ALL_BUT_CT1)
            process.reload()
            process.wait_for("reloaded", entries=1)
            assert Peer(process.port, CT, "CT1").rejected() == (1, 1, 3)
            assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        with Peer(process.port, ECHO, "MR1") as peer:
            assert peer.echo().status == 0x0000


def test_a_policy_that_cannot_be_used_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(ALL_BUT_CT1)
    with unharmed(STORAGE_DIR=str(tmp_path / "storage"), SCP_POLICY=str(policy)) as process:
        for number, bad in enumerate(("[[ae]]\nname = 1\n", "not TOML", "")):
            policy.write_text(bad)
            process.reload()
            until(lambda: len(process.events("reload_failed")) > number, "no line")  # noqa: B023
        assert all(str(policy) in line["why"] for line in process.events("reload_failed"))
        assert Peer(process.port, CT, "CT1").rejected() == (1, 1, 3)
        with Peer(process.port, ECHO, "MR1") as peer:
            assert peer.echo().status == 0x0000


def send_what_goes(peer: Peer, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        peer.wire.send(data)
