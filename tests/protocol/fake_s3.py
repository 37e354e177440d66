"""An S3 that fails the way a test says, over plain HTTP on the loopback interface."""

import base64
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"


@dataclass(slots=True)
class FakeS3:
    """``fault`` decides about instances, ``manifest_fault`` about manifests: None stores.

    A fault is an HTTP status and an S3 error code, or "reset" to close the connection instead.
    """

    port: int = 0
    fault: tuple[int, str] | str | None = None
    manifest_faults: list[tuple[int, str]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "DICOM_BUCKET": "bucket"}

    def wait_for_manifest(self) -> str:
        """The first manifest's key, once it is stored."""

        def found() -> str | None:
            return next((key for key in self.objects if "/batches/" in key), None)

        with self.changed:
            self.changed.wait_for(found, 30)
            key = found()
        assert key is not None
        return key


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    state = FakeS3()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            fault = _next_fault(state, self.path)
            if fault == "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if isinstance(fault, tuple):
                self._answer(fault[0], _ERROR.format(code=fault[1]).encode())
                return
            _verify(self.headers.get("x-amz-checksum-sha256"), body)
            with state.changed:
                state.objects[self.path] = body
                state.changed.notify_all()
            self._answer(200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def _next_fault(state: FakeS3, path: str) -> tuple[int, str] | str | None:
    if "/batches/" in path:
        return state.manifest_faults.pop(0) if state.manifest_faults else None
    return state.fault


def _verify(checksum: str | None, body: bytes) -> None:
    if checksum is not None:
        assert base64.b64decode(checksum) == hashlib.sha256(body).digest()
