"""Batches of one instance for several data stores: what one has is nothing to another."""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from contract.checksums import Checksum
from contract.keys import bytes_name
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NEWER_BATCH,
    a_batch,
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
    retry,
    rows,
    sent,
    start,
    start_again,
)

if TYPE_CHECKING:
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


@pytest.mark.parametrize("state", [FAILED, IMPORTED])
def test_what_nobody_knows_the_data_store_of_any_more_keeps_its_row(state: InstanceState) -> None:
    """The records of its batch and its job were deleted."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    ends(stores, BATCH, state)
    del cast("MemoryBatches", stores.batches).rows[BATCH]
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (state, None), NEWER_BATCH: (RECEIVED, SAME)}


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


@pytest.mark.parametrize("body", [b"same", b"forged"])
def test_a_batch_keeps_its_data_store_though_the_default_becomes_another(body: bytes) -> None:
    """One runs, for the default as it was; the same is then sent for the new one."""
    stores = sent({BATCH: b"same", NEWER_BATCH: body})
    cast("MemoryBatches", stores.batches).rows[BATCH] = a_batch(BatchState.CLOSED)
    close(stores, BATCH)
    assert start(stores, BATCH)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.datastore_id == DATASTORE
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH, default=D2)
    named = bytes_name(str(Checksum.of(body)), D2)
    assert rows(stores) == {BATCH: (RECEIVED, None), NEWER_BATCH: (RECEIVED, named)}


def test_a_job_tells_the_data_store_where_its_batch_names_none() -> None:
    """The deployment's default was another one when the job was started."""
    stores = sent({BATCH: b"same", NEWER_BATCH: b"same"})
    close(stores, BATCH)
    assert start(stores, BATCH)
    jobs = cast("MemoryJobs", stores.jobs).rows
    (job_id,) = jobs
    jobs[job_id] = replace(jobs[job_id], datastore_id=D2)
    ends(stores, BATCH, job_id=job_id)
    close(stores, NEWER_BATCH)
    assert start(stores, NEWER_BATCH)
    assert rows(stores) == {BATCH: (IMPORTED, None), NEWER_BATCH: (RECEIVED, SAME)}
