"""DICOM Part 10 around a received data set: the file meta before it, and the header's UIDs in it.

The data set itself is never decoded and never changed. The reader stops behind Series Instance UID;
whatever follows is kept as it came.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from contract.errors import InvalidUid
from contract.uids import parse_uid
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused

# Ours, from a random UUID (PS3.5 B.2), and written into every file. Neither it nor the version name
# changes with a release, and the source AE title is not written at all: equal data sets must give
# equal objects, because an object's checksum is how a repeated instance is recognized.
IMPLEMENTATION_CLASS_UID = "2.25.230188659575322100472755726510069056703"
IMPLEMENTATION_VERSION_NAME = "HI_STORE_SCP"

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
_VRS = _LONG_VRS | frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_DATE = re.compile(r"[0-9]{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Header:
    """What the receiver needs to know of a data set; ``study_date`` only where it is YYYYMMDD."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    study_date: str | None


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1) for a data set to follow."""
    group = b"".join(
        (
            struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
            _short(0x0002, b"UI", _padded(sop_class_uid, b"\x00")),
            _short(0x0003, b"UI", _padded(sop_instance_uid, b"\x00")),
            _short(0x0010, b"UI", _padded(transfer_syntax_uid, b"\x00")),
            _short(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID, b"\x00")),
            _short(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
        )
    )
    return bytes(128) + b"DICM" + _short(0x0000, b"UL", struct.pack("<I", len(group))) + group


def read_header(data_set: memoryview, transfer_syntax_uid: str) -> Header:
    """The header of a data set in its transfer syntax; raises StoreRefused for any other bytes."""
    if transfer_syntax_uid == _DEFLATED:
        data_set = _inflated_prefix(data_set)
    found = dict(_Reader(data_set, transfer_syntax_uid).wanted())
    return Header(
        sop_class_uid=_uid(found, _SOP_CLASS_UID, Status.NO_SOP_CLASS_UID),
        sop_instance_uid=_uid(found, _SOP_INSTANCE_UID, Status.NO_SOP_INSTANCE_UID),
        study_instance_uid=_uid(found, _STUDY_INSTANCE_UID, Status.NO_STUDY_INSTANCE_UID),
        series_instance_uid=_uid(found, _SERIES_INSTANCE_UID, Status.NO_SERIES_INSTANCE_UID),
        study_date=_date(found.get(_STUDY_DATE, b"")),
    )


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    return value + padding if len(value) % 2 else value


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
        raise StoreRefused(Status.CANNOT_INFLATE) from None


def _text(value: bytes) -> str:
    return value.rstrip(b"\x00 ").decode("ascii", "replace")


def _uid(found: dict[int, bytes], tag: int, missing: Status) -> str:
    try:
        return parse_uid(_text(found.get(tag, b"")))
    except InvalidUid as error:
        raise StoreRefused(missing, str(error)) from None


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
        self._tag = struct.Struct(order + "HH").unpack_from
        self._length16 = struct.Struct(order + "H").unpack_from
        self._length32 = struct.Struct(order + "I").unpack_from

    def wanted(self) -> Iterator[tuple[int, bytes]]:
        """The elements of _WANTED, up to Series Instance UID or else the first tag behind it."""
        seen = set()
        while self._at < len(self._data):
            tag, vr, length = self._element()
            if tag > _SERIES_INSTANCE_UID:
                return
            if tag in seen:  # which of the two a later reader believes, nobody knows
                raise _unreadable("an element is there twice")
            if length == _UNDEFINED:
                self._skip_undefined(implicit=vr == b"UN")
            elif tag in _WANTED:
                seen.add(tag)
                yield tag, self._value(length)
                if tag == _SERIES_INSTANCE_UID:
                    return
            else:
                self._skip(length)

    def _element(self) -> tuple[int, bytes, int]:
        """The next element's tag, VR (empty if implicit) and length; stands at its value then."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise StoreRefused(Status.HEADER_TOO_COMPLEX, "too many elements")
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
            elif (tag == _ITEM) != (end == _SEQUENCE_END) or tag in (_ITEM_END, _SEQUENCE_END):
                raise _unreadable("items and sequences do not close")
            elif length != _UNDEFINED:
                self._skip(length)
            else:
                open_levels.append((_ITEM_END if tag == _ITEM else _SEQUENCE_END, self._explicit))
                self._explicit = self._explicit and vr != b"UN"
                if len(open_levels) > 2 * MAX_NESTING:
                    raise StoreRefused(Status.HEADER_TOO_COMPLEX, "nested too deep")


def _unreadable(why: str) -> StoreRefused:
    return StoreRefused(Status.UNREADABLE_HEADER, why)
