"""TLS as BCP 195 (RFC 8996, RFC 9325) and PS3.15 B.12 want it, and the names in a certificate.

The handshake is the first thing on the connection: DICOM knows no upgrade of a plain one.
"""

import math
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store_scp.errors import CannotStart
from store_scp.files import Read, path_of, read_file
from store_scp.policy import Certificate, alternative_name
from store_scp.settings import Settings
from store_scp.wording import first_of, printable

# TLS 1.2: ephemeral keys and authenticated encryption only (RFC 9325 4.1 and 4.2); TLS 1.3 has
# nothing else. Level 2: no key or signature below 112 bits, whatever the distribution's default is
# (RFC 9325 4.4 and 4.5).
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# Compression leaks plain text, renegotiation lets a peer be another one half way (RFC 9325 3.3 and
# 3.5). No tickets: a session can then be resumed only with the context it began with, and a reload
# makes a new one, so that a new SCP_TLS_CLIENT_CA judges everybody anew.
_OPTIONS = (
    ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_NO_TICKET
    | ssl.OP_CIPHER_SERVER_PREFERENCE
)

# What OpenSSL's versions call a key that is not the certificate's; the last, one of another kind.
_OTHER_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})

_PEM = re.compile(f"{ssl.PEM_HEADER}.*?{ssl.PEM_FOOTER}", re.DOTALL)

# RFC 4514 3, in the spelling of OpenSSL, and the two it abbreviates beyond; every other attribute
# has the one name that both getpeercert() and the command line print.
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "street",
    "domainComponent": "DC",
    "userId": "UID",
    "givenName": "GN",
    "surname": "SN",
}
# RFC 4514 2.4: these anywhere, a space at either end and # at the beginning.
_SPECIAL = re.compile(r'[,+"\\<>;]|^[ #]| \Z')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME_KINDS = frozenset({"DNS", "URI", "IP Address", "email"})

# X.690 8.1.2 and 8.1.3, RFC 5280 4.1
_EXPLICIT_VERSION = 0xA0
_UTC_TIME = 0x17
_LONG_LENGTH = 0x80


def server_context(settings: Settings, read: Read = read_file) -> ssl.SSLContext:
    """The listener's side of TLS; raises CannotStart, which names every file that cannot be used.

    ``read`` gives the files' bytes. Raises OSError where the system lacks memory or descriptors.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= _OPTIONS
    context.num_tickets = 0
    problems = [*_load_identity(context, settings, read), *_load_client_ca(context, settings, read)]
    if problems:
        raise CannotStart("\n  ".join(["TLS cannot be used:", *problems]))
    return context


def certificate_names(certificate: Mapping[str, Any]) -> Certificate:
    """The names in what ``getpeercert()`` gives for a verified certificate."""
    # RFC 4514 2.1: what a certificate names last comes first.
    subject = ",".join(
        "+".join(_attribute(name, value) for name, value in reversed(pairs))
        for pairs in reversed(certificate.get("subject", ()))
    )
    names = {
        alternative_name(value)
        for kind, value in certificate.get("subjectAltName", ())
        if kind in _NAME_KINDS
    }
    expires = certificate.get("notAfter")
    return Certificate(
        subject, frozenset(names), ssl.cert_time_to_seconds(expires) if expires else math.inf
    )


def certificate_members(certificate: Certificate | None) -> dict[str, str | list[str]]:
    """What a log line says of a verified certificate: its names, as a policy would bind them."""
    if certificate is None:
        return {}
    names = [printable(each) for each in sorted(certificate.names)]
    subject = printable(certificate.subject)
    return {"tls_subject": subject, **({"tls_san": first_of(names)} if names else {})}


def expiries(content: bytes) -> list[tuple[int, datetime]]:
    """When each certificate in a PEM file expires, with its number there, from 1.

    One that cannot be read is left out: it is OpenSSL that says whether a file can be used.
    """
    # The ssl module decodes a verified peer's certificate only: this reads the few bytes itself.
    found = []
    for number, pem in enumerate(_PEM.findall(content.decode("latin-1")), 1):
        with suppress(ValueError, IndexError):
            found.append((number, _not_after(ssl.PEM_cert_to_DER_cert(pem))))
    return found


def _load_identity(context: ssl.SSLContext, settings: Settings, read: Read) -> Iterator[str]:
    """Load certificate and key; what keeps them from being used."""
    certificate, key = settings.tls_certificate, settings.tls_key
    problems = [
        *_check_certificates("SCP_TLS_CERTIFICATE", certificate, read),
        *_check_readable("SCP_TLS_KEY", key, read),
    ]
    yield from problems
    if problems or certificate is None or key is None:
        return
    try:
        with path_of(read(certificate)) as chain_file, path_of(read(key)) as key_file:
            # Without a password, OpenSSL would ask the terminal for one.
            context.load_cert_chain(chain_file, key_file, password="")
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason.endswith(("TOO_SMALL", "TOO_WEAK")):
            yield f"SCP_TLS_CERTIFICATE={certificate}: is weaker than 112 bits (RFC 9325 4.5)"
        elif reason in _OTHER_KEY:
            yield f"SCP_TLS_KEY={key}: is not the key of SCP_TLS_CERTIFICATE"
        else:
            yield f"SCP_TLS_KEY={key}: holds no PEM private key, or one with a passphrase"


def _load_client_ca(context: ssl.SSLContext, settings: Settings, read: Read) -> Iterator[str]:
    """Make TLS mutual where a CA for clients is named; what keeps the CA from being used."""
    if settings.tls_client_ca is None:
        return
    problems = [*_check_certificates("SCP_TLS_CLIENT_CA", settings.tls_client_ca, read)]
    yield from problems
    if not problems:
        with path_of(read(settings.tls_client_ca)) as file:
            context.load_verify_locations(file)
        context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(variable: str, path: Path | None, read: Read) -> Iterator[str]:
    if path is None:
        yield f"{variable}: is not set"
        return
    try:
        read(path)
    except OSError as error:
        yield f"{variable}={path}: cannot be read ({error.strerror})"


def _check_certificates(variable: str, path: Path | None, read: Read) -> Iterator[str]:
    problems = [*_check_readable(variable, path, read)]
    yield from problems
    if problems or path is None:
        return
    try:
        with path_of(read(path)) as file:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        yield f"{variable}={path}: holds no PEM certificate"


def _attribute(name: str, value: str) -> str:
    escaped = _SPECIAL.sub(lambda match: f"\\{match.group()}", value)
    escaped = _CONTROL.sub(lambda match: f"\\{ord(match.group()):02X}", escaped)
    return f"{_SHORT_NAMES.get(name, name)}={escaped}"


def _not_after(der: bytes) -> datetime:
    """Certificate, tbsCertificate, validity, notAfter; raises ValueError or IndexError."""
    (_, certificate), *_ = _der_values(der)
    (_, signed), *_ = _der_values(certificate)
    fields = [content for tag, content in _der_values(signed) if tag != _EXPLICIT_VERSION]
    _serial_number, _signature, _issuer, validity = fields[:4]
    _not_before, (tag, text) = _der_values(validity)
    # Two-digit years end with 2049, long before Python's guess at a century (RFC 5280 4.1.2.5.1).
    layout = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), layout).replace(tzinfo=UTC)


def _der_values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value in a row."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & _LONG_LENGTH:
            size = length ^ _LONG_LENGTH
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        yield tag, der[at : at + length]
        at += length
