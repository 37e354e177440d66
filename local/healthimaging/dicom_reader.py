"""A file's bytes in, an instance with its warnings or the reason of its rejection out.

https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import pydicom
from pydicom import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from local.healthimaging.file_warnings import FileWarning
from local.healthimaging.image_sets import Instance
from local.healthimaging.pixels import pixel_element, pixel_warning

T = TypeVar("T")

# Two of the messages AWS shows in failure.ndjson; the grammar is the service's own.
_NOT_DICOM = "DICOM attributes does not exist"
_MISSING = "DICOM attribute {keyword} does not exist"

# Transfer Syntax UID and SOP Class UID are known to be required. The other three are not on any
# page, but without them there is no image set to put an instance into.
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

# Maximum lengths of the searchable elements:
# https://docs.aws.amazon.com/healthimaging/latest/devguide/dicom-element-constraints.html
_MAX_LENGTHS: Mapping[str, int | None] = {
    "PatientName": 256,
    "PatientID": 256,
    "PatientBirthDate": 18,
    "PatientSex": 16,
    "StudyInstanceUID": 256,
    "StudyID": 256,
    "StudyDescription": 256,
    "AccessionNumber": 256,
    "StudyDate": 18,
    "StudyTime": 28,
    "SOPInstanceUID": 256,
    "SeriesInstanceUID": 256,
    "SOPClassUID": None,
    "Modality": None,
    "BodyPartExamined": None,
    "SeriesNumber": None,
}

# https://docs.aws.amazon.com/healthimaging/latest/devguide/supported-transfer-syntaxes.html
_SUPPORTED = frozenset(
    f"1.2.840.10008.1.2{suffix}"
    for suffix in (
        *("", ".1", ".1.99", ".2", ".5"),
        *(f".4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93)),
        *(f".4.{number}" for number in (112, 201, 202, 203)),
        *(f".4.{number}" for number in range(100, 109)),
        *(f".4.{number}.1" for number in range(100, 107)),
    )
)

_MAX_UID_LENGTH = 64
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)

_WARNINGS = threading.Lock()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file that becomes an instance."""

    instance: Instance
    warnings: tuple[FileWarning, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file the service refuses with a ValidationException."""

    message: str


def read_file(data: bytes, stored_id: str) -> Accepted | Rejected:
    """What an import makes of one Part 10 file. Pixel data is not read, only measured."""
    stream = BytesIO(data)
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(stream, stop_before_pixels=True)
            attributes = {keyword: _text(header, keyword) for keyword in _MAX_LENGTHS}
    except Exception:  # noqa: BLE001 - hostile bytes raise anything; this file fails, not the job
        return Rejected(_NOT_DICOM)
    syntax = header.file_meta.get("TransferSyntaxUID")
    if not syntax:
        return Rejected(_MISSING.format(keyword="TransferSyntaxUID"))
    for keyword in _REQUIRED:
        if not attributes[keyword]:
            return Rejected(_MISSING.format(keyword=keyword))
    found = (*_attribute_warnings(attributes), *_pixel_warnings(header, data, stream.tell()))
    return Accepted(Instance(stored_id, str(syntax), attributes), found)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings about values that it, and the service, accept all the same.

    Python's warning filters belong to the process, hence the lock.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parsed(data: bytes, use: Callable[[Dataset], T], *, pixels: bool) -> T:
    """What ``use`` makes of a stored file's data set; values are converted inside."""
    with quiet_pydicom():
        return use(pydicom.dcmread(BytesIO(data), stop_before_pixels=not pixels))


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def _attribute_warnings(attributes: Mapping[str, str]) -> Iterator[FileWarning]:
    if not all(_is_uid(attributes[keyword]) for keyword in _REQUIRED):
        yield FileWarning.INVALID_UID_FORMAT
    # No page tells whether a longer value fails the file; the warning's text says it does not.
    if any(most and len(attributes[keyword]) > most for keyword, most in _MAX_LENGTHS.items()):
        yield FileWarning.INVALID_DICOM_VALUE_LENGTH


def _pixel_warnings(header: Dataset, data: bytes, offset: int) -> Iterator[FileWarning]:
    syntax: UID = header.file_meta.TransferSyntaxUID
    if syntax not in _SUPPORTED:
        # Kept as a blob, whatever it holds.
        yield FileWarning.UNSUPPORTED_TRANSFER_SYNTAX
        return
    if syntax == DeflatedExplicitVRLittleEndian:
        # ``offset`` counts in the inflated data set, of which only the header was asked for.
        return
    element = pixel_element(data, offset, syntax)
    warning = pixel_warning(header, data, element) if element else None
    if warning:
        yield warning


def _is_uid(text: str) -> bool:
    return len(text) <= _MAX_UID_LENGTH and _UID.fullmatch(text) is not None
