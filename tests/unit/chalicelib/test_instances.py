"""Which row of the ledger is a batch's, and what is written where two batches have one instance."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.stores.instances import inherit, own_rows, record, register
from chalicelib.stores.memory import MemoryInstances

from contract.checksums import Checksum
from contract.keys import bytes_name
from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import NOW, is_there

OLDEST, OLD, NEW = (f"20261123T09{minute}000Z-0001020304050607" for minute in (2, 3, 4))
RECEIVED, IMPORTED, FAILED = (
    InstanceState.RECEIVED,
    InstanceState.IMPORTED,
    InstanceState.FAILED,
)
ABSENT = [FAILED, InstanceState.DELETED]


def row(
    batch_id: str = OLD,
    state: InstanceState = RECEIVED,
    body: bytes = b"bytes",
    study: str = "1.2",
    series: str = "1.2.3",
    beside: str | None = None,
) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid="1.2.3.4",
        study_instance_uid=study,
        series_instance_uid=series,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        batch_id=batch_id,
        datastore_id="0" * 32,
        key=f"instances/{batch_id}/{study}/{series}/1.2.3.4.dcm",
        size=len(body),
        checksum=Checksum.of(body),
        state=state,
        updated_at=NOW,
        beside=beside,
    )


def keep(store: MemoryInstances, *rows: InstanceRecord) -> None:
    for each in rows:
        record(store, each.batch_id, [each], is_there)


def kept(store: MemoryInstances) -> InstanceRecord:
    (only,) = store.rows.values()
    return only


@pytest.fixture
def store() -> MemoryInstances:
    return MemoryInstances()


@pytest.mark.parametrize("state", [RECEIVED, IMPORTED, *ABSENT])
def test_no_row_of_another_batch_is_taken_before_the_objects_were_compared(
    store: MemoryInstances, state: InstanceState
) -> None:
    keep(store, row(state=state))
    register(store, [row(NEW)])
    assert kept(store) == row(state=state)


@pytest.mark.parametrize("state", [IMPORTED, InstanceState.DELETED])
def test_a_failure_that_comes_too_late_hides_no_import_of_its_own_batch(
    store: MemoryInstances, state: InstanceState
) -> None:
    keep(store, row(state=state), row(state=FAILED))
    assert kept(store).state is state


@pytest.mark.parametrize("state", [RECEIVED, IMPORTED, *ABSENT])
@pytest.mark.parametrize("end", [IMPORTED, FAILED])
@pytest.mark.parametrize("ending", [OLDEST, NEW])
def test_an_end_that_has_no_row_is_told_beside_the_row_of_another_batch(
    store: MemoryInstances, state: InstanceState, end: InstanceState, ending: str
) -> None:
    """Neither is hidden: nobody has compared the two objects."""
    other, ours = row(OLD, state), row(ending, end)
    keep(store, other, ours, ours)
    assert list(store.rows.values()) == [other, replace(ours, beside=ending)]


def test_a_failure_whose_object_has_gone_on_to_another_batch_is_not_told(
    store: MemoryInstances,
) -> None:
    keep(store, row(OLD))
    record(store, NEW, [row(NEW, FAILED)], lambda _: False)
    assert kept(store) == row(OLD)


OLD_KEY = row().key


def named(body: bytes) -> str:
    return bytes_name(str(Checksum.of(body)), "0" * 32)


@pytest.mark.parametrize("state", ABSENT)
@pytest.mark.parametrize("beside", [None, named(b"other bytes")])
def test_the_copy_of_an_object_takes_the_place_of_the_row_that_it_is_a_copy_of(
    store: MemoryInstances, state: InstanceState, beside: str | None
) -> None:
    others = [] if beside is None else [row(OLDEST, IMPORTED)]
    differs = beside is not None
    old = replace(row(OLD, state, beside=beside), differs=differs)
    store.rows = {each.row_key: each for each in (*others, old)}
    for _ in range(2):
        inherit(store, [row(NEW)], OLD, {OLD_KEY})
    assert list(store.rows.values()) == [
        *others,
        replace(row(NEW, beside=beside), differs=differs),
    ]


@pytest.mark.parametrize("beside", [OLD, named(b"bytes")])
def test_a_row_that_was_not_compared_is_replaced_by_one_that_will_be(
    store: MemoryInstances, beside: str
) -> None:
    first = row(OLDEST, IMPORTED)
    old = row(OLD, FAILED, beside=beside)
    store.rows = {each.row_key: each for each in (first, old)}
    for _ in range(2):
        inherit(store, [row(NEW)], OLD, {OLD_KEY})
    assert list(store.rows.values()) == [first, row(NEW, beside=NEW)]


def test_the_old_row_goes_where_the_new_batch_has_one(store: MemoryInstances) -> None:
    rows = row(NEW), row(OLD, FAILED, beside=OLD)
    store.rows = {each.row_key: each for each in rows}
    inherit(store, [row(NEW)], OLD, {OLD_KEY})
    assert kept(store) == row(NEW)


@pytest.mark.parametrize(
    ("state", "keys"), [(FAILED, {"elsewhere"}), (IMPORTED, {OLD_KEY}), (RECEIVED, {OLD_KEY})]
)
def test_what_has_not_failed_or_was_not_copied_is_not_inherited(
    store: MemoryInstances, state: InstanceState, keys: set[str]
) -> None:
    keep(store, row(OLD, state))
    inherit(store, [row(NEW)], OLD, keys)
    assert kept(store) == row(OLD, state)


def test_an_import_beside_anothers_is_told_as_a_copy(store: MemoryInstances) -> None:
    keep(store, row(OLD, IMPORTED), row(NEW, IMPORTED))
    keep(store, row(NEW, IMPORTED))
    copy = row(NEW, IMPORTED, beside=NEW)
    assert sorted(store.rows.values(), key=lambda each: each.batch_id) == [row(OLD, IMPORTED), copy]
    assert copy.content == row(OLD).content
    keys = [row().row_key]
    assert own_rows(store, NEW, keys) == {copy.instance: copy}
    assert own_rows(store, OLD, keys) == {copy.instance: row(OLD, IMPORTED)}


def test_what_a_batch_has_beside_anothers_stays_beside_it(store: MemoryInstances) -> None:
    digest = str(Checksum.of(b"other bytes"))
    theirs = row(OLD, IMPORTED)
    ours = replace(row(NEW, beside=digest), differs=True)
    store.rows = {each.row_key: each for each in (theirs, ours)}
    keep(store, row(NEW, FAILED))
    assert store.rows[ours.row_key] == replace(ours, state=FAILED)
    assert store.rows[theirs.row_key] == theirs
    assert ours.content != theirs.content


def test_the_same_end_told_twice_is_written_once(store: MemoryInstances) -> None:
    ended = row(state=IMPORTED)
    later = replace(ended, updated_at=NOW + timedelta(seconds=1))
    keep(store, ended, later)
    assert kept(store) == ended
    keep(store, replace(later, warnings=("OTHER",)))
    assert kept(store).warnings == ("OTHER",)


def test_a_late_registration_takes_no_step_back(store: MemoryInstances) -> None:
    keep(store, row(state=FAILED))
    register(store, [row()])
    assert kept(store).state is FAILED


def test_other_bytes_other_studies_and_other_series_are_other_rows(store: MemoryInstances) -> None:
    rows = [row(), row(NEW, body=b"other"), row(NEW, study="1.9"), row(NEW, series="1.2.9")]
    for each in rows:
        register(store, [each])
    assert list(store.rows.values()) == rows
    assert len(store.of_instances([row().instance])[row().instance]) == 2
    assert len(list(store.by_sop_instance("1.2.3.4"))) == 4


def test_the_end_of_a_row_that_is_promoted_while_it_is_looked_for_is_written_there(
    store: MemoryInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Query may show the first row as it was, and no longer the one that took its place."""
    first, ours = row(OLD), row(NEW, beside=str(Checksum.of(b"bytes")))
    store.rows = {each.row_key: each for each in (first, ours)}
    read = store.of_instances

    def half_of_it(_: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        monkeypatch.setattr(store, "of_instances", read)
        assert store.promote(first, ours)
        return {first.instance: (first,)}

    monkeypatch.setattr(store, "of_instances", half_of_it)
    keep(store, row(NEW, IMPORTED))
    assert list(store.rows.values()) == [row(NEW, IMPORTED)]
