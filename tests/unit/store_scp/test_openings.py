"""What connections begin with, and what the log says of it."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.openings import (
    OPENING_BYTES,
    Opening,
    Ports,
    opening,
    refused_as_dicom,
    refused_as_proxied,
    refused_as_tls,
)

BOTH = Ports(11_112, 2_762)
REQUEST = b"\x01\x00\x00\x00\x00\xce\x00\x01\x00\x00STORESCP"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PROXY_V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"
KNOWN = {
    REQUEST: Opening.DICOM,
    HELLO: Opening.TLS,
    GET: Opening.HTTP,
    b"PRI * HTTP/2.0\r\n": Opening.HTTP,
    PROXY_V1: Opening.PROXY_V1,
    PROXY_V2: Opening.PROXY_V2,
}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        *KNOWN.items(),
        (b"", Opening.NOTHING),
        (b"\x16", Opening.TLS),
        (b"\x01", Opening.DICOM),
        (b"\x16\x02", Opening.UNKNOWN),
        (b"\x01\x01", Opening.UNKNOWN),
        (b"\x04\x00\x00\x00", Opening.UNKNOWN),
        (b"GET", Opening.UNKNOWN),
        (b"GETTING", Opening.UNKNOWN),
        (b"SSH-2.0-x", Opening.UNKNOWN),
    ],
)
def test_the_first_bytes_tell_what_it_is(first: bytes, expected: Opening) -> None:
    assert opening(first) is expected


@given(st.sampled_from(sorted(KNOWN)), st.integers(4, 40), st.binary())
def test_four_bytes_are_enough_and_what_follows_the_first_sixteen_changes_nothing(
    known: bytes, length: int, tail: bytes
) -> None:
    first = known[:length]
    assert opening(first) is KNOWN[known]
    assert opening(known + tail) is KNOWN[known]
    assert opening((known + tail)[:OPENING_BYTES]) is KNOWN[known]


@given(st.binary(max_size=40), st.sampled_from([BOTH, Ports(None, 2_762), Ports(11_112), Ports()]))
def test_any_first_bytes_are_told_in_words_of_ours(first: bytes, ports: Ports) -> None:
    assert (opening(first) is Opening.NOTHING) == (not first)
    told = {
        *refused_as_dicom(first, "unknown PDU type", ports),
        *refused_as_tls(first, ports),
        *refused_as_proxied(first, "no header"),
    }
    known = {
        text
        for each in (b"?", *KNOWN)
        for text in (
            *refused_as_dicom(each, "unknown PDU type", ports),
            *refused_as_tls(each, ports),
            *refused_as_proxied(each, "no header"),
        )
    }
    assert told <= known


@pytest.mark.parametrize(
    ("first", "ports", "why", "needs"),
    [
        (HELLO, BOTH, "a TLS hello on the plain port", "port 2762 for TLS"),
        (HELLO, Ports(11_112), "a TLS hello on the plain port", "SCP_TLS_PORT"),
        (GET, BOTH, "an HTTP request", "SCP_HEALTH_PORT"),
        (PROXY_V1, BOTH, "version 1, and SCP_PROXY_PROTOCOL is off", "version 2"),
        (PROXY_V2, BOTH, "a PROXY header, and SCP_PROXY_PROTOCOL is off", "SCP_PROXY_PROTOCOL=v2"),
        (PROXY_V2, Ports(11_112, None, True), "a second PROXY header", "one load balancer"),
        (b"\x42\x00", BOTH, "unknown PDU type", "A-ASSOCIATE-RQ"),
        (REQUEST, BOTH, "unknown PDU type", "A-ASSOCIATE-RQ"),
    ],
)
def test_what_is_not_dicom_is_named_with_the_port_to_use(
    first: bytes, ports: Ports, why: str, needs: str
) -> None:
    refusal = refused_as_dicom(first, "unknown PDU type", ports)
    assert why in refusal.why
    assert needs in refusal.needs


@pytest.mark.parametrize(
    ("first", "ports", "why", "needs"),
    [
        (REQUEST, BOTH, "plain DICOM on the TLS port", "or port 11112 for plain DICOM"),
        (REQUEST, Ports(None, 2_762), "plain DICOM on the TLS port", "SCP_PLAIN=false"),
        (GET, BOTH, "an HTTP request", "SCP_HEALTH_PORT"),
        (PROXY_V2, BOTH, "a PROXY header, and SCP_PROXY_PROTOCOL is off", "SCP_PROXY_PROTOCOL=v2"),
        (b"SSH-2.0-x", BOTH, "neither TLS nor DICOM", "TLS from the first byte on"),
    ],
)
def test_what_is_not_tls_is_named_with_the_port_to_use(
    first: bytes, ports: Ports, why: str, needs: str
) -> None:
    refusal = refused_as_tls(first, ports)
    assert why in refusal.why
    assert needs in refusal.needs


@pytest.mark.parametrize(
    ("first", "why", "needs"),
    [
        (REQUEST, "plain DICOM without a PROXY header", "proxy_protocol_v2.enabled"),
        (HELLO, "a TLS hello without a PROXY header", "proxy_protocol_v2.enabled"),
        (GET, "an HTTP request without a PROXY header", "SCP_HEALTH_PORT"),
        (PROXY_V1, "version 1", "version 2"),
        (PROXY_V2, "the length", "version 2"),
    ],
)
def test_what_comes_in_place_of_a_proxy_header_is_named(first: bytes, why: str, needs: str) -> None:
    refusal = refused_as_proxied(first, "the length")
    assert why in refusal.why
    assert needs in refusal.needs


def test_the_ports_are_those_of_the_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert Ports.of(listening, None, proxied=True) == Ports(port, None, True)
        assert Ports.of(None, listening, proxied=False) == Ports(None, port, False)
