"""What there is to see after a run, as values: in the records, in S3, and in HealthImaging."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from contract.checksums import Checksum
from contract.keys import InstanceKey, RowKey
from contract.manifest import Manifest
from contract.records import BatchRecord, BatchState, InstanceRecord, JobRecord, JobStatus
from tests.chaos.contents import Content
from tests.chaos.ledger import Sent
from tests.chaos.outages import Outage


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the DICOM bucket."""

    key: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that HealthImaging has taken into an image set, and keeps until that is deleted.

    ``version`` is the first of the image set's that has it; a later one may have another file of
    the same UID, and that version has this one still. ``deleted_at`` is when the deletion of the
    image set began: from then on nobody counts on it.
    """

    content: Content
    image_set_id: str
    version: int
    stored_at: datetime
    deleted_at: datetime | None = None

    @property
    def is_there(self) -> bool:
        """Whether whoever asks HealthImaging for that version of the image set gets it."""
        return self.deleted_at is None

    def overlaps(self, other: "Copy") -> bool:
        """Whether one was stored while the other was there."""
        earlier, later = sorted((self, other), key=lambda each: each.stored_at)
        return earlier.deleted_at is None or later.stored_at < earlier.deleted_at


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
    its result files call imported; ``digests`` are those of all objects, also of some that were
    deleted since, by the keys that they were stored under first; ``uploads`` the keys of multipart
    uploads that are open; ``reported`` the keys that reconciliation reported as unaccounted;
    ``outages`` say when which objects could not be read; ``dropped`` are, by key, the
    digests of what lies in the dropbox, as records name it, and of its bytes; ``blocked`` the
    subjects of all records of blocked work.
    """

    sent: Mapping[Content, Sent]
    copies: Sequence[Copy]
    service_jobs: Sequence[ServiceJob]
    imported_keys: Sequence[str]
    instances: Mapping[RowKey, InstanceRecord]
    batches: Mapping[str, BatchRecord]
    jobs: Mapping[str, JobRecord]
    manifests: Mapping[str, Manifest]
    objects: Sequence[StoredObject]
    digests: Mapping[str, Checksum]
    uploads: Sequence[str]
    reported: frozenset[str]
    told: frozenset[Told]
    outages: Sequence[Outage] = ()
    dropped: Mapping[str, tuple[str, Checksum]] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    tasks_died: int = 0

    def content(self, row: InstanceRecord) -> Content | None:
        """Which bytes a row speaks of: those of its batch's object. None if nobody has seen it."""
        digest = self.digests.get(first_key(row))
        return None if digest is None else Content(row.instance, digest)

    def rows_by_content(self) -> Mapping[Content, Sequence[InstanceRecord]]:
        """The rows whose bytes are known."""
        found: dict[Content, list[InstanceRecord]] = {}
        for row in self.instances.values():
            if content := self.content(row):
                found.setdefault(content, []).append(row)
        return found


def first_key(row: InstanceRecord) -> str:
    """The key of a row's object before it was moved anywhere."""
    uids = (row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)
    return str(InstanceKey(row.batch_id, *uids))


def first_admitted_after(batch: BatchRecord) -> datetime | None:
    """A moment before a batch's import first began; None if it never did.

    ``admitted_at`` is that of its latest execution: an earlier one may have compared its objects.
    """
    if batch.attempt and batch.closed_at:
        return batch.closed_at
    return batch.admitted_at


class Promise(StrEnum):
    """What was broken."""

    LOST = "acknowledged and lost"
    NO_REASON = "failed without a reason"
    GONE = "its object is not in the bucket"
    UNFINISHED_INSTANCE = "instance without an end"
    NOT_IN_HEALTHIMAGING = "reported imported and not in HealthImaging"
    NOT_DELETED = "reported deleted and in HealthImaging"
    NOT_IN_LEDGER = "in HealthImaging and not imported in the ledger"
    IMPORTED_AND_FAILED = "reported failed and imported by the same batch"
    IMPORTED_TWICE = "imported more than once"
    MISNAMED = "row beside another that is not named for its bytes"
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
    LEFT_IN_DROPBOX = "left in the dropbox, and named nowhere"
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
