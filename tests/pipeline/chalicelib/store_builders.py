"""The stores, in memory and on moto, and what is put into them."""

from datetime import UTC, datetime, timedelta

import pytest
from chalicelib import aws
from chalicelib.stores import Stores
from chalicelib.stores.blocked import DynamoBlocked, MemoryBlocked
from chalicelib.stores.dynamo_instances import DynamoInstances
from chalicelib.stores.dynamodb import DynamoBatches, DynamoJobs
from chalicelib.stores.image_sets import DynamoImageSets, MemoryImageSets
from chalicelib.stores.memory import (
    MemoryBatches,
    MemoryInstances,
    MemoryJobs,
    MemoryObjects,
)
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import DynamoOutbox, MemoryOutbox, Outbox
from chalicelib.stores.s3 import S3Objects
from chalicelib.stores.studies import (
    DynamoStudies,
)

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

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BATCH = "20261123T093000Z-0001020304050607"
LATER = "20261123T094000Z-0001020304050607"
BUCKET = "dicom"


@pytest.fixture(params=["memory", "aws"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "memory":
        objects = MemoryObjects()
        objects.bodies[BUCKET, "a"] = b"body"
        batches = MemoryBatches()
        studies = MemoryStudies(MemoryOutbox(batches))
        return Stores(
            objects, MemoryJobs(), batches, MemoryInstances(), studies, MemoryImageSets(),
            MemoryBlocked(),
        )  # fmt: skip
    request.getfixturevalue("_aws")
    client, s3 = aws.dynamodb(), aws.s3()
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"body")
    return Stores(
        S3Objects(s3),
        DynamoJobs(client, "DicomImportJobTable"),
        DynamoBatches(client, "DicomBatchRecordTable"),
        DynamoInstances(client, "DicomInstanceRecordTable"),
        DynamoStudies(client, "DicomStudyTable", DynamoOutbox(client, "DicomBatchRecordTable")),
        DynamoImageSets(client, "DicomBatchRecordTable"),
        DynamoBlocked(client, "DicomBatchRecordTable"),
    )


def a_job(job_id: str, minutes: int = 0, status: JobStatus = JobStatus.SUBMITTED) -> JobRecord:
    return JobRecord(
        job_id=job_id,
        job_status=status,
        batch_id=BATCH,
        datastore_id="0" * 32,
        data_access_role_arn="arn:aws:iam::123456789012:role/import",
        input_s3_uri="s3://dicom/instances/x/",
        output_s3_uri="s3://results/x/",
        submitted_at=NOW + timedelta(minutes=minutes),
        calling_ae_title="CT1",
        counts=Counts(3),
        study_instance_uid="1.2",
    )


def an_instance(sop: str = "1.2.3.4", batch_id: str = BATCH) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=sop,
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        batch_id=batch_id,
        datastore_id="0" * 32,
        key=f"instances/{batch_id}/1.2/1.2.3/{sop}.dcm",
        size=10,
        checksum=Checksum.of(b"x"),
        state=InstanceState.IMPORTED,
        updated_at=NOW,
        image_set_id="abc",
        is_primary=False,
        warnings=("INVALID_OFFSET_TABLE",),
    )


def a_batch(state: BatchState, job_id: str | None = None) -> BatchRecord:
    key = None if state is BatchState.OPEN else f"batches/{BATCH}.json"
    return BatchRecord(BATCH, state, "CT1", NOW, Counts(3), manifest_key=key, job_id=job_id)


def outbox_of(stores: Stores) -> Outbox:
    if isinstance(stores.studies, MemoryStudies):
        return stores.studies.outbox
    return DynamoOutbox(aws.dynamodb(), "DicomBatchRecordTable")
