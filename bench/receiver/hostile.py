"""Peers that mean harm, as nasty as a plain client can be, from a process of their own.

Each takes the receiver's time or memory and never breaks the protocol in a way that would end its
association at once. The benchmark and a protocol test put a good peer beside them.
"""

import multiprocessing
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection

from pydicom.uid import CTImageStorage

from bench.receiver.associate import agreed, associate_request
from bench.receiver.errors import PeerFailed
from bench.receiver.hostile_pieces import (
    echoes,
    empty_fragments,
    long_headers,
    one_byte_fragments,
    trickle,
)
from bench.receiver.pdus import PDU_HEADER, VERIFICATION

# A peer whose association has ended waits so long before it opens the next one.
_REOPEN_SECONDS = 0.1
_TRICKLE_SECONDS = 3.0
_RECEIVE_BYTES = 65_536
_SMALL_BUFFER = 2_048
# A-ABORT: type, reserved, length 4; then reserved, reserved, source, reason (PS3.8 9.3.8).
_ABORT = bytes.fromhex("07 00 00 00 00 04")
_ABORT_BYTES = 10
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class Hostile(StrEnum):
    """What a hostile peer does; the value is how tables name it."""

    EMPTY_FRAGMENTS = "PDVs without bytes"
    ONE_BYTE_FRAGMENTS = "PDVs of one byte"
    ECHOES = "C-ECHO floods"
    LONG_HEADERS = "headers of 200,000 elements"
    TRICKLE = "two bytes every 3 s"
    NEVER_READS = "a peer that never reads"


@contextmanager
def hostile_peers(
    port: int, kind: Hostile, count: int = 8, begin_seconds: float = 60.0
) -> Iterator[None]:
    """``count`` peers of a kind on this machine's ``port``, from when all have begun to the end.

    A peer whose association is rejected, aborted or closed opens another. Raises PeerFailed if not
    all have begun within ``begin_seconds``, or if their process ended before the context did.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (port, kind, count, begin_seconds, theirs)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        _wait_until_begun(ours)
        yield
        if not process.is_alive():
            raise PeerFailed("the process of the hostile peers ended before its time")
    finally:
        ours.close()
        process.terminate()
        process.join()


def _wait_until_begun(pipe: Connection) -> None:
    try:
        problem = pipe.recv()
    except EOFError:
        problem = "the process of the hostile peers ended"
    if problem:
        raise PeerFailed(problem)


def _serve(port: int, kind: Hostile, count: int, begin_seconds: float, pipe: Connection) -> None:
    """Until killed: the word that all have begun is an empty text, any other is a problem."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    with selectors.DefaultSelector() as selector:
        peers = [_Peer(port, _BEHAVIOURS[kind], selector) for _ in range(count)]
        deadline = time.monotonic() + begin_seconds
        while not all(each.has_begun for each in peers):
            _turn(selector, peers)
            if time.monotonic() > deadline:
                pipe.send(_not_begun(peers, begin_seconds))
                return
        pipe.send("")
        while True:
            _turn(selector, peers)


def _turn(selector: selectors.BaseSelector, peers: Sequence["_Peer"]) -> None:
    now = time.monotonic()
    for each in peers:
        each.wake(now)
    due = min(each.due for each in peers)
    for key, events in selector.select(None if due == float("inf") else max(0.0, due - now)):
        key.data.take_turn(events)


def _not_begun(peers: Sequence["_Peer"], seconds: float) -> str:
    begun = sum(each.has_begun for each in peers)
    problem = next((each.problem for each in peers if not each.has_begun and each.problem), "")
    why = f": {problem}" if problem else ""
    return f"of {len(peers)} hostile peers only {begun} began in {seconds:.0f} s{why}"


