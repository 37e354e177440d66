"""A batch whose manifest cannot be read any more, once it is closed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from chalicelib.errors import ObjectDenied, ObjectMissing
from chalicelib.imports.aside import duplicate_key, failed_key, move_all
from chalicelib.imports.completion import manifest_of
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.trigger import close_batch
from chalicelib.operations.journal import MemoryJournal
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryObjects
from structlog.testing import capture_logs

from contract.batch_states import BatchEvent
from contract.checksums import Checksum, ChecksumAlgorithm
from contract.errors import ContractError
from contract.keys import InstanceKey, manifest_key
from contract.manifest import Manifest
from contract.records import BatchRecord, BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    EXECUTION,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    keep_metadata,
    keep_results,
    lines,
    memory_stores,
    rows_by_uid,
    success,
    summary,
)
from tests.unit.chalicelib.steps import unsettled

KEY = manifest_key(BATCH)
MANIFEST = a_manifest(3)
KEYS = [each.key for each in MANIFEST.instances]
ONE = MANIFEST.instances[0]


def objects_of(stores: Stores) -> MemoryObjects:
    assert isinstance(stores.objects, MemoryObjects)
    return stores.objects


def a_closed_batch() -> Stores:
    """Its instances are registered; its execution begins."""
    stores = memory_stores(MANIFEST)
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows.clear()
    for each in MANIFEST.instances:
        keep_metadata(stores, each)
    closed = close_batch(BUCKET, KEY, stores, DATASTORE, NOW)
    assert closed
    stores.batches.move(replace(closed, admitted_at=NOW), BatchEvent.ADMITTED)
    return stores


def gone(stores: Stores) -> None:
    del objects_of(stores).bodies[BUCKET, KEY]


def damaged(stores: Stores) -> None:
    objects_of(stores).bodies[BUCKET, KEY] = b"{"


def another_batchs(stores: Stores) -> None:
    other = replace(MANIFEST, batch_id="20261123T093000Z-ffffffffffffffff")
    objects_of(stores).bodies[BUCKET, KEY] = other.to_json()


def denied(stores: Stores) -> None:
    objects_of(stores).denied.add((BUCKET, KEY))


def test_a_manifest_made_of_objects_has_the_registered_checksums_of_the_same_study() -> None:
    """A batch may hold one SOP Instance UID in two studies."""
    stores = a_closed_batch()
    gone(stores)
    one, two, _ = MANIFEST.instances
    elsewhere = InstanceKey(BATCH, "1.2.99", one.series_instance_uid, one.sop_instance_uid)
    twin = replace(one, key=str(elsewhere), study_instance_uid="1.2.99")
    objects_of(stores).bodies[BUCKET, twin.key] = b"the other study's"
    keep_metadata(stores, twin)
    rows = rows_by_uid(stores)
    registered = Checksum(ChecksumAlgorithm.CRC32C, "AAAAAA==")
    memory = cast("MemoryInstances", stores.instances)
    changed = [replace(rows[each.sop_instance_uid], checksum=registered) for each in (one, two)]
    memory.rows = {row.row_key: row for row in changed}
    found = manifest_of(EXECUTION, a_context(stores, FakeHealthImaging()))
    checksums = {each.key: each.checksum for each in found.instances}
    assert checksums[one.key] == checksums[two.key] == registered
    assert checksums[twin.key] != registered


UNREADABLE = [gone, damaged, another_batchs, denied]


def fail(stores: Stores) -> dict[str, Any]:
    event = EVENT | {"error": {"Error": "ObjectMissing", "Cause": '{"errorMessage": "gone"}'}}
    return record_failure(event, a_context(stores, FakeHealthImaging()))


def batch_of(stores: Stores) -> BatchRecord:
    batch = stores.batches.get(BATCH)
    assert batch is not None
    return batch


@pytest.mark.fault("manifest-lost")
@pytest.mark.parametrize("spoil", UNREADABLE)
def test_every_instance_fails_with_a_reason_and_is_counted(
    spoil: Callable[[Stores], None],
) -> None:
    stores = a_closed_batch()
    closed_at = batch_of(stores).closed_at
    spoil(stores)
    with capture_logs() as told:
        assert fail(stores)["status"] == "FAILED"
    rows = list(stores.instances.by_study("1.2"))
    assert [row.state for row in rows] == [InstanceState.FAILED] * 3
    assert {row.reason for row in rows} == {"ObjectMissing: gone"}
    assert [row.key for row in rows] == [failed_key(key) for key in KEYS]
    batch, job = batch_of(stores), stores.jobs.get(BATCH)
    assert job is not None
    assert (batch.state, batch.counts, batch.closed_at) == (
        BatchState.FAILED, Counts(3, failed=3), closed_at,
    )  # fmt: skip
    assert job.counts == Counts(3, failed=3)
    (line,) = [each for each in told if each["event"] == "import_ended"]
    assert line["FailedInstances"] == 3


@pytest.mark.fault("manifest-lost")
@pytest.mark.parametrize("spoil", UNREADABLE)
def test_such_a_batch_is_retried_and_its_instances_are_released(
    spoil: Callable[[Stores], None],
) -> None:
    stores = a_closed_batch()
    spoil(stores)
    fail(stores)
    objects_of(stores).denied.clear()
    operations = Operations(a_context(stores, FakeHealthImaging()), MemoryJournal())
    released = release_instance("1.2.3.3", "why", None, operations)
    assert close_batch(BUCKET, manifest_key(released.batch_id), stores, DATASTORE, NOW)
    retried = retry_batch(BATCH, "why", operations)
    manifest = Manifest.from_json(files_of(stores).read(manifest_key(retried.batch_id), 10**6))
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.2.3.1", "1.2.3.2"]


def test_what_stood_in_the_manifests_place_is_kept_aside() -> None:
    stores = a_closed_batch()
    damaged(stores)
    fail(stores)
    aside = [each.key for each in files_of(stores).list("quarantine/invalid-manifest/")]
    assert aside == [f"quarantine/invalid-manifest/{BATCH}.json"]
    written = Manifest.from_json(files_of(stores).read(KEY, 10**6))
    assert [each.key for each in written.instances] == KEYS


def test_the_event_of_the_manifest_that_is_written_again_changes_nothing() -> None:
    stores = a_closed_batch()
    gone(stores)
    fail(stores)
    ended = batch_of(stores)
    assert close_batch(BUCKET, KEY, stores, DATASTORE, NOW) is None
    assert batch_of(stores) == ended


def test_what_no_rebuilt_manifest_lists_stays_the_batchs_when_the_failure_is_recorded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first try dies behind the manifest that it has written."""
    stores = a_closed_batch()
    gone(stores)
    objects_of(stores).metadata[BUCKET, KEYS[1]] = {}
    with monkeypatch.context() as patch:
        patch.delattr(type(stores.jobs), "put")
        with pytest.raises(AttributeError):
            fail(stores)
    fail(stores)
    rows = list(stores.instances.by_study("1.2"))
    assert [row.key for row in rows] == [failed_key(KEYS[0]), KEYS[1], failed_key(KEYS[2])]
    assert (BUCKET, KEYS[1]) in objects_of(stores).bodies


