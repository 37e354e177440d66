"""Records as maps of attributes and back: the names DynamoDB and the REST API know them by.

Plain values only (str, int, bool, list); what is None or empty is left out. Times are ISO 8601.
"""

from collections.abc import Mapping
from typing import Any

from contract.checksums import Checksum
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)
from contract.times import from_iso, to_iso

Item = dict[str, Any]


def job_item(job: JobRecord) -> Item:
    """A row of DicomImportJobTable."""
    return _present(
        jobId=job.job_id,
        jobStatus=str(job.job_status),
        batchId=job.batch_id,
        datastoreId=job.datastore_id,
        dataAccessRoleArn=job.data_access_role_arn,
        inputS3Uri=job.input_s3_uri,
        outputS3Uri=job.output_s3_uri,
        submittedAt=to_iso(job.submitted_at),
        endedAt=None if job.ended_at is None else to_iso(job.ended_at),
        callingAeTitle=job.calling_ae_title,
        executionArn=job.execution_arn,
        studyInstanceUID=job.study_instance_uid,
        seriesInstanceUID=job.series_instance_uid,
        sopInstanceUID=job.sop_instance_uid,
        studyDate=job.study_date,
        message=job.message,
        imageSetIds=list(job.image_set_ids) or None,
        **_counts_item(job.counts),
    )


def job_from_item(item: Mapping[str, Any]) -> JobRecord:
    """The inverse of :func:`job_item`."""
    return JobRecord(
        job_id=item["jobId"],
        job_status=JobStatus(item["jobStatus"]),
        batch_id=item["batchId"],
        datastore_id=item["datastoreId"],
        data_access_role_arn=item["dataAccessRoleArn"],
        input_s3_uri=item["inputS3Uri"],
        output_s3_uri=item["outputS3Uri"],
        submitted_at=from_iso(item["submittedAt"]),
        calling_ae_title=item["callingAeTitle"],
        counts=_counts(item),
        execution_arn=item.get("executionArn"),
        study_instance_uid=item.get("studyInstanceUID"),
        series_instance_uid=item.get("seriesInstanceUID"),
        sop_instance_uid=item.get("sopInstanceUID"),
        study_date=item.get("studyDate"),
        ended_at=from_iso(item["endedAt"]) if "endedAt" in item else None,
        message=item.get("message"),
        image_set_ids=tuple(item.get("imageSetIds", ())),
    )


def batch_item(batch: BatchRecord) -> Item:
    """A row of DicomBatchTable."""
    return _present(
        batchId=batch.batch_id,
        state=str(batch.state),
        manifestKey=batch.manifest_key,
        callingAeTitle=batch.calling_ae_title,
        closedAt=to_iso(batch.closed_at),
        jobId=batch.job_id,
        message=batch.message,
        **_counts_item(batch.counts),
    )


def batch_from_item(item: Mapping[str, Any]) -> BatchRecord:
    """The inverse of :func:`batch_item`."""
    return BatchRecord(
        batch_id=item["batchId"],
        state=BatchState(item["state"]),
        manifest_key=item["manifestKey"],
        calling_ae_title=item["callingAeTitle"],
        closed_at=from_iso(item["closedAt"]),
        counts=_counts(item),
        job_id=item.get("jobId"),
        message=item.get("message"),
    )


def instance_item(row: InstanceRecord) -> Item:
    """A row of DicomInstanceTable."""
    return _present(
        sopInstanceUID=row.sop_instance_uid,
        studyInstanceUID=row.study_instance_uid,
        seriesInstanceUID=row.series_instance_uid,
        sopClassUID=row.sop_class_uid,
        batchId=row.batch_id,
        key=row.key,
        size=row.size,
        checksum=str(row.checksum),
        state=str(row.state),
        updatedAt=to_iso(row.updated_at),
        jobId=row.job_id,
        reason=row.reason,
        imageSetId=row.image_set_id,
        isPrimary=row.is_primary,
        warnings=list(row.warnings) or None,
    )


def instance_from_item(item: Mapping[str, Any]) -> InstanceRecord:
    """The inverse of :func:`instance_item`."""
    return InstanceRecord(
        sop_instance_uid=item["sopInstanceUID"],
        study_instance_uid=item["studyInstanceUID"],
        series_instance_uid=item["seriesInstanceUID"],
        sop_class_uid=item["sopClassUID"],
        batch_id=item["batchId"],
        key=item["key"],
        size=int(item["size"]),
        checksum=Checksum.parse(item["checksum"]),
        state=InstanceState(item["state"]),
        updated_at=from_iso(item["updatedAt"]),
        job_id=item.get("jobId"),
        reason=item.get("reason"),
        image_set_id=item.get("imageSetId"),
        is_primary=item.get("isPrimary"),
        warnings=tuple(item.get("warnings", ())),
    )


def _counts_item(counts: Counts) -> Item:
    return {
        "instanceCount": counts.instances,
        "importedCount": counts.imported,
        "failedCount": counts.failed,
        "warningCount": counts.warned,
    }


def _counts(item: Mapping[str, Any]) -> Counts:
    # DynamoDB's numbers come back as Decimal.
    return Counts(
        instances=int(item["instanceCount"]),
        imported=int(item["importedCount"]),
        failed=int(item["failedCount"]),
        warned=int(item["warningCount"]),
    )


def _present(**attributes: Any) -> Item:
    return {name: value for name, value in attributes.items() if value is not None}
