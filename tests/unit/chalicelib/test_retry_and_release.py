"""Failed and quarantined instances once more, over the in-memory twins."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import (
    BadParameter,
    ImportRefused,
    ImportThrottled,
    NotFound,
    ObjectDenied,
    ServiceUnavailable,
)
from chalicelib.imports.aside import duplicate_key, failed_key, move_all, unlisted_key
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.late import ask_again
from chalicelib.imports.rows import instance_row
from chalicelib.imports.start import start_import
from chalicelib.intake.trigger import close_batch
from chalicelib.operations.journal import Entry, MemoryJournal
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.batch_states import BatchEvent
from contract.errors import ProductError
from contract.keys import InstanceKey, manifest_key
from contract.manifest import Manifest
from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    failed,
    files_of,
    keep_metadata,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    success,
    summary,
)
from tests.unit.chalicelib.dying import Crash, Dying

LATER = NOW + timedelta(hours=2)
WHY = "the data store was full"
FAILED = "1.2.3.1", "1.2.3.2"


def a_partial_batch() -> Stores:
    """Of its four instances two have failed, one is imported, one was sent again since."""
    manifest = a_manifest(4)
    stores = memory_stores(manifest)
    for each in manifest.instances:
        keep_metadata(stores, each)
    batches, instances = stores.batches, stores.instances
    assert isinstance(batches, MemoryBatches)
    batches.rows[BATCH] = replace(batches.rows[BATCH], state=BatchState.PARTIAL)
    rows = [
        replace(
            instance_row(BATCH, each, InstanceState.FAILED, NOW, job_id="job1", reason="why"),
            key=failed_key(each.key),
        )
        for each in manifest.instances
    ]
    moved = InstanceKey(NEWER_BATCH, "1.2", "1.2.3", "1.2.3.4")
    rows[2] = replace(rows[2], state=InstanceState.IMPORTED, reason=None)
    rows[3] = replace(rows[3], batch_id=NEWER_BATCH, key=str(moved))
    overwrite(instances, rows)
    failed = [each.key for each in manifest.instances[:2]]
    move_all(files_of(stores), failed, failed_key, "why")
    return stores


@dataclass
class Desk:
    stores: Stores = field(default_factory=a_partial_batch)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    service: FakeHealthImaging = field(default_factory=FakeHealthImaging)

    @property
    def files(self) -> MemoryFiles:
        return files_of(self.stores)

    def operations(self, files: Any = None, journal: Any = None, **stores: Any) -> Operations:
        imports = a_context(replace(self.stores, **stores), self.service, LATER)
        return Operations(replace(imports, files=files or self.files), journal or self.journal)

    def manifest(self, batch_id: str) -> Manifest:
        return Manifest.from_json(self.files.read(manifest_key(batch_id), 10**6))

    def keys(self, prefix: str) -> list[str]:
        return [each.key for each in self.files.list(prefix)]

    def row(self, uid: str) -> Any:
        return self.stores.instances.get_many([uid])[uid]

    def close(self, batch_id: str) -> None:
        """What the manifest's event does."""
        assert close_batch(BUCKET, manifest_key(batch_id), self.stores, LATER)


def test_a_retry_is_a_new_batch_of_what_failed() -> None:
    desk = Desk()
    entry = retry_batch(BATCH, WHY, desk.operations())
    manifest = desk.manifest(entry.batch_id)
    assert tuple(each.sop_instance_uid for each in manifest.instances) == FAILED
    assert manifest.source == a_manifest().source
    assert entry.batch_id.startswith("20261123T113000Z-")  # newer than whatever it repeats
    assert desk.keys(f"instances/{entry.batch_id}/") == [each.key for each in manifest.instances]
    assert desk.keys("quarantine/") == []


def test_both_batches_name_each_other_and_the_reason_stays() -> None:
    desk = Desk()
    entry = retry_batch(BATCH, WHY, desk.operations())
    desk.close(entry.batch_id)
    old, new = desk.stores.batches.get(BATCH), desk.stores.batches.get(entry.batch_id)
    assert old is not None
    assert new is not None
    assert (old.retried_as, new.retry_of) == (entry.batch_id, BATCH)
    assert (new.state, new.message) == (BatchState.CLOSED, WHY)
    assert desk.row("1.2.3.1").state is InstanceState.RECEIVED
    assert desk.journal.get(f"retry:{BATCH}") == Entry(f"retry:{BATCH}", new.batch_id, WHY, LATER)


