"""What no table shows: idle peers, a slow S3, windows of operations, a slow sender."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from time import monotonic, sleep

from bench.receiver.associate import associate
from bench.receiver.errors import BenchError
from bench.receiver.measure import cpu_seconds
from bench.receiver.peers import DCMTK_FORK, OURS, OURS_ONE_WORKER, PYNETDICOM_APP, Peer
from bench.receiver.rows import Finding, Measured, Sink
from bench.receiver.runs import run_load
from bench.receiver.sender import Load, message, sender
from bench.receiver.sets import CT, SMALL
from bench.receiver.stage import stage

# pynetdicom's threads poll: more than 32 of them leave this machine no time to connect the next.
_IDLE = ((OURS, 300), (DCMTK_FORK, 300), (PYNETDICOM_APP, 32))
# What connecting has left to do is done by then.
_SETTLE_SECONDS = 1.0

_PUT_SECONDS = 0.04
_TOGETHER = 64
_WINDOW = 8
_SLOW_BYTES_PER_SECOND = 30_000
_SLOW_STEP_SECONDS = 0.1


def idle(seconds: float) -> Iterator[Finding]:
    """The CPU of associations that say nothing."""
    for peer, associations in _IDLE:
        name = f"{associations} idle associations: {peer.name}"
        try:
            yield Finding(name, _idle(peer, associations, seconds), "% of a core")
        except (BenchError, OSError) as error:
            yield Finding(name, None, "% of a core", str(error))


def _idle(peer: Peer, associations: int, seconds: float) -> float:
    with (
        stage(peer, Sink.DIRECTORY, associations) as running,
        sender(Load(running.port, SMALL.name, 0, associations)) as sending,
    ):
        sending.connect()
        sleep(_SETTLE_SECONDS)
        before, began = cpu_seconds(running.pid), monotonic()
        sleep(seconds)
        return (cpu_seconds(running.pid) - before) / (monotonic() - began) * 100


def slow_s3(scale: float) -> Iterator[Finding]:
    """Small files into an S3 that takes 40 ms for each PUT, against what latency alone allows."""
    for associations, window, images in (
        (_TOGETHER, 1, 40 * _TOGETHER),
        (1, 1, 100),
        (1, _WINDOW, 100 * _WINDOW),
    ):
        many = "s" if associations > 1 else ""
        name = f"S3 with 40 ms a PUT: {associations} association{many}, window {window}"
        ideal = associations * window / _PUT_SECONDS
        try:
            measured = _slow_s3(associations, window, int(images * scale))
        except (BenchError, OSError) as error:
            yield Finding(name, None, "images/s", str(error), ideal)
            continue
        note = "" if measured.window == window else f"window granted: {measured.window}; "
        yield Finding(name, measured.rate, "images/s", note + _kept(measured), ideal)


def _slow_s3(associations: int, window: int, images: int) -> Measured:
    with stage(OURS, Sink.S3_HTTP, associations, latency=_PUT_SECONDS) as running:
        return run_load(running, Load(running.port, SMALL.name, images, associations, window))


def slow_sender(images: int, repeats: int) -> Iterator[Finding]:
    """A fast sender alone, then beside one of 30 KB/s; one worker, so that they share a thread."""
    name = f"fast sender beside one of {_SLOW_BYTES_PER_SECOND // 1000} KB/s"
    try:
        # In turns, so that no moment of the machine favours either.
        pairs = [(_fast(images, nullcontext), _fast(images, _trickle)) for _ in range(repeats)]
    except (BenchError, OSError) as error:
        yield Finding(name, None, "images/s", str(error))
        return
    alone, beside = (median(each.rate for each in runs) for runs in zip(*pairs, strict=True))
    worst = min((each for pair in pairs for each in pair), key=lambda each: each.identical)
    yield Finding(name, beside, "images/s", _kept(worst), alone)


def _fast(images: int, company: Callable[[int], AbstractContextManager[object]]) -> Measured:
    with stage(OURS_ONE_WORKER, Sink.DIRECTORY, 2) as running, company(running.port):
        return run_load(running, Load(running.port, CT.name, images, 1))


@contextmanager
def _trickle(port: int) -> Iterator[None]:
    """A sender of 30 KB/s, from a thread, for as long as the context lasts."""
    connection, agreed = associate(port, CT.sop_class_uids, 1)
    image = next(CT.images(1))
    wire = memoryview(b"".join(message(image, 1, agreed.max_pdu)))
    step = int(_SLOW_BYTES_PER_SECOND * _SLOW_STEP_SECONDS)
    stop = threading.Event()

    def send() -> None:
        for at in range(0, len(wire), step):
            if stop.wait(_SLOW_STEP_SECONDS):
                return
            connection.sendall(wire[at : at + step])

    thread = threading.Thread(target=send, name="slow sender", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        connection.close()


def _kept(measured: Measured) -> str:
    if measured.identical == measured.images:
        return "all stored as sent"
    return f"only {measured.identical} of {measured.images} stored as sent"
