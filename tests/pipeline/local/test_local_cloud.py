"""From the SCU to the job record, through every part of the product."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pydicom
import pytest
import urllib3
from chalicelib.settings import TableSettings
from chalicelib.stores.dynamodb import DynamoBatches

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import InstanceKey, key_digest, manifest_key, new_batch_id
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, to_metadata
from contract.records import BatchRecord, BatchState, Counts
from local import names, samples
from local.cloud import Cloud
from local.follow import RestClient
from tests.pipeline.local.support import FAST, fresh, send_all, settle, until

pytestmark = pytest.mark.usefixtures("cloud")


def job_of_batch(rest: RestClient, batch_id: str) -> dict[str, Any] | None:
    """The batch's job once it has ended."""
    for job in rest.jobs():
        if job["batchId"] == batch_id and job["jobStatus"] in ("COMPLETED", "FAILED"):
            return job
    return None


def a_batch(objects: dict[str, bytes]) -> Manifest:
    """A batch in S3 as the Store SCP leaves it, its instances' bytes chosen by the test."""
    batch_id = new_batch_id(datetime.now(UTC), hashlib.sha256(repr(objects).encode()).digest()[:8])
    s3 = boto3.client("s3")
    instances = []
    for sop, body in objects.items():
        key = str(InstanceKey(batch_id, "1.2.3", "1.2.3.4", sop))
        s3.put_object(Bucket=names.DICOM_BUCKET, Key=key, Body=body)
        instances.append(
            ManifestInstance(
                key,
                len(body),
                Checksum.of(body),
                "1.2.840.10008.5.1.4.1.1.2",
                sop,
                "1.2.3.4",
                "1.2.3",
                None,
                "1.2.840.10008.1.2.1",
            )
        )
    source = Source("TEST", "STORESCP", ("127.0.0.1",), ("0",))
    return Manifest(batch_id, datetime.now(UTC), CloseReason.QUIET, source, None, tuple(instances))


def put_manifest(manifest: Manifest) -> str:
    boto3.client("s3").put_object(
        Bucket=names.DICOM_BUCKET, Key=manifest_key(manifest.batch_id), Body=manifest.to_json()
    )
    return manifest.batch_id


def ct_small() -> bytes:
    return (Path(pydicom.__file__).parent / "data/test_files/CT_small.dcm").read_bytes()


def test_a_study_of_many_slices_becomes_one_import_job(
    cloud: Cloud, rest: RestClient, tmp_path: Path
) -> None:
    slices = samples.read(samples.generate_ct_study(tmp_path, slices=12))
    sent = send_all(cloud, slices)
    ledger = settle(rest, {each.sample.sop_instance_uid for each in sent if each.acknowledged})
    study = str(pydicom.dcmread(slices[0].path, stop_before_pixels=True).StudyInstanceUID)
    (job,) = [each for each in ledger.jobs if each.get("studyInstanceUID") == study]
    assert job["jobStatus"] == "COMPLETED"
    assert (job["instanceCount"], job["importedCount"], job["failedCount"]) == (12, 12, 0)
    assert len(job["imageSetIds"]) == 1
    answer = urllib3.request("GET", f"{cloud.rest_url}/studies/{study}").json()
    assert answer["importedCount"] == 12


@pytest.mark.fault("events-repeated-or-lost")
def test_an_event_that_comes_twice_starts_one_job(rest: RestClient) -> None:
    batch_id = put_manifest(a_batch({"1.2.3.4.1": ct_small()}))
    until(lambda: job_of_batch(rest, batch_id))
    s3 = boto3.client("s3")
    body = s3.get_object(Bucket=names.DICOM_BUCKET, Key=manifest_key(batch_id))["Body"].read()
    s3.put_object(Bucket=names.DICOM_BUCKET, Key=manifest_key(batch_id), Body=body)
    until(queue_is_empty)
    assert len([each for each in rest.jobs() if each["batchId"] == batch_id]) == 1