def test_a_retry_that_is_asked_again_is_the_same_one() -> None:
    desk = Desk()
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert retry_batch(BATCH, "another reason", desk.operations()) == entry
    desk.close(entry.batch_id)
    assert retry_batch(BATCH, "a third", desk.operations()) == entry
    assert len(desk.keys("batches/")) == 2


@pytest.mark.parametrize("state", [BatchState.OPEN, BatchState.CLOSED, BatchState.IMPORTED])
def test_only_a_batch_with_failures_is_retried(state: BatchState) -> None:
    desk = Desk()
    assert isinstance(desk.stores.batches, MemoryBatches)
    rows = desk.stores.batches.rows
    rows[BATCH] = replace(rows[BATCH], state=state)
    with pytest.raises(OperationRefused, match=str(state)):
        retry_batch(BATCH, WHY, desk.operations())
    with pytest.raises(NotFound):
        retry_batch(NEWER_BATCH, WHY, desk.operations())
    assert desk.journal.entries == {}


def test_a_batch_whose_objects_or_manifest_are_gone_is_not_retried() -> None:
    desk = Desk()
    desk.files.delete(desk.keys("quarantine/"))
    with pytest.raises(OperationRefused, match="no failed instance"):
        retry_batch(BATCH, WHY, desk.operations())
    desk.files.delete([*desk.keys("batches/"), *desk.keys("instances/")])
    with pytest.raises(OperationRefused, match="manifest"):
        retry_batch(BATCH, WHY, desk.operations())


def test_a_batch_whose_manifest_somebody_deleted_is_retried_from_its_objects() -> None:
    desk = Desk()
    desk.files.delete(desk.keys("batches/"))
    entry = retry_batch(BATCH, WHY, desk.operations())
    found = [each.sop_instance_uid for each in desk.manifest(entry.batch_id).instances]
    assert found == list(FAILED)


def test_a_failed_instance_that_was_not_moved_yet_is_retried_from_where_it_stands() -> None:
    desk = Desk()
    source = desk.keys("quarantine/")[0]
    target = source.replace("quarantine/import-failed/", "instances/")
    desk.files.copy(desk.files.head(source), target, desk.files.head(source).metadata)
    desk.files.delete([source])
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert len(desk.manifest(entry.batch_id).instances) == 2


PORTS = ("files", "journal", "batches", "instances")


def ports(desk: Desk, dying: str, dies_at: int | None) -> tuple[Operations, Dying]:
    there = {
        "files": desk.files,
        "journal": desk.journal,
        "batches": desk.stores.batches,
        "instances": desk.stores.instances,
    }
    port = Dying(there[dying], dies_at)
    return desk.operations(**{dying: port}), port


def retry(operations: Operations) -> Entry:
    return retry_batch(BATCH, WHY, operations)


def release(operations: Operations) -> Entry:
    return release_instance("1.2.3.1", WHY, None, operations)


def crashes(action: Any) -> list[tuple[str, int]]:
    found = []
    for name in PORTS:
        operations, port = ports(Desk(), name, None)
        action(operations)
        found += [(name, number) for number in range(port.calls)]
    return found


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(("port", "dies_at"), crashes(retry))
def test_a_retry_may_die_at_any_call(port: str, dies_at: int, is_closed: bool) -> None:
    assert_survives(retry, port, dies_at, is_closed)


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(("port", "dies_at"), crashes(release))
def test_a_release_may_die_at_any_call(port: str, dies_at: int, is_closed: bool) -> None:
    assert_survives(release, port, dies_at, is_closed)


def assert_survives(action: Any, port: str, dies_at: int, is_closed: bool) -> None:
    """``is_closed``: the manifest's event comes between the crash and the next try."""
    desk, uncrashed = Desk(), Desk()
    with pytest.raises(Crash):
        action(ports(desk, port, dies_at)[0])
    published = [key for key in desk.keys("batches/") if key != manifest_key(BATCH)]
    closed_early = is_closed and published
    if closed_early:
        desk.close(published[0].removeprefix("batches/").removesuffix(".json"))
    entry, expected = action(desk.operations()), action(uncrashed.operations())
    if not closed_early:
        desk.close(entry.batch_id)
    uncrashed.close(expected.batch_id)
    assert end_of(desk, entry) == end_of(uncrashed, expected)


