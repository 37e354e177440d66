"""SearchImageSets: which image sets meet the criteria, in which order.

https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_SearchImageSets.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local.healthimaging.errors import ValidationException
from local.healthimaging.image_sets import ImageSet

Filter = Mapping[str, Any]
# Comparable with others of the same search attribute.
Key = str | float | bool

DEFAULT_SORT: Mapping[str, str] = {"sortField": "updatedAt", "sortOrder": "DESC"}


def _attribute(keyword: str) -> Callable[[ImageSet], Key]:
    return lambda image_set: image_set.latest.representative.attributes[keyword]


def _study_time(image_set: ImageSet) -> Key:
    attributes = image_set.latest.representative.attributes
    return f"{attributes['StudyDate']}{attributes['StudyTime']}"


_KEYS: Mapping[str, Callable[[ImageSet], Key]] = {
    "DICOMPatientId": _attribute("PatientID"),
    "DICOMAccessionNumber": _attribute("AccessionNumber"),
    "DICOMStudyId": _attribute("StudyID"),
    "DICOMStudyInstanceUID": _attribute("StudyInstanceUID"),
    "DICOMSeriesInstanceUID": _attribute("SeriesInstanceUID"),
    "DICOMStudyDateAndTime": _study_time,
    "createdAt": lambda image_set: image_set.created_at,
    "updatedAt": lambda image_set: image_set.updated_at,
    "isPrimary": lambda image_set: image_set.is_primary,
}


def search(
    image_sets: Iterable[ImageSet], filters: Sequence[Filter], sort: Mapping[str, str]
) -> list[ImageSet]:
    """The image sets that meet every filter, sorted."""
    tests = [_test(each) for each in filters]
    found = [each for each in image_sets if all(test(each) for test in tests)]
    return sorted(found, key=_KEYS[sort["sortField"]], reverse=sort["sortOrder"] == "DESC")


def _test(criterion: Filter) -> Callable[[ImageSet], bool]:
    names = {name for value in criterion["values"] for name in value}
    if len(names) != 1:
        raise ValidationException("The values of a filter must be of one attribute")
    (name,) = names
    key, values = _KEYS[name], [_value(value[name]) for value in criterion["values"]]
    if criterion["operator"] == "EQUAL":
        return lambda image_set: key(image_set) in values
    if len(values) != 2:  # noqa: PLR2004 - between takes two
        raise ValidationException("The operator BETWEEN takes two values")
    low, high = values
    return lambda image_set: low <= key(image_set) <= high  # type: ignore[operator] # one attribute


def _value(value: Any) -> Key:
    if isinstance(value, datetime):
        # moto parses timestamps into naive datetimes in UTC.
        return value.replace(tzinfo=UTC).timestamp()
    if isinstance(value, Mapping):
        return f"{value['DICOMStudyDate']}{value.get('DICOMStudyTime', '')}"
    result: Key = value
    return result
