"""Which of an instance's objects is released, where an operator names it by its key."""

import re
from dataclasses import replace
from typing import Any

import pytest
from chalicelib.errors import BadParameter
from chalicelib.imports.aside import failed_key, move_all, unlisted_key
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.release import release_instance

from contract.keys import InstanceKey
from contract.records import InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    NEWER_BATCH,
    keep_results,
    lines,
    overwrite,
    success,
    summary,
)
from tests.unit.chalicelib.repeat_desk import COMPLETED, KEYS, WHY, Desk, a_failed_batch, release

FAILED, DELETED = InstanceState.FAILED, InstanceState.DELETED
IMPORTED, RECEIVED = InstanceState.IMPORTED, InstanceState.RECEIVED
OTHER = str(InstanceKey(NEWER_BATCH, "1.9", "1.2.3", "1.2.3.1"))


def a_desk_with(state: InstanceState) -> Desk:
    """The first instance's object is still under its batch's prefix, and its row says so."""
    desk = Desk()
    move_all(desk.files, [failed_key(KEYS[0])], lambda _: KEYS[0], "")
    row = replace(desk.row("1.2.3.1"), state=state, key=KEYS[0])
    overwrite(desk.stores.instances, [row])
    return desk


def with_another(desk: Desk) -> Desk:
    """Another batch has an object of the same UID, of another study, in the same state."""
    row = desk.row("1.2.3.1")
    source = desk.files.head(row.key)
    desk.files.copy(source, OTHER, {**source.metadata, "study-instance-uid": "1.9"})
    moved = replace(row, study_instance_uid="1.9", batch_id=NEWER_BATCH, key=OTHER)
    overwrite(desk.stores.instances, [moved])
    return desk


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dropbox/x",
        f"instances/{BATCH}/1.2/1.2.3/1.2.3.2.dcm",
        f"instances/{BATCH}/1.2/1.2.3/1.2.3.1",
        f"duplicates/{BATCH}/1.2/1.2.3/1.2.3.1.dcm",
        f"quarantine/unlisted/{BATCH}/1.2/1.2.3/1.2.3.2.dcm",
        f"quarantine/../unlisted/{BATCH}/1.2/1.2.3/1.2.3.1.dcm",
        "quarantine/not-part10/abc",
    ],
)
def test_a_key_that_is_not_the_instances_is_a_bad_parameter(key: str) -> None:
    with pytest.raises(BadParameter, match="key"):
        release_instance("1.2.3.1", WHY, key, Desk().operations())


@pytest.mark.parametrize(
    ("desk", "force"),
    [
        (lambda: with_another(Desk()), False),
        (lambda: with_another(a_desk_with(FAILED)), False),
        (lambda: with_another(a_desk_with(DELETED)), True),
        (lambda: with_another(a_desk_with(IMPORTED)), True),
    ],
    ids=["in quarantine", "could not be moved", "deleted", "imported"],
)
def test_of_several_objects_each_that_is_named_can_be_released(desk: Any, force: bool) -> None:
    given = desk()
    with pytest.raises(OperationRefused, match="as in --key instances/") as told:
        release_instance("1.2.3.1", WHY, None, given.operations(), force=force)
    named = re.findall(r"[a-z]+/[^ ,;]+[.]dcm", str(told.value))
    assert sorted(named) == [KEYS[0], OTHER]
    bodies = [key for key in given.keys("instances/") if key in named]
    for key in named:
        entry = release_instance("1.2.3.1", WHY, key, given.operations(), force=force)
        (made,) = given.manifest(entry.batch_id).instances
        assert made.key == str(replace(InstanceKey.parse(key), batch_id=entry.batch_id))
        asked_again = release_instance("1.2.3.1", WHY, key, given.operations(), force=force)
        assert asked_again == entry
    # What stands under its batch's prefix is nobody's to delete.
    assert [key for key in given.keys("instances/") if key in named] == bodies
    assert failed_key(KEYS[0]) not in given.keys("quarantine/")


def test_the_ledgers_object_by_its_key_is_the_same_request_as_by_its_uid_alone() -> None:
    desk = a_desk_with(FAILED)
    entry = release_instance("1.2.3.1", WHY, KEYS[0], desk.operations())
    assert desk.row("1.2.3.1").batch_id == entry.batch_id
    assert release(desk.operations()) == entry
    assert release_instance("1.2.3.1", WHY, KEYS[0], desk.operations()) == entry
    assert KEYS[0] in desk.keys("instances/")


def test_the_ledgers_object_is_found_by_its_key_in_quarantine_and_leaves_it() -> None:
    desk = Desk()
    entry = release_instance("1.2.3.1", WHY, KEYS[0], desk.operations())
    assert len(desk.manifest(entry.batch_id).instances) == 1
    assert failed_key(KEYS[0]) not in desk.keys("quarantine/")


@pytest.mark.parametrize(
    ("state", "force"),
    [(IMPORTED, False), (DELETED, False), (RECEIVED, False), (RECEIVED, True)],
)
def test_a_key_under_instances_is_refused_like_the_uid_alone(
    state: InstanceState, force: bool
) -> None:
    desk = a_desk_with(state)
    for key in (None, KEYS[0]):
        with pytest.raises(OperationRefused, match=f"the instance is {state}(: its batch|$)"):
            release_instance("1.2.3.1", WHY, key, desk.operations(), force=force)
    assert desk.journal.entries == {}


@pytest.mark.parametrize("force", [False, True])
def test_a_key_under_instances_that_the_ledger_does_not_know_is_refused(force: bool) -> None:
    """Whoever is still receiving the batch has the object, and it will be imported."""
    desk = Desk()
    key = str(replace(InstanceKey.parse(KEYS[0]), batch_id=NEWER_BATCH))
    source = desk.files.head(failed_key(KEYS[0]))
    desk.files.copy(source, key, source.metadata)
    with pytest.raises(OperationRefused, match="nothing of this key"):
        release_instance("1.2.3.1", WHY, key, desk.operations(), force=force)


def test_healthimaging_is_asked_before_an_object_is_released_by_its_key() -> None:
    desk = a_failed_batch(COMPLETED)
    keep_results(desk.stores, summary=summary(4), success=lines(*map(success, KEYS)))
    with pytest.raises(OperationRefused, match="the instance is IMPORTED"):
        release_instance("1.2.3.1", WHY, KEYS[0], desk.operations())


def test_what_was_swept_needs_no_row() -> None:
    desk = Desk()
    key = str(InstanceKey(NEWER_BATCH, "1.2", "1.2.3", "1.2.3.1"))
    source = desk.files.head(failed_key(KEYS[0]))
    desk.files.copy(source, unlisted_key(key), source.metadata)
    entry = release_instance("1.2.3.1", WHY, unlisted_key(key), desk.operations())
    assert len(desk.manifest(entry.batch_id).instances) == 1
    assert failed_key(KEYS[0]) in desk.keys("quarantine/")
