"""CheckStatus: how a job is doing, and at its end what became of every instance."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import ImportRefused, ImportStalled
from chalicelib.imports.execution import Execution, job_state, wait_seconds
from chalicelib.imports.healthimaging import ImportService, ImportView
from chalicelib.imports.outcome import Outcome, Results, read_results
from chalicelib.imports.results import read_result_files, results_folder
from chalicelib.imports.rows import batch_record, instance_row
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.objects import read_manifest
from contract.manifest import Manifest, ManifestInstance
from contract.records import InstanceRecord, InstanceState, JobRecord, JobStatus


def check_status(
    execution: Execution,
    job_id: str,
    stores: Stores,
    service: ImportService,
    settings: ImportSettings,
    now: datetime,
) -> dict[str, Any]:
    """The execution's ``job`` member, with the status for IsComplete and the next wait.

    A COMPLETED job has its results in the records before this returns; a FAILED one is left to
    RecordFailure. Raises the errors of ``imports.healthimaging``, ResultsNotReady, ImportStalled,
    and ObjectUnavailable or InvalidManifest.
    """
    job = stores.jobs.get(job_id)
    if job is None:
        raise ImportRefused("there is no record of this job")
    if job.job_status.ended:  # a repeated call
        return _state(job, settings, now)
    view = service.look(job.datastore_id, job.job_id)
    if view.status is JobStatus.COMPLETED:
        return _state(_complete(execution, job, view, stores, now), settings, now)
    if view.status is JobStatus.FAILED:
        return _state(replace(job, job_status=view.status, message=view.message), settings, now)
    return _state(_still_running(job, view, stores, settings, now), settings, now)


def _state(job: JobRecord, settings: ImportSettings, now: datetime) -> dict[str, Any]:
    age = (now - job.submitted_at).total_seconds()
    wait = wait_seconds(age, settings.poll_min_seconds, settings.poll_max_seconds)
    return job_state(job.job_id, job.datastore_id, wait, job.job_status, job.message)


def _still_running(
    job: JobRecord, view: ImportView, stores: Stores, settings: ImportSettings, now: datetime
) -> JobRecord:
    age = (now - job.submitted_at).total_seconds()
    if age > settings.import_max_age_seconds:
        raise ImportStalled(f"HealthImaging still says {view.status} after {age:.0f} seconds")
    running = replace(job, job_status=view.status)
    if running != job:
        stores.jobs.put(running)
    return running


def _complete(
    execution: Execution, job: JobRecord, view: ImportView, stores: Stores, now: datetime
) -> JobRecord:
    """Write instances, then the batch, then the job: a job seen COMPLETED has all its results."""
    manifest = read_manifest(stores.objects, execution.bucket, execution.manifest_key)
    folder = results_folder(view.output_s3_uri, job.datastore_id, job.job_id)
    results = read_results(manifest, read_result_files(stores.objects, folder))
    ledger.record(stores.instances, _rows(manifest, results, job.job_id, now))
    batch = batch_record(manifest, execution.manifest_key, results.batch_state, job.job_id)
    stores.batches.end(replace(batch, counts=results.counts, message=results.message))
    completed = replace(
        job,
        job_status=JobStatus.COMPLETED,
        output_s3_uri=folder,
        counts=results.counts,
        image_set_ids=results.image_set_ids,
        ended_at=now,
        message=results.message,
    )
    stores.jobs.put(completed)
    return completed


def _rows(manifest: Manifest, results: Results, job_id: str, now: datetime) -> list[InstanceRecord]:
    return [
        _row(manifest.batch_id, each, results.outcomes[each.key], job_id, now)
        for each in manifest.instances
    ]


def _row(
    batch_id: str, instance: ManifestInstance, outcome: Outcome, job_id: str, now: datetime
) -> InstanceRecord:
    state = InstanceState.IMPORTED if outcome.reason is None else InstanceState.FAILED
    return replace(
        instance_row(batch_id, instance, state, now, job_id=job_id, reason=outcome.reason),
        image_set_id=outcome.image_set_id,
        is_primary=outcome.is_primary,
        warnings=outcome.warnings,
    )
