"""What hostile peers send, piece by piece, given the longest PDU that the receiver takes.

Big pieces are built once and sent again and again, so that a flood costs its sender little.
"""

import functools
import itertools
import struct
from collections.abc import Iterator

from pydicom.uid import CTImageStorage

from bench.receiver.elements import element
from bench.receiver.pdus import (
    PDV_OVERHEAD,
    command_pdu,
    data_set_pdus,
    echo_request,
    store_request,
    tiny_pdvs_pdu,
)

# Of the one presentation context that is proposed.
_CONTEXT_ID = 1
_FLOOD_BYTES = 1024**2
# A PDU with one PDV of two bytes (PS3.8 9.3.5).
_TWO_BYTES_PDU = 8
_INSTANCE_UID = f"2.25.{3 * 10**38}"
_STUDY_UID, _SERIES_UID = f"2.25.{3 * 10**38 - 1}", f"2.25.{3 * 10**38 - 2}"
# As many as the receiver reads before it gives up.
LONG_ELEMENTS = 200_000
_PRIVATE_GROUPS = range(0x0009, 0x0020, 2)
# A private creator reserves so many elements.
_BLOCK = 256
_US = struct.Struct("<H")
# Pixel Data (7FE0,0010), OW, of 4 GiB less 2 bytes.
_ENDLESS_PIXELS = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", 0xFFFFFFFE)


def empty_fragments(max_pdu: int) -> Iterator[bytes]:
    """A C-STORE whose data set never gets a byte, in PDUs full of empty fragments."""
    yield _store_command()
    yield from itertools.repeat(_many(tiny_pdvs_pdu(_CONTEXT_ID, b"", max_pdu)))


def one_byte_fragments(max_pdu: int) -> Iterator[bytes]:
    """A C-STORE whose pixels have no end, in PDUs full of fragments of one byte."""
    header = _uids() + _ENDLESS_PIXELS
    yield _store_command()
    yield tiny_pdvs_pdu(_CONTEXT_ID, header, len(header) + PDV_OVERHEAD)
    yield from itertools.repeat(_many(tiny_pdvs_pdu(_CONTEXT_ID, b"\x00", max_pdu)))


def echoes(max_pdu: int) -> Iterator[bytes]:  # noqa: ARG001 - shorter than any maximum
    """C-ECHO requests, one right after the other."""
    yield from itertools.repeat(_many(command_pdu(_CONTEXT_ID, echo_request(1))))


def long_headers(max_pdu: int) -> Iterator[bytes]:
    """C-STORE after C-STORE of the long header."""
    yield from itertools.repeat(_long_message(max_pdu))


def trickle(max_pdu: int) -> Iterator[bytes]:  # noqa: ARG001 - shorter than any maximum
    """A C-STORE whose data set comes in fragments of two bytes."""
    yield _store_command()
    data_set = long_header()
    yield from data_set_pdus(_CONTEXT_ID, [data_set], len(data_set), _TWO_BYTES_PDU)


def _many(pdu: bytes) -> bytes:
    """The same PDU often enough to keep a socket busy."""
    return pdu * max(1, _FLOOD_BYTES // len(pdu))


def _store_command() -> bytes:
    return command_pdu(_CONTEXT_ID, store_request(1, CTImageStorage, _INSTANCE_UID))


@functools.cache
def _long_message(max_pdu: int) -> bytes:
    data_set = long_header()
    pdus = data_set_pdus(_CONTEXT_ID, [data_set], len(data_set), max_pdu)
    return b"".join((_store_command(), *pdus))


@functools.cache
def long_header() -> bytes:
    """A valid data set of 2 MB, explicit VR little endian, of 200,000 elements.

    Its study and series come last, after private elements of two bytes in ascending order, so
    whoever looks for them has to walk over all.
    """
    private = (each for group in _PRIVATE_GROUPS for each in _private_group(group))
    return _uids(b"".join(itertools.islice(private, LONG_ELEMENTS - 4)))


def _uids(between: bytes = b"") -> bytes:
    """SOP class and instance, what is ``between``, study and series."""
    return b"".join(
        (
            element(0x00080016, "UI", CTImageStorage.encode()),
            element(0x00080018, "UI", _INSTANCE_UID.encode()),
            between,
            element(0x0020000D, "UI", _STUDY_UID.encode()),
            element(0x0020000E, "UI", _SERIES_UID.encode()),
        )
    )


def _private_group(group: int) -> Iterator[bytes]:
    """One group's share: private creators, then the elements they reserve (PS3.5 7.8.1)."""
    count = -(-LONG_ELEMENTS // len(_PRIVATE_GROUPS))
    blocks = range(0x10, 0x10 + -(-count // _BLOCK))
    for block in blocks:
        yield element(group << 16 | block, "LO", b"BENCH")
    for number in range(count - len(blocks)):
        tag = group << 16 | blocks[number // _BLOCK] * _BLOCK + number % _BLOCK
        yield element(tag, "US", _US.pack(number))
