"""Which DICOM files the demo sends."""

import random
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from local.errors import LocalCloudError
from local.files import Sample, below, examine
from local.names import BUNDLED

CT_STUDY = "ct500"
_CT_SLICES = 500
_CT_ROWS = 512

# Of pydicom's own test files: one of each kind of thing a hospital sends, and studies of several
# series. Paths below pydicom/data/test_files.
_BUNDLED_FILES = (
    "CT_small.dcm",  # CT, explicit little endian
    "MR_small.dcm",  # MR
    "ExplVR_BigEnd.dcm",  # US, big endian
    "JPEG2000.dcm",  # NM secondary capture, JPEG 2000
    "JPGExtended.dcm",  # NM secondary capture, lossy JPEG
    "examples_jpeg2k.dcm",  # US, JPEG 2000 lossless
    "examples_overlay.dcm",  # MR with an overlay
    "examples_palette.dcm",  # US, palette colour
    "examples_ybr_color.dcm",  # US multi-frame, JPEG baseline
    "image_dfl.dcm",  # secondary capture, deflated
    "liver_1frame.dcm",  # segmentation
    "reportsi.dcm",  # structured report
    "rtdose.dcm",  # RT dose, multi-frame, implicit little endian
    "rtplan.dcm",  # RT plan
    "test-SR.dcm",  # comprehensive structured report
    "waveform_ecg.dcm",  # 12-lead ECG
)
_BUNDLED_STUDIES = ("dicomdirtests/77654033", "dicomdirtests/98892003")


def find(source: str, work: Path) -> list[Path]:
    """The places ``source`` names: ``pydicom``, ``ct500``, or a file or folder.

    Generated files are written below ``work``.
    """
    if source == BUNDLED:
        return bundled()
    if source == CT_STUDY:
        return generate_ct_study(work / CT_STUDY)
    return [Path(source)]


def bundled() -> list[Path]:
    """The demo's choice of the files that pydicom ships."""
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    studies = (path for each in _BUNDLED_STUDIES for path in files_below(root / each))
    return [root / name for name in _BUNDLED_FILES] + list(studies)


def files_below(place: Path) -> list[Path]:
    """``place`` itself, or every file below it that can be listed."""
    return [found for found in below(place) if isinstance(found, Path)]


def read(paths: Iterable[Path]) -> list[Sample]:
    """What can be sent of ``paths``, the rest left out; raises LocalCloudError if nothing can."""
    samples = [found for found in examine(paths) if isinstance(found, Sample)]
    if not samples:
        raise LocalCloudError("There is no DICOM Part 10 file to send there.")
    return samples


def generate_ct_study(folder: Path, slices: int = _CT_SLICES) -> list[Path]:
    """One CT series of ``slices`` slices of 0.53 MB, the same pixels on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
    noise = random.Random(500)  # noqa: S311 - test pixels
    paths = []
    for number in range(1, slices + 1):
        path = folder / f"{number:04}.dcm"
        pixels = noise.randbytes(_CT_ROWS * _CT_ROWS * 2)
        _ct_slice(study, series, number, pixels).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _ct_slice(study: str, series: str, number: int, pixels: bytes) -> Dataset:
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(number)])
    slice_.StudyDate = "20261123"
    slice_.AccessionNumber = ""
    slice_.Modality = "CT"
    slice_.PatientName = "Generated^CT"
    slice_.PatientID = "CT500"
    slice_.StudyInstanceUID = study
    slice_.SeriesInstanceUID = series
    slice_.StudyID = "1"
    slice_.SeriesNumber = 1
    slice_.InstanceNumber = number
    slice_.ImagePositionPatient = [0, 0, number]
    slice_.SamplesPerPixel = 1
    slice_.PhotometricInterpretation = "MONOCHROME2"
    slice_.Rows = slice_.Columns = _CT_ROWS
    slice_.BitsAllocated = slice_.BitsStored = 16
    slice_.HighBit = 15
    slice_.PixelRepresentation = 0
    slice_.PixelData = pixels
    return slice_
