"""What each handler finds when it is invoked: enough for it to make every call it can make."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import app
import pytest
from chalicelib import wiring
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.aside import failed_key
from chalicelib.imports.execution import Execution, Failure
from chalicelib.imports.failure import fail_import
from chalicelib.stores.copies import COPIED_FROM, mark_of
from chalicelib.stores.instances import copy_of

from contract.batch_states import BatchEvent
from contract.keys import InstanceKey, batch_prefix, manifest_key
from contract.manifest import ManifestInstance
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)
from local.lambdas import event_bridge_event
from tests.pipeline.chalicelib.crash_world import (
    BUCKET,
    CT,
    EMPTY,
    NAMED,
    NOW,
    OLDER,
    RESTART,
    SCHEDULED,
    A,
    B,
    World,
)
from tests.unit.chalicelib.builders import (
    instance_row,
    overwrite,
)


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


def two_closed_manifests(world: World) -> Any:
    world.keep(A, BatchEvent.OPENED)  # B's receiver has no batch table
    for batch_id in (A, B):
        world.close(batch_id, [world.put_instance(batch_id, f"1.2.3.{batch_id[14]}")])
    return queue_event(manifest_key(A), manifest_key(B))


def two_waiting_batches(world: World) -> Any:
    for batch_id in (A, B):
        world.keep(batch_id, BatchEvent.CLOSED)
    return SCHEDULED


def an_admitted_batch(world: World) -> Any:
    """With everything a sweep can find."""
    duplicate = world.put_instance(A, "1.2.3.1")
    world.put_instance(A, "1.2.3.2")
    missing = world.put_instance(A, "1.2.3.3")
    world.remove(missing.key)
    world.put_instance(A, "1.2.3.9")
    world.begin_upload(A)
    listed = [duplicate, *(replace(duplicate, key=f"{batch_prefix(A)}1.2/1.2.3/{sop}.dcm",
              sop_instance_uid=sop) for sop in ("1.2.3.2", "1.2.3.3"))]  # fmt: skip
    world.close(A, listed)
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    imported_before(world, duplicate)
    return step(A)


def imported_before(world: World, instance: ManifestInstance) -> None:
    row = InstanceRecord(
        instance.sop_instance_uid, "1.2", "1.2.3", instance.sop_class_uid, OLDER,
        world.datastore_id, instance.key.replace(A, OLDER), instance.size, instance.checksum,
        InstanceState.IMPORTED, NOW, job_id="job0",
    )  # fmt: skip
    overwrite(world.instances, [row])
    world.put(row.key, CT)
    world.jobs.create(
        JobRecord(
            "job0", JobStatus.COMPLETED, OLDER, world.datastore_id, "x", "s3://x/", "s3://x/",
            NOW - timedelta(minutes=40), "x", Counts(1, 1),
        )
    )  # fmt: skip


def what_has_the_checksum_of_other_bytes(world: World) -> Any:
    instances = [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2")]
    imported_before(world, instances[0])
    world.put(instances[0].key.replace(A, OLDER), b"other bytes")
    world.begin_upload(A)
    world.close(A, instances)
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    return step(A)


def a_started_batch(world: World, first: bytes = CT) -> dict[str, Any]:
    instances = [world.put_instance(A, "1.2.3.1", first), world.put_instance(A, "1.2.3.2", b"bad")]
    world.close(A, instances)
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    job: dict[str, Any] = app.start_import_job(step(A), None)
    return job


def a_start_without_an_answer(world: World) -> Any:
    """HealthImaging has started the job; nobody has learned its id."""
    world.close(A, [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2")])
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    world.lose_next_answer()
    with pytest.raises(ServiceUnavailable):
        app.start_import_job(step(A), None)
    return step(A)


def a_second_start(world: World) -> Any:
    event = a_start_without_an_answer(world)
    world.begin_upload(A)
    return event


def a_failure_without_an_answer(world: World) -> Any:
    error = {"Error": "ServiceUnavailable", "Cause": "{}"}
    return a_start_without_an_answer(world) | {"error": error}


def a_failed_batch_without_an_answer(world: World) -> str:
    """HealthImaging's list did not show the job when the failure was recorded."""
    a_start_without_an_answer(world)
    execution, why = Execution.parse(step(A)), Failure("x", "y")
    batch = wiring.stores().batches.get(A)
    assert batch is not None
    fail_import(execution, A, why, wiring.import_context(), batch.start_asked_at)
    return A


