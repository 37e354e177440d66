"""A start whose answer nobody has: HealthImaging may have the job, and is asked before another.

The clientToken leads a repeated start to the same job, for as long as HealthImaging remembers it;
no page tells how long that is. So a start is marked in the batch's record before it is sent, and
the mark goes with a clear answer. Where it stands, the job is looked for by the batch's id, which
is its name: among those that run; then by the folder of its results; then among those that have
completed, whose results may be on their way.
"""

from datetime import datetime, timedelta
from functools import partial

import structlog

from chalicelib.errors import ImportRefused, ObjectDenied
from chalicelib.imports.context import ImportContext
from chalicelib.imports.measures import report_unsettled
from chalicelib.imports.rows import target
from contract.errors import ProductError
from contract.records import BatchRecord, JobStatus

# By how much the list of jobs lags behind their starts is on no page; nobody is in a hurry here.
_LISTED = timedelta(minutes=15)
_FOLDER = "-DicomImport-"
_RUNNING, _COMPLETED = (JobStatus.SUBMITTED, JobStatus.IN_PROGRESS), (JobStatus.COMPLETED,)
_log = structlog.get_logger()


def lost_job(batch: BatchRecord, context: ImportContext) -> str | None:
    """The id of the job of a start without an answer, if there is one: it is the batch's now.

    Raises the errors of ``imports.healthimaging``, and ObjectDenied.
    """
    if batch.start_asked_at is None or batch.import_job_id is not None:
        return None
    datastore_id = target(batch, context.settings)
    try:
        find = partial(context.service.find, datastore_id, batch.batch_id)
        # In the order of a job's life: one that goes on meanwhile is met later, never missed.
        job_id = find(_RUNNING) or _by_results(batch.batch_id, datastore_id, context)
        job_id = job_id or find(_COMPLETED)
    except ProductError as error:
        is_overdue = context.now - batch.start_asked_at > timedelta(
            seconds=context.settings.import_max_age_seconds
        )
        if is_overdue or isinstance(error, (ImportRefused, ObjectDenied)):
            report_unsettled(batch.batch_id, type(error).__name__, context.settings, context.now)
        raise
    if job_id is not None:
        _log.warning("lost_job_found", batch_id=batch.batch_id, job_id=job_id)
        context.stores.batches.attach_job(batch.batch_id, job_id)
    return job_id


def may_be_unlisted(batch: BatchRecord, now: datetime) -> bool:
    """Whether a start without an answer is so young that not to find its job tells nothing."""
    asked_at = batch.start_asked_at
    return batch.import_job_id is None and asked_at is not None and now - asked_at < _LISTED


def _by_results(batch_id: str, datastore_id: str, context: ImportContext) -> str | None:
    folders = context.results.folders(f"{batch_id}/")
    prefix = f"{datastore_id}{_FOLDER}"
    found = (name.removeprefix(prefix) for name in folders if name.startswith(prefix))
    return next(found, None)
