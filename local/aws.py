"""moto's server, without the work it repeats for each request, and with atomic DynamoDB writes."""

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

from local import names

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# How long stop() waits at most; half a second otherwise.
_STOP_WITHIN_SECONDS = 0.05
# Of every server in this process, since moto's tables are the process's.
_dynamodb = threading.Lock()


class AwsServer(ThreadedMotoServer):
    """Listens on the loopback address; 0 takes any free port."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(names.LOOPBACK, port, verbose=False)

    def _server_entry(self) -> None:
        self._server = make_server(
            self._ip_address,
            self._port,
            Dispatcher(create_backend_app),
            threaded=True,
            request_handler=MotoRequestHandler,
        )
        self._server_ready_event.set()
        self._server.serve_forever(poll_interval=_STOP_WITHIN_SECONDS)


class Dispatcher(DomainDispatcherApplication):
    """Finds the service of each host once, and lets DynamoDB do one thing at a time.

    moto goes through its own folder for a host, with 175 system calls under a lock: each lets other
    threads run, so that with a few requests at once all of them wait for this.

    DynamoDB's writes are atomic, moto's are not: it checks a condition and writes later, and other
    threads run in between. A refused transaction restores the whole table as it was when the
    transaction began, so that what others wrote meanwhile is lost.
    """

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Serve a request."""
        turn: AbstractContextManager[Any] = nullcontext()
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB_"):
            # Read before the lock is taken, so that nobody waits for a slow sender.
            body = get_input_stream(environ).read()
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            turn = _dynamodb
        with turn:
            answer: Iterable[bytes] = super().__call__(environ, start_response)
        return answer

    @lru_cache(maxsize=1024)  # noqa: B019 - it lives as long as the server
    def get_backend_for_host(self, host: str | None) -> Any:
        """The name of the service."""
        return super().get_backend_for_host(host)
