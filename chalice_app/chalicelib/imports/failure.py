"""RecordFailure: whatever went wrong, the records say so and why."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from chalicelib.errors import (
    ImportRefused,
    ObjectDenied,
    ObjectMissing,
    ObjectUnavailable,
    ServiceUnavailable,
)
from chalicelib.imports.aside import bring_back
from chalicelib.imports.completion import admit_again, manifest_of, supersede
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, Failure, failure, job_failure, job_state
from chalicelib.imports.failed_instances import FailedImport, fail_instances, imported_rows
from chalicelib.imports.lost import lost_job, may_be_unlisted
from chalicelib.imports.measures import report_end, report_unsettled
from chalicelib.imports.outcomes import keep_outcomes
from chalicelib.imports.rows import (
    NOT_KNOWN,
    closed_batch,
    ending,
    opened,
    target,
    unstarted_job,
)
from chalicelib.imports.salvage import (
    Contents,
    contents,
    restore_manifest,
    told_by_objects,
)
from chalicelib.imports.start import link_job
from chalicelib.imports.status import check_status
from contract.batch_states import ENDED, BatchEvent
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import batch_prefix
from contract.manifest import Manifest
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    JobRecord,
    JobStatus,
)

_log = structlog.get_logger()
_NOT_CLOSED = "the batch is not closed yet, and nothing of it was changed"


def record_failure(event: Mapping[str, Any], context: ImportContext) -> dict[str, Any]:
    """The execution's ``job`` member, once a failure is recorded; or that there is none.

    A batch that has a job has not failed before HealthImaging says so: if the job runs, or has
    completed, that is the answer, whatever went wrong elsewhere. Safe to repeat. Raises the errors
    of CheckStatus where HealthImaging does not answer, and ServiceUnavailable.
    """
    execution, why = Execution.parse(event), failure(event)
    told = event.get("job", {}).get("jobId") or execution.batch_id
    batch = context.stores.batches.get(execution.batch_id)
    if batch is None:
        batch = _made_again(execution, told, context)
    if batch.state is BatchState.CLOSED:
        known = None if told == batch.batch_id else told
        batch = admit_again(replace(batch, job_id=batch.job_id or known), context)
    if batch.state is BatchState.OPEN:
        # Its receiver's, or recovery's: it has not failed, whoever started this execution.
        datastore_id = target(batch, context.settings)
        return job_state(batch.batch_id, datastore_id, 0, JobStatus.FAILED, _NOT_CLOSED)
    try:
        job_id = lost_job(batch, context) or batch.import_job_id or told
    except (ImportRefused, ObjectDenied):
        ended = context.stores.jobs.get(batch.batch_id) if batch.state in ENDED else None
        if ended is None:
            raise
        return _answer(ended)  # an operator has ended it by force: nobody waits for the answer
    if job_id == execution.batch_id:
        if may_be_unlisted(batch, context.now):
            raise ServiceUnavailable("the job of a start without an answer may not be listed yet")
        return fail_import(execution, job_id, why, context, batch.start_asked_at)
    state = check_status(execution, job_id, context)
    if state["status"] != JobStatus.FAILED:
        _log.warning("job_has_not_failed", batch_id=execution.batch_id, why=why.error)
        if state["status"] == JobStatus.COMPLETED:  # an earlier try may have died half way
            _yield_to(job_id, _manifest(execution, context), context)
        return state
    return fail_import(execution, job_id, job_failure(state.get("message")), context)


def _made_again(execution: Execution, told: str, context: ImportContext) -> BatchRecord:
    """The record of the batch, which somebody has deleted.

    Where its job is not ``told``, there may be one all the same, of a start whose mark was in that
    record. Then the job is looked for, in the data store that the manifest or the objects' metadata
    name.
    """
    manifest, mark = _manifest(execution, context), None
    if told == execution.batch_id:
        manifest = manifest or told_by_objects(execution.batch_id, context).manifest
        mark = context.now
    batch = _failed_batch(execution, Contents(manifest), None, context.now)
    return replace(batch, state=BatchState.CLOSED, start_asked_at=mark)


def fail_import(
    execution: Execution,
    job_id: str,
    why: Failure,
    context: ImportContext,
    looked_for: datetime | None = None,
    *,
    forced: bool = False,
) -> dict[str, Any]:
    """Write the failure into the instances, then the batch, then the job. Safe to repeat.

    An import that never got a job id is recorded under its batch's id. A job that has ended
    already keeps its end. HealthImaging must have been asked; where there is no job, for that of
    the start that was marked at ``looked_for``. Raises ServiceUnavailable; and, unless ``forced``,
    ObjectDenied if nobody can tell all that was in the batch.
    """
    stores, now = context.stores, context.now
    batch, known = stores.batches.get(execution.batch_id), stores.jobs.get(job_id)
    # The batch ends before its job; but its record may have been deleted, and made again.
    has_ended = batch is None or batch.state in ENDED
    if known is not None and known.job_status.ended and has_ended:
        return _answer(known)
    _refuse_if_started(execution, job_id, batch, looked_for)
    if known is None:  # the prefix of a job that is known was swept before its start
        context.files.end_uploads(batch_prefix(execution.batch_id))
    found = contents(execution, context, forced=forced)
    if found.manifest is None and not found.others:  # the alarm: nothing tells what was in it
        report_unsettled(execution.batch_id, ObjectMissing.__name__, context.settings, now)
    datastore_id = known.datastore_id if known else target(batch, context.settings, found.manifest)
    failed = FailedImport(execution, datastore_id, job_id, why, looked_for, batch, found)
    counts, rows = fail_instances(failed, context)
    if batch is not None and batch.state in ENDED:
        counts = batch.counts  # an earlier try's: it may have known more
    job = known or unstarted_job(
        execution, found.manifest, datastore_id, context.settings, job_id, now
    )
    ended = _ended(job, counts, why, now)
    # Kept by the very end that the job's record gets: by that they are looked for.
    keep_outcomes(ended, found.manifest, rows, context)
    _end_batch(failed, counts, context)
    _end_job(failed, ended, context, is_new=known is None)
    return _answer(ended)


def _end_batch(failed: FailedImport, counts: Counts, context: ImportContext) -> None:
    """The batch's end; behind it a manifest to retry it by, should there be none."""
    execution, found, batches = failed.execution, failed.found, context.stores.batches
    ended = replace(
        _failed_batch(execution, found, failed.batch, context.now),
        counts=counts,
        job_id=failed.job_id,
        message=failed.why.reason,
        ended_at=context.now,
    )
    batches.move(ended, ending(counts) if counts.imported else BatchEvent.FAILED)
    latest = batches.get(execution.batch_id)
    _refuse_if_started(execution, failed.job_id, latest, failed.looked_for)
    if found.manifest is not None and found.is_rebuilt:
        # Behind the batch's end: the event of its PUT must not close the batch again.
        restore_manifest(found.manifest, failed.batch, execution, context)


