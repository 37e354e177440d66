"""CheckStatus: how a job is doing, and at its end what became of every instance.

Once a batch has a job, only HealthImaging knows how its import ends, and nobody else decides it.

============================== ====================================================================
HealthImaging says             then
============================== ====================================================================
SUBMITTED, IN_PROGRESS         it is waited for, however long; past IMPORT_MAX_AGE_SECONDS it is
                               looked at ever less often, and the alarm's metric is told
COMPLETED                      its result files are read and recorded (``imports.completion``)
COMPLETED, results unreadable  they are waited for, and the metric is told; after a day, the image
                               sets tell what was imported
FAILED                         RecordFailure records HealthImaging's message
it knows no such job           its result files are read, if they can be; if not, and the job is an
                               hour old, the image sets tell; if they have nothing of it,
                               RecordFailure records that
nothing: throttled, denied     it is asked again, for as long as that takes
============================== ====================================================================
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.errors import (
    ImportRefused,
    ObjectDenied,
    ObjectTooLarge,
    ObjectUnavailable,
    ResultsNotReady,
    ResultsNotUnderstood,
    ServiceUnavailable,
)
from chalicelib.imports.completion import (
    admit_again,
    complete,
    complete_without_results,
    manifest_of,
)
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, Patience, job_state, wait_seconds
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.measures import report_unsettled
from chalicelib.imports.rows import closed_batch, import_request, new_job, target
from chalicelib.imports.start import link_job
from contract.batch_states import ENDED
from contract.errors import InvalidKey, InvalidManifest, ProductError
from contract.records import BatchRecord, BatchState, JobRecord, JobStatus

# What needs a person: no repetition changes it.
_BLOCKED = (
    ImportRefused,
    InvalidKey,
    InvalidManifest,
    ObjectDenied,
    ObjectUnavailable,
    ResultsNotUnderstood,
)
# Why a job's result files could not be read.
_NO_RESULTS = (ResultsNotReady, ResultsNotUnderstood, ObjectDenied, ObjectTooLarge)
# HealthImaging writes them with the job's end, or seconds behind it.
_RESULTS_LATE = timedelta(minutes=15)
_RESULTS_LOST = timedelta(days=1)
# A job that has just been started may not be known everywhere yet.
_UNKNOWN = timedelta(hours=1)
# How the job of a batch in this state has ended, where the batch alone tells it.
_END_OF = {BatchState.IMPORTED: JobStatus.COMPLETED, BatchState.FAILED: JobStatus.FAILED}
_LOST = "the job left no result files, and HealthImaging's image sets have nothing of the batch"
_NOT_KNOWN = "HealthImaging does not know the import job any more, and it left no result files"
_NO_REASON = "HealthImaging gave no reason"


def check_status(execution: Execution, job_id: str, context: ImportContext) -> dict[str, Any]:
    """The execution's ``job`` member, with the status for IsComplete and the next wait.

    A COMPLETED job has its results in the records before this returns; a FAILED one is left to
    RecordFailure. Raises the errors of ``imports.healthimaging`` and ``imports.completion``.
    """
    job = job_of(execution, job_id, context)
    if not (job.job_status.ended and _has_ended(execution, context)):  # else: a repeated call
        job = ask(execution, job, context)
    settings = context.settings
    patience = Patience(
        settings.poll_min_seconds, settings.poll_max_seconds, settings.import_max_age_seconds
    )
    wait = wait_seconds((context.now - job.submitted_at).total_seconds(), patience)
    return job_state(job.job_id, job.datastore_id, wait, job.job_status, job.message)


def _has_ended(execution: Execution, context: ImportContext) -> bool:
    """The batch ends before its job; but its record may have been deleted, and made again."""
    batch = context.stores.batches.get(execution.batch_id)
    return batch is not None and batch.state in ENDED


def job_of(execution: Execution, job_id: str, context: ImportContext) -> JobRecord:
    """The job's record, made again if it is gone.

    Raises InvalidManifest, InvalidKey or ObjectUnavailable if nothing is left to make it of, and
    ObjectDenied.
    """
    try:
        return context.stores.jobs.get(job_id) or _recorded_again(execution, job_id, context)
    except _BLOCKED as error:
        report_unsettled(execution.batch_id, type(error).__name__, context.settings, context.now)
        raise


def ask(execution: Execution, job: JobRecord, context: ImportContext) -> JobRecord:
    """The job as HealthImaging has it now; what it COMPLETED is recorded, a failure is not.

    Raises the errors of ``imports.healthimaging`` and ``imports.completion``.
    """
    try:
        view = context.service.look(job.datastore_id, job.job_id)
        if view is None:
            return _unknown(execution, job, context)
        if view.status is JobStatus.COMPLETED:
            return _completed(execution, job, view, context)
    except ProductError as error:
        is_told = isinstance(error, ResultsNotReady) or job.job_status.ended
        if isinstance(error, _BLOCKED) or (_is_overdue(job, context) and not is_told):
            report_unsettled(job.batch_id, type(error).__name__, context.settings, context.now)
        raise
    if view.status is JobStatus.FAILED:
        message = f"HealthImaging: {view.message or _NO_REASON}"
        return replace(job, job_status=view.status, message=message)
    return _still_running(job, view, context)


def _is_overdue(job: JobRecord, context: ImportContext) -> bool:
    age = (context.now - job.submitted_at).total_seconds()
    return age > context.settings.import_max_age_seconds


def _still_running(job: JobRecord, view: ImportView, context: ImportContext) -> JobRecord:
    if _is_overdue(job, context):
        report_unsettled(job.batch_id, "overdue", context.settings, context.now)
    running = replace(job, job_status=view.status)
    if running != job:
        context.stores.jobs.put(running)
    return running


def _completed(
    execution: Execution, job: JobRecord, view: ImportView, context: ImportContext
) -> JobRecord:
    try:
        return complete(execution, job, view, context)
    except _NO_RESULTS as error:
        late = context.now - (view.ended_at or job.submitted_at)
        if late > _RESULTS_LATE and isinstance(error, ResultsNotReady):
            report_unsettled(job.batch_id, type(error).__name__, context.settings, context.now)
        if late < _RESULTS_LOST:
            raise
    found = complete_without_results(execution, job, context)
    return found or replace(job, job_status=JobStatus.FAILED, message=_LOST)


def _unknown(execution: Execution, job: JobRecord, context: ImportContext) -> JobRecord:
    """A job that is older than HealthImaging's memory, or whose data store is gone with it."""
    view = ImportView(JobStatus.COMPLETED, job.output_s3_uri)
    try:
        return complete(execution, job, view, context)
    except _NO_RESULTS:
        if context.now - job.submitted_at < _UNKNOWN:
            raise ServiceUnavailable("HealthImaging does not know the import job yet") from None
    found = complete_without_results(execution, job, context)
    return found or replace(job, job_status=JobStatus.FAILED, message=_NOT_KNOWN)


