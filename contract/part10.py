"""The header of a DICOM data set, and of a Part 10 file: its UIDs and study date, from any bytes.

The data set itself is never decoded. The reader stops behind Series Instance UID, so that the
beginning of an object is enough; whatever follows is nobody's business here.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import ContractError, InvalidUid
from contract.uids import parse_uid

_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"

# A header has a few kilobytes; private elements and referenced images before Series Instance UID
# make it some hundred. No more of a deflated data set is ever inflated: 284 KB can hold 604 MB.
INFLATED_PREFIX_BYTES = 4 * 1024 * 1024
# Sequences in sequences; DCMTK's limit. A level takes two places on the stack: sequence and item.
MAX_NESTING = 64
# Bounds the time one header takes to about a third of a second.
MAX_ELEMENTS = 200_000

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_ITEM_GROUP = 0xFFFE

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_STUDY_DATE = 0x00080020
_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E
_WANTED = frozenset(
    {_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_DATE, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID}
)
# Longer than a UID of 64 characters with any padding.
_MAX_VALUE = 128

# PS3.5 Table 7.1-1: VRs with a 32-bit length after two reserved bytes.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VRS = _LONG_VRS | _SHORT_VRS
_SHORT_HEADER = 8  # tag, VR and 16-bit length
_LONG_HEADER = 12
# By byte order: a tag; a short element's header; a 16-bit and a 32-bit length.
_UNPACK = {
    order: tuple(struct.Struct(order + form).unpack_from for form in ("HH", "HH2sH", "H", "I"))
    for order in "<>"
}
_DATE = re.compile(r"[0-9]{8}", re.ASCII)

# PS3.10 7.1: the File Meta Information begins behind 128 bytes and "DICM".
_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_META_GROUP = 0x0002
_TRANSFER_SYNTAX_ELEMENT = 0x0010
# PS3.10 Table 7.1-1 has fewer than twenty.
_MAX_META_ELEMENTS = 100


class Defect(StrEnum):
    """Why a header cannot be used; the value is also a quarantine's name."""

    NOT_PART10 = "not-part10"
    NO_TRANSFER_SYNTAX = "no-transfer-syntax"
    UNREADABLE_HEADER = "unreadable-header"
    NO_SOP_CLASS_UID = "no-sop-class-uid"
    NO_SOP_INSTANCE_UID = "no-sop-instance-uid"
    NO_STUDY_INSTANCE_UID = "no-study-instance-uid"
    NO_SERIES_INSTANCE_UID = "no-series-instance-uid"
    HEADER_TOO_COMPLEX = "header-too-complex"
    CANNOT_INFLATE = "cannot-inflate"


