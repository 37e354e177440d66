"""HealthImaging as the import model has it: jobs that end in any way, and what they imported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chalicelib.errors import ImportRefused, ImportThrottled, ServiceUnavailable
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.inventory import Held

from contract.keys import InstanceKey, batch_prefix
from contract.records import JobStatus
from tests.unit.chalicelib.builders import RESULTS

NO_ANSWER = {
    "throttled": ImportThrottled("ThrottlingException"),
    "denied": ImportRefused("AccessDeniedException"),
    "down": ServiceUnavailable("no answer"),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One import job. ``took``: the keys that it read; ``results``: 0 no files, 1 some, 2 all.

    ``listed``: the list shows it. ``lied``: it was called FAILED, and has COMPLETED.
    """

    job_id: str
    batch_id: str
    status: JobStatus = JobStatus.SUBMITTED
    took: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    results: int = 0
    listed: bool = True
    lied: bool = False

    @property
    def image_set_id(self) -> str:
        return self.job_id.removeprefix("job").zfill(32)

    @property
    def uids(self) -> tuple[str, ...]:
        """What it has imported."""
        keys = () if self.status is not JobStatus.COMPLETED else self.took or ()
        found = (InstanceKey.parse(key).sop_instance_uid for key in keys)
        return tuple(uid for uid in found if uid not in self.refused)


@dataclass
class Imaging:
    """An ImportService. ``fault`` is what goes wrong with its next call."""

    jobs: dict[str, Job] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)  # clientTokens
    deleted: set[str] = field(default_factory=set)  # image sets
    told: set[str] = field(default_factory=set)  # of them, those whose event was delivered
    is_listed: bool = True  # whether a new job is in the list at once
    fault: str | None = None

    def start(self, request: ImportRequest) -> str:
        """See ImportService; ``unanswered`` starts the job."""
        if self.fault in NO_ANSWER:
            raise NO_ANSWER[self.fault]
        found = [job for job in self.of(request.batch_id) if job.batch_id not in self.forgotten]
        job = found[-1] if found else Job(f"job{len(self.jobs) + 1}", request.batch_id)
        if not found:
            self.jobs[job.job_id] = replace(job, listed=self.is_listed)
            self.forgotten.discard(job.batch_id)
        if self.fault:
            raise NO_ANSWER["down"]
        return job.job_id

    def find(self, datastore_id: str, job_name: str, statuses: Sequence[JobStatus]) -> str | None:
        """See ImportService."""
        if self.fault:
            raise NO_ANSWER[self.fault]
        shown = (job for job in self.of(job_name) if job.listed)
        return next((job.job_id for job in shown if job.status in statuses), None)

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:
        """See ImportService."""
        if self.fault:
            raise NO_ANSWER[self.fault]
        return {uid: Held(job.image_set_id, 1, True) for uid, job in self.live()}

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:
        """See ImportService."""
        if self.fault:
            raise NO_ANSWER[self.fault]
        return image_set_id not in self.deleted

    def look(self, datastore_id: str, job_id: str) -> ImportView | None:
        """See ImportService."""
        if self.fault:
            raise NO_ANSWER[self.fault]
        job = self.jobs[job_id]
        name = job.batch_id
        return ImportView(job.status, f"s3://{RESULTS}/{name}/", "no", job_name=name)

    def of(self, batch_id: str) -> list[Job]:
        """A batch's jobs, oldest first."""
        return [job for job in self.jobs.values() if job.batch_id == batch_id]

    def live(self) -> Iterator[tuple[str, Job]]:
        """Each copy that is there: its UID, and the job that made it."""
        for job in self.jobs.values():
            if job.image_set_id not in self.deleted:
                for uid in job.uids:
                    yield uid, job

    def begin(self, job_id: str, keys: list[str]) -> None:
        """The job reads what stands under its prefix; where there is nothing, it fails."""
        job = self.jobs[job_id]
        took = tuple(key for key in keys if key.startswith(batch_prefix(job.batch_id)))
        status = JobStatus.IN_PROGRESS if took else JobStatus.FAILED
        self.jobs[job_id] = replace(job, took=took, status=status)
