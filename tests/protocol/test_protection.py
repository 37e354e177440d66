"""Task scale-in protection, against an ECS agent on a loopback port."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from store_scp import protection
from store_scp.board import Board
from store_scp.metrics import Gauge, WorkerState
from store_scp.protection import protecting
from store_scp.settings import Settings

from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, store_well, until
from tests.unit.store_scp.builders import CT_IMAGE

_REFUSAL = {"failure": {"Arn": "arn", "Detail": None, "Reason": "TASK_NOT_VALID"}}
PATH = "/api/0123/task-protection/v1/state"


class EcsAgent(ThreadingHTTPServer):
    """Keeps what it was asked, and grants it or not."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.grants = True

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/0123"

    def wait_for(self, *asked: dict[str, Any]) -> None:
        until(lambda: self.asked == list(asked), f"asked {asked}")


class _Handler(BaseHTTPRequestHandler):
    server: EcsAgent

    def do_PUT(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        protection = {"ProtectionEnabled": request["ProtectionEnabled"], "TaskArn": "arn"}
        answer = json.dumps({"protection": protection} if self.server.grants else _REFUSAL).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.paths.add(self.path)
        self.server.asked.append(request)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def agent() -> Iterator[EcsAgent]:
    with EcsAgent() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """One worker's, with the waits cut short."""
    monkeypatch.setattr(protection, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(protection, "_FIRST_RETRY_SECONDS", 0.01)
    return Board.create(1, seats=1)


@contextmanager
def protected(board: Board, agent: EcsAgent, **more: str) -> Iterator[None]:
    with protecting(Settings.from_env({"ECS_AGENT_URI": agent.uri, **more}), board):
        yield


OFF = {"ProtectionEnabled": False}
ON = {"ProtectionEnabled": True, "ExpiresInMinutes": 10}


def test_an_open_association_protects_the_task_of_a_receiver(
    agent: EcsAgent, tmp_path: Path
) -> None:
    with ReceiverProcess(ECS_AGENT_URI=agent.uri, STORAGE_DIR=str(tmp_path)) as receiver:
        agent.wait_for(OFF)
        with Peer(receiver.port, CT) as peer:
            agent.wait_for(OFF, ON)
            assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        receiver.wait_for("task_protection", protected=True)
    assert agent.paths == {PATH}


def test_it_ends_with_the_last_work(
    agent: EcsAgent, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protection, "_CALM_SECONDS", 0.02)
    board.panel(0).adjust(Gauge.BATCHES_OPEN, 1)
    with protected(board, agent, SCP_PROTECTION_MINUTES="2880"):
        agent.wait_for({**ON, "ExpiresInMinutes": 2880})
        board.panel(0).adjust(Gauge.BATCHES_OPEN, -1)
        agent.wait_for({**ON, "ExpiresInMinutes": 2880}, OFF)


def test_a_refusal_is_tried_again_until_it_is_granted(agent: EcsAgent, board: Board) -> None:
    agent.grants = False
    with protected(board, agent):
        until(lambda: len(agent.asked) >= 2, "asked again")
        agent.grants = True
        board.panel(0).adjust(Gauge.BATCHES_OPEN, 1)
        until(lambda: agent.asked[-1] == ON, "asked for protection")


def test_a_task_that_is_being_stopped_asks_for_nothing(agent: EcsAgent, board: Board) -> None:
    board.panel(0).adjust(Gauge.BATCHES_OPEN, 1)
    board.panel(0).beat(0.0, WorkerState.DRAINING)
    with protected(board, agent):
        until(lambda: "protection" not in running(), "left")
    assert agent.asked == []


def test_without_an_agent_or_when_switched_off_nothing_runs(agent: EcsAgent, board: Board) -> None:
    for environ in ({}, {"ECS_AGENT_URI": agent.uri, "SCP_PROTECTION_MINUTES": "0"}):
        with protecting(Settings.from_env(environ), board):
            assert "protection" not in running()


def running() -> set[str]:
    return {each.name for each in threading.enumerate()}


def test_an_agent_that_is_not_there_hinders_nobody(tmp_path: Path) -> None:
    nobody = {"ECS_AGENT_URI": "http://127.0.0.1:9/api/0123", "STORAGE_DIR": str(tmp_path)}
    with ReceiverProcess(**nobody) as receiver:
        line = receiver.wait_for("task_protection_failed", wanted=False)
        assert line["why"].startswith("ConnectionRefusedError")
        store_well(receiver)
