"""moto's server, but for what it does over and over for each request."""

from functools import lru_cache
from typing import Any

from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from local import names

# How long stop() waits at most; half a second otherwise.
_STOP_WITHIN_SECONDS = 0.05


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
    """Finds the service of each host once.

    moto goes through its own folder for that, with 175 system calls under a lock: each lets other
    threads run, so that with a few requests at once all of them wait for this.
    """

    @lru_cache(maxsize=1024)  # noqa: B019 - it lives as long as the server
    def get_backend_for_host(self, host: str | None) -> Any:
        """The name of the service."""
        return super().get_backend_for_host(host)
