"""Batches with one checksum: what was compared, what could not be, and what was retried."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from chalicelib.errors import ImportThrottled, ObjectDenied, ServiceUnavailable
from chalicelib.imports.aside import failed_key
from chalicelib.imports.execution import Execution
from chalicelib.imports.start import start_import
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger

from contract.keys import DUPLICATES_PREFIX, RowKey, manifest_key
from contract.records import InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    instance_rows,
    is_there,
    memory_stores,
    overwrite,
)
from tests.unit.chalicelib.claim_scenes import (
    FAILED,
    FORGED,
    IMPORTED,
    RECEIVED,
    SAME,
    THIRD_BATCH,
    close,
    ends,
    fails,
    objects_of,
    retry,
    rows,
    sent,
    start,
    start_again,
)

if TYPE_CHECKING:
    from chalicelib.stores.memory import MemoryInstances, MemoryJobs


@pytest.mark.fault("forged-checksum")
def test_a_failure_is_not_hidden_by_other_bytes_that_have_its_checksum() -> None:
    stores = sent({BATCH: b"genuine", NEWER_BATCH: b"forged"})
    close(stores, BATCH)
    fails(stores, BATCH)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (FAILED, None), NEWER_BATCH: (RECEIVED, FORGED)}
    assert retry(stores, BATCH)


def one_imported_and_one_failed_beside_it(body: bytes) -> Stores:
    stores = sent({BATCH: b"genuine", NEWER_BATCH: body})
    close(stores, BATCH)
    ends(stores, BATCH)
    close(stores, NEWER_BATCH)
    fails(stores, NEWER_BATCH)
    return stores


def test_a_batch_that_fails_beside_anothers_has_a_row_and_can_be_retried() -> None:
    stores = one_imported_and_one_failed_beside_it(b"forged")
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (FAILED, NEWER_BATCH)}
    again = retry(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), again: (RECEIVED, again)}
    assert start_again(stores, again)
    assert rows(stores) == {BATCH: (IMPORTED, None), again: (RECEIVED, FORGED)}


def test_a_retry_whose_bytes_turn_out_to_be_imported_ends_the_failure() -> None:
    stores = one_imported_and_one_failed_beside_it(b"genuine")
    again = retry(stores, NEWER_BATCH)
    assert not start_again(stores, again)
    assert rows(stores) == {BATCH: (IMPORTED, None)}
    assert any(key.startswith(DUPLICATES_PREFIX) for _, key in objects_of(stores).bodies)


@pytest.mark.fault("forged-checksum")
def test_other_bytes_that_are_sent_again_are_not_imported_again() -> None:
    stores = sent({BATCH: b"genuine", NEWER_BATCH: b"forged", THIRD_BATCH: b"forged"})
    close(stores, BATCH)
    assert start(stores, BATCH)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    ends(stores, NEWER_BATCH)
    ends(stores, BATCH, FAILED)
    close(stores, THIRD_BATCH)
    assert not start(stores, THIRD_BATCH)
    assert rows(stores) == {BATCH: (FAILED, None), NEWER_BATCH: (IMPORTED, FORGED)}


@pytest.mark.parametrize("state", [IMPORTED, FAILED])
def test_what_cannot_be_compared_with_the_first_is_compared_with_those_beside_it(
    state: InstanceState,
) -> None:
    """The first was deleted by retention, say."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same", THIRD_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH)
    (first,) = a_manifest(1).instances
    del objects_of(stores).bodies[BUCKET, first.key]
    assert start(stores, NEWER_BATCH)
    assert rows(stores)[NEWER_BATCH] == (RECEIVED, SAME)
    ends(stores, NEWER_BATCH, state)
    close(stores, THIRD_BATCH)
    assert start(stores, THIRD_BATCH) is (state is FAILED)
    last = (THIRD_BATCH, RECEIVED) if state is FAILED else (NEWER_BATCH, IMPORTED)
    assert rows(stores) == {BATCH: (IMPORTED, None), last[0]: (last[1], SAME)}


def test_a_failed_batchs_row_is_taken_once_its_object_in_quarantine_is_the_same() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    (first,) = a_manifest(1).instances
    assert (BUCKET, failed_key(first.key)) in objects_of(stores).bodies
    close(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (FAILED, None)}
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {NEWER_BATCH: (RECEIVED, None)}


