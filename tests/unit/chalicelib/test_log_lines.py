"""A name that others chose, planted wherever they can put one, is in no log line and no metric."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog
from botocore.exceptions import ClientError
from chalicelib import logs
from chalicelib.api.problems import answer_problems, raises_problems
from chalicelib.errors import MessagesFailed, ServiceUnavailable
from chalicelib.imports.deletion import image_set_noticed
from chalicelib.imports.healthimaging import HealthImaging, ImportRequest, ImportView
from chalicelib.imports.notice import import_noticed
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.dropbox import Dropbox, collect
from chalicelib.intake.recovery import Recovery, recover_batches
from chalicelib.intake.trigger import Intake, Message, trigger_imports
from chalicelib.isolation import block
from chalicelib.operations.reconcile import Reconciliation, metrics, reconcile
from chalicelib.settings import LogSettings, RecoverySettings
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work
from chalicelib.stores.files import StoredObject
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.errors import ProductError
from contract.keys import batch_prefix, key_digest, manifest_key
from contract.records import BatchState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EXECUTION,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_batch,
    a_context,
    a_manifest,
    files_of,
    keep_results,
    lines,
    memory_stores,
    outbox_of,
    success,
    summary,
)

# With what AWS quotes, and in the form that quarantine/'s names have.
NAME = "DOE^JANE"
PLANTED = (NAME, "DOE_JANE", "DOE%5EJANE")
LATER = NOW + timedelta(days=2)


def objects_of(stores: Stores) -> MemoryObjects:
    assert isinstance(stores.objects, MemoryObjects)
    return stores.objects


def dropbox(stores: Stores, files: Any = None) -> Dropbox:
    files = files or files_of(stores)
    return Dropbox(files, stores, outbox_of(stores), MemoryLock(), lambda: NOW, "me")


@contextmanager
def told_by_lambda() -> Iterator[None]:
    """What a handler raises is logged with its message by Lambda's runtime."""
    try:
        yield
    except ProductError as error:
        print(f"[ERROR] {type(error).__name__}: {error}")


class Queue:
    def delete(self, receipt_handles: Any) -> None:
        pass


def trigger(stores: Stores, *bodies: str) -> None:
    def take() -> None:
        raise KeyError(NAME)

    def blocked(batch_id: str, error: Exception) -> None:
        block(Work.INTAKE, batch_id, error, stores.blocked, outbox_of(stores), NOW)

    intake = Intake(BUCKET, stores, DATASTORE, NOW, blocked, take, lambda _: None)
    messages = [Message(str(number), body, str(number)) for number, body in enumerate(bodies)]
    with suppress(MessagesFailed):
        trigger_imports(messages, intake, Queue())


def created(*keys: str, **more: Any) -> str:
    place = {"bucket": {"name": BUCKET}}
    records = [
        {"eventName": "ObjectCreated:Put", "s3": place | {"object": {"key": key}}} for key in keys
    ]
    return json.dumps({"Records": records} | more)


def events_of_keys() -> None:
    stores = memory_stores()
    names = (f"{NAME}.json", NAME, f"{NAME}/{NAME}.json", f"\ud800{NAME}.json")
    for name in names:
        objects_of(stores).bodies[BUCKET, f"batches/{name}"] = b"{}"
    gone = [f"batches/gone-{name}" for name in names]
    there = [f"batches/{name}" for name in names]
    trigger(stores, *map(created, [*gone, *there, f"dropbox/{NAME}"]))


def messages_that_are_no_events() -> None:
    odd = [{NAME: NAME}, {"Records": [NAME]}, {"Records": [{"eventName": NAME, "s3": {NAME: 1}}]}]
    trigger(memory_stores(), NAME, json.dumps(NAME), *map(json.dumps, odd))


def members_of_manifests() -> None:
    whole = json.loads(a_manifest().to_json())
    whole["target"]["datastoreId"] = NAME
    for planted in _planted(whole):
        stores = memory_stores()
        objects_of(stores).bodies[BUCKET, manifest_key(BATCH)] = json.dumps(planted).encode()
        trigger(stores, created(manifest_key(BATCH)))


def _planted(document: Any) -> list[Any]:
    """The document with the name in the place of each text of it."""
    if isinstance(document, str):
        return [NAME]
    if isinstance(document, list):
        return [
            [*document[:at], planted, *document[at + 1 :]]
            for at, each in enumerate(document)
            for planted in _planted(each)
        ]
    if isinstance(document, dict):
        return [
            document | {name: planted}
            for name, value in document.items()
            for planted in _planted(value)
        ]
    return []


class Failing(MemoryFiles):
    """Where one object cannot be read now."""

    def begin(self, key: str, size: int) -> tuple[bytes, StoredObject]:
        if key.endswith("unread"):
            raise ServiceUnavailable("GetObject failed: SlowDown")
        return super().begin(key, size)


