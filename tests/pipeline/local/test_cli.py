"""The commands behind make demo, make up and make send, as a user runs them."""

import socket
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

ROOT = Path(__file__).parents[3]


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100
    )


def test_the_demo_accounts_for_every_instance_and_exits_0() -> None:
    done = local("demo", "--samples", str(get_testdata_file("CT_small.dcm")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 sent, 1 acknowledged, 1 imported, 0 failed with a reason, 0 lost." in done.stdout
    assert "COMPLETED" in done.stdout
    assert "Events: 1 Batch Imported." in done.stdout


def test_a_port_that_is_taken_is_named_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = local("up", "--dicom-port", port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} for the Store SCP" in done.stderr


def test_sending_to_where_nobody_listens_is_said_in_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = local("send", "--port", port, str(get_testdata_file("CT_small.dcm")))
    assert done.returncode == 1
    assert "No association with STORESCP" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_sent_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    for path, said in ((tmp_path, "no DICOM Part 10 file"), (tmp_path / "x", "neither a file")):
        done = local("send", str(path))
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_bad_argument_is_a_usage_error() -> None:
    done = local("up", "--dicom-port", "many")
    assert done.returncode == 2
    assert "many" in done.stderr
    assert "Traceback" not in done.stderr
