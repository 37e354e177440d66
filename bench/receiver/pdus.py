"""The few bytes a sender of pre-encoded images needs: P-DATA-TF PDUs and C-STORE messages.

Cheaper than any library, so that the sender takes as little as possible of the CPUs it shares with
the receiver. Encodings: PS3.8 9.3.5 and annex E, PS3.7 9.3.1 and annex E.1.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

P_DATA_TF = 0x04
PDU_HEADER = struct.Struct(">BxI")
# PDU type and length, PDV length, presentation context id, message control header.
_P_DATA_HEADER = struct.Struct(">BxIIBB")
# What of a PDU's length is not payload: the PDV's own length, context id and control header.
PDV_OVERHEAD = 6

_LAST, _COMMAND = 0x02, 0x01

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_UL = struct.Struct("<I")
_C_STORE_RQ, _C_STORE_RSP, _C_ECHO_RQ = 0x0001, 0x8001, 0x0030
_MEDIUM_PRIORITY = 0x0000
_DATA_SET_PRESENT, _NO_DATA_SET = 0x0000, 0x0101
VERIFICATION = "1.2.840.10008.1.1"
_COMMAND_FIELD, _MESSAGE_ID_RESPONDED_TO, _STATUS = 0x0100, 0x0120, 0x0900


@dataclass(frozen=True, slots=True)
class Response:
    """A C-STORE-RSP: which request it answers, and how."""

    message_id: int
    status: int


class UnexpectedAnswer(ValueError):
    """The peer sent something else than a C-STORE-RSP: an A-ABORT, or no DICOM at all."""


def store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The command set of a C-STORE-RQ, implicit VR little endian."""
    return _command_set(
        _element(0x0002, _uid(sop_class_uid)),
        _element(_COMMAND_FIELD, _US.pack(_C_STORE_RQ)),
        _element(0x0110, _US.pack(message_id)),
        _element(0x0700, _US.pack(_MEDIUM_PRIORITY)),
        _element(0x0800, _US.pack(_DATA_SET_PRESENT)),
        _element(0x1000, _uid(sop_instance_uid)),
    )


def echo_request(message_id: int) -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 9.3.5)."""
    return _command_set(
        _element(0x0002, _uid(VERIFICATION)),
        _element(_COMMAND_FIELD, _US.pack(_C_ECHO_RQ)),
        _element(0x0110, _US.pack(message_id)),
        _element(0x0800, _US.pack(_NO_DATA_SET)),
    )


def command_pdu(context_id: int, command: bytes) -> bytes:
    """A whole command set in one PDU; it is shorter than any maximum a peer announces."""
    return _p_data(context_id, _COMMAND | _LAST, command)


def data_set_pdus(
    context_id: int, chunks: Iterable[bytes | memoryview], size: int, max_pdu: int
) -> Iterator[bytes]:
    """A data set of ``size`` bytes, as PDUs no longer than the peer allows."""
    left = size
    for piece in rechunk(chunks, max_pdu - PDV_OVERHEAD):
        left -= len(piece)
        yield _p_data(context_id, 0 if left else _LAST, piece)


def tiny_pdvs_pdu(context_id: int, fragment: bytes, max_pdu: int) -> bytes:
    """A PDU as long as the peer allows, full of one fragment of a data set, never the last.

    Each PDV's length counts its context id and its message control header, too (PS3.8 9.3.5.1).
    """
    pdv = struct.pack(">IBB", 2 + len(fragment), context_id, 0) + fragment
    pdvs = pdv * (max_pdu // len(pdv))
    return PDU_HEADER.pack(P_DATA_TF, len(pdvs)) + pdvs


def rechunk(chunks: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of ``size``; only the last may be shorter."""
    held: list[bytes | memoryview] = []
    missing = size
    for chunk in chunks:
        rest = memoryview(chunk)
        while len(rest) >= missing:
            yield b"".join((*held, rest[:missing]))
            rest, held, missing = rest[missing:], [], size
        if rest:
            held.append(rest)
            missing -= len(rest)
    if held:
        yield b"".join(held)


class ResponseReader:
    """C-STORE responses from the bytes of one association, however they were cut."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._command = bytearray()

    def feed(self, data: bytes) -> list[Response]:
        """The responses that these bytes complete; raises UnexpectedAnswer."""
        self._bytes += data
        responses = []
        while (pdu := self._take_pdu()) is not None:
            for control, fragment in _pdvs(pdu):
                self._command += fragment
                if control & _LAST:
                    responses.append(parse_response(bytes(self._command)))
                    self._command.clear()
        return responses

    def _take_pdu(self) -> bytes | None:
        if len(self._bytes) < PDU_HEADER.size:
            return None
        kind, length = PDU_HEADER.unpack_from(self._bytes)
        if kind != P_DATA_TF:
            raise UnexpectedAnswer(f"PDU type {kind:02X}H instead of a response")
        end = PDU_HEADER.size + length
        if len(self._bytes) < end:
            return None
        pdu = bytes(self._bytes[PDU_HEADER.size : end])
        del self._bytes[:end]
        return pdu


def parse_response(command: bytes) -> Response:
    """Message ID and status of a C-STORE-RSP's command set; raises UnexpectedAnswer."""
    values = dict(_elements(command))
    try:
        (field,) = _US.unpack(values[_COMMAND_FIELD])
        (message_id,) = _US.unpack(values[_MESSAGE_ID_RESPONDED_TO])
        (status,) = _US.unpack(values[_STATUS])
    except (KeyError, struct.error):
        raise UnexpectedAnswer("a command set without what a response has") from None
    if field != _C_STORE_RSP:
        raise UnexpectedAnswer(f"command field {field:04X}H instead of a C-STORE-RSP")
    return Response(message_id, status)


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ELEMENT.size <= len(command):
        _group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        yield element, command[at : at + length]
        at += length


def _pdvs(pdu: bytes) -> Iterator[tuple[int, bytes]]:
    """Control header and fragment of each PDV; raises UnexpectedAnswer."""
    at = 0
    while at < len(pdu):
        if at + PDV_OVERHEAD > len(pdu):
            raise UnexpectedAnswer("a PDV that ends in its header")
        (length,) = struct.unpack_from(">I", pdu, at)
        end = at + 4 + length
        if end > len(pdu) or end < at + PDV_OVERHEAD:
            raise UnexpectedAnswer("a PDV that does not fit its PDU")
        yield pdu[at + 5], pdu[at + PDV_OVERHEAD : end]
        at = end


def _p_data(context_id: int, control: int, payload: bytes) -> bytes:
    length = len(payload)
    header = _P_DATA_HEADER.pack(
        P_DATA_TF, length + PDV_OVERHEAD, length + PDV_OVERHEAD - 4, context_id, control
    )
    return header + payload


def _command_set(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return _element(0x0000, _UL.pack(len(body))) + body


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0x0000, element, len(value)) + value


def _uid(uid: str) -> bytes:
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)
