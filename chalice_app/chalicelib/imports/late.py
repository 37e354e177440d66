"""A batch that is recorded as failed: HealthImaging is asked once more what became of its job.

Nobody imports an instance again before this. A success that comes late corrects the records.
"""

from chalicelib.errors import ImportRunning
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, job_failure
from chalicelib.imports.failure import fail_import
from chalicelib.imports.lost import lost_job
from chalicelib.imports.status import ask, job_of
from contract.keys import manifest_key
from contract.records import BatchRecord, JobStatus


def ask_again(batch: BatchRecord, context: ImportContext) -> BatchRecord:
    """The batch as it is recorded now. One whose results were read before is not asked about.

    Raises ImportRunning if its job has not ended, and the errors of ``imports.status.ask`` where
    HealthImaging does not answer.
    """
    job_id = lost_job(batch, context) or batch.import_job_id
    if job_id is None:
        return batch
    bucket = context.files.bucket
    execution = Execution(batch.batch_id, bucket, manifest_key(batch.batch_id))
    job = job_of(execution, job_id, context)
    if job.job_status is JobStatus.COMPLETED:
        return batch
    job = ask(execution, job, context)
    if not job.job_status.ended:
        raise ImportRunning("the batch's import job still runs")
    if job.job_status is JobStatus.FAILED:  # nobody has recorded it if the execution is dead
        fail_import(execution, job.job_id, job_failure(job.message), context)
    return context.stores.batches.get(batch.batch_id) or batch