def a_finished_job(world: World) -> Any:
    job = a_started_batch(world)
    world.finish_jobs()
    return step(A, job=job)


def a_finished_job_without_a_manifest(world: World) -> Any:
    event = a_finished_job(world)
    world.remove(manifest_key(A))
    return event


def a_failed_import(world: World) -> Any:
    world.close(A, [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2")])
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    world.begin_upload(A)
    return step(A, error={"Error": "ImportRefused", "Cause": '{"errorMessage": "no"}'})


def a_stalled_batch(world: World) -> str:
    """Its execution died before it had a job."""
    world.close(A, [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2")])
    world.keep(A, BatchEvent.CLOSED, BatchEvent.ADMITTED, BatchEvent.STALLED)
    return A


def a_stalled_batch_with_an_upload(world: World) -> str:
    world.begin_upload(A)
    return a_stalled_batch(world)


def a_stalled_batch_that_is_due(world: World) -> Any:
    a_stalled_batch(world)
    world.now += RESTART
    return SCHEDULED


def a_failed_import_without_a_manifest(world: World) -> Any:
    """With a stray beside its instances, one of which has lost its object."""
    instances = [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2")]
    world.close(A, [*instances, world.put_instance(A, "1.2.3.3")])
    app.trigger_import(queue_event(manifest_key(A)), None)
    world.remove(instances[1].key)
    world.put(f"{batch_prefix(A)}stray", b"stray")
    world.begin_upload(A)
    world.put(manifest_key(A), b'{"damaged": 1}')
    return step(A, error={"Error": "InvalidManifest", "Cause": '{"errorMessage": "no"}'})


def deleted(world: World) -> dict[str, Any]:
    """The only image set is deleted; HealthImaging's event of it."""
    (image_set,) = world.delete_image_sets()
    detail = {"datastoreId": world.datastore_id, "imagesetId": image_set}
    return event_bridge_event("aws.medical-imaging", "Image Set Deleted", detail)


def a_deleted_image_set(world: World) -> Any:
    """Of an import that is recorded; a file that is none is not in it."""
    job = a_started_batch(world)
    world.finish_jobs()
    app.check_status(step(A, job=job), None)
    return deleted(world)


def a_deletion_before_the_results(world: World) -> dict[str, Any]:
    job = a_started_batch(world)
    world.finish_jobs()
    app.on_image_set_event(deleted(world), None)
    return job


def a_finished_job_of_what_is_deleted(world: World) -> Any:
    return step(A, job=a_deletion_before_the_results(world))


def a_job_that_ended_of_what_is_deleted(world: World) -> Any:
    return ended(a_deletion_before_the_results(world), "Import Job Completed")


def what_was_deleted_is_sent_again(world: World) -> Any:
    """The event of the deletion was lost."""
    a_deleted_image_set(world)
    world.close(B, [world.put_instance(B, "1.2.3.1")])
    world.keep(B, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    world.begin_upload(B)
    return step(B)


def two_overdue_batches(world: World) -> Any:
    for batch_id in (A, B, EMPTY):
        world.keep(batch_id, BatchEvent.OPENED)
    for batch_id in (A, EMPTY):
        world.begin_upload(batch_id)
    world.put_instance(A, "1.2.3.1")
    world.put_instance(A, "1.2.3.2")
    world.put(f"{batch_prefix(A)}stray", b"stray")
    world.close(B, [world.put_instance(B, "1.2.3.3")])  # its event is lost
    world.now += timedelta(minutes=3)
    return SCHEDULED


def a_job_that_ended(world: World) -> Any:
    job = a_started_batch(world)
    world.finish_jobs()
    return ended(job, "Import Job Completed")


def a_job_that_failed(world: World) -> Any:
    world.fail_next_job()
    job = a_started_batch(world)
    world.finish_jobs()
    return ended(job, "Import Job Failed")


def a_finished_job_without_results(world: World) -> Any:
    """Somebody has deleted its result files, and a day has passed."""
    job = a_started_batch(world, NAMED)
    world.finish_jobs()
    world.remove_results()
    world.now += timedelta(days=2)
    return step(A, job=job)


def a_failure_of_a_lost_job(world: World) -> Any:
    return a_finished_job_without_results(world) | {"error": {"Error": "KeyError", "Cause": "{}"}}


def an_ended_job_without_results(world: World) -> Any:
    return ended(a_finished_job_without_results(world)["job"], "Import Job Completed")


def a_late_success_without_results(world: World) -> str:
    a_late_success(world, NAMED)
    world.remove_results()
    world.now += timedelta(days=2)
    return A


def a_failure_of_a_finished_job(world: World) -> Any:
    """Something else went wrong: the job has completed."""
    return a_finished_job(world) | {"error": {"Error": "KeyError", "Cause": "{}"}}


def a_late_success(world: World, first: bytes = CT) -> str:
    """A job whose failure was recorded, and that has imported one of its two instances."""
    job = a_started_batch(world, first)
    fail_import(Execution.parse(step(A)), job["jobId"], Failure("x", "y"), wiring.import_context())
    # HealthImaging had read them before they were moved.
    read = [world.put_instance(A, "1.2.3.1", first), world.put_instance(A, "1.2.3.2", b"bad")]
    world.finish_jobs()
    for each in read:
        world.remove(each.key)
    return A


def a_late_success_that_is_told(world: World) -> Any:
    a_late_success(world)
    batch = world.batches.get(A)
    assert batch is not None
    return ended({"jobId": batch.job_id, "datastoreId": world.datastore_id}, "Import Job Completed")


def a_job_that_failed_without_a_manifest(world: World) -> Any:
    event = a_job_that_failed(world)
    world.put(manifest_key(A), b'{"damaged": 1}')
    return event


def ended(job: dict[str, Any], detail_type: str) -> dict[str, Any]:
    detail = {"jobId": job["jobId"], "datastoreId": job["datastoreId"]}
    return event_bridge_event("aws.medical-imaging", detail_type, detail)


def a_day_of_facts(world: World) -> Any:
    """A batch that is imported in part, a study that is quiet, and a file that is none."""
    instances = [world.put_instance(A, "1.2.3.1"), world.put_instance(A, "1.2.3.2", b"bad")]
    world.close(A, instances)
    world.put("dropbox/bad", b"bad")
    app.trigger_import(queue_event(manifest_key(A), "dropbox/bad"), None)
    job: dict[str, Any] = app.start_import_job(step(A), None)
    world.finish_jobs()
    assert app.check_status(step(A, job=job), None)["status"] == "COMPLETED"
    world.now += timedelta(minutes=20)
    return SCHEDULED


def old_imports(world: World) -> Any:
    a_day_of_facts(world)
    app.announce_events(SCHEDULED, None)
    world.events()
    world.now += timedelta(days=31)
    return SCHEDULED


def a_full_dropbox(world: World) -> Any:
    """Two files of one study that are DICOM, one that is not."""
    world.put("dropbox/a folder/one.dcm", CT)
    world.put("dropbox/two.dcm", CT)
    world.put("dropbox/notes.txt", b"no DICOM")
    return SCHEDULED


def drops_that_were_told(world: World) -> Any:
    a_full_dropbox(world)
    return queue_event("dropbox/two.dcm", "dropbox/notes.txt")


def a_repeated_batch(world: World) -> Any:
    """Of what failed beside another batch's, so that nobody has compared the two."""
    first = world.put_instance(B, "1.2.3.1")
    instance = world.put_instance(EMPTY, "1.2.3.1")
    failed = quarantined(A)
    world.put(instance.key, CT, {COPIED_FROM: mark_of(failed)})
    rows = [
        instance_row(B, first, InstanceState.IMPORTED, NOW, job_id="job0"),
        instance_row(A, replace(first, key=failed), InstanceState.FAILED, NOW, reason="x"),
    ]
    overwrite(world.instances, [rows[0], copy_of(rows[1])])
    opened = BatchRecord(EMPTY, BatchState.OPEN, "CT1", NOW, Counts(1), retry_of=A,
                         owner="operator", lease_expires_at=NOW)  # fmt: skip
    assert world.batches.move(opened, BatchEvent.OPENED)
    world.close(EMPTY, [instance])
    return queue_event(manifest_key(EMPTY))


def quarantined(batch_id: str) -> str:
    return failed_key(str(InstanceKey(batch_id, "1.2", "1.2.3", "1.2.3.1")))


def a_repeated_batch_that_starts(world: World) -> Any:
    app.trigger_import(a_repeated_batch(world), None)
    world.begin_upload(EMPTY)
    batch = world.batches.get(EMPTY)
    assert batch is not None
    world.batches.move(replace(batch, admitted_at=NOW), BatchEvent.ADMITTED)
    return step(EMPTY)


def a_repeated_batch_whose_event_is_lost(world: World) -> Any:
    a_repeated_batch(world)
    world.now += timedelta(minutes=5)
    return SCHEDULED


def a_job_whose_record_is_gone(world: World) -> Any:
    event = a_finished_job(world)
    world.forget_job(event["job"]["jobId"])
    return event


def a_late_success_whose_record_is_gone(world: World) -> Any:
    event = a_late_success_that_is_told(world)
    world.forget_job(event["detail"]["jobId"])
    event["detail"]["jobName"] = A
    return event


def old_objects(world: World) -> Any:
    """Of a batch whose event was lost, of a copy whose batch was never written, and of nobody."""
    world.close(B, [world.put_instance(B, "1.2.3.1")])
    copy = InstanceKey(A, "1.2", "1.2.3", "1.2.3.2")
    world.put(str(copy), b"copy", {COPIED_FROM: "elsewhere"})
    world.put("instances/stray", b"stray")
    world.now += timedelta(days=2)
    return SCHEDULED


def a_partial_batch(world: World) -> str:
    a_day_of_facts(world)
    return A


def a_failed_instance(world: World) -> str:
    a_day_of_facts(world)
    return "1.2.3.2"


CASES: dict[str, tuple[str, Callable[[World], Any]]] = {
    "trigger_import": ("trigger_import", two_closed_manifests),
    "dispatch_imports": ("dispatch_imports", two_waiting_batches),
    "dispatch_imports stalled": ("dispatch_imports", a_stalled_batch_that_is_due),
    "start_import_job": ("start_import_job", an_admitted_batch),
    "check_status": ("check_status", a_finished_job),
    "check_status no manifest": ("check_status", a_finished_job_without_a_manifest),
    "record_failure": ("record_failure", a_failed_import),
    "record_failure no manifest": ("record_failure", a_failed_import_without_a_manifest),
    "on_image_set_event": ("on_image_set_event", a_deleted_image_set),
    "check_status deleted": ("check_status", a_finished_job_of_what_is_deleted),
    "on_import_event deleted": ("on_import_event", a_job_that_ended_of_what_is_deleted),
    "start_import_job beside": ("start_import_job", what_has_the_checksum_of_other_bytes),
    "start_import_job deleted": ("start_import_job", what_was_deleted_is_sent_again),
    "start_import_job lost": ("start_import_job", a_second_start),
    "record_failure lost": ("record_failure", a_failure_without_an_answer),
    "check_status lost": ("check_status", a_finished_job_without_results),
    "record_failure lost results": ("record_failure", a_failure_of_a_lost_job),
    "on_import_event lost": ("on_import_event", an_ended_job_without_results),
    "retry lost": ("retry", a_late_success_without_results),
    "record_failure completed": ("record_failure", a_failure_of_a_finished_job),
    "recover_batches": ("recover_batches", two_overdue_batches),
    "announce_events": ("announce_events", a_day_of_facts),
    "expire_objects": ("expire_objects", old_imports),
    "on_import_event completed": ("on_import_event", a_job_that_ended),
    "on_import_event failed": ("on_import_event", a_job_that_failed),
    "on_import_event no manifest": ("on_import_event", a_job_that_failed_without_a_manifest),
    "on_import_event late": ("on_import_event", a_late_success_that_is_told),
    "trigger_import repeated": ("trigger_import", a_repeated_batch),
    "start_import_job repeated": ("start_import_job", a_repeated_batch_that_starts),
    "recover_batches repeated": ("recover_batches", a_repeated_batch_whose_event_is_lost),
    "check_status no record": ("check_status", a_job_whose_record_is_gone),
    "trigger_import dropbox": ("trigger_import", drops_that_were_told),
    "collect_dropbox": ("collect_dropbox", a_full_dropbox),
    "reconcile": ("reconcile", old_objects),
    "retry": ("retry", a_partial_batch),
    "retry late": ("retry", a_late_success),
    "retry stalled": ("retry", a_stalled_batch_with_an_upload),
    "release": ("release", a_failed_instance),
}
