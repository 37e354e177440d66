"""What comes before DICOM on a connection: a PROXY header, a TLS handshake, or one after the other.

Every step has a deadline of its own and no step waits for another connection's.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import cast

import structlog

from store_scp.addresses import parse_address, peer_address
from store_scp.association import Association
from store_scp.board import Panel
from store_scp.descriptors import Descriptors, RefusedConnection
from store_scp.errors import ProxyHeaderInvalid
from store_scp.metrics import Counter
from store_scp.openings import (
    OPENING_BYTES,
    Opening,
    Ports,
    Refusal,
    opening,
    refused_as_proxied,
    refused_as_tls,
)
from store_scp.policy import Certificate
from store_scp.proxy_protocol import HEADER_BYTES, MAX_BODY_BYTES, body_length, source_address
from store_scp.tls import certificate_names
from store_scp.tls_failures import refused_handshake

# For the handshake of a peer whose hello came with the deadline.
_LEAST_SECONDS = 0.1

_log = structlog.get_logger()

MakeAssociation = Callable[[str, Certificate | None], Association]


@dataclass(frozen=True, slots=True)
class Door:
    """How one listening port is entered. ``tls`` gives the context of the moment."""

    panel: Panel
    descriptors: Descriptors
    associate: MakeAssociation
    ports: Ports
    # Whose PROXY headers are believed; None: nobody sends any.
    trusted: tuple[IPv4Network | IPv6Network, ...] | None
    tls: Callable[[], ssl.SSLContext] | None
    proxy_seconds: float
    handshake_seconds: float

    def enter(self) -> asyncio.BaseProtocol:
        """A new connection's first protocol."""
        if self.descriptors.are_scarce():
            return RefusedConnection()
        if self.trusted is None and self.tls is None:
            self.panel.add(Counter.CONNECTIONS_PLAIN)
            return self.associate("", None)
        return Entrance(self)


class Entrance(asyncio.BufferedProtocol):
    """Reads exactly the PROXY header, then hands the connection over."""

    def __init__(self, door: Door) -> None:
        self._door = door
        # The header, and one byte more: see _read_header.
        self._memory = bytearray(HEADER_BYTES + MAX_BODY_BYTES + 1)
        self._filled = 0
        self._wanted = HEADER_BYTES
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._probe = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        peer = transport.get_extra_info("peername")
        self._address = peer_address(peer[0]) if peer else ""
        if self._door.trusted is None:
            self._hand_over()
        elif not _trusts(self._door.trusted, self._address):
            why = "the address is not in SCP_PROXY_TRUSTED_CIDRS"
            self._refuse(
                Refusal(why, "a connection through the load balancer, or its network there")
            )
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._door.proxy_seconds, self._transport.abort)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to receive: no byte beyond the PROXY header, since the rest is TLS or DICOM."""
        return memoryview(self._memory)[self._filled : self._wanted]

    def buffer_updated(self, nbytes: int) -> None:
        """A part of the PROXY header came."""
        self._filled += nbytes
        if self._probe:  # which has nothing to say
            self._transport.abort()
        elif self._filled == self._wanted:
            try:
                self._read_header()
            except ProxyHeaderInvalid as invalid:
                first = bytes(self._memory[: self._filled])
                self._refuse(refused_as_proxied(first, str(invalid)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The peer went before it came in, or its socket went on to TLS."""
        if self._timer:
            self._timer.cancel()

    def _read_header(self) -> None:
        header = bytes(self._memory[:HEADER_BYTES])
        self._wanted = HEADER_BYTES + body_length(header)
        if self._filled < self._wanted:
            return
        address = source_address(header, bytes(self._memory[HEADER_BYTES : self._wanted]))
        if address is None:
            # The load balancer's own check: nobody stands behind it, so nobody is admitted. One
            # more byte would be somebody, and ends it.
            self._probe = True
            self._wanted += 1
            self._door.panel.add(Counter.CONNECTIONS_PROBE)
            return
        self._address = peer_address(address)
        self._hand_over()

    def _hand_over(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._door.tls is None:
            self._door.panel.add(Counter.CONNECTIONS_PLAIN)
            association = self._door.associate(self._address, None)
            self._transport.set_protocol(association)
            association.connection_made(self._transport)
        else:
            # Once it is made, a transport reads, and loop.start_tls() begins a moment later: what
            # came in between would be missing from the handshake. A transport of its own that does
            # TLS from the first byte misses none.
            try:
                own = self._transport.get_extra_info("socket").dup()
            finally:
                self._transport.abort()
            loop = asyncio.get_running_loop()
            self._handshake = loop.create_task(self._secure(own, self._door.tls()))

    async def _secure(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._door.handshake_seconds
        with ExitStack() as opened:
            opened.enter_context(connection)
            first = await _peek(connection, self._door.handshake_seconds)
            if opening(first) is not Opening.TLS:
                # Silence is a probe's.
                self._failed(refused_as_tls(first, self._door.ports) if first else None)
                return
            opened.pop_all()
        try:
            await loop.connect_accepted_socket(
                lambda: _Secured(self._door, self._address),
                connection,
                ssl=context,
                ssl_handshake_timeout=max(ends - loop.time(), _LEAST_SECONDS),
            )
        except OSError as error:
            self._failed(*refused_handshake(error))

    def _failed(self, refusal: Refusal | None, openssl: str | None = None) -> None:
        """``openssl``: its name for the reason, such as NO_SHARED_CIPHER."""
        self._door.panel.add(Counter.CONNECTIONS_TLS_HANDSHAKE_FAILED)
        if refusal:
            members = {**refusal._asdict(), **({"openssl": openssl} if openssl else {})}
            _log.warning("tls_handshake_failed", peer=self._address, **members)

    def _refuse(self, refusal: Refusal) -> None:
        self._door.panel.add(Counter.CONNECTIONS_REFUSED_PROXY)
        _log.warning("connection_refused", peer=self._address, **refusal._asdict())
        self._transport.abort()


class _Secured(asyncio.BufferedProtocol):
    """Stands where the handshake ends, since only then the peer's certificate is known."""

    def __init__(self, door: Door, address: str) -> None:
        self._door = door
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done: the association takes over before anything is read."""
        self._door.panel.add(Counter.CONNECTIONS_TLS)
        certificate = transport.get_extra_info("peercert")
        association = self._door.associate(
            self._address, certificate_names(certificate) if certificate else None
        )
        transport.set_protocol(association)
        association.connection_made(transport)


async def _peek(connection: socket.socket, seconds: float) -> bytes:
    """The first bytes, which stay where they are; none if the peer closes or sends none in time."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await asyncio.wait_for(readable.wait(), seconds)
        return connection.recv(OPENING_BYTES, socket.MSG_PEEK)
    except OSError:  # TimeoutError is one
        return b""
    finally:
        loop.remove_reader(connection)


def _trusts(networks: tuple[IPv4Network | IPv6Network, ...], text: str) -> bool:
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)
