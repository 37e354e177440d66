"""What each handler finds when it is invoked: enough for it to make every call it can make."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import app

from contract.batch_states import BatchEvent
from contract.keys import batch_prefix, manifest_key
from contract.manifest import ManifestInstance
from contract.records import InstanceRecord, InstanceState
from local.healthimaging import EmulatorOptions, QuotaProfile, install
from local.lambdas import event_bridge_event
from tests.pipeline.chalicelib.crash_cloud import (
    BUCKET,
    EMPTY,
    NOW,
    OLDER,
    SCHEDULED,
    A,
    B,
    Cloud,
)
from tests.unit.chalicelib.builders import overwrite


def queue_event(*keys: str) -> dict[str, Any]:
    """As SQS hands over S3's notifications, one in each message."""
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}},
        }
        for key in keys
    ]
    messages = [
        {"receiptHandle": str(number), "body": json.dumps({"Records": [record]})}
        for number, record in enumerate(records)
    ]
    return {"Records": messages}


def step(batch_id: str, **more: Any) -> dict[str, Any]:
    return {
        "batchId": batch_id,
        "bucket": BUCKET,
        "manifestKey": manifest_key(batch_id),
        "executionArn": "arn:x",
    } | more


def two_closed_manifests(cloud: Cloud) -> Any:
    cloud.keep(A, BatchEvent.OPENED)  # B's receiver has no batch table
    for batch_id in (A, B):
        cloud.close(batch_id, [cloud.put_instance(batch_id, f"1.2.3.{batch_id[14]}")])
    return queue_event(manifest_key(A), manifest_key(B))


def two_waiting_batches(cloud: Cloud) -> Any:
    for batch_id in (A, B):
        cloud.keep(batch_id, BatchEvent.CLOSED)
    return SCHEDULED


def an_admitted_batch(cloud: Cloud) -> Any:
    """With everything a sweep can find."""
    duplicate = cloud.put_instance(A, "1.2.3.1")
    cloud.put_instance(A, "1.2.3.2")
    missing = cloud.put_instance(A, "1.2.3.3")
    cloud.s3.delete_object(Bucket=BUCKET, Key=missing.key)
    cloud.put_instance(A, "1.2.3.9")
    cloud.begin_upload(A)
    listed = [duplicate, *(replace(duplicate, key=f"{batch_prefix(A)}1.2/1.2.3/{sop}.dcm",
              sop_instance_uid=sop) for sop in ("1.2.3.2", "1.2.3.3"))]  # fmt: skip
    cloud.close(A, listed)
    cloud.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    imported_before(cloud, duplicate)
    return step(A)


def imported_before(cloud: Cloud, instance: ManifestInstance) -> None:
    row = InstanceRecord(
        instance.sop_instance_uid, "1.2", "1.2.3", instance.sop_class_uid, OLDER,
        instance.key.replace(A, OLDER), instance.size, instance.checksum,
        InstanceState.IMPORTED, NOW, job_id="job0",
    )  # fmt: skip
    overwrite(cloud.instances, [row])
    cloud.dynamodb.put_item(
        TableName="DicomImportJobTable",
        Item={
            **{
                name: {"S": "x"}
                for name in (
                    "jobId", "jobStatus", "batchId", "datastoreId", "dataAccessRoleArn",
                    "inputS3Uri", "outputS3Uri", "submittedAt", "callingAeTitle",
                )
            },
            **{
                f"{name}Count": {"N": "0"}
                for name in (
                    "instance", "imported", "failed", "warning", "duplicate", "nonPrimary",
                )
            },
            "jobId": {"S": "job0"},
            "jobStatus": {"S": "COMPLETED"},
            "datastoreId": {"S": cloud.datastore_id},
            "submittedAt": {"S": "2026-11-23T09:20:00.000000Z"},
        },
    )  # fmt: skip


