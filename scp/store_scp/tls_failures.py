"""What OpenSSL says of a failed handshake, in words, with what would have been accepted."""

import ssl

from store_scp.openings import Refusal

_TOO_OLD = Refusal("the peer speaks TLS 1.1 or older", "TLS 1.2 or 1.3 at the sender")
_NOTHING_SHARED = Refusal(
    "the peer offers no cipher suite, curve or signature that is accepted",
    "TLS 1.3; or TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305; for a sender that knows"
    " ECDHE_RSA alone, a receiver's certificate with an RSA key",
)
_NO_CERTIFICATE = Refusal(
    "the peer shows no certificate", "a certificate of a CA in SCP_TLS_CLIENT_CA at the sender"
)
_CLOSED = Refusal(
    "the peer closed the connection during the handshake",
    "the CA of SCP_TLS_CERTIFICATE at the sender, if it does not trust the receiver's certificate",
)
_SLOW = Refusal(
    "the handshake was not finished in time",
    "a faster handshake, or a longer TLS_HANDSHAKE_TIMEOUT",
)
_OTHER = Refusal("the handshake failed", "see OpenSSL's reason in this line")

# SSL_R_..., as Python shows them: https://docs.openssl.org/3.0/man3/ERR_reason_error_string/
_REASONS = {
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "VERSION_TOO_LOW": _TOO_OLD,
    "NO_SHARED_CIPHER": _NOTHING_SHARED,
    "NO_SHARED_GROUPS": _NOTHING_SHARED,
    "NO_SUITABLE_GROUPS": _NOTHING_SHARED,
    "NO_SUITABLE_KEY_SHARE": _NOTHING_SHARED,
    "NO_SHARED_SIGNATURE_ALGORITHMS": _NOTHING_SHARED,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NOTHING_SHARED,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": _NO_CERTIFICATE,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
}

_STRANGER = Refusal(
    "the peer's certificate is of a CA that is not in SCP_TLS_CLIENT_CA",
    "a certificate of a CA in SCP_TLS_CLIENT_CA at the sender, with its intermediate certificates;"
    " or its CA added to SCP_TLS_CLIENT_CA and SIGHUP",
)
_SELF_SIGNED = Refusal(
    "the peer's certificate is self-signed",
    "a certificate of a CA in SCP_TLS_CLIENT_CA at the sender; or this certificate added to"
    " SCP_TLS_CLIENT_CA and SIGHUP",
)
_WEAK = Refusal(
    "a key or signature of the peer's certificate is weaker than 112 bits",
    "RSA of 2,048 bits or more, or P-256; SHA-256 (RFC 9325 4.5)",
)
# X509_V_ERR_...: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_VERIFY_CODES = {
    2: _STRANGER,  # UNABLE_TO_GET_ISSUER_CERT
    7: _STRANGER,  # CERT_SIGNATURE_FAILURE: a CA of the same name and another key
    9: Refusal(
        "the peer's certificate is not yet valid",
        "the right time on both machines, or the certificate's first day",
    ),
    10: Refusal("the peer's certificate has expired", "a renewed certificate at the sender"),
    18: _SELF_SIGNED,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: _STRANGER,  # SELF_SIGNED_CERT_IN_CHAIN
    20: _STRANGER,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _STRANGER,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    26: Refusal(  # INVALID_PURPOSE
        "the peer's certificate is not one for clients",
        "extended key usage clientAuth in it, or none at all",
    ),
    66: _WEAK,  # EE_KEY_TOO_SMALL
    67: _WEAK,  # CA_KEY_TOO_SMALL
    68: _WEAK,  # CA_MD_TOO_WEAK
}
_OTHER_CERTIFICATE = Refusal(
    "the peer's certificate cannot be verified", "a certificate of a CA in SCP_TLS_CLIENT_CA"
)

# RFC 8446 6.2: a peer's alerts, by the end of OpenSSL's name for each.
_DISTRUSTS = Refusal(
    "the peer does not trust the receiver's certificate",
    "the CA of SCP_TLS_CERTIFICATE among those the sender trusts, its intermediate certificates in"
    " that file, and in it the name or address that the sender calls",
)
_ALERT = "_ALERT_"
_ALERTS = {
    "UNKNOWN_CA": _DISTRUSTS,
    "BAD_CERTIFICATE": _DISTRUSTS,
    "CERTIFICATE_UNKNOWN": _DISTRUSTS,
    "UNSUPPORTED_CERTIFICATE": _DISTRUSTS,
    "CERTIFICATE_REVOKED": _DISTRUSTS,
    "ACCESS_DENIED": _DISTRUSTS,
    "CERTIFICATE_EXPIRED": Refusal(
        "the peer says that the receiver's certificate has expired",
        "a renewed SCP_TLS_CERTIFICATE and SIGHUP, or the right time at the sender",
    ),
}
_OTHER_ALERT = Refusal(
    "the peer ended the handshake with an alert",
    "see OpenSSL's reason in this line, and the sender",
)


def refused_handshake(error: OSError) -> tuple[Refusal, str | None]:
    """Why a handshake failed after its hello, and OpenSSL's name for it where it has one."""
    if not isinstance(error, ssl.SSLError):
        # asyncio and uvloop say so of their deadline.
        return (_SLOW if isinstance(error, ConnectionAbortedError) else _CLOSED), None
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, _OTHER_CERTIFICATE), reason
    _, alert, name = reason.partition(_ALERT)
    if alert:
        return _ALERTS.get(name, _OTHER_ALERT), reason
    return _REASONS.get(reason, _OTHER), reason or None