class _Peer:
    """One hostile association after the other; never blocks."""

    def __init__(
        self, port: int, behaviour: "_Behaviour", selector: selectors.BaseSelector
    ) -> None:
        self.has_begun = False
        self.problem = ""
        # When `wake` has something to do: open an association, or send the next piece.
        self.due = 0.0
        self._port = port
        self._behaviour = behaviour
        self._selector = selector
        self._connection: socket.socket | None = None
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._received = b""

    def wake(self, now: float) -> None:
        """Do what is due."""
        if now < self.due:
            return
        self.due = float("inf")
        if self._connection is None:
            self._open()
        else:
            self._watch(self._connection)

    def take_turn(self, events: int) -> None:
        """Read and write what the socket is ready for, once, so that the other peers get theirs."""
        connection = self._connection
        if connection is None:
            return
        try:
            if events & selectors.EVENT_READ:
                self._read(connection)
            if events & selectors.EVENT_WRITE:
                self._write(connection)
        except BlockingIOError:
            return
        except (PeerFailed, OSError) as error:
            self._close(connection, str(error))

    def _open(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if not self._behaviour.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        self._connection, self._pieces, self._received = connection, None, b""
        self._rest = memoryview(associate_request([self._behaviour.sop_class_uid], 1))
        self._selector.register(connection, _BOTH, self)
        # EINPROGRESS; what else there may be, the first write meets again.
        connection.connect_ex(("127.0.0.1", self._port))

    def _close(self, connection: socket.socket, problem: str) -> None:
        self._selector.unregister(connection)
        connection.close()
        self._connection, self.problem = None, problem
        self.due = time.monotonic() + _REOPEN_SECONDS

    def _read(self, connection: socket.socket) -> None:
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise PeerFailed("the receiver closed the connection")
        if self._pieces is None:
            self._read_answer(connection, data)
            return
        # Answers are thrown away; only an abort matters, which is the last that arrives.
        self._received = (self._received + data)[-_ABORT_BYTES:]
        if self._received.startswith(_ABORT):
            raise PeerFailed("the receiver aborted the association")

    def _read_answer(self, connection: socket.socket, data: bytes) -> None:
        self._received += data
        if len(self._received) < PDU_HEADER.size:
            return
        end = PDU_HEADER.size + PDU_HEADER.unpack_from(self._received)[1]
        if len(self._received) >= end:
            granted = agreed(self._received[:end], 1)
            self._pieces, self._received = self._behaviour.pieces(granted.max_pdu), b""
            self._watch(connection)

    def _write(self, connection: socket.socket) -> None:
        if not self._rest and self._pieces is not None:
            self._rest = memoryview(next(self._pieces))
        self._rest = self._rest[connection.send(self._rest) :]
        if self._rest:
            return
        if self._pieces is None:
            self._selector.modify(connection, selectors.EVENT_READ, self)  # until the answer
        else:
            self.has_begun = True
            self._pause(connection)

    def _pause(self, connection: socket.socket) -> None:
        if self._behaviour.pause:
            self._selector.modify(connection, selectors.EVENT_READ, self)
            self.due = time.monotonic() + self._behaviour.pause

    def _watch(self, connection: socket.socket) -> None:
        """Write whenever the socket takes bytes, and read what comes unless it never reads."""
        self._selector.modify(
            connection, _BOTH if self._behaviour.reads else selectors.EVENT_WRITE, self
        )


@dataclass(frozen=True, slots=True)
class _Behaviour:
    """What a kind sends after its association was accepted, given the longest PDU it may send."""

    sop_class_uid: str
    pieces: Callable[[int], Iterator[bytes]]
    # Seconds between two pieces.
    pause: float = 0.0
    reads: bool = True


_BEHAVIOURS = {
    Hostile.EMPTY_FRAGMENTS: _Behaviour(CTImageStorage, empty_fragments),
    Hostile.ONE_BYTE_FRAGMENTS: _Behaviour(CTImageStorage, one_byte_fragments),
    Hostile.ECHOES: _Behaviour(VERIFICATION, echoes),
    Hostile.LONG_HEADERS: _Behaviour(CTImageStorage, long_headers),
    Hostile.TRICKLE: _Behaviour(CTImageStorage, trickle, pause=_TRICKLE_SECONDS),
    Hostile.NEVER_READS: _Behaviour(VERIFICATION, echoes, reads=False),
}
