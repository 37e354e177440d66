"""One contract for every store: the in-memory twins and DynamoDB behave alike."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from chalicelib.errors import ObjectMissing, ObjectTooLarge
from chalicelib.stores import Stores
from chalicelib.stores.dynamodb import DynamoBatches, DynamoInstances, DynamoJobs
from chalicelib.stores.instances import record
from chalicelib.stores.jobs import Cursor, JobQuery, Window, page
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs, MemoryObjects
from chalicelib.stores.s3 import S3Objects
from chalicelib.stores.schema import table_definitions
from moto import mock_aws

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
def stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    if request.param == "memory":
        objects = MemoryObjects()
        objects.bodies[BUCKET, "a"] = b"body"
        yield Stores(objects, MemoryJobs(), MemoryBatches(), MemoryInstances())
        return
    with ExitStack() as stack:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        stack.enter_context(mock_aws())
        client, s3 = boto3.client("dynamodb"), boto3.client("s3")
        for definition in table_definitions():
            client.create_table(**definition)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"body")
        yield Stores(
            S3Objects(s3),
            DynamoJobs(client, "DicomImportJobTable"),
            DynamoBatches(client, "DicomBatchTable"),
            DynamoInstances(client, "DicomInstanceTable"),
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
    return BatchRecord(BATCH, state, f"batches/{BATCH}.json", "CT1", NOW, Counts(3), job_id)


def test_a_job_comes_back_as_it_was_kept(stores: Stores) -> None:
    job = replace(
        a_job("j1"), series_instance_uid="1.2.3", study_date="20261123", image_set_ids=("a", "b"),
        ended_at=NOW, message="why", execution_arn="arn:x", counts=Counts(3, 2, 1, 1),
    )  # fmt: skip
    assert stores.jobs.create(job)
    assert stores.jobs.get("j1") == job
    assert stores.jobs.get("other") is None


def test_a_job_is_created_once_and_keeps_its_end(stores: Stores) -> None:
    assert stores.jobs.create(a_job("j1"))
    assert not stores.jobs.create(replace(a_job("j1"), message="again"))
    ended = a_job("j1", status=JobStatus.COMPLETED)
    assert stores.jobs.put(ended)
    assert not stores.jobs.put(a_job("j1", status=JobStatus.IN_PROGRESS))
    assert stores.jobs.get("j1") == ended


def test_jobs_are_listed_newest_first_by_status_and_by_study(stores: Stores) -> None:
    for minutes, status in enumerate(JobStatus):
        stores.jobs.create(a_job(f"j{minutes}", minutes, status))
    stores.jobs.create(replace(a_job("other", 9), study_instance_uid="1.9"))
    submitted = stores.jobs.by_status(JobStatus.SUBMITTED, Window(), 10)
    assert [job.job_id for job in submitted] == ["other", "j0"]
    of_study = stores.jobs.by_study("1.2", None, Window(), 10)
    assert [job.job_id for job in of_study] == ["j3", "j2", "j1", "j0"]
    window = Window(NOW + timedelta(minutes=1), NOW + timedelta(minutes=2))
    assert [job.job_id for job in stores.jobs.by_study("1.2", None, window, 10)] == ["j2", "j1"]
    failed = stores.jobs.by_study("1.2", JobStatus.FAILED, Window(), 10)
    assert [job.job_id for job in failed] == ["j3"]
    assert stores.jobs.by_status(JobStatus.FAILED, Window(window.until, window.since), 10) == []


def test_pages_over_all_statuses_lose_and_repeat_nothing(stores: Stores) -> None:
    statuses = list(JobStatus)
    for number in range(10):  # several submitted at the very same time
        stores.jobs.create(a_job(f"j{number}", number // 4, statuses[number % 4]))
    given: list[str] = []
    cursor: Cursor | None = None
    while True:
        jobs, cursor = page(stores.jobs, JobQuery(), 3, cursor)
        given += [job.job_id for job in jobs]
        if cursor is None:
            break
        cursor = Cursor.parse(str(cursor))
    assert sorted(given) == sorted(f"j{number}" for number in range(10))


def test_each_step_of_a_batch_is_taken_once(stores: Stores) -> None:
    batches = stores.batches
    assert batches.create(a_batch(BatchState.CLOSED))
    assert not batches.create(a_batch(BatchState.CLOSED))
    assert batches.start(a_batch(BatchState.IMPORTING, "j1"))
    assert not batches.start(a_batch(BatchState.IMPORTING, "j2"))
    partial = replace(a_batch(BatchState.PARTIAL, "j1"), counts=Counts(3, 2, 1), message="1 failed")
    assert batches.end(partial)
    assert not batches.end(a_batch(BatchState.FAILED, "j1"))
    assert batches.get(BATCH) == partial
    assert batches.get(LATER) is None


def test_instances_are_kept_in_bulk_and_found_by_uid_and_study(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number:03}") for number in range(120)]
    record(stores.instances, rows)
    found = stores.instances.get_many([row.sop_instance_uid for row in rows] + ["1.9"])
    assert found == {row.sop_instance_uid: row for row in rows}
    assert list(stores.instances.by_study("1.2")) == rows
    assert list(stores.instances.by_study("1.9")) == []


def test_a_late_result_of_an_older_batch_does_not_hide_the_newer(stores: Stores) -> None:
    newer = replace(an_instance(batch_id=LATER), state=InstanceState.IMPORTING)
    record(stores.instances, [newer])
    record(stores.instances, [an_instance()])
    assert stores.instances.get_many(["1.2.3.4"])["1.2.3.4"] == newer


def test_an_object_is_read_within_its_bound_and_moved_with_its_reason(stores: Stores) -> None:
    assert stores.objects.read(BUCKET, "a", 4) == b"body"
    with pytest.raises(ObjectTooLarge):
        stores.objects.read(BUCKET, "a", 3)
    stores.objects.move(BUCKET, "a", "b", {"reason": "x"})
    assert stores.objects.read(BUCKET, "b", 4) == b"body"
    with pytest.raises(ObjectMissing):
        stores.objects.read(BUCKET, "a", 4)
