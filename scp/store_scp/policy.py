"""Who may open an association: a decision on titles, made before anything is negotiated."""

from dataclasses import dataclass

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle
from store_scp.errors import AssociationRejected

# A-ASSOCIATE-RJ, PS3.8 Table 9-21: result, source and reason.
_PERMANENT = 1
_TRANSIENT = 2
_SERVICE_USER = 1
_PRESENTATION = 3
_CALLING_NOT_RECOGNIZED = 3
_CALLED_NOT_RECOGNIZED = 7
_TEMPORARY_CONGESTION = 1
_LOCAL_LIMIT_EXCEEDED = 2


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Our title, whether peers must call it, and which titles may call (empty: every one)."""

    ae_title: str
    require_called: bool = False
    calling: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AdmittedPeer:
    """Both titles of an admitted association, without padding and safe to log."""

    calling_ae_title: str
    called_ae_title: str


def admit(policy: PeerPolicy, calling: str, called: str) -> AdmittedPeer:
    """The peer's titles, validated; raises AssociationRejected (PS3.8 9.3.4)."""
    calling = _parse(calling, _CALLING_NOT_RECOGNIZED, "the calling AE title is malformed")
    called = _parse(called, _CALLED_NOT_RECOGNIZED, "the called AE title is malformed")
    if policy.require_called and called != policy.ae_title:
        raise _rejected(_CALLED_NOT_RECOGNIZED, "the called AE title is not ours")
    if policy.calling and calling not in policy.calling:
        raise _rejected(_CALLING_NOT_RECOGNIZED, "the calling AE title is not in the list")
    return AdmittedPeer(calling, called)


def limit_exceeded() -> AssociationRejected:
    """The answer while MAXIMUM_ASSOCIATIONS are open."""
    why = "as many associations as allowed are open"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED, why)


def shutting_down() -> AssociationRejected:
    """The answer to a connection that came before the listener closed, and asks after it."""
    why = "the receiver is shutting down"
    return AssociationRejected(_TRANSIENT, _PRESENTATION, _TEMPORARY_CONGESTION, why)


def _parse(title: str, reason: int, why: str) -> str:
    try:
        return parse_ae_title(title)
    except InvalidAeTitle:
        raise _rejected(reason, why) from None


def _rejected(reason: int, why: str) -> AssociationRejected:
    return AssociationRejected(_PERMANENT, _SERVICE_USER, reason, why)
