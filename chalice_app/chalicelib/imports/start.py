"""StartImportJob: one HealthImaging job for one batch, whatever is repeated or crashes between."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ServiceUnavailable,
)
from chalicelib.imports.aside import bring_back
from chalicelib.imports.claims import Claimant
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, job_state
from chalicelib.imports.healthimaging import ImportRequest
from chalicelib.imports.lost import lost_job
from chalicelib.imports.measures import report_end
from chalicelib.imports.outcomes import keep_outcomes
from chalicelib.imports.rows import (
    ending,
    failures,
    import_request,
    instance_row,
    new_job,
    target,
)
from chalicelib.imports.sweep import MISSING, Sweep, seen, sweep
from chalicelib.stores import Stores
from chalicelib.stores.jobs import list_key
from chalicelib.stores.objects import read_manifest
from chalicelib.threads import in_threads
from contract.batch_states import ENDED, BatchEvent
from contract.manifest import Manifest
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)


def start_import(execution: Execution, context: ImportContext) -> dict[str, Any]:
    """Start the batch's job, or find it started; returns the execution's ``job`` member.

    The batch's record gets the job's id at once and only once; the other records follow from it and
    are written again by a repeated call. Raises the errors of ``imports.healthimaging``, and
    InvalidManifest, InvalidKey or ObjectUnavailable for a manifest that cannot be read.
    """
    stores, settings = context.stores, context.settings
    batch = _admitted(execution, context)
    job_id = batch.job_id or lost_job(batch, context)
    if batch.state in ENDED or (job_id and stores.jobs.get(job_id)):
        # CheckStatus will find the job, and its end if it has one.
        datastore_id = target(batch, settings)
        return job_state(job_id or batch.batch_id, datastore_id, settings.poll_min_seconds)
    manifest = read_manifest(stores.objects, execution.bucket, execution.manifest_key)
    datastore_id = target(batch, settings, manifest)
    request = import_request(manifest, datastore_id, execution.bucket, settings)
    if job_id is None:
        if batch.attempt:
            # An execution before this one may have died while it recorded a failure.
            bring_back(context.files, batch.batch_id, {each.key for each in manifest.instances})
        swept = sweep(manifest, _claimant(request, batch, context), context)
    else:
        swept = seen(manifest, context.files)  # its prefix is being read: nothing is moved
    if job_id is None and not swept.left:
        _end_without_job(
            new_job(manifest, execution, request, batch.batch_id, context.now),
            manifest,
            swept,
            batch,
            context,
        )
        return job_state(batch.batch_id, request.datastore_id, settings.poll_min_seconds)
    job_id = job_id or _start(request, batch, context)
    job = new_job(manifest, execution, request, job_id, context.now)
    context.record_missing(manifest.batch_id, _missing_rows(job, swept, context.now))
    link_job(job, manifest, stores)
    # Last: whoever finds the job's record, finds the rows of its instances behind it.
    stores.jobs.create(replace(job, counts=_counts(manifest, swept)))
    return job_state(job_id, request.datastore_id, settings.poll_min_seconds)


def _claimant(request: ImportRequest, batch: BatchRecord, context: ImportContext) -> Claimant:
    return Claimant(
        request.batch_id,
        request.datastore_id,
        skips_duplicates=context.settings.skip_duplicates and not batch.forced,
        was_asked=batch.start_asked_at is not None,
        repeats=batch.retry_of is not None,
        now=context.now,
    )


def _admitted(execution: Execution, context: ImportContext) -> BatchRecord:
    batches = context.stores.batches
    batch = batches.get(execution.batch_id)
    if batch is None or batch.state is BatchState.OPEN:
        raise ImportRefused("the batch is not closed yet")
    # CLOSED if somebody started the execution by hand; its turn is now, then.
    batches.move(replace(batch, admitted_at=context.now), BatchEvent.ADMITTED)
    return batch


def _start(request: ImportRequest, batch: BatchRecord, context: ImportContext) -> str:
    batches = context.stores.batches
    if not batches.mark_start(request.batch_id, context.now, batch.start_asked_at):
        raise ServiceUnavailable("somebody else has started or ended the batch's import")
    try:
        job_id = context.service.start(request)
    except (ImportThrottled, ImportQuotaExceeded, ImportRefused):
        # A clear answer: this one was not started. An earlier one may have been.
        batches.unmark_start(request.batch_id, context.now, batch.start_asked_at)
        raise
    if batches.attach_job(request.batch_id, job_id):
        return job_id
    # Another invocation was first. The clientToken makes both ids the same; the record decides.
    first = batches.get(request.batch_id)
    known = first.job_id if first else None
    return job_id if known in (None, request.batch_id) else known


def _missing_rows(job: JobRecord, swept: Sweep, now: datetime) -> list[InstanceRecord]:
    """Of the others, those to be imported have theirs already; the duplicates' are elsewhere."""
    batch_id, store, state = job.batch_id, job.datastore_id, InstanceState.FAILED
    return [
        instance_row(batch_id, store, each, state, now, job_id=job.job_id, reason=MISSING)
        for each in swept.missing
    ]


def _counts(manifest: Manifest, swept: Sweep) -> Counts:
    duplicates = len(swept.duplicates)
    return Counts(
        len(manifest.instances),
        imported=duplicates,
        failed=len(swept.missing),
        duplicates=duplicates,
    )


def _end_without_job(
    job: JobRecord, manifest: Manifest, swept: Sweep, batch: BatchRecord, context: ImportContext
) -> None:
    """Nothing to import is left: the batch ends here, with a job record under its own id."""
    stores, counts = context.stores, _counts(manifest, swept)
    message = failures(counts) or "all instances are other batches' as well, with the same bytes"
    missing = _missing_rows(job, swept, context.now)
    missing = context.record_missing(manifest.batch_id, missing)
    ended_job = replace(
        job,
        job_status=JobStatus.COMPLETED if counts.imported else JobStatus.FAILED,
        counts=counts,
        ended_at=context.now,
        message=message,
    )
    link_job(ended_job, manifest, stores)
    keep_outcomes(ended_job, manifest, missing, context)
    stores.jobs.create(ended_job)
    ended = replace(batch, job_id=job.job_id, counts=counts, ended_at=context.now, message=message)
    stores.batches.move(ended, ending(counts))
    report_end(ended_job, context.settings, context.now)


def link_job(job: JobRecord, manifest: Manifest, stores: Stores) -> None:
    """Put a job that is about to be recorded into the lists of its studies."""
    key = list_key(job)
    in_threads(lambda uid: stores.studies.link_job(uid, key), manifest.studies)
