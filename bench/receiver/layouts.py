"""Headers laid out as real ones: tags, VRs, lengths and nesting of public files, values made up.

The files are those that pydicom and pydicom-data bring for their tests. Nothing that such a file
says comes with its layout: every text, number, date and UID is another one. Each layout has
variants whose texts and UIDs have other lengths, so that no offset is the same in two images in a
row.
"""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import data_store  # type: ignore[import-untyped]
import pydicom
from pydicom.dataset import Dataset

from bench.receiver.elements import element, item, sequence

VARIANTS = 4

_PYDICOM = Path(pydicom.__file__).parent / "data"
_PYDICOM_DATA = Path(str(data_store.__file__)).parent / "data"

# What every header has, whatever its layout: a VR and a value by tag.
Fixed = Mapping[int, tuple[str, bytes]]

_SPECIFIC_CHARACTER_SET, _PATIENT_ID = 0x00080005, 0x00100020
_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00080016, 0x00080018
_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
_IMAGE_PIXEL_GROUP = 0x0028
_PIXEL_GROUP = 0x7FE0
_PER_FRAME = 0x52009230
# Overlays and the like are pixels, not header.
_BULK_BYTES = 16_384

# Longest values of PS3.5 Table 6.2-1 whose length may vary.
_VARYING = {"SH": 16, "CS": 16, "LO": 64, "PN": 64, "UC": 1024, "ST": 1024, "LT": 1024, "UT": 1024}
# How many digits a number may have; what it has more is zeros before them.
_NUMBERS = {"DS": 16, "IS": 9}
_MOMENTS = {
    "DA": b"20260102",
    "TM": b"101112.130415",
    "DT": b"20260102101112.130415",
    "AS": b"042Y",
}
_TEXTS = _VARYING.keys() | _NUMBERS.keys() | _MOMENTS.keys() | {"UI", "AE", "UR"}
_LETTERS = b"MADE UP FOR THE BENCHMARK OF A STORAGE SCP "
_LONGER_OR_SHORTER = (-3, -1, 0, 0, 2, 5)
_UID_BYTES = (44, 50, 57, 64)
_ROOT = "2.25."


@dataclass(frozen=True, slots=True)
class Layout:
    """A public file whose structure is taken, with ``frames`` per-frame items if it has any."""

    name: str
    path: Path
    sop_class_uid: str
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Header:
    """An encoded header, up to Pixel Data, and the UID to be exchanged wherever it stands."""

    sop_class_uid: str
    sop_instance_uid: str
    encoded: bytes


LAYOUTS = (
    Layout("CT, private", _PYDICOM / "test_files/CT_small.dcm", "1.2.840.10008.5.1.4.1.1.2"),
    Layout("MR", _PYDICOM_DATA / "MR2_UNCR.dcm", "1.2.840.10008.5.1.4.1.1.4"),
    Layout("US, private", _PYDICOM_DATA / "OBXXXX1A.dcm", "1.2.840.10008.5.1.4.1.1.6.1"),
    Layout("secondary capture", _PYDICOM / "charset_files/chrX1.dcm", "1.2.840.10008.5.1.4.1.1.7"),
    Layout(
        "enhanced CT",
        _PYDICOM_DATA / "eCT_Supplemental.dcm",
        "1.2.840.10008.5.1.4.1.1.2.1",
        frames=24,
    ),
    Layout("CR", _PYDICOM_DATA / "RG1_UNCR.dcm", "1.2.840.10008.5.1.4.1.1.1"),
    Layout("NM, private", _PYDICOM_DATA / "JPEG2000_UNC.dcm", "1.2.840.10008.5.1.4.1.1.20"),
    Layout(
        "CT, nested",
        _PYDICOM / "test_files/dicomdirtests/98892001/CT2N/6293",
        "1.2.840.10008.5.1.4.1.1.2",
    ),
    Layout("segmentation", _PYDICOM_DATA / "liver.dcm", "1.2.840.10008.5.1.4.1.1.66.4", frames=8),
    Layout(
        "MR, long private",
        _PYDICOM / "test_files/examples_overlay.dcm",
        "1.2.840.10008.5.1.4.1.1.4",
    ),
    Layout("enhanced MR", _PYDICOM_DATA / "emri_small.dcm", "1.2.840.10008.5.1.4.1.1.4.1"),
)


