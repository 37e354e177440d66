"""One worker: an event loop, its listening sockets, and the associations that come in on them."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from store_scp.access import Access, SharedFiles
from store_scp.association import RECEIVE_BYTES, Association
from store_scp.board import Panel
from store_scp.clocks import ServerClock
from store_scp.deadlines import ABORT_SECONDS, CLOSE_SECONDS
from store_scp.descriptors import Descriptors
from store_scp.dialogue import Ending, Site
from store_scp.entrance import Door
from store_scp.logs import describe
from store_scp.metrics import Counter, Gauge, WorkerState
from store_scp.openings import Ports
from store_scp.policy import Certificate
from store_scp.reception import Reception
from store_scp.s3 import Endpoint
from store_scp.server_time import OffsetState
from store_scp.settings import Settings
from store_scp.sinks import Directory, open_sink
from store_scp.spool import Spool
from store_scp.transfer import Depot
from store_scp.turns import Turns
from store_scp.watch import Timeouts

# The precision of every deadline, and of the heartbeat.
TICK_SECONDS = 0.25
# A thread that wants the interpreter while the loop has it waits so long, at each of its system
# calls: Python's 5 ms make half a second of a sink's thirty, where peers keep the loop busy.
_SWITCH_SECONDS = 0.000_5

_STOPPED = Ending("aborted", Counter.ASSOCIATIONS_ABORTED, "the receiver stopped")

_log = structlog.get_logger()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, or asyncio's where uvloop has no wheel: slower, not different."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


def run(
    settings: Settings,
    place: Endpoint | Directory,
    access: Access,
    shared: SharedFiles,
    panel: Panel,
    plain: socket.socket | None,
    tls: socket.socket | None,
) -> int:
    """Serve until SIGTERM; the body of a worker's process, and its exit code.

    ``access`` is what held when the process was forked, ``shared`` has what holds since.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        worker = Worker(settings, place, access, shared, panel, ServerClock())
        return runner.run(worker.serve(plain, tls))


