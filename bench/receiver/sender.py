"""The load: images sent over N associations by one thread of a process of its own.

Messages are encoded beforehand, each association keeps ``window`` operations outstanding, and
every status is checked. The process waits for the word at each step, so that what is measured
begins when all associations stand and ends with the last answer.
"""

import multiprocessing
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.receiver.associate import Agreed, associate, release
from bench.receiver.errors import PeerFailed
from bench.receiver.pdus import (
    ResponseReader,
    UnexpectedAnswer,
    command_pdu,
    data_set_pdus,
    store_request,
)
from bench.receiver.sets import SETS, Image

_RECEIVE_BYTES = 16_384
# Nobody needs longer for one image; whoever is silent for so long has failed.
_SILENCE_SECONDS = 60.0
_CONNECT_SECONDS = 120.0
# What the raw TCP receiver is sent: PDUs as our receiver would get them.
RAW_MAX_PDU = 131_072
_RAW = Agreed(RAW_MAX_PDU, window=1)

# Images go out as an iterator of pieces: one for a prebuilt image, one a PDU for a large one.
_Message = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Load:
    """What one sender process does; ``dicom`` is False for the raw TCP receiver."""

    port: int
    image_set: str
    images: int
    associations: int
    window: int = 1
    dicom: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went: seconds from the first byte to the last answer, and how often which status."""

    seconds: float
    statuses: dict[int, int]
    window: int


class Sender:
    """The other end of a sender process."""

    def __init__(self, load: Load, pipe: Connection) -> None:
        self._load = load
        self._pipe = pipe

    def connect(self) -> None:
        """Returns once every association stands; raises PeerFailed."""
        self._take(_CONNECT_SECONDS)

    def send(self) -> Outcome:
        """Send all images; raises PeerFailed unless each was answered with success."""
        self._pipe.send("send")
        outcome = self._take(None)
        if not isinstance(outcome, Outcome):
            raise PeerFailed("the sender process said something else than an outcome")
        if outcome.statuses != {0: self._load.images}:
            told = ", ".join(f"{n} times {status:04X}H" for status, n in outcome.statuses.items())
            raise PeerFailed(f"of {self._load.images} images: {told}")
        return outcome

    def release(self) -> None:
        """Release the associations."""
        self._pipe.send("release")
        self._take(_CONNECT_SECONDS)

    def _take(self, seconds: float | None) -> object:
        try:
            if not self._pipe.poll(seconds):
                raise PeerFailed("no answer in time")
            answer = self._pipe.recv()
        except EOFError:
            raise PeerFailed("the sender process ended") from None
        if isinstance(answer, PeerFailed):
            raise answer
        return answer


@contextmanager
def sender(load: Load) -> Iterator[Sender]:
    """A sender process; gone at the end, also with associations open."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(load, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Sender(load, ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


def _serve(load: Load, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    try:
        crew = _Crew(load)
        pipe.send("connected")
        while True:
            order = pipe.recv()
            if order == "send":
                pipe.send(crew.send())
            else:
                crew.release()
                pipe.send("released")
    except EOFError:
        return
    except (PeerFailed, UnexpectedAnswer, OSError) as error:
        pipe.send(PeerFailed(f"{type(error).__name__}: {error}"))


class _Crew:
    """All associations of one process, and the images they share out among them."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._associations = [_connect(load) for _ in range(load.associations)]
        self._messages = _messages(load, self._associations[0].agreed.max_pdu)
        self._statuses: Counter[int] = Counter()

    def send(self) -> Outcome:
        with selectors.DefaultSelector() as selector:
            for each in self._associations:
                each.connection.setblocking(False)
                selector.register(each.connection, selectors.EVENT_READ, each)
            began = time.perf_counter()
            for each in self._associations:
                _watch_writes(selector, each, each.push(self._messages))
            while self._statuses.total() < self._load.images:
                self._turn(selector)
            seconds = time.perf_counter() - began
        window = self._associations[0].agreed.window
        return Outcome(seconds, dict(self._statuses), window)

    def release(self) -> None:
        for each in self._associations:
            if self._load.dicom:
                release(each.connection)
            each.connection.close()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        ready = selector.select(_SILENCE_SECONDS)
        if not ready:
            raise PeerFailed(f"silent for {_SILENCE_SECONDS:.0f} s")
        for key, events in ready:
            association: _Association = key.data
            if events & selectors.EVENT_READ:
                self._statuses.update(association.receive())
            _watch_writes(selector, association, association.push(self._messages))


class _Association:
    """One connection: what is being written to it, and what it has not answered yet."""

    def __init__(self, connection: socket.socket, agreed: Agreed, *, dicom: bool) -> None:
        self.connection = connection
        self.agreed = agreed
        self.writes_watched = False
        self._reader = ResponseReader() if dicom else None
        self._message: _Message = iter(())
        self._rest = memoryview(b"")
        self._outstanding = 0

    def push(self, messages: Iterator[_Message]) -> bool:
        """Write what may be written; whether the socket takes no more for now."""
        while self._rest or self._load_next(messages):
            try:
                sent = self.connection.send(self._rest)
            except BlockingIOError:
                return True
            self._rest = self._rest[sent:]
        return False

    def receive(self) -> list[int]:
        """The statuses that have arrived."""
        data = self.connection.recv(_RECEIVE_BYTES)
        if not data:
            raise PeerFailed("the peer closed the association")
        if self._reader is None:
            statuses = list(data)
        else:
            statuses = [each.status for each in self._reader.feed(data)]
        self._outstanding -= len(statuses)
        return statuses

    def _load_next(self, messages: Iterator[_Message]) -> bool:
        piece = next(self._message, None)
        if piece is None and self._outstanding < self.agreed.window:
            message = next(messages, None)
            if message is not None:
                self._message, self._outstanding = message, self._outstanding + 1
                piece = next(message)
        if piece is None:
            return False
        self._rest = memoryview(piece)
        return True


def _connect(load: Load) -> _Association:
    if load.dicom:
        sop_classes = SETS[load.image_set].sop_class_uids
        connection, agreed = associate(load.port, sop_classes, load.window)
    else:
        connection, agreed = socket.create_connection(("127.0.0.1", load.port)), _RAW
    return _Association(connection, agreed, dicom=load.dicom)


def _watch_writes(
    selector: selectors.BaseSelector, association: _Association, wanted: bool
) -> None:
    if wanted != association.writes_watched:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        selector.modify(association.connection, events, association)
        association.writes_watched = wanted


def _messages(load: Load, max_pdu: int) -> Iterator[_Message]:
    image_set = SETS[load.image_set]
    images = image_set.images(load.images)
    messages = (message(image, 1 + number % 0xFFFF, max_pdu) for number, image in enumerate(images))
    if not image_set.prebuilt:
        return messages
    return iter([iter((b"".join(pieces),)) for pieces in messages])


def message(image: Image, message_id: int, max_pdu: int) -> _Message:
    """A C-STORE request with its data set, PDU by PDU."""
    command = store_request(message_id, image.sop_class_uid, image.sop_instance_uid)
    yield command_pdu(image.context_id, command)
    yield from data_set_pdus(image.context_id, image.chunks(), image.size, max_pdu)
