"""Records as maps of attributes and back: the names DynamoDB and the REST API know them by.

Plain values only (str, int, bool, list); what is None or empty is left out. Times are ISO 8601.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import structlog

from chalicelib.errors import RowUnreadable
from chalicelib.logs import named
from chalicelib.stores.batches import BatchLine
from chalicelib.stores.jobs import list_key
from chalicelib.stores.schema import BATCH, JOB
from contract.checksums import Checksum
from contract.errors import ContractError
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
Row = TypeVar("Row")
_log = structlog.get_logger()


def job_row(job: JobRecord) -> Item:
    """A row of the job table, with what its indexes need."""
    return job_item(job) | {"kind": JOB, "listKey": list_key(job)}


def batch_row(batch: BatchRecord) -> Item:
    """A row of the batch table, with what its index by time needs."""
    return batch_item(batch) | {"kind": BATCH}


def instance_row(row: InstanceRecord) -> Item:
    """A row of the instance table, with its key."""
    return instance_item(row) | row.row_key._asdict()


def job_item(job: JobRecord) -> Item:
    """A job, as the REST API shows it, too."""
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


def read(parse: Callable[[Mapping[str, Any]], Row], item: Mapping[str, Any]) -> Row:
    """An item as a row; raises RowUnreadable where it is not what the product writes."""
    try:
        return parse(item)
    except (ContractError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise RowUnreadable("an item of a table is not what the product writes") from error


def readable(
    parse: Callable[[Mapping[str, Any]], Row], found: Iterable[Mapping[str, Any]], name: str
) -> Iterator[Row]:
    """The items that can be read; another stops none of them, and is logged by its key ``name``."""
    for item in found:
        try:
            yield read(parse, item)
        except RowUnreadable:
            _log.warning("row_unreadable", row=named(str(item.get(name))))


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


def line_from_item(item: Mapping[str, Any]) -> BatchLine:
    """What an index shows of a batch."""
    return BatchLine(
        batch_id=item["batchId"],
        calling_ae_title=item["callingAeTitle"],
        opened_at=from_iso(item["openedAt"]),
        datastore_id=item.get("datastoreId"),
        urgent=item.get("urgent", False),
        closed_at=_time(item, "closedAt"),
        admitted_at=_time(item, "admittedAt"),
        job_id=item.get("jobId"),
    )


def batch_item(batch: BatchRecord) -> Item:
    """A batch, as the REST API shows it, too."""
    return _present(
        batchId=batch.batch_id,
        state=str(batch.state),
        callingAeTitle=batch.calling_ae_title,
        calledAeTitle=batch.called_ae_title,
        openedAt=to_iso(batch.opened_at),
        datastoreId=batch.datastore_id,
        urgent=batch.urgent or None,
        owner=batch.owner,
        leaseExpiresAt=_iso(batch.lease_expires_at),
        manifestKey=batch.manifest_key,
        closedAt=_iso(batch.closed_at),
        admittedAt=_iso(batch.admitted_at),
        attempt=batch.attempt or None,
        endedAt=_iso(batch.ended_at),
        startAskedAt=_iso(batch.start_asked_at),
        jobId=batch.job_id,
        message=batch.message,
        retryOf=batch.retry_of,
        retriedAs=batch.retried_as,
        forced=batch.forced or None,
        correctedAt=_iso(batch.corrected_at),
        **_counts_item(batch.counts),
    )


def batch_from_item(item: Mapping[str, Any]) -> BatchRecord:
    """The inverse of :func:`batch_item`."""
    return BatchRecord(
        batch_id=item["batchId"],
        state=BatchState(item["state"]),
        calling_ae_title=item["callingAeTitle"],
        called_ae_title=item.get("calledAeTitle"),
        opened_at=from_iso(item["openedAt"]),
        counts=_counts(item),
        datastore_id=item.get("datastoreId"),
        urgent=item.get("urgent", False),
        owner=item.get("owner"),
        lease_expires_at=_time(item, "leaseExpiresAt"),
        manifest_key=item.get("manifestKey"),
        closed_at=_time(item, "closedAt"),
        admitted_at=_time(item, "admittedAt"),
        attempt=int(item.get("attempt", 0)),
        ended_at=_time(item, "endedAt"),
        start_asked_at=_time(item, "startAskedAt"),
        job_id=item.get("jobId"),
        message=item.get("message"),
        retry_of=item.get("retryOf"),
        retried_as=item.get("retriedAs"),
        forced=item.get("forced", False),
        corrected_at=_time(item, "correctedAt"),
    )


def instance_item(row: InstanceRecord) -> Item:
    """A row of the ledger, but for its key."""
    return _present(
        sopInstanceUID=row.sop_instance_uid,
        studyInstanceUID=row.study_instance_uid,
        seriesInstanceUID=row.series_instance_uid,
        sopClassUID=row.sop_class_uid,
        batchId=row.batch_id,
        datastoreId=row.datastore_id,
        key=row.key,
        size=row.size,
        checksum=str(row.checksum),
        state=str(row.state),
        updatedAt=to_iso(row.updated_at),
        jobId=row.job_id,
        reason=row.reason,
        imageSetId=row.image_set_id,
        imageSetVersion=row.image_set_version,
        isPrimary=row.is_primary,
        warnings=list(row.warnings) or None,
        beside=row.beside,
        differs=row.differs or None,
        compared=row.compared or None,
    )


def instance_from_item(item: Mapping[str, Any]) -> InstanceRecord:
    """The inverse of :func:`instance_item`."""
    return InstanceRecord(
        sop_instance_uid=item["sopInstanceUID"],
        study_instance_uid=item["studyInstanceUID"],
        series_instance_uid=item["seriesInstanceUID"],
        sop_class_uid=item["sopClassUID"],
        batch_id=item["batchId"],
        datastore_id=item["datastoreId"],
        key=item["key"],
        size=int(item["size"]),
        checksum=Checksum.parse(item["checksum"]),
        state=InstanceState(item["state"]),
        updated_at=from_iso(item["updatedAt"]),
        job_id=item.get("jobId"),
        reason=item.get("reason"),
        image_set_id=item.get("imageSetId"),
        image_set_version=_whole(item.get("imageSetVersion")),
        is_primary=item.get("isPrimary"),
        warnings=tuple(item.get("warnings", ())),
        beside=item.get("beside"),
        differs=item.get("differs", False),
        compared=item.get("compared", False),
    )


def _counts_item(counts: Counts) -> Item:
    return {
        "instanceCount": counts.instances,
        "importedCount": counts.imported,
        "failedCount": counts.failed,
        "warningCount": counts.warned,
        "duplicateCount": counts.duplicates,
        "nonPrimaryCount": counts.non_primary,
    }


def _counts(item: Mapping[str, Any]) -> Counts:
    # DynamoDB's numbers come back as Decimal.
    return Counts(
        instances=int(item["instanceCount"]),
        imported=int(item["importedCount"]),
        failed=int(item["failedCount"]),
        warned=int(item["warningCount"]),
        duplicates=int(item["duplicateCount"]),
        non_primary=int(item["nonPrimaryCount"]),
    )


def _present(**attributes: Any) -> Item:
    return {name: value for name, value in attributes.items() if value is not None}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else to_iso(moment)


def _time(item: Mapping[str, Any], name: str) -> datetime | None:
    return from_iso(item[name]) if name in item else None


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)
