"""AWS on a bad day: moto behind servers that throttle, deny, hang up, and answer nobody."""

import hashlib
import json
import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, Self
from urllib.parse import unquote

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
_XML = {"Content-Type": "application/xml"}
_JSON = {"Content-Type": "application/x-amz-json-1.0"}
# A status, headers and a body.
Refusal = tuple[str, Mapping[str, str], bytes]


def _coral(status: str, code: str, message: str) -> Refusal:
    """An error of the services that have JSON requests and one path."""
    return status, _JSON, json.dumps({"__type": code, "message": message}).encode()


_NOT_AUTHORIZED = "User is not authorized to perform this action"
_DENIED_CODE = "com.amazon.coral.service#AccessDeniedException"
_THROTTLED: Mapping[str, Refusal] = {
    "s3": (
        "503 Slow Down",
        _XML,
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
    "dynamodb": _coral(
        "400 Bad Request",
        "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput was exceeded.",
    ),
}
# Permissions are missing: each service says so in its own protocol, some of them with 400.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
# https://docs.aws.amazon.com/healthimaging/latest/APIReference/CommonErrors.html
_DENIED: Mapping[str, Refusal] = {
    "s3": (
        "403 Forbidden",
        _XML,
        b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
    ),
    "dynamodb": _coral("400 Bad Request", _DENIED_CODE, _NOT_AUTHORIZED),
    "sqs": _coral("403 Forbidden", _DENIED_CODE, _NOT_AUTHORIZED),
    "states": _coral("400 Bad Request", _DENIED_CODE, _NOT_AUTHORIZED),
    "events": _coral("400 Bad Request", _DENIED_CODE, _NOT_AUTHORIZED),
    "medical-imaging": (
        "403 Forbidden",
        {"Content-Type": "application/json", "x-amzn-ErrorType": "AccessDeniedException"},
        json.dumps({"message": _NOT_AUTHORIZED}).encode(),
    ),
}
_REFUSALS = {"throttled": _THROTTLED, "denied": _DENIED}
# What a bucket's policy or a KMS key can keep from somebody who may list and write.
_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Weather:
    """A service's chances, from 0 to 1, for each request.

    ``refused``: the connection is closed, nothing was done. ``stalled``: the same, late.
    ``unanswered``: all was done, and the connection is closed before the answer. ``denied``: it is
    answered by AccessDenied.
    """

    throttled: float = 0.0
    refused: float = 0.0
    stalled: float = 0.0
    unanswered: float = 0.0
    denied: float = 0.0

    def __or__(self, other: "Weather") -> "Weather":
        """Both at once."""
        return Weather(*map(max, astuple(self), astuple(other)))


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Ban:
    """Objects of a bucket that nobody can read or copy: ``share`` of all, drawn by ``seed``."""

    bucket: str
    share: float = 1.0
    seed: str = ""

    def hits(self, bucket: str, key: str) -> bool:
        """Whether an object is one of them: always the same, for as long as the ban lasts."""
        return bucket == self.bucket and drawn(self.seed, key) < self.share


def drawn(seed: str, name: str) -> float:
    """From 0 to 1, and for one name always the same."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


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
        self.bans: Collection[Ban] = ()
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
        with self._lock:
            lot = self._chance.random()
        fate = fate_of(self.weather.get(service, CALM), lot)
        if fate is None and service == "s3" and self._is_banned(environ):
            fate = "denied"
        if fate is None:
            return self._app(environ, start_response)
        with self._lock:
            self.hits += 1
        if fate == "unanswered":
            for _ in self._app(environ, lambda *_, **__: None):
                pass
            raise ConnectionResetError(fate)
        _drain(environ)
        if fate in _REFUSALS:
            return _refuse(_REFUSALS[fate][service], environ, start_response)
        if fate == "stalled":
            self._closing.wait(_STALL_SECONDS)
        raise ConnectionResetError(fate)

    def _is_banned(self, environ: Environ) -> bool:
        read = object_read(environ)
        return read is not None and any(ban.hits(*read) for ban in self.bans)


def _refuse(
    refusal: Refusal, environ: Environ, start_response: Callable[..., Any]
) -> Iterable[bytes]:
    status, headers, body = refusal
    start_response(status, [*headers.items(), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def service_of(environ: Environ) -> str:
    """The service in the credential scope of the request's signature."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2]
    parts = scope.partition(",")[0].split("/")
    return parts[3] if len(parts) == 5 else ""


def object_read(environ: Environ) -> tuple[str, str] | None:
    """The bucket and key of the object that an S3 request reads or copies, if it does."""
    source = environ.get("HTTP_X_AMZ_COPY_SOURCE")
    if source is None and environ["REQUEST_METHOD"] not in _READS:
        return None
    # WSGI has decoded the path already, and not the header.
    path = environ["PATH_INFO"] if source is None else unquote(source.partition("?")[0])
    bucket, _, key = path.lstrip("/").partition("/")
    return (bucket, key) if key else None


def fate_of(weather: Weather, lot: float) -> str | None:
    """Which of the weather's faults hits, if any."""
    for fate in ("throttled", "refused", "stalled", "unanswered", "denied"):
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
