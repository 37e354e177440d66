"""What the command line refuses, and in which words; that it starts, the demo shows."""

import gc
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom.data import get_testdata_file

from local.cli import main
from local.names import REPOSITORY


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The command takes SIGTERM for itself; here it belongs to pytest."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert isinstance(done.exception, SystemExit), done.exception  # anything else is a traceback
    return done


def test_a_port_that_is_taken_is_named_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("up", "--dicom-port", port)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} for the Store SCP" in done.stderr


@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
def test_sending_to_where_nobody_listens_is_said_in_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = run("send", "--port", port, str(get_testdata_file("CT_small.dcm")))
    assert done.exit_code == 1
    assert "No association with STORESCP" in done.stderr
    assert done.stderr.count("\n") == 1
    gc.collect()  # pynetdicom does not close a socket that was not connected


@pytest.mark.parametrize("command", [["send"], ["demo", "--samples"]])
@pytest.mark.parametrize(
    ("place", "said", "why"),
    [
        ("notes.txt", "LEFT OUT", "no DICOM Part 10 file"),
        ("x", "SKIPPED", "No such file or directory"),
    ],
)
def test_if_nothing_can_be_sent_each_files_reason_is_said_and_that(
    tmp_path: Path, command: list[str], place: str, said: str, why: str
) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    done = run(*command, str(tmp_path / place))
    assert done.exit_code == 1
    assert f"{said}: {tmp_path / place}: it" in done.stdout
    assert why in done.stdout
    assert done.stderr.count("\n") == 1
    assert "Nothing was sent" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["up", "--dicom-port", "many"], "many"),
        (["send"], "FILES"),
        (["demo", "--sample", "x"], "--sample"),
        (["down"], "down"),
    ],
)
def test_a_bad_argument_is_a_usage_error(arguments: list[str], named: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert named in done.stderr


@pytest.mark.parametrize("command", [[], ["demo"], ["up"], ["send"]])
def test_help_says_what_each_command_does(command: list[str]) -> None:
    done = CliRunner().invoke(main, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_sigterm_stops_as_ctrl_c_does(tmp_path: Path) -> None:
    run("send", str(tmp_path / "x"))
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_help_and_usage_errors_do_not_wait_for_heavy_imports() -> None:
    heavy = {"boto3", "chalice", "moto", "pydicom", "pynetdicom"}
    probe = (
        "import sys; from click.testing import CliRunner; from local.cli import main;"
        "run = CliRunner().invoke; run(main, ['--help']); run(main, ['up', '--rest-port', 'x']);"
        f"print(*sorted({heavy} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == ""
