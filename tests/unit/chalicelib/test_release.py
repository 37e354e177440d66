"""One instance out of quarantine, over the in-memory twins."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from chalicelib.errors import NotFound, ObjectDenied, ServiceUnavailable
from chalicelib.imports.aside import duplicate_key, failed_key, move_all, unlisted_key
from chalicelib.operations import release as release_module
from chalicelib.operations.journal import Entry
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations, close
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.checksums import Checksum
from contract.keys import InstanceKey, manifest_key
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    instance_row,
    keep_results,
    lines,
    overwrite,
    remove,
    success,
    summary,
)
from tests.unit.chalicelib.repeat_desk import (
    COMPLETED,
    KEYS,
    WHY,
    Desk,
    a_failed_batch,
    an_imported_batch,
    release,
    repeat,
)
from tests.unit.chalicelib.steps import LATER


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


SWEPT = unlisted_key(KEYS[2])


def a_swept_object() -> tuple[Desk, Callable[[], Entry], Mapping[str, str]]:
    """A desk, the request that releases the object, and the object's metadata."""
    desk = Desk()
    move_all(desk.files, [KEYS[2]], unlisted_key, "not in the batch's manifest")

    def release_it() -> Entry:
        return release_instance("1.2.3.3", WHY, SWEPT, desk.operations())

    return desk, release_it, desk.files.head(SWEPT).metadata


def test_an_object_that_was_swept_is_released_by_its_key() -> None:
    desk, release_it, _ = a_swept_object()
    entry = release_it()
    (instance,) = desk.manifest(entry.batch_id).instances
    assert desk.files.read(instance.key, 1000) == b"1.2.3.3"
    assert SWEPT not in desk.keys("quarantine/")
    assert release_it() == entry


def comes_again(desk: Desk, place: str, body: bytes, metadata: Mapping[str, str]) -> None:
    desk.files.put(place, body)
    objects = desk.stores.objects
    assert isinstance(objects, MemoryObjects)
    objects.metadata[BUCKET, place] = metadata


def test_another_object_that_comes_to_the_same_place_is_released_too_and_not_deleted() -> None:
    desk, release_it, metadata = a_swept_object()
    first = release_it()
    comes_again(desk, SWEPT, b"other bytes", metadata)
    second = release_it()
    assert second.batch_id != first.batch_id
    (instance,) = desk.manifest(second.batch_id).instances
    assert desk.files.read(instance.key, 1000) == b"other bytes"
    assert SWEPT not in desk.keys("quarantine/")
    assert release_it() == second


def test_an_object_whose_copy_vanishes_while_it_is_compared_is_released_and_not_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, release_it, metadata = a_swept_object()
    first = release_it()
    comes_again(desk, SWEPT, b"other bytes", metadata)
    real = MemoryFiles.digest_of_both

    def expired(files: MemoryFiles, key: str, other: str) -> Checksum | None:
        remove(files, [other])
        return real(files, key, other)

    monkeypatch.setattr(MemoryFiles, "digest_of_both", expired)
    second = release_it()
    assert second.batch_id != first.batch_id
    (instance,) = desk.manifest(second.batch_id).instances
    assert desk.files.read(instance.key, 1000) == b"other bytes"


def dies(*_: object) -> None:
    raise MemoryError


def test_the_batch_that_has_the_object_is_closed_before_it_is_deleted_and_is_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, release_it, metadata = a_swept_object()
    monkeypatch.setattr("chalicelib.operations.release.close", dies)
    with pytest.raises(MemoryError):
        release_it()
    monkeypatch.undo()
    (first,) = desk.journal.entries.values()
    comes_again(desk, SWEPT, b"other bytes", metadata)
    assert release_it().batch_id != first.batch_id
    assert desk.state(first.batch_id) is BatchState.OPEN
    comes_again(desk, SWEPT, b"1.2.3.3", metadata)
    assert release_it() == first
    assert desk.state(first.batch_id) is BatchState.CLOSED
    assert SWEPT not in desk.keys("quarantine/")


def test_a_release_that_died_before_it_closed_closes_before_it_deletes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    monkeypatch.setattr("chalicelib.operations.release.close", dies)
    with pytest.raises(MemoryError):
        release(desk.operations())
    monkeypatch.undo()
    entry = release(desk.operations())
    assert desk.row("1.2.3.1").batch_id == entry.batch_id
    assert failed_key(KEYS[0]) not in desk.keys("quarantine/")


