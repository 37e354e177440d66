"""The health process: ``/health/live``, ``/health/ready`` and ``/metrics``, the EMF lines, ECS.

Apart from the workers, so that it answers when they are busy, and can tell that one hangs.
What is answered is decided by pure functions; the server round them is the standard library's.
"""

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from store_scp.board import Board
from store_scp.clocks import system_clock
from store_scp.emf import emf_document
from store_scp.listeners import open_listeners
from store_scp.logs import describe
from store_scp.metrics import PanelReading, WorkerState, families
from store_scp.protection import protecting
from store_scp.settings import Settings
from store_scp.signals import SignalQueue

# Workers beat every quarter of a second (worker.TICK_SECONDS); forty missed are no pause of the
# garbage collector.
_BEAT_SECONDS = 10.0
# CloudWatch's own resolution.
_EMF_SECONDS = 60.0
# A prober sends its request at once, and there are few of them.
_REQUEST_SECONDS = 5.0
_MAX_CONNECTIONS = 16
_POLL_SECONDS = 0.1

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: HTTPStatus
    content_type: str
    body: bytes


def open_health_socket(settings: Settings) -> socket.socket:
    """The health process's listening socket, bound before the fork; raises CannotStart."""
    return open_listeners(settings.bind_address, settings.health_port, 1)[0]


def serve(settings: Settings, board: Board, listener: socket.socket) -> int:
    """Answer until SIGTERM; the body of the health process, and its exit code."""
    with (
        SignalQueue([signal.SIGTERM]) as signals,
        serving(board, listener),
        protecting(settings, board),
    ):
        if settings.emf_namespace:
            dimensions = {"AETitle": settings.ae_title}
            _publish(signals, board, settings.emf_namespace, dimensions)
        else:
            signals.wait(None)
    return 0


@contextmanager
def serving(board: Board, listener: socket.socket) -> Iterator[None]:
    """Answer from a thread, and close the socket at the end."""
    with _Server(listener, board) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="health")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def answer(
    path: str,
    readings: Sequence[PanelReading],
    now: float,
    certificate_seconds: float | None = None,
) -> Answer:
    """The answer to GET ``path``."""
    match path.partition("?")[0]:
        case "/health/live":
            return live(readings, now)
        case "/health/ready":
            return ready(readings, now)
        case "/metrics":
            body = generate_latest(_Families(readings, now, certificate_seconds))
            return Answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, body)
    return problem(HTTPStatus.NOT_FOUND, "there is /health/live, /health/ready and /metrics")


def live(readings: Sequence[PanelReading], now: float) -> Answer:
    """Whether every worker says that it lives; if not, the task should be replaced."""
    workers = [_row(reading, now) for reading in readings]
    silent = [reading.worker for reading in readings if not _lives(reading, now)]
    if not silent:
        return _json(HTTPStatus.OK, "application/json", {"status": "live", "workers": workers})
    detail = f"no heartbeat for {_BEAT_SECONDS:g} s of worker {', '.join(map(str, silent))}"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, workers=workers)


def ready(readings: Sequence[PanelReading], now: float) -> Answer:
    """Whether new associations are welcome; if not, a load balancer should look elsewhere."""
    reason = _unready(readings, now)
    if reason:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, reason)
    return _json(HTTPStatus.OK, "application/json", {"status": "ready"})


def problem(status: HTTPStatus, detail: str, **members: object) -> Answer:
    """Problem details (RFC 9457)."""
    content = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    return _json(status, "application/problem+json", {**content, **members})


def _unready(readings: Sequence[PanelReading], now: float) -> str | None:
    states = {reading.state for reading in readings if _lives(reading, now)}
    if WorkerState.DRAINING in states:
        return "draining"
    if WorkerState.READY in states:
        return None
    if WorkerState.CONGESTED in states:
        return "every worker is congested"
    if WorkerState.CLOCK_UNKNOWN in states:
        return "neither S3 nor DynamoDB has told the time yet"
    if WorkerState.STORAGE_UNAVAILABLE in states:
        return "STORAGE_DIR takes no files: the line storage_unavailable in the log says why"
    return "starting" if states else "no worker lives"