@pytest.mark.parametrize("bad", ["its metadata", "its rights", "it is gone"])
def test_an_instance_whose_object_tells_nothing_fails_beside_its_neighbours(bad: str) -> None:
    stores = a_closed_batch()
    gone(stores)
    objects = objects_of(stores)
    if bad == "its metadata":
        objects.metadata[BUCKET, KEYS[1]] = {}
    elif bad == "its rights":
        objects.denied.add((BUCKET, KEYS[1]))
    else:
        del objects.bodies[BUCKET, KEYS[1]]
    for _ in range(2):
        fail(stores)
        rows = list(stores.instances.by_study("1.2"))
        assert [row.state for row in rows] == [InstanceState.FAILED] * 3
        assert batch_of(stores).counts == Counts(3, failed=3)


def without_a_row(stores: Stores) -> None:
    """The second: another batch has the row of its checksum, and the two were not compared."""
    memory = cast("MemoryInstances", stores.instances)
    two = rows_by_uid(stores)[MANIFEST.instances[1].sop_instance_uid]
    others = "20261123T093000Z-ffffffffffffffff"
    memory.rows[two.row_key] = replace(two, batch_id=others, key=two.key.replace(BATCH, others))


def own_rows(stores: Stores) -> list[InstanceState]:
    memory = cast("MemoryInstances", stores.instances)
    return [row.state for row in memory.rows.values() if row.batch_id == BATCH]


