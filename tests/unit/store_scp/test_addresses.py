from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.addresses import parse_address, peer_address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.1%eth0", "10.0.0.1"),
        ("::10.0.0.1", "::a00:1"),
        ("", ""),
        ("nowhere", "nowhere"),
    ],
)
def test_an_address_has_one_form(text: str, shown: str) -> None:
    assert peer_address(text) == shown


@given(st.ip_addresses())
def test_an_address_in_its_form_is_left_as_it_is(address: object) -> None:
    shown = peer_address(str(address))
    assert peer_address(shown) == shown
    assert parse_address(shown) == ip_address(shown)
