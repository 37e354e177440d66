"""DICOM Part 10 around a received data set: the file meta before it, the answer to a bad header.

The header's reader is the contract's; here its defects become what a peer is answered with.
"""

import functools
import struct

from contract.header import Defect, HeaderUnreadable
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused

# Ours, from a random UUID (PS3.5 B.2), and written into every file. Neither it nor the version name
# changes with a release, and the source AE title is not written at all: equal data sets must give
# equal objects, because an object's checksum is how a repeated instance is recognized.
IMPLEMENTATION_CLASS_UID = "2.25.230188659575322100472755726510069056703"
IMPLEMENTATION_VERSION_NAME = "HI_STORE_SCP"

_PREFIX = bytes(128) + b"DICM"

_STATUS = {
    Defect.UNREADABLE_HEADER: Status.UNREADABLE_HEADER,
    Defect.NO_SOP_CLASS_UID: Status.NO_SOP_CLASS_UID,
    Defect.NO_SOP_INSTANCE_UID: Status.NO_SOP_INSTANCE_UID,
    Defect.NO_STUDY_INSTANCE_UID: Status.NO_STUDY_INSTANCE_UID,
    Defect.NO_SERIES_INSTANCE_UID: Status.NO_SERIES_INSTANCE_UID,
    Defect.HEADER_TOO_COMPLEX: Status.HEADER_TOO_COMPLEX,
    Defect.CANNOT_INFLATE: Status.CANNOT_INFLATE,
}


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1) for a data set to follow."""
    before, after = _around_instance(sop_class_uid, transfer_syntax_uid)
    instance = _short(0x0003, b"UI", _padded(sop_instance_uid, b"\x00"))
    length = struct.pack("<I", len(before) + len(instance) + len(after))
    return b"".join((_PREFIX, _short(0x0000, b"UL", length), before, instance, after))


@functools.lru_cache(256)
def _around_instance(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    """The elements before and behind Media Storage SOP Instance UID: a sender's are all alike."""
    before = (
        struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
        _short(0x0002, b"UI", _padded(sop_class_uid, b"\x00")),
    )
    after = (
        _short(0x0010, b"UI", _padded(transfer_syntax_uid, b"\x00")),
        _short(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID, b"\x00")),
        _short(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
    )
    return b"".join(before), b"".join(after)


def header_refused(error: HeaderUnreadable) -> StoreRefused:
    """What the sender of a header that cannot be used is answered."""
    return StoreRefused(_STATUS[error.defect], error.detail)


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    return value + padding if len(value) % 2 else value
