"""The image-set metadata document: patient, study, series and instances, without pixel data.

https://docs.aws.amazon.com/healthimaging/latest/devguide/get-image-set-metadata.html
"""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

from local.healthimaging.dicom_reader import parsed
from local.healthimaging.image_sets import Instance, Version
from local.healthimaging.pixels import frames

SCHEMA_VERSION = "1.1"
_FRAME_INDEX_DIGITS = 8

# The attributes that are the same for a whole patient, study and series (PS3.3 C.7.1 to C.7.3).
_PATIENT = frozenset(
    {
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientBirthTime",
        "PatientSex",
        "OtherPatientIDs",
        "OtherPatientNames",
        "EthnicGroup",
        "PatientComments",
    }
)
_STUDY = frozenset(
    {
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "StudyDescription",
        "ReferringPhysicianName",
        "PhysiciansOfRecord",
        "AdmittingDiagnosesDescription",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "Occupation",
        "AdditionalPatientHistory",
    }
)
_SERIES = frozenset(
    {
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDate",
        "SeriesTime",
        "SeriesDescription",
        "Modality",
        "Laterality",
        "BodyPartExamined",
        "PatientPosition",
        "ProtocolName",
        "OperatorsName",
        "PerformingPhysicianName",
    }
)
# Bulk values stand apart from the metadata.
_BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def metadata_document(
    datastore_id: str, image_set_id: str, version: Version, read: Callable[[str], bytes]
) -> bytes:
    """The JSON of one version; ``read`` gives a stored file's bytes by its id."""
    patient: dict[str, Any] = {}
    study: dict[str, Any] = {}
    series: dict[str, Any] = {}
    instances: dict[str, Any] = {}
    for uid, instance in version.instances.items():
        attributes, entry = parsed(read(instance.stored_id), partial(_entry, instance), pixels=True)
        for level, keywords in ((patient, _PATIENT), (study, _STUDY), (series, _SERIES)):
            level.update({key: attributes.pop(key) for key in keywords & attributes.keys()})
        instances[uid] = entry
    series_uid = version.representative.attributes["SeriesInstanceUID"]
    document = {
        "SchemaVersion": SCHEMA_VERSION,
        "DatastoreID": datastore_id,
        "ImageSetID": image_set_id,
        "Patient": {"DICOM": patient},
        "Study": {
            "DICOM": study,
            "Series": {series_uid: {"DICOM": series, "Instances": instances}},
        },
    }
    return json.dumps(document, allow_nan=False).encode()


def frame_id(stored_id: str, index: int) -> str:
    """An imageFrameId that tells which stored file, and which of its frames, it stands for."""
    return f"{stored_id}{index:0{_FRAME_INDEX_DIGITS}x}"


def split_frame_id(image_frame_id: str) -> tuple[str, int] | None:
    """The inverse of :func:`frame_id`; None for an id it never made."""
    stored_id = image_frame_id[:-_FRAME_INDEX_DIGITS]
    try:
        index = int(image_frame_id[-_FRAME_INDEX_DIGITS:], 16)
    except ValueError:
        return None
    return (stored_id, index) if frame_id(stored_id, index) == image_frame_id else None


def _entry(instance: Instance, dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """All attributes, and the instance's entry, which holds them too."""
    attributes = _attributes(dataset)
    entry = {
        "ImageFrames": [
            _frame_entry(dataset, instance, index, frame)
            for index, frame in enumerate(frames(dataset))
        ],
        "StoredTransferSyntaxUID": instance.transfer_syntax_uid,
        "DICOM": attributes,
        "DICOMVRs": {
            _tag_name(element): str(element.VR) for element in dataset if element.tag.is_private
        },
    }
    return attributes, entry


def _frame_entry(
    dataset: Dataset, instance: Instance, index: int, frame: bytes
) -> Mapping[str, Any]:
    entry: dict[str, Any] = {
        "ID": frame_id(instance.stored_id, index),
        "FrameSizeInBytes": len(frame),
    }
    if not dataset["PixelData"].is_undefined_length:
        # The checksum is over decoded pixels, and a native frame needs no decoding.
        # https://docs.aws.amazon.com/healthimaging/latest/devguide/pixel-data-verification.html
        entry["PixelDataChecksumFromBaseToFullResolution"] = [
            {
                "Width": dataset.get("Columns"),
                "Height": dataset.get("Rows"),
                "Checksum": zlib.crc32(frame),
            }
        ]
    return entry


def _attributes(dataset: Dataset) -> dict[str, Any]:
    return {_tag_name(element): _value(element) for element in dataset}


def _tag_name(element: DataElement) -> str:
    return element.keyword or f"{element.tag:08X}"


def _value(element: DataElement) -> Any:
    if element.VR == "SQ":
        return [_attributes(item) for item in element.value]
    if element.VR in _BINARY_VRS or element.is_empty:
        return None
    if isinstance(element.value, MultiValue):
        return [_single(value) for value in element.value]
    return _single(element.value)


def _single(value: object) -> int | float | str:
    # DS and IS are numbers to pydicom, but texts in a file and in the service's answer.
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    return str(value)
