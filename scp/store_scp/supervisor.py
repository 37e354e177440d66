"""The supervisor: forks the workers and the health process, and starts again whichever dies.

One that hangs, which its heartbeats on the board tell, is killed first.

It has one thread and no event loop, holds every listening socket, and does nothing but wait: for
a signal, for the moment a child is due or the heartbeats are, for the end of the drain. At SIGHUP
it calls the function that reads the policy and the certificates. What it decides about a child is
pure: see ``next_delay`` and ``pulses.py``.

A child never outlives it: see ``children.py``.
"""

import gc
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import structlog

from store_scp import deadlines, pulses
from store_scp.board import Board
from store_scp.children import Lifeline, cause_of
from store_scp.listeners import Listeners
from store_scp.logs import describe
from store_scp.metrics import Counter, WorkerState
from store_scp.pulses import Pulse
from store_scp.settings import Settings
from store_scp.signals import SignalQueue

# A child that dies younger will likely die again, of its surroundings; 5 s is soon enough to find
# them mended, and seldom enough to leave the CPU to the others.
_YOUNG_SECONDS = 10.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

_log = structlog.get_logger()


def supervise(
    settings: Settings,
    board: Board,
    worker: Callable[[int], int],
    health: Callable[[], int],
    reload: Callable[[], bool],
    look: Callable[[], None],
    listeners: Listeners,
    signals: SignalQueue,
) -> int:
    """Run until a signal asks to stop; 0 if then every child left cleanly, else 1.

    ``worker`` and ``health`` run in forked children, with SIGTERM at its default and SIGINT and
    SIGHUP ignored until they say otherwise, and return the child's exit code. ``reload`` is called
    at each SIGHUP, which goes on to the workers if it returns True; ``look`` every few seconds. The
    caller hands over the listeners, and has entered ``signals``, which collects ``SIGNALS``.
    """
    # What exists now is shared with every child, as long as no collection writes to it.
    gc.collect()
    gc.freeze()
    workers = [_Child(each, partial(worker, each)) for each in range(settings.workers)]
    supervisor = _Supervisor(board, workers, _Child(None, health), reload, look, listeners, signals)
    supervisor.run()
    supervisor.drain(settings.drain_seconds + deadlines.WORKER_SECONDS)
    supervisor.end_health()
    return 0 if supervisor.all_clean else 1


def next_delay(delay: float, lived: float) -> float:
    """The wait before a child that lived so long is started again, after one of ``delay``."""
    if lived >= _YOUNG_SECONDS:
        return 0.0
    return min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)


@dataclass(slots=True)
class _Child:
    """A place for a process; ``worker`` is None for the health process."""

    worker: int | None
    run: Callable[[], int]
    pid: int | None = None
    started_at: float = 0.0
    # Since the last death: how long to wait, and until when.
    delay: float = 0.0
    due_at: float = 0.0
    pulse: Pulse = field(default_factory=lambda: Pulse(0.0))

    def log(self, event: str, **members: object) -> None:
        """A line about this child."""
        if self.worker is None:
            _log.warning(f"health_{event}", **members)
        else:
            _log.warning(f"worker_{event}", worker=self.worker, **members)