def test_what_may_not_be_read_is_imported_beside() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH)
    (first,) = a_manifest(1).instances
    objects_of(stores).denied.add((BUCKET, first.key))
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_what_could_not_be_compared_is_compared_before_it_is_imported_by_a_retry() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH)
    (first,) = a_manifest(1).instances
    objects_of(stores).denied.add((BUCKET, first.key))
    execution = Execution(NEWER_BATCH, BUCKET, manifest_key(NEWER_BATCH))
    with pytest.raises(ImportThrottled):
        start_import(
            execution, a_context(stores, FakeHealthImaging(refused=ImportThrottled("slow down")))
        )
    fails(stores, NEWER_BATCH)
    assert rows(stores)[NEWER_BATCH] == (FAILED, SAME)
    objects_of(stores).denied.clear()
    again = retry(stores, NEWER_BATCH)
    assert rows(stores)[again] == (RECEIVED, again)
    assert not start_again(stores, again)
    assert rows(stores) == {BATCH: (IMPORTED, None)}


def test_what_a_start_was_asked_for_stays_the_batchs_own() -> None:
    """HealthImaging may be reading it: nothing is left out any more."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH)
    (first,) = a_manifest(1).instances
    objects_of(stores).denied.add((BUCKET, first.key))
    execution = Execution(NEWER_BATCH, BUCKET, manifest_key(NEWER_BATCH))
    service = FakeHealthImaging(faults=[])
    service.refused = ServiceUnavailable("no answer")
    with pytest.raises(ServiceUnavailable):
        start_import(execution, a_context(stores, service))
    objects_of(stores).denied.clear()
    assert start(stores, NEWER_BATCH)
    assert rows(stores)[NEWER_BATCH] == (RECEIVED, SAME)


def test_a_retry_is_compared_with_what_another_retry_could_not_be_compared_with() -> None:
    """The first to fail has the first row; the second was imported while that was archived."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    for batch_id in (BATCH, NEWER_BATCH):
        close(stores, batch_id)
        fails(stores, batch_id)
    archived = BUCKET, failed_key(a_manifest(1).instances[0].key)
    objects_of(stores).denied.add(archived)
    second = retry(stores, NEWER_BATCH)
    assert start_again(stores, second)
    assert rows(stores) == {BATCH: (FAILED, None), second: (RECEIVED, SAME)}
    objects_of(stores).denied.clear()
    first = retry(stores, BATCH)
    assert not start_again(stores, first)
    assert rows(stores) == {second: (RECEIVED, None)}
    ends(stores, second)
    assert rows(stores) == {second: (IMPORTED, None)}


def test_a_retry_may_not_delete_what_its_batch_could_not_inherit_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = sent({BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    objects = objects_of(stores)
    monkeypatch.setattr(objects, "metadata_of", refuse)
    with pytest.raises(ServiceUnavailable):
        retry(stores, BATCH)
    assert (BUCKET, failed_key(a_manifest(1).instances[0].key)) in objects.bodies


def refuse(*_: str) -> Mapping[str, str]:
    raise ObjectDenied("HeadObject: 403")


def test_a_failure_that_is_recorded_again_adds_no_row_for_what_another_batch_took() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    memory = cast("MemoryJobs", stores.jobs)
    memory.rows.clear()  # it died before it wrote its job
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    fails(stores, BATCH)
    assert rows(stores) == {NEWER_BATCH: (RECEIVED, None)}


@pytest.mark.fault("forged-checksum")
def test_an_instance_whose_object_is_gone_has_failed_though_others_have_its_checksum() -> None:
    stores = sent({BATCH: b"genuine", NEWER_BATCH: b"forged"})
    close(stores, BATCH)
    ends(stores, BATCH)
    del objects_of(stores).bodies[BUCKET, a_manifest(1, batch_id=NEWER_BATCH).instances[0].key]
    assert not start(stores, NEWER_BATCH)
    assert rows(stores)[NEWER_BATCH] == (FAILED, NEWER_BATCH)


def test_what_is_kept_is_returned_though_another_row_had_to_be_decided_again() -> None:
    stores = memory_stores(a_manifest(2))
    imported = instance_rows(a_manifest(2), IMPORTED, NOW, job_id="j")
    overwrite(stores.instances, [replace(imported[0], state=RECEIVED), imported[1]])
    store = cast("MemoryInstances", stores.instances)
    refuses = [{imported[0].row_key}]
    real = store.swap_many

    def contested(changes: Sequence[ledger.Change]) -> frozenset[RowKey]:
        return frozenset(refuses.pop()) if refuses and changes else real(changes)

    store.swap_many = contested  # type: ignore[method-assign]
    failed = instance_rows(a_manifest(2), FAILED, NOW, job_id="j", reason="x")
    kept = ledger.record(store, BATCH, failed, is_there)
    assert [row.state for row in kept] == [FAILED, IMPORTED]
