"""The images that are sent: real headers, random pixels, one UID each, never all in memory.

An image is its header and a window of one block of noise, so that 16 objects of 210 MB take no
more memory here than one small one, and every process makes the same bytes from a set's name.
"""

import functools
import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

TRANSFER_SYNTAX = ExplicitVRLittleEndian

_MIB = 1024**2
_NOISE_BYTES = 64 * _MIB
# Odd, so that windows of any two images begin at different bytes.
_STRIDE = 1_048_573
# All of one length, so that an image's UID is put in its place without encoding it again; below
# 2.25 (PS3.5 B.2), where nobody owns anything.
_FIRST_UID = 2 * 10**38
_PIXEL_DATA_OW = struct.Struct("<HH2sxxI")


@dataclass(frozen=True, slots=True)
class Image:
    """One instance to send."""

    sop_class_uid: str
    sop_instance_uid: str
    header: bytes
    pixel_bytes: int
    noise_at: int

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return len(self.header) + self.pixel_bytes

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The data set, piece by piece."""
        yield self.header
        noise, at, left = _noise(), self.noise_at, self.pixel_bytes
        while left:
            piece = noise[at : at + left]
            yield piece
            left -= len(piece)
            at = 0

    def digest(self) -> str:
        """SHA-256 of the data set, as :mod:`bench.receiver.check` computes it from a file."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A kind of image, and how many of them a run sends."""

    name: str
    title: str
    sop_class_uid: str
    rows: int
    frames: int
    count: int
    # Built whole before the run, unless that would take gigabytes.
    prebuilt: bool = True

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixel data: 16 bits allocated."""
        return self.rows * self.rows * self.frames * 2

    def images(self, count: int) -> Iterator[Image]:
        """The first ``count`` images, the same ones on every machine."""
        template, placeholder = _template(self), _uid(0).encode()
        for number in range(1, count + 1):
            uid = _uid(number)
            header = template.replace(placeholder, uid.encode())
            at = number * _STRIDE % _NOISE_BYTES
            yield Image(self.sop_class_uid, uid, header, self.pixel_bytes, at)

    def digests(self, count: int) -> frozenset[str]:
        """What has to be stored, byte for byte."""
        return frozenset(image.digest() for image in self.images(count))


CT = ImageSet("ct", "CT: slices of 0.53 MB", CTImageStorage, 512, 1, 500)
SMALL = ImageSet("small", "small: files of 39 KB", CTImageStorage, 128, 1, 2_000)
LARGE = ImageSet(
    "large", "large: multi-frame objects of 210 MB", EnhancedCTImageStorage, 512, 400, 16, False
)
SETS = {each.name: each for each in (CT, SMALL, LARGE)}


def _uid(number: int) -> str:
    return f"2.25.{_FIRST_UID + number}"


@functools.cache
def _noise() -> memoryview:
    return memoryview(random.Random(500).randbytes(_NOISE_BYTES))  # noqa: S311 - test pixels


@functools.cache
def _template(image_set: ImageSet) -> bytes:
    """The encoded data set up to the pixels' first byte, with the placeholder's UID."""
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, False
    write_dataset(target, _data_set(image_set))
    pixels = _PIXEL_DATA_OW.pack(0x7FE0, 0x0010, b"OW", image_set.pixel_bytes)
    return target.getvalue() + pixels


def _data_set(image_set: ImageSet) -> Dataset:
    """A real scanner's header, private elements and all: what pydicom's own tests read."""
    data_set = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/CT_small.dcm")
    for tag in (0x7FE00010, 0xFFFCFFFC):  # pixels, and the padding after them
        del data_set[tag]
    data_set.SOPClassUID = UID(image_set.sop_class_uid)
    data_set.SOPInstanceUID = UID(_uid(0))
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = UID(_uid(-1)), UID(_uid(-2))
    data_set.Rows = data_set.Columns = image_set.rows
    if image_set.frames > 1:
        data_set.NumberOfFrames = image_set.frames
    return data_set
