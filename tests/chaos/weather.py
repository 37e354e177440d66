"""AWS's endpoint on a bad day: moto behind servers that throttle, hang up, and answer nobody."""

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

from local.aws import Dispatcher
from local.names import LOOPBACK

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# More than the receiver waits for one answer (half of its 10 s from S3, 4 s from DynamoDB): it is
# the client that gives up.
_STALL_SECONDS = 6.0
_CHUNK = 1 << 20
_THROTTLED = {
    "s3": (
        "503 Slow Down",
        "application/xml",
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
    "dynamodb": (
        "400 Bad Request",
        "application/x-amz-json-1.0",
        json.dumps(
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
                "message": "The level of configured provisioned throughput was exceeded.",
            }
        ).encode(),
    ),
}


@dataclass(frozen=True, slots=True)
class Weather:
    """A service's chances, from 0 to 1, for each request.

    ``refused``: the connection is closed, nothing was done. ``stalled``: the same, late.
    ``unanswered``: all was done, and the connection is closed before the answer.
    """

    throttled: float = 0.0
    refused: float = 0.0
    stalled: float = 0.0
    unanswered: float = 0.0


CALM = Weather()


class _Handler(MotoRequestHandler):
    """Hangs up where the application says that the connection is gone."""

    def connection_dropped(
        self,
        error: BaseException,
        environ: Environ | None = None,
    ) -> None:
        self.close_connection = True


class Endpoint:
    """One more server before moto's backends, with weather by service."""

    def __init__(self, seed: str) -> None:
        self.weather: Mapping[str, Weather] = {}
        self.hits = 0
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._app: Wsgi = Dispatcher(create_backend_app)
        self._server = make_server(
            LOOPBACK, 0, self._serve, threaded=True, request_handler=_Handler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        service = service_of(environ)
        weather = self.weather.get(service, CALM)
        with self._lock:
            lot = self._chance.random()
        fate = fate_of(weather, lot)
        if fate is None:
            return self._app(environ, start_response)
        with self._lock:
            self.hits += 1
        if fate == "unanswered":
            for _ in self._app(environ, lambda *_, **__: None):
                pass
            raise ConnectionResetError(fate)
        _drain(environ)
        if fate == "throttled":
            status, content_type, body = _THROTTLED[service]
            headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
            start_response(status, headers)
            return [body]
        if fate == "stalled":
            self._closing.wait(_STALL_SECONDS)
        raise ConnectionResetError(fate)


def service_of(environ: Environ) -> str:
    """The service in the credential scope of the request's signature."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2]
    parts = scope.partition(",")[0].split("/")
    return parts[3] if len(parts) == 5 else ""


def fate_of(weather: Weather, lot: float) -> str | None:
    """Which of the weather's faults hits, if any."""
    for fate in ("throttled", "refused", "stalled", "unanswered"):
        chance = getattr(weather, fate)
        if lot < chance:
            return fate
        lot -= chance
    return None


def _drain(environ: Environ) -> None:
    """Or what was not read would be taken for the connection's next request."""
    stream = get_input_stream(environ)
    while stream.read(_CHUNK):
        pass
