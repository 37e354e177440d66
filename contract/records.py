"""What DynamoDB remembers: import jobs, batches and instances, and the states they pass through."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contract.checksums import Checksum
from contract.keys import RowKey, instance_id


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
    """A batch from its first instance to its last.

    STALLED is IMPORTING, but no execution works on it: the last one ended, and the batch did not.
    """

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    IMPORTING = "IMPORTING"
    STALLED = "STALLED"
    IMPORTED = "IMPORTED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    QUARANTINED = "QUARANTINED"


class InstanceState(StrEnum):
    """One acknowledged SOP instance, from receipt to HealthImaging or to a stated reason.

    IMPORTING is shown and not stored: it is RECEIVED in a batch whose job has started. What has
    FAILED is in quarantine. DELETED was IMPORTED, and somebody has deleted its image set in
    HealthImaging since.
    """

    RECEIVED = "RECEIVED"
    IMPORTING = "IMPORTING"
    IMPORTED = "IMPORTED"
    FAILED = "FAILED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Counts:
    """How a batch's instances fared.

    ``warned`` and ``non_primary`` ones are also imported; ``duplicates`` were left out
    since another batch imports the same bytes; they count as imported here, and their rows are that
    batch's, whatever becomes of it.
    """

    instances: int
    imported: int = 0
    failed: int = 0
    warned: int = 0
    duplicates: int = 0
    non_primary: int = 0


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
    """One batch, from its lease to its end; what is not known yet is None.

    ``owner`` and ``lease_expires_at`` are set while it is OPEN, ``manifest_key`` and ``closed_at``
    from CLOSED on. ``retry_of`` and ``retried_as`` are the batches it repeats and is repeated by.
    ``admitted_at`` is when its latest execution was to start, ``attempt`` the number
    of that one, from 0.
    ``start_asked_at`` is when its import job was asked for, unless the answer was a clear no.
    ``forced``: what other batches have imported is imported again.
    ``corrected_at`` is when it was found that HealthImaging had imported more than was recorded.
    """

    batch_id: str
    state: BatchState
    calling_ae_title: str
    opened_at: datetime
    counts: Counts
    called_ae_title: str | None = None
    datastore_id: str | None = None
    urgent: bool = False
    owner: str | None = None
    lease_expires_at: datetime | None = None
    manifest_key: str | None = None
    closed_at: datetime | None = None
    admitted_at: datetime | None = None
    attempt: int = 0
    ended_at: datetime | None = None
    start_asked_at: datetime | None = None
    job_id: str | None = None
    message: str | None = None
    retry_of: str | None = None
    retried_as: str | None = None
    forced: bool = False
    corrected_at: datetime | None = None

    @property
    def import_job_id(self) -> str | None:
        """HealthImaging's job; None also for a batch that ended without, under its own id."""
        return None if self.job_id == self.batch_id else self.job_id


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What became of one content of one SOP instance. ``size`` is in bytes.

    ``datastore_id`` is where it is, or is to be, imported: its batch's.

    ``reason`` says why it is not in HealthImaging: FAILED or DELETED.

    ``beside`` tells the row from the first with the same checksum: it names its bytes and the data
    store (``contract.keys.bytes_name``), or is the batch's id, of a copy that is imported as well.
    ``differs`` if the bytes were compared with the first row's and are others. ``compared`` while
    it waits for its import, if its batch has compared it with the others already.
    """

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    batch_id: str
    datastore_id: str
    key: str
    size: int
    checksum: Checksum
    state: InstanceState
    updated_at: datetime
    job_id: str | None = None
    reason: str | None = None
    image_set_id: str | None = None
    image_set_version: int | None = None
    is_primary: bool | None = None
    warnings: tuple[str, ...] = ()
    beside: str | None = None
    differs: bool = False
    compared: bool = False

    @property
    def instance(self) -> str:
        """Study, series and SOP Instance UID in one."""
        return instance_id(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)

    @property
    def is_copy(self) -> bool:
        """Whether only the batch's id tells the row from another's."""
        return self.beside == self.batch_id

    @property
    def is_named(self) -> bool:
        """Whether its bytes tell the row from another's."""
        return self.beside is not None and not self.is_copy

    @property
    def sha256(self) -> str | None:
        """Of the bytes, if they name the row."""
        return self.beside.partition("@")[0] if self.beside and self.is_named else None

    @property
    def content(self) -> str:
        """Which bytes it is: those of the first row, unless they are known to be others."""
        which = self.sha256 or self.beside
        return f"{self.checksum}~{which}" if self.differs else str(self.checksum)

    @property
    def content_key(self) -> RowKey:
        """The key of the first row with its checksum."""
        return RowKey(self.instance, str(self.checksum))

    @property
    def row_key(self) -> RowKey:
        """The row's own key."""
        return self.content_key.beside(self.beside) if self.beside else self.content_key
