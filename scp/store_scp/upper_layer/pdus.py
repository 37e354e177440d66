"""Protocol data units (PS3.8 9.3): the peer's are decoded with every length checked, ours encoded.

Decoding takes time in proportion to the bytes, and never more than the limits below allow.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from store_scp.errors import ReceiverError

# A request with all 128 contexts of 64 transfer syntaxes each has half of this; DCMTK's limit too.
MAX_ASSOCIATE_LENGTH = 1024 * 1024
# PS3.6 knows about sixty; the rest is room for private ones.
MAX_TRANSFER_SYNTAXES = 256
# A role and an extended negotiation for each context, thrice over.
MAX_USER_ITEMS = 1024
# 128 contexts of 60 transfer syntaxes each, and what goes with them: 20 ms.
MAX_ITEMS = 8192

_PROTOCOL_VERSION = 1
_FIXED = struct.Struct(">HH64s")  # version, reserved, both titles and the reserved rest
_FIXED_LENGTH = 68
_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")
_LAST_COMMAND_FRAGMENT = 0x03
_COMMAND_FRAGMENT = 0x01
_PDV_OVERHEAD = 6
_ITEM_HEADER = 4
_CONTEXT_HEADER = 4  # id and reserved bytes, before a context's sub-items

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# PS3.8 9.3.3.2: a refused context still names a transfer syntax, which means nothing.
_INSIGNIFICANT = "1.2.840.10008.1.2"


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class AbortReason(IntEnum):
    """PS3.8 Table 9-26, for aborts by the service provider."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class AbortSource(IntEnum):
    """PS3.8 Table 9-26."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class ItemType(IntEnum):
    """Items and sub-items of A-ASSOCIATE PDUs (PS3.8 9.3.2 and Annex D, PS3.7 Annex D.3)."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ASYNCHRONOUS_OPERATIONS = 0x53
    IMPLEMENTATION_VERSION_NAME = 0x55


class InvalidPdu(ReceiverError):
    """A PDU breaks PS3.8; ``reason`` is what an A-ABORT says of it."""

    def __init__(self, why: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of an A-ASSOCIATE-RQ, as the peer wrote it."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """One presentation context of an A-ASSOCIATE-AC (PS3.8 Table 9-18)."""

    context_id: int
    result: int
    transfer_syntax: str | None


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ. Texts are as the peer wrote them, less padding, and not to be trusted.

    ``max_length`` is the longest P-DATA-TF the peer takes, 0 if it takes any. ``operations`` are
    the most operations it would invoke and perform at once, None if it proposed no window.
    """

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    max_length: int
    operations: tuple[int, int] | None
    # Both titles and the reserved bytes behind them, which the answer repeats (PS3.8 9.3.3).
    echoed: bytes


def decode_associate_request(body: bytes) -> AssociateRequest:
    """The variable part of an A-ASSOCIATE-RQ, behind its header; raises InvalidPdu."""
    if len(body) < _FIXED_LENGTH:
        raise InvalidPdu("an A-ASSOCIATE-RQ is too short")
    version, _, echoed = _FIXED.unpack_from(body)
    contexts: dict[int, ProposedContext] = {}
    application_context: str | None = None
    user = _UserInformation()
    items = _Items()
    for kind, value in items.within(memoryview(body)[_FIXED_LENGTH:]):
        if kind == ItemType.APPLICATION_CONTEXT and application_context is None:
            application_context = _text(value)
        elif kind == ItemType.PRESENTATION_CONTEXT_RQ:
            _add_context(contexts, value, items)
        elif kind == ItemType.USER_INFORMATION:
            user = _user_information(value, items)
    if not contexts:
        raise InvalidPdu("no presentation context is proposed")
    return AssociateRequest(
        protocol_version=version,
        called_ae_title=_title(echoed[:16]),
        calling_ae_title=_title(echoed[16:32]),
        application_context=application_context or "",
        contexts=tuple(contexts.values()),
        max_length=user.max_length,
        operations=user.operations,
        echoed=echoed,
    )


def encode_associate_accept(
    request: AssociateRequest,
    contexts: Iterable[AnsweredContext],
    max_length: int,
    operations: tuple[int, int] | None,
    implementation: tuple[str, str],
) -> bytes:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3); ``implementation`` is our class UID and version name."""
    class_uid, version_name = implementation
    user = [
        _item(ItemType.MAXIMUM_LENGTH, struct.pack(">I", max_length)),
        _item(ItemType.IMPLEMENTATION_CLASS_UID, class_uid.encode("ascii")),
    ]
    if operations is not None:
        user.append(_item(ItemType.ASYNCHRONOUS_OPERATIONS, struct.pack(">HH", *operations)))
    user.append(_item(ItemType.IMPLEMENTATION_VERSION_NAME, version_name.encode("ascii")))
    body = b"".join(
        (
            _FIXED.pack(_PROTOCOL_VERSION, 0, request.echoed),
            _item(ItemType.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode("ascii")),
            *map(_answered, contexts),
            _item(ItemType.USER_INFORMATION, b"".join(user)),
        )
    )
    return _pdu(PduType.A_ASSOCIATE_AC, body)


def encode_associate_reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return _pdu(PduType.A_ASSOCIATE_RJ, bytes((0, result, source, reason)))


def encode_release_response() -> bytes:
    """An A-RELEASE-RP (PS3.8 9.3.7)."""
    return _pdu(PduType.A_RELEASE_RP, bytes(4))


def encode_abort(source: AbortSource, reason: AbortReason) -> bytes:
    """An A-ABORT (PS3.8 9.3.8)."""
    return _pdu(PduType.A_ABORT, bytes((0, 0, source, reason)))


def encode_command(context_id: int, command: bytes, max_length: int) -> bytes:
    """A command set in as many P-DATA-TF PDUs as the peer's ``max_length`` asks for."""
    room = (max_length or MAX_ASSOCIATE_LENGTH) - _PDV_OVERHEAD
    pdus = []
    for at in range(0, len(command), room):
        fragment = command[at : at + room]
        last = at + room >= len(command)
        control = _LAST_COMMAND_FRAGMENT if last else _COMMAND_FRAGMENT
        pdv = _PDV_HEADER.pack(len(fragment) + 2, context_id, control) + fragment
        pdus.append(_pdu(PduType.P_DATA_TF, pdv))
    return b"".join(pdus)


