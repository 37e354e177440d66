"""An import job's way from SUBMITTED to its end, in steps the scheduler runs.

https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from local.errors import in_one_line
from local.healthimaging.dicom_reader import Accepted, Rejected, read_file
from local.healthimaging.emulator import Emulator
from local.healthimaging.errors import ImportFailed
from local.healthimaging.events import ended_event
from local.healthimaging.image_sets import place
from local.healthimaging.limits import S3Object, limit_exceeded
from local.healthimaging.records import Datastore, ImportJob, JobStatus, split_s3_uri
from local.healthimaging.results import (
    SERVER_EXCEPTION,
    VALIDATION_EXCEPTION,
    Failed,
    Imported,
    Outcome,
    ResultFiles,
    result_files,
    split_by_time,
)
from local.healthimaging.storage import S3Objects, StoredFiles, new_stored_id

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object whose bytes the job did not get. No page tells the messages."""

    message: str


@dataclass(frozen=True, slots=True)
class ReadFile:
    """An input file and what reading it gave."""

    key: str
    result: Accepted | Rejected | Unreadable


class ImportRunner:
    """Runs the import jobs of one backend. ``lock`` guards every data store's contents."""

    def __init__(
        self, emulator: Emulator, objects: S3Objects, files: StoredFiles, lock: threading.RLock
    ) -> None:
        self._emulator = emulator
        self._objects = objects
        self._files = files
        self._lock = lock
        self._closed = False

    def submit(self, datastore: Datastore, job: ImportJob) -> None:
        """Take a job into the data store and onto its way."""
        datastore.jobs[job.job_id] = job
        self._after(
            self._emulator.options.seconds_submitted,
            datastore,
            job,
            partial(self._begin, datastore),
        )

    def close(self) -> None:
        """Let no step run any more."""
        self._closed = True

    def _after(
        self,
        seconds: float,
        datastore: Datastore,
        job: ImportJob,
        step: Callable[[ImportJob], None],
    ) -> None:
        scheduler = self._emulator.scheduler
        scheduler.at(scheduler.now() + seconds, partial(self._run, datastore, job.job_id, step))

    def _run(self, datastore: Datastore, job_id: str, step: Callable[[ImportJob], None]) -> None:
        """One step; whatever goes wrong ends the job, so that nobody waits for it for ever."""
        if self._closed:
            return
        job = datastore.jobs[job_id]
        try:
            step(job)
        except ImportFailed as failure:
            self._fail(datastore, str(failure), job)
        except Exception as error:  # noqa: BLE001 - any defect must end the job, not the worker
            # Without the message: pydicom's quote what it reads.
            _LOG.error("import job %s broke: %s", job_id, in_one_line(error))
            self._fail(datastore, "INTERNAL_ERROR: DICOM import job has failed.", job)

    def _begin(self, datastore: Datastore, job: ImportJob) -> None:
        job = self._update(datastore, replace(job, status=JobStatus.IN_PROGRESS))
        options, started_at = self._emulator.options, self._emulator.scheduler.now()
        seconds_per_job = options.seconds_per_job + self._emulator.take_delay()
        try:
            read = self._read(job)
        except ImportFailed as failure:
            step = partial(self._fail, datastore, str(failure))
            self._after(seconds_per_job, datastore, job, step)
            return
        # Reading took real time already, which is part of the time the job takes.
        took = self._emulator.scheduler.now() - started_at
        seconds = seconds_per_job + len(read) * options.seconds_per_file - took
        self._after(seconds, datastore, job, partial(self._complete, datastore, read))

    def _read(self, job: ImportJob) -> list[ReadFile]:
        forced = self._emulator.take_failure()
        if forced:
            raise ImportFailed(forced)
        bucket, prefix = split_s3_uri(job.input_s3_uri)
        self._objects.require(split_s3_uri(job.output_s3_uri)[0])
        listed = self._objects.list(bucket, prefix, job.input_owner_account_id)
        exceeded = limit_exceeded(listed, prefix)
        if exceeded:
            raise ImportFailed(exceeded)
        return [ReadFile(each.key, self._read_one(job, bucket, each)) for each in listed]

    def _read_one(
        self, job: ImportJob, bucket: str, listed: S3Object
    ) -> Accepted | Rejected | Unreadable:
        if listed.is_archived:
            return Unreadable("Object is archived")
        data = self._objects.read(bucket, listed.key, job.input_owner_account_id)
        if data is None:
            return Unreadable("Object could not be read")
        result = read_file(data, new_stored_id())
        if isinstance(result, Accepted):
            self._files.put(result.instance.stored_id, data)
        return result

    def _fail(self, datastore: Datastore, message: str, job: ImportJob) -> None:
        # A job that completed stays so, even if its late results find no bucket any more.
        if job.is_live:
            self._end(datastore, job, JobStatus.FAILED, message)

    def _complete(self, datastore: Datastore, read: Sequence[ReadFile], job: ImportJob) -> None:
        options = self._emulator.options
        results = result_files(job, self._place(datastore, read), options)
        at_once, late = split_by_time(results, options)
        self._write(at_once, job)
        self._end(datastore, job, JobStatus.COMPLETED, None)
        if late:
            step = partial(self._write, late)
            self._after(options.manifest_lag_seconds, datastore, job, step)

    def _place(self, datastore: Datastore, read: Sequence[ReadFile]) -> list[Outcome]:
        accepted = [each.result.instance for each in read if isinstance(each.result, Accepted)]
        with self._lock:
            placement = place(
                datastore.image_sets,
                accepted,
                now=self._emulator.scheduler.now(),
                new_id=lambda: uuid.uuid4().hex,
            )
            datastore.image_sets = placement.image_sets
        outcomes: list[Outcome] = []
        for each in read:
            match each.result:
                case Accepted(instance, warnings):
                    image_set = placement.image_sets[placement.homes[instance.stored_id]]
                    outcomes.append(
                        Imported(
                            input_file=each.key,
                            image_set_id=image_set.image_set_id,
                            image_set_version=image_set.latest.number,
                            is_primary=image_set.is_primary,
                            warnings=warnings,
                        )
                    )
                case Rejected(message):
                    outcomes.append(Failed(each.key, VALIDATION_EXCEPTION, message))
                case Unreadable(message):
                    outcomes.append(Failed(each.key, SERVER_EXCEPTION, message))
        return outcomes

    def _write(self, results: ResultFiles, job: ImportJob) -> None:
        bucket, folder = split_s3_uri(job.output_s3_uri)
        for path, body in results.items():
            self._objects.write(bucket, f"{folder}{path}", body)

    def _end(
        self, datastore: Datastore, job: ImportJob, status: JobStatus, message: str | None
    ) -> None:
        ended_at = self._emulator.scheduler.now()
        ended = replace(job, status=status, ended_at=ended_at, message=message)
        self._update(datastore, ended)
        self._emulator.tell(*ended_event(ended), datastore.arn)

    def _update(self, datastore: Datastore, job: ImportJob) -> ImportJob:
        with self._lock:
            datastore.jobs[job.job_id] = job
        return job
