"""An association's deadlines, without a clock: which one runs, and whether it is over.

Times are seconds of a monotonic clock that the caller reads.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

# What a message has to bring within each Timeouts.message, unless it ends before. With the default
# of 120 s that is 550 bytes a second: a fiftieth of a slow link, and no peer gets far with less.
MESSAGE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``artim`` is PS3.8 9.1.5's; ``pdu`` bounds one PDU from first byte to last;
    ``message`` bounds the next MESSAGE_BYTES of a message, or its rest; ``network`` bounds silence
    while the peer has something to do."""

    artim: float
    pdu: float
    message: float
    network: float


class Progress(NamedTuple):  # made for each read, in a third of a frozen dataclass's time
    """How far a peer has come: what has begun so far, and whether it is complete.

    ``pdus`` and ``messages`` are counted when they begin; ``payload`` is the bytes of messages.
    """

    pdus: int = 0
    in_pdu: bool = False
    messages: int = 0
    in_message: bool = False
    payload: int = 0


class Overdue(Enum):
    """What ran out, in words for the log."""

    ARTIM = "ARTIM expired"
    PDU = "a PDU took too long"
    MESSAGE = "a message made too little progress"
    NETWORK = "the peer fell silent"


class Watch:
    """One connection's clocks."""

    def __init__(self, timeouts: Timeouts, now: float) -> None:
        self._timeouts = timeouts
        self._artim_since: float | None = now
        self._pdu_since: float | None = None
        self._message_since: float | None = None
        # The payload at _message_since.
        self._payload = 0
        self._progress = Progress()
        self._active_at = now

    def start_artim(self, now: float) -> None:
        """PS3.8 9.2.3: the connection is to be closed, by the peer if it will."""
        self._artim_since = now

    def stop_artim(self) -> None:
        """The association is established."""
        self._artim_since = None

    def received(self, now: float, progress: Progress) -> None:
        """Bytes came, and this is how far the peer is now."""
        before, self._progress = self._progress, progress
        self._active_at = now
        if not progress.in_pdu:
            self._pdu_since = None
        elif self._pdu_since is None or progress.pdus != before.pdus:
            self._pdu_since = now
        if not progress.in_message:
            self._message_since = None
        elif (
            self._message_since is None
            or progress.messages != before.messages
            or progress.payload - self._payload >= MESSAGE_BYTES
        ):
            self._message_since, self._payload = now, progress.payload

    def went_on(self, now: float) -> None:
        """The peer can act again after it had to wait for us."""
        self._active_at = now
        if self._pdu_since is not None:
            self._pdu_since = now
        if self._message_since is not None:
            self._message_since = now

    def check(self, now: float, peer_waits: bool) -> Overdue | None:
        """What is over; nothing but ARTIM while the peer has to wait for us."""
        if self._artim_since is not None:
            return Overdue.ARTIM if now - self._artim_since > self._timeouts.artim else None
        if peer_waits:
            return None
        if self._pdu_since is not None and now - self._pdu_since > self._timeouts.pdu:
            return Overdue.PDU
        if self._message_since is not None and now - self._message_since > self._timeouts.message:
            return Overdue.MESSAGE
        return Overdue.NETWORK if now - self._active_at > self._timeouts.network else None