def end_of(desk: Desk, entry: Entry) -> Any:
    assert isinstance(desk.stores.instances, MemoryInstances)
    assert isinstance(desk.stores.batches, MemoryBatches)
    rows, batches = desk.stores.instances.rows, desk.stores.batches.rows
    return entry, desk.keys(""), desk.manifest(entry.batch_id), rows, batches


def test_a_release_is_a_batch_of_one() -> None:
    desk = Desk()
    entry = release(desk.operations())
    manifest = desk.manifest(entry.batch_id)
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.2.3.1"]
    assert (manifest.source.calling_ae_title, manifest.urgent) == ("CT1", True)
    assert len(desk.keys("quarantine/")) == 1
    desk.close(entry.batch_id)
    assert release(desk.operations()) == entry


def test_an_instance_that_fails_again_can_be_released_again() -> None:
    desk = Desk()
    entry = release(desk.operations())
    desk.close(entry.batch_id)
    row = desk.row("1.2.3.1")
    overwrite(desk.stores.instances, [replace(row, state=InstanceState.FAILED, reason="again")])
    move_all(desk.files, [row.key], failed_key, "again")
    second = release_instance("1.2.3.1", "now it fits", None, desk.operations())
    assert second.batch_id != entry.batch_id
    assert second.reason == "now it fits"


def test_an_object_that_was_swept_is_released_by_its_key() -> None:
    desk = Desk()
    key = str(InstanceKey(BATCH, "1.2", "1.2.3", "1.2.3.3"))
    move_all(desk.files, [key], unlisted_key, "not in the batch's manifest")
    aside = unlisted_key(key)
    entry = release_instance("1.2.3.3", WHY, aside, desk.operations())
    (instance,) = desk.manifest(entry.batch_id).instances
    assert desk.files.read(instance.key, 1000) == key.encode()
    assert aside not in desk.keys("quarantine/")
    assert release_instance("1.2.3.3", WHY, aside, desk.operations()) == entry


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dropbox/x",
        f"instances/{BATCH}/1.2/1.2.3/1.2.3.1.dcm",
        f"quarantine/unlisted/{BATCH}/1.2/1.2.3/1.2.3.2.dcm",
        f"quarantine/../unlisted/{BATCH}/1.2/1.2.3/1.2.3.1.dcm",
        "quarantine/not-part10/abc",
    ],
)
def test_a_key_that_is_not_the_instances_is_a_bad_parameter(key: str) -> None:
    with pytest.raises(BadParameter, match="key"):
        release_instance("1.2.3.1", WHY, key, Desk().operations())


def test_what_is_not_put_aside_is_not_released() -> None:
    desk = Desk()
    with pytest.raises(OperationRefused, match="IMPORTED"):
        release_instance("1.2.3.3", WHY, None, desk.operations())
    with pytest.raises(NotFound):
        release_instance("1.9", WHY, None, desk.operations())
    gone = f"quarantine/unlisted/{BATCH}/1.2/1.2.3/1.2.3.1.dcm"
    with pytest.raises(OperationRefused, match="not in the bucket"):
        release_instance("1.2.3.1", WHY, gone, desk.operations())
    assert isinstance(desk.stores.objects, MemoryObjects)
    desk.stores.objects.metadata.clear()
    with pytest.raises(OperationRefused, match="dropbox/"):
        release(desk.operations())
    assert desk.journal.entries == {}


def test_recovery_may_close_the_batch_of_a_retry_that_died_before_its_manifest() -> None:
    """It was opened when all was copied: nothing is imported half."""
    desk = Desk()
    operations, _ = ports(desk, "batches", 1)
    with pytest.raises(Crash):
        retry(operations)
    (opened,) = desk.stores.batches.by_state(BatchState.OPEN)
    assert opened.retry_of == BATCH
    assert len(desk.keys(f"instances/{opened.batch_id}/")) == 2
    assert desk.stores.batches.move(opened, BatchEvent.CLOSED)


KEYS = [each.key for each in a_manifest(4).instances]


def a_failed_batch(view: ImportView | None) -> Desk:
    """Its job is recorded FAILED; HealthImaging says ``view`` of it now, and has its results."""
    desk = Desk()
    stores = desk.stores
    start_import(EXECUTION, a_context(memory := memory_stores(a_manifest(4)), desk.service))
    job = memory.jobs.get("job1")
    assert job is not None
    assert isinstance(stores.batches, MemoryBatches)
    stores.jobs.create(replace(job, job_status=JobStatus.FAILED, counts=Counts(4, failed=4)))
    stores.batches.rows[BATCH] = replace(
        stores.batches.rows[BATCH],
        state=BatchState.FAILED,
        job_id="job1",
        counts=Counts(4, failed=4),
    )
    desk.service.view = view
    return desk


