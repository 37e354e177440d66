"""A DICOM Part 10 file (PS3.10 7.1): its transfer syntax, and the header of its data set."""

import struct

from contract.errors import InvalidUid
from contract.header import (
    LONG_VRS,
    Defect,
    Header,
    HeaderUnreadable,
    read_header,
    text_of,
)
from contract.uids import parse_uid

# The File Meta Information begins behind 128 bytes and "DICM".
_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_META_GROUP = 0x0002
_TRANSFER_SYNTAX_ELEMENT = 0x0010
# PS3.10 Table 7.1-1 has fewer than twenty.
_MAX_META_ELEMENTS = 100
_SHORT = struct.Struct("<HH2sH")  # tag, VR and 16-bit length
_LONG_HEADER = 12  # tag, VR, two reserved bytes and 32-bit length
_LENGTH = struct.Struct("<I")
# Longer than a UID of 64 characters with any padding.
_MAX_UID = 128


def read_file(data: memoryview) -> tuple[Header, str]:
    """The header and the transfer syntax of a Part 10 file, from its beginning.

    Raises HeaderUnreadable as :func:`read_header` does; NOT_PART10 is said of 132 bytes already.
    """
    begin = _PREAMBLE_BYTES + len(_PREFIX)
    if data[_PREAMBLE_BYTES:begin] != _PREFIX:
        raise HeaderUnreadable(Defect.NOT_PART10)
    transfer_syntax_uid, end = _file_meta(data, begin)
    return read_header(data[end:], transfer_syntax_uid), transfer_syntax_uid


def _file_meta(data: memoryview, at: int) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins; the group is always Explicit VR LE."""
    value = b""
    for _ in range(_MAX_META_ELEMENTS):
        if at + _LONG_HEADER > len(data):
            raise HeaderUnreadable(Defect.UNREADABLE_HEADER, "it ends inside the file meta")
        group, element, vr, length = _SHORT.unpack_from(data, at)
        if group != _META_GROUP:
            break
        at += _SHORT.size
        if vr in LONG_VRS:
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LONG_HEADER - _SHORT.size
        if element == _TRANSFER_SYNTAX_ELEMENT:
            value = bytes(data[at : at + min(length, _MAX_UID)])
        at += length
    try:
        return parse_uid(text_of(value)), at
    except InvalidUid:
        raise HeaderUnreadable(Defect.NO_TRANSFER_SYNTAX) from None
