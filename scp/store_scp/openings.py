"""What a connection begins with, and what the log says where its port is not for that.

Pure: the first bytes are looked at, and never repeated.
"""

import socket
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

# As many first bytes as tell all openings apart.
OPENING_BYTES = 16


class Opening(Enum):
    """What a connection's first bytes are."""

    NOTHING = auto()
    DICOM = auto()  # A-ASSOCIATE-RQ
    TLS = auto()
    HTTP = auto()
    PROXY_V1 = auto()
    PROXY_V2 = auto()
    UNKNOWN = auto()


class Refusal(NamedTuple):
    """Why a peer is refused, and what would have been accepted: for the log."""

    why: str
    needs: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the receiver listens (None: it does not), and whether PROXY headers come first."""

    plain: int | None = None
    tls: int | None = None
    proxied: bool = False

    @classmethod
    def of(
        cls, plain: socket.socket | None, tls: socket.socket | None, *, proxied: bool
    ) -> "Ports":
        """The ports of listening sockets."""
        return cls(_port(plain), _port(tls), proxied)


_TLS_HANDSHAKE = 0x16  # RFC 8446 5.1: the first record is a handshake ...
_TLS_MAJOR_VERSION = b"\x03"  # ... of a version that begins with 3
_ASSOCIATE_RQ = 0x01  # PS3.8 9.3.2, and the reserved byte after it
_RESERVED = b"\x00"
_WORDS = {
    # https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, 2.1 and 2.2
    b"PROXY ": Opening.PROXY_V1,
    b"\r\n\r\n\0\r\nQUIT\n": Opening.PROXY_V2,
    # RFC 9110 9.3, RFC 5789, and HTTP/2's preface (RFC 9113 3.4)
    b"GET ": Opening.HTTP,
    b"HEAD ": Opening.HTTP,
    b"POST ": Opening.HTTP,
    b"PUT ": Opening.HTTP,
    b"DELETE ": Opening.HTTP,
    b"CONNECT ": Opening.HTTP,
    b"OPTIONS ": Opening.HTTP,
    b"TRACE ": Opening.HTTP,
    b"PATCH ": Opening.HTTP,
    b"PRI ": Opening.HTTP,
}
# So many bytes of a word are enough; each has at least as many.
_ENOUGH = 4


def opening(first: bytes) -> Opening:
    """What begins with ``first``, of which ``OPENING_BYTES`` are enough and fewer may do."""
    if not first:
        return Opening.NOTHING
    if first[0] == _TLS_HANDSHAKE and first[1:2] in (b"", _TLS_MAJOR_VERSION):
        return Opening.TLS
    if first[0] == _ASSOCIATE_RQ and first[1:2] in (b"", _RESERVED):
        return Opening.DICOM
    found = (kind for word, kind in _WORDS.items() if _begins(first, word))
    return next(found, Opening.UNKNOWN)


def refused_as_dicom(first: bytes, why: str, ports: Ports) -> Refusal:
    """Where DICOM was expected and ``first`` came; ``why``: what the upper layer says of it."""
    match opening(first):
        case Opening.TLS:
            return Refusal("a TLS hello on the plain port", _tls_port(ports))
        case Opening.HTTP | Opening.PROXY_V1 | Opening.PROXY_V2 as other:
            return _foreign(other, ports)
        case _:
            return Refusal(why, "an A-ASSOCIATE-RQ as PS3.8 9.3.2 has it")


def refused_as_tls(first: bytes, ports: Ports) -> Refusal:
    """Where a TLS hello was expected and ``first`` came."""
    match opening(first):
        case Opening.DICOM:
            return Refusal(
                "plain DICOM on the TLS port", f"TLS at the sender, {_plain_port(ports)}"
            )
        case Opening.HTTP | Opening.PROXY_V1 | Opening.PROXY_V2 as other:
            return _foreign(other, ports)
        case _:
            return Refusal("neither TLS nor DICOM on the TLS port", "TLS from the first byte on")


def refused_as_proxied(first: bytes, why: str) -> Refusal:
    """Where a PROXY header was expected and ``first`` came; ``why``: what is wrong with it."""
    balancer = (
        "proxy_protocol_v2.enabled at the load balancer's target group, or SCP_PROXY_PROTOCOL=off"
    )
    match opening(first):
        case Opening.DICOM:
            return Refusal("plain DICOM without a PROXY header before it", balancer)
        case Opening.TLS:
            return Refusal("a TLS hello without a PROXY header before it", balancer)
        case Opening.HTTP:
            return Refusal("an HTTP request without a PROXY header before it", _HTTP_NEEDS)
        case Opening.PROXY_V1:
            return Refusal("a PROXY header of version 1", "version 2 at the load balancer")
        case _:
            return Refusal(why, "a PROXY header of version 2")


_HTTP_NEEDS = "DICOM; for health checks and metrics, the port of SCP_HEALTH_PORT"


def _port(listening: socket.socket | None) -> int | None:
    return None if listening is None else int(listening.getsockname()[1])


def _begins(first: bytes, word: bytes) -> bool:
    return len(first) >= _ENOUGH and word[: len(first)] == first[: len(word)]


def _foreign(other: Opening, ports: Ports) -> Refusal:
    """What is wrong on either port."""
    if other is Opening.HTTP:
        return Refusal("an HTTP request where DICOM is expected", _HTTP_NEEDS)
    if ports.proxied:
        return Refusal("a second PROXY header", "one load balancer alone that sends it")
    if other is Opening.PROXY_V1:
        why = "a PROXY header of version 1, and SCP_PROXY_PROTOCOL is off"
        return Refusal(
            why, "no header, or SCP_PROXY_PROTOCOL=v2 and version 2 at the load balancer"
        )
    why = "a PROXY header, and SCP_PROXY_PROTOCOL is off"
    return Refusal(why, "SCP_PROXY_PROTOCOL=v2 with SCP_PROXY_TRUSTED_CIDRS, or no header")


def _tls_port(ports: Ports) -> str:
    if ports.tls is None:
        return "plain DICOM: TLS is off (SCP_TLS_PORT is not set)"
    return f"port {ports.tls} for TLS"


def _plain_port(ports: Ports) -> str:
    if ports.plain is None:
        return "since there is no port for plain DICOM (SCP_PLAIN=false)"
    return f"or port {ports.plain} for plain DICOM"
