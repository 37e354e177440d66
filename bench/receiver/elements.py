"""Data elements in explicit VR little endian (PS3.5 7.1.2, 7.5)."""

import struct
from collections.abc import Iterable

_LONG_VRS = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)
_BINARY_PADDED = frozenset(("UI", "OB", "UN"))
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sxxI")
_ITEM = struct.Struct("<HHI")
_UNDEFINED = 0xFFFFFFFF
_ITEM_END = _ITEM.pack(0xFFFE, 0xE00D, 0)
_SEQUENCE_END = _ITEM.pack(0xFFFE, 0xE0DD, 0)


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element; a value of odd length is padded as its VR wants it."""
    if len(value) % 2:
        value += b"\0" if vr in _BINARY_PADDED else b" "
    return head(tag, vr, len(value)) + value


def item(encoded: bytes, *, undefined: bool) -> bytes:
    """An item around its data set's bytes, delimited or with its length."""
    if undefined:
        return _ITEM.pack(0xFFFE, 0xE000, _UNDEFINED) + encoded + _ITEM_END
    return _ITEM.pack(0xFFFE, 0xE000, len(encoded)) + encoded


def sequence(tag: int, items: Iterable[bytes], *, undefined: bool) -> bytes:
    """A sequence of encoded items, delimited or with its length."""
    encoded = b"".join(items)
    if undefined:
        return head(tag, "SQ", _UNDEFINED) + encoded + _SEQUENCE_END
    return head(tag, "SQ", len(encoded)) + encoded


def head(tag: int, vr: str, length: int) -> bytes:
    """What stands before a value of ``length`` bytes."""
    form = _LONG if vr in _LONG_VRS else _SHORT
    return form.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)
