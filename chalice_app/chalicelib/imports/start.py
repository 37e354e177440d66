"""StartImportJob: one HealthImaging job for one batch, whatever is repeated or crashes between."""

from datetime import datetime
from typing import Any

from chalicelib.errors import ImportQuotaExceeded, ImportThrottled, ServiceUnavailable
from chalicelib.imports.execution import Execution, job_state
from chalicelib.imports.healthimaging import ImportRequest, ImportService
from chalicelib.imports.rows import batch_record, instance_rows, only
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.batches import ENDED
from chalicelib.stores.objects import read_manifest
from contract.manifest import Manifest
from contract.records import BatchState, Counts, InstanceState, JobRecord, JobStatus


def start_import(
    execution: Execution,
    stores: Stores,
    service: ImportService,
    settings: ImportSettings,
    now: datetime,
) -> dict[str, Any]:
    """Start the batch's job, or find it started; returns the execution's ``job`` member.

    The batch's record gets the job's id at once and only once; the other records follow from it and
    are written again by a repeated call. Raises the errors of ``imports.healthimaging``, and
    InvalidManifest, InvalidKey or ObjectUnavailable for a manifest that cannot be read.
    """
    known = stores.batches.get(execution.batch_id)
    if known is not None and known.state in ENDED:  # CheckStatus will find the job ended, too
        job_id = known.job_id or known.batch_id
        return job_state(job_id, settings.datastore_id, settings.poll_min_seconds)
    manifest = read_manifest(stores.objects, execution.bucket, execution.manifest_key)
    request = import_request(manifest, execution.bucket, settings)
    job_id = (known and known.job_id) or _start(manifest, execution, request, stores, service, now)
    job = new_job(manifest, execution, request, job_id, now)
    stores.jobs.create(job)
    rows = instance_rows(manifest, InstanceState.IMPORTING, now, job_id=job_id)
    ledger.record(stores.instances, rows)
    return job_state(job_id, job.datastore_id, settings.poll_min_seconds)


def import_request(manifest: Manifest, bucket: str, settings: ImportSettings) -> ImportRequest:
    """What HealthImaging is asked for a batch."""
    return ImportRequest(
        batch_id=manifest.batch_id,
        datastore_id=manifest.datastore_id or settings.datastore_id,
        data_access_role_arn=settings.data_access_role_arn,
        input_s3_uri=f"s3://{bucket}/{manifest.prefix}",
        output_s3_uri=f"s3://{settings.results_bucket}/{manifest.batch_id}/",
    )


def _start(
    manifest: Manifest,
    execution: Execution,
    request: ImportRequest,
    stores: Stores,
    service: ImportService,
    now: datetime,
) -> str:
    try:
        job_id = service.start(request)
    except (ImportThrottled, ImportQuotaExceeded, ServiceUnavailable):
        _register(manifest, execution, stores, now)
        raise
    batch = batch_record(manifest, execution.manifest_key, BatchState.IMPORTING, job_id)
    if stores.batches.start(batch):
        return job_id
    # Another invocation was first. The clientToken makes both ids the same; the record decides.
    first = stores.batches.get(manifest.batch_id)
    return first.job_id if first and first.job_id else job_id


def _register(manifest: Manifest, execution: Execution, stores: Stores, now: datetime) -> None:
    """While a batch waits for its turn its instances are shown as received; written once."""
    if stores.batches.get(manifest.batch_id) is None:
        rows = instance_rows(manifest, InstanceState.RECEIVED, now)
        ledger.record(stores.instances, rows)
        stores.batches.create(batch_record(manifest, execution.manifest_key, BatchState.CLOSED))


def new_job(
    manifest: Manifest, execution: Execution, request: ImportRequest, job_id: str, now: datetime
) -> JobRecord:
    """The record of a job that HealthImaging has just been given."""
    return JobRecord(
        job_id=job_id,
        job_status=JobStatus.SUBMITTED,
        batch_id=manifest.batch_id,
        datastore_id=request.datastore_id,
        data_access_role_arn=request.data_access_role_arn,
        input_s3_uri=request.input_s3_uri,
        output_s3_uri=request.output_s3_uri,
        submitted_at=now,
        calling_ae_title=manifest.source.calling_ae_title,
        counts=Counts(instances=len(manifest.instances)),
        execution_arn=execution.arn,
        study_instance_uid=only(each.study_instance_uid for each in manifest.instances),
        series_instance_uid=only(each.series_instance_uid for each in manifest.instances),
        sop_instance_uid=only(each.sop_instance_uid for each in manifest.instances),
        study_date=only(each.study_date for each in manifest.instances),
    )
