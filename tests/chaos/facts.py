"""What there is to see after a run, as values: in the records, in S3, and in HealthImaging."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contract.checksums import Checksum
from contract.manifest import Manifest
from contract.records import BatchRecord, BatchState, InstanceRecord, JobRecord, JobStatus
from tests.chaos.ledger import Sent


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the DICOM bucket."""

    key: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that HealthImaging has taken into an image set, and keeps until that is deleted.

    ``deleted_at`` is when the deletion began: from then on nobody counts on it. ``is_latest`` where
    the image set's latest version has it, and no other file of the same UID.
    """

    sop_instance_uid: str
    checksum: Checksum
    image_set_id: str
    stored_at: datetime
    deleted_at: datetime | None = None
    is_latest: bool = True

    @property
    def is_there(self) -> bool:
        """Whether whoever asks HealthImaging for the instance gets this one."""
        return self.is_latest and self.deleted_at is None


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """An import job as HealthImaging has it; its name is its batch's id."""

    job_id: str
    batch_id: str
    status: JobStatus


@dataclass(frozen=True, slots=True)
class Told:
    """An end that was told on EventBridge."""

    batch_id: str
    state: BatchState
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything there is to see after a run.

    ``copies`` and ``service_jobs`` are HealthImaging's own; ``imported_keys`` are the objects that
    its result files call imported; ``uploads`` the keys of multipart uploads that are open;
    ``reported`` the keys that reconciliation reported as unaccounted.
    """

    sent: Mapping[str, Sent]
    copies: Sequence[Copy]
    service_jobs: Sequence[ServiceJob]
    imported_keys: Sequence[str]
    instances: Mapping[str, InstanceRecord]
    batches: Mapping[str, BatchRecord]
    jobs: Mapping[str, JobRecord]
    manifests: Mapping[str, Manifest]
    objects: Sequence[StoredObject]
    uploads: Sequence[str]
    reported: frozenset[str]
    told: frozenset[Told]
    tasks_died: int = 0

    def checksums(self) -> Mapping[str, Checksum]:
        """Of every object that a manifest lists, by its key there."""
        return {
            each.key: each.checksum
            for manifest in self.manifests.values()
            for each in manifest.instances
        }


class Promise(StrEnum):
    """What was broken."""

    LOST = "acknowledged and lost"
    NO_REASON = "failed without a reason"
    GONE = "failed, and its object is not in the bucket"
    UNFINISHED_INSTANCE = "instance without an end"
    NOT_IN_HEALTHIMAGING = "reported imported and not in HealthImaging"
    NOT_DELETED = "reported deleted and in HealthImaging"
    NOT_IN_LEDGER = "in HealthImaging and not imported in the ledger"
    IMPORTED_AND_FAILED = "reported failed and imported by the same batch"
    IMPORTED_TWICE = "imported more than once"
    UNNAMED = "imported with other bytes and not named by the ledger"
    UNLISTED = "imported and in no manifest"
    NEVER_SENT = "known and never sent"
    UNFINISHED_BATCH = "batch without an end"
    UNFINISHED_JOB = "job without an end"
    UNTRUE_JOB = "job that is not what HealthImaging has"
    UNKNOWN_JOB = "HealthImaging's job that the records do not know"
    TWO_JOBS = "batch with more than one import job"
    UNTOLD = "batch whose end was never told"
    UNREGISTERED = "manifest without a batch"
    MISCOUNTED = "batch whose counts are wrong"
    ORPHAN = "object that nobody accounts for"
    OPEN_UPLOAD = "multipart upload left open"
    NOT_RETRIED = "retry refused though nothing stands in its way"
    TASK_DIED = "receiver ended by itself"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, of what, and what there is to know about it."""

    promise: Promise
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.promise}: {self.subject} {self.detail}".rstrip()
