"""IP addresses of peers, in the one form in which they are compared, logged and kept."""

from ipaddress import IPv4Address, IPv6Address, ip_address


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None where ``text`` is none.

    An IPv4 address is IPv4 also where a dual-stack socket shows it mapped into IPv6 (RFC 4291
    2.5.5.2). A link-local one loses its zone, which names an interface of this machine (RFC 4007).
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def peer_address(text: str) -> str:
    """What a socket or a PROXY header says of a peer, as :func:`parse_address` has it."""
    return str(parse_address(text) or text)