def _end_job(
    failed: FailedImport, ended: JobRecord, context: ImportContext, *, is_new: bool
) -> None:
    """The job's record, unless another job has ended the batch meanwhile; and the measures."""
    stores, manifest = context.stores, failed.found.manifest
    if is_new and manifest is not None:
        link_job(ended, manifest, stores)
    is_told = not stores.jobs.put(ended)
    latest = stores.batches.get(failed.execution.batch_id)
    _yield(latest, failed.job_id, manifest, context)
    _refuse_if_started(failed.execution, failed.job_id, latest, failed.looked_for)
    if not is_told:
        report_end(ended, context.settings, context.now)


def _refuse_if_started(
    execution: Execution, job_id: str, latest: BatchRecord | None, looked_for: datetime | None
) -> None:
    """A failure without a job does not stand where a job was started since one was looked for.

    ``latest`` is the batch as it is now. The next try looks for that job. Raises
    ServiceUnavailable.
    """
    if job_id != execution.batch_id or latest is None:
        return
    if latest.import_job_id is not None or latest.start_asked_at != looked_for:
        raise ServiceUnavailable("the batch's import was started meanwhile")


def _ended(job: JobRecord, counts: Counts, why: Failure, now: datetime) -> JobRecord:
    """FAILED; or COMPLETED, where HealthImaging had no job and nothing failed."""
    all_there = job.job_id == job.batch_id and counts.imported and not counts.failed
    status = JobStatus.COMPLETED if all_there else JobStatus.FAILED
    return replace(job, job_status=status, counts=counts, ended_at=now, message=why.reason)


def _yield(
    latest: BatchRecord | None, job_id: str, manifest: Manifest | None, context: ImportContext
) -> None:
    """Another job than ``job_id`` may have ended the batch meanwhile."""
    other = latest.import_job_id if latest else None
    if other is not None and other != job_id:
        _yield_to(other, manifest, context)


def _yield_to(job_id: str, manifest: Manifest | None, context: ImportContext) -> None:
    """Another job has ended the batch: what it has imported is moved back under the prefix."""
    if manifest is not None:
        supersede(manifest.batch_id, job_id, context)
        bring_back(context.files, manifest.batch_id, imported_rows(manifest, context).keys())


def _manifest(execution: Execution, context: ImportContext) -> Manifest | None:
    """None if nobody can tell what was in the batch."""
    try:
        return manifest_of(execution, context)
    except (InvalidKey, InvalidManifest, ObjectDenied, ObjectUnavailable):
        return None


def _answer(job: JobRecord) -> dict[str, Any]:
    return job_state(job.job_id, job.datastore_id, 0, job.job_status, job.message)


def _failed_batch(
    execution: Execution, found: Contents, known: BatchRecord | None, now: datetime
) -> BatchRecord:
    if found.manifest is not None and not (found.is_rebuilt and known):
        return closed_batch(found.manifest, execution.manifest_key, known)
    return known or BatchRecord(
        batch_id=execution.batch_id,
        state=BatchState.FAILED,
        manifest_key=execution.manifest_key,
        calling_ae_title=NOT_KNOWN,
        opened_at=opened(execution.batch_id) or now,
        closed_at=now,
        counts=Counts(0),
    )
