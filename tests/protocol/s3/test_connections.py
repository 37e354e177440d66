"""How connections are kept, shared and given up, and what then becomes of a body."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.answers import Response
from store_scp.s3.connection import Connection
from store_scp.s3.errors import AttemptFailed

from tests.protocol.s3.conftest import Run
from tests.protocol.s3.scripted import (
    OK,
    Exchange,
    answer,
    certificate,
    client,
    raw,
    reset,
    response,
    scripted_s3,
    stall,
)


class Gate:
    """A step that tells when it is reached and answers when it may."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, got: Exchange) -> None:
        self.reached.set()
        await self.opened.wait()
        await OK(got)


def test_a_connection_is_used_again(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3() as s3, client(s3.port) as c:
            for _ in range(5):
                await c.put()
            assert s3.connections == 1

    run(test())


def test_the_connection_used_last_is_used_first() -> None:
    async def test() -> None:
        first, second = Gate(), Gate()
        async with scripted_s3(first, second) as s3, client(s3.port) as c:
            puts = []
            for gate in (first, second):
                puts.append(asyncio.create_task(c.put()))
                await gate.reached.wait()
            for gate, put in zip((second, first), reversed(puts), strict=True):
                gate.opened.set()
                await put
            for _ in range(3):
                await c.put()
            assert [got.connection for got in s3.seen] == [1, 2, 1, 1, 1]

    asyncio.run(test())


def test_there_are_never_more_connections_than_allowed(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3() as s3, client(s3.port, max_connections=2) as c:
            await asyncio.gather(*[c.put() for _ in range(20)])
            assert s3.open_most == 2
            assert len(s3.seen) == 20

    run(test())


def test_waiting_for_a_connection_ends_in_time() -> None:
    async def test() -> None:
        gate = Gate()
        async with scripted_s3(gate) as s3, client(s3.port, max_connections=1) as c:
            holder = asyncio.create_task(c.put())
            await gate.reached.wait()
            with pytest.raises(StoreRefused, match="Timeout"):
                await c.put(seconds=0.1)
            gate.opened.set()
            await holder
            await c.put()
            assert len(s3.seen) == 2

    asyncio.run(test())


def test_an_idle_connection_is_closed(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3() as s3, client(s3.port, idle_seconds=0.02) as c:
            await asyncio.gather(c.put(), c.put())
            await s3.all_closed.wait()
            await c.put()
            assert s3.connections == 3

    run(test())


def test_a_connection_that_s3_closed_meanwhile_costs_no_attempt(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(OK, reset) as s3, client(s3.port) as c:
            await c.put()
            await c.put()
            assert c.stats.attempts == [True, True]
            assert s3.connections == 2

    run(test())


def test_a_new_connection_that_is_closed_at_once_costs_an_attempt(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(reset) as s3, client(s3.port) as c:
            await c.put()
            assert c.stats.attempts == [False, True]

    run(test())


def test_a_connection_that_speaks_unasked_is_dropped(run: Run) -> None:
    async def test() -> None:
        answered = asyncio.Event()

        async def late(got: Exchange) -> None:
            await OK(got)
            await answered.wait()
            got.writer.write(response(200))
            await got.until_closed()

        async with scripted_s3(late) as s3, client(s3.port, idle_seconds=600) as c:
            await c.put()
            answered.set()
            await s3.all_closed.wait()
            await c.put()
            assert c.stats.attempts == [True, True]
            assert s3.connections == 2

    run(test())


def test_a_stale_connection_takes_the_other_idle_ones_with_it() -> None:
    async def test() -> None:
        async with scripted_s3(OK, OK, reset) as s3, client(s3.port, max_connections=2) as c:
            await asyncio.gather(c.put(), c.put())
            await c.put()
            await asyncio.gather(c.put(), c.put())
            assert s3.open_most == 2
            assert s3.connections == 4

    asyncio.run(test())


def test_every_idle_connection_is_closed_in_its_turn() -> None:
    async def test() -> None:
        gate = Gate()
        async with scripted_s3(gate) as s3, client(s3.port, idle_seconds=0.1) as c:
            held = asyncio.create_task(c.put())
            await gate.reached.wait()
            (later,) = c.pool._open
            await c.put()
            (sooner,) = c.pool._open - {later}
            # Half of its time passes before the other is idle.
            await asyncio.wait([sooner.lost], timeout=0.05)
            gate.opened.set()
            await held
            await sooner.lost
            await later.lost

    asyncio.run(test())


def test_a_connection_lost_before_its_first_request_is_a_failed_attempt(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3() as s3:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, "127.0.0.1", s3.port)
            connection.abort()
            with pytest.raises(AttemptFailed, match="ConnectionLost"):
                await connection.exchange(b"PUT / HTTP/1.1\r\n\r\n", [])
            await connection.lost

    run(test())


def test_connection_close_is_honoured(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(answer(200, Connection="close")) as s3, client(s3.port) as c:
            await c.put()
            await c.put()
            assert s3.connections == 2

    run(test())


@pytest.fixture(scope="module", params=["http", "https"])
def tls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ssl.SSLContext | None, ssl.SSLContext | None]]:
    """The server's and the client's context; none for http."""
    if request.param == "http":
        yield None, None
        return
    server, bundle = certificate(tmp_path_factory.mktemp("tls"))
    yield server, ssl.create_default_context(cafile=bundle)


Tls = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_a_body_of_any_size_arrives(run: Run, tls: Tls, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def test() -> None:
        async with scripted_s3(tls=tls[0]) as s3, client(s3.port, tls=tls[1]) as c:
            await c.put(body)
            await c.put(body)
            assert [got.body == body for got in s3.seen] == [True, True]
            assert s3.connections == 1

    run(test())


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_a_body_is_the_caller_s_again_when_the_put_ends(run: Run, tls: Tls, how: str) -> None:
    async def test() -> None:
        body = bytearray(32 * 1024 * 1024)
        gate = asyncio.Event()
        read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def read_late(got: Exchange) -> None:
            await gate.wait()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await got.read_body()
            read.set_result(caught.value.partial)
            raise caught.value

        async with scripted_s3(read_late, tls=tls[0]) as s3, client(s3.port, tls=tls[1]) as c:
            seconds = 60.0 if how == "cancelled" else 0.3
            put = asyncio.create_task(c.put(body, seconds=seconds))
            if how == "cancelled":
                while not s3.seen:
                    await asyncio.sleep(0)
                put.cancel()
            with pytest.raises((asyncio.CancelledError, StoreRefused)):
                await put
            # The next instance's bytes: none of them may go out under the old one's name.
            body[:] = b"\xff" * len(body)
            gate.set()
            assert set(await read) == {0}

    run(test())


def test_a_certificate_that_is_not_trusted_is_for_the_operator(run: Run, tmp_path: Path) -> None:
    server, _ = certificate(tmp_path)

    async def test() -> None:
        strict = ssl.create_default_context()
        async with scripted_s3(tls=server) as s3, client(s3.port, tls=strict) as c:
            with pytest.raises(StoreRefused, match="CertificateInvalid") as caught:
                await c.put()
            assert caught.value.status is Status.PROCESSING_FAILURE
            assert s3.seen == []

    run(test())


def test_plain_http_where_tls_is_expected_is_tried_again() -> None:
    async def test() -> None:
        strict = ssl.create_default_context()
        async with scripted_s3() as s3, client(s3.port, tls=strict) as c:
            with pytest.raises(StoreRefused) as caught:
                await c.put(seconds=0.3)
            assert caught.value.status is Status.OUT_OF_RESOURCES

    asyncio.run(test())


def test_cancelled_puts_give_their_places_back(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(*[stall] * 4) as s3, client(s3.port, max_connections=2) as c:
            puts = [asyncio.create_task(c.put()) for _ in range(4)]
            while len(s3.seen) < 2:
                await asyncio.sleep(0)
            for put in puts:
                put.cancel()
            await asyncio.gather(*puts, return_exceptions=True)
            s3.script.clear()
            await asyncio.gather(*[c.put() for _ in range(4)])

    run(test())


HEADS = st.sampled_from(
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n"]
)


@given(HEADS, st.binary(max_size=300))
def test_any_bytes_are_a_response_or_a_failed_attempt(head: bytes, rest: bytes) -> None:
    async def test() -> None:
        async with scripted_s3(raw(head + rest, close=True)) as s3, client(s3.port) as c:
            request = b"PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
            try:
                async with c.pool:
                    got = await c.pool.exchange(request, [])
            except AttemptFailed:
                return
            assert isinstance(got, Response)

    asyncio.run(test())