RUNNING = ImportView(JobStatus.IN_PROGRESS, f"s3://{RESULTS}/{BATCH}/")
COMPLETED = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")


def test_what_healthimaging_has_imported_after_all_is_recorded_and_not_retried() -> None:
    desk = a_failed_batch(COMPLETED)
    body = lines(*(success(key) for key in KEYS))
    keep_results(desk.stores, summary=summary(4), success=body)
    with pytest.raises(OperationRefused, match="the batch is IMPORTED"):
        retry_batch(BATCH, WHY, desk.operations())
    assert desk.journal.entries == {}
    assert [desk.row(uid).state for uid in FAILED] == [InstanceState.IMPORTED] * 2
    assert desk.keys("quarantine/") == []


def test_only_what_healthimaging_has_not_imported_after_all_is_retried() -> None:
    desk = a_failed_batch(COMPLETED)
    good, bad = lines(*(success(key) for key in KEYS[1:])), lines(failed(KEYS[0]))
    keep_results(desk.stores, summary=summary(3, 1), success=good, failure=bad)
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert [each.sop_instance_uid for each in desk.manifest(entry.batch_id).instances] == [
        "1.2.3.1"
    ]


@pytest.mark.parametrize("operation", ["retry", "release"])
def test_nothing_is_imported_again_while_the_job_runs(operation: str) -> None:
    desk = a_failed_batch(RUNNING)
    with pytest.raises(OperationRefused, match="still runs"):
        repeat(desk, operation)
    assert desk.journal.entries == {}


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize("operation", ["retry", "release"])
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (ImportRefused("AccessDeniedException: no"), OperationRefused),
        (ImportThrottled("later"), ServiceUnavailable),
        (ServiceUnavailable("later"), ServiceUnavailable),
    ],
)
def test_nothing_is_imported_again_before_healthimaging_has_answered(
    operation: str, fault: ProductError, answer: type[Exception]
) -> None:
    desk = a_failed_batch(RUNNING)
    desk.service.faults = [fault]
    with pytest.raises(answer):
        repeat(desk, operation)
    assert desk.journal.entries == {}


def test_an_instance_that_was_imported_after_all_is_not_released() -> None:
    desk = a_failed_batch(COMPLETED)
    keep_results(desk.stores, summary=summary(4), success=lines(*(success(key) for key in KEYS)))
    with pytest.raises(OperationRefused, match="the instance is IMPORTED"):
        repeat(desk, "release")
    assert desk.row("1.2.3.1").state is InstanceState.IMPORTED


def repeat(desk: Desk, operation: str) -> Entry:
    if operation == "retry":
        return retry_batch(BATCH, WHY, desk.operations())
    return release_instance("1.2.3.1", WHY, None, desk.operations())


def an_imported_batch() -> Desk:
    desk = a_failed_batch(COMPLETED)
    body = lines(*(success(key) for key in KEYS))
    keep_results(desk.stores, summary=summary(4), success=body)
    batch = desk.stores.batches.get(BATCH)
    assert batch is not None
    ask_again(batch, a_context(desk.stores, desk.service))
    return desk


def test_by_force_all_of_an_imported_batch_is_repeated_and_imported_again() -> None:
    desk = an_imported_batch()
    with pytest.raises(OperationRefused, match="only PARTIAL and FAILED"):
        retry_batch(BATCH, WHY, desk.operations())
    entry = retry_batch(BATCH, WHY, desk.operations(), force=True)
    assert retry_batch(BATCH, "again", desk.operations(), force=True) == entry
    batch = desk.stores.batches.get(entry.batch_id)
    assert batch is not None
    assert (batch.forced, batch.retry_of) == (True, BATCH)
    assert len(desk.manifest(entry.batch_id).instances) == 4
    desk.close(entry.batch_id)
    kept = desk.stores.batches.get(entry.batch_id)
    assert kept is not None
    assert kept.forced


def test_a_forced_retry_is_another_than_the_one_before() -> None:
    desk = Desk()
    entry = retry_batch(BATCH, WHY, desk.operations())
    forced = retry_batch(BATCH, WHY, desk.operations(), force=True)
    assert forced.batch_id != entry.batch_id


