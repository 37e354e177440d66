"""What no table shows: idle peers, a slow S3, windows of operations, a slow sender."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from statistics import median
from time import monotonic, sleep
from typing import TypeVar

from bench.receiver.associate import associate
from bench.receiver.errors import BenchError
from bench.receiver.measure import cpu_seconds
from bench.receiver.peers import DCMTK_FORK, OURS, OURS_ONE_WORKER, PYNETDICOM_APP, Peer
from bench.receiver.plan import Plan, in_turns
from bench.receiver.rows import Finding, Measured, Sink, finding
from bench.receiver.runs import run_load
from bench.receiver.sender import Load, message, sender
from bench.receiver.sets import MIXED, SMALL_MIXED
from bench.receiver.stage import stage

_Result = TypeVar("_Result")

_IDLE_ASSOCIATIONS = 300
# pynetdicom's threads poll: more than 32 of them leave this machine no time to connect the next.
_IDLE = ((OURS, _IDLE_ASSOCIATIONS), (DCMTK_FORK, _IDLE_ASSOCIATIONS), (PYNETDICOM_APP, 32))
# What connecting has left to do is done by then.
_SETTLE_SECONDS = 1.0

_PUT_SECONDS = 0.04
_TOGETHER, _FEW = 64, 4
_WINDOW = 8
_SLOW_S3 = ((_TOGETHER, 1), (_FEW, 1), (_FEW, _WINDOW))
_SLOW_BYTES_PER_SECOND = 30_000
_SLOW_STEP_SECONDS = 0.1

IDLE = f"{_IDLE_ASSOCIATIONS} idle associations: {OURS.name}"
TOGETHER = f"S3 with 40 ms a PUT: {_TOGETHER} associations, window 1"


def found(plan: Plan) -> Iterator[Finding]:
    """Each number, the rounds of those that belong together in turns."""
    yield from _idle(plan)
    yield from _slow_s3(plan)
    yield from _slow_sender(plan)


def _idle(plan: Plan) -> Iterator[Finding]:
    """The CPU of associations that say nothing."""
    turns = [partial(_idle_percent, *each, plan.idle_seconds) for each in _IDLE]
    for (peer, associations), percents in zip(_IDLE, _in_turns(turns, plan.rounds), strict=True):
        name = f"{associations} idle associations: {peer.name}"
        yield _of_rounds(name, percents, "% of a core")


def _idle_percent(peer: Peer, associations: int, seconds: float) -> float:
    with (
        stage(peer, Sink.DIRECTORY, associations) as running,
        sender(Load(running.port, SMALL_MIXED.name, 0, associations)) as sending,
    ):
        sending.connect()
        sleep(_SETTLE_SECONDS)
        before, began = cpu_seconds(running.pid), monotonic()
        sleep(seconds)
        return (cpu_seconds(running.pid) - before) / (monotonic() - began) * 100


def _slow_s3(plan: Plan) -> Iterator[Finding]:
    """Small files into an S3 that takes 40 ms for each PUT, against what latency alone allows."""
    turns = [partial(_put_slowly, *each, plan.latency_images) for each in _SLOW_S3]
    for (associations, window), runs in zip(_SLOW_S3, _in_turns(turns, plan.rounds), strict=True):
        name = f"S3 with 40 ms a PUT: {associations} associations, window {window}"
        possible = associations * window / _PUT_SECONDS
        if isinstance(runs, str):
            yield Finding(name, None, "images/s", runs, possible)
            continue
        granted = {each.window for each in runs} - {window}
        note = f"window granted: {min(granted)}; " if granted else ""
        rates = [each.rate for each in runs]
        yield finding(name, rates, "images/s", note=note + _kept(runs), possible=possible)


def _put_slowly(associations: int, window: int, images: int) -> Measured:
    with stage(OURS, Sink.S3_HTTP, associations, latency=_PUT_SECONDS) as running:
        return run_load(running, Load(running.port, SMALL_MIXED.name, images, associations, window))


def _slow_sender(plan: Plan) -> Iterator[Finding]:
    """A fast sender alone, then beside one of 30 KB/s; one worker, so that they share a thread."""
    name = f"fast sender beside one of {_SLOW_BYTES_PER_SECOND // 1000} KB/s"
    turns = [partial(_fast, plan.latency_images, company) for company in (_trickle, nullcontext)]
    beside, alone = _in_turns(turns, plan.rounds)
    if isinstance(beside, str) or isinstance(alone, str):
        yield Finding(name, None, "images/s", beside if isinstance(beside, str) else str(alone))
        return
    possible = median(each.rate for each in alone)
    rates = [each.rate for each in beside]
    yield finding(name, rates, "images/s", note=_kept([*beside, *alone]), possible=possible)


def _fast(images: int, company: Callable[[int], AbstractContextManager[object]]) -> Measured:
    with stage(OURS_ONE_WORKER, Sink.DIRECTORY, 2) as running, company(running.port):
        return run_load(running, Load(running.port, MIXED.name, images, 1))


@contextmanager
def _trickle(port: int) -> Iterator[None]:
    """A sender of 30 KB/s, from a thread, for as long as the context lasts."""
    connection, agreed = associate(port, MIXED.sop_class_uids, 1)
    image = next(MIXED.images(1))
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


def _in_turns(turns: Sequence[Callable[[], _Result]], rounds: int) -> list[list[_Result] | str]:
    """The results of each turn; or why one of its rounds failed."""
    results: list[list[_Result]] = [[] for _ in turns]
    problems: dict[int, str] = {}
    for index, turn in in_turns(turns, rounds):
        if index not in problems:
            try:
                results[index].append(turn())
            except (BenchError, OSError) as error:
                problems[index] = str(error)
    return [problems.get(index, each) for index, each in enumerate(results)]


def _of_rounds(name: str, values: list[float] | str, unit: str) -> Finding:
    if isinstance(values, str):
        return Finding(name, None, unit, values)
    return finding(name, values, unit)


def _kept(runs: Sequence[Measured]) -> str:
    images, identical = sum(each.images for each in runs), sum(each.identical for each in runs)
    told = "all" if identical == images else f"only {identical}"
    return f"{told} of {images} stored as sent"
