"""TLS: who has a handshake, who has none, and whom neither delays (docs/faults.md)."""

import shutil
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from store_scp.tls import certificate_names

from tests.protocol.certificates import Authority, Identity
from tests.protocol.peer import Peer, Wire
from tests.protocol.receiver import PLANTED, PYTHON_PATH, ReceiverProcess
from tests.protocol.shared import SharedReceivers
from tests.protocol.vitals import CT, GOOD, GoodPeer, store_well, unharmed
from tests.protocol.wire import Proposal
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set

POLICY = """
[[ae]]
name = "by-subject"
calling = ["CT1"]
tls_subject = ["CN=ct1,O=Hospital"]

[[ae]]
name = "by-alternative-name"
calling = ["MR1"]
tls_san = ["mr1.hospital.example"]
"""


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server(ca: Authority) -> Identity:
    return ca.issue("receiver")


@pytest.fixture(scope="session")
def ct1(ca: Authority) -> Identity:
    return ca.issue("ct1")


@pytest.fixture(scope="session")
def mr1(ca: Authority) -> Identity:
    return ca.issue("mr1", san="DNS:mr1.hospital.example")


def tls_settings(ca: Authority, server: Identity, **more: str) -> dict[str, str]:
    return {
        "SCP_TLS_PORT": "0",
        "SCP_TLS_CERTIFICATE": str(server.certificate),
        "SCP_TLS_KEY": str(server.key),
        "SCP_TLS_CLIENT_CA": str(ca.bundle),
        "TLS_HANDSHAKE_TIMEOUT": "1.5",
        "ARTIM_TIMEOUT": "1.5",
        **more,
    }


def with_certificate(ca: Authority, identity: Identity) -> GoodPeer:
    return lambda process: Peer(process.tls_port, CT, "CT1", tls=ca.client(identity))


@pytest.fixture
def mutual(
    receivers: SharedReceivers, ca: Authority, server: Identity, ct1: Identity
) -> Iterator[ReceiverProcess]:
    """A receiver with a TLS port for peers with certificates of ``ca``, and a plain one."""
    good = with_certificate(ca, ct1)
    with receivers.using(tls_settings(ca, server), good) as process:
        yield process


