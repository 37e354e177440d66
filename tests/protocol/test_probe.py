"""The health check's own client, as the image's HEALTHCHECK runs it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from store_scp.board import Board
from store_scp.health import open_health_socket, serving
from store_scp.metrics import WorkerState
from store_scp.settings import Settings

from tests.protocol.receiver import PYTHON_PATH, ReceiverProcess


def probe(port: int) -> subprocess.CompletedProcess[str]:
    """Where every address is listened on, which is the default, loopback is one of them."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": PYTHON_PATH,
        "SCP_HEALTH_PORT": str(port),
    }
    return subprocess.run(
        [sys.executable, "-m", "store_scp.probe"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def without_a_heartbeat() -> Iterator[int]:
    """The health port of a receiver whose only worker hangs."""
    board = Board.create(1, seats=1)
    board.panel(0).beat(-100.0, WorkerState.READY)
    local = {"SCP_BIND_ADDRESS": "127.0.0.1", "SCP_HEALTH_PORT": "0"}
    listener = open_health_socket(Settings.from_env(local))
    with serving(board, listener):
        yield listener.getsockname()[1]


def test_a_receiver_that_lives_is_told_by_the_exit_code_alone(receiver: ReceiverProcess) -> None:
    done = probe(receiver.health_port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_worker_that_hangs_fails_it_and_is_named(without_a_heartbeat: int) -> None:
    done = probe(without_a_heartbeat)
    assert done.returncode == 1
    assert "no heartbeat for 10 s of worker 0" in done.stderr


def test_nobody_at_the_port_fails_it() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        done = probe(silent.getsockname()[1])
    assert done.returncode == 1
    assert done.stderr.startswith("ConnectionRefusedError")
