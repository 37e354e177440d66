"""The header of a DICOM data set: its UIDs and study date, from any bytes.

The data set itself is never decoded. The reader stops behind Series Instance UID, so that the
beginning of an object is enough; whatever follows is nobody's business here.
"""

import re
import struct
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import ContractError, InvalidUid
from contract.inflated import CannotInflate, InflatedPrefix
from contract.uids import parse_uid

_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"

# Sequences in sequences; DCMTK's limit. A level takes two places on the stack: sequence and item.
MAX_NESTING = 64
# Bounds the time one header takes to about a third of a second. Real headers with thousands of
# referenced images have some ten thousand.
MAX_ELEMENTS = 200_000
# A step of inflating may take a millisecond, and counts as so many.
_STEP_ELEMENTS = 1_000

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_ITEM_GROUP = 0xFFFE
_ITEM_TAGS = _ITEM_GROUP << 16
# Groups below are those of command sets, file meta information and directories, or of nothing
# (PS3.5 7.1 and 7.8.1). A file whose data set begins with one has two file metas for its readers.
_FIRST_TAG = 0x00080000

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
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VRS = LONG_VRS | _SHORT_VRS
_SHORT_HEADER = 8  # tag, VR and 16-bit length; in implicit VR, tag and 32-bit length
_LONG_HEADER = 12
# By byte order: a tag; a short element's header; a 16-bit and a 32-bit length.
_UNPACK = {
    order: tuple(struct.Struct(order + form).unpack_from for form in ("HH", "HH2sH", "H", "I"))
    for order in "<>"
}
_DATE = re.compile(r"[0-9]{8}", re.ASCII)


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


class HeaderIncomplete(HeaderUnreadable):
    """The bytes end before the header does; with more of them it may be readable."""


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
    reader = HeaderReader(transfer_syntax_uid)
    while (header := reader.read(data_set, MAX_ELEMENTS)) is None:
        pass
    return header


def text_of(value: bytes) -> str:
    """A text value without its padding; what is no ASCII in it is replaced."""
    return value.rstrip(b"\x00 ").decode("ascii", "replace")


def _uid(found: dict[int, bytes], tag: int, missing: Defect) -> str:
    if tag not in found:
        raise HeaderUnreadable(missing, "the element is missing")
    try:
        return parse_uid(text_of(found[tag]))
    except InvalidUid as error:
        raise HeaderUnreadable(missing, str(error)) from None


def _date(value: bytes) -> str | None:
    text = text_of(value)
    return text if _DATE.fullmatch(text) else None


def _grown(inflated: InflatedPrefix, deflated: memoryview) -> bool:
    """Inflate some more; whether that was possible."""
    try:
        return inflated.grow(deflated)
    except CannotInflate as error:
        raise HeaderUnreadable(Defect.CANNOT_INFLATE, str(error)) from None


