"""Which presentation contexts are accepted, and in which transfer syntax (PS3.8 9.3.3.2)."""

import functools
from collections.abc import Iterable, Sequence, Set
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

# What HealthImaging imports natively: stored as it comes, or transcoded into the data store's own
# format. It imports anything else, too, but keeps the pixels as a blob (warning 0xB120).
# https://docs.aws.amazon.com/healthimaging/latest/devguide/supported-transfer-syntaxes.html
HEALTHIMAGING_TRANSFER_SYNTAXES = frozenset(
    {
        # Transcoded (of Explicit VR Little Endian, all but binary segmentations).
        "1.2.840.10008.1.2",  # Implicit VR Little Endian
        "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
        "1.2.840.10008.1.2.4.51",  # JPEG Extended (Process 2 and 4)
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless (Process 14)
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
        "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
        "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
        "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 Lossless
        "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2
        "1.2.840.10008.1.2.4.201",  # HTJ2K Lossless
        "1.2.840.10008.1.2.4.202",  # HTJ2K Lossless RPCL
        "1.2.840.10008.1.2.5",  # RLE Lossless
        # Stored as they come.
        "1.2.840.10008.1.2.4.50",  # JPEG Baseline
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
        "1.2.840.10008.1.2.4.112",  # JPEG XL
        "1.2.840.10008.1.2.4.203",  # HTJ2K
        "1.2.840.10008.1.2.4.107",  # HEVC/H.265 Main
        "1.2.840.10008.1.2.4.108",  # HEVC/H.265 Main 10
        # MPEG2 (100, 101) and MPEG-4 AVC/H.264 (102 to 106), and their fragmentable forms.
        *(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 107)),
        *(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107)),
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
    preferred: Sequence[str] = (),
) -> tuple[NegotiatedContext, ...]:
    """Answer every context.

    ``supported`` narrows the storage classes, and ``transfer_syntaxes`` what they come in; empty
    accepts them all. Of several transfer syntaxes the first in ``preferred`` is chosen; then one
    that HealthImaging imports natively; then another of PS3.6; then one that PS3.6 does not list.
    """
    return tuple(_answer(context, supported, transfer_syntaxes, preferred) for context in proposed)


def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of the class are stored with C-STORE into a study and series."""
    if not sop_class_uid.startswith(_DICOM_ROOT):
        return True
    uid = registered(sop_class_uid)
    if uid.name in ("", sop_class_uid):  # registered without a name, or not in our tables
        return uid.startswith(_STORAGE_ARC)
    return uid.type == "SOP Class" and "Storage" in uid.name and uid not in _NOT_COMPOSITE


def accepts_transfer_syntax(uid: str) -> bool:
    """Whether a data set in this transfer syntax is a whole image that we can keep as it is."""
    if not is_uid(uid) or uid in _REFUSED_TRANSFER_SYNTAXES:
        return False
    return registered(uid).type in ("", "Transfer Syntax")


def _answer(
    context: ProposedContext,
    supported: Set[str],
    transfer_syntaxes: Set[str],
    preferred: Sequence[str],
) -> NegotiatedContext:
    if not _accepts_abstract_syntax(context.abstract_syntax, supported):
        return _refused(context, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    candidates = [uid for uid in context.transfer_syntaxes if accepts_transfer_syntax(uid)]
    if transfer_syntaxes and context.abstract_syntax != VERIFICATION:  # an echo carries no data set
        candidates = [uid for uid in candidates if uid in transfer_syntaxes]
    if not candidates:
        return _refused(context, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    # min() keeps the first of equals, and so the requestor's order.
    chosen = min(candidates, key=lambda uid: _rank(uid, preferred))
    return NegotiatedContext(
        context.context_id, context.abstract_syntax, ContextResult.ACCEPTED, chosen
    )


def _rank(transfer_syntax: str, preferred: Sequence[str]) -> tuple[int, int]:
    """The lower, the better."""
    if transfer_syntax in preferred:
        return 0, preferred.index(transfer_syntax)
    if transfer_syntax in HEALTHIMAGING_TRANSFER_SYNTAXES:
        tier = 1
    else:
        tier = 2 if registered(transfer_syntax).type else 3
    return tier, _LAST_CHOICES.get(transfer_syntax, 0)


def _refused(context: ProposedContext, result: ContextResult) -> NegotiatedContext:
    return NegotiatedContext(context.context_id, context.abstract_syntax, result)


def _accepts_abstract_syntax(uid: str, supported: Set[str]) -> bool:
    if uid == VERIFICATION:
        return True
    return uid in supported if supported else is_uid(uid) and is_storage(uid)


@functools.lru_cache(4_096)
def registered(uid: str) -> UID:
    """What PS3.6 says about a UID. pydicom would warn, in the peer's words, of a leading zero."""
    return UID(uid, IGNORE)
