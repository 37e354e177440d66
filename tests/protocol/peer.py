"""A DICOM peer that says exactly what a test wants said, byte by byte, over a loopback socket."""

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.protocol.wire import (
    ABORT,
    ASSOCIATE_AC,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Accepted,
    Contexts,
    Proposal,
    Response,
    Text,
    command,
    data_pdus,
    echo_request,
    pdu,
    store_request,
)

# A receiver that does not answer fails its test in this time.
_DEADLINE = 30.0
SERVICE_USER = 0
SERVICE_PROVIDER = 2
_NO_ABORT = -1


class Wire:
    """A connection without an association; a context manager."""

    def __init__(
        self,
        port: int,
        *,
        before: bytes = b"",
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        """``before`` is sent ahead of everything, even TLS: a PROXY header."""
        self.connection = socket.create_connection(
            ("127.0.0.1", port), timeout=_DEADLINE, source_address=(source, 0)
        )
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.ExitStack() as opened:
            opened.push(self)
            self.connection.sendall(before)
            if tls is not None:
                self.connection = tls.wrap_socket(self.connection, server_hostname="127.0.0.1")
            opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.connection.close()

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """The next PDU's type and body; raises EOFError."""
        kind, _, size = struct.unpack(">BBI", self._receive(6))
        return kind, self._receive(size)

    def ended_silently(self) -> bool:
        """Whether the connection is closed before another byte comes."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True

    def abort_source(self) -> int:
        """Who aborts, by an A-ABORT that the connection's end follows; -1 if nobody does."""
        try:
            kind, body = self.read()
        except (EOFError, ConnectionError):
            return _NO_ABORT
        assert kind == ABORT, f"PDU type {kind} instead of an abort"
        assert self.ended_silently()
        return body[2]

    def reject(self) -> tuple[int, ...]:
        """Result, source and reason of the A-ASSOCIATE-RJ that comes."""
        kind, body = self.read()
        assert kind == 0x03, f"PDU type {kind} instead of a rejection"
        return tuple(body[1:4])

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self.connection.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


@dataclass(slots=True)
class Peer:
    """Connects and proposes when entered, which has to be accepted; releases when left."""

    port: int
    contexts: Contexts
    calling: Text = "TESTER"
    called: Text = "STORESCP"
    operations: tuple[int, int] | None = None
    max_length: int = 131_072
    before: bytes = b""
    tls: ssl.SSLContext | None = None
    source: str = "127.0.0.1"
    wire: Wire = field(init=False)
    accepted: Accepted = field(init=False)

    def __enter__(self) -> Self:
        self.wire = Wire(self.port, before=self.before, tls=self.tls, source=self.source)
        with contextlib.ExitStack() as opened:
            opened.push(self.wire)
            self.wire.send(self.proposal().encoded())
            kind, body = self.wire.read()
            assert kind == ASSOCIATE_AC, (kind, body)
            self.accepted = Accepted.decoded(body)
            opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is None and self.wire.connection.fileno() != -1:
            self.release()
        self.wire.connection.close()

    def proposal(self) -> Proposal:
        return Proposal(
            self.contexts,
            self.calling,
            self.called,
            operations=self.operations,
            max_length=self.max_length,
        )

    def rejected(self) -> tuple[int, ...]:
        """Instead of entering: the triple that the proposal is rejected with."""
        with Wire(self.port, before=self.before, tls=self.tls, source=self.source) as wire:
            wire.send(self.proposal().encoded())
            return wire.reject()

    def store(
        self,
        data_set: bytes | None,
        sop_class: Text,
        sop_instance: Text | None,
        context_id: int = 1,
    ) -> Response:
        """Send one C-STORE and wait for its response."""
        self.send_store(data_set, sop_class, sop_instance, context_id)
        return self.response()

    def send_store(
        self,
        data_set: bytes | None,
        sop_class: Text,
        sop_instance: Text | None,
        context_id: int = 1,
        message_id: int = 7,
    ) -> None:
        has_data_set = data_set is not None
        self.wire.send(
            store_request(
                sop_class,
                sop_instance,
                context_id,
                has_data_set=has_data_set,
                message_id=message_id,
            )
        )
        if data_set is not None:
            self.wire.send(data_pdus(data_set, context_id))

    def start_store(self, sop_class: Text, sop_instance: Text, data: bytes = b"") -> None:
        """Send a C-STORE-RQ and perhaps a piece of its data set; the rest is to follow."""
        self.wire.send(store_request(sop_class, sop_instance))
        if data:
            self.wire.send(data_pdus(data, last=False))

    def finish_store(self, data: bytes) -> Response:
        """Send the rest of a data set."""
        self.wire.send(data_pdus(data))
        return self.response()

    def echo(self, context_id: int = 1) -> Response:
        self.wire.send(echo_request(context_id))
        return self.response()

    def command(self, elements: list[tuple[int, bytes]], context_id: int = 1) -> None:
        self.wire.send(command(elements, context_id))

    def vanish(self) -> None:
        """Close the connection without a word."""
        self.wire.connection.close()

    def abort(self) -> None:
        """A-ABORT, and go."""
        self.wire.send(pdu(ABORT, bytes(4)))
        self.vanish()

    def aborted_by(self) -> int:
        """The source of the A-ABORT that ends the association; -1 if it ends without one."""
        source = self.wire.abort_source()
        self.vanish()  # nothing is left to release
        return source

    def release(self) -> None:
        self.ask_release()
        self.read_release()

    def release_and_go(self) -> None:
        """A-RELEASE, and close."""
        self.release()
        self.vanish()

    def ask_release(self) -> None:
        """A-RELEASE-RQ, without waiting."""
        self.wire.send(pdu(RELEASE_RQ, bytes(4)))

    def read_release(self) -> None:
        """The A-RELEASE-RP that comes."""
        kind, _ = self.wire.read()
        assert kind == RELEASE_RP, f"PDU type {kind} instead of a release"

    def response(self) -> Response:
        """The next response, whose fragments may come in several PDUs."""
        group, control = bytearray(), 0
        while control != 0x03:
            kind, body = self.wire.read()
            assert kind == P_DATA, f"PDU type {kind} instead of a response"
            control = body[5]
            group += body[6:]
        return Response.decoded(bytes(group))