def objects_in_the_dropbox() -> None:
    stores = memory_stores()
    objects = objects_of(stores)
    for name in (NAME, f"{NAME}.dcm", f"{NAME}/{NAME} unread", f"{NAME} denied"):
        objects.bodies[BUCKET, f"dropbox/{name}"] = b"no DICOM"
    objects.denied.add((BUCKET, f"dropbox/{NAME} denied"))
    with told_by_lambda():
        collect(dropbox(stores, Failing(objects, BUCKET)))


def objects_under_a_batch() -> None:
    stores = memory_stores(a_manifest())
    objects = objects_of(stores)
    for name in (NAME, f"{NAME} denied"):
        objects.bodies[BUCKET, f"{batch_prefix(BATCH)}{name}"] = b"x"
    objects.denied.add((BUCKET, f"{batch_prefix(BATCH)}{NAME} denied"))
    with told_by_lambda():
        start_import(EXECUTION, a_context(stores, FakeHealthImaging()))
    batches = stores.batches
    assert isinstance(batches, MemoryBatches)
    batches.rows[BATCH] = replace(a_batch(BatchState.OPEN), lease_expires_at=NOW, owner="dead")
    del objects.bodies[BUCKET, manifest_key(BATCH)]
    with told_by_lambda():
        settings = RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE)
        recover_batches(Recovery(stores, outbox_of(stores), files_of(stores), settings, LATER))


def objects_that_nobody_accounts_for() -> None:
    stores = memory_stores()
    objects_of(stores).bodies[BUCKET, f"instances/{NAME}/{NAME}.dcm"] = b"x"
    results = MemoryFiles(objects_of(stores), RESULTS)
    day, minute = timedelta(days=1), timedelta(minutes=1)
    report = reconcile(
        Reconciliation(stores, DATASTORE, files_of(stores), results, day, minute, lambda: LATER)
    )
    print(json.dumps(metrics(report, "DicomStoreScp")))


def events_of_healthimaging() -> None:
    context = a_context(memory_stores(a_manifest()), FakeHealthImaging())
    for ids in ({"imagesetId": NAME}, {"imagesetId": "a" * 32, "datastoreId": DATASTORE}):
        image_set_noticed({"datastoreId": NAME, "imageSetState": NAME} | ids, context)
    for detail in ({"jobId": NAME}, {"jobId": "job1", "jobName": NAME}, {"jobName": BATCH}):
        import_noticed({"datastoreId": NAME} | detail, BUCKET, context)


def files_of_results() -> None:
    service = FakeHealthImaging()
    stores = memory_stores(a_manifest())
    start_import(EXECUTION, a_context(stores, service))
    service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
    keep_results(stores, summary=summary(2), success=lines(success(NAME), {NAME: NAME}))
    with told_by_lambda():
        check_status(EXECUTION, "job1", a_context(stores, service))


def requests_to_the_api() -> None:
    def view(**path: str) -> dict[str, Any]:
        raise KeyError(NAME)

    request: Any = type("Request", (), {"context": {"path": f"/studies/{NAME}"}, "path": NAME})()
    answer_problems(request, lambda _: raises_problems(view)())  # type: ignore[arg-type,return-value]


PLACES = [
    events_of_keys,
    messages_that_are_no_events,
    members_of_manifests,
    objects_in_the_dropbox,
    objects_under_a_batch,
    objects_that_nobody_accounts_for,
    events_of_healthimaging,
    files_of_results,
    requests_to_the_api,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_no_line_has_a_name_that_others_chose(
    place: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(LogSettings(log_level="DEBUG"))
    try:
        place()
    finally:
        structlog.reset_defaults()
    said = "".join(capsys.readouterr())
    assert said, "nothing was logged"
    assert [name for name in PLANTED if name in said] == []


def test_a_key_that_others_chose_is_told_by_its_digest(capsys: pytest.CaptureFixture[str]) -> None:
    key = f"batches/{NAME}.json"
    logs.configure(LogSettings())
    try:
        trigger(memory_stores(), created(key), created(manifest_key(BATCH)))
    finally:
        structlog.reset_defaults()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["event"], first["key_digest"]) == ("manifest_quarantined", key_digest(key))
    assert (second["event"], second["batch_id"]) == ("manifest_gone", BATCH)
    assert "batch_id" not in first


def test_a_digest_is_what_sha256sum_says() -> None:
    assert key_digest("batches/x.json") == "0af2cadc2d33"
    assert key_digest("batches/\ud800") != key_digest("batches/\ud801")


def test_a_refusal_has_healthimagings_rule_and_not_the_value(client: Any, answers: Any) -> None:
    said = (
        f"1 validation error detected: Value '{NAME}' at 'datastoreId' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: [0-9a-z]{32}"
    )
    answers.add_client_error("start_dicom_import_job", "ValidationException", said, 400)
    request = ImportRequest(
        BATCH, NAME, f"arn:aws:iam::1:role/{'x' * 20}", "s3://dicom/x/", "s3://results/x/"
    )
    with pytest.raises(ProductError, match="'datastoreId' failed to satisfy") as refused:
        HealthImaging(client).start(request)
    assert NAME not in str(refused.value)
    assert isinstance(refused.value.__cause__, ClientError)
