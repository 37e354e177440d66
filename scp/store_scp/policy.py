"""Who may open an association, and what each may do: decided before anything is negotiated.

A policy is a list of entries. The first that fits a peer entirely (the title it calls, the title
it calls itself, its address, its certificate) admits it and says what holds for it.
"""

import math
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle
from store_scp.addresses import parse_address
from store_scp.errors import AssociationRejected
from store_scp.settings import Settings

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
    """The entries, in the order they are tried."""

    entries: tuple[AeEntry, ...]

    def admit(self, peer: Peer) -> AdmittedPeer:
        """The peer's titles, validated, and its entry; raises AssociationRejected (PS3.8 9.3.4)."""
        calling = _parse(peer.calling, _CALLING_NOT_RECOGNIZED, "the calling AE title is malformed")
        called = _parse(peer.called, _CALLED_NOT_RECOGNIZED, "the called AE title is malformed")
        address = parse_address(peer.address)
        furthest = 0
        for entry in self.entries:
            met = _rules_met(entry, calling, called, address, peer.certificate)
            if met == len(_RULES):
                return AdmittedPeer(calling, called, entry)
            furthest = max(furthest, met)
        raise _rejected(*_RULES[furthest])


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
    return AccessPolicy((entry,))


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


def limit_exceeded() -> AssociationRejected:
    """The answer while as many are open as MAXIMUM_ASSOCIATIONS or the peer's entry allows."""
    why = "as many associations as allowed are open"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED, why)


def congested() -> AssociationRejected:
    """The answer while so much waits to become durable that nothing can be added."""
    why = "out of memory or uploads"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _TEMPORARY_CONGESTION, why)


def shutting_down() -> AssociationRejected:
    """The answer to a connection that came before the listener closed, and asks after it."""
    why = "the receiver is shutting down"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _TEMPORARY_CONGESTION, why)


def application_context_not_supported() -> AssociationRejected:
    """The answer to an application context that is not DICOM's (PS3.7 A.2.1)."""
    return _rejected(_APPLICATION_CONTEXT_NOT_SUPPORTED, "the application context is not DICOM's")


def protocol_version_not_supported() -> AssociationRejected:
    """The answer to a protocol version whose bit 0 is clear (PS3.8 9.3.2)."""
    why = "the protocol version is not 1"
    return AssociationRejected(_PERMANENT, _ACSE, _PROTOCOL_VERSION_NOT_SUPPORTED, why)


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
        raise _rejected(reason, why) from None


def _rejected(reason: int, why: str) -> AssociationRejected:
    return AssociationRejected(_PERMANENT, _SERVICE_USER, reason, why)
