"""The emulator's records of data stores and import jobs. Times are seconds since the epoch.

https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_DatastoreProperties.html
https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_DICOMImportJobProperties.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local.healthimaging.image_sets import ImageSet, ImageSets


class JobStatus(StrEnum):
    """The life of an import job; COMPLETED and FAILED are its ends."""

    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ImportJob:
    """One import job; ``output_s3_uri`` is its own folder, not what the caller sent."""

    job_id: str
    job_name: str
    datastore_id: str
    data_access_role_arn: str
    input_s3_uri: str
    output_s3_uri: str
    input_owner_account_id: str | None
    submitted_at: float
    status: JobStatus = JobStatus.SUBMITTED
    ended_at: float | None = None
    message: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether it counts against the concurrent import jobs."""
        return self.status in {JobStatus.SUBMITTED, JobStatus.IN_PROGRESS}


@dataclass(slots=True)
class Datastore:
    """A data store: what it was created with, and what is in it now.

    ``options`` are CreateDatastore's optional members that GetDatastore gives back.
    ``deleted_image_sets`` are those that were deleted from ``image_sets``.
    """

    datastore_id: str
    name: str
    arn: str
    created_at: float
    options: Mapping[str, Any]
    jobs: dict[str, ImportJob] = field(default_factory=dict)
    image_sets: ImageSets = field(default_factory=dict)
    deleted_image_sets: dict[str, ImageSet] = field(default_factory=dict)

    def arn_of(self, image_set: ImageSet) -> str:
        """The ARN of one of its image sets."""
        return f"{self.arn}/imageset/{image_set.image_set_id}"


def job_output_uri(output_s3_uri: str, datastore_id: str, job_id: str) -> str:
    """Where a job writes its results, given the outputS3Uri of its request."""
    return f"{output_s3_uri.rstrip('/')}/{datastore_id}-DicomImport-{job_id}/"


def split_s3_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key or prefix of an ``s3://`` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
