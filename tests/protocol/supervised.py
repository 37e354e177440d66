"""A supervisor whose workers do nothing but behave in one way: ``supervised.py BEHAVIOUR``."""

import os
import signal
import socket
import sys
import threading
import time
from functools import partial

import structlog
from store_scp import deadlines, pulses, supervisor
from store_scp.board import Board
from store_scp.health import open_health_socket, serve
from store_scp.listeners import Listeners, open_listeners
from store_scp.logs import configure
from store_scp.metrics import Counter, Gauge, WorkerState
from store_scp.settings import Settings
from store_scp.signals import SignalQueue

_BEAT_SECONDS = 0.05

_log = structlog.get_logger()


def main(behaviour: str) -> int:
    settings = Settings.from_env(os.environ)
    configure(settings.log_level, settings.log_format)
    pulses.CHECK_SECONDS = float(os.environ.get("CHECK_SECONDS", "5"))
    deadlines.WORKER_SECONDS = float(os.environ.get("WORKER_SECONDS", "15"))
    board = Board.create(settings.workers, seats=settings.workers)
    sockets = open_listeners(settings.bind_address, settings.port, settings.workers)
    health = open_health_socket(settings)

    def work(index: int) -> int:
        if behaviour == "dies":
            return 3
        if behaviour == "raises":
            raise ValueError("never in a log")
        if behaviour == "deaf":
            _log.info("serving", worker=index, pid=os.getpid())
            time.sleep(60)
        return _serve(behaviour, index, board, sockets[index])

    listeners = Listeners([[each] for each in sockets], health)
    with SignalQueue(supervisor.SIGNALS) as signals:
        _log.info("listening", port=sockets[0].getsockname()[1], health=health.getsockname()[1])
        return supervisor.supervise(
            settings,
            board,
            work,
            partial(serve, settings, board, health),
            lambda: True,
            lambda: None,
            listeners,
            signals,
        )


def _serve(behaviour: str, index: int, board: Board, listener: socket.socket) -> int:
    # A worker that died must have left its seat and its gauges, or its successor fails here.
    panel = board.panel(index)
    panel.take_seat("group", len(board.read()), None)
    panel.adjust(Gauge.BATCHES_OPEN, 1)
    panel.add(Counter.ECHOES)
    successor = board.read()[index].counters[Counter.ECHOES] > 1
    with SignalQueue([signal.SIGTERM, signal.SIGHUP]) as signals:
        # A thread in accept() would hold the socket of one that lingers open.
        if behaviour == "steady" or (behaviour == "late" and successor):
            threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        state = WorkerState.READY
        panel.beat(time.monotonic(), state)
        _log.info("serving", worker=index, pid=os.getpid())
        while True:
            panel.beat(time.monotonic(), state)
            for number in signals.wait(_BEAT_SECONDS):
                if number == signal.SIGHUP:
                    _log.info("reloading", worker=index)
                    if behaviour == "lingers":
                        return 0
                elif behaviour == "lingers":
                    # The first leaves it to the supervisor to say so.
                    if index:
                        state = WorkerState.DRAINING
                        panel.beat(time.monotonic(), state)
                    listener.close()
                    _log.info("lingering", worker=index)
                elif behaviour != "stubborn":
                    return 4 if behaviour == "fails" else 0


def _accept(listener: socket.socket) -> None:
    listener.setblocking(True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
