"""Batches of one instance for several data stores: what one has is nothing to another."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from chalicelib.intake.trigger import close_batch

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import bytes_name, manifest_key
from contract.records import InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NEWER_BATCH,
    NOW,
    a_manifest,
)
from tests.unit.chalicelib.claim_scenes import (
    FAILED,
    IMPORTED,
    RECEIVED,
    SAME,
    THIRD_BATCH,
    close,
    ends,
    fails,
    objects_of,
    release,
    retry,
    rows,
    sent,
    start,
    start_again,
)

if TYPE_CHECKING:
    from chalicelib.stores import Stores
    from chalicelib.stores.memory import MemoryBatches, MemoryJobs

OLD_BATCH = "20261123T090000Z-0001020304050607"
D2, D3 = "2" * 32, "3" * 32


def test_what_failed_for_another_data_store_can_be_retried_whatever_others_import() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"}, {BATCH: D2})
    close(stores, BATCH)
    fails(stores, BATCH)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (FAILED, None), NEWER_BATCH: (RECEIVED, SAME)}
    again = retry(stores, BATCH)
    assert start_again(stores, again)
    assert rows(stores) == {again: (RECEIVED, None), NEWER_BATCH: (RECEIVED, SAME)}


def test_what_was_deleted_in_another_data_store_keeps_its_row() -> None:
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"}, {NEWER_BATCH: D2})
    close(stores, BATCH)
    ends(stores, BATCH, InstanceState.DELETED)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    named = bytes_name(SAME.partition("@")[0], D2)
    assert rows(stores) == {BATCH: (InstanceState.DELETED, None), NEWER_BATCH: (RECEIVED, named)}


def test_of_two_batches_for_a_third_data_store_one_leaves_the_instance_to_the_other() -> None:
    bodies = dict.fromkeys((OLD_BATCH, BATCH, NEWER_BATCH, THIRD_BATCH), b"same")
    stores = sent(bodies, {BATCH: D2, NEWER_BATCH: D3, THIRD_BATCH: D3})
    for batch_id in bodies:
        close(stores, batch_id)
    assert start(stores, OLD_BATCH)
    assert start(stores, BATCH)
    assert sorted(start(stores, each) for each in (NEWER_BATCH, THIRD_BATCH)) == [False, True]


def test_a_row_named_for_another_data_store_does_not_take_the_place_of_ones_own() -> None:
    """The first is the default's and cannot be compared; the second is for another store."""
    stores = sent(dict.fromkeys((OLD_BATCH, BATCH, NEWER_BATCH, THIRD_BATCH), b"same"), {BATCH: D2})
    close(stores, OLD_BATCH)
    ends(stores, OLD_BATCH)
    del objects_of(stores).bodies[BUCKET, a_manifest(1, batch_id=OLD_BATCH).instances[0].key]
    for batch_id in (BATCH, NEWER_BATCH, THIRD_BATCH):
        close(stores, batch_id)
    assert start(stores, BATCH)
    assert sorted(start(stores, each) for each in (NEWER_BATCH, THIRD_BATCH)) == [False, True]


def test_a_batch_that_is_being_closed_is_not_imported_beside_by_another() -> None:
    """Its rows are there, and its record is not yet."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    batches = cast("MemoryBatches", stores.batches).rows
    close(stores, BATCH)
    record = batches.pop(BATCH)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    batches[BATCH] = record
    assert not start(stores, BATCH)
    assert rows(stores) == {NEWER_BATCH: (RECEIVED, None)}


def test_a_row_tells_its_data_store_though_the_records_are_gone() -> None:
    """Two batches for it find the failure, and one takes it over."""
    bodies = dict.fromkeys((OLD_BATCH, BATCH, NEWER_BATCH, THIRD_BATCH), b"same")
    stores = sent(bodies, {BATCH: D2, NEWER_BATCH: D2, THIRD_BATCH: D2})
    close(stores, OLD_BATCH)
    ends(stores, OLD_BATCH)
    close(stores, BATCH)
    assert start(stores, BATCH)
    named = bytes_name(SAME.partition("@")[0], D2)
    assert rows(stores)[BATCH] == (RECEIVED, named)
    ends(stores, BATCH, FAILED)
    del cast("MemoryBatches", stores.batches).rows[BATCH]
    cast("MemoryJobs", stores.jobs).rows.clear()
    for batch_id in (NEWER_BATCH, THIRD_BATCH):
        close(stores, batch_id)
    assert [start(stores, each) for each in (NEWER_BATCH, THIRD_BATCH)] == [True, False]
    assert rows(stores) == {OLD_BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, named)}


def for_the_default(stores: "Stores", batch_id: str, default: str = DATASTORE) -> None:
    """The batch is closed while that is the default, and admitted."""
    batches = cast("MemoryBatches", stores.batches)
    del batches.rows[batch_id]
    batch = close_batch(BUCKET, manifest_key(batch_id), stores, default, NOW)
    assert batch is not None
    assert batches.move(replace(batch, admitted_at=NOW), BatchEvent.ADMITTED)


@pytest.mark.parametrize("body", [b"same", b"forged"])
@pytest.mark.parametrize("is_started", [True, False])
def test_a_batch_keeps_its_data_store_though_the_default_becomes_another(
    body: bytes, is_started: bool
) -> None:
    """One waits or runs, for the default as it was; the same is then sent for the new one."""
    stores = sent({BATCH: b"same", NEWER_BATCH: body})
    for_the_default(stores, BATCH)
    if is_started:
        assert start(stores, BATCH, default=D2)
    for_the_default(stores, NEWER_BATCH, D2)
    assert start(stores, NEWER_BATCH, default=D2)
    assert is_started or start(stores, BATCH, default=D2)
    named = bytes_name(str(Checksum.of(body)), D2)
    assert rows(stores) == {BATCH: (RECEIVED, None), NEWER_BATCH: (RECEIVED, named)}
    jobs = cast("MemoryJobs", stores.jobs).rows.values()
    assert {job.batch_id: job.datastore_id for job in jobs} == {BATCH: DATASTORE, NEWER_BATCH: D2}


@pytest.mark.parametrize("repeat", [retry, release])
def test_what_failed_is_repeated_for_the_same_data_store(
    repeat: Callable[["Stores", str, str], str],
) -> None:
    """The default has become another, into which the same bytes were imported meanwhile."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    for_the_default(stores, BATCH)
    fails(stores, BATCH)
    for_the_default(stores, NEWER_BATCH, D2)
    assert start(stores, NEWER_BATCH, default=D2)
    again = repeat(stores, BATCH, D2)
    assert start_again(stores, again)
    found = {row.batch_id: row.datastore_id for row in stores.instances.by_study("1.2")}
    assert (found[again], found[NEWER_BATCH]) == (DATASTORE, D2)
    jobs = cast("MemoryJobs", stores.jobs).rows.values()
    assert DATASTORE in {job.datastore_id for job in jobs if job.batch_id == again}


@pytest.mark.parametrize("state", [RECEIVED, IMPORTED])
def test_a_batch_that_is_recorded_again_has_the_data_store_of_its_rows(
    state: InstanceState,
) -> None:
    stores = sent({BATCH: b"same"})
    for_the_default(stores, BATCH)
    if state is IMPORTED:
        ends(stores, BATCH)
    for_the_default(stores, BATCH, D2)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.datastore_id == DATASTORE
