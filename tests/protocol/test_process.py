"""The process: how it starts, and how it refuses to."""

import json
import socket
from pathlib import Path

from store_scp.logs import describe

from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess, run_to_exit
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set

CT = [(CT_IMAGE, [EXPLICIT_LE])]
GOOD = data_set()


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


def test_images_are_stored_also_where_nobody_reads_the_log(tmp_path: Path) -> None:
    process = ReceiverProcess(STORAGE_DIR=str(tmp_path))
    with process.unread() as (port, receiver):
        for _ in range(2):  # each association ends with a line
            with Peer(port, CT) as peer:
                assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
                assert peer.store(GOOD, CT_IMAGE, "1.2.3.9").status == 0xA900  # so does a refusal
        receiver.terminate()
        assert receiver.wait(30) in (0, 120)  # 120: Python's own, for what it could not flush
    assert (tmp_path / "1.2.3" / "1.2.3.3" / "1.2.3.4.dcm").is_file()


def test_the_settings_in_force_are_logged_by_their_variables(tmp_path: Path) -> None:
    line = json.loads(settings_logged(tmp_path).splitlines()[0])
    assert line["event"] == "settings"
    assert line["MAXIMUM_PDU_SIZE"] == 131_072
    assert line["DICOM_BUCKET"] is None


def test_the_console_format_is_for_people(tmp_path: Path) -> None:
    assert "AE_TITLE=STORESCP" in settings_logged(tmp_path, LOG_FORMAT="console")


def settings_logged(storage: Path, **more: str) -> str:
    """What a receiver logs that then cannot listen: the address is not this machine's."""
    ended = run_to_exit(STORAGE_DIR=str(storage), SCP_BIND_ADDRESS="192.0.2.1", **more)
    assert ended.returncode == 1
    return ended.stdout


def test_an_unexpected_exception_is_described_without_its_message() -> None:
    try:
        raise KeyError("a peer wrote this")
    except KeyError as error:
        text = describe(error)
    assert text.startswith("KeyError in test_an_unexpected_exception")
    assert "peer" not in text
    assert describe(ValueError("never raised")) == "ValueError"
