"""Whose objects are deleted, when, and whose never are."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from chalicelib.operations.expire import Expiry, expirable, expire
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work, listed
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.outbox import Due
from hypothesis import given
from hypothesis import strategies as st

from contract.batch_states import BatchEvent
from contract.keys import manifest_key
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    NOW,
    a_batch,
    a_manifest,
    an_instance,
    files_of,
    instance_row,
    memory_stores,
    outbox_of,
    overwrite,
)

MONTH, MINUTE = timedelta(days=30), timedelta(minutes=1)
OLDER_BATCH = "20261123T092000Z-0001020304050607"


def an_expiry(
    stores: Stores, now: datetime | Callable[[], datetime], retention: timedelta = MONTH
) -> Expiry:
    clock = now if callable(now) else lambda: now
    return Expiry(stores, outbox_of(stores), files_of(stores), retention, clock)


def an_old_import(event: BatchEvent = BatchEvent.IMPORTED) -> Stores:
    """Its second instance failed if the batch was imported in part."""
    manifest = a_manifest(2)
    stores = memory_stores(manifest)
    states = [InstanceState.IMPORTED, InstanceState.IMPORTED]
    if event is BatchEvent.PARTLY_IMPORTED:
        states[1] = InstanceState.FAILED
    rows = [
        instance_row(BATCH, each, state, NOW)
        for each, state in zip(manifest.instances, states, strict=True)
    ]
    overwrite(stores.instances, rows)
    assert stores.batches.move(replace(a_batch(), ended_at=NOW), event)
    assert outbox_of(stores).done(BATCH, Due.ANNOUNCE, Due.EXPIRE)
    return stores


def instances_left(stores: Stores) -> list[str]:
    return [each.key for each in files_of(stores).list("instances/")]


def test_imported_instances_are_deleted_when_their_time_is_over_and_not_before() -> None:
    stores = an_old_import()
    assert expire(an_expiry(stores, NOW + MONTH - timedelta(seconds=1))) == 0
    assert len(instances_left(stores)) == 2
    assert expire(an_expiry(stores, NOW + MONTH)) == 2
    assert instances_left(stores) == []
    assert expire(an_expiry(stores, NOW + MONTH)) == 0
    assert [each.key for each in files_of(stores).list("")] == [manifest_key(BATCH)]


def test_what_failed_stays_though_its_batch_expires() -> None:
    stores = an_old_import(BatchEvent.PARTLY_IMPORTED)
    assert expire(an_expiry(stores, NOW + MONTH)) == 1
    assert instances_left(stores) == [an_instance("1.2.3.2").key]


def test_a_batch_that_may_not_be_read_does_not_keep_others_from_expiring() -> None:
    stores = an_old_import()
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.denied.add((BUCKET, manifest_key(BATCH)))
    assert expire(an_expiry(stores, NOW + MONTH)) == 0
    assert len(instances_left(stores)) == 2
    stores.objects.denied.clear()
    assert expire(an_expiry(stores, NOW + MONTH)) == 0  # until its next try
    assert expire(an_expiry(stores, NOW + MONTH + MINUTE)) == 2
    assert list(listed(stores.blocked, Work)) == []


@pytest.mark.parametrize("why", ["denied", "replaced"])
def test_an_object_that_may_not_be_deleted_or_is_another_stays_and_is_named(why: str) -> None:
    stores = an_old_import()
    assert isinstance(stores.objects, MemoryObjects)
    key, other = (BUCKET, an_instance("1.2.3.1").key), an_instance("1.2.3.2").key
    if why == "denied":
        stores.objects.denied.add(key)
    else:
        stores.objects.bodies[key] = b"somebody else's"
    expire(an_expiry(stores, NOW + MONTH))
    assert instances_left(stores) == [key[1]]
    (record,) = listed(stores.blocked, Work)
    assert (record.work, record.subject, record.reason) == (Work.EXPIRY, BATCH, "ObjectsStay")
    expire(an_expiry(stores, NOW + 2 * MONTH))
    assert instances_left(stores) == [key[1]]
    assert other not in instances_left(stores)
    stores.objects.denied.clear()
    stores.objects.bodies.pop(key)
    expire(an_expiry(stores, NOW + 3 * MONTH))
    assert list(outbox_of(stores).due(Due.EXPIRE, NOW + 4 * MONTH)) == []
    assert list(listed(stores.blocked, Work)) == []


def test_a_file_that_replaces_another_while_that_is_compared_is_not_deleted() -> None:
    stores = an_old_import()
    assert isinstance(stores.objects, MemoryObjects)
    key = an_instance("1.2.3.1").key

    class Replaced(MemoryFiles):
        def head(self, name: str) -> StoredObject:
            found = super().head(name)
            if name == key:
                self.put(key, b"newer")
            return found

    expire(replace(an_expiry(stores, NOW + MONTH), files=Replaced(stores.objects, BUCKET)))
    assert stores.objects.bodies[BUCKET, key] == b"newer"


def test_nothing_expires_where_retention_is_for_ever() -> None:
    stores = an_old_import()
    assert expire(an_expiry(stores, NOW + timedelta(days=9_999), timedelta())) == 0
    assert len(instances_left(stores)) == 2


@pytest.mark.parametrize("state", [BatchState.CLOSED, BatchState.IMPORTING])
def test_a_batch_that_waits_for_years_keeps_its_objects(state: BatchState) -> None:
    stores = memory_stores(a_manifest(2))
    stores.batches.move(a_batch(state), BatchEvent.CLOSED)
    assert expire(an_expiry(stores, NOW + timedelta(days=3_650))) == 0
    assert len(instances_left(stores)) == 2


def test_an_object_that_the_manifest_does_not_list_stays() -> None:
    stores = an_old_import()
    assert isinstance(stores.objects, MemoryObjects)
    late = an_instance("1.2.3.9").key
    stores.objects.bodies[BUCKET, late] = b"x"
    expire(an_expiry(stores, NOW + MONTH))
    assert instances_left(stores) == [late]


def test_a_batch_whose_manifest_is_gone_keeps_its_objects_and_is_not_tried_again() -> None:
    stores = an_old_import()
    assert isinstance(stores.objects, MemoryObjects)
    del stores.objects.bodies[BUCKET, manifest_key(BATCH)]
    assert expire(an_expiry(stores, NOW + MONTH)) == 0
    assert len(instances_left(stores)) == 2
    assert list(outbox_of(stores).due(Due.EXPIRE, NOW)) == []


def test_deleting_stops_in_time_and_goes_on_with_the_next_call() -> None:
    stores = an_old_import()
    times = iter([NOW + MONTH, NOW + MONTH + timedelta(seconds=601)])
    assert expire(an_expiry(stores, lambda: next(times))) == 0
    assert expire(an_expiry(stores, NOW + MONTH)) == 2


@given(
    st.sampled_from(InstanceState),
    st.sampled_from([OLDER_BATCH, BATCH, NEWER_BATCH, None]),
)
def test_an_instance_is_deleted_if_it_is_imported_or_a_newer_batch_has_it(
    state: InstanceState, batch_id: str | None
) -> None:
    manifest = a_manifest(1)
    (instance,) = manifest.instances
    row = batch_id and instance_row(batch_id, instance, state, NOW)
    found = expirable(manifest, {row.row_key: row} if row else {})
    was_imported = state in (InstanceState.IMPORTED, InstanceState.DELETED)
    imported = batch_id is not None and was_imported
    assert found == ([instance] if imported or batch_id == NEWER_BATCH else [])