def has_no_association(process: ReceiverProcess, context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a client learns of its refusal only when it reads."""
    try:
        with Wire(process.tls_port, tls=context) as wire:
            wire.send(Proposal(CT).encoded())
            wire.read()
    except (ssl.SSLError, ConnectionError, EOFError):
        return True
    return False


@pytest.mark.fault("tls")
def test_a_client_of_tls_1_1_has_no_handshake(
    mutual: ReceiverProcess, ca: Authority, ct1: Identity
) -> None:
    old = ca.client(ct1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1_1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert has_no_association(mutual, old)
    line = mutual.wait_for("tls_handshake_failed", openssl="UNSUPPORTED_PROTOCOL")
    assert line["why"] == "the peer speaks TLS 1.1 or older"


@pytest.mark.fault("tls")
def test_a_client_without_a_certificate_has_no_handshake(
    mutual: ReceiverProcess, ca: Authority
) -> None:
    assert has_no_association(mutual, ca.client())
    line = mutual.wait_for("tls_handshake_failed", openssl="PEER_DID_NOT_RETURN_A_CERTIFICATE")
    assert line["why"] == "the peer shows no certificate"
    assert "SCP_TLS_CLIENT_CA" in line["needs"]


@pytest.mark.fault("tls")
def test_an_expired_certificate_has_no_handshake(mutual: ReceiverProcess, ca: Authority) -> None:
    assert has_no_association(mutual, ca.client(ca.issue("expired", days=-1)))
    line = mutual.wait_for("tls_handshake_failed", openssl="CERTIFICATE_VERIFY_FAILED")
    assert line["why"] == "the peer's certificate has expired"


@pytest.mark.fault("tls")
def test_a_certificate_of_another_ca_has_no_handshake(
    mutual: ReceiverProcess, ca: Authority, tmp_path: Path
) -> None:
    stranger = Authority.made(tmp_path / "other").issue("ct1")
    assert has_no_association(mutual, ca.client(stranger))
    line = mutual.wait_for("tls_handshake_failed")
    assert line["why"] == "the peer's certificate is of a CA that is not in SCP_TLS_CLIENT_CA"


@pytest.mark.fault("tls")
def test_a_client_that_does_not_trust_the_receiver_is_told_from_others(
    mutual: ReceiverProcess, tmp_path: Path
) -> None:
    elsewhere = Authority.made(tmp_path / "other")
    assert has_no_association(mutual, elsewhere.client())
    line = mutual.wait_for("tls_handshake_failed")
    assert line["why"] == "the peer does not trust the receiver's certificate"
    assert "_ALERT_" in line["openssl"]


@pytest.mark.fault("tls")
def test_a_handshake_that_ends_or_stops_after_its_hello_is_told(mutual: ReceiverProcess) -> None:
    with Wire(mutual.tls_port) as wire:
        wire.send(b"\x16\x03\x01")
    mutual.wait_for(
        "tls_handshake_failed", why="the peer closed the connection during the handshake"
    )
    with Wire(mutual.tls_port) as wire:
        wire.send(b"\x16\x03\x01")
        assert wire.ended_silently()
    mutual.wait_for("tls_handshake_failed", why="the handshake was not finished in time")


@pytest.mark.fault("tls")
@pytest.mark.parametrize(
    ("sent", "why", "needs"),
    [
        (Proposal(CT).encoded(), "plain DICOM on the TLS port", "or port {} for plain DICOM"),
        (b"GET / HTTP/1.1\r\n\r\n", "an HTTP request where DICOM is expected", "SCP_HEALTH_PORT"),
        (b"SSH-2.0-" + PLANTED.encode(), "neither TLS nor DICOM on the TLS port", "TLS"),
    ],
    ids=["DICOM", "HTTP", "other"],
)
def test_what_is_no_tls_hello_is_closed_before_any_pdu_and_named(
    mutual: ReceiverProcess, sent: bytes, why: str, needs: str
) -> None:
    with Wire(mutual.tls_port) as plain:
        plain.send(sent)
        assert plain.ended_silently()
    line = mutual.wait_for("tls_handshake_failed", why=why)
    assert needs.format(mutual.port) in line["needs"]


def test_without_uvloop_the_tls_port_tells_the_same(
    ca: Authority, server: Identity, ct1: Identity, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['uvloop'] = None\n")
    path = f"{tmp_path}:{PYTHON_PATH}"
    settings = tls_settings(ca, server, STORAGE_DIR=str(tmp_path / "storage"), PYTHONPATH=path)
    with ReceiverProcess(**settings) as process:
        store_well(process, with_certificate(ca, ct1))
        with Wire(process.tls_port) as plain:
            plain.send(Proposal(CT).encoded())
            assert plain.ended_silently()
        process.wait_for("tls_handshake_failed", why="plain DICOM on the TLS port")
        assert has_no_association(process, ca.client())
        process.wait_for("tls_handshake_failed", openssl="PEER_DID_NOT_RETURN_A_CERTIFICATE")
        with Wire(process.tls_port) as wire:
            wire.send(b"\x16\x03\x01")
        process.wait_for(
            "tls_handshake_failed", why="the peer closed the connection during the handshake"
        )
        with Wire(process.tls_port) as wire:
            wire.send(b"\x16\x03\x01")
            assert wire.ended_silently()
        process.wait_for("tls_handshake_failed", why="the handshake was not finished in time")


@pytest.mark.fault("tls")
def test_a_peer_that_never_starts_tls_is_closed_without_a_line(
    mutual: ReceiverProcess,
) -> None:
    failed = mutual.metrics()["connections_total{kind=tls_handshake_failed}"]
    before = len(mutual.events("tls_handshake_failed"))
    with Wire(mutual.tls_port) as silent:
        assert silent.ended_silently()
    # A peer of the test before may be counted only now.
    assert mutual.metrics()["connections_total{kind=tls_handshake_failed}"] > failed
    assert len(mutual.events("tls_handshake_failed")) == before


@pytest.mark.fault("tls")
def test_silent_peers_delay_nobody(mutual: ReceiverProcess, ca: Authority, ct1: Identity) -> None:
    with ExitStack() as opened:
        for number in range(20):
            silent = opened.enter_context(Wire(mutual.tls_port))
            silent.send(b"\x16\x03\x01"[: number % 4])
        store_well(mutual, with_certificate(ca, ct1))


def test_an_instance_arrives_over_tls_byte_for_byte(
    mutual: ReceiverProcess, ca: Authority, ct1: Identity
) -> None:
    store_well(mutual)  # on the plain port beside it
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ca.client(ct1)
        context.minimum_version = context.maximum_version = version
        for size in (250, 20_000_000):
            uid = f"1.2.3.{version.value}.{size}"
            pixels = bytes(range(250)) * (size // 250)
            data = data_set(replaced={SOP_INSTANCE: uid.encode()}, pixels=pixels)
            with Peer(mutual.tls_port, CT, tls=context) as peer:
                assert peer.store(data, CT_IMAGE, uid).status == 0x0000
            stored = mutual.storage / "1.2.3" / "1.2.3.3" / f"{uid}.dcm"
            assert stored.read_bytes().endswith(data)
            stored.unlink()


def test_a_policy_binds_an_ae_title_to_a_certificate(
    ca: Authority, server: Identity, ct1: Identity, mr1: Identity, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    storage = str(tmp_path / "storage")
    settings = tls_settings(ca, server, STORAGE_DIR=storage, SCP_POLICY=str(policy))
    with unharmed(settings, good=with_certificate(ca, ct1)) as process:
        for identity, calling, other in ((ct1, "CT1", "MR1"), (mr1, "MR1", "CT1")):
            context = ca.client(identity)
            with Peer(process.tls_port, CT, calling, tls=context) as peer:
                assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
            assert Peer(process.tls_port, CT, other, tls=context).rejected() == (1, 1, 3)
            assert Peer(process.port, CT, calling).rejected() == (1, 1, 3)
        line = process.wait_for("association", calling_ae="MR1", outcome="released")
        assert line["entry"] == "by-alternative-name"
        assert line["tls_subject"] == "CN=mr1,O=Hospital"
        assert line["tls_san"] == ("mr1.hospital.example",)
        expiry = process.wait_for("peer_certificate_expires", calling_ae="MR1")
        assert (expiry["tls_subject"], expiry["days"]) == ("CN=mr1,O=Hospital", 0)
        line = process.wait_for(
            "association", calling_ae="MR1", outcome="rejected", tls_subject="CN=ct1,O=Hospital"
        )
        assert line["why"] == "no entry for AE titles and address names the client certificate"


def test_a_renewed_certificate_holds_after_sighup_and_open_associations_go_on(
    ca: Authority, server: Identity, ct1: Identity, tmp_path: Path
) -> None:
    files = Identity(tmp_path / "tls.pem", tmp_path / "tls.key")
    shutil.copy(server.certificate, files.certificate)
    shutil.copy(server.key, files.key)
    settings = tls_settings(ca, files, STORAGE_DIR=str(tmp_path / "storage"))
    with unharmed(settings, good=with_certificate(ca, ct1)) as process:
        assert names_shown(process, ca, ct1) == "receiver"
        with Peer(process.tls_port, CT, tls=ca.client(ct1)) as peer:
            files.key.write_text("no key")
            process.reload()
            process.wait_for("reload_failed")
            assert names_shown(process, ca, ct1) == "receiver"
            renewed = ca.issue("renewed")
            shutil.copy(renewed.certificate, files.certificate)
            shutil.copy(renewed.key, files.key)
            process.reload()
            process.wait_for("reloaded", tls=True)
            assert names_shown(process, ca, ct1) == "renewed"
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000


def test_certificates_that_expire_are_told_of_at_the_start_and_at_a_reload(
    ca: Authority, server: Identity, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    other = Authority.made(tmp_path / "other")
    long = other.issue("long", days=400).certificate.read_bytes()
    bundle.write_bytes(long + other.issue("expired", days=-1).certificate.read_bytes())
    settings = tls_settings(ca, server, SCP_TLS_CLIENT_CA=str(bundle))
    with ReceiverProcess(**settings, STORAGE_DIR=str(tmp_path / "storage")) as process:
        own = process.wait_for("certificate_expires", setting="SCP_TLS_CERTIFICATE")
        assert (own["certificate"], own["days_left"], own["level"]) == (1, 0, "warning")
        expired = process.wait_for("certificate_expired", setting="SCP_TLS_CLIENT_CA")
        assert (expired["certificate"], expired["level"]) == (2, "error")
        assert -2 * 86_400 < process.metrics()["certificate_expires_seconds"] < 0
        process.forget()
        bundle.write_bytes(long)
        process.reload()
        process.wait_for("certificate_expires", setting="SCP_TLS_CERTIFICATE")
        assert 0 < process.metrics()["certificate_expires_seconds"] < 86_400
        assert not process.events("certificate_expired")


def names_shown(process: ReceiverProcess, ca: Authority, identity: Identity) -> str:
    """The common name in the certificate that the receiver shows."""
    with Wire(process.tls_port, tls=ca.client(identity)) as wire:
        assert isinstance(wire.connection, ssl.SSLSocket)
        shown = wire.connection.getpeercert()
        assert shown is not None
    return certificate_names(shown).subject.partition(",")[0].removeprefix("CN=")