def test_a_batch_whose_receiver_died_is_closed_and_imported(rest: RestClient) -> None:
    batch_id = new_batch_id(datetime.now(UTC), b"recovery")
    key = InstanceKey(batch_id, "1.2.3", "1.2.3.4", "1.2.3.4.8")
    metadata = to_metadata(
        key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", None,
        Checksum.of(ct_small()), Sender("DEAD", "STORESCP", "127.0.0.1", "0"), Target("study"),
    )  # fmt: skip
    boto3.client("s3").put_object(
        Bucket=names.DICOM_BUCKET, Key=str(key), Body=ct_small(), Metadata=metadata
    )
    long_ago = datetime.now(UTC) - timedelta(minutes=10)
    opened = BatchRecord(
        batch_id, BatchState.OPEN, "DEAD", long_ago, Counts(0),
        owner="task", lease_expires_at=long_ago,
    )  # fmt: skip
    batches = DynamoBatches(boto3.client("dynamodb"), TableSettings().batch_table)
    assert batches.move(opened, BatchEvent.OPENED)
    job = until(lambda: job_of_batch(rest, batch_id))
    assert (job["jobStatus"], job["importedCount"]) == ("COMPLETED", 1)
    assert job["callingAeTitle"] == "DEAD"


@pytest.mark.fault("image-set-deleted")
def test_what_is_deleted_in_healthimaging_and_sent_again_is_imported_again(
    cloud: Cloud, rest: RestClient, tmp_path: Path
) -> None:
    samples = fresh(tmp_path, "CT_small.dcm")
    (uid,) = (each.sop_instance_uid for each in samples)
    send_all(cloud, samples)
    settle(rest, {uid})
    (first,) = rest.rows(uid)
    boto3.client("medical-imaging").delete_image_set(
        datastoreId=os.environ["DATASTORE_ID"], imageSetId=first["imageSetId"]
    )
    deleted = until(lambda: state_of(rest, uid, "DELETED"))
    assert deleted["reason"] == "its image set was deleted in HealthImaging"
    study = urllib3.request("GET", f"{cloud.rest_url}/studies/{first['studyInstanceUID']}").json()
    assert (study["importedCount"], study["deletedCount"]) == (0, 1)
    send_all(cloud, samples)
    again = until(lambda: state_of(rest, uid, "IMPORTED"))
    assert again["imageSetId"] != first["imageSetId"]
    assert again["batchId"] != first["batchId"]


def state_of(rest: RestClient, uid: str, state: str) -> dict[str, Any] | None:
    """The instance, once it is in that state."""
    return next((row for row in rest.rows(uid) if row["state"] == state), None)


def test_what_is_put_into_the_dropbox_is_imported(rest: RestClient) -> None:
    s3 = boto3.client("s3")
    s3.put_object(Bucket=names.DICOM_BUCKET, Key="dropbox/some folder/ct.dcm", Body=ct_small())

    def imported() -> list[dict[str, Any]]:
        jobs = (job for job in rest.jobs() if job["callingAeTitle"] == "DROPBOX")
        return [job for job in jobs if job["jobStatus"] == "COMPLETED"]

    (job,) = until(imported)
    assert job["importedCount"] == 1
    # The dropped object is deleted after its batch's manifest is written.
    until(lambda: is_gone("dropbox/"))


def is_gone(prefix: str) -> bool:
    listed = boto3.client("s3").list_objects_v2(Bucket=names.DICOM_BUCKET, Prefix=prefix)
    return listed["KeyCount"] == 0


def messages_in(queue: str) -> int:
    """Waiting and in flight."""
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    waiting = counts["ApproximateNumberOfMessages"]
    return int(waiting) + int(counts["ApproximateNumberOfMessagesNotVisible"])


def queue_is_empty() -> bool:
    return messages_in(names.QUEUE) == 0


@pytest.mark.fault("events-repeated-or-lost")
def test_an_event_for_a_manifest_that_is_gone_is_dropped() -> None:
    key = manifest_key(new_batch_id(datetime.now(UTC), b"goneggon"))
    bucket = {"name": names.DICOM_BUCKET}
    created = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    event = {"Records": [created | {"s3": {"bucket": bucket, "object": {"key": key}}}]}
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=names.QUEUE)["QueueUrl"]
    before = messages_in(names.DEAD_LETTER_QUEUE)
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    until(queue_is_empty)
    assert messages_in(names.DEAD_LETTER_QUEUE) == before


