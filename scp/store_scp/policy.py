"""Who may open an association, and what each may do: decided before anything is negotiated.

A policy is a list of entries. The first that fits a peer entirely (the title it calls, the title
it calls itself, its address, its certificate) admits it and says what holds for it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle
from store_scp.addresses import parse_address
from store_scp.errors import AssociationRejected
from store_scp.settings import Settings
from store_scp.upper_layer.pdus import APPLICATION_CONTEXT
from store_scp.wording import MOST, printable

# A-ASSOCIATE-RJ, PS3.8 Table 9-21: result, source and reason.
_PERMANENT = 1
_TRANSIENT = 2
_SERVICE_USER = 1
_ACSE = 2
_PRESENTATION = 3
_APPLICATION_CONTEXT_NOT_SUPPORTED = 2
_CALLING_NOT_RECOGNIZED = 3
_CALLED_NOT_RECOGNIZED = 7
_PROTOCOL_VERSION_NOT_SUPPORTED = 2
_TEMPORARY_CONGESTION = 1
_LOCAL_LIMIT_EXCEEDED = 2


@dataclass(frozen=True, slots=True)
class Certificate:
    """The names in a client certificate that TLS has verified.

    ``subject`` is its distinguished name as RFC 4514 writes it; ``names`` are its subject
    alternative names, each as :func:`alternative_name` writes it; ``expires`` is when it does, in
    seconds since the epoch.
    """

    subject: str
    names: frozenset[str]
    expires: float = math.inf


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks for an association: its titles as received, and what the network knows of it."""

    calling: str
    called: str
    address: str
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class AeEntry:
    """Which peers an entry is for (an empty set: every one), and what holds for them.

    ``name`` stands for the entry in logs and metrics. Empty ``sop_classes`` and
    ``transfer_syntaxes`` are what the receiver accepts by default. ``preferred_transfer_syntaxes``
    are chosen before others, in this order.
    """

    name: str
    called: frozenset[str] = frozenset()
    calling: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    subjects: frozenset[str] = frozenset()
    subject_names: frozenset[str] = frozenset()
    sop_classes: frozenset[str] = frozenset()
    transfer_syntaxes: frozenset[str] = frozenset()
    preferred_transfer_syntaxes: tuple[str, ...] = ()
    max_associations: int | None = None
    batch_by: Literal["study", "mixed"] = "study"
    datastore_id: str | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class AdmittedPeer:
    """Both titles of an admitted association, without padding and safe to log, and its entry."""

    calling_ae_title: str
    called_ae_title: str
    entry: AeEntry


# What an entry asks of a peer, in the order it asks; a peer is told of the rule it got furthest to.
_RULES = (
    (_CALLED_NOT_RECOGNIZED, "no entry serves the called AE title"),
    (_CALLING_NOT_RECOGNIZED, "no entry for the called AE title names the calling AE title"),
    (_CALLING_NOT_RECOGNIZED, "no entry for both AE titles names a network the address is in"),
    (_CALLING_NOT_RECOGNIZED, "no entry for AE titles and address names the client certificate"),
)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The entries, in the order they are tried; ``from_file``: whether SCP_POLICY gives them."""

    entries: tuple[AeEntry, ...]
    from_file: bool = True

    def admit(self, peer: Peer) -> AdmittedPeer:
        """The peer's titles, validated, and its entry; raises AssociationRejected (PS3.8 9.3.4)."""
        calling = _parse(peer.calling, _CALLING_NOT_RECOGNIZED, "the calling AE title is malformed")
        called = _parse(peer.called, _CALLED_NOT_RECOGNIZED, "the called AE title is malformed")
        address = parse_address(peer.address)
        furthest, nearest = 0, None
        for entry in self.entries:
            met = _rules_met(entry, calling, called, address, peer.certificate)
            if met == len(_RULES):
                return AdmittedPeer(calling, called, entry)
            if nearest is None or met > furthest:
                furthest, nearest = met, entry
        reason, why = _RULES[furthest]
        if nearest is None:
            raise _rejected(reason, why, "an entry in the policy")
        key, needs = _needed(nearest, furthest, peer.certificate, from_file=self.from_file)
        raise _rejected(reason, why, needs, entry=nearest.name, key=key)


def policy_from_settings(settings: Settings) -> AccessPolicy:
    """The policy where no file gives one: a single entry, as the environment describes it."""
    entry = AeEntry(
        name="default",
        called=frozenset({settings.ae_title} if settings.require_called_ae_title else ()),
        calling=frozenset(settings.require_calling_ae_title),
        sop_classes=frozenset(settings.supported_sop_class_uids),
        preferred_transfer_syntaxes=settings.preferred_transfer_syntax_uids,
        batch_by=settings.batch_by,
    )
    return AccessPolicy((entry,), from_file=False)


