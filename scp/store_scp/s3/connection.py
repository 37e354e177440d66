"""One HTTP/1.1 connection to S3: a request out, its response in, and nothing trusted between.

The parser is llhttp (httptools). The connection is good for another request only after a response
that is complete, came after the whole request was sent, and lets it live.
"""

import asyncio
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import cast

import httptools

from store_scp.s3.answers import BAD_RESPONSE, Response
from store_scp.s3.errors import AttemptFailed, StaleConnection

Buffer = bytes | memoryview

CONNECTION_LOST = "ConnectionLost"
EARLY_RESPONSE = "EarlyResponse"

# S3 answers a request without an object with less than 2 KiB; a hundred times that is no answer.
MAX_RESPONSE = 64 * 1024

# A system call for the head alone costs more than copying a little of the body behind it.
_JOINED = 32 * 1024
# The body goes to the transport in slices, and no further while more than this waits in it: asyncio
# copies what the kernel does not take at once, and TLS encrypts ahead.
_SLICE = 256 * 1024
_HIGH_WATER = 1024 * 1024


class Connection(asyncio.Protocol):
    """A connection that is asked for one response at a time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Response | AttemptFailed] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._received = 0
        self._most = MAX_RESPONSE
        self._paused = False
        self._sent = False
        self._used = False
        self._whole_head = False

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent; S3 may still be closing it meanwhile."""
        return not (self.lost.done() or self._transport.is_closing())

    def abort(self) -> None:
        """Close at once; the transport lets go of what it did not send."""
        self._fail(CONNECTION_LOST)

    async def exchange(
        self, head: bytes, body: Sequence[Buffer], most: int = MAX_RESPONSE
    ) -> Response:
        """The response, of at most so many bytes, to a request; raises AttemptFailed.

        Whenever this ends, however it ends, nothing of ``body`` is sent any more.
        """
        answer = self._begin(most)
        try:
            await self._send(answer, head, body)
            outcome = await answer
        except BaseException:
            self.abort()
            raise
        self._answer = None
        self._used = True
        if isinstance(outcome, AttemptFailed):
            raise outcome
        return outcome

    def _begin(self, most: int) -> "asyncio.Future[Response | AttemptFailed]":
        self._answer = self._loop.create_future()
        self._headers = {}
        self._body.clear()
        self._received = 0
        self._most = most
        self._sent = self._whole_head = False
        if not self.reusable:
            self._lose()
        return self._answer

    async def _send(
        self,
        answer: "asyncio.Future[Response | AttemptFailed]",
        head: bytes,
        body: Sequence[Buffer],
    ) -> None:
        for piece in _pieces(head, body):
            if answer.done():
                return
            self._transport.write(piece)
            if self._paused:
                self._resumed = self._loop.create_future()
                await self._resumed
        self._sent = True

    def _finish(self, outcome: Response | AttemptFailed) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)
        self._wake()

    def _fail(self, code: str) -> None:
        self._finish(AttemptFailed(code))
        self._transport.abort()

    def _lose(self) -> None:
        stale = self._used and not self._received
        self._finish((StaleConnection if stale else AttemptFailed)(CONNECTION_LOST))

    def _wake(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # uvloop's transports are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102
        self.lost.set_result(None)
        if self._ends_with_connection():
            self.on_message_complete()
        self._lose()

    def pause_writing(self) -> None:  # noqa: D102
        self._paused = True

    def resume_writing(self) -> None:  # noqa: D102
        self._paused = False
        self._wake()

    def eof_received(self) -> None:  # noqa: D102
        # Half closed: an answer that is not complete now never will be.
        self._transport.abort()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._received += len(data)
        if self._answer is None or self._answer.done():
            # Nobody asked: a second response would be taken for the answer to the next request.
            self._transport.abort()
        elif self._received > self._most:
            self._fail(BAD_RESPONSE)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(BAD_RESPONSE)

    # What the parser calls.

    def on_message_begin(self) -> None:  # noqa: D102
        if self._whole_head:
            # A second response in the wake of the first.
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:  # noqa: D102
        self._whole_head = True

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._body += body

    def on_message_complete(self) -> None:  # noqa: D102
        response = Response(self._parser.get_status_code(), self._headers, bytes(self._body))
        self._headers = {}
        whole_request = self._sent and not self._transport.get_write_buffer_size()
        if not (whole_request and self._parser.should_keep_alive()):
            self._transport.abort()
        if response.status < HTTPStatus.OK:
            # Nothing was sent that an interim response could be for.
            self._fail(BAD_RESPONSE)
        elif whole_request or response.status >= HTTPStatus.MULTIPLE_CHOICES:
            self._finish(response)
        else:
            self._finish(AttemptFailed(EARLY_RESPONSE))

    def _ends_with_connection(self) -> bool:
        """Whether an error's body had no length, so that only now it is complete.

        A success of that kind could be cut short anywhere, and is not believed.
        """
        framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        error = self._whole_head and self._parser.get_status_code() >= HTTPStatus.MULTIPLE_CHOICES
        return error and not framed


def _pieces(head: bytes, body: Sequence[Buffer]) -> Iterator[Buffer]:
    """Head and body in slices, the small pieces joined."""
    small = [head]
    for part in body:
        if len(part) <= _JOINED:
            small.append(bytes(part))
            continue
        yield b"".join(small)
        small = []
        view = memoryview(part)
        for start in range(0, len(view), _SLICE):
            yield view[start : start + _SLICE]
    if small:
        yield b"".join(small)
