"""DCMTK's security profiles against the receiver's TLS port.

Which version of TLS a handshake takes is set through OpenSSL's own configuration, since DCMTK has
no option for it.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.archives import Archive
from tests.interop.programs import run, sample, succeed
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.shared import SharedReceivers
from tests.protocol.vitals import CT

ANONYMOUS = ("+tla",)
BCP_195, NON_DOWNGRADING, EXTENDED = "+px", "+py", "+pz"
RETIRED = ("+pa", "+pn")
TLS_1_2, TLS_1_3 = "TLSv1.2", "TLSv1.3"
# DCMTK's extended profile stops at TLS 1.2, and it alone knows ECDSA there.
WITH_RSA = (
    (BCP_195, TLS_1_2),
    (BCP_195, TLS_1_3),
    (NON_DOWNGRADING, TLS_1_2),
    (NON_DOWNGRADING, TLS_1_3),
    (EXTENDED, TLS_1_2),
)
WITH_EC = ((BCP_195, TLS_1_3), (NON_DOWNGRADING, TLS_1_3), (EXTENDED, TLS_1_2))


def openssl_only(version: str, folder: Path) -> dict[str, str]:
    """The environment in which OpenSSL speaks one version of TLS."""
    path = folder / "openssl.cnf"
    path.write_text(
        "openssl_conf = settings\n[settings]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
        f"[tls]\nMinProtocol = {version}\nMaxProtocol = {version}\n"
    )
    return {"OPENSSL_CONF": str(path)}


def identity(certificates: Path, name: str) -> tuple[str, str, str]:
    return "+tls", str(certificates / f"{name}.key"), str(certificates / f"{name}.pem")


@pytest.fixture
def receiver(receivers: SharedReceivers, certificates: Path) -> Iterator[ReceiverProcess]:
    """A receiver with a TLS port for anybody, and a plain one."""
    settings = {
        "SCP_TLS_PORT": "0",
        "SCP_TLS_CERTIFICATE": str(certificates / "rsa.pem"),
        "SCP_TLS_KEY": str(certificates / "rsa.key"),
    }
    with receivers.using(settings, stores=True) as process:
        yield process


@pytest.fixture
def ours(receiver: ReceiverProcess) -> Archive:
    return Archive(receiver.tls_port, receiver.storage)


@pytest.fixture
def mutual(receivers: SharedReceivers, certificates: Path) -> Iterator[ReceiverProcess]:
    """A receiver for peers with a certificate only."""
    settings = {
        "SCP_TLS_PORT": "0",
        "SCP_TLS_CERTIFICATE": str(certificates / "storescp.pem"),
        "SCP_TLS_KEY": str(certificates / "storescp.key"),
        "SCP_TLS_CLIENT_CA": str(certificates / "ca.pem"),
        "SCP_PLAIN": "false",
    }
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(certificates / "ct1.pem", certificates / "ct1.key")
    with receivers.using(settings, lambda at: Peer(at.tls_port, CT, tls=context)) as process:
        yield process


@pytest.mark.parametrize(("profile", "version"), WITH_RSA)
def test_storescu_stores_the_same_bytes_over_tls(
    ours: Archive,
    reference: Archive,
    certificates: Path,
    tmp_path: Path,
    profile: str,
    version: str,
) -> None:
    files = [sample("CT_small.dcm"), sample("rtplan.dcm")]
    tls = (*ANONYMOUS, profile, "+cf", str(certificates / "ca.pem"))
    environment = openssl_only(version, tmp_path)

    def send(port: int, *options: str) -> str:
        return succeed(
            "storescu", *options, "127.0.0.1", str(port), *files, environment=environment
        )

    held = ours.takes(lambda port: send(port, *tls))
    assert held == reference.takes(send)
    assert held.total() == len(files)


def test_no_handshake_of_many_in_a_row_fails(ours: Archive, certificates: Path) -> None:
    arguments = (*ANONYMOUS, "+cf", str(certificates / "ca.pem"), "127.0.0.1", str(ours.port))
    for _ in range(20):
        succeed("echoscu", *arguments)


@pytest.mark.parametrize("profile", RETIRED)
def test_a_retired_profile_has_no_handshake_and_the_next_peer_has(
    receiver: ReceiverProcess, ours: Archive, certificates: Path, profile: str
) -> None:
    target = ("+cf", str(certificates / "ca.pem"), "127.0.0.1", str(ours.port))
    assert run("echoscu", *ANONYMOUS, profile, *target).returncode != 0
    receiver.wait_for("tls_handshake_failed", openssl="NO_SHARED_CIPHER")
    succeed("echoscu", *ANONYMOUS, BCP_195, *target)


def test_the_plain_port_beside_it_takes_no_tls(
    receiver: ReceiverProcess, certificates: Path
) -> None:
    target = ("+cf", str(certificates / "ca.pem"), "127.0.0.1", str(receiver.port))
    assert run("echoscu", *ANONYMOUS, *target).returncode != 0
    succeed("echoscu", "127.0.0.1", str(receiver.port))


@pytest.mark.parametrize(("profile", "version"), WITH_EC)
def test_mutual_tls_admits_a_certificate_of_its_ca(
    mutual: ReceiverProcess, certificates: Path, tmp_path: Path, profile: str, version: str
) -> None:
    port = str(mutual.tls_port)
    arguments = (*identity(certificates, "ct1"), profile, "+cf", str(certificates / "ca.pem"))
    environment = openssl_only(version, tmp_path)
    succeed("echoscu", *arguments, "127.0.0.1", port, environment=environment)


def test_mutual_tls_refuses_a_peer_without_certificate_and_serves_the_next(
    mutual: ReceiverProcess, certificates: Path
) -> None:
    port = str(mutual.tls_port)
    target = ("+cf", str(certificates / "ca.pem"), "127.0.0.1", port)
    assert run("echoscu", *ANONYMOUS, *target).returncode != 0
    mutual.wait_for("tls_handshake_failed", openssl="PEER_DID_NOT_RETURN_A_CERTIFICATE")
    succeed("echoscu", *identity(certificates, "ct1"), *target)


def test_a_peer_without_tls_gets_nothing_and_the_next_is_served(
    mutual: ReceiverProcess, certificates: Path
) -> None:
    port = str(mutual.tls_port)
    assert run("echoscu", "-ta", "5", "127.0.0.1", port).returncode != 0
    target = ("+cf", str(certificates / "ca.pem"), "127.0.0.1", port)
    succeed("echoscu", *identity(certificates, "ct1"), *target)
