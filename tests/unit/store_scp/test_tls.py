"""Real handshakes over memory, with the certificates that the commands of docs/access.md make."""

import _ssl
import re
import shutil
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp import tls_failures
from store_scp.errors import CannotStart
from store_scp.policy import Certificate
from store_scp.settings import Settings
from store_scp.tls import certificate_members, certificate_names, expiries, server_context
from store_scp.tls_failures import refused_handshake

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
OPENSSL = re.compile(r"```sh\n(openssl .*?)```", re.DOTALL)
MAKE_CERTIFICATES, PRINT_SUBJECT = OPENSSL.findall(PAGE.read_text())

pytestmark = pytest.mark.skipif(
    not shutil.which("openssl"), reason="install openssl: its command makes the certificates"
)


def sh(script: str, directory: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", script], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout


def self_signed(directory: Path, name: str, arguments: str) -> None:
    script = f"openssl req -x509 {arguments} -noenc -keyout {name}.key -out {name}.pem"
    sh(script, directory)


def issue(directory: Path, name: str, arguments: str) -> None:
    """A certificate of the directory's ca.pem and ca.key."""
    (directory / "ca.conf").write_text(CA_CONFIGURATION)
    sh(
        f"openssl req -new {EC} -noenc -subj /CN={name} -keyout {name}.key -out {name}.csr;"
        f" : > index.txt; openssl ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key"
        f" -rand_serial -md sha256 {arguments} -in {name}.csr -out {name}.pem",
        directory,
    )


CA_CONFIGURATION = """
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
serial = serial
policy = any
[any]
commonName = supplied
[server]
extendedKeyUsage = serverAuth
"""
# What this OpenSSL can say.
OPENSSL_NAMES = frozenset(_ssl.err_codes_to_names.values())
EC = "-newkey ec -pkeyopt ec_paramgen_curve:P-256"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    sh(MAKE_CERTIFICATES, directory)
    self_signed(directory, "stranger", f"{EC} -subj /CN=ct1")
    return directory


def settings(directory: Path, **replaced: str) -> Settings:
    environ = {
        "SCP_TLS_PORT": "0",
        "SCP_TLS_CERTIFICATE": str(directory / "storescp.pem"),
        "SCP_TLS_KEY": str(directory / "storescp.key"),
    }
    return Settings.from_env(environ | replaced)


def mutual(directory: Path) -> ssl.SSLContext:
    return server_context(settings(directory, SCP_TLS_CLIENT_CA=str(directory / "ca.pem")))


def client_context(directory: Path, identity: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if identity:
        context.load_cert_chain(directory / f"{identity}.pem", directory / f"{identity}.key")
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The server's side after a handshake; raises SSLError where either side does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepted = server.wrap_bio(to_server, to_client, server_side=True)
    opened = client.wrap_bio(to_client, to_server, server_hostname="storescp.example.org")
    waiting = [opened, accepted]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
        if not waiting:
            return accepted
    raise AssertionError("the handshake does not end")


def complaint(directory: Path, **replaced: str) -> list[str]:
    with pytest.raises(CannotStart) as caught:
        server_context(settings(directory, **replaced))
    first, *lines = str(caught.value).splitlines()
    assert first == "TLS cannot be used:"
    return [line.strip() for line in lines]


def test_tls_1_3_is_preferred_and_no_certificate_is_asked_for(files: Path) -> None:
    accepted = handshake(server_context(settings(files)), client_context(files, "ct1"))
    assert accepted.version() == "TLSv1.3"
    assert accepted.getpeercert() is None


def test_the_servers_order_of_ciphers_decides_in_tls_1_2(files: Path) -> None:
    client = client_context(files)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE+CHACHA20:ECDHE+AES128:ECDHE+AES256")
    accepted = handshake(server_context(settings(files)), client)
    cipher = accepted.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert accepted.compression() is None


def test_tls_1_1_is_refused(files: Path) -> None:
    client = client_context(files)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.deprecated_call():
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake(server_context(settings(files)), client)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "DHE"])
def test_tls_1_2_without_authenticated_encryption_or_ecdhe_is_refused(
    files: Path, cipher: str
) -> None:
    client = client_context(files)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        handshake(server_context(settings(files)), client)


def words(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str | None]:
    """Why a handshake fails, and OpenSSL's name for it."""
    with pytest.raises(ssl.SSLError) as caught:
        handshake(server, client)
    refusal, openssl = refused_handshake(caught.value)
    assert refusal.needs
    return refusal.why, openssl