@pytest.mark.fault("manifest-lost")
@pytest.mark.parametrize("spoil", UNREADABLE)
@pytest.mark.parametrize("readable", [KEY, KEYS[1]])
def test_an_instance_without_a_row_is_not_forgotten_while_nothing_of_it_may_be_read(
    spoil: Callable[[Stores], None], readable: str
) -> None:
    stores = a_closed_batch()
    without_a_row(stores)
    objects = objects_of(stores)
    spoil(stores)
    objects.denied.add((BUCKET, KEYS[1]))
    for _ in range(2):
        with capture_logs() as told, pytest.raises(ObjectDenied, match="the manifest and 1 object"):
            fail(stores)
        assert unsettled(told) == ["ObjectDenied"]
        assert batch_of(stores).state is BatchState.IMPORTING
        assert all((BUCKET, key) in objects.bodies for key in KEYS)
    if readable == KEY:
        objects.bodies[BUCKET, KEY] = MANIFEST.to_json()
    objects.denied.discard((BUCKET, readable))
    fail(stores)
    assert own_rows(stores) == [InstanceState.FAILED] * 3
    assert batch_of(stores).counts == Counts(3, failed=3)


def test_such_a_batch_is_ended_by_force() -> None:
    """Its execution was stopped, and nobody gives the access back."""
    stores = a_closed_batch()
    without_a_row(stores)
    denied(stores)
    objects_of(stores).denied.add((BUCKET, KEYS[1]))
    stores.batches.move(batch_of(stores), BatchEvent.STALLED)
    operations = Operations(a_context(stores, FakeHealthImaging()), MemoryJournal())
    with pytest.raises(OperationRefused, match="An import is unsettled"):
        retry_batch(BATCH, "why", operations)
    with pytest.raises(OperationRefused, match="manifest cannot be read"):  # it has ended, though
        retry_batch(BATCH, "why", operations, force=True)
    assert own_rows(stores).count(InstanceState.FAILED) == 2
    assert batch_of(stores).state is BatchState.FAILED


def test_an_instance_with_a_row_fails_though_neither_it_nor_the_manifest_may_be_read() -> None:
    stores = a_closed_batch()
    denied(stores)
    objects_of(stores).denied.add((BUCKET, KEYS[1]))
    fail(stores)
    assert own_rows(stores) == [InstanceState.FAILED] * 3


def test_a_duplicate_that_may_not_be_read_stops_nothing() -> None:
    """Another batch imports it; its place tells that."""
    stores = a_closed_batch()
    without_a_row(stores)
    move_all(files_of(stores), [KEYS[1]], duplicate_key, "another batch's")
    denied(stores)
    objects_of(stores).denied.add((BUCKET, duplicate_key(KEYS[1])))
    fail(stores)
    assert own_rows(stores) == [InstanceState.FAILED] * 2


