"""Encoded headers, and what their reader says of them."""

import struct
import zlib

import pytest

from contract.header import Defect, Header, HeaderUnreadable, read_header
from tests.unit.store_scp.builders import (
    EXPLICIT_LE,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    STUDY,
    UNDEFINED,
    data_set,
    element,
)

EXPECTED = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.3", "1.2.3.3", "20240131")


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def read(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> Header:
    return read_header(memoryview(data), transfer_syntax)


def refusal(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> Defect:
    with pytest.raises(HeaderUnreadable) as caught:
        read(data, transfer_syntax)
    return caught.value.defect


def unreadable(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> str:
    """Why it cannot be read, in words."""
    with pytest.raises(HeaderUnreadable) as caught:
        read(data, transfer_syntax)
    assert caught.value.defect is Defect.UNREADABLE_HEADER
    return caught.value.detail


def sequence(depth: int, inner: bytes = b"") -> bytes:
    opening = element((0x0008, 0x1140), b"SQ", b"", length=UNDEFINED) + ITEM
    return opening * depth + inner + (ITEM_END + SEQUENCE_END) * depth


def with_sequence(encoded: bytes) -> bytes:
    whole = data_set()
    at = whole.index(struct.pack("<HH", *STUDY))
    return whole[:at] + encoded + whole[at:]


SHORT = element((0x0009, 0x1000), b"LO", b"")
LONG = element((0x0009, 0x1000), b"OB", b"")
EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
ELEMENT = element((0x0008, 0x1140), b"LO", b"12345678")
