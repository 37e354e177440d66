"""An association's deadlines, without a clock: which one runs, and whether it is over.

Times are seconds of a monotonic clock that the caller reads.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``artim`` is PS3.8 9.1.5's; ``pdu`` bounds one PDU from first byte to last;
    ``network`` bounds silence while the peer has something to do."""

    artim: float
    pdu: float
    network: float


class Overdue(Enum):
    """What ran out, in words for the log."""

    ARTIM = "ARTIM expired"
    PDU = "a PDU took too long"
    NETWORK = "the peer fell silent"


class Watch:
    """One connection's clocks."""

    def __init__(self, timeouts: Timeouts, now: float) -> None:
        self._timeouts = timeouts
        self._artim_since: float | None = now
        self._pdu_since: float | None = None
        self._pdus = 0
        self._active_at = now

    def start_artim(self, now: float) -> None:
        """PS3.8 9.2.3: the connection is to be closed, by the peer if it will."""
        self._artim_since = now

    def stop_artim(self) -> None:
        """The association is established."""
        self._artim_since = None

    def received(self, now: float, in_pdu: bool, pdus: int) -> None:
        """Bytes came; ``pdus`` had begun by then, and the last is not complete if ``in_pdu``."""
        self._active_at = now
        if not in_pdu:
            self._pdu_since = None
        elif self._pdu_since is None or pdus != self._pdus:
            self._pdu_since = now
        self._pdus = pdus

    def went_on(self, now: float) -> None:
        """The peer can act again after it had to wait for us."""
        self._active_at = now
        if self._pdu_since is not None:
            self._pdu_since = now

    def check(self, now: float, peer_waits: bool) -> Overdue | None:
        """What is over; nothing but ARTIM while the peer has to wait for us."""
        if self._artim_since is not None:
            return Overdue.ARTIM if now - self._artim_since > self._timeouts.artim else None
        if peer_waits:
            return None
        if self._pdu_since is not None and now - self._pdu_since > self._timeouts.pdu:
            return Overdue.PDU
        return Overdue.NETWORK if now - self._active_at > self._timeouts.network else None
