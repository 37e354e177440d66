"""A manifest's instances, batch and job as records, and as HealthImaging is asked for them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportRequest
from chalicelib.settings import ImportSettings
from contract.batch_states import BatchEvent
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

# An AE title, where not even the manifest could be read.
NOT_KNOWN = "unknown"
# Until then the manifest's event closes the batch; or, of a retry, the manifest is written.
_LEASE = timedelta(seconds=60)


def instance_rows(
    manifest: Manifest, datastore_id: str, state: InstanceState, now: datetime
) -> list[InstanceRecord]:
    """Every instance of a batch in one and the same state."""
    batch_id = manifest.batch_id
    return [instance_row(batch_id, datastore_id, each, state, now) for each in manifest.instances]


def instance_row(
    batch_id: str,
    datastore_id: str,
    instance: ManifestInstance,
    state: InstanceState,
    now: datetime,
    *,
    job_id: str | None = None,
    reason: str | None = None,
) -> InstanceRecord:
    """One instance's row."""
    return InstanceRecord(
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        batch_id=batch_id,
        datastore_id=datastore_id,
        key=instance.key,
        size=instance.size,
        checksum=instance.checksum,
        state=state,
        updated_at=now,
        job_id=job_id,
        reason=reason,
    )


def closed_batch(manifest: Manifest, key: str, known: BatchRecord | None) -> BatchRecord:
    """A batch as its manifest tells, and what its record, if there is one, knows beyond that."""
    opened_at = known.opened_at if known else opened(manifest.batch_id) or manifest.closed_at
    batch = BatchRecord(
        batch_id=manifest.batch_id,
        state=BatchState.CLOSED,
        calling_ae_title=manifest.source.calling_ae_title,
        called_ae_title=manifest.source.called_ae_title,
        opened_at=opened_at,
        counts=Counts(instances=len(manifest.instances)),
        datastore_id=manifest.datastore_id,
        urgent=manifest.urgent,
        manifest_key=key,
        closed_at=manifest.closed_at,
    )
    return batch if known is None else replace(batch, retry_of=known.retry_of)


def open_batch(manifest: Manifest, owner: str, now: datetime) -> BatchRecord:
    """The record of a batch whose manifest a function or an operator writes.

    Should the event of the manifest's PUT be lost, recovery finds the batch by this record, and
    closes it. Without it, only reconciliation would, hours later.
    """
    return BatchRecord(
        batch_id=manifest.batch_id,
        state=BatchState.OPEN,
        calling_ae_title=manifest.source.calling_ae_title,
        called_ae_title=manifest.source.called_ae_title,
        opened_at=opened(manifest.batch_id) or now,
        counts=Counts(len(manifest.instances)),
        datastore_id=manifest.datastore_id,
        urgent=manifest.urgent,
        owner=owner,
        lease_expires_at=now + _LEASE,
    )


def opened(batch_id: str) -> datetime | None:
    """The time in a batch's id; None where its digits are no time."""
    try:
        return datetime.strptime(batch_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def target(
    batch: BatchRecord | None, settings: ImportSettings, manifest: Manifest | None = None
) -> str:
    """The data store of a batch: it has had one since it was closed (``intake.trigger``).

    One that was not closed, or has no record any more, may have none: then the default is meant.
    """
    named = (batch and batch.datastore_id) or (manifest and manifest.datastore_id)
    return named or settings.datastore_id


def import_request(
    manifest: Manifest, datastore_id: str, bucket: str, settings: ImportSettings
) -> ImportRequest:
    """What HealthImaging is asked for a batch."""
    return ImportRequest(
        batch_id=manifest.batch_id,
        datastore_id=datastore_id,
        data_access_role_arn=settings.data_access_role_arn,
        input_s3_uri=f"s3://{bucket}/{manifest.prefix}",
        output_s3_uri=f"s3://{settings.results_bucket}/{manifest.batch_id}/",
    )


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
        study_instance_uid=_only(each.study_instance_uid for each in manifest.instances),
        series_instance_uid=_only(each.series_instance_uid for each in manifest.instances),
        sop_instance_uid=_only(each.sop_instance_uid for each in manifest.instances),
        study_date=_only(each.study_date for each in manifest.instances),
    )


def unstarted_job(
    execution: Execution,
    manifest: Manifest | None,
    datastore_id: str,
    settings: ImportSettings,
    job_id: str,
    now: datetime,
) -> JobRecord:
    """The record of a job that HealthImaging never had, or of one that nobody has recorded."""
    if manifest is not None:
        request = import_request(manifest, datastore_id, execution.bucket, settings)
        return new_job(manifest, execution, request, job_id, now)
    return JobRecord(
        job_id=job_id,
        job_status=JobStatus.FAILED,
        batch_id=execution.batch_id,
        datastore_id=datastore_id,
        data_access_role_arn=settings.data_access_role_arn,
        input_s3_uri=f"s3://{execution.bucket}/",
        output_s3_uri=f"s3://{settings.results_bucket}/{execution.batch_id}/",
        submitted_at=now,
        calling_ae_title=NOT_KNOWN,
        counts=Counts(0),
        execution_arn=execution.arn,
    )


def ending(counts: Counts) -> BatchEvent:
    """What has happened to a batch whose instances fared like this."""
    if not counts.failed:
        return BatchEvent.IMPORTED
    return BatchEvent.PARTLY_IMPORTED if counts.imported else BatchEvent.FAILED


def failures(counts: Counts) -> str | None:
    """One sentence for the records if anything failed."""
    if not counts.failed:
        return None
    return f"{counts.failed} of {counts.instances} instances were not imported"


def _only(values: Iterable[str | None]) -> str | None:
    """The one value all have, or None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
