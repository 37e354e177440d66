"""One instance out of quarantine, over the in-memory twins."""

from dataclasses import replace

import pytest
from chalicelib.errors import (
    BadParameter,
    NotFound,
)
from chalicelib.imports.aside import duplicate_key, failed_key, move_all, unlisted_key
from chalicelib.imports.rows import instance_row
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance
from chalicelib.stores.memory import MemoryObjects

from contract.keys import InstanceKey
from contract.records import InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    keep_results,
    lines,
    overwrite,
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


def test_an_object_that_was_swept_is_released_by_its_key() -> None:
    desk = Desk()
    key = str(InstanceKey(BATCH, "1.2", "1.2.3", "1.2.3.3"))
    move_all(desk.files, [key], unlisted_key, "not in the batch's manifest")
    aside = unlisted_key(key)
    entry = release_instance("1.2.3.3", WHY, aside, desk.operations())
    (instance,) = desk.manifest(entry.batch_id).instances
    assert desk.files.read(instance.key, 1000) == b"1.2.3.3"
    assert aside not in desk.keys("quarantine/")
    assert release_instance("1.2.3.3", WHY, aside, desk.operations()) == entry


def test_another_object_that_comes_to_the_same_place_is_released_too_and_not_deleted() -> None:
    desk = Desk()
    key = str(InstanceKey(BATCH, "1.2", "1.2.3", "1.2.3.3"))
    aside = unlisted_key(key)
    move_all(desk.files, [key], unlisted_key, "not in the batch's manifest")
    first = release_instance("1.2.3.3", WHY, aside, desk.operations())
    metadata = desk.files.head(desk.manifest(first.batch_id).instances[0].key).metadata
    desk.files.put(aside, b"other bytes")
    objects = desk.stores.objects
    assert isinstance(objects, MemoryObjects)
    objects.metadata[BUCKET, aside] = metadata
    second = release_instance("1.2.3.3", WHY, aside, desk.operations())
    assert second.batch_id != first.batch_id
    (instance,) = desk.manifest(second.batch_id).instances
    assert desk.files.read(instance.key, 1000) == b"other bytes"
    assert aside not in desk.keys("quarantine/")
    assert release_instance("1.2.3.3", WHY, aside, desk.operations()) == second


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