class _Supervisor:
    """The children, and what was asked of them."""

    def __init__(
        self,
        board: Board,
        workers: Sequence[_Child],
        health: _Child,
        reload: Callable[[], bool],
        look: Callable[[], None],
        listeners: Listeners,
        signals: SignalQueue,
    ) -> None:
        self.all_clean = True
        self._board = board
        self._workers = workers
        self._health = health
        self._reload = reload
        self._look = look
        self._listeners = listeners
        self._signals = signals
        self._lifeline = Lifeline()
        self._stopping = False
        self._impatient = False

    def run(self) -> None:
        """Keep every child running, until a signal asks to stop."""
        children = (self._health, *self._workers)
        now = time.monotonic()
        for number, _ in enumerate(self._workers):
            self._board.panel(number).beat(now, WorkerState.STARTING)
        for each in children:
            self._start(each)
        check_at = now + pulses.CHECK_SECONDS
        while True:
            self._step(min((check_at, *(each.due_at for each in children if each.pid is None))))
            if self._stopping:
                return
            for each in children:
                if each.pid is None and each.due_at <= time.monotonic():
                    self._restart(each)
            if check_at <= time.monotonic():
                self._end_stalled(children)
                self._look()
                check_at = time.monotonic() + pulses.CHECK_SECONDS

    def _end_stalled(self, children: Sequence[_Child]) -> None:
        """Kill who hangs or is stopped: the end is noted, and it is started again, as ever."""
        for each in children:
            if each.pid is None:
                continue
            each.pulse = each.pulse.checked(self._board.beat_at(each.worker))
            if each.pulse.stalled:
                each.log("stalled", seconds=each.pulse.missed * pulses.CHECK_SECONDS)
                _send([each], signal.SIGKILL)
                # Not told at each check, should the kernel be unable to end it.
                each.pulse = Pulse(each.pulse.beat_at)

    def drain(self, seconds: float) -> None:
        """Stop listening, and let the workers finish what they began."""
        _log.info("stopping", seconds=seconds)
        self._listeners.keep_for_health()
        self._end(self._workers, seconds)

    def end_health(self) -> None:
        """Stop the health process, which told of the drain."""
        self._end([self._health], deadlines.HEALTH_SECONDS)

    def _end(self, children: Sequence[_Child], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        _send(children, signal.SIGTERM)
        while _running(children) and time.monotonic() < deadline and not self._impatient:
            self._step(deadline)
        for each in _running(children):
            each.log("killed")
        _send(children, signal.SIGKILL)
        while _running(children):
            self._step(math.inf)

    def _step(self, until: float) -> None:
        """Wait for whatever happens first, and take note of it."""
        seconds = None if until == math.inf else max(0.0, until - time.monotonic())
        for number in self._signals.wait(seconds):
            if number in (signal.SIGTERM, signal.SIGINT):
                # A second SIGTERM changes nothing; a second Ctrl-C is somebody who will not wait.
                self._impatient |= self._stopping and number == signal.SIGINT
                self._stopping = True
            elif number == signal.SIGHUP and self._reload():
                _send(self._workers, signal.SIGHUP)
        for pid, code in _reap():
            self._note_end(pid, code)

    def _note_end(self, pid: int, code: int) -> None:
        for each in (self._health, *self._workers):
            if each.pid == pid:
                self._ended(each, code)
                return
        # Not ours: the first process of a container inherits every orphan in it.

    def _ended(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        child.pid = None
        child.delay = next_delay(child.delay, now - child.started_at)
        child.due_at = now + child.delay
        # What SIGTERM ended had no handler yet, and so had served nobody.
        clean = self._stopping and code in {0, -signal.SIGTERM}
        if not clean:
            again = {} if self._stopping else {"restart_in": child.delay}
            child.log("died", **cause_of(code), **again)
            self.all_clean &= not self._stopping
        if child.worker is not None:
            self._board.worker_died(child.worker)
            if self._stopping:
                self._board.panel(child.worker).beat(now, WorkerState.DRAINING)

    def _restart(self, child: _Child) -> None:
        self._start(child)
        if child.worker is not None and child.pid is not None:
            self._board.panel(child.worker).add(Counter.WORKER_RESTARTS)

    def _start(self, child: _Child) -> None:
        child.started_at = time.monotonic()
        child.pulse = Pulse(self._board.beat_at(child.worker))
        # Until the child has handlers of its own, a signal to it would count as one to us: its
        # handlers write to the same pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            # No process or no memory left; like a child that died at once.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            child.delay = next_delay(child.delay, 0.0)
            child.due_at = child.started_at + child.delay
            child.log("fork_failed", error=describe(error))
            return
        if pid == 0:
            self._become(child)
        child.pid = pid
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _become(self, child: _Child) -> NoReturn:
        """The forked child's whole life."""
        code = 1
        try:
            self._let_go(child)
            code = child.run()
        except BaseException as error:  # noqa: BLE001 - nothing may return into the supervisor
            child.log("failed", error=describe(error))
        finally:
            _leave(code)

    def _let_go(self, child: _Child) -> None:
        """Give up what is the supervisor's or another child's."""
        self._signals.abandon()
        # Ctrl-C reaches every process of a terminal; the supervisor turns it into SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._lifeline.watch()
        if child.worker is None:
            self._listeners.keep_for_health()
        else:
            self._listeners.keep_for_worker(child.worker)


def _leave(code: int) -> NoReturn:
    """End the process without the supervisor's exit handlers, and with its last lines written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _reap() -> Iterator[tuple[int, int]]:
    """The children that have ended, with exit code or negative signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _running(children: Sequence[_Child]) -> list[_Child]:
    return [each for each in children if each.pid is not None]


def _send(children: Sequence[_Child], number: signal.Signals) -> None:
    for each in children:
        if each.pid is not None:  # ours until it is reaped, so never another process's by now
            os.kill(each.pid, number)
