"""The images that are sent: real layouts, random pixels, one UID each, never all in memory.

An image is its header and a window of one block of noise, so that 16 objects of 210 MB take no
more memory here than one small one, and every process makes the same bytes from a set's name.
"""

import functools
import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from bench.receiver.elements import head
from bench.receiver.layouts import LAYOUTS, VARIANTS, Header, Layout, header

TRANSFER_SYNTAX = ExplicitVRLittleEndian

_MIB = 1024**2
_NOISE_BYTES = 64 * _MIB
# Odd, so that windows of any two images begin at different bytes.
_STRIDE = 1_048_573
_PIXEL_DATA, _ROWS, _COLUMNS, _NUMBER_OF_FRAMES = 0x7FE00010, 0x00280010, 0x00280011, 0x00280008
# Layouts of a set whose images are all one.
_ONE = LAYOUTS[:1]
# Of a mixed set: about the header of the others, so that the sizes are theirs as well.
_HEADER_BYTES = 6_000


@dataclass(frozen=True, slots=True)
class Image:
    """One instance to send."""

    sop_class_uid: str
    sop_instance_uid: str
    header: bytes
    pixel_bytes: int
    noise_at: int
    # Of the presentation context it goes through.
    context_id: int = 1

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
    """A kind of image, and how many of them a run sends.

    With several layouts each image has another one than the image before; lengths of texts and UIDs
    vary, and pixels fill up what makes all messages of the set equally long.
    """

    name: str
    title: str
    rows: int
    frames: int
    count: int
    # Built whole before the run, unless that would take gigabytes.
    prebuilt: bool = True
    layouts: tuple[Layout, ...] = _ONE

    @property
    def sop_class_uids(self) -> tuple[str, ...]:
        """Each once, in the order of their presentation contexts: 1, 3, 5, ..."""
        return tuple(dict.fromkeys(each.sop_class_uid for each in self.layouts))

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixel data, 16 bits allocated; about that many in a mixed set."""
        return self.rows * self.rows * self.frames * 2

    def images(self, count: int) -> Iterator[Image]:
        """The first ``count`` images, the same ones on every machine."""
        templates = _templates(self)
        for number in range(1, count + 1):
            template = templates[number % len(templates)]
            yield template.image(number)

    def digests(self, count: int) -> frozenset[str]:
        """What has to be stored, byte for byte."""
        return frozenset(image.digest() for image in self.images(count))


CT = ImageSet("ct", "CT: slices of 0.53 MB", 512, 1, 500)
SMALL = ImageSet("small", "small: files of 39 KB", 128, 1, 2_000)
MIXED = replace(
    CT,
    name="mixed",
    title="mixed: images of 0.53 MB, no two in a row of one layout",
    layouts=LAYOUTS,
)
SMALL_MIXED = replace(
    SMALL,
    name="small-mixed",
    title="small-mixed: files of 39 KB, no two in a row of one layout",
    layouts=LAYOUTS,
)
LARGE = ImageSet(
    "large",
    "large: multi-frame objects of 210 MB",
    512,
    400,
    16,
    prebuilt=False,
    layouts=tuple(replace(each, sop_class_uid=EnhancedCTImageStorage) for each in _ONE),
)
SETS = {each.name: each for each in (MIXED, SMALL_MIXED, CT, SMALL, LARGE)}


@functools.cache
def _noise() -> memoryview:
    return memoryview(random.Random(500).randbytes(_NOISE_BYTES))  # noqa: S311 - test pixels


@dataclass(frozen=True, slots=True)
class _Template:
    """An encoded header up to the pixels' first byte, whose UID is exchanged for each image."""

    header: Header
    pixel_bytes: int
    context_id: int

    def image(self, number: int) -> Image:
        placeholder = self.header.sop_instance_uid
        uid = _uid(number, len(placeholder))
        return Image(
            self.header.sop_class_uid,
            uid,
            self.header.encoded.replace(placeholder.encode(), uid.encode()),
            self.pixel_bytes,
            number * _STRIDE % _NOISE_BYTES,
            self.context_id,
        )


def _uid(number: int, size: int) -> str:
    """As long as the placeholder, so that nothing has to be encoded again.

    Below 2.25 (PS3.5 B.2), where nobody owns anything.
    """
    return f"2.25.{2 * 10 ** (size - 6) + number}"


@functools.cache
def _templates(image_set: ImageSet) -> tuple[_Template, ...]:
    """Of a mixed set all variants of all layouts, neighbours never of one layout."""
    variants = range(VARIANTS if len(image_set.layouts) > 1 else 1)
    return tuple(
        _template(image_set, layout, variant)
        for variant in variants
        for layout in image_set.layouts
    )


def _template(image_set: ImageSet, layout: Layout, variant: int) -> _Template:
    size = struct.pack("<H", image_set.rows)
    fixed = {_ROWS: ("US", size), _COLUMNS: ("US", size)}
    if image_set.frames > 1:
        fixed[_NUMBER_OF_FRAMES] = ("IS", str(image_set.frames).encode())
    made = header(layout, variant, fixed)
    pixel_bytes = image_set.pixel_bytes
    if len(image_set.layouts) > 1:
        # The request has the same two UIDs as the data set, and they are not equally long.
        uids = sum(len(uid) + len(uid) % 2 for uid in (made.sop_class_uid, made.sop_instance_uid))
        pixel_bytes += _HEADER_BYTES - len(made.encoded) - uids
    encoded = made.encoded + head(_PIXEL_DATA, "OW", pixel_bytes)
    context_id = 1 + 2 * image_set.sop_class_uids.index(layout.sop_class_uid)
    return _Template(replace(made, encoded=encoded), pixel_bytes, context_id)
