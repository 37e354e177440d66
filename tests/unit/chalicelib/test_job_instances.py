"""What a job did to each instance of its batch, and what the ledger says of it now."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from chalicelib.api import resources
from chalicelib.errors import ObjectDenied
from chalicelib.imports.status import ask
from chalicelib.operations.journal import MemoryJournal
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores.instances import Change
from chalicelib.stores.memory_files import MemoryFiles
from structlog.testing import capture_logs

from contract.checksums import Checksum
from contract.keys import OUTCOMES_PREFIX, bytes_name
from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    an_instance,
    instance_row,
    keep_batch,
    keep_metadata,
    memory_stores,
    overwrite,
    the_row,
)
from tests.unit.chalicelib.steps import LATER, check, completed, fail, start

if TYPE_CHECKING:
    from chalicelib.stores.memory import MemoryObjects


@pytest.fixture
def stores() -> Stores:
    stores = memory_stores(a_manifest(2))
    for each in a_manifest(2).instances:
        keep_metadata(stores, each)
    return stores


@pytest.fixture
def service() -> FakeHealthImaging:
    return FakeHealthImaging()


def shown(stores: Stores, job_id: str = "job1") -> list[dict[str, Any]]:
    views: list[dict[str, Any]] = resources.list_job_instances(stores, BUCKET, job_id, {})[
        "instances"
    ]
    return views


def outcomes_of(stores: Stores) -> list[tuple[str, str]]:
    bodies = cast("MemoryObjects", stores.objects).bodies
    return sorted(each for each in bodies if each[1].startswith(OUTCOMES_PREFIX))


def test_what_a_job_did_stays_though_its_failure_is_retried(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    check(stores, service)
    one, two = before = shown(stores)
    assert [(each["state"], "latest" in each) for each in before] == [
        ("IMPORTED", False),
        ("FAILED", False),
    ]
    operations = Operations(a_context(stores, service, LATER), MemoryJournal())
    retried_as = retry_batch(BATCH, "why", operations).batch_id
    assert shown(stores) == [
        one,
        two
        | {
            "latest": {"state": "RECEIVED", "batchId": retried_as},
            "supersededByBatchId": retried_as,
        },
    ]


def test_what_a_job_imported_is_shown_with_its_later_deletion(
    stores: Stores, service: FakeHealthImaging
) -> None:
    completed(stores, service)
    check(stores, service)
    row = the_row(stores)
    overwrite(stores.instances, [replace(row, state=InstanceState.DELETED)])
    first = shown(stores)[0]
    assert (first["state"], first["latest"]) == ("IMPORTED", {"state": "DELETED", "batchId": BATCH})
    assert "supersededByBatchId" not in first


def beside_another(service: FakeHealthImaging) -> tuple[Stores, InstanceRecord, InstanceRecord]:
    """A job that has imported the first instance beside another batch's; and the two rows of it.

    The other batch's object is gone: nobody can compare them.
    """
    stores = memory_stores(a_manifest(2))
    for each in a_manifest(2).instances:
        keep_metadata(stores, each)
    others = a_manifest(2, batch_id=NEWER_BATCH).instances[0]
    overwrite(stores.instances, [instance_row(NEWER_BATCH, others, InstanceState.FAILED, NOW)])
    completed(stores, service)
    check(stores, service)
    found = stores.instances.by_sop_instance("1.2.3.1")
    first, row = sorted(found, key=lambda row: row.batch_id, reverse=True)
    assert (first.batch_id, row.batch_id) == (NEWER_BATCH, BATCH)
    assert row.row_key != row.content_key == first.row_key
    return stores, first, row


def test_what_a_job_imported_beside_another_is_found_where_it_took_the_others_place(
    service: FakeHealthImaging,
) -> None:
    stores, first, row = beside_another(service)
    assert stores.instances.promote(first, row)
    assert "latest" not in shown(stores)[0]
    promoted = replace(row, beside=None, state=InstanceState.DELETED)
    overwrite(stores.instances, [promoted])
    view = shown(stores)[0]
    assert (view["state"], view["latest"]) == ("IMPORTED", {"state": "DELETED", "batchId": BATCH})
    assert "supersededByBatchId" not in view
    operations = Operations(a_context(stores, service, LATER), MemoryJournal())
    retried_as = retry_batch(BATCH, "why", operations, force=True).batch_id
    view = shown(stores)[0]
    assert view["latest"] == {"state": "RECEIVED", "batchId": retried_as}
    assert view["supersededByBatchId"] == retried_as


def test_another_batchs_row_with_the_same_checksum_is_not_what_became_of_a_jobs_own(
    service: FakeHealthImaging,
) -> None:
    stores, first, row = beside_another(service)
    assert "latest" not in shown(stores)[0]
    assert not stores.instances.swap_many([Change(row, None)])
    assert first in stores.instances.get_many([row.content_key]).values()
    assert "latest" not in shown(stores)[0]


def test_a_failure_that_turns_out_to_be_none_leaves_what_is_true(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    fail(stores)
    assert [each["state"] for each in shown(stores)] == ["FAILED", "FAILED"]
    completed(stores, service)
    # As reconciliation or an event of HealthImaging's finds it.
    job = stores.jobs.get("job1")
    assert job is not None
    ask(EXECUTION, job, a_context(stores, service))
    assert [each["state"] for each in shown(stores)] == ["IMPORTED", "FAILED"]
    assert [key.rpartition("-")[2] for _, key in outcomes_of(stores)] == [
        "COMPLETED.json",
        "FAILED.json",
    ]
    fail(stores)
    assert [each["state"] for each in shown(stores)] == ["IMPORTED", "FAILED"]


@pytest.mark.parametrize("body", [None, b"{", b'{"version": 1}', b'{"endedAt": 1, "instances": 2}'])
def test_without_its_outcomes_a_job_is_shown_by_the_ledger(
    stores: Stores, service: FakeHealthImaging, body: bytes | None
) -> None:
    completed(stores, service)
    check(stores, service)
    bodies = cast("MemoryObjects", stores.objects).bodies
    (key,) = outcomes_of(stores)
    if body is None:
        del bodies[key]
    else:
        bodies[key] = body
    assert [each["state"] for each in shown(stores)] == ["IMPORTED", "FAILED"]


def test_what_a_job_left_out_names_the_batch_that_imports_it_into_the_same_data_store(
    service: FakeHealthImaging,
) -> None:
    """The first row with the checksum is of a failure that was meant for another one."""
    d2, oldest = "2" * 32, "20261123T090000Z-0001020304050607"
    stores = memory_stores(a_manifest(2, d2))
    for manifest in (a_manifest(1, None, oldest), a_manifest(1, d2, NEWER_BATCH)):
        keep_batch(stores, manifest)
    body = cast("MemoryObjects", stores.objects).bodies[BUCKET, a_manifest(1).instances[0].key]
    first = instance_row(oldest, an_instance("1.2.3.1", oldest), InstanceState.FAILED, NOW)
    newer = an_instance("1.2.3.1", NEWER_BATCH)
    other = instance_row(NEWER_BATCH, newer, InstanceState.IMPORTED, NOW, datastore_id=d2)
    named = replace(other, beside=bytes_name(str(Checksum.of(body)), d2), image_set_id="a" * 32)
    overwrite(stores.instances, [first, named])
    start(stores, service)
    for _ in ("running", "ended"):
        left, _ = shown(stores)
        assert (left["state"], left["duplicateOfBatchId"]) == ("IMPORTED", NEWER_BATCH)
        fail(stores)


def test_what_a_job_left_out_names_the_batch_that_imports_it(service: FakeHealthImaging) -> None:
    stores = memory_stores(a_manifest(2))
    newer = a_manifest(2, batch_id=NEWER_BATCH)
    keep_batch(stores, newer)
    other = instance_row(NEWER_BATCH, newer.instances[0], InstanceState.IMPORTED, NOW)
    overwrite(stores.instances, [replace(other, image_set_id="a" * 32)])
    bodies = cast("MemoryObjects", stores.objects).bodies
    bodies[BUCKET, newer.instances[0].key] = bodies[BUCKET, a_manifest(2).instances[0].key]
    start(stores, service)
    running = shown(stores)
    assert [each.get("duplicateOfBatchId") for each in running] == [NEWER_BATCH, None]
    fail(stores)
    duplicate, failed = shown(stores)
    assert (duplicate["state"], duplicate["duplicateOfBatchId"]) == ("IMPORTED", NEWER_BATCH)
    assert (failed["state"], failed["reason"]) == ("FAILED", "HealthImaging: it broke")
    assert not {"latest", "supersededByBatchId"} & duplicate.keys()


def test_no_record_waits_for_outcomes_that_may_not_be_written(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(files: MemoryFiles, key: str, body: bytes) -> bool:
        raise ObjectDenied("PutObject: AccessDenied")

    completed(stores, service)
    monkeypatch.setattr(MemoryFiles, "create", denied)
    with capture_logs() as logged:
        assert check(stores, service)["status"] == "COMPLETED"
    assert [each["event"] for each in logged if "outcomes" in each["event"]] == [
        "outcomes_not_kept"
    ]
    assert [each["state"] for each in shown(stores)] == ["IMPORTED", "FAILED"]
