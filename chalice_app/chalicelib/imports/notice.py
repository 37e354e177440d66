"""HealthImaging's own word that a job has ended, on EventBridge: results are recorded at once.

It is delivered as well as EventBridge can. Nothing depends on it: the execution looks for itself,
and finds everything done. So one that is lost, late, early, repeated or foreign is harmless.
https://docs.aws.amazon.com/healthimaging/latest/devguide/event-notifications.html
"""

from collections.abc import Mapping
from typing import Any

import structlog

from chalicelib.errors import (
    ImportRefused,
    ObjectDenied,
    ObjectUnavailable,
    ResultsNotReady,
    ResultsNotUnderstood,
)
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, job_failure
from chalicelib.imports.failure import fail_import
from chalicelib.imports.rows import target
from chalicelib.imports.status import ask, job_of
from contract.batch_states import ENDED
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import manifest_key, parse_batch_id
from contract.records import JobRecord, JobStatus

# HealthImaging's job ids have at most 32 characters; DynamoDB refuses a key of 2,049 bytes.
_MAX_JOB_ID = 64
# The execution meets the same, and waits.
_EXECUTIONS = (
    ResultsNotReady,
    ResultsNotUnderstood,
    ImportRefused,
    ObjectDenied,
    ObjectUnavailable,
    InvalidManifest,
)
_log = structlog.get_logger()


def import_noticed(detail: Mapping[str, Any], bucket: str, context: ImportContext) -> None:
    """Record what became of the job that an event names, if it is ours and has ended.

    What the event says of the job's state is not believed. Raises ServiceUnavailable or
    ImportThrottled; Lambda then tries again, twice.
    """
    try:
        job = _job(detail, bucket, context)
        if job is None or job.job_status is JobStatus.COMPLETED:
            return
        execution = Execution(job.batch_id, bucket, manifest_key(job.batch_id), job.execution_arn)
        # One that is recorded as FAILED, too: it may have completed after all.
        found = ask(execution, job, context)
        if found.job_status is JobStatus.FAILED:
            fail_import(execution, job.job_id, job_failure(found.message), context)
    except _EXECUTIONS as error:
        _log.info("notice_left_to_execution", error=type(error).__name__)
    else:
        _log.info("import_noticed", batch_id=job.batch_id, status=found.job_status)


def _job(detail: Mapping[str, Any], bucket: str, context: ImportContext) -> JobRecord | None:
    job_id = detail.get("jobId")
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID:
        return None
    job = context.stores.jobs.get(job_id) or _lost(detail, job_id, bucket, context)
    return job if job and job.datastore_id == detail.get("datastoreId") else None


def _lost(
    detail: Mapping[str, Any], job_id: str, bucket: str, context: ImportContext
) -> JobRecord | None:
    """A job that no record names, of a batch that was recorded as failed meanwhile.

    Its start was never answered, or somebody has deleted its record.
    """
    try:
        batch_id = parse_batch_id(str(detail.get("jobName")))
    except InvalidKey:
        return None
    batch = context.stores.batches.get(batch_id)
    if batch is None or batch.start_asked_at is None:
        return None
    if batch.state not in ENDED or batch.job_id not in (batch_id, job_id):
        return None  # the execution looks for it
    view = context.service.look(target(batch, context.settings), job_id)
    if view is None or view.job_name != batch_id:
        return None
    return job_of(Execution(batch_id, bucket, manifest_key(batch_id)), job_id, context)
