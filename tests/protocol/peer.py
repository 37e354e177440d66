"""A DICOM peer that says exactly what a test wants said, byte by byte, over a loopback socket."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
NO_DATA_SET = 0x0101
VERIFICATION = "1.2.840.10008.1.1"
# A receiver that does not answer fails its test in this time.
_DEADLINE = 30.0
_FRAGMENT = 65_000

Text = str | bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A DIMSE response's command set, its values as they came."""

    elements: dict[int, bytes]

    @property
    def status(self) -> int:
        return int.from_bytes(self.elements[0x0900], "little")

    @property
    def comment(self) -> str:
        return self.elements.get(0x0902, b"").decode("ascii").rstrip()


@dataclass(slots=True)
class Peer:
    """Connects and proposes when entered; context ids are 1, 3, 5, ... in the order given."""

    port: int
    contexts: Sequence[tuple[Text, Sequence[Text]]]
    calling: Text = "TESTER"
    called: Text = "STORESCP"
    # What came back: the PDU's type, a reject's or abort's numbers, a context's result and syntax.
    answer: int = 0
    triple: tuple[int, ...] = ()
    results: dict[int, tuple[int, str]] = field(default_factory=dict)
    connection: socket.socket = field(init=False)

    def __enter__(self) -> Self:
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=_DEADLINE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(0x01, self._request())
        self._read_answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.answer == ASSOCIATE_AC and kind is None:
            self.release()
        self.connection.close()

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
    ) -> None:
        self.start_store(sop_class, sop_instance, context_id, has_data_set=data_set is not None)
        if data_set is not None:
            self.send_data(data_set, context_id)

    def start_store(
        self,
        sop_class: Text,
        sop_instance: Text | None,
        context_id: int,
        *,
        has_data_set: bool = True,
    ) -> None:
        """Send the C-STORE-RQ only; the data set is to follow."""
        elements = [
            (0x0002, _padded(sop_class)),
            (0x0100, _us(C_STORE_RQ)),
            (0x0110, _us(7)),
            (0x0700, _us(0)),
            (0x0800, _us(1 if has_data_set else NO_DATA_SET)),
        ]
        if sop_instance is not None:
            elements.append((0x1000, _padded(sop_instance)))
        self.send_command(elements, context_id)

    def echo(self, context_id: int = 1) -> Response:
        self.send_command(
            [
                (0x0002, _padded(VERIFICATION)),
                (0x0100, _us(C_ECHO_RQ)),
                (0x0110, _us(9)),
                (0x0800, _us(NO_DATA_SET)),
            ],
            context_id,
        )
        return self.response()

    def vanish(self) -> None:
        """Close the connection without a word."""
        self.answer = 0
        self.connection.close()

    def release(self) -> None:
        self.send(RELEASE_RQ, bytes(4))
        kind, _ = self.read()
        assert kind == RELEASE_RP

    def response(self) -> Response:
        kind, body = self.read()
        assert kind == P_DATA, f"PDU type {kind} instead of a response"
        return Response(dict(_elements(body[6:])))

    def closed_with(self) -> tuple[int, bytes]:
        """The PDU that ended the association; (0, b"") if the connection just closed."""
        self.answer = 0  # nothing is left to release
        try:
            return self.read()
        except (EOFError, ConnectionResetError):
            return 0, b""

    def send(self, kind: int, body: bytes) -> None:
        self.connection.sendall(struct.pack(">BBI", kind, 0, len(body)) + body)

    def send_command(self, elements: Sequence[tuple[int, bytes]], context_id: int) -> None:
        group = b"".join(
            struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements
        )
        group = struct.pack("<HHII", 0, 0, 4, len(group)) + group
        self._send_fragment(group, context_id, 0x03)

    def send_data(self, data: bytes, context_id: int, *, last: bool = True) -> None:
        for at in range(0, len(data) or 1, _FRAGMENT):
            ends = last and at + _FRAGMENT >= len(data)
            self._send_fragment(data[at : at + _FRAGMENT], context_id, 0x02 if ends else 0x00)

    def read(self) -> tuple[int, bytes]:
        kind, _, size = struct.unpack(">BBI", self._receive(6))
        return kind, self._receive(size)

    def _send_fragment(self, data: bytes, context_id: int, control: int) -> None:
        value = struct.pack(">IBB", len(data) + 2, context_id, control) + data
        self.send(P_DATA, value)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.connection.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def _read_answer(self) -> None:
        try:
            self.answer, body = self.read()
        except (EOFError, ConnectionResetError):
            return
        if self.answer == ASSOCIATE_AC:
            self.results = dict(_results(body))
        else:
            self.triple = tuple(body[1:4])

    def _request(self) -> bytes:
        fixed = struct.pack(">HH16s16s32x", 1, 0, _title(self.called), _title(self.calling))
        items = _item(0x10, b"1.2.840.10008.3.1.1.1")
        for number, (abstract, transfers) in enumerate(self.contexts):
            syntaxes = _item(0x30, _bytes(abstract))
            syntaxes += b"".join(_item(0x40, _bytes(each)) for each in transfers)
            items += _item(0x20, struct.pack(">B3x", 2 * number + 1) + syntaxes)
        user = _item(0x51, struct.pack(">I", 131_072)) + _item(0x52, b"1.2.3")
        return fixed + items + _item(0x50, user)


def _results(body: bytes) -> list[tuple[int, tuple[int, str]]]:
    found, at = [], 68
    while at < len(body):
        kind, size = struct.unpack_from(">BxH", body, at)
        if kind == 0x21:
            context_id, result = struct.unpack_from(">BxBx", body, at + 4)
            found.append((context_id, (result, body[at + 12 : at + 4 + size].decode())))
        at += 4 + size
    return found


def _elements(group: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(group):
        _, element, size = struct.unpack_from("<HHI", group, at)
        found.append((element, group[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _bytes(text: Text) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def _title(text: Text) -> bytes:
    return _bytes(text).ljust(16)[:16]


def _padded(text: Text) -> bytes:
    value = _bytes(text)
    return value + b"\x00" if len(value) % 2 else value


def _us(number: int) -> bytes:
    return struct.pack("<H", number)
