"""What DynamoDB remembers: import jobs, batches and instances, and the states they pass through."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contract.checksums import Checksum


class JobStatus(StrEnum):
    """HealthImaging's own states of an import job, in the order it passes them.

    https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_DICOMImportJobProperties.html
    """

    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether HealthImaging will not change the job any more."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED)


class BatchState(StrEnum):
    """A batch from its first instance to its last."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    IMPORTING = "IMPORTING"
    IMPORTED = "IMPORTED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"


class InstanceState(StrEnum):
    """One acknowledged SOP instance, from receipt to HealthImaging or to a stated reason."""

    RECEIVED = "RECEIVED"
    IMPORTING = "IMPORTING"
    IMPORTED = "IMPORTED"
    FAILED = "FAILED"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True)
class Counts:
    """How a job's instances fared, from its result files; ``warned`` ones are also imported."""

    instances: int
    imported: int = 0
    failed: int = 0
    warned: int = 0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One import job. An import that never got a job id from HealthImaging has its batch's id.

    ``study_instance_uid``, ``series_instance_uid`` and ``sop_instance_uid`` are set where the job
    has exactly one. ``study_date`` is DICOM's ``YYYYMMDD``.
    """

    job_id: str
    job_status: JobStatus
    batch_id: str
    datastore_id: str
    data_access_role_arn: str
    input_s3_uri: str
    output_s3_uri: str
    submitted_at: datetime
    calling_ae_title: str
    counts: Counts
    execution_arn: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    study_date: str | None = None
    ended_at: datetime | None = None
    message: str | None = None
    image_set_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch, as the pipeline sees it after the receiver closed it."""

    batch_id: str
    state: BatchState
    manifest_key: str
    calling_ae_title: str
    closed_at: datetime
    counts: Counts
    job_id: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One SOP instance's latest state. ``size`` is in bytes; ``reason`` says why it FAILED."""

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    batch_id: str
    key: str
    size: int
    checksum: Checksum
    state: InstanceState
    updated_at: datetime
    job_id: str | None = None
    reason: str | None = None
    image_set_id: str | None = None
    is_primary: bool | None = None
    warnings: tuple[str, ...] = ()
