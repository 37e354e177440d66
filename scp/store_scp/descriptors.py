"""File descriptors of a worker: connections are refused before there are none left.

Without one, nothing can be stored: each PUT needs a connection, and each file a descriptor. The
kernel would refuse those like anything else, and an event loop without a descriptor accepts nothing
and says nothing of it.
"""

import asyncio
import os
import resource
import time
from typing import cast

import structlog

from store_scp.board import Panel
from store_scp.metrics import Counter
from store_scp.settings import Settings

# For the interpreter, the event loop, the sinks' threads and the log.
_OWN = 64
# One line for all refusals that come closer together than so.
_CALM_SECONDS = 60.0

_log = structlog.get_logger()


def kept_free(limit: int, settings: Settings) -> int:
    """How many of ``limit`` descriptors are not for connections of peers."""
    sinks = settings.max_pool_connections + settings.maximum_associations
    return min(limit // 2, _OWN + sinks)


class Descriptors:
    """How many descriptors this process has left."""

    def __init__(self, settings: Settings, panel: Panel) -> None:
        """Reads the process's limit, which is not to change later."""
        self._limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._enough = self._limit - kept_free(self._limit, settings)
        self._panel = panel
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._refused_at = -_CALM_SECONDS

    def are_scarce(self) -> bool:
        """Whether a connection should be refused; counts it, and says so once."""
        if self._lowest_free() < self._enough:
            return False
        self._panel.add(Counter.CONNECTIONS_REFUSED_DESCRIPTORS)
        now = time.monotonic()
        if now - self._refused_at >= _CALM_SECONDS:
            _log.error(
                "descriptors_exhausted",
                limit=self._limit,
                for_connections=self._enough,
                needs="a higher limit of open files (nofile), or fewer connections",
            )
        self._refused_at = now
        return True

    def _lowest_free(self) -> int:
        """The kernel gives the lowest number that is free: all below are in use (POSIX open)."""
        try:
            descriptor = os.dup(self._spare)
        except OSError:
            return self._limit
        os.close(descriptor)
        return descriptor


class RefusedConnection(asyncio.Protocol):
    """A connection for which there is no descriptor to spare."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once."""
        cast("asyncio.Transport", transport).abort()