@pytest.mark.parametrize("named", [KEYS, [KEYS[0], KEYS[2]]])
def test_a_completed_job_waits_while_the_manifest_is_gone_and_an_object_is_denied(
    named: list[str],
) -> None:
    """Else the batch would be IMPORTED without that instance, whatever became of it."""
    stores, service = a_closed_batch(), FakeHealthImaging()
    start_import(EXECUTION, a_context(stores, service))
    gone(stores)
    objects_of(stores).denied.add((BUCKET, KEYS[1]))
    service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
    keep_results(stores, summary=summary(len(named)), success=lines(*map(success, named)))
    with capture_logs() as told, pytest.raises(ObjectDenied):
        check_status(EXECUTION, "job1", a_context(stores, service))
    assert "ObjectDenied" in unsettled(told)
    assert batch_of(stores).state is BatchState.IMPORTING
    objects_of(stores).denied.clear()
    check_status(EXECUTION, "job1", a_context(stores, service))
    assert batch_of(stores).counts.instances == 3
    assert InstanceState.RECEIVED not in own_rows(stores)


def test_a_duplicate_of_such_a_batch_counts_as_imported() -> None:
    stores = a_closed_batch()
    move_all(files_of(stores), [KEYS[0]], duplicate_key, "another batch's")
    gone(stores)
    fail(stores)
    assert batch_of(stores).counts == Counts(3, imported=1, failed=2, duplicates=1)
    written = Manifest.from_json(files_of(stores).read(KEY, 10**6))
    assert [each.key for each in written.instances] == KEYS


def test_a_crash_behind_any_write_ends_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        """The Lambda dies."""

    for number in range(20):
        stores, writes = a_closed_batch(), iter(range(20))
        gone(stores)

        def dying(name: str, kind: type, number: int = number, writes: Any = writes) -> Any:
            real = getattr(kind, name)

            def call(*arguments: Any) -> Any:
                answer = real(*arguments)
                if next(writes, -1) == number:
                    raise Crash
                return answer

            return call

        with monkeypatch.context() as patch:
            for store, names in (
                (type(stores.batches), ("move",)),
                (type(stores.instances), ("swap_many",)),
                (type(stores.jobs), ("put",)),
                (type(files_of(stores)), ("copy", "delete", "create")),
            ):
                for name in names:
                    patch.setattr(store, name, dying(name, store))
            try:
                fail(stores)
            except Crash:
                fail(stores)
        assert batch_of(stores).counts == Counts(3, failed=3)
        assert [row.key for row in stores.instances.by_study("1.2")] == [
            failed_key(key) for key in KEYS
        ]
        assert files_of(stores).head(KEY).size > 0


def test_a_job_that_completed_is_recorded_without_its_manifest() -> None:
    stores, service = a_closed_batch(), FakeHealthImaging()
    start_import(EXECUTION, a_context(stores, service))
    gone(stores)
    service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
    keep_results(stores, summary=summary(3), success=lines(*map(success, KEYS)))
    assert check_status(EXECUTION, "job1", a_context(stores, service))["status"] == "COMPLETED"
    rows = stores.instances.by_study("1.2")
    assert [row.state for row in rows] == [InstanceState.IMPORTED] * 3


def test_a_batch_that_is_empty_and_without_a_manifest_fails_with_what_is_known() -> None:
    stores = a_closed_batch()
    gone(stores)
    for key in KEYS:
        del objects_of(stores).bodies[BUCKET, key]
    with capture_logs() as told:
        fail(stores)
    assert batch_of(stores).counts == Counts(3, failed=3)
    assert unsettled(told) == ["ObjectMissing"]


def test_a_manifest_that_is_gone_is_permanent_at_the_start() -> None:
    stores = a_closed_batch()
    gone(stores)
    with pytest.raises(ObjectMissing):
        start_import(EXECUTION, a_context(stores, FakeHealthImaging()))
    damaged(stores)
    with pytest.raises(ContractError):
        start_import(EXECUTION, a_context(stores, FakeHealthImaging()))