def _lives(reading: PanelReading, now: float) -> bool:
    # One that drains has a deadline with the supervisor, and may have left before the others.
    draining = reading.state is WorkerState.DRAINING
    return draining or now - reading.beat_at < _BEAT_SECONDS


def _row(reading: PanelReading, now: float) -> dict[str, object]:
    return {
        "worker": reading.worker,
        "state": reading.state.name.lower(),
        "heartbeatAgeSeconds": round(max(0.0, now - reading.beat_at), 3),
    }


def _json(status: HTTPStatus, content_type: str, content: dict[str, object]) -> Answer:
    return Answer(status, content_type, json.dumps(content).encode() + b"\n")


class _Families(Collector):
    """One reading, in the form the Prometheus library takes."""

    def __init__(
        self, readings: Sequence[PanelReading], now: float, certificate_seconds: float | None
    ) -> None:
        self._readings = readings
        self._now = now
        self._certificate_seconds = certificate_seconds

    def collect(self) -> Iterator[Metric]:
        return families(self._readings, self._now, self._certificate_seconds)


def _publish(
    signals: SignalQueue, board: Board, namespace: str, dimensions: dict[str, str]
) -> None:
    """One line each minute, and a last one at the end."""
    before = board.read()
    due = time.monotonic() + _EMF_SECONDS
    stopping = False
    offset = 0.0
    while not stopping:
        stopping = bool(signals.wait(max(0.0, due - time.monotonic())))
        now = board.read()
        # At AWS's time: CloudWatch takes no metric of two hours ahead, and an alarm sees none that
        # comes minutes late.
        known = (each.clock_offset for each in now if each.clock_offset is not None)
        offset = next(known, offset)
        timestamp_ms = int((system_clock() - offset) * 1000)
        certificate = board.certificate_seconds(system_clock())
        document = emf_document(before, now, namespace, timestamp_ms, dimensions, certificate)
        # Not a log line of ours: CloudWatch takes nothing before or behind the document.
        print(json.dumps(document, separators=(",", ":")), flush=True)
        before = now
        due += _EMF_SECONDS


class _Server(ThreadingHTTPServer):
    """On a socket that is listening already; of many connections, the oldest is closed."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, board: Board) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.board = board
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()

    def service_actions(self) -> None:
        """The thread that serves is alive; called ten times a second."""
        self.board.beat_health(time.monotonic())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection from a thread of its own."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > _MAX_CONNECTIONS:
                self._hang_up(next(iter(self._open)))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection could not be served; one whose peer went away is nobody's concern."""
        error = sys.exception()
        if error and not isinstance(error, OSError):
            _log.error("health_request_failed", error=describe(error))

    def _hang_up(self, oldest: Any) -> None:
        # Its thread sees the end, and closes it. To refuse the new one instead would let idle
        # connections keep the prober out.
        del self._open[oldest]
        with suppress(OSError):  # the peer was faster
            oldest.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request to a connection, as HTTP/1.0 has it; nothing of it is logged or repeated."""

    server: _Server
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        board = self.server.board
        certificate = board.certificate_seconds(system_clock())
        self._send(answer(self.path, board.read(), time.monotonic(), certificate))

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def send_error(self, code: int, *_: object) -> None:
        """What the library refuses, without its words: they hold the request's."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(
                problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed"),
                allow="GET, HEAD",
            )
        else:
            self._send(problem(HTTPStatus(code), "this is no request that can be answered"))

    def version_string(self) -> str:
        """Without the version of Python."""
        return "store-scp"

    def log_message(self, *_: object) -> None:
        """Say nothing: probers ask every few seconds."""

    def _send(self, found: Answer, **headers: str) -> None:
        self.send_response(found.status)
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name.title(), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)
