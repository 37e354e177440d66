"""A batch's failed instances once more, over the in-memory twins."""

from dataclasses import replace

import pytest
from chalicelib.errors import (
    ImportRefused,
    NotFound,
)
from chalicelib.imports.aside import failed_key
from chalicelib.operations.journal import Entry
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.operations.retry import retry_batch
from chalicelib.stores.memory import MemoryBatches, MemoryObjects

from contract.keys import manifest_key
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    a_manifest,
    failed,
    instance_row,
    keep_results,
    lines,
    overwrite,
    remove,
    success,
    summary,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.repeat_desk import (
    COMPLETED,
    FAILED,
    KEYS,
    LATER,
    RUNNING,
    WHY,
    Desk,
    a_failed_batch,
    an_imported_batch,
    archived,
)


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
    assert (new.state, new.message) == (BatchState.CLOSED, None)
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
    remove(desk.files, desk.keys("quarantine/"))
    with pytest.raises(OperationRefused, match="no failed instance"):
        retry_batch(BATCH, WHY, desk.operations())
    remove(desk.files, [*desk.keys("batches/"), *desk.keys("instances/")])
    with pytest.raises(OperationRefused, match="manifest"):
        retry_batch(BATCH, WHY, desk.operations())


def test_a_batch_whose_manifest_somebody_deleted_is_retried_from_its_objects() -> None:
    desk = Desk()
    remove(desk.files, desk.keys("batches/"))
    entry = retry_batch(BATCH, WHY, desk.operations())
    found = [each.sop_instance_uid for each in desk.manifest(entry.batch_id).instances]
    assert found == list(FAILED)


def test_a_failed_instance_that_was_not_moved_yet_is_retried_from_where_it_stands() -> None:
    desk = Desk()
    source = desk.keys("quarantine/")[0]
    target = source.replace("quarantine/import-failed/", "instances/")
    desk.files.copy(desk.files.head(source), target, desk.files.head(source).metadata)
    remove(desk.files, [source])
    entry = retry_batch(BATCH, WHY, desk.operations())
    assert len(desk.manifest(entry.batch_id).instances) == 2


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


def test_by_force_all_of_an_imported_batch_is_repeated_and_imported_again() -> None:
    desk = an_imported_batch()
    with pytest.raises(OperationRefused, match="only PARTIAL or FAILED"):
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


def test_a_further_retry_reads_the_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    with monkeypatch.context() as patch:
        archived(patch, failed_key(KEYS[0]))
        desk.close(retry_batch(BATCH, WHY, desk.operations()).batch_id)
    calls = Calls()
    monkeypatch.setattr(desk.journal, "begin", lambda _: die())  # behind what it has to know
    with pytest.raises(Crash):
        retry_batch(BATCH, WHY, desk.operations(instances=calls.port(desk.stores.instances)))
    assert calls.number == 1


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


def test_a_retry_whose_manifest_cannot_be_read_is_named() -> None:
    desk = Desk()
    entry = retry_batch(BATCH, WHY, desk.operations())
    desk.close(entry.batch_id)
    assert isinstance(desk.stores.objects, MemoryObjects)
    desk.stores.objects.denied.add((BUCKET, manifest_key(entry.batch_id)))
    with pytest.raises(OperationRefused, match=entry.batch_id):
        retry_batch(BATCH, WHY, desk.operations())


def a_forced_retry_that_ended() -> tuple[Desk, Entry]:
    desk = an_imported_batch()
    entry = retry_batch(BATCH, WHY, desk.operations(), force=True)
    desk.close(entry.batch_id)
    batch = desk.stores.batches.get(entry.batch_id)
    assert batch is not None
    assert isinstance(desk.stores.batches, MemoryBatches)
    desk.stores.batches.rows[entry.batch_id] = replace(batch, state=BatchState.IMPORTED)
    rows = [
        instance_row(entry.batch_id, each, InstanceState.IMPORTED, LATER)
        for each in desk.manifest(entry.batch_id).instances
    ]
    overwrite(desk.stores.instances, rows)
    return desk, entry


def test_a_forced_retry_whose_manifest_is_gone_is_not_made_twice() -> None:
    desk, entry = a_forced_retry_that_ended()
    remove(desk.files, [manifest_key(entry.batch_id), *desk.keys(f"instances/{entry.batch_id}/")])
    assert retry_batch(BATCH, WHY, desk.operations(), force=True) == entry


def test_a_forced_retry_whose_manifest_is_denied_is_not_made_twice() -> None:
    desk, entry = a_forced_retry_that_ended()
    assert isinstance(desk.stores.objects, MemoryObjects)
    desk.stores.objects.denied.add((BUCKET, manifest_key(entry.batch_id)))
    with pytest.raises(OperationRefused, match=entry.batch_id):
        retry_batch(BATCH, WHY, desk.operations(), force=True)


def test_a_retry_is_the_same_one_though_nothing_is_left_of_the_old_batch() -> None:
    desk = Desk()
    first = retry_batch(BATCH, WHY, desk.operations())
    desk.close(first.batch_id)
    remove(desk.files, [manifest_key(BATCH), *desk.keys(f"instances/{BATCH}/")])
    assert retry_batch(BATCH, WHY, desk.operations()) == first
