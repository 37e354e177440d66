"""The studies that are sent: small CT series, and now and then one of more than a part's size.

Some exist in two versions: the same UIDs, other bytes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

_LARGEST_SERIES = 12
_ROWS = 32
# Two bytes a pixel: above the 8 MiB up to which the receiver sends one PUT.
_MANY_ROWS = 2_100
_LARGE_ONE_IN = 4


@dataclass(frozen=True, slots=True)
class Image:
    """A Part 10 file, its SOP Instance UID, and which of the files with that UID it is."""

    path: Path
    sop_instance_uid: str
    version: int = 0


def new_study(folder: Path, chance: random.Random) -> list[Image]:
    """Write a study of one series, with UIDs like no other's."""
    study, series = _uid(chance), _uid(chance)
    images = []
    for number in range(1, chance.randint(1, _LARGEST_SERIES) + 1):
        large = number == 1 and chance.randrange(_LARGE_ONE_IN) == 0
        image = _slice(study, series, number, _MANY_ROWS if large else _ROWS, chance)
        path = folder / f"{image.SOPInstanceUID}.dcm"
        image.save_as(path, enforce_file_format=True)
        images.append(Image(path, image.SOPInstanceUID))
    return images


def corrected(images: Sequence[Image]) -> list[Image]:
    """Write the second version of a study beside the first."""
    return [_corrected(each) for each in images]


def _corrected(image: Image) -> Image:
    data_set = dcmread(image.path)
    data_set.StudyID = "2"
    path = image.path.with_suffix(".corrected.dcm")
    data_set.save_as(path, enforce_file_format=True)
    return Image(path, image.sop_instance_uid, image.version + 1)


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