def test_what_openssl_refuses_is_said_in_words(files: Path, tmp_path: Path) -> None:
    server = mutual(files)
    client = client_context(files)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA")
    nothing = "the peer offers no cipher suite, curve or signature that is accepted"
    assert words(server, client) == (nothing, "NO_SHARED_CIPHER")
    assert words(server, client_context(files)) == (
        "the peer shows no certificate",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    )
    assert words(server, client_context(files, "stranger")) == (
        "the peer's certificate is self-signed",
        "CERTIFICATE_VERIFY_FAILED",
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("-startdate 20200101000000Z -enddate 20200201000000Z", "has expired"),
        ("-startdate 20480101000000Z -enddate 20490101000000Z", "is not yet valid"),
        ("-days 1 -extensions server", "is not one for clients"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_in_words(
    files: Path, tmp_path: Path, arguments: str, why: str
) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    issue(tmp_path, "bad", arguments)
    assert words(mutual(files), client_context(tmp_path, "bad")) == (
        f"the peer's certificate {why}",
        "CERTIFICATE_VERIFY_FAILED",
    )


def test_a_certificate_of_an_unknown_ca_is_said_in_words(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    self_signed(tmp_path, "ca", f"{EC} -subj /CN=Elsewhere")
    issue(tmp_path, "bad", "-days 1")
    shutil.copy(files / "ca.pem", tmp_path)
    assert words(mutual(files), client_context(tmp_path, "bad")) == (
        "the peer's certificate is of a CA that is not in SCP_TLS_CLIENT_CA",
        "CERTIFICATE_VERIFY_FAILED",
    )


@given(st.sampled_from(sorted(OPENSSL_NAMES)) | st.text())
def test_any_reason_is_said_in_words_beside_its_name(name: str) -> None:
    error = ssl.SSLError(1, "text")
    error.reason = name
    refusal, openssl = refused_handshake(error)
    assert refusal.why
    assert refusal.needs
    assert openssl == (name or None)


def test_every_reason_that_has_words_is_one_of_openssl() -> None:
    assert set(tls_failures._REASONS) <= OPENSSL_NAMES
    ends = {name.partition("_ALERT_")[2] for name in OPENSSL_NAMES}
    assert set(tls_failures._ALERTS) <= ends


def test_a_plain_association_request_is_no_handshake(files: Path) -> None:
    received = ssl.MemoryBIO()
    received.write(b"\x01\x00\x00\x00\x00\xce\x00\x01\x00\x00STORESCP")
    plain = server_context(settings(files)).wrap_bio(received, ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
        plain.do_handshake()


def test_with_a_client_ca_a_certificate_of_it_is_required(files: Path) -> None:
    accepted = handshake(mutual(files), client_context(files, "ct1"))
    names = certificate_names(accepted.getpeercert() or {})
    assert names.subject == "CN=ct1,O=Hospital"
    assert names.names == {"ct1.example.org"}
    ((_, expires_at),) = expiries((files / "ct1.pem").read_bytes())
    assert names.expires == expires_at.timestamp()
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(mutual(files), client_context(files))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(mutual(files), client_context(files, "stranger"))


def test_a_certificate_that_was_replaced_holds_from_the_next_context_on(
    files: Path, tmp_path: Path
) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    before = server_context(settings(tmp_path))
    sh(MAKE_CERTIFICATES, tmp_path)
    handshake(server_context(settings(tmp_path)), client_context(tmp_path))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(before, client_context(tmp_path))


def test_every_file_that_cannot_be_used_is_named_at_once(files: Path) -> None:
    lines = complaint(
        files,
        SCP_TLS_CERTIFICATE=str(files / "missing.pem"),
        SCP_TLS_KEY=str(files),
        SCP_TLS_CLIENT_CA=str(PAGE),
    )
    assert lines == [
        f"SCP_TLS_CERTIFICATE={files}/missing.pem: cannot be read (No such file or directory)",
        f"SCP_TLS_KEY={files}: cannot be read (Is a directory)",
        f"SCP_TLS_CLIENT_CA={PAGE}: holds no PEM certificate",
    ]


def test_a_file_with_something_else_in_it_is_named(files: Path) -> None:
    key, certificate = str(files / "storescp.key"), str(files / "storescp.pem")
    assert complaint(files, SCP_TLS_CERTIFICATE=key) == [
        f"SCP_TLS_CERTIFICATE={key}: holds no PEM certificate"
    ]
    assert complaint(files, SCP_TLS_KEY=certificate) == [
        f"SCP_TLS_KEY={certificate}: holds no PEM private key, or one with a passphrase"
    ]


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(
    files: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    sh(f"openssl ec -aes256 -passout pass:secret -in storescp.key -out {locked}", files)
    assert complaint(files, SCP_TLS_KEY=str(locked)) == [
        f"SCP_TLS_KEY={locked}: holds no PEM private key, or one with a passphrase"
    ]


def test_the_key_of_another_certificate_is_refused(files: Path, tmp_path: Path) -> None:
    self_signed(tmp_path, "rsa", "-newkey rsa:2048 -subj /CN=rsa")
    for other in (files / "ct1.key", tmp_path / "rsa.key"):
        assert complaint(files, SCP_TLS_KEY=str(other)) == [
            f"SCP_TLS_KEY={other}: is not the key of SCP_TLS_CERTIFICATE"
        ]


def test_a_weak_certificate_is_refused(tmp_path: Path) -> None:
    self_signed(tmp_path, "storescp", "-newkey rsa:1024 -subj /CN=weak")
    assert complaint(tmp_path) == [
        f"SCP_TLS_CERTIFICATE={tmp_path}/storescp.pem: is weaker than 112 bits (RFC 9325 4.5)"
    ]


def test_settings_without_tls_make_no_context() -> None:
    with pytest.raises(CannotStart, match=r"SCP_TLS_CERTIFICATE: is not set\n.*KEY: is not set"):
        server_context(Settings.from_env({}))


@pytest.mark.parametrize(
    "subject",
    [
        "/C=DE/ST=Hessen/L=Ort/O=Hospital/OU=Radiology/CN=ct1",
        "/DC=org/DC=example/UID=7/street=Weg 1/GN=A/SN=B/CN=ct1",
        '/O=Hospital, North+OU=CT;1/CN=<ct> "1" \\\\ = x',
        "/O= Hospital /CN=#1",
        "/O=Klinik Köln/CN=東",
        "/emailAddress=ct@example.org/serialNumber=7/CN=a\nb",
    ],
)
def test_a_subject_reads_as_openssl_prints_it(subject: str, files: Path, tmp_path: Path) -> None:
    quoted = subject.replace("'", "'\\''")
    self_signed(tmp_path, "ct1", f"{EC} -utf8 -subj '{quoted}'")
    printed = sh(PRINT_SUBJECT, tmp_path).removesuffix("\n").removeprefix("subject=")
    server = mutual(files)
    server.load_verify_locations(tmp_path / "ct1.pem")
    client = client_context(files)
    client.load_cert_chain(tmp_path / "ct1.pem", tmp_path / "ct1.key")
    accepted = handshake(server, client)
    assert certificate_names(accepted.getpeercert() or {}).subject == printed


def test_alternative_names_are_those_a_policy_can_bind() -> None:
    names = (
        ("DNS", "CT1.example.org"),
        ("IP Address", "2001:DB8:0:0:0:0:0:1"),
        ("URI", "urn:uuid:7"),
        ("email", "ct@Example.org"),
        ("DirName", ((("commonName", "other"),),)),
        ("othername", "<unsupported>"),
        ("Registered ID", "1.2.3"),
    )
    assert certificate_names({"subjectAltName": names}) == Certificate(
        "", frozenset({"ct1.example.org", "2001:db8::1", "urn:uuid:7", "ct@example.org"})
    )


def test_a_line_has_a_certificates_names_as_a_policy_binds_them() -> None:
    assert certificate_members(None) == {}
    assert certificate_members(Certificate("CN=ct1,O=Hospital", frozenset({"b", "a"}))) == {
        "tls_subject": "CN=ct1,O=Hospital",
        "tls_san": ["a", "b"],
    }
    long = certificate_members(Certificate("CN=" + "x" * 600, frozenset(map(str, range(20)))))
    assert len(long["tls_subject"]) == 515
    assert long["tls_san"][-1] == "and more"
    assert certificate_members(Certificate("CN=a\x9b\u202e", frozenset())) == {
        "tls_subject": r"CN=a\x9b\u202e"
    }


@given(st.text(), st.text())
def test_no_value_passes_for_another_attribute(organization: str, common_name: str) -> None:
    given = {"subject": ((("organizationName", organization),), (("commonName", common_name),))}
    subject = certificate_names(given).subject
    separators = re.sub(r"\\.", "", subject, flags=re.DOTALL)
    assert separators.count(",") == 1
    assert "+" not in separators
    assert subject.startswith("CN=")


@pytest.mark.parametrize("days", [1, 36_500])
def test_a_certificate_says_when_it_expires(tmp_path: Path, days: int) -> None:
    self_signed(tmp_path, "own", f"{EC} -subj /CN=own -days {days}")
    printed = sh("openssl x509 -in own.pem -noout -enddate", tmp_path).strip()
    seconds = ssl.cert_time_to_seconds(printed.removeprefix("notAfter="))
    content = (tmp_path / "own.pem").read_bytes()
    assert expiries(content) == [(1, datetime.fromtimestamp(seconds, UTC))]


def test_each_certificate_of_a_file_counts_and_one_that_cannot_be_read_keeps_its_number(
    files: Path,
) -> None:
    ct1, ca = ((files / name).read_bytes() for name in ("ct1.pem", "ca.pem"))
    broken = f"{ssl.PEM_HEADER}\nAAAA\n{ssl.PEM_FOOTER}\n".encode()
    ((_, first),), ((_, last),) = expiries(ct1), expiries(ca)
    assert expiries("Köln\n".encode() + ct1 + broken + ca) == [(1, first), (3, last)]
    assert first < last


DER = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.builds(
        lambda tag, values: bytes([tag, min(sum(map(len, values)), 255)]) + b"".join(values),
        st.sampled_from([0x02, 0x17, 0x18, 0x30, 0xA0]),
        st.lists(inner, max_size=5),
    ),
)


@given(DER.map(ssl.DER_cert_to_PEM_cert) | st.text())
def test_any_file_says_when_it_expires_or_nothing(content: str) -> None:
    found = expiries(content.encode("utf-8", "surrogatepass"))
    assert all(each.tzinfo is UTC for _, each in found)
