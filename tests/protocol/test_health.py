"""The health process's HTTP, over real connections; its decisions on readings."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from store_scp import health
from store_scp.board import Board
from store_scp.health import answer, open_health_socket, serving
from store_scp.metrics import Counter, WorkerState
from store_scp.settings import Settings

WORKERS = 2


@pytest.fixture
def board() -> Board:
    """Two workers that beat at 0 of any clock, and for the server's clock never."""
    return Board.create(WORKERS, seats=1)


@pytest.fixture
def port(board: Board) -> Iterator[int]:
    local = {"SCP_BIND_ADDRESS": "127.0.0.1", "SCP_HEALTH_PORT": "0", "SCP_WORKERS": "1"}
    listener = open_health_socket(Settings.from_env(local))
    with serving(board, listener):
        yield listener.getsockname()[1]


def ask(port: int, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def beat(board: Board, *states: WorkerState, at: float = 100.0) -> None:
    for worker, state in enumerate(states):
        board.panel(worker).beat(at, state)


def reason(board: Board, path: str, now: float = 100.0) -> str | None:
    found = answer(path, board.read(), now)
    assert found.status in {200, 503}
    return None if found.status == 200 else json.loads(found.body)["detail"]


def test_live_tells_of_each_worker(board: Board) -> None:
    beat(board, WorkerState.READY, WorkerState.CONGESTED)
    found = answer("/health/live", board.read(), 101.5)
    assert found.status == 200
    assert json.loads(found.body) == {
        "status": "live",
        "workers": [
            {"worker": 0, "state": "ready", "heartbeatAgeSeconds": 1.5},
            {"worker": 1, "state": "congested", "heartbeatAgeSeconds": 1.5},
        ],
    }


def test_a_worker_without_a_heartbeat_for_ten_seconds_is_dead(board: Board) -> None:
    beat(board, WorkerState.READY, WorkerState.READY)
    board.panel(0).beat(105.0, WorkerState.READY)
    assert reason(board, "/health/live", 109.9) is None
    assert reason(board, "/health/live", 110.0) == "no heartbeat for 10 s of worker 1"


def test_a_worker_that_drains_is_left_to_the_supervisors_deadline(board: Board) -> None:
    beat(board, WorkerState.DRAINING, WorkerState.DRAINING)
    assert reason(board, "/health/live", 300.0) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((WorkerState.READY, WorkerState.READY), None),
        ((WorkerState.READY, WorkerState.CONGESTED), None),
        ((WorkerState.STARTING, WorkerState.READY), None),
        ((WorkerState.STARTING, WorkerState.STARTING), "starting"),
        ((WorkerState.CLOCK_UNKNOWN, WorkerState.READY), None),
        (
            (WorkerState.CLOCK_UNKNOWN, WorkerState.STARTING),
            "neither S3 nor DynamoDB has told the time yet",
        ),
        ((WorkerState.CONGESTED, WorkerState.CONGESTED), "every worker is congested"),
        ((WorkerState.READY, WorkerState.DRAINING), "draining"),
    ],
)
def test_ready_while_one_worker_is_and_none_drains(
    board: Board, states: tuple[WorkerState, ...], expected: str | None
) -> None:
    beat(board, *states)
    assert reason(board, "/health/ready") == expected


def test_workers_that_hang_are_not_ready(board: Board) -> None:
    beat(board, WorkerState.READY, WorkerState.READY)
    assert reason(board, "/health/ready", 110.0) == "no worker lives"


def test_a_failure_is_problem_details_with_the_workers(port: int) -> None:
    response, body = ask(port, "/health/live?verbose=1")
    assert response.status == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["title"] == "Service Unavailable"
    assert problem["status"] == 503
    assert [each["state"] for each in problem["workers"]] == ["starting", "starting"]


def test_metrics_are_what_prometheus_reads(port: int, board: Board) -> None:
    board.panel(0).add(Counter.ECHOES, 2)
    board.panel(1).add(Counter.ECHOES)
    response, body = ask(port, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {each.name: each for each in text_string_to_metric_families(body.decode())}
    assert found["store_scp_echoes"].samples[0].value == 3


def test_another_path_is_not_found_and_not_repeated(port: int) -> None:
    response, body = ask(port, "/DOE^JANE")
    assert response.status == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert b"DOE" not in body


def test_head_is_get_without_the_body(port: int) -> None:
    response, body = ask(port, "/health/live", "HEAD")
    assert response.status == 503
    assert int(response.headers["Content-Length"]) > 0
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "DELETE", "DOEJANE"])
def test_other_methods_are_not_allowed(port: int, method: str) -> None:
    response, body = ask(port, "/health/live", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"
    assert b"DOEJANE" not in body


def test_it_says_nothing_of_requests_or_of_python(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    response, _ = ask(port, "/metrics")
    assert response.headers["Server"] == "store-scp"
    assert capsys.readouterr() == ("", "")


def test_idle_connections_do_not_keep_a_prober_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health._Handler, "timeout", 600)
    idle = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(40)]
    try:
        assert ask(port, "/health/live")[0].status == 503
        # The oldest made room.
        assert idle[0].recv(1) == b""
    finally:
        for each in idle:
            each.close()


def test_a_connection_that_asks_nothing_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health._Handler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", port), 30) as silent:
        silent.sendall(b"GET /met")
        assert silent.recv(1) == b""


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(bytes.join, st.just(b" "), st.lists(st.binary(max_size=20), max_size=4)).map(
            lambda line: b"GET " + line + b"\r\n\r\n"
        ),
    )
)
def test_any_bytes_are_answered_or_hung_up_on(
    port: int, capsys: pytest.CaptureFixture[str], request_bytes: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        try:
            peer.sendall(request_bytes)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65_536):
                pass
        except ConnectionError:
            pass  # answered and closed before it had read everything
    assert capsys.readouterr() == ("", "")
