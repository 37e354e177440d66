"""RecordFailure: whatever went wrong, the records say so and why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from chalicelib.errors import ObjectDenied, ObjectMissing, ObjectUnavailable, ServiceUnavailable
from chalicelib.imports.aside import bring_back, failed_key, move_all
from chalicelib.imports.completion import admit_again, manifest_of, supersede
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, Failure, failure, job_failure, job_state
from chalicelib.imports.lost import lost_job, may_be_unlisted
from chalicelib.imports.measures import report_end, report_unsettled
from chalicelib.imports.outcomes import keep_outcomes
from chalicelib.imports.rows import (
    NOT_KNOWN,
    closed_batch,
    ending,
    instance_row,
    opened,
    unstarted_job,
)
from chalicelib.imports.salvage import (
    Contents,
    contents,
    manifest_of_objects,
    restore_manifest,
)
from chalicelib.imports.start import link_job
from chalicelib.imports.status import check_status
from chalicelib.imports.sweep import moved_duplicates
from chalicelib.stores import instances as ledger
from contract.batch_states import ENDED, BatchEvent
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import batch_prefix
from contract.manifest import Manifest, ManifestInstance
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)

_FAILED = "the batch's import failed; the ledger has the reason"
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
        datastore_id = batch.datastore_id or context.settings.datastore_id
        return job_state(batch.batch_id, datastore_id, 0, JobStatus.FAILED, _NOT_CLOSED)
    job_id = lost_job(batch, context) or batch.import_job_id or told
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
        manifest = manifest or manifest_of_objects(execution.batch_id, context)[0]
        mark = context.now
    batch = _failed_batch(execution, Contents(manifest), None, context.now)
    return replace(batch, state=BatchState.CLOSED, start_asked_at=mark)


def fail_import(
    execution: Execution,
    job_id: str,
    why: Failure,
    context: ImportContext,
    looked_for: datetime | None = None,
) -> dict[str, Any]:
    """Write the failure into the instances, then the batch, then the job. Safe to repeat.

    An import that never got a job id is recorded under its batch's id. A job that has ended
    already keeps its end. HealthImaging must have been asked; where there is no job, for that of
    the start that was marked at ``looked_for``. Raises ServiceUnavailable.
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
    found = contents(execution, context)
    if found.manifest is None and not found.others:  # the alarm: nothing tells what was in it
        report_unsettled(execution.batch_id, ObjectMissing.__name__, context.settings, now)
    counts, rows = _fail_instances(execution.batch_id, found, batch, job_id, why, context)
    manifest = found.manifest
    job = known or unstarted_job(execution, manifest, context.settings, job_id, now)
    keep_outcomes(_ended(job, counts, why, now), manifest, rows, context)
    if batch is not None and batch.state in ENDED:
        counts = batch.counts  # an earlier try's: it may have known more
    failed = _failed_batch(execution, found, batch, now)
    stores.batches.move(
        replace(failed, counts=counts, job_id=job_id, message=why.reason, ended_at=now),
        ending(counts) if counts.imported else BatchEvent.FAILED,
    )
    _refuse_if_started(execution, job_id, stores.batches.get(execution.batch_id), looked_for)
    if manifest is not None and found.is_rebuilt:
        # Behind the batch's end: the event of its PUT must not close the batch again.
        restore_manifest(manifest, batch, execution, context)
    ended = _ended(job, counts, why, now)
    if known is None and manifest is not None:
        link_job(ended, manifest, stores)
    is_told = not stores.jobs.put(ended)
    latest = stores.batches.get(execution.batch_id)
    _yield(latest, job_id, manifest, context)
    _refuse_if_started(execution, job_id, latest, looked_for)
    if not is_told:
        report_end(ended, context.settings, now)
    return _answer(ended)


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
        bring_back(context.files, manifest.batch_id, _imported(manifest, context).keys())


def _manifest(execution: Execution, context: ImportContext) -> Manifest | None:
    """None if nobody can tell what was in the batch."""
    try:
        return manifest_of(execution, context)
    except (InvalidKey, InvalidManifest, ObjectDenied, ObjectUnavailable):
        return None


def _answer(job: JobRecord) -> dict[str, Any]:
    return job_state(job.job_id, job.datastore_id, 0, job.job_status, job.message)


def _fail_instances(
    batch_id: str,
    found: Contents,
    batch: BatchRecord | None,
    job_id: str,
    why: Failure,
    context: ImportContext,
) -> tuple[Counts, list[InstanceRecord]]:
    """All but those that this batch, or another before it, is known to have imported.

    Returns how they add up, and the rows of all but duplicates. What only the batch's count knows
    of has failed as well.
    """
    rows = [
        replace(
            row, state=InstanceState.FAILED, job_id=job_id, reason=why.reason,
            updated_at=context.now,
        )
        for row in found.others
    ]  # fmt: skip
    total, kept, duplicates = len(rows), 0, 0
    adds = batch is None or batch.state not in ENDED
    if found.manifest is None:
        rows = context.record(batch_id, rows, adds=adds)
    else:
        listed = {each.key for each in found.manifest.instances}
        imported = set(_imported(found.manifest, context))
        aside = moved_duplicates(found.manifest, context.files) & listed - imported
        failed = [each for each in found.manifest.instances if each.key not in imported | aside]
        rows += _failed_rows(found.manifest.batch_id, failed, job_id, why, context)
        rows = context.record(batch_id, rows, adds=adds)
        # What was recorded as imported meanwhile, or before an earlier try, stays so.
        known = _imported(found.manifest, context)
        rows += known.values()
        imported = known.keys() - aside
        if imported:
            bring_back(context.files, found.manifest.batch_id, imported)
        total, duplicates = total + len(listed), len(aside)
        kept = len(imported) + duplicates
    if found.is_rebuilt and batch is not None:
        total = max(total, batch.counts.instances)
    return Counts(total, imported=kept, failed=total - kept, duplicates=duplicates), rows


def _imported(manifest: Manifest, context: ImportContext) -> dict[str, InstanceRecord]:
    """What this batch is known to have imported, by the keys of its objects."""
    wanted = [each.row_key for each in manifest.instances]
    known = ledger.own_rows(context.stores.instances, manifest.batch_id, wanted)
    return {row.key: row for row in known.values() if ledger.was_imported(row)}


def _failed_rows(
    batch_id: str,
    failed: Sequence[ManifestInstance],
    job_id: str,
    why: Failure,
    context: ImportContext,
) -> list[InstanceRecord]:
    """Their objects are moved out of what could be imported."""
    stay = move_all(context.files, [each.key for each in failed], failed_key, _FAILED)
    return [
        replace(
            instance_row(
                batch_id, each, InstanceState.FAILED, context.now, job_id=job_id, reason=why.reason
            ),
            key=each.key if each.key in stay else failed_key(each.key),
        )
        for each in failed
    ]


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