def test_nothing_is_deleted_while_the_new_batch_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(*_: object) -> None:
        raise ObjectDenied("HeadObject: 403")

    desk = Desk()
    monkeypatch.setattr(MemoryObjects, "metadata_of", denied)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="cannot be closed yet"):
            release(desk.operations())
    assert desk.row("1.2.3.1").key == failed_key(KEYS[0])
    assert failed_key(KEYS[0]) in desk.keys("quarantine/")
    monkeypatch.undo()
    entry = release(desk.operations())
    assert desk.row("1.2.3.1").batch_id == entry.batch_id
    assert failed_key(KEYS[0]) not in desk.keys("quarantine/")


def test_what_can_be_released_by_now_is_not_taken_for_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HealthImaging has imported it after all, and another object of its UID has failed since."""
    desk = Desk()

    def settles(*_: object, force: bool) -> None:
        row = desk.row("1.2.3.1")
        other = str(InstanceKey(NEWER_BATCH, "1.9", "1.2.3", "1.2.3.1"))
        moved = replace(row, study_instance_uid="1.9", batch_id=NEWER_BATCH, key=other)
        overwrite(desk.stores.instances, [replace(row, state=InstanceState.IMPORTED), moved])
        desk.files.copy(desk.files.head(row.key), other, desk.files.head(row.key).metadata)

    monkeypatch.setattr("chalicelib.operations.release._settle", settles)
    with pytest.raises(OperationRefused, match="ask again"):
        release(desk.operations())
    assert failed_key(KEYS[0]) in desk.keys("quarantine/")
    assert desk.journal.entries == {}


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


def test_an_instance_that_was_imported_after_all_is_not_released() -> None:
    desk = a_failed_batch(COMPLETED)
    keep_results(desk.stores, summary=summary(4), success=lines(*(success(key) for key in KEYS)))
    with pytest.raises(OperationRefused, match="the instance is IMPORTED"):
        repeat(desk, "release")
    assert desk.row("1.2.3.1").state is InstanceState.IMPORTED


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


def test_a_duplicate_is_released_by_force_from_where_it_was_put() -> None:
    desk = an_imported_batch()
    move_all(desk.files, [KEYS[0]], duplicate_key, "another batch imports the same bytes")
    entry = release_instance("1.2.3.1", WHY, None, desk.operations(), force=True)
    assert len(desk.keys(f"instances/{entry.batch_id}/")) == 1


def test_another_object_of_the_same_uid_and_batch_is_another_release() -> None:
    desk = Desk()
    first = release(desk.operations())
    desk.close(first.batch_id)
    other = str(InstanceKey(BATCH, "1.2", "1.2.9", "1.2.3.1"))
    source = desk.files.head(desk.row("1.2.3.1").key)
    metadata = {**source.metadata, "series-instance-uid": "1.2.9"}
    desk.files.copy(source, unlisted_key(other), metadata)
    second = release_instance("1.2.3.1", WHY, unlisted_key(other), desk.operations())
    assert second.batch_id != first.batch_id
    (instance,) = desk.manifest(second.batch_id).instances
    assert instance.series_instance_uid == "1.2.9"
    assert desk.keys(f"instances/{second.batch_id}/") == [instance.key]


def test_what_was_deleted_after_a_forced_release_can_be_released_once_more() -> None:
    desk = an_imported_batch()
    first = release_instance("1.2.3.1", WHY, None, desk.operations(), force=True)
    desk.close(first.batch_id)
    (imported,) = desk.manifest(first.batch_id).instances
    row = instance_row(first.batch_id, imported, InstanceState.DELETED, LATER, reason="deleted")
    overwrite(desk.stores.instances, [row])
    second = release_instance("1.2.3.1", "again", None, desk.operations(), force=True)
    assert (second.batch_id == first.batch_id, second.reason) == (False, "again")
    desk.close(second.batch_id)
    assert release_instance("1.2.3.1", WHY, None, desk.operations(), force=True) == second


def test_nothing_is_deleted_while_the_new_batchs_manifest_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its row still names the original; recovery makes the manifest again."""
    desk = Desk()
    original = desk.row("1.2.3.1").key

    def deleted(entry: Entry, operations: Operations) -> None:
        remove(operations.files, [manifest_key(entry.batch_id)])
        close(entry, operations)

    monkeypatch.setattr(release_module, "close", deleted)
    with pytest.raises(ServiceUnavailable, match="manifest is gone"):
        release(desk.operations())
    assert original in desk.keys("quarantine/")
