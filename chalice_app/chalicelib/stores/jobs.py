"""Where import jobs are kept."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from contract.records import JobRecord, JobStatus
from contract.times import to_iso


class JobStore(Protocol):
    """Import jobs by id, and the keys of lists of them."""

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None."""
        ...

    def get_many(self, job_ids: Sequence[str]) -> Mapping[str, JobRecord]:
        """The jobs that exist, by id; no id may come twice."""
        ...

    def create(self, job: JobRecord) -> bool:
        """Keep a new job; False, and nothing changed, if there is one of this id."""
        ...

    def put(self, job: JobRecord) -> bool:
        """Keep or replace a job; False, and nothing changed, if the one kept has ended."""
        ...

    def correct(self, job: JobRecord) -> bool:
        """The same for a job that may be kept as FAILED; False if it is COMPLETED."""
        ...

    def keys(self, status: JobStatus | None, low: str, high: str) -> Iterator[str]:
        """The list keys of the jobs of one status, or of all, from ``high`` down to ``low``.

        Fetched as they are consumed, from an index: what was written in the last second may be
        missing or old.
        """
        ...


def list_key(job: JobRecord) -> str:
    """``<submittedAt>#<jobId>``: a job's place in every list of jobs."""
    return f"{to_iso(job.submitted_at)}#{job.job_id}"


def job_id_of(key: str) -> str:
    """The job that a list key is of."""
    return key.partition("#")[2]
