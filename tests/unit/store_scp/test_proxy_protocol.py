import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.errors import ProxyHeaderInvalid
from store_scp.proxy_protocol import HEADER_BYTES, MAX_BODY_BYTES, body_length, source_address

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31
IPV4 = bytes.fromhex("0a010203 c0000201 c001 2b68")
IPV6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + b"\xc0\x01\x2b\x68"
# As a Network Load Balancer appends it: a CRC32C and the VPC endpoint's id.
TLVS = bytes.fromhex("030004deadbeef ea0007") + b"\x01vpce-1"


def header(command: int, family: int, length: int) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, length)


def source(command: int, family: int, body: bytes) -> str | None:
    head = header(command, family, len(body))
    assert body_length(head) == len(body)
    return source_address(head, body)


def complaint(head: bytes, body: bytes = b"") -> str:
    with pytest.raises(ProxyHeaderInvalid) as caught:
        source_address(head, body)
    return str(caught.value)


def test_the_specifications_signature_is_what_is_looked_for() -> None:
    assert SIGNATURE == b"\r\n\r\n\x00\r\nQUIT\n"
    assert len(SIGNATURE) + 4 == HEADER_BYTES


@pytest.mark.parametrize("tlvs", [b"", TLVS, b"\xff" * 500])
def test_the_source_is_named_whatever_follows_the_addresses(tlvs: bytes) -> None:
    assert source(PROXY, TCP4, IPV4 + tlvs) == "10.1.2.3"
    assert source(PROXY, TCP6, IPV6 + tlvs) == "2001:db8::7"


@pytest.mark.parametrize("family", [UNSPEC, TCP4, UDP4, TCP6, 0xFF])
def test_a_health_probe_names_nobody_whatever_its_family(family: int) -> None:
    assert source(LOCAL, family, b"") is None
    assert source(LOCAL, family, TLVS) is None


def test_a_client_without_an_ip_address_is_nobody() -> None:
    assert source(PROXY, UNSPEC, b"") is None
    assert source(PROXY, UNSPEC, TLVS) is None
    assert source(PROXY, UNIX, bytes(216)) is None


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        (b"", "16 bytes"),
        (header(PROXY, TCP4, 12)[:15], "16 bytes"),
        (header(PROXY, TCP4, 12) + b"\x00", "16 bytes"),
        (b"PROXY TCP4 10.1.", "signature"),
        (b"\x01\x00\x00\x00\x00\xce\x00\x01\x00\x00STORES", "signature"),
        (header(0x11, TCP4, 12), "version"),
        (header(0x31, TCP4, 12), "version"),
        (header(0x22, TCP4, 12), "command"),
        (header(0x2F, TCP4, 12), "command"),
        (header(PROXY, TCP4, MAX_BODY_BYTES + 1), f"{MAX_BODY_BYTES} bytes"),
    ],
)
def test_what_is_no_header_is_refused_before_its_body_is_read(head: bytes, rule: str) -> None:
    with pytest.raises(ProxyHeaderInvalid, match=rule):
        body_length(head)
    assert rule in complaint(head)


@pytest.mark.parametrize("family", [UDP4, 0x10, 0x22, 0x32, 0x41, 0xFF])
def test_a_family_that_cannot_carry_dicom_is_refused(family: int) -> None:
    assert "family" in complaint(header(PROXY, family, 216), bytes(216))


@pytest.mark.parametrize(("family", "size"), [(TCP4, 12), (TCP6, 36), (UNIX, 216)])
def test_an_address_block_cut_short_is_refused(family: int, size: int) -> None:
    assert "cut short" in complaint(header(PROXY, family, size - 1), bytes(size - 1))


def test_a_body_of_another_length_than_announced_is_refused() -> None:
    assert "length" in complaint(header(PROXY, TCP4, 12), IPV4 + b"\x00")
    assert "length" in complaint(header(LOCAL, TCP4, 12), b"")


HEADERS = st.one_of(
    st.binary(max_size=20),
    st.builds(header, *[st.integers(0, 0xFF)] * 2, st.integers(0, 0xFFFF)),
    st.builds(header, st.just(PROXY), st.sampled_from([TCP4, TCP6]), st.integers(0, 40)),
)


@given(HEADERS, st.binary(max_size=300), st.booleans())
def test_any_bytes_give_an_address_nobody_or_our_error(
    head: bytes, body: bytes, cut_to_length: bool
) -> None:
    try:
        length = body_length(head)
        assert 0 <= length <= MAX_BODY_BYTES
        named = source_address(head, body[:length] if cut_to_length else body)
    except ProxyHeaderInvalid:
        return
    assert named is None or str(ip_address(named)) == named
