"""The process: how it starts, how it refuses to, and how it leaves (faults.md row 22)."""

import socket
from pathlib import Path

import pytest
from store_scp.logs import describe

from tests.protocol.peer import ABORT, VERIFICATION, Peer
from tests.protocol.receiver import ReceiverProcess, run_to_exit
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE, data_set

GOOD = data_set()
CT = [(CT_IMAGE, [EXPLICIT_LE])]


def test_bad_settings_are_one_readable_message_and_exit_2() -> None:
    ended = run_to_exit(SCP_PORT="high", AE_TITLE="A" * 20)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[0] == "The settings cannot be used:"
    assert len(ended.stderr.splitlines()) == 3


def test_a_port_that_is_taken_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_to_exit(SCP_PORT=str(port), STORAGE_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_directory_that_cannot_be_made_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run_to_exit(STORAGE_DIR=str(tmp_path / "file" / "storage"))
    assert ended.returncode == 1
    assert ended.stderr == f"STORAGE_DIR={tmp_path}/file/storage: Not a directory\n"


def test_the_settings_in_force_are_logged_by_their_variables(receiver: ReceiverProcess) -> None:
    line = receiver.wait_for("settings")
    assert line["MAXIMUM_PDU_SIZE"] == 131_072
    assert line["DICOM_BUCKET"] is None


def test_the_console_format_is_for_people(tmp_path: Path) -> None:
    # An address that is not this machine's: the receiver logs its settings, and ends.
    elsewhere = "192.0.2.1"
    ended = run_to_exit(LOG_FORMAT="console", STORAGE_DIR=str(tmp_path), SCP_BIND_ADDRESS=elsewhere)
    assert ended.returncode == 1
    assert "AE_TITLE=STORESCP" in ended.stdout


def test_sigterm_lets_a_transfer_finish(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="20") as process:
        with Peer(process.port, CT) as peer:
            peer.start_store(CT_IMAGE, "1.2.3.4", 1)
            peer.send_data(GOOD[:60], 1, last=False)
            process.terminate()
            process.wait_for("stopping")
            peer.send_data(GOOD[60:], 1)
            assert peer.response().status == 0x0000
        process.wait_for("stopped")
    assert (tmp_path / "1.2.3" / "1.2.3.3" / "1.2.3.4.dcm").read_bytes().endswith(GOOD)


def test_sigterm_stops_listening_at_once_and_aborts_at_the_deadline(tmp_path: Path) -> None:
    with (
        ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="1") as process,
        Peer(process.port, [(VERIFICATION, [IMPLICIT_LE])]) as peer,
    ):
        process.terminate()
        assert peer.closed_with()[0] == ABORT
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port))
        process.wait_for("association", outcome="aborted")


def test_a_peer_stuck_in_a_pdu_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        ReceiverProcess(STORAGE_DIR=str(tmp_path), DRAIN_SECONDS="0") as process,
        Peer(process.port, CT) as peer,
    ):
        peer.connection.sendall(b"\x04\x00\x00\x00\xff\xff")
        process.terminate()
        peer.closed_with()
        process.wait_for("stopped")


def test_an_unexpected_exception_is_described_without_its_message() -> None:
    try:
        raise KeyError("a peer wrote this")
    except KeyError as error:
        text = describe(error)
    assert text.startswith("KeyError in test_an_unexpected_exception")
    assert "peer" not in text
    assert describe(ValueError("never raised")) == "ValueError"
