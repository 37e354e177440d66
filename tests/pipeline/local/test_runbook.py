"""Each situation of docs/runbook.md, made in the local cloud, and walked as its heading says.

``WALKS`` and ``NOT_WALKED`` together are the page's headings.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pydicom
import pytest
from chalicelib import wiring
from chalicelib.intake import stalled
from chalicelib.operations import command_line, dead_letter_walk, setup
from chalicelib.operations.expire import expire
from chalicelib.stores.outbox import Due
from pydicom.uid import generate_uid

from contract.checksums import Checksum
from contract.keys import InstanceKey, batch_prefix, manifest_key
from contract.metadata import Sender, Target, to_metadata
from local import names, resources
from local.cloud import Cloud
from local.files import Sample
from local.names import LOOPBACK
from local.roads import RELIABLE, EventFaults
from local.samples import read
from local.scu import send
from tests.chaos.holdings import unfinished
from tests.pipeline.local.operator import (
    REFUSED,
    WHY,
    Operator,
    copy,
    dead_letter,
    delete,
    keys,
    metadata,
    object_in_moto,
    orphan,
    put,
    stop_execution,
)
from tests.pipeline.local.support import FAST, fresh, send_all, until

PAGE = Path(__file__).parents[3] / "docs" / "runbook.md"
# Longer than a test looks; it is set back to FAST, and the job ended, before the test's end.
_SLOW_SECONDS = 2.5
_ECS = "only ECS and CloudWatch have what it names: services, stopped tasks, the dashboard"

NOT_WALKED = {
    "No receiver is ready": _ECS,
    "The receivers' CPU or memory is above 80 %": _ECS,
    "Senders get A700H": f"{_ECS}; chaos takes S3 away from the receivers",
    "Senders get 0110H": f"{_ECS}; chaos has S3 deny the receivers everything",
    "The receiver's clock is off": "the receiver has this machine's clock, which nobody may set",
    "A certificate expires": "the local receiver has no TLS; test_tls.py has it all",
    "Events do not come": "moto takes events for any bus, and denies no PutEvents",
    "Events wait in the import queue": "its cure is that of the three headings that it names",
    "A Lambda function is throttled": "the local cloud has no quota of Lambda's",
    "An invocation puts off its work again and again": "no local invocation has a time limit",
}


@pytest.fixture
def operator(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    # moto answers an empty queue only once the wait is over.
    monkeypatch.setattr(dead_letter_walk, "_WAIT_SECONDS", 0)
    # The Lambdas are in this process as well: their log lines go on to their file.
    loggers = SimpleNamespace(configure=lambda **_: None, PrintLoggerFactory=lambda _: None)
    monkeypatch.setattr(command_line, "structlog", loggers)
    return Operator(capsys, cloud.log_folder / "lambdas.log")


@pytest.fixture
def emulator(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Sets HealthImaging's faults for one test."""
    yield lambda **faults: cloud.emulator.configure(replace(FAST, **faults))
    cloud.emulator.configure(FAST)


@pytest.fixture
def one(tmp_path: Path) -> Sample:
    """An image that no other test has sent."""
    (sample,) = fresh(tmp_path, "CT_small.dcm")
    return sample


def uid_of(sample: Sample) -> str:
    return str(sample.sop_instance_uid)


def study_of(sample: Sample) -> str:
    return str(pydicom.dcmread(sample.path, stop_before_pixels=True).StudyInstanceUID)


def batch_of(operator: Operator, sample: Sample) -> str:
    """The batch that a sent instance came in with."""

    def known() -> str | None:
        operator.attempt("instance", uid_of(sample))
        rows = operator.answer.get("instances", [])
        return rows[0]["batchId"] if rows else None

    return until(known)


def changed(sample: Sample, folder: Path, **elements: str) -> Sample:
    """A copy with other elements, as a file of its own."""
    data_set = pydicom.dcmread(sample.path)
    for name, value in elements.items():
        setattr(data_set, name, value)
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    path = folder / f"{generate_uid()}.dcm"
    data_set.save_as(path)
    (found,) = read([path])
    return found