@dataclass(frozen=True, slots=True)
class _UserInformation:
    max_length: int = 0
    operations: tuple[int, int] | None = None


def _pdu(kind: PduType, body: bytes) -> bytes:
    return _HEADER.pack(kind, len(body)) + body


def _item(kind: ItemType, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _answered(context: AnsweredContext) -> bytes:
    syntax = (context.transfer_syntax or _INSIGNIFICANT).encode("ascii")
    value = struct.pack(">BxBx", context.context_id, context.result)
    return _item(ItemType.PRESENTATION_CONTEXT_AC, value + _item(ItemType.TRANSFER_SYNTAX, syntax))


class _Items:
    """The items and sub-items of one PDU, MAX_ITEMS in all."""

    def __init__(self) -> None:
        self._left = MAX_ITEMS

    def within(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Type and value of each item that ``data`` holds; raises InvalidPdu."""
        at = 0
        while at < len(data):
            if not self._left:
                raise InvalidPdu("too many items")
            self._left -= 1
            if len(data) - at < _ITEM_HEADER:
                raise InvalidPdu("an item's header is cut off")
            kind, length = data[at], data[at + 2] << 8 | data[at + 3]
            at += _ITEM_HEADER + length
            if at > len(data):
                raise InvalidPdu("an item is longer than what holds it")
            yield kind, data[at - length : at]


def _add_context(contexts: dict[int, ProposedContext], value: memoryview, items: _Items) -> None:
    if len(value) < _CONTEXT_HEADER:
        raise InvalidPdu("a presentation context is too short")
    # The odd numbers of one byte (PS3.8 9.3.2.2), so that there are no more than 128 contexts.
    context_id = value[0]
    if context_id % 2 == 0 or context_id in contexts:
        raise InvalidPdu("a presentation context's id is even or there twice")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, text in items.within(value[_CONTEXT_HEADER:]):
        if kind == ItemType.ABSTRACT_SYNTAX:
            abstract_syntax = _text(text)
        elif kind == ItemType.TRANSFER_SYNTAX:
            if len(transfer_syntaxes) >= MAX_TRANSFER_SYNTAXES:
                raise InvalidPdu("too many transfer syntaxes")
            transfer_syntaxes.append(_text(text))
    contexts[context_id] = ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def _user_information(value: memoryview, items: _Items) -> _UserInformation:
    max_length = 0
    operations = None
    for number, (kind, sub_item) in enumerate(items.within(value)):
        if number >= MAX_USER_ITEMS:
            raise InvalidPdu("too many user information items")
        if kind == ItemType.MAXIMUM_LENGTH:
            (max_length,) = _unpacked(">I", sub_item)
        elif kind == ItemType.ASYNCHRONOUS_OPERATIONS:
            invoked, performed = _unpacked(">HH", sub_item)
            operations = (invoked, performed)
    if 0 < max_length <= _PDV_OVERHEAD:
        raise InvalidPdu("the peer's maximum length leaves no room for data")
    return _UserInformation(max_length, operations)


def _unpacked(form: str, value: memoryview) -> tuple[int, ...]:
    try:
        return struct.unpack(form, value)
    except struct.error:
        raise InvalidPdu("a user information item has a wrong length") from None


def _title(value: bytes) -> str:
    # PS3.8 9.3.2 pads with spaces, some workstations with NULs.
    return value.rstrip(b"\x00 ").decode("latin-1")


def _text(value: memoryview) -> str:
    return bytes(value).rstrip(b"\x00 ").decode("ascii", "replace")
