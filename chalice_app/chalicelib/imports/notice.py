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
from chalicelib.imports.status import ask
from contract.errors import InvalidManifest
from contract.keys import manifest_key
from contract.records import JobRecord, JobStatus

# HealthImaging's job ids have at most 32 characters; DynamoDB refuses a key of 2,049 bytes.
_MAX_JOB_ID = 64
_log = structlog.get_logger()


def import_noticed(detail: Mapping[str, Any], bucket: str, context: ImportContext) -> None:
    """Record what became of the job that an event names, if it is ours and has ended.

    What the event says of the job's state is not believed. Raises ServiceUnavailable or
    ImportThrottled; Lambda then tries again, twice.
    """
    job = _job(detail, context)
    if job is None or job.job_status is JobStatus.COMPLETED:
        return
    execution = Execution(job.batch_id, bucket, manifest_key(job.batch_id), job.execution_arn)
    try:
        # One that is recorded as FAILED, too: it may have completed after all.
        found = ask(execution, job, context)
        if found.job_status is JobStatus.FAILED:
            fail_import(execution, job.job_id, job_failure(found.message), context)
    except (
        ResultsNotReady,
        ResultsNotUnderstood,
        ImportRefused,
        ObjectDenied,
        ObjectUnavailable,
        InvalidManifest,
    ) as error:
        # The execution meets the same, and waits.
        _log.info("notice_left_to_execution", batch_id=job.batch_id, error=type(error).__name__)
    else:
        _log.info("import_noticed", batch_id=job.batch_id, status=found.job_status)


def _job(detail: Mapping[str, Any], context: ImportContext) -> JobRecord | None:
    job_id = detail.get("jobId")
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID:
        return None
    job = context.stores.jobs.get(job_id)
    return job if job and job.datastore_id == detail.get("datastoreId") else None