def failed_batch(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], sample: Sample
) -> str:
    """A batch whose job HealthImaging failed, for a reason that is over."""
    emulator(failing_jobs=1, failure_message="INTERNAL_ERROR: it broke")
    send_all(cloud, [sample])
    batch_id = batch_of(operator, sample)
    operator.until_state(batch_id, "FAILED")
    emulator()
    return batch_id


def test_the_dropbox_does_not_empty(operator: Operator, one: Sample) -> None:
    body, key = one.path.read_bytes(), f"dropbox/{uid_of(one)}.dcm"
    put(key, body, StorageClass="GLACIER")

    def is_blocked() -> dict[str, Any] | None:
        found = operator.ops("blocked", "--work", "dropbox")["blocked"]
        return next((each for each in found if each.get("key") == key), None)

    blocked = until(is_blocked)
    assert blocked["why"].endswith("InvalidObjectState")
    assert operator.lines("work_blocked")
    put(key, body)  # a copy in another storage class
    assert operator.ops("unblock", blocked["subject"]) == {"unblocked": 1}
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))
    until(lambda: not keys(key))
    assert operator.ops("blocked", "--work", "dropbox")["blocked"] == []


def test_something_is_blocked(operator: Operator, one: Sample, tmp_path: Path) -> None:
    """All of it at once; others are imported meanwhile."""
    key = "dropbox/archived.dcm"
    put(key, one.path.read_bytes(), StorageClass="GLACIER")
    other = changed(one, tmp_path, SOPInstanceUID=generate_uid())
    put("dropbox/other.dcm", other.path.read_bytes())
    until(lambda: operator.ops("blocked")["blocked"])
    until(lambda: operator.instance_in(uid_of(other), "IMPORTED"))
    object_in_moto(key).set_storage_class("STANDARD")  # restored
    operator.ops("unblock")
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))
    until(lambda: not operator.ops("blocked")["blocked"])
    assert operator.ops("unblock", code=REFUSED) == {}


def test_a_dropped_file_is_in_quarantine(operator: Operator, one: Sample) -> None:
    put("dropbox/a name.dcm", b"no DICOM file")

    def aside() -> dict[str, Any] | None:
        found = operator.ops("quarantine", "--prefix", "not-part10")["objects"]
        return next(
            (o for o in found if metadata(o["key"])["original-key"] == "dropbox/a%20name.dcm"), None
        )

    assert until(aside)["reason"] == "not-part10"
    put("dropbox/a name.dcm", one.path.read_bytes())  # repaired
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))


def test_a_manifest_is_in_quarantine(operator: Operator, one: Sample) -> None:
    object_key = orphan(one.path.read_bytes(), uid_of(one))
    put(manifest_key(InstanceKey.parse(object_key).batch_id), b"{}")
    until(lambda: operator.ops("quarantine", "--prefix", "invalid-manifest")["objects"])
    batch_id = InstanceKey.parse(object_key).batch_id
    lines = until(lambda: operator.lines("manifest_quarantined"))
    assert batch_id in {line.get("batch_id") for line in lines}
    walk_no_batch(operator, object_key, uid_of(one))


def walk_no_batch(operator: Operator, key: str, uid: str) -> None:
    """Reconciliation names the object; its copy is imported; then it may go."""

    def unaccounted() -> dict[str, str]:
        report = operator.ops("reconcile")
        return {each["key"]: each["why"] for each in report["unaccounted"]}

    assert unaccounted()[key] == "no-batch"
    copy(key, f"dropbox/{uid}.dcm")
    until(lambda: operator.instance_in(uid, "IMPORTED"))
    assert unaccounted()[key] == "no-batch"  # each walk would list it again
    delete(key)
    assert key not in unaccounted()


def test_unaccountedobjects_is_above_0(operator: Operator, one: Sample) -> None:
    walk_no_batch(operator, orphan(one.path.read_bytes(), uid_of(one)), uid_of(one))


