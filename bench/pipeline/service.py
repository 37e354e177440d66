"""HealthImaging's import jobs, for a client of boto3's kind, behind the emulator's own quotas.

The emulator's backend itself would read every object; here a batch is a number of files and bytes.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from bench.pipeline.account import LIMITS, REGION
from bench.pipeline.assumptions import ImportDuration
from bench.pipeline.clock import VirtualClock
from local.healthimaging.limits import S3Object, limit_exceeded
from local.healthimaging.quotas import TokenBucket

# boto3's client repeats a throttled call once (chalicelib/aws.py). Its pause is left out: the
# second call finds the bucket as the first one did.
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Load:
    """What lies under a batch's prefix."""

    files: int
    size: int


@dataclass(slots=True)
class Job:
    """One import job."""

    job_id: str
    params: dict[str, Any]
    status: str = "IN_PROGRESS"


class ImportJobs:
    """StartDICOMImportJob and GetDICOMImportJob, and what became of every call."""

    def __init__(
        self,
        clock: VirtualClock,
        duration: ImportDuration,
        load: Callable[[str], Load],
        ended: Callable[[Job], None],
    ) -> None:
        """``load`` tells what a batch holds, by the batch's id; ``ended`` is told of each job."""
        self._clock = clock
        self._duration = duration
        self._load = load
        self._ended = ended
        self._buckets: dict[str, TokenBucket] = {}
        self._jobs: dict[str, Job] = {}
        self._by_token: dict[str, Job] = {}
        self.live = 0
        self.most_live = 0
        self.accepted: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.over_quota = 0
        self.started_at: dict[str, float] = {}

    @property
    def started(self) -> int:
        """How many jobs there were."""
        return len(self._by_token)

    def start_dicom_import_job(self, **params: Any) -> dict[str, Any]:
        """See boto3."""
        self._admit("StartDICOMImportJob")
        token = params["clientToken"]
        if token not in self._by_token:
            limit = LIMITS.import_jobs_in(REGION)
            if limit is not None and self.live >= limit:
                self.over_quota += 1
                _refuse("ServiceQuotaExceededException", "StartDICOMImportJob")
            self._start(token, params)
        return {"jobId": self._by_token[token].job_id}

    def get_dicom_import_job(self, **params: Any) -> dict[str, Any]:
        """See boto3."""
        self._admit("GetDICOMImportJob")
        job = self._jobs[params["jobId"]]
        return {
            "jobProperties": {"jobStatus": job.status, "outputS3Uri": job.params["outputS3Uri"]}
        }

    def live_job(self, job_id: str) -> bool:
        """Whether a job is on its way."""
        job = self._jobs.get(job_id)
        return job is not None and job.status == "IN_PROGRESS"

    def forget(self, job_id: str) -> None:
        """Nobody will ask for the job again."""
        self._jobs.pop(job_id, None)

    def _start(self, token: str, params: dict[str, Any]) -> None:
        job = Job(f"{self.started:032x}", params)
        self._by_token[token] = self._jobs[job.job_id] = job
        self.started_at[token] = self._clock.seconds
        self.live += 1
        self.most_live = max(self.live, self.most_live)
        load = self._load(token)
        exceeded = _exceeded(load.files, load.size)
        seconds = self._duration.seconds_per_job if exceeded else self._duration.seconds(load.files)
        end = functools.partial(self._end, job, "FAILED" if exceeded else "COMPLETED")
        self._clock.after(seconds, end)

    def _end(self, job: Job, status: str) -> None:
        self.live -= 1
        job.status = status
        self._ended(job)

    def _admit(self, operation: str) -> None:
        rate = LIMITS.rates[operation]
        now = self._clock.seconds
        for _ in range(_ATTEMPTS):
            bucket = self._buckets.get(operation, TokenBucket.full(rate, now)).take(now)
            if bucket is not None:
                self._buckets[operation] = bucket
                self.accepted[operation] += 1
                return
            self.throttled[operation] += 1
        _refuse("ThrottlingException", operation)


@functools.cache
def _exceeded(files: int, size: int) -> str | None:
    """The emulator's verdict on a job of so many equal files."""
    each = size // files
    return limit_exceeded([S3Object(f"1/2/{number}.dcm", each) for number in range(files)], "")


def _refuse(code: str, operation: str) -> NoReturn:
    raise ClientError({"Error": {"Code": code, "Message": "Rate exceeded"}}, operation)
