"""Command sets (PS3.7 6.3 and Annex E): the two requests we serve are read, their answers written.

Command sets are Implicit VR Little Endian whatever the presentation context negotiated.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from store_scp.dimse.status import Status
from store_scp.errors import ReceiverError

# A C-STORE-RQ with every optional element has 400 bytes.
MAX_COMMAND_BYTES = 16 * 1024

# PS3.7 Annex E has under forty, of all services together.
MAX_COMMAND_ELEMENTS = 64

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000

# PS3.7 9.3.1.1: any other value says that a data set follows.
NO_DATA_SET = 0x0101


class CommandField(IntEnum):
    """PS3.7 Table E.1-1, as far as we serve it."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030


_RESPONSE = 0x8000


class CommandInvalid(ReceiverError):
    """A message's command set is not one of a service that was negotiated."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request. The UIDs are as the peer wrote them, less padding; empty if missing."""

    field: CommandField
    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    has_data_set: bool


def decode_command(data: bytes) -> Command:
    """Read a command set; any other bytes raise CommandInvalid."""
    elements = _elements(data)
    try:
        field = CommandField(_number(elements, _COMMAND_FIELD))
    except ValueError:
        raise CommandInvalid("the service is not one of ours") from None
    return Command(
        field=field,
        message_id=_number(elements, _MESSAGE_ID),
        affected_sop_class_uid=_uid(elements, _AFFECTED_SOP_CLASS_UID),
        affected_sop_instance_uid=_uid(elements, _AFFECTED_SOP_INSTANCE_UID),
        has_data_set=_number(elements, _DATA_SET_TYPE) != NO_DATA_SET,
    )


def encode_response(
    request: Command, status: Status, sop_class_uid: str, sop_instance_uid: str
) -> bytes:
    """The answer's command set; a UID that is empty is left out."""
    parts = []
    if sop_class_uid:
        parts.append(_element(_AFFECTED_SOP_CLASS_UID, _padded(sop_class_uid, b"\x00")))
    parts.append(_element(_COMMAND_FIELD, _US.pack(request.field | _RESPONSE)))
    parts.append(_element(_MESSAGE_ID_RESPONDED_TO, _US.pack(request.message_id)))
    parts.append(_element(_DATA_SET_TYPE, _US.pack(NO_DATA_SET)))
    parts.append(_element(_STATUS, _US.pack(status.code)))
    if status is not Status.SUCCESS:
        parts.append(_element(_ERROR_COMMENT, _padded(status.comment, b" ")))
    if sop_instance_uid:
        parts.append(_element(_AFFECTED_SOP_INSTANCE_UID, _padded(sop_instance_uid, b"\x00")))
    group = b"".join(parts)
    return _element(_GROUP_LENGTH, struct.pack("<I", len(group))) + group


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _ELEMENT.size:
            raise CommandInvalid("a command element is cut off")
        group, element, length = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size + length
        if group != 0 or element in found or at > len(data):
            raise CommandInvalid("a command set is malformed")
        if len(found) == MAX_COMMAND_ELEMENTS:
            raise CommandInvalid("a command set has too many elements")
        found[element] = data[at - length : at]
    return found


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise CommandInvalid("a command element is missing or has a wrong length")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").rstrip(b"\x00 ").decode("ascii", "replace")


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    return value + padding if len(value) % 2 else value
