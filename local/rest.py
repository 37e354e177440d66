"""Chalice's own development server on the same app object that the Lambdas use."""

import threading
from typing import Any, Self

from chalice.app import Chalice
from chalice.config import Config
from chalice.local import ChaliceRequestHandler, LocalChalice, LocalDevServer

from local import names


class _QuietHandler(ChaliceRequestHandler):
    """Does not write a line to the terminal for each request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        del format, args


class RestApi:
    """Serves the REST API while entered; ``url`` says where."""

    def __init__(self, app: Chalice, port: int) -> None:
        config = Config.create(
            chalice_app=app, project_dir=str(names.CHALICE_APP), autogen_policy=False
        )
        # As `chalice local` does: the current request is kept per thread.
        app.__class__ = LocalChalice
        # There is no IAM on a laptop: Chalice would let everybody in, with a warning a request.
        self._entries = [entry for methods in app.routes.values() for entry in methods.values()]
        self._authorizers = [entry.authorizer for entry in self._entries]
        self._server = LocalDevServer(app, config, names.LOOPBACK, port, _QuietHandler).server
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self.url = f"http://{names.LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        for entry in self._entries:
            entry.authorizer = None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for entry, authorizer in zip(self._entries, self._authorizers, strict=True):
            entry.authorizer = authorizer
