"""PROXY protocol v2: the real address behind a load balancer, and nobody else's word for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.certificates import Authority
from tests.protocol.peer import Peer, Wire
from tests.protocol.receiver import PLANTED, Line, ReceiverProcess
from tests.protocol.shared import AT_LEAST, SHORT, SharedReceivers
from tests.protocol.vitals import CT, unharmed
from tests.protocol.wire import Proposal, proxy_header

POLICY = """
[[ae]]
name = "ward"
cidr = ["192.0.2.0/24"]
"""
TRUSTED = "127.0.0.1"
# Also loopback, and not trusted.
OTHER = "127.0.0.2"
WARD = "192.0.2.7"


def from_ward(process: ReceiverProcess) -> Peer:
    return Peer(process.port, CT, before=proxy_header(WARD))


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("proxied") / "policy.toml"
    file.write_text(POLICY)
    return file


@pytest.fixture
def proxied(receivers: SharedReceivers, policy: Path) -> Iterator[ReceiverProcess]:
    """A receiver that goes by what the load balancer says of a peer's address."""
    settings = {
        "SCP_POLICY": str(policy),
        "SCP_PROXY_PROTOCOL": "v2",
        "SCP_PROXY_TRUSTED_CIDRS": f"{TRUSTED}/32",
        "ARTIM_TIMEOUT": str(SHORT),
    }
    with receivers.using(settings, from_ward) as process:
        yield process


def test_the_real_address_is_in_policy_and_log(proxied: ReceiverProcess) -> None:
    with Peer(proxied.port, CT, "WARD", before=proxy_header("192.0.2.9")) as peer:
        assert peer.accepted.results[1][0] == 0
    assert proxied.wait_for("association", calling_ae="WARD")["peer"] == "192.0.2.9"
    elsewhere = Peer(proxied.port, CT, "ELSEWHERE", before=proxy_header("198.51.100.1"))
    assert elsewhere.rejected() == (1, 1, 3)
    line = proxied.wait_for("association", calling_ae="ELSEWHERE")
    assert (line["outcome"], line["peer"]) == ("rejected", "198.51.100.1")


def test_a_header_may_come_in_pieces(proxied: ReceiverProcess) -> None:
    header = proxy_header(WARD)
    with Wire(proxied.port) as wire:
        for at in range(len(header)):
            wire.send(header[at : at + 1])
        wire.send(Proposal(CT).encoded())
        assert wire.read()[0] == 0x02


def test_a_load_balancers_own_check_is_silent(proxied: ReceiverProcess) -> None:
    before = not_good(proxied)
    probes = proxied.metrics()["connections_total{kind=probe}"]
    for sent in (b"", proxy_header(None)):
        with Wire(proxied.port) as probe:
            probe.send(sent)
    with Wire(proxied.port) as probe:
        probe.send(proxy_header(None) + b"\x01")
        assert probe.ended_silently()
    assert not_good(proxied) == before
    assert proxied.metrics()["connections_total{kind=probe}"] >= probes + 1


def test_an_address_that_is_not_trusted_is_closed(proxied: ReceiverProcess) -> None:
    with Wire(proxied.port, source=OTHER) as wire:
        assert wire.ended_silently()
    line = proxied.wait_for("connection_refused", peer=OTHER)
    assert line["why"] == "the address is not in SCP_PROXY_TRUSTED_CIDRS"


@pytest.mark.parametrize(
    ("sent", "why", "needs"),
    [
        (
            Proposal(CT).encoded(),
            "plain DICOM without a PROXY header before it",
            "proxy_protocol_v2.enabled",
        ),
        (
            f"PROXY TCP4 {PLANTED} 127.0.0.1 1 2\r\n".encode(),
            "a PROXY header of version 1",
            "version 2",
        ),
        (
            b"\xff" * 16,
            "the connection does not begin with a PROXY v2 signature",
            "a PROXY header of version 2",
        ),
    ],
    ids=["no header", "version 1", "garbage"],
)
def test_a_connection_without_a_header_is_closed(
    proxied: ReceiverProcess, sent: bytes, why: str, needs: str
) -> None:
    with Wire(proxied.port) as wire:
        wire.send(sent)
        assert wire.ended_silently()
    assert needs in proxied.wait_for("connection_refused", why=why)["needs"]


def test_half_a_header_is_closed_at_artim(proxied: ReceiverProcess) -> None:
    began = time.monotonic()
    with Wire(proxied.port) as wire:
        wire.send(proxy_header(WARD)[:20])
        assert wire.ended_silently()
    assert time.monotonic() - began >= AT_LEAST


def test_a_header_comes_before_tls(tmp_path: Path) -> None:
    ca = Authority.made(tmp_path / "ca")
    server = ca.issue("receiver")

    def over_tls(process: ReceiverProcess) -> Peer:
        return Peer(process.tls_port, CT, before=proxy_header(WARD), tls=ca.client())

    with unharmed(
        good=over_tls,
        STORAGE_DIR=str(tmp_path / "storage"),
        SCP_PLAIN="false",
        SCP_TLS_PORT="0",
        SCP_TLS_CERTIFICATE=str(server.certificate),
        SCP_TLS_KEY=str(server.key),
        SCP_PROXY_PROTOCOL="v2",
        SCP_PROXY_TRUSTED_CIDRS=f"{TRUSTED}/32",
    ) as process:
        assert process.wait_for("association")["peer"] == WARD


def not_good(process: ReceiverProcess) -> list[Line]:
    """Every line but the good associations', which may come late."""
    return [each for each in process.lines if each.get("outcome") != "released"]