def a_started_batch(cloud: Cloud) -> dict[str, Any]:
    cloud.close(A, [cloud.put_instance(A, "1.2.3.1"), cloud.put_instance(A, "1.2.3.2", b"bad")])
    cloud.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    job: dict[str, Any] = app.start_import_job(step(A), None)
    return job


def a_finished_job(cloud: Cloud) -> Any:
    job = a_started_batch(cloud)
    cloud.scheduler.advance(60)
    return step(A, job=job)


def a_failed_import(cloud: Cloud) -> Any:
    cloud.close(A, [cloud.put_instance(A, "1.2.3.1"), cloud.put_instance(A, "1.2.3.2")])
    cloud.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    cloud.begin_upload(A)
    return step(A, error={"Error": "ImportRefused", "Cause": '{"errorMessage": "no"}'})


def two_overdue_batches(cloud: Cloud) -> Any:
    for batch_id in (A, B, EMPTY):
        cloud.keep(batch_id, BatchEvent.OPENED)
    for batch_id in (A, EMPTY):
        cloud.begin_upload(batch_id)
    cloud.put_instance(A, "1.2.3.1")
    cloud.put_instance(A, "1.2.3.2")
    cloud.s3.put_object(Bucket=BUCKET, Key=f"{batch_prefix(A)}stray", Body=b"stray")
    cloud.close(B, [cloud.put_instance(B, "1.2.3.3")])  # its event is lost
    cloud.now += timedelta(minutes=3)
    return SCHEDULED


def a_job_that_ended(cloud: Cloud) -> Any:
    job = a_started_batch(cloud)
    cloud.scheduler.advance(60)
    return ended(job, "Import Job Completed")


def a_job_that_failed(cloud: Cloud) -> Any:
    install().configure(EmulatorOptions(quota_profile=QuotaProfile.NONE, failing_jobs=1))
    job = a_started_batch(cloud)
    cloud.scheduler.advance(60)
    return ended(job, "Import Job Failed")


def ended(job: dict[str, Any], detail_type: str) -> dict[str, Any]:
    detail = {"jobId": job["jobId"], "datastoreId": job["datastoreId"]}
    return event_bridge_event("aws.medical-imaging", detail_type, detail)


def a_day_of_facts(cloud: Cloud) -> Any:
    """A batch that is imported in part, a study that is quiet, and a file that is none."""
    instances = [cloud.put_instance(A, "1.2.3.1"), cloud.put_instance(A, "1.2.3.2", b"bad")]
    cloud.close(A, instances)
    cloud.s3.put_object(Bucket=BUCKET, Key="dropbox/bad", Body=b"bad")
    app.trigger_import(queue_event(manifest_key(A), "dropbox/bad"), None)
    job: dict[str, Any] = app.start_import_job(step(A), None)
    cloud.scheduler.advance(60)
    assert app.check_status(step(A, job=job), None)["status"] == "COMPLETED"
    cloud.now += timedelta(minutes=20)
    return SCHEDULED


def old_imports(cloud: Cloud) -> Any:
    a_day_of_facts(cloud)
    app.announce_events(SCHEDULED, None)
    cloud.events()
    cloud.now += timedelta(days=31)
    return SCHEDULED


CASES: dict[str, tuple[str, Callable[[Cloud], Any]]] = {
    "trigger_import": ("trigger_import", two_closed_manifests),
    "dispatch_imports": ("dispatch_imports", two_waiting_batches),
    "start_import_job": ("start_import_job", an_admitted_batch),
    "check_status": ("check_status", a_finished_job),
    "record_failure": ("record_failure", a_failed_import),
    "recover_batches": ("recover_batches", two_overdue_batches),
    "announce_events": ("announce_events", a_day_of_facts),
    "expire_objects": ("expire_objects", old_imports),
    "on_import_event completed": ("on_import_event", a_job_that_ended),
    "on_import_event failed": ("on_import_event", a_job_that_failed),
}