def test_messages_are_in_the_dead_letter_queue(
    cloud: Cloud, operator: Operator, one: Sample
) -> None:
    cloud.queue_road.faults = EventFaults(lost=1.0)  # the event comes by hand, as a dead letter
    send_all(cloud, [one])
    (key,) = until(lambda: keys(manifest_key(batch_of_bucket(one))))
    cloud.queue_road.faults = RELIABLE
    dead_letter("a scanner's probe")
    dead_letter(s3_event(key))
    junk = {each["junk"] for each in operator.ops("dead-letters")["messages"]}
    assert junk == {True, False}
    assert operator.ops("redrive")["movedCount"] == 1
    assert "discard --junk --reason" in operator.said[0]
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))
    operator.ops("discard", "--junk", "--reason", WHY)
    assert operator.ops("dead-letters")["messages"] == []


def batch_of_bucket(sample: Sample) -> str:
    """The batch whose prefix has the instance, known to nobody yet."""
    (key,) = until(lambda: [each for each in keys("instances/") if uid_of(sample) in each])
    return InstanceKey.parse(key).batch_id


def s3_event(key: str) -> str:
    named = {"bucket": {"name": names.DICOM_BUCKET}, "object": {"key": key}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": named}
    return json.dumps({"Records": [record]})


def test_a_batch_stays_open(cloud: Cloud, operator: Operator, one: Sample) -> None:
    never_quiet = {"BATCH_QUIET_SECONDS": "600", "BATCH_HELD_QUIET_SECONDS": "600"}
    variables = {"LEASE_SECONDS": "2"} | never_quiet
    with cloud.receiver("dies", environment=variables) as receiver:
        list(send([one], LOOPBACK, receiver.port, "STORESCP"))
        receiver.kill()
    batch_id = batch_of_bucket(one)
    listed = operator.ops("batches", "--state", "OPEN")["batches"]
    assert batch_id in {each["batchId"] for each in listed}
    assert operator.ops("batch", batch_id)["leaseExpiresAt"]
    operator.until_state(batch_id, "IMPORTED")


def test_a_batch_stays_closed(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MAX_CONCURRENT_JOBS", "1")
    wiring.settings.cache_clear()
    emulator(slow_jobs=1, slow_seconds=_SLOW_SECONDS)
    (first,), (second,) = fresh(tmp_path, "CT_small.dcm"), fresh(tmp_path, "MR_small.dcm")
    send_all(cloud, [first])
    operator.until_state(batch_of(operator, first), "IMPORTING")
    send_all(cloud, [second])
    waits = batch_of(operator, second)
    closed = operator.ops("batches", "--state", "CLOSED")["batches"]
    assert [each["batchId"] for each in closed] == [waits]
    assert len(operator.ops("batches", "--state", "IMPORTING")["batches"]) == 1
    monkeypatch.delenv("MAX_CONCURRENT_JOBS")
    wiring.settings.cache_clear()
    operator.until_state(waits, "IMPORTED")


def test_a_batch_stays_importing(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    batch_id = slow_batch(cloud, operator, emulator, one)
    listed = operator.ops("batches", "--state", "IMPORTING")["batches"]
    assert [each["batchId"] for each in listed] == [batch_id]
    job_id = operator.ops("batch", batch_id)["jobId"]
    assert operator.ops("job", job_id)["jobStatus"] in ("SUBMITTED", "IN_PROGRESS")
    operator.until_state(batch_id, "IMPORTED")


def slow_batch(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], sample: Sample
) -> str:
    """A batch whose job runs for a while."""
    emulator(slow_jobs=1, slow_seconds=_SLOW_SECONDS)
    send_all(cloud, [sample])
    batch_id = batch_of(operator, sample)
    until(lambda: operator.ops("batch", batch_id).get("jobId"))
    return batch_id


def test_a_retry_or_release_is_refused(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    batch_id = slow_batch(cloud, operator, emulator, one)
    operator.ops("retry", batch_id, "--reason", WHY, code=REFUSED)
    assert "wait for its end" in operator.said[0]
    operator.until_state(batch_id, "IMPORTED")


def test_an_import_is_unsettled(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    cloud.event_road.faults = EventFaults(lost=1.0)
    try:
        batch_id = slow_batch(cloud, operator, emulator, one)
        emulator(denied_actions=frozenset({"*"}))
        lines = until(lambda: [
            each for each in operator.lines("import_unsettled") if each["batch_id"] == batch_id
        ])  # fmt: skip
        assert lines[0]["why"] == "ImportRefused"
        operator.ops("retry", batch_id, "--reason", WHY, code=REFUSED)
        assert "docs/runbook.md" in operator.said[0]
        emulator()  # the permission is back
        until(lambda: not unfinished()["jobs in HealthImaging"])
        # It is asked again a quarter of an hour later; a retry asks at once, and repeats nothing.
        operator.ops("retry", batch_id, "--reason", WHY, code=REFUSED)
        assert "the batch is IMPORTED" in operator.said[0]
        operator.until_state(batch_id, "IMPORTED")
    finally:
        cloud.event_road.faults = RELIABLE
        resources.stop_executions()  # which still wait


def test_a_batch_is_stalled(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stalled, "_UNASKED", timedelta(0))  # five minutes
    cloud.event_road.faults = EventFaults(lost=1.0)
    try:
        batch_id = slow_batch(cloud, operator, emulator, one)
        stop_execution(batch_id)
        operator.until_state(batch_id, "STALLED")
        listed = operator.ops("batches", "--state", "STALLED")["batches"]
        assert [each["batchId"] for each in listed] == [batch_id]
        assert batch_id in {each["batch_id"] for each in operator.lines("import_stalled")}
        until(lambda: not unfinished()["jobs in HealthImaging"])
        operator.ops("retry", batch_id, "--reason", WHY, code=REFUSED)
        assert "the batch is IMPORTED" in operator.said[0]
        operator.until_state(batch_id, "IMPORTED")
    finally:
        cloud.event_road.faults = RELIABLE


def test_a_batch_is_failed_or_partial(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    batch_id = failed_batch(cloud, operator, emulator, one)
    listed = operator.ops("batches", "--state", "FAILED")["batches"]
    assert batch_id in {each["batchId"] for each in listed}
    shown = operator.ops("batch", batch_id)
    assert "it broke" in shown["message"]
    (instance,) = operator.ops("job", shown["jobId"], "--instances")["instances"]
    assert "it broke" in instance["reason"]
    again = operator.ops("retry", batch_id, "--reason", WHY)
    operator.until_state(again["batchId"], "IMPORTED")


def test_many_batches_are_failed_or_partial_after_an_outage(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], tmp_path: Path
) -> None:
    since = datetime.now(UTC).isoformat()
    files = [*fresh(tmp_path, "CT_small.dcm"), *fresh(tmp_path, "MR_small.dcm")]
    for each in files:
        failed_batch(cloud, operator, emulator, each)
    until_ = datetime.now(UTC).isoformat()
    window = ("--since", since, "--until", until_, "--reason", WHY)
    operator.ops("retry", "--state", "FAILED", *window)
    operator.ops("retry", "--state", "PARTIAL", *window)
    for each in files:
        until(partial(operator.instance_in, uid_of(each), "IMPORTED"))


def test_an_instance_is_in_quarantine_after_its_import(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    failed_batch(cloud, operator, emulator, one)
    aside = until(lambda: [
        each for each in operator.ops("quarantine", "--prefix", "import-failed", "--limit", "1000")[
            "objects"] if uid_of(one) in each["key"]
    ])  # fmt: skip
    assert aside
    assert operator.instance_in(uid_of(one), "FAILED")
    operator.ops("release", uid_of(one), "--reason", WHY)
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))


def put_late(key: InstanceKey, body: bytes) -> None:
    """As a PUT of the receiver's that timed out, and landed."""
    told = to_metadata(
        key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", None,
        Checksum.of(body), Sender("LATE", "STORESCP", LOOPBACK, "0"), Target("study"),
    )  # fmt: skip
    put(str(key), body, Metadata=told)


def test_an_unlisted_object_is_in_quarantine(
    cloud: Cloud, operator: Operator, one: Sample, tmp_path: Path
) -> None:
    late = changed(one, tmp_path, SOPInstanceUID=generate_uid())
    cloud.queue_road.faults = EventFaults(lost=1.0)
    send_all(cloud, [one])
    batch_id = batch_of_bucket(one)
    until(lambda: keys(manifest_key(batch_id)))
    (listed,) = keys(batch_prefix(batch_id))
    put_late(InstanceKey.parse(listed.replace(uid_of(one), uid_of(late))), late.path.read_bytes())
    cloud.queue_road.faults = RELIABLE
    key = manifest_key(batch_id)
    put(key, object_in_moto(key).value)  # its event, once more
    operator.until_state(batch_id, "IMPORTED")

    def unlisted() -> str | None:
        found = operator.ops("quarantine", "--prefix", "unlisted")["objects"]
        return next((each["key"] for each in found if uid_of(late) in each["key"]), None)

    aside = until(unlisted)
    assert operator.instance_in(uid_of(late), "IMPORTED") is None
    operator.ops("release", uid_of(late), "--key", aside, "--reason", WHY)
    until(lambda: operator.instance_in(uid_of(late), "IMPORTED"))


def test_a_study_lacks_images(
    cloud: Cloud, operator: Operator, emulator: Callable[..., None], one: Sample
) -> None:
    failed_batch(cloud, operator, emulator, one)
    study = operator.ops("study", study_of(one))
    assert (study["receivedCount"], study["failedCount"]) == (1, 1)
    assert uid_of(one) in json.dumps(study["failed"])


def imported(cloud: Cloud, operator: Operator, sample: Sample) -> dict[str, Any]:
    """Its row, once it is imported."""
    send_all(cloud, [sample])
    row = until(lambda: operator.instance_in(uid_of(sample), "IMPORTED"))
    operator.until_state(row["batchId"], "IMPORTED")  # which is recorded after its rows
    return row


def delete_image_set(image_set_id: str) -> None:
    boto3.client("medical-imaging").delete_image_set(
        datastoreId=wiring.import_context().settings.datastore_id, imageSetId=image_set_id
    )


def test_an_instance_is_deleted(cloud: Cloud, operator: Operator, one: Sample) -> None:
    first = imported(cloud, operator, one)
    delete_image_set(first["imageSetId"])
    deleted = until(lambda: operator.instance_in(uid_of(one), "DELETED"))
    assert deleted["imageSetId"] == first["imageSetId"]
    operator.ops("release", uid_of(one), "--reason", WHY, code=REFUSED)
    operator.ops("release", uid_of(one), "--force", "--reason", WHY)
    again = until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))
    assert again["imageSetId"] != first["imageSetId"]


def test_an_instance_is_imported_and_not_in_healthimaging(
    cloud: Cloud, operator: Operator, one: Sample
) -> None:
    cloud.deletion_road.faults = EventFaults(lost=1.0)
    try:
        first = imported(cloud, operator, one)
        delete_image_set(first["imageSetId"])
        gone = boto3.client("medical-imaging").exceptions.ResourceNotFoundException
        until(lambda: is_refused(gone, first["imageSetId"]))
        assert operator.instance_in(uid_of(one), "IMPORTED")
        send_all(cloud, [one])
        until(lambda: is_elsewhere(operator, one, first["imageSetId"]))
    finally:
        cloud.deletion_road.faults = RELIABLE


def is_refused(error: type[Exception], image_set_id: str) -> bool:
    store = wiring.import_context().settings.datastore_id
    try:
        boto3.client("medical-imaging").get_image_set(datastoreId=store, imageSetId=image_set_id)
    except error:
        return True
    return False


def is_elsewhere(operator: Operator, sample: Sample, image_set_id: str) -> bool:
    row = operator.instance_in(uid_of(sample), "IMPORTED")
    return row is not None and row["imageSetId"] != image_set_id


def test_conflictcount_is_above_0(
    cloud: Cloud, operator: Operator, one: Sample, tmp_path: Path
) -> None:
    imported(cloud, operator, one)
    send_all(cloud, [changed(one, tmp_path, ImageComments="another version")])
    study = until(lambda: conflicting(operator, one))
    assert uid_of(one) in json.dumps(study["conflicts"])
    assert len(operator.ops("instance", uid_of(one))["instances"]) == 2


def conflicting(operator: Operator, sample: Sample) -> dict[str, Any] | None:
    study = operator.ops("study", study_of(sample))
    return study if study["conflictCount"] else None


def test_nonprimarycount_is_above_0(
    cloud: Cloud, operator: Operator, one: Sample, tmp_path: Path
) -> None:
    imported(cloud, operator, one)
    other = changed(one, tmp_path, SOPInstanceUID=generate_uid(), PatientID="ANOTHER")
    row = imported(cloud, operator, other)
    assert operator.ops("study", study_of(one))["nonPrimaryCount"] == 1
    store = wiring.import_context().settings.datastore_id
    shown = boto3.client("medical-imaging").get_image_set(
        datastoreId=store, imageSetId=row["imageSetId"]
    )
    assert shown["isPrimary"] is False


def test_imported_objects_stay_after_their_retention(
    cloud: Cloud, operator: Operator, one: Sample
) -> None:
    batch_id = imported(cloud, operator, one)["batchId"]
    (key,) = keys(batch_prefix(batch_id))
    put(key, b"what somebody has put there")
    # A batch expires once its end was announced.
    until(lambda: wiring.outbox().is_due(batch_id, Due.EXPIRE))
    later = replace(setup.expiry(), now=lambda: datetime.now(UTC) + timedelta(days=31))
    expire(later)
    blocked = operator.ops("blocked", "--work", "expiry")["blocked"]
    (mine,) = (each for each in blocked if each["subject"] == batch_id)
    assert mine["reason"] == "ObjectsStay"
    assert batch_id in {line["subject"] for line in operator.lines("work_blocked")}
    delete(key)
    operator.ops("unblock", "--work", "expiry")
    expire(later)
    assert operator.ops("blocked", "--work", "expiry")["blocked"] == []


def test_a_lambda_function_fails(
    operator: Operator, one: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("STATE_MACHINE_ARN")
        wiring.forget()
        until(lambda: [
            each for each in operator.lines("lambda failed") if each["error"] == "SettingsError"
        ])  # fmt: skip
    wiring.forget()  # the setting is there again
    put("dropbox/after.dcm", one.path.read_bytes())
    until(lambda: operator.instance_in(uid_of(one), "IMPORTED"))


WALKS: dict[str, Callable[..., None]] = {
    "The dropbox does not empty": test_the_dropbox_does_not_empty,
    "Something is blocked": test_something_is_blocked,
    "A dropped file is in quarantine": test_a_dropped_file_is_in_quarantine,
    "A batch stays OPEN": test_a_batch_stays_open,
    "A manifest is in quarantine": test_a_manifest_is_in_quarantine,
    "Messages are in the dead-letter queue": test_messages_are_in_the_dead_letter_queue,
    "A batch stays CLOSED": test_a_batch_stays_closed,
    "A batch stays IMPORTING": test_a_batch_stays_importing,
    "An import is unsettled": test_an_import_is_unsettled,
    "A batch is STALLED": test_a_batch_is_stalled,
    "A batch is FAILED or PARTIAL": test_a_batch_is_failed_or_partial,
    "Many batches are FAILED or PARTIAL after an outage": (
        test_many_batches_are_failed_or_partial_after_an_outage
    ),
    "A retry or release is refused": test_a_retry_or_release_is_refused,
    "An instance is in quarantine after its import": (
        test_an_instance_is_in_quarantine_after_its_import
    ),
    "An unlisted object is in quarantine": test_an_unlisted_object_is_in_quarantine,
    "A study lacks images": test_a_study_lacks_images,
    "An instance is DELETED": test_an_instance_is_deleted,
    "An instance is IMPORTED and not in HealthImaging": (
        test_an_instance_is_imported_and_not_in_healthimaging
    ),
    "conflictCount is above 0": test_conflictcount_is_above_0,
    "nonPrimaryCount is above 0": test_nonprimarycount_is_above_0,
    "UnaccountedObjects is above 0": test_unaccountedobjects_is_above_0,
    "Imported objects stay after their retention": (
        test_imported_objects_stay_after_their_retention
    ),
    "A Lambda function fails": test_a_lambda_function_fails,
}


def test_every_heading_of_the_page_is_walked_or_says_why_not() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted([*WALKS, *NOT_WALKED])
