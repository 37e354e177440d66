"""The connections to one endpoint: so many at most, the most recently used one first."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.answers import Response
from store_scp.s3.connection import MAX_RESPONSE, Buffer, Connection
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.errors import StaleConnection

# S3 closes a connection after some 20 s of silence (undocumented; AWS's own clients assume the
# same). Ours go before that, since a request on one that S3 just closed is sent twice.
IDLE_SECONDS = 15.0


class Pool:
    """``async with`` the pool takes one of its places; ``exchange`` is for who has one."""

    def __init__(
        self, endpoint: Endpoint, max_connections: int, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._endpoint = endpoint
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(max_connections)
        # In the order of their last use: taken from the end, swept from the start. Who takes a
        # place opens a connection only if this is empty, so all of them are never too many.
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._places.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._places.release()

    async def exchange(
        self, head: bytes, body: Sequence[Buffer], most: int = MAX_RESPONSE
    ) -> Response:
        """The response, of at most so many bytes, to a request; raises AttemptFailed or OSError.

        A kept connection that S3 had closed is no attempt: the request goes out on a new one.
        """
        connection = self._take_idle()
        if connection is None:
            return await self._exchange(await self._connect(), head, body, most)
        try:
            return await self._exchange(connection, head, body, most)
        except StaleConnection:
            # The others were kept at least as long.
            self._abort_idle()
            return await self._exchange(await self._connect(), head, body, most)

    async def close(self) -> None:
        """Close all connections; whoever still waits for a response loses it."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        lost = [connection.lost for connection in self._open]
        for connection in self._open:
            connection.abort()
        if lost:
            await asyncio.wait(lost)

    async def _exchange(
        self, connection: Connection, head: bytes, body: Sequence[Buffer], most: int
    ) -> Response:
        response = await connection.exchange(head, body, most)
        if connection.reusable:
            self._keep(connection)
        return response

    async def _connect(self) -> Connection:
        if self._closed:
            raise StoreRefused(Status.OUT_OF_RESOURCES, "shutting down")
        endpoint = self._endpoint
        _, connection = await self._loop.create_connection(
            Connection,
            endpoint.host,
            endpoint.port,
            ssl=endpoint.tls,
            server_hostname=endpoint.host if endpoint.tls else None,
        )
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None and not self._closed:
            self._sweeper = self._loop.call_later(self._idle_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        due = self._loop.time() - self._idle_seconds
        # The clock's resolution may call a little early.
        old = [connection for connection in self._idle if connection.idle_since <= due]
        del self._idle[: len(old)]
        for connection in old:
            connection.abort()
        if self._idle:
            self._sweeper = self._loop.call_at(
                self._idle[0].idle_since + self._idle_seconds, self._sweep
            )

    def _abort_idle(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
