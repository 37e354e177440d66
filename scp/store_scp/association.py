"""One transport connection: its bytes go to the upper layer, and what comes out of it is done.

Its own are the transport, the clock, and when not to read; DIMSE is :mod:`store_scp.dialogue`'s.
"""

import asyncio
import time
from typing import cast

from store_scp.addresses import peer_address
from store_scp.dialogue import (
    CONNECTION_LOST,
    PEER_ABORTED,
    Dialogue,
    Ending,
    Hold,
    Site,
    failed,
)
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.metrics import Counter, Gauge
from store_scp.openings import OPENING_BYTES
from store_scp.policy import Certificate
from store_scp.turns import BYTES_A_STEP, SLICE_STEPS, SLICES_A_TURN
from store_scp.upper_layer import (
    Aborted,
    AssociationRequested,
    Connection,
    DataFragment,
    Event,
    ProtocolViolated,
)
from store_scp.upper_layer.pdus import AbortReason
from store_scp.watch import Overdue, Progress, Watch

# What one read may bring. More saves nothing; less costs a system call for every PDU.
RECEIVE_BYTES = 256 * 1024
# How long an instance waits for memory before it is refused with A700H: shorter than any sender's
# DIMSE timeout, and longer than the uploads take that hold the memory.
MEMORY_SECONDS = 10.0


