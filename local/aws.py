"""moto's server, without the work it repeats for each request, and with moto's gaps mended."""

import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

from local import moto_gaps, names
from local.errors import in_one_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# How long stop() waits at most; half a second otherwise.
_STOP_WITHIN_SECONDS = 0.05
_TARGET = re.compile(r"[\w.]+", re.ASCII)
# What tells S3's operations with one method apart; every other query is left out of log lines.
_SUBRESOURCES = ("delete", "list-type", "partNumber", "uploadId", "uploads")
_log = logging.getLogger(__name__)


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
    """Finds the service of each host once, and lets some services do one thing at a time.

    moto goes through its own folder for a host, with 175 system calls under a lock: each lets other
    threads run, so that with a few requests at once all of them wait for this. Why services take
    turns is in ``local.moto_gaps``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        moto_gaps.mend()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Serve a request; an error of moto's own is one log line, and 500."""
        service = ""
        try:
            app = self.get_application(environ)
            service = app.service  # type: ignore[attr-defined]
            if moto_gaps.is_in_turn(service):
                _read_body(environ)
            with moto_gaps.turn_of(service):
                return app(environ, start_response)
        except (ConnectionError, TimeoutError):
            raise  # the client is gone, and the server expects that
        except HTTPException as error:  # it hung up in the middle of its request's body
            return error(environ, start_response)
        except Exception as error:  # noqa: BLE001 - werkzeug would print the traceback of each
            _log.error("500 from moto for %s: %s", operation(service, environ), in_one_line(error))
            return InternalServerError()(environ, start_response)

    @lru_cache(maxsize=1024)  # noqa: B019 - it lives as long as the server
    def get_backend_for_host(self, host: str | None) -> Any:
        """The name of the service."""
        return super().get_backend_for_host(host)


def operation(service: str, environ: "WSGIEnvironment") -> str:
    """What a request asks for, without a name or key: ``s3 PUT object uploadId partNumber``."""
    target = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    if _TARGET.fullmatch(target):
        return f"{service} {target}"
    words = [service or "an unknown service", environ["REQUEST_METHOD"]]
    if service == "s3":
        has_key = environ["PATH_INFO"].strip("/").partition("/")[2]
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        words += [
            "object" if has_key else "bucket",
            *(each for each in _SUBRESOURCES if each in query),
        ]
    return " ".join(words)


def _read_body(environ: "WSGIEnvironment") -> None:
    """Before the service's turn, so that nobody waits for a slow sender."""
    body = get_input_stream(environ).read()
    environ |= {
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": str(len(body)),
    }
