"""A batch that is recorded as failed, or STALLED: HealthImaging is asked what became of its job.

Nobody imports an instance again before this. A success that comes late corrects the records.
"""

from chalicelib.errors import ImportRunning
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, Failure, job_failure
from chalicelib.imports.failure import fail_import
from chalicelib.imports.lost import lost_job, may_be_unlisted
from chalicelib.imports.status import ask, job_of
from contract.batch_states import ENDED
from contract.records import BatchRecord, BatchState, JobStatus

_DEAD = Failure(
    "ExecutionEnded",
    "no execution imports the batch, HealthImaging has no job of it, and an operator has ended it",
)
_UNANSWERED = Failure(
    "ImportUnsettled",
    "nobody can say what the batch's job has imported, and an operator has ended it by force",
)


def ask_again(batch: BatchRecord, context: ImportContext) -> BatchRecord:
    """The batch as it is recorded now. One whose results were read before is not asked about.

    A STALLED one has failed, if HealthImaging has no job of it. Raises ImportRunning if its job
    has not ended, or may not be listed yet; ServiceUnavailable; and the errors of
    ``imports.status.ask`` where HealthImaging does not answer.
    """
    job_id = lost_job(batch, context) or batch.import_job_id
    if job_id is None:
        return _without_job(batch, context)
    execution = Execution.of(batch.batch_id, context.files.bucket)
    job = job_of(execution, job_id, context)
    if job.job_status is JobStatus.COMPLETED and batch.state in ENDED:
        return batch
    job = ask(execution, job, context)
    if not job.job_status.ended:
        raise ImportRunning("the batch's import job still runs")
    if job.job_status is JobStatus.FAILED:  # nobody has recorded it if the execution is dead
        fail_import(execution, job.job_id, job_failure(job.message), context)
    return context.stores.batches.get(batch.batch_id) or batch


def _without_job(batch: BatchRecord, context: ImportContext) -> BatchRecord:
    if _is_half_ended(batch, context):
        return _end(batch, Failure(_DEAD.error, batch.message or _DEAD.reason), context)
    if batch.state is not BatchState.STALLED:
        return batch
    if may_be_unlisted(batch, context.now):
        raise ImportRunning(
            "the batch's job may have been started in the last 15 minutes, and not be listed yet"
        )
    return _end(batch, _DEAD, context)


def _is_half_ended(batch: BatchRecord, context: ImportContext) -> bool:
    """Whether who ended the batch died before it had written the job's record."""
    has_ended = batch.state in ENDED and batch.job_id == batch.batch_id
    return has_ended and not batch.retried_as and context.stores.jobs.get(batch.batch_id) is None


def end_unanswered(batch: BatchRecord, context: ImportContext) -> BatchRecord:
    """The batch, recorded as failed, though HealthImaging does not say how its job ended.

    Only where an operator says so. Should the job turn out to have imported something, that
    corrects the records. Raises ServiceUnavailable.
    """
    return _end(batch, _UNANSWERED, context, forced=True)


def _end(
    batch: BatchRecord, why: Failure, context: ImportContext, *, forced: bool = False
) -> BatchRecord:
    execution = Execution.of(batch.batch_id, context.files.bucket)
    job_id = batch.import_job_id or batch.batch_id
    fail_import(execution, job_id, why, context, batch.start_asked_at, forced=forced)
    return context.stores.batches.get(batch.batch_id) or batch