class Association(asyncio.BufferedProtocol):
    """From the connection's first byte to its last."""

    def __init__(
        self,
        site: Site,
        members: "set[Association]",
        receive_buffer: memoryview,
        address: str = "",
        certificate: Certificate | None = None,
    ) -> None:
        """``receive_buffer`` is everybody's: what is in it is dealt with before the next read.

        ``address`` is the peer's where the socket does not know it.
        """
        self._site = site
        self._members = members
        self._buffer = receive_buffer
        self._address = address
        self._certificate = certificate
        self._connection = Connection(site.max_pdu_length)
        self._dialogue = Dialogue(site, self._connection, self)
        self._watch = Watch(site.timeouts, time.monotonic())
        self._holds: dict[Hold, float] = {}
        self._closing = False
        # What this slice of the loop's time has cost so far, in steps.
        self._spent = 0
        # Received and not dealt with: while there is some, or a turn is awaited, nothing is read.
        self._rest = memoryview(b"")
        self._awaits_turn = False
        self._first = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        if not self._address:
            peer = transport.get_extra_info("peername")
            self._address = peer_address(peer[0]) if peer else ""
        self._members.add(self)
        self._site.panel.adjust(Gauge.CONNECTIONS_OPEN, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to receive."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were received."""
        self.received(self._buffer[:nbytes])

    def received(self, data: memoryview) -> None:
        """Deal with what the peer sent, as far as its slice goes; the rest has to wait."""
        if len(self._first) < OPENING_BYTES:
            self._first += data[: OPENING_BYTES - len(self._first)]
        taken = self._deal_with(data)
        if taken < len(data):
            self._rest = memoryview(bytes(data[taken:]))  # the buffer is everybody's
        if self._rest or self._spent >= SLICE_STEPS:
            self._await_turn()

    def pause_writing(self) -> None:
        """The peer does not read our answers."""
        self.hold(Hold.WRITE)

    def resume_writing(self) -> None:
        """It does again."""
        self.go_on(Hold.WRITE)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The connection is closed, by whomever."""
        self._members.discard(self)
        self._rest = memoryview(b"")
        self._site.panel.adjust(Gauge.CONNECTIONS_OPEN, -1)
        if self._connection.pdus == 0:
            self._site.panel.add(Counter.CONNECTIONS_PROBE)
        self._connection.transport_closed()
        self._dialogue.end(CONNECTION_LOST)

    @property
    def established(self) -> bool:
        """Whether an association is open on it."""
        return self._dialogue.admitted and not self._dialogue.over

    def tick(self, now: float) -> None:
        """Some time has passed."""
        if Hold.MEMORY in self._holds:
            self._look_for_memory(now)
        unread = self._holds.get(Hold.WRITE)
        if unread is not None and now - unread > self._site.timeouts.network:
            self._dialogue.end(failed("the peer does not read what it is sent"))
            self._transport.abort()
            return
        overdue = self._watch.check(now, peer_waits=bool(self._holds) or self._dialogue.busy)
        if overdue is Overdue.ARTIM:
            if not self._connection.gone:
                self._connection.artim_expired()
            self._transport.abort()
        elif overdue:
            self._dialogue.break_off(AbortReason.NOT_SPECIFIED, overdue.value)
            self.send()

    def abort(self, ending: Ending) -> None:
        """Break the association off, and close the connection as soon as the peer is told."""
        self._connection.abort()
        self._dialogue.end(ending)
        self.send()
        if not self._closing:  # there is nobody to tell
            self._transport.close()

    def hold(self, why: Hold) -> None:
        """Read nothing until it goes on."""
        self._pause()
        self._holds.setdefault(why, time.monotonic())

    def go_on(self, why: Hold) -> None:
        """This is no reason any more."""
        if self._holds.pop(why, None) is None or self._holds:
            return
        self._watch.went_on(time.monotonic())
        self._read_on()

    def answered(self) -> None:
        """Nothing that the peer waits for is left: it can act again."""
        self._watch.went_on(time.monotonic())

    def send(self) -> None:
        """Send what the upper layer has to send, and close where it says so."""
        data = self._connection.data_to_send()
        # Once our half of the connection is closed, nothing can be sent: not even the A-ABORT that
        # Sta13 has for whatever comes (PS3.8 AA-7).
        if data and not self._closing and not self._transport.is_closing():
            self._transport.write(data)
        if self._connection.closing and not self._closing:
            self._close()

    def _deal_with(self, data: memoryview) -> int:
        """Do what the slice has room for; how many bytes that took."""
        connection, messages = self._connection, self._dialogue.messages
        for event in connection.receive(data, SLICE_STEPS):
            self._handle(event)
        taken = connection.taken
        self._spent += connection.steps + taken // BYTES_A_STEP
        self._watch.received(
            time.monotonic(),
            Progress(
                connection.pdus,
                connection.in_pdu,
                messages.begun,
                messages.in_message,
                connection.payload,
            ),
        )
        self.send()
        return taken

    def _await_turn(self) -> None:
        """Read nothing before there is a turn for another slice."""
        if self._awaits_turn:
            return
        self._pause()
        self._awaits_turn = True
        # What waits before there is an association is a large request, which takes a whole turn.
        slices = 1 if self._dialogue.admitted else SLICES_A_TURN
        self._site.turns.wait(self._take_turn, slices)

    def _take_turn(self) -> None:
        self._awaits_turn = False
        self._spent = 0
        if self._rest and not self._holds:
            try:
                self._rest = self._rest[self._deal_with(self._rest) :]
            except BaseException:  # as the transport does where it calls
                self._transport.abort()
                raise
        if self._spent >= SLICE_STEPS:
            self._await_turn()
        else:
            self._read_on()

    def _pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _read_on(self) -> None:
        """Deal with the rest, then read, unless there is a reason to wait."""
        if self._holds or self._awaits_turn:
            return
        if self._rest:
            self._await_turn()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataFragment):
            self._dialogue.receive(event)
        elif isinstance(event, AssociationRequested):
            if self._dialogue.admit(event.request, self._address, self._certificate):
                self._watch.stop_artim()
        elif isinstance(event, Aborted):
            self._dialogue.end(PEER_ABORTED)
        elif isinstance(event, ProtocolViolated):
            self._violated(event.why)
        else:
            self._dialogue.ask_release()

    def _violated(self, why: str) -> None:
        if not self._dialogue.admitted:
            self._site.reception.turn_away(self._address, bytes(self._first), why)
        self._dialogue.end(failed(why))

    def _look_for_memory(self, now: float) -> None:
        if self._site.spool.full:
            if now - self._holds[Hold.MEMORY] <= MEMORY_SECONDS:
                return
            refusal = StoreRefused(Status.OUT_OF_RESOURCES, "no memory for so long")
            self._dialogue.refuse_arriving(refusal)
        self.go_on(Hold.MEMORY)

    def _close(self) -> None:
        """Let the peer read our last PDU and close; ARTIM ends what it does not (PS3.8 9.2.3).

        Closing at once would reset the connection wherever the peer has sent more than we read,
        and take that PDU from it.
        """
        self._closing = True
        self._watch.start_artim(time.monotonic())
        if self._transport.is_closing():
            return
        if self._connection.gone or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if self._holds:  # read on, into nowhere
            self._holds.clear()
            self._read_on()
