"""Data sets and instances, made by hand so that the tests say what is in every byte."""

import struct

from store_scp.batches import BatchLimits
from store_scp.crc import crc64
from store_scp.instance import Content, Instance, Route

from contract.checksums import Checksum
from contract.header import Header
from contract.metadata import Sender

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xFFFFFFFF

SOP_CLASS = (0x0008, 0x0016)
SOP_INSTANCE = (0x0008, 0x0018)
STUDY_DATE = (0x0008, 0x0020)
STUDY = (0x0020, 0x000D)
SERIES = (0x0020, 0x000E)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
BY_STUDY = Route(by_study=True)

# Small enough for a test to fill.
LIMITS = BatchLimits(
    quiet_seconds=5,
    held_quiet_seconds=30,
    max_files=4,
    max_bytes=3_000,
    max_metadata_bytes=1_000_000,
    max_age_seconds=900,
    max_instance_bytes=2_500,
)

HEADER = {
    SOP_CLASS: (b"UI", b"1.2.840.10008.5.1.4.1.1.2\x00"),
    SOP_INSTANCE: (b"UI", b"1.2.3.4\x00"),
    STUDY_DATE: (b"DA", b"20240131"),
    STUDY: (b"UI", b"1.2.3\x00"),
    SERIES: (b"UI", b"1.2.3.3\x00"),
}


def element(
    tag: tuple[int, int],
    vr: bytes,
    value: bytes,
    *,
    explicit: bool = True,
    order: str = "<",
    length: int | None = None,
) -> bytes:
    """One encoded data element; ``length`` lies about the value's where it is given."""
    size = len(value) if length is None else length
    if not explicit:
        return struct.pack(order + "HHI", *tag, size) + value
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"):
        return struct.pack(order + "HH2sHI", *tag, vr, 0, size) + value
    return struct.pack(order + "HH2sH", *tag, vr, size) + value


def data_set(
    *,
    explicit: bool = True,
    order: str = "<",
    without: tuple[int, int] | None = None,
    replaced: dict[tuple[int, int], bytes] | None = None,
    pixels: bytes = b"pixels",
) -> bytes:
    """A small CT image: the header's five elements, then pixel data."""
    parts = [
        element(tag, vr, (replaced or {}).get(tag, value), explicit=explicit, order=order)
        for tag, (vr, value) in HEADER.items()
        if tag != without
    ]
    parts.append(element((0x7FE0, 0x0010), b"OW", pixels, explicit=explicit, order=order))
    return b"".join(parts)


def sender(association_id: str = "a1", calling: str = "CT1") -> Sender:
    return Sender(calling, "STORESCP", "192.0.2.7", association_id)


def instance(
    sop: str = "1.2.3.4",
    *,
    study: str = "1.2.3",
    association_id: str = "a1",
    calling: str = "CT1",
    route: Route = BY_STUDY,
) -> Instance:
    """A CT image; its bytes are another matter (``content``)."""
    header = Header(CT_IMAGE, sop, study, "1.2.3.3", "20240131")
    return Instance(header, EXPLICIT_LE, sender(association_id, calling), route)


def checksum(body: bytes) -> Checksum:
    return Checksum.crc64nvme(crc64(body))


def content(body: bytes = b"pixels") -> Content:
    """A whole object, as a sink gets it."""
    return Content(memoryview(body), checksum(body))