def header(layout: Layout, variant: int, fixed: Fixed) -> Header:
    """One of a layout's ``VARIANTS`` headers with ``fixed`` values, the same on every machine."""
    data_set = pydicom.dcmread(layout.path)
    if layout.frames > 1:
        items = data_set[_PER_FRAME].value
        data_set[_PER_FRAME].value = [items[n % len(items)] for n in range(layout.frames)]
    instance = _ROOT + "9" * (_UID_BYTES[variant] - len(_ROOT))
    values = _MadeUp(random.Random(f"{layout.name} {variant}"))  # noqa: S311 - no secrets
    encoded = _encoded(data_set, values, {**_identity(layout, instance), **fixed})
    return Header(layout.sop_class_uid, instance, b"".join(encoded))


def _identity(layout: Layout, sop_instance_uid: str) -> Fixed:
    """One patient and study, a series for each layout; Orthanc indexes nothing without them."""
    series = f"{_ROOT}{10**30 + [each.name for each in LAYOUTS].index(layout.name)}"
    return {
        _SPECIFIC_CHARACTER_SET: ("CS", b"ISO_IR 100"),
        _SOP_CLASS_UID: ("UI", layout.sop_class_uid.encode()),
        _SOP_INSTANCE_UID: ("UI", sop_instance_uid.encode()),
        _PATIENT_ID: ("LO", b"BENCH"),
        _STUDY_INSTANCE_UID: ("UI", f"{_ROOT}{10**38}".encode()),
        _SERIES_INSTANCE_UID: ("UI", series.encode()),
    }


@dataclass(frozen=True, slots=True)
class _MadeUp:
    """Makes values up: of a VR, and about as long as the real ones."""

    source: random.Random

    def value(self, tag: int, vr: str, real: bytes) -> bytes:
        """``real`` is looked at for its length and its number of values, and for nothing else.

        Except how an image's pixels lie (group 0028), which is structure.
        """
        if vr in _TEXTS:
            parts = real.rstrip(b" \0").split(b"\\")
            return b"\\".join(self._text(vr, len(each)) for each in parts)
        if tag >> 16 == _IMAGE_PIXEL_GROUP and vr in ("US", "SS"):
            return real
        return self.source.randbytes(len(real))

    def _text(self, vr: str, size: int) -> bytes:
        if not size:
            return b""
        if vr in _MOMENTS:
            return _MOMENTS[vr][:size]
        if vr == "UI":
            return _ROOT.encode() + self._digits(max(1, size - len(_ROOT)))
        if vr in _NUMBERS:
            return self._digits(min(_NUMBERS[vr], size)).rjust(size, b"0")
        if vr in _VARYING:
            size = max(1, min(_VARYING[vr], size + self.source.choice(_LONGER_OR_SHORTER)))
        return self._letters(size)

    def _digits(self, count: int) -> bytes:
        return bytes(self.source.choices(b"123456789", k=count))

    def _letters(self, count: int) -> bytes:
        at = self.source.randrange(len(_LETTERS))
        endless = itertools.islice(itertools.cycle(_LETTERS), at, at + count)
        return bytes(endless).strip() or b"X"


def _encoded(data_set: Dataset, values: _MadeUp, fixed: Fixed) -> Iterator[bytes]:
    """The elements in order; fixed ones also where the data set has none."""
    tags = {int(tag) for tag in data_set.keys()} | fixed.keys()  # noqa: SIM118 - raw elements
    for tag in sorted(tags):
        # Group lengths (PS3.5 7.2) would be wrong, and what follows the pixels is padding.
        if tag & 0xFFFF == 0 or tag >> 16 >= _PIXEL_GROUP:
            continue
        if tag in fixed:
            yield element(tag, *fixed[tag])
        else:
            yield _made_up(data_set, tag, values)


def _made_up(data_set: Dataset, tag: int, values: _MadeUp) -> bytes:
    """An element laid out as the data set's; empty where that is bulk data."""
    raw = data_set.get_item(tag)
    vr = str(raw.VR)
    if vr == "SQ":
        found = data_set[tag]
        items = (
            item(
                b"".join(_encoded(each, values, {})),
                undefined=each.is_undefined_length_sequence_item,
            )
            for each in found.value
        )
        return sequence(tag, items, undefined=bool(found.is_undefined_length))
    real = bytes(raw.value or b"")
    return element(tag, vr, values.value(tag, vr, real if len(real) <= _BULK_BYTES else b""))
