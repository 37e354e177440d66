"""CheckStatus: how a job is doing, and at its end what became of every instance."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import ImportRefused, ImportStalled
from chalicelib.imports.aside import failed_key, move_all
from chalicelib.imports.execution import Execution, job_state, wait_seconds
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.measures import report_end
from chalicelib.imports.outcome import NOT_REPORTED, Outcome, read_results
from chalicelib.imports.results import read_result_files, results_folder
from chalicelib.imports.rows import closed_batch, ending, failures, instance_row
from chalicelib.imports.start import ImportContext
from chalicelib.imports.sweep import moved_duplicates
from chalicelib.settings import ImportSettings
from chalicelib.stores import instances as ledger
from chalicelib.stores.objects import read_manifest
from contract.manifest import Manifest, ManifestInstance
from contract.records import InstanceRecord, InstanceState, JobRecord, JobStatus

_FAILED = "not imported; the ledger has HealthImaging's reason"


def check_status(execution: Execution, job_id: str, context: ImportContext) -> dict[str, Any]:
    """The execution's ``job`` member, with the status for IsComplete and the next wait.

    A COMPLETED job has its results in the records before this returns; a FAILED one is left to
    RecordFailure. Raises the errors of ``imports.healthimaging``, ResultsNotReady, ImportStalled,
    and ObjectUnavailable or InvalidManifest.
    """
    job = context.stores.jobs.get(job_id)
    if job is None:
        raise ImportRefused("there is no record of this job")
    if job.job_status.ended:  # a repeated call
        return _state(job, context.settings, context.now)
    view = context.service.look(job.datastore_id, job.job_id)
    if view.status is JobStatus.COMPLETED:
        job = _complete(execution, job, view, context)
    elif view.status is JobStatus.FAILED:
        job = replace(job, job_status=view.status, message=view.message)
    else:
        job = _still_running(job, view, context)
    return _state(job, context.settings, context.now)


def _state(job: JobRecord, settings: ImportSettings, now: datetime) -> dict[str, Any]:
    age = (now - job.submitted_at).total_seconds()
    wait = wait_seconds(age, settings.poll_min_seconds, settings.poll_max_seconds)
    return job_state(job.job_id, job.datastore_id, wait, job.job_status, job.message)


def _still_running(job: JobRecord, view: ImportView, context: ImportContext) -> JobRecord:
    age = (context.now - job.submitted_at).total_seconds()
    if age > context.settings.import_max_age_seconds:
        raise ImportStalled(f"HealthImaging still says {view.status} after {age:.0f} seconds")
    running = replace(job, job_status=view.status)
    if running != job:
        context.stores.jobs.put(running)
    return running


def _complete(
    execution: Execution, job: JobRecord, view: ImportView, context: ImportContext
) -> JobRecord:
    """Write instances, then the batch, then the job: a job seen COMPLETED has all its results."""
    stores, now = context.stores, context.now
    manifest = read_manifest(stores.objects, execution.bucket, execution.manifest_key)
    folder = results_folder(view.output_s3_uri, job.datastore_id, job.job_id)
    result_files = read_result_files(stores.objects, folder)
    results = read_results(manifest, result_files, moved_duplicates(manifest, context.files))
    failed = [key for key, each in results.outcomes.items() if each.reason is not None]
    move_all(context.files, failed, failed_key, _FAILED)
    ledger.record(stores.instances, _rows(manifest, results.outcomes, job.job_id, context))
    ended = replace(
        closed_batch(manifest, execution.manifest_key, stores.batches.get(manifest.batch_id)),
        counts=results.counts,
        job_id=job.job_id,
        ended_at=now,
        message=failures(results.counts),
    )
    stores.batches.move(ended, ending(results.counts))
    completed = replace(
        job,
        job_status=JobStatus.COMPLETED,
        output_s3_uri=folder,
        counts=results.counts,
        image_set_ids=results.image_set_ids,
        ended_at=now,
        message=failures(results.counts),
    )
    stores.jobs.put(completed)
    report_end(completed, context.settings, now)
    return completed


def _rows(
    manifest: Manifest, outcomes: Mapping[str, Outcome], job_id: str, context: ImportContext
) -> list[InstanceRecord]:
    """All but the duplicates', whose rows are those of the batches that imported them."""
    silent = {key for key, each in outcomes.items() if each.reason == NOT_REPORTED}
    known = context.stores.instances.get_many(
        each.sop_instance_uid for each in manifest.instances if each.key in silent
    )
    # StartImportJob knows why HealthImaging never heard of some.
    reasons = {
        uid: row.reason
        for uid, row in known.items()
        if row.batch_id == manifest.batch_id and row.state is InstanceState.FAILED
    }
    return [
        _row(manifest.batch_id, each, outcomes[each.key], job_id, context.now, reasons)
        for each in manifest.instances
        if not outcomes[each.key].duplicate
    ]


def _row(
    batch_id: str,
    instance: ManifestInstance,
    outcome: Outcome,
    job_id: str,
    now: datetime,
    reasons: Mapping[str, str | None],
) -> InstanceRecord:
    if outcome.reason is not None:
        reason = outcome.reason
        if reason == NOT_REPORTED:
            reason = reasons.get(instance.sop_instance_uid) or reason
        row = instance_row(
            batch_id, instance, InstanceState.FAILED, now, job_id=job_id, reason=reason
        )
        return replace(row, key=failed_key(instance.key))
    return replace(
        instance_row(batch_id, instance, InstanceState.IMPORTED, now, job_id=job_id),
        image_set_id=outcome.image_set_id,
        image_set_version=outcome.image_set_version,
        is_primary=outcome.is_primary,
        warnings=outcome.warnings,
    )
