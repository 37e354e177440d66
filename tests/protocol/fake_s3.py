"""An S3 that fails or stalls the way a test says, over plain HTTP on the loopback interface."""

import base64
import http.server
import socket
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from awscrt.checksums import crc64nvme

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
RESET = "reset"
_ATTEMPTS = 3
_DEADLINE = 30.0
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"

Fault = tuple[int, str] | str
_Work = Callable[[str, dict[str, str], bytes], tuple[int, str | bytes]]


class _Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Hold:
    """Requests for keys with ``match`` in them wait, until it is lifted."""

    match: str
    once_stored: bool
    arrived: int = 0
    lifted: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class FakeS3:
    """``faults`` are for instances, by a part of the key; ``manifest_faults`` for one attempt each.

    A fault is an HTTP status and an S3 error code, or RESET to close the connection instead. One
    that may pass asks for a long pause after some attempts, so that nobody tries until the end.
    """

    port: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    manifest_faults: list[tuple[int, str]] = field(default_factory=list)
    # Whether it refuses what was signed at another time, as S3 does from 15 minutes on.
    checks_time: bool = False
    # How far its clock is from this machine's.
    ahead: timedelta = timedelta()
    # For every GetObject.
    get_fault: Fault | None = None
    gets: int = 0
    answers: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    # How often each fault has come.
    failed: Counter[str] = field(default_factory=Counter)
    # The parts of multipart uploads that are neither completed nor aborted, and sizes of all.
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    part_sizes: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _hold: Hold | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "DICOM_BUCKET": "bucket",
            "DIMSE_TIMEOUT": "10",
            "BATCH_QUIET_SECONDS": "0.2",
        }

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def reset(self) -> None:
        """Forget what was stored and what was to fail; uploads that are open stay."""
        with self.changed:
            self.faults.clear()
            self.manifest_faults.clear()
            self.get_fault = None
            self.gets = 0
            self.failed.clear()
            self.objects.clear()
            self.part_sizes.clear()

    @contextmanager
    def hold(self, match: str = ".dcm", *, once_stored: bool = False) -> Iterator[Hold]:
        """Stall before anything is read of a body, or between storing and the answer."""
        self._hold = Hold(match, once_stored)
        try:
            yield self._hold
        finally:
            self._hold.lifted.set()
            self._hold = None

    def wait_for_held(self, hold: Hold, number: int) -> None:
        """Until so many requests have come to the hold."""
        with self.changed:
            assert self.changed.wait_for(lambda: hold.arrived >= number, _DEADLINE)

    def wait_for_manifest(self) -> str:
        """The first manifest's key, once it is stored."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.keys("/batches/"), _DEADLINE)
            return self.keys("/batches/")[0]

    def wait_for_part(self) -> None:
        """Until a part of a multipart upload has come."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.part_sizes, _DEADLINE)

    def wait_for_no_uploads(self) -> None:
        """Until every multipart upload is completed or aborted."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self.uploads, _DEADLINE)

    def keys(self, match: str = ".dcm") -> list[str]:
        return [key for key in self.objects if match in key]

    def pass_hold(self, path: str, *, once_stored: bool) -> None:
        """Wait where a hold says so."""
        hold = self._hold
        if hold is None or hold.once_stored != once_stored or hold.match not in path:
            return
        with self.changed:
            hold.arrived += 1
            self.changed.notify_all()
        hold.lifted.wait(_DEADLINE)

    def next_fault(self, path: str) -> Fault | None:
        if "/batches/" in path:
            return self.manifest_faults.pop(0) if self.manifest_faults else None
        part = self._faulty(path)
        if part is None:
            return None
        self.failed[part] += 1
        return self.faults[part]

    def asks_for_a_pause(self, path: str) -> bool:
        """Whether a fault has come so often that its answer should end all attempts."""
        part = self._faulty(path)
        return part is not None and self.failed[part] >= _ATTEMPTS

    def _faulty(self, path: str) -> str | None:
        return next((part for part in self.faults if part in path), None)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeS3
    content_range = ""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.state.now().timestamp())

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_PUT(self) -> None:
        self._serve(self._put)

    def do_POST(self) -> None:
        self._serve(self._post)

    def do_DELETE(self) -> None:
        self._serve(self._delete)

    def _serve(self, work: _Work) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, True).items()}
        self.state.pass_hold(url.path, once_stored=False)
        fault = None if self.command == "DELETE" else self.state.next_fault(url.path)
        if self.command == "GET":
            fault = self.state.get_fault
        if fault == RESET:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            if isinstance(fault, tuple):
                raise _Refusal(*fault)
            if self.state.checks_time:
                _check_time(self.headers["x-amz-date"], self.state.now())
            with self.state.changed:
                status, answer = work(url.path, query, body)
                self.state.changed.notify_all()
        except _Refusal as refusal:
            status, answer = refusal.status, _ERROR.format(code=refusal.code)
        self.state.pass_hold(url.path, once_stored=True)
        whole = answer.encode() if isinstance(answer, str) else answer
        self._answer(status, whole, pause=self.state.asks_for_a_pause(url.path))

    def _get(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The range that was asked for, as S3 cuts it."""
        self.state.gets += 1
        stored = self.state.objects[path]
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        found = stored[int(first) : int(last) + 1]
        self.content_range = f"bytes {first}-{int(first) + len(found) - 1}/{len(stored)}"
        return HTTPStatus.PARTIAL_CONTENT, found

    def _put(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, str]:
        self._verify(body)
        if "uploadId" in query:
            self._upload(query)[int(query["partNumber"])] = body
            self.state.part_sizes.append(len(body))
        elif self.headers.get("If-None-Match") == "*" and path in self.state.objects:
            raise _Refusal(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        else:
            self.state.objects[path] = body
        return HTTPStatus.OK, ""

    def _post(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, str]:
        if "uploads" in query:
            upload_id = uuid.uuid4().hex
            self.state.uploads[upload_id] = {}
            return HTTPStatus.OK, f"<Result><UploadId>{upload_id}</UploadId></Result>"
        parts = self._upload(query)
        whole = b"".join(parts[number] for number in sorted(parts))
        self._verify(whole)
        self.state.objects[path] = whole
        del self.state.uploads[query["uploadId"]]
        return HTTPStatus.OK, "<CompleteMultipartUploadResult/>"

    def _delete(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, str]:
        self._upload(query)
        del self.state.uploads[query["uploadId"]]
        return HTTPStatus.NO_CONTENT, ""

    def _upload(self, query: dict[str, str]) -> dict[int, bytes]:
        try:
            return self.state.uploads[query["uploadId"]]
        except KeyError:
            raise _Refusal(HTTPStatus.NOT_FOUND, "NoSuchUpload") from None

    def _verify(self, body: bytes) -> None:
        given = base64.b64decode(self.headers["x-amz-checksum-crc64nvme"])
        if given != crc64nvme(body).to_bytes(8, "big"):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "BadDigest")

    def _answer(self, status: int, body: bytes, *, pause: bool) -> None:
        self.state.answers += 1
        self.send_response(status)
        if pause:
            self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", self.content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _check_time(signed: str, now: datetime) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    moment = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(moment - now) > timedelta(minutes=15):
        raise _Refusal(HTTPStatus.FORBIDDEN, "RequestTimeTooSkewed")


class _Server(http.server.ThreadingHTTPServer):
    # A worker opens fifty connections at once; the default of 5 makes most of them wait a second.
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A receiver that is gone or that gave up is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    state = FakeS3()
    handler = type("Handler", (_Handler,), {"state": state})
    with _Server(("127.0.0.1", 0), handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
