"""What goes over the wire, put together by hand so that a test can also put it together wrongly."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

ASSOCIATE_RQ = 0x01
ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

COMMAND = 0x01
LAST = 0x02

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
NO_DATA_SET = 0x0101
VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

MAX_LENGTH = 131_072
_FRAGMENT = 65_000

Text = str | bytes
Contexts = Sequence[tuple[Text, Sequence[Text]]]


@dataclass(frozen=True, slots=True)
class Proposal:
    """An A-ASSOCIATE-RQ; context ids are 1, 3, 5, ... unless ``ids`` are given."""

    contexts: Contexts
    calling: Text = "TESTER"
    called: Text = "STORESCP"
    ids: Sequence[int] = ()
    version: int = 1
    application_context: Text = APPLICATION_CONTEXT
    max_length: int = MAX_LENGTH
    operations: tuple[int, int] | None = None

    def encoded(self) -> bytes:
        """The whole PDU."""
        fixed = struct.pack(
            ">HH16s16s32x", self.version, 0, _title(self.called), _title(self.calling)
        )
        items = item(0x10, as_bytes(self.application_context))
        ids = self.ids or range(1, 2 * len(self.contexts), 2)
        for context_id, (abstract, transfers) in zip(ids, self.contexts, strict=True):
            items += context(context_id, abstract, transfers)
        return pdu(ASSOCIATE_RQ, fixed + items + item(0x50, self._user_information()))

    def _user_information(self) -> bytes:
        user = item(0x51, struct.pack(">I", self.max_length)) + item(0x52, b"1.2.3")
        if self.operations is not None:
            user += item(0x53, struct.pack(">HH", *self.operations))
        return user


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an A-ASSOCIATE-AC says: each context's result and transfer syntax, and the window."""

    results: dict[int, tuple[int, str]]
    max_length: int
    operations: tuple[int, ...] | None

    @classmethod
    def decoded(cls, body: bytes) -> "Accepted":
        results, user = {}, {}
        for kind, value in _items(body[68:]):
            if kind == 0x21:
                results[value[0]] = (value[2], value[8:].decode())
            elif kind == 0x50:
                user = dict(_items(value))
        window = struct.unpack(">HH", user[0x53]) if 0x53 in user else None
        return cls(results, int.from_bytes(user[0x51], "big"), window)


@dataclass(frozen=True, slots=True)
class Response:
    """A DIMSE response's command set, its values as they came."""

    elements: dict[int, bytes]

    @property
    def status(self) -> int:
        return int.from_bytes(self.elements[0x0900], "little")

    @property
    def message_id(self) -> int:
        return int.from_bytes(self.elements[0x0120], "little")

    @property
    def comment(self) -> str:
        return self.elements.get(0x0902, b"").decode("ascii").rstrip()

    @classmethod
    def decoded(cls, group: bytes) -> "Response":
        found, at = {}, 0
        while at < len(group):
            _, element, size = struct.unpack_from("<HHI", group, at)
            found[element] = group[at + 8 : at + 8 + size]
            at += 8 + size
        return cls(found)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """``length`` lies about the body's where it is given."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def pdv(data: bytes, context_id: int = 1, control: int = LAST, length: int | None = None) -> bytes:
    """A presentation data value; ``length`` lies about its own where it is given."""
    size = len(data) + 2 if length is None else length
    return struct.pack(">IBB", size, context_id, control) + data


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(context_id: int, abstract: Text, transfers: Sequence[Text]) -> bytes:
    syntaxes = item(0x30, as_bytes(abstract))
    syntaxes += b"".join(item(0x40, as_bytes(each)) for each in transfers)
    return item(0x20, struct.pack(">B3x", context_id) + syntaxes)


def command(elements: Sequence[tuple[int, bytes]], context_id: int = 1) -> bytes:
    """A command set in a PDU of its own."""
    group = b"".join(
        struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements
    )
    group = struct.pack("<HHII", 0, 0, 4, len(group)) + group
    return pdu(P_DATA, pdv(group, context_id, COMMAND | LAST))


def store_request(
    sop_class: Text,
    sop_instance: Text | None,
    context_id: int = 1,
    *,
    has_data_set: bool = True,
    message_id: int = 7,
) -> bytes:
    """A C-STORE-RQ's command set; the data set is to follow."""
    elements = [
        (0x0002, _padded(sop_class)),
        (0x0100, us(C_STORE_RQ)),
        (0x0110, us(message_id)),
        (0x0700, us(0)),
        (0x0800, us(1 if has_data_set else NO_DATA_SET)),
    ]
    if sop_instance is not None:
        elements.append((0x1000, _padded(sop_instance)))
    return command(elements, context_id)


def echo_request(context_id: int = 1) -> bytes:
    elements = [
        (0x0002, _padded(VERIFICATION)),
        (0x0100, us(C_ECHO_RQ)),
        (0x0110, us(9)),
        (0x0800, us(NO_DATA_SET)),
    ]
    return command(elements, context_id)


def data_pdus(data: bytes, context_id: int = 1, *, last: bool = True) -> bytes:
    """A data set, or a piece of one, in PDUs shorter than anybody's limit."""
    pdus = []
    for at in range(0, len(data) or 1, _FRAGMENT):
        ends = last and at + _FRAGMENT >= len(data)
        fragment = pdv(data[at : at + _FRAGMENT], context_id, LAST if ends else 0)
        pdus.append(pdu(P_DATA, fragment))
    return b"".join(pdus)


def proxy_header(source: str | None, destination: str = "127.0.0.1") -> bytes:
    """A PROXY v2 header: PROXY over TCP and IPv4 from ``source``, or LOCAL without one."""
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    if source is None:
        return signature + b"\x20\x00\x00\x00"
    addresses = ip_address(source).packed + ip_address(destination).packed
    return signature + b"\x21\x11" + struct.pack(">H4s4sHH", 12, addresses[:4], addresses[4:], 1, 2)


def as_bytes(text: Text) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def us(number: int) -> bytes:
    return struct.pack("<H", number)


def _items(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from(">BxH", data, at)
        found.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def _title(text: Text) -> bytes:
    return as_bytes(text).ljust(16)[:16]


def _padded(text: Text) -> bytes:
    value = as_bytes(text)
    return value + b"\x00" if len(value) % 2 else value
