"""Instances in, image sets out: grouping, primary and non-primary, versions.

https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-image-sets.html
https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

# Instances with these elements alike share an image set.
GROUPING_ELEMENTS = (
    "StudyDate",
    "AccessionNumber",
    "PatientID",
    "StudyInstanceUID",
    "StudyID",
    "SeriesInstanceUID",
    "SeriesNumber",
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One imported file: where its bytes are kept, and the attributes image sets are made of.

    ``attributes`` are texts by DICOM keyword; one that the file lacks is empty.
    """

    stored_id: str
    transfer_syntax_uid: str
    attributes: Mapping[str, str]

    @property
    def sop_instance_uid(self) -> str:
        """What an instance is replaced by when it is imported again."""
        return self.attributes["SOPInstanceUID"]

    @property
    def series(self) -> tuple[str, str]:
        """What at most one primary image set exists for."""
        return self.attributes["StudyInstanceUID"], self.attributes["SeriesInstanceUID"]

    @property
    def grouping(self) -> tuple[str, ...]:
        """The values of the grouping elements."""
        return tuple(self.attributes[keyword] for keyword in GROUPING_ELEMENTS)


@dataclass(frozen=True, slots=True)
class Version:
    """One state of an image set; instances by SOP Instance UID, never empty."""

    number: int
    created_at: float
    instances: Mapping[str, Instance]

    @property
    def representative(self) -> Instance:
        """An instance to read the patient, study and series attributes from."""
        return next(iter(self.instances.values()))


class ImageSetState(StrEnum):
    """LOCKED is, here, an image set that is being deleted: nothing else takes any time.

    https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_ImageSetProperties.html
    """

    ACTIVE = "ACTIVE"
    LOCKED = "LOCKED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """An image set and every version of it, oldest first; since when it is LOCKED and DELETED."""

    image_set_id: str
    is_primary: bool
    versions: tuple[Version, ...]
    state: ImageSetState = ImageSetState.ACTIVE
    locked_at: float | None = None
    deleted_at: float | None = None

    @property
    def latest(self) -> Version:
        """The version that a request without one gets."""
        return self.versions[-1]

    @property
    def created_at(self) -> float:
        """When its first version was made."""
        return self.versions[0].created_at

    @property
    def updated_at(self) -> float:
        """When its latest version was made."""
        return self.latest.created_at

    @property
    def is_active_primary(self) -> bool:
        """Whether imports may add to it, and its study counts it."""
        return self.is_primary and self.state is ImageSetState.ACTIVE

    def workflow_status(self, version: Version) -> str:
        """The imageSetWorkflowStatus of one of its versions."""
        match self.state:
            case ImageSetState.LOCKED:
                return "DELETING"
            case ImageSetState.DELETED:
                return "DELETED"
        return "CREATED" if version is self.versions[0] else "UPDATED"


ImageSets = Mapping[str, ImageSet]


@dataclass(frozen=True, slots=True)
class Placement:
    """The image sets after an import, and the image set id each stored file went into."""

    image_sets: ImageSets
    homes: Mapping[str, str]


def place(
    image_sets: ImageSets, instances: Iterable[Instance], *, now: float, new_id: Callable[[], str]
) -> Placement:
    """Take one job's instances into the data store's image sets.

    A series without a primary image set gets one. Instances that agree with the primary in every
    grouping element join it, replacing those of the same SOP Instance UID, as one new version.
    Instances that do not agree become a non-primary image set, a new one in each job.
    """
    after = dict(image_sets)
    # No page tells what an import does that reaches a primary image set which is being deleted.
    # Here it makes a new one: what is imported now must not go with the old one.
    primaries = {
        each.latest.representative.series: each for each in after.values() if each.is_active_primary
    }
    homes: dict[str, str] = {}
    for group in _by_grouping(instances):
        primary = primaries.get(group[0].series)
        if primary is not None and primary.latest.representative.grouping == group[0].grouping:
            image_set = _with_new_version(primary, group, now)
        else:
            first = Version(1, now, {each.sop_instance_uid: each for each in group})
            image_set = ImageSet(new_id(), primary is None, (first,))
        after[image_set.image_set_id] = image_set
        if image_set.is_primary:
            primaries[group[0].series] = image_set
        homes.update((each.stored_id, image_set.image_set_id) for each in group)
    return Placement(after, homes)


def _by_grouping(instances: Iterable[Instance]) -> Iterable[list[Instance]]:
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.grouping, []).append(instance)
    return groups.values()


def _with_new_version(image_set: ImageSet, group: list[Instance], now: float) -> ImageSet:
    latest = image_set.latest
    instances = {**latest.instances, **{each.sop_instance_uid: each for each in group}}
    version = Version(latest.number + 1, now, instances)
    return replace(image_set, versions=(*image_set.versions, version))