def alternative_name(text: str) -> str:
    """A subject alternative name as it is compared: what has no case in small letters.

    DNS names and mail domains have none (RFC 5280 7.2 and 7.5); a URI is compared as it stands.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        if ":" in text:
            return text
        mailbox, at, domain = text.rpartition("@")
        return mailbox + at + domain.lower()


def limit_exceeded(limit: int, entry: AeEntry | None = None) -> AssociationRejected:
    """The answer while ``limit`` are open: in all, or of the peer's ``entry``."""
    if entry is None:
        why = f"as many associations as MAXIMUM_ASSOCIATIONS allows are open: {limit}"
        needs = "fewer associations at once, more tasks, or a larger MAXIMUM_ASSOCIATIONS"
        return AssociationRejected(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED, why, needs)
    why = f"as many associations as max_associations of the entry allows are open: {limit}"
    needs = "fewer associations at once from its senders, or a larger max_associations"
    return AssociationRejected(
        *(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED, why, needs),
        entry=entry.name,
        key="max_associations",
    )


def congested() -> AssociationRejected:
    """The answer while so much waits to become durable that nothing can be added."""
    why = "out of memory or uploads"
    needs = (
        "another attempt in some seconds, when uploads have freed memory; if it goes on, a larger"
        " SCP_BUFFER_BYTES, more tasks, or a faster way to the bucket"
    )
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _TEMPORARY_CONGESTION, why, needs)


def shutting_down() -> AssociationRejected:
    """The answer to a connection that came before the listener closed, and asks after it."""
    why = "the receiver is shutting down"
    needs = "another attempt in some seconds: another task takes it, or this one after its restart"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _TEMPORARY_CONGESTION, why, needs)


def application_context_not_supported() -> AssociationRejected:
    """The answer to an application context that is not DICOM's (PS3.7 A.2.1)."""
    why = "the application context is not DICOM's"
    return _rejected(
        _APPLICATION_CONTEXT_NOT_SUPPORTED, why, f"{APPLICATION_CONTEXT} (PS3.7 A.2.1)"
    )


def protocol_version_not_supported() -> AssociationRejected:
    """The answer to a protocol version whose bit 0 is clear (PS3.8 9.3.2)."""
    why = "the protocol version is not 1"
    needs = "protocol version 1: bit 0 is set (PS3.8 9.3.2)"
    return AssociationRejected(_PERMANENT, _ACSE, _PROTOCOL_VERSION_NOT_SUPPORTED, why, needs)


def _needed(
    entry: AeEntry, rule: int, certificate: Certificate | None, *, from_file: bool
) -> tuple[str, str]:
    """The entry's key (or the variable) that a peer does not fit, and what would fit, in words."""
    match rule:
        case 0:
            fits = f"called={_any_of(entry.called)}"
            if from_file:
                return "called", f"{fits}, or an entry for the called AE title"
            return "REQUIRE_CALLED_AE_TITLE", f"{fits} (AE_TITLE), or REQUIRE_CALLED_AE_TITLE=false"
        case 1:
            fits = f"calling={_any_of(entry.calling)}"
            if from_file:
                return "calling", f"{fits}, or an entry that names the calling AE title"
            variable = "REQUIRE_CALLING_AE_TITLE"
            return variable, f"{fits}, or the calling AE title in {variable}"
        case 2:
            networks = _any_of(map(str, entry.networks))
            return "cidr", f"an address in {networks}, or an entry whose cidr has the peer's"
    key, bound = "tls_subject", entry.subjects
    if not bound or (certificate is not None and certificate.subject in bound):
        key, bound = "tls_san", entry.subject_names
    where = "" if certificate else ", shown on the TLS port, which needs SCP_TLS_CLIENT_CA"
    shown = _any_of(map(printable, bound))
    return key, f"a certificate with {key}={shown}{where}"


def _any_of(texts: Iterable[str]) -> str:
    listed = sorted(texts)
    shown = " or ".join(listed[:MOST])
    return shown if len(listed) <= MOST else f"{shown} or {len(listed) - MOST} more"


def _rules_met(
    entry: AeEntry,
    calling: str,
    called: str,
    address: IPv4Address | IPv6Address | None,
    certificate: Certificate | None,
) -> int:
    """How many of the rules a peer meets before it breaks one."""
    met = (
        not entry.called or called in entry.called,
        not entry.calling or calling in entry.calling,
        not entry.networks
        or (address is not None and any(address in network for network in entry.networks)),
        _certificate_fits(entry, certificate),
    )
    return met.index(False) if False in met else len(met)


def _certificate_fits(entry: AeEntry, certificate: Certificate | None) -> bool:
    if certificate is None:
        return not (entry.subjects or entry.subject_names)
    subject_fits = not entry.subjects or certificate.subject in entry.subjects
    return subject_fits and (
        not entry.subject_names or not entry.subject_names.isdisjoint(certificate.names)
    )


def _parse(title: str, reason: int, why: str) -> str:
    try:
        return parse_ae_title(title)
    except InvalidAeTitle:
        needs = "1 to 16 printable ASCII characters without backslash (PS3.5 6.2)"
        raise _rejected(reason, why, needs) from None


def _rejected(
    reason: int, why: str, needs: str, *, entry: str | None = None, key: str | None = None
) -> AssociationRejected:
    return AssociationRejected(_PERMANENT, _SERVICE_USER, reason, why, needs, entry=entry, key=key)
