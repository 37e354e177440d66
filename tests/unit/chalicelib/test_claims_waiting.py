"""Batches that wait at the same moment with the same bytes: one imports them, and one only."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from chalicelib.errors import ObjectMissing, ServiceUnavailable
from chalicelib.imports.aside import bring_back, failed_key, move_all
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory_files import MemoryFiles

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.records import InstanceRecord
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    NOW,
    a_manifest,
    files_of,
    instance_rows,
    overwrite,
)
from tests.unit.chalicelib.claim_scenes import (
    FAILED,
    IMPORTED,
    RECEIVED,
    SAME,
    THIRD_BATCH,
    before_first_write,
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
    from chalicelib.stores.memory import MemoryBatches, MemoryInstances


def with_the_first_gone() -> Stores:
    """It was imported, and its object was deleted by retention since; two more are sent."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same", THIRD_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH)
    del objects_of(stores).bodies[BUCKET, a_manifest(1).instances[0].key]
    return stores


def a_row(batch_id: str) -> InstanceRecord:
    (row,) = instance_rows(a_manifest(1, batch_id=batch_id), RECEIVED, NOW)
    return row


def while_one_looks(stores: Stores, look: int, then: Callable[[], object]) -> None:
    """Something is done right behind a reading of all rows: the first, or the second."""
    store = cast("MemoryInstances", stores.instances)
    read, looks = store.of_instances, itertools.count()

    def of_instances(instances: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        found = read(list(instances))
        if next(looks) == look:
            then()
        return found

    store.of_instances = of_instances  # type: ignore[method-assign]


@pytest.mark.parametrize(("look", "have_copies"), [(0, False), (1, False), (0, True)])
def test_of_two_batches_that_wait_with_the_same_bytes_one_is_imported(
    look: int, have_copies: bool
) -> None:
    """New ones; or a retry's, which have a row each that their ids name."""
    stores = with_the_first_gone()
    if have_copies:
        copies = [ledger.copy_of(a_row(batch_id)) for batch_id in (NEWER_BATCH, THIRD_BATCH)]
        overwrite(stores.instances, copies)
    started: dict[str, bool] = {}

    def the_other_starts() -> None:
        started[THIRD_BATCH] = start(stores, THIRD_BATCH)

    while_one_looks(stores, look, the_other_starts)
    started[NEWER_BATCH] = start(stores, NEWER_BATCH)
    assert sorted(started.values()) == [False, True]
    (winner,) = (batch_id for batch_id in started if started[batch_id])
    assert rows(stores) == {BATCH: (IMPORTED, None), winner: (RECEIVED, SAME)}


def dying() -> tuple[Stores, str]:
    """A batch whose execution died when it had put the object aside, before it said so; another."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    (one,) = a_manifest(1).instances
    move_all(files_of(stores), [one.key], failed_key, "the import failed")
    batches = cast("MemoryBatches", stores.batches)
    batches.rows[BATCH] = replace(batches.rows[BATCH], attempt=1)
    return stores, one.key


def test_what_a_dying_execution_has_put_aside_is_not_imported_a_second_time() -> None:
    """Its batch stands by it, and is started again later."""
    stores, _ = dying()
    assert not start(stores, NEWER_BATCH)
    assert start(stores, BATCH)
    ends(stores, BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None)}


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_nor_where_it_is_started_while_the_other_compares(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    stores, _ = dying()
    compared, started = MemoryFiles.digest_of_both, dict[str, bool]()

    def the_first_starts() -> None:
        if BATCH not in started:
            started[BATCH] = False
            started[BATCH] = start(stores, BATCH)

    def compare(files: MemoryFiles, one: str, other: str) -> object:
        if one.startswith(f"instances/{NEWER_BATCH}") and moment == "before":
            the_first_starts()
        try:
            return compared(files, one, other)
        finally:
            if one.startswith(f"instances/{NEWER_BATCH}") and moment == "behind":
                the_first_starts()

    monkeypatch.setattr(MemoryFiles, "digest_of_both", compare)
    started[NEWER_BATCH] = start(stores, NEWER_BATCH)
    assert started == {BATCH: True, NEWER_BATCH: False}


def test_nor_where_it_is_brought_back_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stores, key = dying()
    compared = MemoryFiles.digest_of_both

    def compare(files: MemoryFiles, one: str, other: str) -> object:
        try:
            return compared(files, one, other)
        except ObjectMissing:
            bring_back(files, BATCH, {key})
            raise

    monkeypatch.setattr(MemoryFiles, "digest_of_both", compare)
    assert not start(stores, NEWER_BATCH)
    assert start(stores, BATCH)


def test_a_copy_that_waits_is_neither_a_reason_to_leave_out_nor_taken() -> None:
    """Its batch may look at the same moment, and leave the instance to this one."""
    stores = with_the_first_gone()
    overwrite(stores.instances, [ledger.copy_of(a_row(THIRD_BATCH))])
    assert start(stores, NEWER_BATCH)
    assert rows(stores)[THIRD_BATCH] == (RECEIVED, THIRD_BATCH)
    assert not start(stores, THIRD_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_a_copy_of_a_batch_that_has_ended_is_taken() -> None:
    stores = with_the_first_gone()
    overwrite(stores.instances, [ledger.copy_of(a_row(THIRD_BATCH))])
    batch = stores.batches.get(THIRD_BATCH)
    assert batch is not None
    assert stores.batches.move(batch, BatchEvent.FAILED)
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_nothing_is_left_to_a_row_that_a_query_has_shown_half_changed() -> None:
    """A retry's batch gives its first row to an older one's; the older sees the row as it was."""
    stores = with_the_first_gone()
    store = cast("MemoryInstances", stores.instances)
    del store.rows[a_row(BATCH).row_key]
    first, named = a_row(THIRD_BATCH), replace(a_row(NEWER_BATCH), beside=SAME)
    overwrite(store, [first, named])
    batch = stores.batches.get(THIRD_BATCH)
    assert batch is not None
    memory = cast("MemoryBatches", stores.batches)
    memory.rows |= {
        each: replace(memory.rows[each], retry_of=BATCH) for each in (NEWER_BATCH, THIRD_BATCH)
    }
    read, promote = store.of_instances, store.promote

    def while_the_older_looks(*changed: InstanceRecord) -> bool:
        done = promote(*changed)
        store.of_instances = lambda _: {first.instance: (first,)}  # type: ignore[method-assign, assignment]
        with pytest.raises(ServiceUnavailable, match="changed"):
            start(stores, NEWER_BATCH)
        store.of_instances = read  # type: ignore[method-assign]
        return done

    store.promote = while_the_older_looks  # type: ignore[method-assign, assignment]
    assert not start(stores, THIRD_BATCH)
    assert rows(stores) == {NEWER_BATCH: (RECEIVED, None)}
    assert start(stores, NEWER_BATCH)


def test_of_two_batches_of_which_one_could_not_compare_one_imports() -> None:
    """The failed object is archived while the one looks, and restored when the other does."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same", THIRD_BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    archived = BUCKET, failed_key(a_manifest(1).instances[0].key)

    def the_other_starts() -> None:
        objects_of(stores).denied.add(archived)
        assert start(stores, NEWER_BATCH)
        objects_of(stores).denied.clear()

    while_one_looks(stores, 0, the_other_starts)
    assert not start(stores, THIRD_BATCH)
    assert rows(stores) == {BATCH: (FAILED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_what_is_imported_while_it_is_looked_at_is_not_imported_again() -> None:
    """Its batch has ended when that is asked for, and its row waits as it was read before."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same", THIRD_BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    archived = BUCKET, failed_key(a_manifest(1).instances[0].key)
    objects_of(stores).denied.add(archived)
    assert start(stores, NEWER_BATCH)
    objects_of(stores).denied.clear()

    def the_other_ends() -> None:
        ends(stores, NEWER_BATCH)
        batch = stores.batches.get(NEWER_BATCH)
        assert batch is not None
        assert stores.batches.move(batch, BatchEvent.IMPORTED)

    while_one_looks(stores, 0, the_other_ends)
    assert not start(stores, THIRD_BATCH)


@pytest.mark.parametrize("skips", [False, True])
def test_what_waits_for_another_data_store_keeps_its_row(skips: bool) -> None:
    bodies = dict.fromkeys((BATCH, NEWER_BATCH, THIRD_BATCH), b"same")
    stores = sent(bodies, {BATCH: "f" * 32})
    close(stores, BATCH)
    assert start(stores, NEWER_BATCH, skips=skips)
    assert rows(stores) == {
        BATCH: (RECEIVED, None),
        NEWER_BATCH: (RECEIVED, SAME if skips else NEWER_BATCH),
    }
    if skips:
        assert not start(stores, THIRD_BATCH)


def test_of_two_retries_one_imports_though_one_starts_while_the_other_compares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    for batch_id in (BATCH, NEWER_BATCH):
        close(stores, batch_id)
        fails(stores, batch_id)
    second = retry(stores, NEWER_BATCH)
    started: dict[str, bool] = {}
    real = MemoryFiles.digest_of_both

    def compared(files: MemoryFiles, key: str, other: str) -> Checksum | None:
        if not started:
            started["first"] = False
            first = retry(stores, BATCH)
            started["first"] = start_again(stores, first)
        return real(files, key, other)

    monkeypatch.setattr(MemoryFiles, "digest_of_both", compared)
    started["second"] = start_again(stores, second)
    assert sorted(started.values()) == [False, True]


def test_what_another_try_of_the_batch_has_made_its_own_meanwhile_is_not_left_to_others() -> None:
    """Two invocations have read the same; the later one would have left the instance."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    batches = cast("MemoryBatches", stores.batches)
    batches.rows[NEWER_BATCH] = replace(batches.rows[NEWER_BATCH], retry_of=BATCH)
    close(stores, BATCH)
    ends(stores, BATCH)
    copy = replace(a_row(NEWER_BATCH), beside=NEWER_BATCH)
    named = replace(copy, beside=SAME, compared=True)
    overwrite(stores.instances, [copy])
    changes = [ledger.Change(copy, None), ledger.Change(None, named)]
    before_first_write(stores, lambda: stores.instances.swap_many(changes))
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_a_promotion_does_not_let_a_second_batch_have_the_key_of_the_same_bytes() -> None:
    """The first failed and is archived; two are sent again; it is restored and retried."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same", THIRD_BATCH: b"same"})
    close(stores, BATCH)
    fails(stores, BATCH)
    archived = BUCKET, failed_key(a_manifest(1).instances[0].key)
    objects_of(stores).denied.add(archived)
    started: dict[str, bool] = {}

    def while_the_newer_compares() -> None:
        started[THIRD_BATCH] = start(stores, THIRD_BATCH)
        objects_of(stores).denied.clear()
        again = retry(stores, BATCH)  # leaves the instance to THIRD_BATCH, whose row is promoted
        started[again] = start_again(stores, again)

    while_one_looks(stores, 1, while_the_newer_compares)
    started[NEWER_BATCH] = start(stores, NEWER_BATCH)
    assert started.pop(THIRD_BATCH)
    assert set(started.values()) == {False}