class HeaderUnreadable(ContractError):
    """A header cannot be used; ``detail`` says more, in our own words."""

    def __init__(self, defect: Defect, detail: str = "") -> None:
        super().__init__(f"{defect} ({detail})" if detail else str(defect))
        self.defect = defect
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Header:
    """What there is to know of a data set; ``study_date`` only where it is YYYYMMDD."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    study_date: str | None


def read_header(data_set: memoryview, transfer_syntax_uid: str) -> Header:
    """The header of a data set in its transfer syntax.

    Raises HeaderUnreadable for any other bytes, and for a beginning that ends before the header.
    """
    if transfer_syntax_uid == _DEFLATED:
        data_set = _inflated_prefix(data_set)
    found = _Reader(data_set, transfer_syntax_uid).wanted()
    return Header(
        sop_class_uid=_uid(found, _SOP_CLASS_UID, Defect.NO_SOP_CLASS_UID),
        sop_instance_uid=_uid(found, _SOP_INSTANCE_UID, Defect.NO_SOP_INSTANCE_UID),
        study_instance_uid=_uid(found, _STUDY_INSTANCE_UID, Defect.NO_STUDY_INSTANCE_UID),
        series_instance_uid=_uid(found, _SERIES_INSTANCE_UID, Defect.NO_SERIES_INSTANCE_UID),
        study_date=_date(found.get(_STUDY_DATE, b"")),
    )


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
    _, short, _, length32 = _UNPACK["<"]
    value = b""
    for _ in range(_MAX_META_ELEMENTS):
        if at + _LONG_HEADER > len(data):
            raise _unreadable("it ends inside the file meta")
        group, element, vr, length = short(data, at)
        if group != _META_GROUP:
            break
        at += _SHORT_HEADER
        if vr in _LONG_VRS:
            (length,) = length32(data, at)
            at += _LONG_HEADER - _SHORT_HEADER
        if element == _TRANSFER_SYNTAX_ELEMENT:
            value = bytes(data[at : at + min(length, _MAX_VALUE)])
        at += length
    try:
        return parse_uid(_text(value)), at
    except InvalidUid:
        raise HeaderUnreadable(Defect.NO_TRANSFER_SYNTAX) from None


def _inflated_prefix(data_set: memoryview) -> memoryview:
    """At most INFLATED_PREFIX_BYTES of a raw deflate stream (PS3.5 A.5)."""
    # Deflated data is at worst a little longer than what it holds, so a slice is enough; the
    # inflater would keep a copy of all it is given and does not use.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return memoryview(
            inflater.decompress(data_set[: 2 * INFLATED_PREFIX_BYTES], INFLATED_PREFIX_BYTES)
        )
    except zlib.error:
        raise HeaderUnreadable(Defect.CANNOT_INFLATE) from None


def _text(value: bytes) -> str:
    return value.rstrip(b"\x00 ").decode("ascii", "replace")


def _uid(found: dict[int, bytes], tag: int, missing: Defect) -> str:
    try:
        return parse_uid(_text(found.get(tag, b"")))
    except InvalidUid as error:
        raise HeaderUnreadable(missing, str(error)) from None


def _date(value: bytes) -> str | None:
    text = _text(value)
    return text if _DATE.fullmatch(text) else None


class _Reader:
    """Walks a data set's elements, without recursion and without touching values it steps over."""

    def __init__(self, data: memoryview, transfer_syntax_uid: str) -> None:
        self._data = data
        self._at = 0
        self._elements = 0
        # The first element tells explicit from implicit: a VR, or the low bytes of a length that
        # would be absurd if they were letters. The transfer syntax cannot: private ones are of
        # either kind, and there are senders whose data is not what their transfer syntax says.
        self._explicit = bytes(data[4:6]) in _VRS
        order = ">" if transfer_syntax_uid == _EXPLICIT_BIG else "<"
        self._tag, self._short, self._length16, self._length32 = _UNPACK[order]

    def wanted(self) -> dict[int, bytes]:
        """The elements of _WANTED, up to Series Instance UID or else the first tag behind it."""
        found: dict[int, bytes] = {}
        while self._at < len(self._data):
            if self._explicit:
                self._skip_short()
            if self._at >= len(self._data):
                break
            tag, vr, length = self._element()
            if tag > _SERIES_INSTANCE_UID:
                break
            if tag in found:  # which of the two a later reader believes, nobody knows
                raise _unreadable("an element is there twice")
            if length == _UNDEFINED:
                self._skip_undefined(implicit=vr == b"UN")
            elif tag in _WANTED:
                found[tag] = self._value(length)
                if tag == _SERIES_INSTANCE_UID:
                    break
            else:
                self._skip(length)
        return found

    def _skip_short(self) -> None:
        """Step over elements with a 16-bit length that nobody wants: most of a header, and so the
        one loop here that is written for speed."""
        data, at, end = self._data, self._at, len(self._data) - _SHORT_HEADER
        unpack, began = self._short, self._elements
        count = 0
        while at <= end and began + count < MAX_ELEMENTS:
            group, element, vr, length = unpack(data, at)
            tag = group << 16 | element
            if vr not in _SHORT_VRS or tag in _WANTED or tag > _SERIES_INSTANCE_UID:
                break
            count += 1
            at += _SHORT_HEADER + length
        self._at, self._elements = at, began + count
        if at > len(data):
            raise _unreadable("it ends inside a value")

    def _element(self) -> tuple[int, bytes, int]:
        """The next element's tag, VR (empty if implicit) and length; stands at its value then."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise HeaderUnreadable(Defect.HEADER_TOO_COMPLEX, "too many elements")
        try:
            group, element = self._tag(self._data, self._at)
            if not self._explicit or group == _ITEM_GROUP:
                vr, length, size = b"", self._length32(self._data, self._at + 4)[0], 8
            else:
                vr, length, size = self._explicit_length()
        except struct.error:
            raise _unreadable("it ends inside an element") from None
        self._at += size
        return group << 16 | element, vr, length

    def _explicit_length(self) -> tuple[bytes, int, int]:
        vr = bytes(self._data[self._at + 4 : self._at + 6])
        if vr in _LONG_VRS:
            return vr, self._length32(self._data, self._at + 8)[0], 12
        return vr, self._length16(self._data, self._at + 6)[0], 8

    def _value(self, length: int) -> bytes:
        if length > _MAX_VALUE:
            raise _unreadable("a UID or date is far too long")
        start = self._at
        self._skip(length)
        return bytes(self._data[start : self._at])

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise _unreadable("it ends inside a value")

    def _skip_undefined(self, implicit: bool) -> None:
        """Step over a value of undefined length, standing at its first item.

        ``implicit``: a sequence written as UN holds Implicit VR, whatever is around it (PS3.5
        6.2.2).
        """
        # What closes each open level, and whether to go on in explicit VR then.
        open_levels = [(_SEQUENCE_END, self._explicit)]
        self._explicit = self._explicit and not implicit
        while open_levels:
            tag, vr, length = self._element()
            end, explicit_after = open_levels[-1]
            if tag == end:
                open_levels.pop()
                self._explicit = explicit_after
            # PS3.5 7.5: a sequence has items and nothing else; an item has neither items nor the
            # end of a sequence. Its own end is met above.
            elif (tag == _ITEM) != (end == _SEQUENCE_END) or tag == _SEQUENCE_END:
                raise _unreadable("items and sequences do not close")
            elif length != _UNDEFINED:
                self._skip(length)
            else:
                open_levels.append((_ITEM_END if tag == _ITEM else _SEQUENCE_END, self._explicit))
                self._explicit = self._explicit and vr != b"UN"
                if len(open_levels) > 2 * MAX_NESTING:
                    raise HeaderUnreadable(Defect.HEADER_TOO_COMPLEX, "nested too deep")


def _unreadable(why: str) -> HeaderUnreadable:
    return HeaderUnreadable(Defect.UNREADABLE_HEADER, why)