class Worker:
    """Everything one worker has."""

    def __init__(
        self,
        settings: Settings,
        place: Endpoint | Directory,
        access: Access,
        shared: SharedFiles,
        panel: Panel,
        clock: ServerClock,
    ) -> None:
        self._settings = settings
        self._place = place
        self._access = access
        self._shared = shared
        self._panel = panel
        self._clock = clock
        self._offset = OffsetState()
        self._members: set[Association] = set()
        self._receive_buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._stop = asyncio.Event()
        self._draining = False
        self._descriptors = Descriptors(settings, panel)
        self._exit_code = 0

    async def serve(self, plain: socket.socket | None, tls: socket.socket | None) -> int:
        """Until SIGTERM, and until what was begun is finished; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        proxied = self._settings.proxy_protocol == "v2"
        self._ports = Ports.of(plain, tls, proxied=proxied)
        self._open()
        if self._shared.read() != self._access.files:  # it changed while SIGHUP was not heard yet
            self.reload()
        servers = [
            await loop.create_server(door.enter, sock=listener)
            for door, listener in self._doors(plain, tls)
        ]
        self._tick(loop)
        await self._stop.wait()
        try:
            await self._drain()
            for server in servers:
                server.close()
        finally:  # whatever happens: what was acknowledged wants its manifest
            await self._sink.close(CLOSE_SECONDS)
        return self._exit_code

    def reload(self) -> None:
        """Take over what the supervisor has read and found usable."""
        files = self._shared.read()
        if files is None:
            return  # the next SIGHUP is on its way
        try:
            self._access = Access.of(self._settings, files)
        except Exception as error:  # noqa: BLE001 - whatever it is, what held must not go on here
            # What was usable for the supervisor is not usable here only for want of memory or
            # descriptors. A successor inherits the supervisor's.
            _log.error("reload_failed", why=describe(error))
            self._reception.closed = True
            self._exit_code = 1
            self._stop.set()
            return
        self._reception.policy = self._access.policy
        entries = len(self._access.policy.entries)
        _log.info("reloaded", entries=entries, tls=self._access.tls is not None)

    def _open(self) -> None:
        settings, panel = self._settings, self._panel
        self._sink = open_sink(settings, self._place, panel, self._clock)
        spool = Spool(
            settings.buffer_bytes,
            lambda taken: panel.adjust(Gauge.BYTES_IN_FLIGHT, taken),
            panel.buffered,
        )
        turns = Turns()
        depot = Depot(spool, turns, self._sink, settings.max_instance_bytes)
        self._reception = Reception(
            self._access.policy, settings.maximum_associations, depot, panel, self._ports
        )
        self._site = Site(
            reception=self._reception,
            panel=panel,
            spool=spool,
            turns=turns,
            timeouts=Timeouts(
                artim=settings.artim_timeout,
                pdu=settings.pdu_timeout,
                message=settings.message_timeout,
                network=settings.network_timeout,
            ),
            max_pdu_length=settings.maximum_pdu_size,
            max_operations=settings.max_operations,
        )

    def _doors(
        self, plain: socket.socket | None, tls: socket.socket | None
    ) -> Sequence[tuple[Door, socket.socket]]:
        found = []
        if plain is not None:
            found.append((self._door(None), plain))
        if tls is not None:
            found.append((self._door(lambda: self._access.tls), tls))
        return found

    def _door(self, tls: Callable[[], Any] | None) -> Door:
        return Door(
            panel=self._panel,
            descriptors=self._descriptors,
            associate=self._associate,
            ports=self._ports,
            trusted=self._settings.proxy_trusted_cidrs if self._ports.proxied else None,
            tls=tls,
            proxy_seconds=self._settings.artim_timeout,
            handshake_seconds=self._settings.tls_handshake_timeout,
        )

    def _associate(self, address: str, certificate: Certificate | None) -> Association:
        return Association(self._site, self._members, self._receive_buffer, address, certificate)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(TICK_SECONDS, self._tick, loop)
        now = time.monotonic()
        self._compare_clocks()
        self._panel.beat(now, self._state())
        for each in tuple(self._members):
            each.tick(now)

    def _state(self) -> WorkerState:
        if self._draining:
            return WorkerState.DRAINING
        if isinstance(self._place, Endpoint) and not self._clock.known:
            return WorkerState.CLOCK_UNKNOWN
        if self._sink.trouble is not None:
            return WorkerState.STORAGE_UNAVAILABLE
        return WorkerState.CONGESTED if self._site.spool.congested else WorkerState.READY

    def _compare_clocks(self) -> None:
        """Tell of the system's clock: always as a number, and as a line where that is news."""
        offset = self._clock.offset()
        self._panel.clock_offset(offset)
        if offset is None:
            return
        before, self._offset = self._offset, self._offset.seen(offset)
        if self._offset.large and not before.large:
            _log.warning("clock_wrong", offset_seconds=round(offset, 1))
        elif before.large and not self._offset.large:
            _log.info("clock_right", offset_seconds=round(offset, 1))

    async def _drain(self) -> None:
        """Let open associations finish until the deadline; others are told to come back."""
        self._draining = True
        self._reception.closed = True
        await self._until_empty(self._settings.drain_seconds, sessions_only=True)
        for each in tuple(self._members):
            each.abort(_STOPPED)
        await self._until_empty(ABORT_SECONDS, sessions_only=False)

    async def _until_empty(self, seconds: float, *, sessions_only: bool) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not any(each.established or not sessions_only for each in self._members):
                return
            await asyncio.sleep(TICK_SECONDS / 5)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    """What nobody awaited or caught; the loop's own words may quote a peer's."""
    error = context.get("exception")
    if isinstance(error, OSError):  # a connection that broke where nobody minds
        return
    _log.error("unexpected", error=describe(error) if error else "no exception")