def _recorded_again(execution: Execution, job_id: str, context: ImportContext) -> JobRecord:
    """From the batch's record and manifest: somebody has deleted the job's."""
    stores = context.stores
    manifest = manifest_of(execution, context)
    batch = stores.batches.get(execution.batch_id)
    if batch is None:
        batch = replace(closed_batch(manifest, execution.manifest_key, None), job_id=job_id)
        batch = admit_again(batch, context)
    datastore_id = target(batch, context.settings, manifest)
    request = import_request(manifest, datastore_id, execution.bucket, context.settings)
    since = batch.admitted_at or batch.closed_at or context.now
    job = new_job(manifest, execution, request, job_id, since)
    link_job(job, manifest, stores)
    if batch.state in ENDED:
        if batch.job_id != job_id:
            return job  # the batch ended without it: what HealthImaging says of it is recorded
        job = _ended_as(batch, job)
    stores.jobs.create(job)
    return job


def _ended_as(batch: BatchRecord, job: JobRecord) -> JobRecord:
    """PARTIAL does not say how the job ended: it is recorded as running, to be asked about.

    Only where the batch ended without a job is there nobody to ask.
    """
    status = _END_OF.get(batch.state)
    if status is None and job.job_id != job.batch_id:
        return job
    return replace(
        job,
        job_status=status or JobStatus.FAILED,
        counts=batch.counts,
        ended_at=batch.ended_at,
        message=batch.message,
    )
