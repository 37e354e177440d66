"""One transport connection's upper layer: bytes in, events and bytes out (PS3.8 9.2 and 9.3).

The caller owns the socket and the clock. Its obligations:

- after every call here, send ``data_to_send()``; once ``closing`` is true, close when it is sent;
- in Sta2 and Sta13 run the ARTIM timer, and close when it expires;
- while ``in_pdu``, bound the time until the PDU is complete;
- handle each event before asking ``receive()`` for the next one, and ask until there is none;
- give the bytes that ``receive()`` did not take to the next ``receive()``, before any others.

Pixel data is never copied: a DataFragment is a view of the bytes that were received, valid until
the caller reuses them.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from store_scp.upper_layer.pdus import (
    MAX_ASSOCIATE_LENGTH,
    AbortReason,
    AbortSource,
    AnsweredContext,
    AssociateRequest,
    InvalidPdu,
    PduType,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    encode_command,
    encode_release_response,
)
from store_scp.upper_layer.states import Action, Evt, State, transition

_HEADER_BYTES = 6
_PDV_HEADER_BYTES = 6
# Both headers, as they stand in front of each P-DATA-TF's only presentation data value.
_BOTH_HEADERS = struct.Struct(">BxIIBB")
_PDV_FIXED = 2  # context id and control header, which a value's length counts
_SHORT_BODY = 4  # of A-RELEASE and A-ABORT
_COMMAND_BIT = 0x01
_LAST_BIT = 0x02
# A message costs its receiver about as much time as so many fragments.
_MESSAGE_STEPS = 16
# A request of so many bytes is answered in half a millisecond. A longer one has a call to
# receive() to itself, and costs a step for so many bytes.
_LARGE_REQUEST = 4_096
_REQUEST_BYTES_A_STEP = 64

_PDU_TYPES = {int(each): each for each in PduType}
_EVT_OF_PDU = {
    PduType.A_ASSOCIATE_RQ: Evt.EVT6,
    PduType.A_ASSOCIATE_AC: Evt.EVT3,
    PduType.A_ASSOCIATE_RJ: Evt.EVT4,
    PduType.P_DATA_TF: Evt.EVT10,
    PduType.A_RELEASE_RQ: Evt.EVT12,
    PduType.A_RELEASE_RP: Evt.EVT13,
    PduType.A_ABORT: Evt.EVT16,
}
_VIOLATIONS = frozenset({Action.AA_1, Action.AA_7, Action.AA_8})


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """The peer asks for an association."""

    request: AssociateRequest


class DataFragment(NamedTuple):  # made in a third of a frozen dataclass's time
    """Some of a presentation data value; ``last`` where the message's command or data set ends."""

    context_id: int
    is_command: bool
    last: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class Released:
    """The peer asks for the association's release."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer aborted the association (A-ABORT, whatever its source)."""


@dataclass(frozen=True, slots=True)
class ProtocolViolated:
    """The peer broke PS3.8; the association is over. ``why`` is in our own words."""

    why: str


Event = AssociationRequested | DataFragment | Released | Aborted | ProtocolViolated


