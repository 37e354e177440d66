"""Which presentation contexts are accepted, and in which transfer syntax (PS3.8 9.3.3.2)."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import IntEnum

from pydicom.config import IGNORE
from pydicom.uid import UID

from contract.uids import is_uid
from store_scp.upper_layer import ProposedContext

VERIFICATION = "1.2.840.10008.1.1"

_DICOM_ROOT = "1.2.840.10008."
# PS3.6 registers composite storage classes here; an unknown one under it is newer than our tables.
_STORAGE_ARC = "1.2.840.10008.5.1.4.1.1."

# SOP classes with "Storage" in their name that are not stored by C-STORE, or that belong to no
# study and series (PS3.4 Annex GG, non-patient objects), without which nothing can be imported.
_NOT_COMPOSITE = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
        "1.2.840.10008.5.1.1.27",  # Stored Print
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)

_REFUSED_TRANSFER_SYNTAXES = frozenset(
    {
        # JPIP: the pixels stay on the sender's server, so the stored image would not be durable.
        "1.2.840.10008.1.2.4.94",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.204",
        "1.2.840.10008.1.2.4.205",
        # Not encodings of a data set: MIME and XML (retired).
        "1.2.840.10008.1.2.6.1",
        "1.2.840.10008.1.2.6.2",
        # SMPTE ST 2110: the pixels are a live stream beside the data set (PS3.22).
        "1.2.840.10008.1.2.7.1",
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
    }
)

# The requestor's order decides, except that these come last. Implicit VR loses the VR of private
# elements; deflated hides the header behind an inflater; big endian is retired.
_LAST_CHOICES = {
    "1.2.840.10008.1.2.2": 1,  # Explicit VR Big Endian
    "1.2.840.10008.1.2.1.99": 2,  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2": 3,  # Implicit VR Little Endian
}


class ContextResult(IntEnum):
    """PS3.8 Table 9-18, as far as this receiver gives them."""

    ACCEPTED = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """The answer to one proposed context; ``transfer_syntax`` is set where it is accepted."""

    context_id: int
    abstract_syntax: str
    result: ContextResult
    transfer_syntax: str | None = None


def negotiate(
    proposed: Iterable[ProposedContext],
    supported: Set[str] = frozenset(),
    transfer_syntaxes: Set[str] = frozenset(),
) -> tuple[NegotiatedContext, ...]:
    """Answer every context.

    ``supported`` narrows the storage classes, and ``transfer_syntaxes`` what they come in; empty
    accepts them all.
    """
    return tuple(_answer(context, supported, transfer_syntaxes) for context in proposed)


def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of the class are stored with C-STORE into a study and series."""
    if not sop_class_uid.startswith(_DICOM_ROOT):
        return True
    uid = _registered(sop_class_uid)
    if uid.name in ("", sop_class_uid):  # registered without a name, or not in our tables
        return uid.startswith(_STORAGE_ARC)
    return uid.type == "SOP Class" and "Storage" in uid.name and uid not in _NOT_COMPOSITE


def accepts_transfer_syntax(uid: str) -> bool:
    """Whether a data set in this transfer syntax is a whole image that we can keep as it is."""
    if not is_uid(uid) or uid in _REFUSED_TRANSFER_SYNTAXES:
        return False
    return _registered(uid).type in ("", "Transfer Syntax")


def _answer(
    context: ProposedContext, supported: Set[str], transfer_syntaxes: Set[str]
) -> NegotiatedContext:
    if not _accepts_abstract_syntax(context.abstract_syntax, supported):
        return _refused(context, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    candidates = [uid for uid in context.transfer_syntaxes if accepts_transfer_syntax(uid)]
    if transfer_syntaxes and context.abstract_syntax != VERIFICATION:  # an echo carries no data set
        candidates = [uid for uid in candidates if uid in transfer_syntaxes]
    if not candidates:
        return _refused(context, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    # min() keeps the first of equals, and so the requestor's order.
    chosen = min(candidates, key=lambda uid: _LAST_CHOICES.get(uid, 0))
    return NegotiatedContext(
        context.context_id, context.abstract_syntax, ContextResult.ACCEPTED, chosen
    )


def _refused(context: ProposedContext, result: ContextResult) -> NegotiatedContext:
    return NegotiatedContext(context.context_id, context.abstract_syntax, result)


def _accepts_abstract_syntax(uid: str, supported: Set[str]) -> bool:
    if uid == VERIFICATION:
        return True
    return uid in supported if supported else is_uid(uid) and is_storage(uid)


def _registered(uid: str) -> UID:
    """What PS3.6 says about a UID. pydicom would warn, in the peer's words, of a leading zero."""
    return UID(uid, IGNORE)