def test_a_manifest_that_is_not_ours_goes_to_quarantine_with_its_reason() -> None:
    s3 = boto3.client("s3")
    key = "batches/somebody-elses.json"
    s3.put_object(Bucket=names.DICOM_BUCKET, Key=key, Body=b'{"hello": 1}')

    def moved() -> list[Any]:
        listed = s3.list_objects_v2(Bucket=names.DICOM_BUCKET, Prefix="quarantine/")
        return [each for each in listed.get("Contents", []) if key_digest(key) in each["Key"]]

    (found,) = until(moved)
    assert found["Key"].startswith("quarantine/invalid-manifest/")
    metadata = s3.head_object(Bucket=names.DICOM_BUCKET, Key=found["Key"])["Metadata"]
    assert metadata["reason"]
    until(lambda: is_gone(key))  # the object is deleted after its copy is written


def test_a_completed_job_that_hides_a_failed_file_says_so(rest: RestClient) -> None:
    manifest = a_batch({"1.2.3.4.2": ct_small(), "1.2.3.4.3": b"this is no DICOM object"})
    batch_id = put_manifest(manifest)
    job = until(lambda: job_of_batch(rest, batch_id))
    assert job["jobStatus"] == "COMPLETED"
    assert (job["importedCount"], job["failedCount"]) == (1, 1)
    states = {each["sopInstanceUID"]: each for each in rest.instances(job["jobId"])}
    assert states["1.2.3.4.2"]["state"] == "IMPORTED"
    assert states["1.2.3.4.3"]["state"] == "FAILED"
    assert "DICOM" in states["1.2.3.4.3"]["reason"]


@pytest.fixture
def emulator(cloud: Cloud) -> Any:
    """Sets the emulator's faults for one test."""
    yield lambda **faults: cloud.emulator.configure(replace(FAST, **faults))
    cloud.emulator.configure(FAST)


def test_a_job_that_healthimaging_fails_is_recorded_with_its_message(
    rest: RestClient, emulator: Callable[..., None]
) -> None:
    emulator(failing_jobs=1, failure_message="INTERNAL_ERROR: it broke")
    batch_id = put_manifest(a_batch({"1.2.3.4.5": ct_small()}))
    job = until(lambda: job_of_batch(rest, batch_id))
    assert job["jobStatus"] == "FAILED"
    assert "INTERNAL_ERROR: it broke" in job["message"]
    assert job["failedCount"] == 1
    (instance,) = rest.instances(job["jobId"])
    assert instance["state"] == "FAILED"
    assert "it broke" in instance["reason"]


def test_throttled_starts_are_tried_until_they_succeed(
    rest: RestClient, emulator: Callable[..., None]
) -> None:
    emulator(throttled_seconds=600)
    batch_id = put_manifest(a_batch({"1.2.3.4.6": ct_small()}))
    until(lambda: "ImportThrottled" in errors_of(batch_id))
    emulator()
    job = until(lambda: job_of_batch(rest, batch_id), seconds=60)
    assert (job["jobStatus"], job["importedCount"]) == ("COMPLETED", 1)


def errors_of(batch_id: str) -> set[str]:
    """The errors that the functions of a batch's execution have raised so far."""
    client = boto3.client("stepfunctions")
    execution = names.STATE_MACHINE_ARN.replace(":stateMachine:", ":execution:")
    try:
        history = client.get_execution_history(executionArn=f"{execution}:{batch_id}")
    except client.exceptions.ExecutionDoesNotExist:
        return set()
    failed = [event.get("lambdaFunctionFailedEventDetails") for event in history["events"]]
    return {each["error"] for each in failed if each}


def test_results_that_lag_behind_the_status_are_waited_for(
    rest: RestClient, emulator: Callable[..., None]
) -> None:
    emulator(manifest_lag_seconds=2)
    batch_id = put_manifest(a_batch({"1.2.3.4.7": ct_small()}))
    job = until(lambda: job_of_batch(rest, batch_id), seconds=60)
    assert (job["jobStatus"], job["importedCount"]) == ("COMPLETED", 1)


def test_rest_answers_problems_for_what_is_not_there_and_what_is_wrong(cloud: Cloud) -> None:
    unknown = urllib3.request("GET", f"{cloud.rest_url}/jobs/nope")
    assert unknown.status == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    wrong = urllib3.request("GET", f"{cloud.rest_url}/jobs?limit=abc")
    assert wrong.status == 400
    assert wrong.json()["parameter"] == "limit"
