"""The PROXY protocol, version 2: a load balancer's word on who really connected.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2. Sans-I/O: read
``HEADER_BYTES``, then as many as :func:`body_length` says, then ask :func:`source_address`.
"""

import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from store_scp.errors import ProxyHeaderInvalid

HEADER_BYTES = 16
# Addresses take 216 bytes at most. What may follow them (TLVs) is a few dozen bytes from a Network
# Load Balancer, a few hundred with the names of a certificate; more is nobody's header.
MAX_BODY_BYTES = 2_048

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEADER = struct.Struct("!12sBBH")
_VERSION = 2


class _Command(IntEnum):
    LOCAL = 0
    PROXY = 1


class _Family(IntEnum):
    """Address family and transport protocol, as far as they can carry DICOM to us."""

    UNSPEC = 0x00
    TCP_OVER_IPV4 = 0x11
    TCP_OVER_IPV6 = 0x21
    UNIX_STREAM = 0x31


# Source and destination address, and their ports where the family has ports.
_ADDRESS_BYTES = {
    _Family.UNSPEC: 0,
    _Family.TCP_OVER_IPV4: 12,
    _Family.TCP_OVER_IPV6: 36,
    _Family.UNIX_STREAM: 216,
}


def body_length(header: bytes) -> int:
    """How many bytes follow the first 16; raises ProxyHeaderInvalid."""
    _, _, length = _parse(header)
    return length


def source_address(header: bytes, body: bytes) -> str | None:
    """The client's IP address, or None where the header names none; raises ProxyHeaderInvalid.

    None is the load balancer speaking for itself (LOCAL: a health probe), or for a client without
    an IP address: the connection's own address is then all there is.
    """
    command, family_code, length = _parse(header)
    if len(body) != length:
        raise ProxyHeaderInvalid("the PROXY header's length is not its body's")
    if command is _Command.LOCAL:
        return None  # whatever the family says: it shall be ignored
    try:
        family = _Family(family_code)
    except ValueError:
        raise ProxyHeaderInvalid("the PROXY header's address family is unknown") from None
    if length < _ADDRESS_BYTES[family]:
        raise ProxyHeaderInvalid("the PROXY header's addresses are cut short")
    if family is _Family.TCP_OVER_IPV4:
        return str(IPv4Address(body[:4]))
    if family is _Family.TCP_OVER_IPV6:
        return str(IPv6Address(body[:16]))
    return None


def _parse(header: bytes) -> tuple[_Command, int, int]:
    """Command, family and length of the body."""
    if len(header) != HEADER_BYTES:
        raise ProxyHeaderInvalid("a PROXY header begins with 16 bytes")
    signature, version_and_command, family, length = _HEADER.unpack(header)
    if signature != _SIGNATURE:
        raise ProxyHeaderInvalid("the connection does not begin with a PROXY v2 signature")
    if version_and_command >> 4 != _VERSION:
        raise ProxyHeaderInvalid("the PROXY header's version is not 2")
    try:
        command = _Command(version_and_command & 0x0F)
    except ValueError:
        raise ProxyHeaderInvalid("the PROXY header's command is unknown") from None
    if length > MAX_BODY_BYTES:
        raise ProxyHeaderInvalid(f"the PROXY header is longer than {MAX_BODY_BYTES} bytes")
    return command, family, length
