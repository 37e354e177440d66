"""Pixel data as it is stored: what is wrong with it at a glance, and its frames.

Nothing is decoded. A frame is the bytes between two frame boundaries in the transfer syntax the
file came in; the service itself would transcode most of them to HTJ2K.
https://docs.aws.amazon.com/healthimaging/latest/devguide/supported-transfer-syntaxes.html
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from local.healthimaging.file_warnings import FileWarning

PIXEL_DATA = 0x7FE00010
_ITEM = 0xFFFEE000
_SEQUENCE_DELIMITER = 0xFFFEE0DD
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Explicit VRs whose header has two reserved bytes and a length of four (PS3.5 7.1.2).
_LONG_VRS = frozenset({b"OB", b"OW", b"UN"})


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the value of Pixel Data stands in a file, and the length its header declares."""

    offset: int
    length: int


def pixel_element(data: bytes, offset: int, syntax: UID) -> PixelElement | None:
    """The Pixel Data whose header stands at ``offset``; None if something else stands there."""
    order = "<" if syntax.is_little_endian else ">"
    try:
        group, element = struct.unpack_from(f"{order}HH", data, offset)
        if group << 16 | element != PIXEL_DATA:
            return None
        is_long = not syntax.is_implicit_VR and data[offset + 4 : offset + 6] in _LONG_VRS
        at = offset + (8 if is_long else 4)
        (length,) = struct.unpack_from(f"{order}I", data, at)
    except struct.error:
        return None
    return PixelElement(at + 4, length)


def pixel_warning(header: Dataset, data: bytes, element: PixelElement) -> FileWarning | None:
    """What the length, the items and the offset table of Pixel Data tell without decoding."""
    if element.length == _UNDEFINED_LENGTH:
        return _encapsulated_warning(frame_count(header), data, element.offset)
    if element.offset + element.length > len(data):
        return FileWarning.FRAMES_EXTRACTION_FAILURE
    expected = _native_length(header)
    if expected is None:
        return FileWarning.FRAMES_EXTRACTION_FAILURE
    return FileWarning.FRAME_NUMBER_MISMATCH if element.length < expected else None


def frame_count(header: Dataset) -> int:
    """Number of Frames (0028,0008), 1 where it is absent or no positive number."""
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        return 1


def frames(dataset: Dataset) -> list[bytes]:
    """The frames of a whole data set; pixel data that cannot be cut is one frame, as it stands."""
    if "PixelData" not in dataset:
        return []
    value: bytes = dataset.PixelData
    count = frame_count(dataset)
    if dataset["PixelData"].is_undefined_length:
        try:
            return list(generate_frames(value, number_of_frames=count))
        except (ValueError, EOFError, struct.error):
            return [value]
    expected = _native_length(dataset)
    if expected is None or expected % count or len(value) < expected:
        return [value]
    size = expected // count
    return [value[start : start + size] for start in range(0, expected, size)] if size else [value]


def _native_length(header: Dataset) -> int | None:
    """How long uncompressed pixel data of this image is; None if the header does not say."""
    try:
        return int(get_expected_length(header, unit="bytes"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _encapsulated_warning(count: int, data: bytes, offset: int) -> FileWarning | None:
    try:
        (table_start, table_length), *fragments = _items(data, offset)
    except (struct.error, ValueError):
        return FileWarning.FRAMES_EXTRACTION_FAILURE
    if not fragments:
        return FileWarning.FRAMES_EXTRACTION_FAILURE
    if not table_length:
        return FileWarning.FRAME_NUMBER_MISMATCH if len(fragments) < count else None
    # Offsets count from the first fragment's item tag, eight bytes before its value (PS3.5 A.4).
    starts = {start - fragments[0][0] for start, _ in fragments}
    offsets = struct.unpack_from(f"<{table_length // 4}I", data, table_start)
    if offsets[:1] != (0,) or not starts.issuperset(offsets) or list(offsets) != sorted(offsets):
        return FileWarning.INVALID_OFFSET_TABLE
    return FileWarning.FRAME_NUMBER_MISMATCH if len(offsets) != count else None


def _items(data: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Start and length of every item's value up to the sequence delimiter; raises if it is cut."""
    while True:
        group, element, length = struct.unpack_from("<HHI", data, offset)
        tag, offset = group << 16 | element, offset + 8
        if tag == _SEQUENCE_DELIMITER:
            return
        if tag != _ITEM or offset + length > len(data):
            raise ValueError("the pixel data's items are cut")
        yield offset, length
        offset += length