class Connection:
    """The acceptor's side of one connection, from Sta2 on."""

    def __init__(self, max_length: int) -> None:
        """``max_length``: the longest P-DATA-TF that is taken; announced in A-ASSOCIATE-AC."""
        _, self._state = transition(State.STA1, Evt.EVT5)
        self._max_length = max_length
        self._peer_max_length = 0
        self._request: AssociateRequest | None = None
        self._out: list[bytes] = []
        # Bytes of a header or of a short body that did not arrive in one piece.
        self._held = bytearray()
        # Set while a PDU's body is awaited: its type and length.
        self._body_of: PduType | None = None
        self._body_length = 0
        # Inside a P-DATA-TF: what is left of it, and of its current presentation data value.
        self._pdu_left = 0
        self._pdv_left = 0
        self._context_id = 0
        self._control = 0
        # Bytes of a PDU that is ignored.
        self._skip = 0
        self._deaf = False
        self._pdus = 0
        self._request_waits = False
        self._payload = 0
        self._steps = 0
        self._taken = 0

    @property
    def state(self) -> State:
        """PS3.8 9.2.1."""
        return self._state

    @property
    def closing(self) -> bool:
        """Whether the transport connection is to be closed, as soon as everything is sent."""
        return self._state is State.STA13 or self._state is State.STA1

    @property
    def gone(self) -> bool:
        """Whether the peer is not waiting for anything either: close without more ado."""
        return self._state is State.STA1

    @property
    def in_pdu(self) -> bool:
        """Whether a PDU has begun and is not complete."""
        return bool(self._pdu_left or self._held or self._body_of or self._skip)

    @property
    def pdus(self) -> int:
        """How many PDUs have begun, as far as their headers are known."""
        return self._pdus

    @property
    def payload(self) -> int:
        """How many bytes of messages have come: those of presentation data values."""
        return self._payload

    @property
    def taken(self) -> int:
        """How many bytes the last ``receive()`` took; all of them where nothing more matters."""
        return self._taken

    @property
    def steps(self) -> int:
        """What the last ``receive()`` cost: one for each header, value or piece of one, and more
        for each message's command set."""
        return self._steps

    def data_to_send(self) -> bytes:
        """What is to be sent to the peer now; each byte is handed out once."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: memoryview, most: int) -> Iterator[Event]:
        """Take what the peer sent, in pieces of any size; whatever it is, never raises.

        Ends after ``most`` steps or a few more: a read of 256 KiB can hold 43,000 presentation
        data values. Ends as well before a large A-ASSOCIATE-RQ is complete, which the next call
        takes. ``taken`` says where, and ``steps`` how many it took.
        """
        at = 0
        self._steps = 0
        while at < len(data) and not self._deaf and self._steps < most:
            self._steps += 1
            if self._pdv_left:
                taken = min(self._pdv_left, len(data) - at)
                self._pdv_left -= taken
                self._pdu_left -= taken
                self._payload += taken
                yield self._fragment(data[at : at + taken])
                at += taken
            elif self._skip:
                taken = min(self._skip, len(data) - at)
                self._skip -= taken
                at += taken
            elif self._both_headers(data, at):
                at += _BOTH_HEADERS.size
            elif self._completes_large_request(len(data) - at) and not self._request_waits:
                self._request_waits = True
                break
            else:
                at, whole = self._gather(data, at)
                if whole is not None:
                    yield from self._next_part(whole)
        self._taken = len(data) if self._deaf else at

    def accept(
        self,
        contexts: Iterable[AnsweredContext],
        operations: tuple[int, int] | None,
        implementation: tuple[str, str],
    ) -> None:
        """Answer A-ASSOCIATE-AC; ``implementation`` is our class UID and version name."""
        self._perform(Evt.EVT7)
        request = self._requested()
        self._peer_max_length = request.max_length
        self._out.append(
            encode_associate_accept(request, contexts, self._max_length, operations, implementation)
        )

    def reject(self, result: int, source: int, reason: int) -> None:
        """Answer A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        self._perform(Evt.EVT8)
        self._out.append(encode_associate_reject(result, source, reason))

    def send_command(self, context_id: int, command: bytes) -> None:
        """Send a message that consists of a command set."""
        self._perform(Evt.EVT9)
        self._out.append(encode_command(context_id, command, self._peer_max_length))

    def release(self) -> None:
        """Answer A-RELEASE-RP."""
        self._perform(Evt.EVT14)
        self._out.append(encode_release_response())

    def abort(
        self,
        source: AbortSource = AbortSource.SERVICE_USER,
        reason: AbortReason = AbortReason.NOT_SPECIFIED,
    ) -> None:
        """Break the association off, in words if the state has any."""
        if self._state in (State.STA3, State.STA6, State.STA8):
            self._perform(Evt.EVT15)
            self._out.append(encode_abort(source, reason))
        self._deaf = True

    def artim_expired(self) -> None:
        """ARTIM ran out: close without a word."""
        self._perform(Evt.EVT18)

    def transport_closed(self) -> bool:
        """The peer is gone; whether that ended an association or a request for one."""
        was = self._state
        if was is not State.STA1:
            self._perform(Evt.EVT17)
        return was in (State.STA3, State.STA6, State.STA8)

    def _requested(self) -> AssociateRequest:
        assert self._request is not None  # noqa: S101 - Sta3 is only reached with one
        return self._request

    def _perform(self, event: Evt) -> Action:
        action, self._state = transition(self._state, event)
        return action

    def _fragment(self, data: memoryview) -> DataFragment:
        last = self._pdv_left == 0 and bool(self._control & _LAST_BIT)
        is_command = bool(self._control & _COMMAND_BIT)
        if is_command and last:
            self._steps += _MESSAGE_STEPS
        return DataFragment(self._context_id, is_command, last, data)

    def _both_headers(self, data: memoryview, at: int) -> bool:
        """Whether a P-DATA-TF with one good value begins here, in one piece: then it has begun.

        Most do. Whatever is unusual takes the long way, by ``_pdu_header`` and ``_pdv_header``.
        """
        if self._state is not State.STA6 or self._held or self._pdu_left or self._body_of:
            return False
        if len(data) - at < _BOTH_HEADERS.size:
            return False
        kind, length, pdv, context_id, control = _BOTH_HEADERS.unpack_from(data, at)
        if kind != PduType.P_DATA_TF or length > self._max_length:
            return False
        if pdv <= _PDV_FIXED or pdv + _PDV_HEADER_BYTES - _PDV_FIXED != length:
            return False
        self._perform(Evt.EVT10)
        self._pdus += 1
        self._pdu_left = self._pdv_left = pdv - _PDV_FIXED
        self._context_id, self._control = context_id, control
        return True

    def _completes_large_request(self, available: int) -> bool:
        return (
            self._body_of is PduType.A_ASSOCIATE_RQ
            and self._body_length > _LARGE_REQUEST
            and len(self._held) + available >= self._body_length
        )

    def _gather(self, data: memoryview, at: int) -> tuple[int, memoryview | None]:
        """The next header or body, once it is whole, and where the bytes behind it start."""
        wanted = self._body_length if self._body_of else _HEADER_BYTES
        missing = wanted - len(self._held)
        if not self._held and len(data) - at >= wanted:
            return at + wanted, data[at : at + wanted]
        self._held += data[at : at + missing]
        if len(self._held) < wanted:
            return len(data), None
        whole, self._held = self._held, bytearray()
        return at + missing, memoryview(whole)

    def _next_part(self, whole: memoryview) -> Iterator[Event]:
        try:
            if self._body_of:
                yield from self._body(bytes(whole))
            elif self._pdu_left:
                yield from self._pdv_header(whole)
            else:
                yield from self._pdu_header(whole)
        except InvalidPdu as invalid:
            yield from self._violated(Evt.EVT19, str(invalid), invalid.reason)

    def _pdu_header(self, header: memoryview) -> Iterator[Event]:
        self._pdus += 1
        length = int.from_bytes(header[2:6], "big")
        kind = _PDU_TYPES.get(header[0])
        if kind is None:
            raise InvalidPdu("unknown PDU type", AbortReason.UNRECOGNIZED_PDU)
        action, _ = transition(self._state, _EVT_OF_PDU[kind])
        if action in _VIOLATIONS:
            why = f"an unexpected {kind.name.replace('_', '-')}: {self._state.value}"
            yield from self._violated(_EVT_OF_PDU[kind], why, AbortReason.UNEXPECTED_PDU)
        elif action is Action.AA_6:
            self._skip = length
        elif kind is PduType.P_DATA_TF:
            self._perform(Evt.EVT10)
            if not _PDV_HEADER_BYTES <= length <= self._max_length:
                raise InvalidPdu("a P-DATA-TF is empty or longer than was negotiated")
            self._pdu_left = length
        else:
            associate = kind is PduType.A_ASSOCIATE_RQ
            if length > MAX_ASSOCIATE_LENGTH if associate else length != _SHORT_BODY:
                raise InvalidPdu("a PDU's length is not possible")
            self._body_of, self._body_length = kind, length
            if length == 0:
                yield from self._next_part(memoryview(b""))

    def _pdv_header(self, header: memoryview) -> Iterator[Event]:
        self._pdu_left -= _PDV_HEADER_BYTES
        self._pdv_left = int.from_bytes(header[:4], "big") - _PDV_FIXED
        self._context_id = header[4]
        self._control = header[5]
        if not 0 <= self._pdv_left <= self._pdu_left:
            raise InvalidPdu("a presentation data value does not fit into its PDU")
        if 0 < self._pdu_left - self._pdv_left < _PDV_HEADER_BYTES:
            raise InvalidPdu("a P-DATA-TF ends inside a presentation data value's header")
        if self._pdv_left == 0:
            yield self._fragment(header[:0])

    def _body(self, body: bytes) -> Iterator[Event]:
        kind, self._body_of = self._body_of, None
        if kind is PduType.A_ASSOCIATE_RQ:
            self._steps += len(body) // _REQUEST_BYTES_A_STEP
            self._request = decode_associate_request(body)
            self._perform(Evt.EVT6)
            yield AssociationRequested(self._request)
        elif kind is PduType.A_RELEASE_RQ:
            self._perform(Evt.EVT12)
            yield Released()
        else:
            was = self._state
            self._perform(Evt.EVT16)
            self._deaf = True
            if was is not State.STA13:
                yield Aborted()

    def _violated(self, event: Evt, why: str, reason: AbortReason) -> Iterator[Event]:
        """Answer A-ABORT as the table says; nothing behind a broken PDU can be told apart."""
        was = self._state
        action = self._perform(event)
        self._deaf = True
        provider = action is not Action.AA_1
        self._out.append(
            encode_abort(
                AbortSource.SERVICE_PROVIDER if provider else AbortSource.SERVICE_USER,
                reason if provider else AbortReason.NOT_SPECIFIED,
            )
        )
        if was is not State.STA13:
            yield ProtocolViolated(why)
