"""The studies that are sent: small CT series, and now and then one of more than a part's size.

Of some there is another version: corrected or forged, moved to another study, in a second series.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from contract.keys import instance_id
from tests.chaos.contents import Content, Variant, received_digest
from tests.forgery import forged

_LARGEST_SERIES = 12
_ROWS = 32
# Two bytes a pixel: above the 8 MiB up to which the receiver sends one PUT.
_MANY_ROWS = 2_100
_LARGE_ONE_IN = 4
# The last pixels of a forged image: some that are drawn, and those that make its checksum fit.
_DRAWN, _FITTED = 8, 8


@dataclass(frozen=True, slots=True)
class Image:
    """A Part 10 file, what the receiver should keep of it, and how it came to be."""

    path: Path
    content: Content
    variant: Variant = Variant.ORIGINAL


def new_study(folder: Path, chance: random.Random) -> list[Image]:
    """Write a study of one series, with UIDs like no other's."""
    study, series = _uid(chance), _uid(chance)
    images = []
    for number in range(1, chance.randint(1, _LARGEST_SERIES) + 1):
        large = number == 1 and chance.randrange(_LARGE_ONE_IN) == 0
        image = _slice(study, series, number, _MANY_ROWS if large else _ROWS, chance)
        path = folder / f"{image.SOPInstanceUID}.dcm"
        image.save_as(path, enforce_file_format=True)
        images.append(_image(path, Variant.ORIGINAL))
    return images


def varied(images: Sequence[Image], variant: Variant, chance: random.Random) -> list[Image]:
    """Write another version of a study beside the first."""
    uid = _uid(chance)
    made = []
    for image in images:
        path = image.path.with_suffix(f".{variant.name}.dcm")
        if variant is Variant.FORGED:
            path.write_bytes(_forged(image.path.read_bytes(), chance))
        else:
            data_set = dcmread(image.path)
            _CHANGES[variant](data_set, uid)
            data_set.save_as(path, enforce_file_format=True)
        made.append(_image(path, variant))
    return made


def _forged(file: bytes, chance: random.Random) -> bytes:
    """The same but for its last pixels, and with the same checksum.

    A CRC is affine: what fits behind one file meta, fits behind another of the same length, too.
    """
    begin = file[: -_DRAWN - _FITTED]
    return forged(begin + chance.randbytes(_DRAWN) + bytes(_FITTED), file)


def _corrected(data_set: Dataset, _: str) -> None:
    data_set.StudyID = "2"


def _moved(data_set: Dataset, uid: str) -> None:
    data_set.StudyInstanceUID = uid


def _in_another_series(data_set: Dataset, uid: str) -> None:
    data_set.SeriesInstanceUID = uid


_CHANGES: Mapping[Variant, Callable[[Dataset, str], None]] = {
    Variant.CORRECTED: _corrected,
    Variant.MOVED: _moved,
    Variant.SECOND_SERIES: _in_another_series,
}


def _image(path: Path, variant: Variant) -> Image:
    data_set = dcmread(path, stop_before_pixels=True)
    uid = data_set.SOPInstanceUID
    instance = instance_id(data_set.StudyInstanceUID, data_set.SeriesInstanceUID, uid)
    syntax = data_set.file_meta.TransferSyntaxUID
    digest = received_digest(path.read_bytes(), data_set.SOPClassUID, uid, syntax)
    return Image(path, Content(instance, digest), variant)


def _uid(chance: random.Random) -> str:
    return f"2.25.{chance.getrandbits(120)}"


def _slice(study: str, series: str, number: int, rows: int, chance: random.Random) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = _uid(chance)
    image.StudyDate = "20261123"
    image.Modality = "CT"
    image.PatientName = "Chaos^CT"
    image.PatientID = "CHAOS"
    image.StudyInstanceUID = study
    image.SeriesInstanceUID = series
    image.StudyID = "1"
    image.SeriesNumber = 1
    image.InstanceNumber = number
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows = image.Columns = rows
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 0
    image.PixelData = chance.randbytes(rows * rows * 2)
    return image
