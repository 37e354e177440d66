"""The same contract for the ledger."""

from dataclasses import replace
from datetime import timedelta

from chalicelib.stores import Stores
from chalicelib.stores.instances import Change, own_rows, record

from contract.checksums import Checksum
from contract.keys import RowKey
from contract.records import (
    InstanceState,
)
from tests.pipeline.chalicelib.store_builders import (
    BATCH,
    LATER,
    NOW,
    an_instance,
    stores,
)
from tests.unit.chalicelib.builders import is_there, overwrite

__all__ = ["stores"]  # a fixture


def test_instances_are_kept_in_bulk_and_found_by_uid_and_study(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number:03}") for number in range(120)]
    record(stores.instances, BATCH, rows, is_there)
    found = stores.instances.get_many([*(row.row_key for row in rows), RowKey("1.9", "x")])
    assert found == {row.row_key: row for row in rows}
    assert list(stores.instances.by_study("1.2")) == rows
    assert list(stores.instances.by_study("1.9")) == []
    assert list(stores.instances.by_sop_instance("1.2.3.007")) == [rows[7]]
    assert list(stores.instances.by_sop_instance("1.9")) == []


def test_an_instance_has_a_row_for_each_study_series_and_content(stores: Stores) -> None:
    row = an_instance()
    beside = replace(row, batch_id=LATER, beside="SHA256:x")
    moved = replace(row, study_instance_uid="1.9")
    other = replace(row, series_instance_uid="1.9.9")
    rows = [row, beside, replace(row, checksum=Checksum.of(b"other")), moved, other]
    assert stores.instances.swap_many([Change(None, each) for each in rows]) == frozenset()
    assert stores.instances.get_many(each.row_key for each in rows) == {
        each.row_key: each for each in rows
    }
    found = stores.instances.of_instances([row.instance, moved.instance, "1/2/3"])
    assert {instance: set(rows) for instance, rows in found.items()} == {
        row.instance: set(rows[:3]),
        moved.instance: {moved},
    }
    assert set(stores.instances.by_study("1.2")) == {*rows[:3], other}
    assert set(stores.instances.by_sop_instance(row.sop_instance_uid)) == set(rows)


def test_rows_change_hands_where_they_are_as_they_were_read(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number}") for number in range(1, 31)]
    assert stores.instances.swap_many([Change(None, row) for row in rows]) == frozenset()
    taken = [replace(row, batch_id=LATER, updated_at=NOW + timedelta(seconds=1)) for row in rows]
    overwrite(stores.instances, taken[20:22])
    changes = [*map(Change, rows, taken), Change(None, an_instance("1.2.4"))]
    assert stores.instances.swap_many(changes) == {row.row_key for row in rows[20:22]}
    found = stores.instances.get_many([row.row_key for row in rows])
    assert set(found.values()) == set(taken)
    refused = stores.instances.swap_many([Change(None, row) for row in rows])
    assert len(refused) == len(rows)
    assert set(stores.instances.get_many(found).values()) == set(taken)


def test_a_row_is_deleted_if_it_is_as_it_was_read(stores: Stores) -> None:
    row = an_instance()
    failed = replace(row, state=InstanceState.FAILED)
    record(stores.instances, BATCH, [row], is_there)
    assert stores.instances.swap_many([Change(failed, None)]) == {row.row_key}
    assert stores.instances.swap_many([Change(replace(row, batch_id=LATER), None)]) == {row.row_key}
    assert list(stores.instances.by_study("1.2")) == [row]
    assert stores.instances.swap_many([Change(row, None)]) == frozenset()
    assert list(stores.instances.by_study("1.2")) == []
    assert stores.instances.swap_many([Change(row, None)]) == {row.row_key}


def test_a_row_changes_only_while_another_is_as_it_was_read(stores: Stores) -> None:
    first, beside = an_instance(), replace(an_instance(batch_id=LATER), beside="SHA256:x")
    taken = replace(beside, updated_at=NOW + timedelta(seconds=1))
    old = replace(first, state=InstanceState.FAILED)
    there, was, none = (first.row_key, first), (first.row_key, old), (first.row_key, None)
    swap_many = stores.instances.swap_many
    assert swap_many([Change(None, beside, there)]) == {beside.row_key}
    assert swap_many([Change(None, beside, none)]) == frozenset()
    assert swap_many([Change(None, first, (beside.row_key, None))]) == {first.row_key}
    assert swap_many([Change(None, first, (beside.row_key, beside))]) == frozenset()
    assert swap_many([Change(None, beside, there)]) == {beside.row_key}
    assert swap_many([Change(taken, beside, there)]) == {beside.row_key}
    assert swap_many([Change(beside, taken, was)]) == {beside.row_key}
    assert swap_many([Change(beside, taken, there)]) == frozenset()
    assert set(stores.instances.by_study("1.2")) == {first, taken}


def test_a_row_is_promoted_if_both_are_as_they_were_read(stores: Stores) -> None:
    first, other = an_instance(), replace(an_instance(batch_id=LATER), beside=LATER)
    changed = replace(other, state=InstanceState.FAILED)
    assert stores.instances.swap_many([Change(None, first), Change(None, other)]) == frozenset()
    assert not stores.instances.promote(first, changed)
    assert not stores.instances.promote(replace(first, batch_id=LATER), other)
    assert set(stores.instances.by_study("1.2")) == {first, other}
    assert stores.instances.promote(first, other)
    assert list(stores.instances.by_study("1.2")) == [replace(other, beside=None)]
    assert not stores.instances.promote(first, other)


def test_the_failure_of_another_batch_hides_no_import(stores: Stores) -> None:
    newer = an_instance(batch_id=LATER)
    failed = replace(an_instance(), state=InstanceState.FAILED)
    record(stores.instances, LATER, [newer], is_there)
    record(stores.instances, BATCH, [failed], is_there)
    rows = {row.batch_id: row for row in stores.instances.by_study("1.2")}
    assert rows == {LATER: newer, BATCH: replace(failed, beside=BATCH)}


def test_a_batchs_rows_are_found_beside_those_of_others(stores: Stores) -> None:
    shared = replace(an_instance(batch_id=LATER), state=InstanceState.IMPORTED)
    copy = replace(an_instance(), state=InstanceState.IMPORTED)
    digest = replace(copy, batch_id="20261123T093500Z-0001020304050607", beside="SHA256:x")
    record(stores.instances, LATER, [shared], is_there)
    record(stores.instances, BATCH, [copy], is_there)
    assert stores.instances.swap_many([Change(None, digest)]) == frozenset()
    for row in (shared, replace(copy, beside=BATCH), digest):
        found = own_rows(stores.instances, row.batch_id, [an_instance().row_key])
        assert found == {row.instance: row}
