"""RecordFailure: whatever went wrong, the records say so and why."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import ObjectUnavailable
from chalicelib.imports.execution import Execution, Failure, failure
from chalicelib.imports.rows import instance_rows
from chalicelib.imports.start import import_request, new_job
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.objects import read_manifest
from contract.errors import InvalidKey, InvalidManifest
from contract.manifest import Manifest
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceState,
    JobRecord,
    JobStatus,
)

_NOT_KNOWN = "unknown"  # an AE title, where not even the manifest could be read


def record_failure(
    event: Mapping[str, Any], stores: Stores, settings: ImportSettings, now: datetime
) -> dict[str, str]:
    """Write the failure into the instances, then the batch, then the job. Safe to repeat.

    An import that never got a job id is recorded under its batch's id. A job that has ended
    already keeps its end. Raises ServiceUnavailable only, which the state machine retries.
    """
    execution, why = Execution.parse(event), failure(event)
    batch = stores.batches.get(execution.batch_id)
    job_id = (batch.job_id if batch else None) or execution.batch_id
    known = stores.jobs.get(job_id)
    if known is not None and known.job_status.ended:
        return _answer(job_id, known.message or why.reason)
    manifest = _manifest(execution, stores)
    counts = _fail_instances(manifest, job_id, why, stores, now) if manifest else Counts(0)
    stores.batches.end(_failed_batch(execution, manifest, batch, counts, job_id, why, now))
    job = known or _unstarted_job(execution, manifest, settings, job_id, now)
    stores.jobs.put(
        replace(job, job_status=JobStatus.FAILED, counts=counts, ended_at=now, message=why.reason)
    )
    return _answer(job_id, why.reason)


def _answer(job_id: str, reason: str) -> dict[str, str]:
    return {"jobId": job_id, "reason": reason}


def _manifest(execution: Execution, stores: Stores) -> Manifest | None:
    try:
        return read_manifest(stores.objects, execution.bucket, execution.manifest_key)
    except (InvalidManifest, InvalidKey, ObjectUnavailable):
        return None  # that, then, is the reason being recorded


def _fail_instances(
    manifest: Manifest, job_id: str, why: Failure, stores: Stores, now: datetime
) -> Counts:
    """All but those that this batch is known to have imported; returns how they add up."""
    rows = instance_rows(manifest, InstanceState.FAILED, now, job_id=job_id, reason=why.reason)
    known = stores.instances.get_many(row.sop_instance_uid for row in rows)
    imported = {
        uid
        for uid, row in known.items()
        if row.batch_id == manifest.batch_id and row.state is InstanceState.IMPORTED
    }
    failed = [row for row in rows if row.sop_instance_uid not in imported]
    ledger.record(stores.instances, failed)
    return Counts(len(rows), imported=len(rows) - len(failed), failed=len(failed))


def _failed_batch(
    execution: Execution,
    manifest: Manifest | None,
    known: BatchRecord | None,
    counts: Counts,
    job_id: str,
    why: Failure,
    now: datetime,
) -> BatchRecord:
    return BatchRecord(
        batch_id=execution.batch_id,
        state=BatchState.PARTIAL if counts.imported else BatchState.FAILED,
        manifest_key=execution.manifest_key,
        calling_ae_title=manifest.source.calling_ae_title if manifest else _NOT_KNOWN,
        closed_at=manifest.closed_at if manifest else (known.closed_at if known else now),
        counts=counts,
        job_id=job_id,
        message=why.reason,
    )


def _unstarted_job(
    execution: Execution,
    manifest: Manifest | None,
    settings: ImportSettings,
    job_id: str,
    now: datetime,
) -> JobRecord:
    if manifest is not None:
        request = import_request(manifest, execution.bucket, settings)
        return new_job(manifest, execution, request, job_id, now)
    return JobRecord(
        job_id=job_id,
        job_status=JobStatus.FAILED,
        batch_id=execution.batch_id,
        datastore_id=settings.datastore_id,
        data_access_role_arn=settings.data_access_role_arn,
        input_s3_uri=f"s3://{execution.bucket}/",
        output_s3_uri=f"s3://{settings.results_bucket}/{execution.batch_id}/",
        submitted_at=now,
        calling_ae_title=_NOT_KNOWN,
        counts=Counts(0),
        execution_arn=execution.arn,
    )