@pytest.mark.parametrize("state", [InstanceState.IMPORTED, InstanceState.DELETED])
def test_by_force_an_instance_is_released_whatever_its_state(state: InstanceState) -> None:
    desk = an_imported_batch()
    overwrite(desk.stores.instances, [replace(desk.row("1.2.3.1"), state=state)])
    with pytest.raises(OperationRefused):
        release_instance("1.2.3.1", WHY, None, desk.operations())
    entry = release_instance("1.2.3.1", WHY, None, desk.operations(), force=True)
    batch = desk.stores.batches.get(entry.batch_id)
    assert batch is not None
    assert batch.forced
    desk.close(entry.batch_id)
    assert release_instance("1.2.3.1", WHY, None, desk.operations(), force=True) == entry


def test_no_force_imports_what_a_running_job_imports() -> None:
    desk = a_failed_batch(RUNNING)
    with pytest.raises(OperationRefused, match="still runs"):
        retry_batch(BATCH, WHY, desk.operations(), force=True)


def test_force_goes_on_where_nobody_can_say_what_was_imported() -> None:
    desk = a_failed_batch(RUNNING)
    desk.service.faults = [ImportRefused("AccessDeniedException: no")]
    entry = retry_batch(BATCH, WHY, desk.operations(), force=True)
    assert desk.manifest(entry.batch_id).instances != ()


def test_an_object_that_may_not_be_read_is_left_out_of_a_retry_and_not_released() -> None:
    desk = Desk()
    assert isinstance(desk.stores.objects, MemoryObjects)
    desk.stores.objects.denied.add((BUCKET, failed_key(KEYS[0])))
    with pytest.raises(OperationRefused, match="S3 does not let"):
        release_instance("1.2.3.1", WHY, None, desk.operations())
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert [each.sop_instance_uid for each in desk.manifest(entry.batch_id).instances] == [
        "1.2.3.2"
    ]


def archived(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """S3 tells of these objects, and does not let them be copied."""
    real = MemoryFiles.copy

    def copy(files: MemoryFiles, source: StoredObject, *arguments: Any) -> Any:
        if source.key in keys:
            raise ObjectDenied("CopyObject: ObjectNotInActiveTierError")
        return real(files, source, *arguments)

    monkeypatch.setattr(MemoryFiles, "copy", copy)


def test_an_archived_object_stays_and_its_neighbours_are_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    archived(monkeypatch, failed_key(KEYS[0]))
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert [each.sop_instance_uid for each in desk.manifest(entry.batch_id).instances] == [
        "1.2.3.2"
    ]
    assert desk.keys("quarantine/") == [failed_key(KEYS[0])]
    with pytest.raises(OperationRefused, match="restore"):
        release_instance("1.2.3.1", WHY, None, desk.operations())
    desk.close(entry.batch_id)
    assert retry_batch(BATCH, WHY, desk.operations()) == entry
    monkeypatch.undo()  # it is restored
    further = retry_batch(BATCH, WHY, desk.operations())
    assert [each.sop_instance_uid for each in desk.manifest(further.batch_id).instances] == [
        "1.2.3.1"
    ]
    assert further.batch_id != entry.batch_id
    assert retry_batch(BATCH, WHY, desk.operations()) == further
    assert desk.keys("quarantine/") == []


def test_a_further_retry_that_cannot_be_made_is_refused_and_not_answered_with_the_first() -> None:
    desk = Desk()
    desk.close(retry_batch(BATCH, WHY, desk.operations()).batch_id)
    assert isinstance(desk.stores.objects, MemoryObjects)
    desk.stores.objects.denied.add((BUCKET, manifest_key(BATCH)))
    with pytest.raises(OperationRefused, match="manifest cannot be read"):
        retry_batch(BATCH, WHY, desk.operations())


def test_force_goes_on_where_results_do_not_come() -> None:
    desk = a_failed_batch(COMPLETED)
    with pytest.raises(OperationRefused, match="ResultsNotReady"):
        retry_batch(BATCH, WHY, desk.operations())
    entry = retry_batch(BATCH, WHY, desk.operations(), force=True)
    assert len(desk.manifest(entry.batch_id).instances) == 4


def test_a_duplicate_is_released_by_force_from_where_it_was_put() -> None:
    desk = an_imported_batch()
    move_all(desk.files, [KEYS[0]], duplicate_key, "another batch imports the same bytes")
    entry = release_instance("1.2.3.1", WHY, None, desk.operations(), force=True)
    assert len(desk.keys(f"instances/{entry.batch_id}/")) == 1
