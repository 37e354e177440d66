"""A good peer beside eight hostile ones: how long its images take, and whether health answers."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from socket import socket
from statistics import median

from rich.table import Table

from bench.receiver.associate import associate
from bench.receiver.errors import BenchError, PeerFailed
from bench.receiver.hostile import Hostile, hostile_peers
from bench.receiver.pdus import ResponseReader, UnexpectedAnswer
from bench.receiver.peers import OURS, OURS_ONE_WORKER, Peer
from bench.receiver.report import new_table
from bench.receiver.rows import Sink
from bench.receiver.sender import message
from bench.receiver.sets import SMALL, Image
from bench.receiver.stage import Stage, stage

RECEIVERS = (OURS_ONE_WORKER, OURS)
ALONE = "nobody"

_HOSTILE_PEERS = 8
_FULL_SECONDS, _QUICK_SECONDS = 10.0, 3.0
_WARM_UP_IMAGES = 50
# More than any test asks for: the good peer's images have numbers of their own.
_IMAGES = 10**6
# Who waits longer for one answer has lost its association.
_ANSWER_SECONDS = 30.0
_REOPEN_SECONDS = 0.1
_POLL_SECONDS = 0.2
_PROBE_SECONDS = 2.0
_HTTP_OK = 200
_RECEIVE_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Flood:
    """How a good peer fared beside one kind of hostile ones; or why nobody knows."""

    receiver: str
    beside: str
    # Milliseconds from the first byte of a C-STORE to its answer.
    latencies: tuple[float, ...] = ()
    refused: int = 0
    associations_lost: int = 0
    probes: int = 0
    probes_failed: int = 0
    # Of the images acknowledged, how many were not stored as they were sent.
    changed: int = 0
    problem: str = ""


def floods(*, quick: bool) -> Iterator[Flood]:
    """On each receiver the good peer alone, then beside eight of each kind."""
    seconds = _QUICK_SECONDS if quick else _FULL_SECONDS
    for peer in RECEIVERS:
        for kind in (None, *Hostile):
            yield _measure(peer, kind, seconds)


def flood_table(found: Sequence[Flood], below: str) -> Table:
    """One row for each receiver and kind."""
    table = new_table(
        f"A good peer's C-STOREs of 39 KB, one at a time, beside {_HOSTILE_PEERS} hostile peers",
        below,
    )
    table.add_column("receiver", no_wrap=True)
    table.add_column("beside", no_wrap=True)
    for name in ("stored", "median ms", "worst ms", "refused", "associations lost",
                 "/health/live not 200", "stored as sent"):  # fmt: skip
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(each.receiver, each.beside, *_cells(each))
    return table


def _cells(found: Flood) -> list[str]:
    if found.problem:
        return [found.problem, *["-"] * 6]
    times = [median(found.latencies), max(found.latencies)] if found.latencies else []
    return [
        str(len(found.latencies)),
        *([f"{each:.4g}" for each in times] or ["-", "-"]),
        str(found.refused),
        str(found.associations_lost),
        f"{found.probes_failed} of {found.probes}",
        f"all but {found.changed}" if found.changed else "all",
    ]


def _measure(peer: Peer, kind: Hostile | None, seconds: float) -> Flood:
    beside = kind.value if kind else ALONE
    try:
        with stage(peer, Sink.DIRECTORY, 1 + _HOSTILE_PEERS) as running:
            good = _GoodPeer(running.port)
            good.send(_WARM_UP_IMAGES)
            good.forget()
            with _hostile(running, kind), _Probes(running.health_port) as probes:
                good.send_for(seconds)
            good.close()
            kept = running.digests()
    except (BenchError, OSError) as error:
        return Flood(peer.name, beside, problem=str(error))
    return Flood(
        peer.name,
        beside,
        tuple(good.latencies),
        good.refused,
        good.lost,
        probes.asked,
        probes.failed,
        sum(image.digest() not in kept for image in good.acknowledged),
    )


def _hostile(running: Stage, kind: Hostile | None) -> AbstractContextManager[None]:
    return hostile_peers(running.port, kind, _HOSTILE_PEERS) if kind else nullcontext()


class _GoodPeer:
    """One association after the other if it must be, one C-STORE at a time."""

    def __init__(self, port: int) -> None:
        self.latencies: list[float] = []
        self.acknowledged: list[Image] = []
        self.refused = self.lost = 0
        self._port = port
        self._images = SMALL.images(_IMAGES)
        self._opened: tuple[socket, int] | None = None

    def send(self, count: int) -> None:
        """So many images; raises PeerFailed unless all are acknowledged."""
        for _ in range(count):
            self._store()
        if self.refused or self.lost:
            raise PeerFailed("the receiver does not store what a good peer sends alone")

    def forget(self) -> None:
        """What was measured so far."""
        self.latencies.clear()

    def send_for(self, seconds: float) -> None:
        """Image after image, so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._store()

    def close(self) -> None:
        """Without release: what it had is measured."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def _store(self) -> None:
        image = next(self._images)
        try:
            connection, max_pdu = self._association()
            wire = b"".join(message(image, 1, max_pdu))
            began = time.perf_counter()
            connection.sendall(wire)
            status = _status(connection)
        except (PeerFailed, UnexpectedAnswer, OSError):
            self.lost += 1
            self.close()
            time.sleep(_REOPEN_SECONDS)
            return
        if status:
            self.refused += 1
            return
        self.latencies.append((time.perf_counter() - began) * 1000)
        self.acknowledged.append(image)

    def _association(self) -> tuple[socket, int]:
        if self._opened is None:
            connection, agreed = associate(self._port, SMALL.sop_class_uids, 1)
            connection.settimeout(_ANSWER_SECONDS)
            self._opened = connection, agreed.max_pdu
        return self._opened


def _status(connection: socket) -> int:
    """Of the one operation that is outstanding; raises PeerFailed, UnexpectedAnswer or OSError."""
    reader = ResponseReader()
    while True:
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise PeerFailed("the receiver closed the association")
        for response in reader.feed(data):
            return response.status


class _Probes:
    """Asks for /health/live five times a second, as an orchestrator would if it were impatient."""

    def __init__(self, port: int) -> None:
        self.asked = self.failed = 0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="health", daemon=True)

    def __enter__(self) -> "_Probes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self.asked += 1
            self.failed += not self._is_live()

    def _is_live(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == _HTTP_OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