class HeaderReader:
    """Reads the header of one data set as it arrives, so many elements at a time.

    Walks the elements without recursion, and does not touch values it steps over.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._inflated = InflatedPrefix() if transfer_syntax_uid == _DEFLATED else None
        order = ">" if transfer_syntax_uid == _EXPLICIT_BIG else "<"
        self._tag, self._short, self._length16, self._length32 = _UNPACK[order]
        self._explicit = False
        self._begun = False
        self._data = memoryview(b"")
        self._at = 0
        self._elements = 0
        self._pause_at = 0
        self._found: dict[int, bytes] = {}
        self._last_tag = _FIRST_TAG
        # What closes each open level of undefined length, and whether to go on in explicit VR then.
        self._levels: list[tuple[int, bool]] = []

    def read(self, data_set: memoryview, most: int) -> Header | None:
        """The header; None after ``most`` elements, where the same call has more to do.

        ``data_set`` begins as it did in the call before, and may have become longer. Raises
        HeaderIncomplete if it ends too early, and HeaderUnreadable, which ends the reading.
        """
        self._pause_at = self._elements + most
        if self._inflated is None:
            self._data = data_set
            return self._read()
        while True:
            self._data = self._inflated.data
            try:
                return self._read()
            except HeaderIncomplete:
                if not _grown(self._inflated, data_set):
                    raise
            self._pause_at -= _STEP_ELEMENTS
            if self._elements >= self._pause_at:
                return None

    def _read(self) -> Header | None:
        try:
            if not self._walk():
                return None
        except HeaderIncomplete:
            if self._last_tag <= _SERIES_INSTANCE_UID:
                raise
        try:
            return self._header()
        except HeaderUnreadable as missing:
            if _SERIES_INSTANCE_UID in self._found:
                raise
            raise HeaderIncomplete(missing.defect, missing.detail) from None

    def _walk(self) -> bool:
        """Up to Series Instance UID or to the end of what is there; False if it takes a pause.

        Behind the place of Series Instance UID it is looked for as well: tags may be out of order.
        """
        while self._at < len(self._data):
            if self._elements >= self._pause_at:
                return False
            if self._levels:
                self._skip_levels()
            else:
                self._read_element()
                if _SERIES_INSTANCE_UID in self._found:
                    return True
        if self._at > len(self._data) or self._levels:
            raise HeaderIncomplete(Defect.UNREADABLE_HEADER, "it ends inside a value")
        return True

    def _header(self) -> Header:
        found = self._found
        return Header(
            sop_class_uid=_uid(found, _SOP_CLASS_UID, Defect.NO_SOP_CLASS_UID),
            sop_instance_uid=_uid(found, _SOP_INSTANCE_UID, Defect.NO_SOP_INSTANCE_UID),
            study_instance_uid=_uid(found, _STUDY_INSTANCE_UID, Defect.NO_STUDY_INSTANCE_UID),
            series_instance_uid=_uid(found, _SERIES_INSTANCE_UID, Defect.NO_SERIES_INSTANCE_UID),
            study_date=_date(found.get(_STUDY_DATE, b"")),
        )

    def _read_element(self) -> None:
        """Take the next element of the data set itself, and before it those that nobody wants."""
        if not self._begun:
            self._begin()
        if self._explicit:
            self._skip_short()
            if self._at >= len(self._data) or self._elements >= self._pause_at:
                return
        begin = self._at
        tag, vr, length = self._element()
        self._check_place(tag)
        self._last_tag = tag
        if length == _UNDEFINED:
            self._open_level(_SEQUENCE_END, vr)
        elif tag not in _WANTED:
            self._at += length
        elif length > _MAX_VALUE:
            raise _unreadable("a UID or date is far too long")
        elif self._at + length > len(self._data):
            self._at = begin
            self._elements -= 1
            raise HeaderIncomplete(Defect.UNREADABLE_HEADER, "it ends inside a value")
        else:
            self._found[tag] = bytes(self._data[self._at : self._at + length])
            self._at += length

    def _begin(self) -> None:
        """The first element tells explicit from implicit: a VR, or the low bytes of a length that
        would be absurd if they were letters. The transfer syntax cannot: private ones are of
        either kind, and there are senders whose data is not what their transfer syntax says."""
        if len(self._data) < _SHORT_HEADER:
            raise HeaderIncomplete(Defect.UNREADABLE_HEADER, "it ends inside an element")
        self._explicit = bytes(self._data[4:6]) in _VRS
        self._begun = True

    def _check_place(self, tag: int) -> None:
        """Tags ascend (PS3.5 7.1), and items stand in sequences."""
        if tag < _FIRST_TAG:
            raise _unreadable(f"a data set has no group {tag >> 16:04X}")
        if tag >> 16 == _ITEM_GROUP:
            raise _unreadable("a stray item")
        if tag < self._last_tag:
            raise _unreadable("tags out of order")
        if tag in self._found:  # which of the two a later reader believes, nobody knows
            raise _unreadable("an element is there twice")

    def _skip_short(self) -> None:
        """Step over elements with a 16-bit length that nobody wants: most of a header, and so the
        one loop here that is written for speed."""
        data, at, end = self._data, self._at, len(self._data) - _SHORT_HEADER
        unpack, count, last = self._short, self._elements, self._last_tag
        most = min(MAX_ELEMENTS, self._pause_at)
        while at <= end and count < most:
            group, element, vr, length = unpack(data, at)
            tag = group << 16 | element
            if tag < last or vr not in _SHORT_VRS or tag in _WANTED:
                break
            count += 1
            at += _SHORT_HEADER + length
            last = tag
        self._at, self._elements, self._last_tag = at, count, last
        if last >= _ITEM_TAGS:  # an item whose length reads like a VR
            raise _unreadable("a stray item")

    def _element(self) -> tuple[int, bytes, int]:
        """The next element's tag, VR (empty if implicit) and length; stands at its value then."""
        if self._elements >= MAX_ELEMENTS:
            raise HeaderUnreadable(Defect.HEADER_TOO_COMPLEX, "too many elements")
        try:
            group, element = self._tag(self._data, self._at)
            if not self._explicit or group == _ITEM_GROUP:
                vr, length, size = b"", self._length32(self._data, self._at + 4)[0], _SHORT_HEADER
            else:
                vr, length, size = self._explicit_length()
        except struct.error:
            raise HeaderIncomplete(Defect.UNREADABLE_HEADER, "it ends inside an element") from None
        self._elements += 1
        self._at += size
        return group << 16 | element, vr, length

    def _explicit_length(self) -> tuple[bytes, int, int]:
        vr = bytes(self._data[self._at + 4 : self._at + 6])
        if vr in LONG_VRS:
            return vr, self._length32(self._data, self._at + 8)[0], _LONG_HEADER
        return vr, self._length16(self._data, self._at + 6)[0], _SHORT_HEADER

    def _skip_levels(self) -> None:
        """Step over the open sequences and items of undefined length, as far as they are there."""
        levels = self._levels
        while levels and self._at < len(self._data) and self._elements < self._pause_at:
            tag, vr, length = self._element()
            end, explicit_after = levels[-1]
            if tag == end:
                levels.pop()
                self._explicit = explicit_after
            # PS3.5 7.5: a sequence has items and nothing else; an item has neither items nor the
            # end of a sequence. Its own end is met above.
            elif (tag == _ITEM) != (end == _SEQUENCE_END) or tag == _SEQUENCE_END:
                raise _unreadable("items and sequences do not close")
            elif length != _UNDEFINED:
                self._at += length
            else:
                self._open_level(_ITEM_END if tag == _ITEM else _SEQUENCE_END, vr)

    def _open_level(self, end: int, vr: bytes) -> None:
        if len(self._levels) == 2 * MAX_NESTING:
            raise HeaderUnreadable(Defect.HEADER_TOO_COMPLEX, "nested too deep")
        self._levels.append((end, self._explicit))
        # A sequence written as UN holds Implicit VR, whatever is around it (PS3.5 6.2.2).
        self._explicit = self._explicit and vr != b"UN"


def _unreadable(why: str) -> HeaderUnreadable:
    return HeaderUnreadable(Defect.UNREADABLE_HEADER, why)
