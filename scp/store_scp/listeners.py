"""Listening sockets, opened before the fork: one for each worker, where the kernel shares out.

The supervisor keeps them open, so that the connections that wait for a worker that died are served
by the next one.
"""

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from store_scp.errors import CannotStart

# Modalities that were offline come back together, and a worker that restarts leaves its queue
# waiting for seconds. More is the kernel's to cut off (net.core.somaxconn, 4,096 on Linux).
_BACKLOG = 1_024

# SO_REUSEPORT exists elsewhere too, but there the last socket bound gets every connection.
_BALANCES = sys.platform == "linux"

_Where = tuple[str | bytes | int, ...]


@dataclass(frozen=True, slots=True)
class Listeners:
    """Every listening socket of the receiver: each worker's own, and the health process's."""

    workers: Sequence[Sequence[socket.socket]]
    health: socket.socket

    def keep_for_worker(self, worker: int) -> None:
        """In a worker's process: close all but the worker's."""
        self._close_but(self.workers[worker])

    def keep_for_health(self) -> None:
        """Close the workers', in the health process or to stop listening."""
        self._close_but([self.health])

    def _close_but(self, kept: Sequence[socket.socket]) -> None:
        # Workers may share one socket, so what is kept counts, not whose it is.
        for each in (*(each for row in self.workers for each in row), self.health):
            if each not in kept:
                each.close()


def open_listeners(address: str, port: int, workers: int) -> tuple[socket.socket, ...]:
    """One listening socket for each worker, all on one port; port 0 lets the system choose it.

    Raises CannotStart where the address is not ours or somebody listens there.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _open(family, where, workers)
    except OSError as error:
        raise CannotStart(f"cannot listen on {address}:{port}: {error.strerror}") from None


def _open(family: int, where: _Where, workers: int) -> tuple[socket.socket, ...]:
    share = workers > 1 and _BALANCES
    with ExitStack() as opened:
        if share:
            # With SO_REUSEPORT a second receiver would join in silence and take half of the
            # connections. A socket without it finds that out, and the port where 0 was asked.
            with _bound(family, where, share=False) as scout:
                where = scout.getsockname()
        count = workers if share else 1
        sockets = [opened.enter_context(_bound(family, where, share)) for _ in range(count)]
        for each in sockets:
            each.listen(_BACKLOG)
        opened.pop_all()
    return tuple(sockets) * (workers // count)


def _bound(family: int, where: _Where, share: bool) -> socket.socket:
    with ExitStack() as opened:
        made = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # Else the connections of the receiver before this one keep the port for a minute.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(where)
        made.setblocking(False)
        opened.pop_all()
    return made
