"""Which of two rows for one SOP Instance UID is kept, and what is remembered of the other."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.stores.instances import MAX_CONFLICTS, record, register, same_bytes
from chalicelib.stores.memory import MemoryInstances

from contract.checksums import Checksum
from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import NOW

OLDEST, OLD, NEW = (f"20261123T09{minute}000Z-0001020304050607" for minute in (2, 3, 4))
KEPT = [InstanceState.RECEIVED, InstanceState.IMPORTED]


def row(
    batch_id: str = OLD,
    state: InstanceState = InstanceState.RECEIVED,
    body: bytes = b"bytes",
    study: str = "1.2",
    conflicts: tuple[str, ...] = (),
) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid="1.2.3.4",
        study_instance_uid=study,
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        batch_id=batch_id,
        key=f"instances/{batch_id}/{study}/1.2.3/1.2.3.4.dcm",
        size=len(body),
        checksum=Checksum.of(body),
        state=state,
        updated_at=NOW,
        conflicts=conflicts,
    )


def kept(store: MemoryInstances) -> InstanceRecord:
    return store.rows["1.2.3.4"]


@pytest.fixture
def store() -> MemoryInstances:
    return MemoryInstances()


@pytest.mark.parametrize("state", KEPT)
def test_a_row_that_may_yet_turn_out_to_be_a_duplicates_original_is_kept(
    store: MemoryInstances, state: InstanceState
) -> None:
    record(store, [row(state=state)])
    register(store, [row(NEW, InstanceState.RECEIVED)])
    assert kept(store).batch_id == OLD


@pytest.mark.parametrize("state", [InstanceState.FAILED, InstanceState.QUARANTINED])
def test_what_failed_before_is_received_again(store: MemoryInstances, state: InstanceState) -> None:
    record(store, [row(state=state)])
    register(store, [row(NEW, InstanceState.RECEIVED)])
    assert (kept(store).batch_id, kept(store).state) == (NEW, InstanceState.RECEIVED)


def test_what_is_received_again_still_names_other_bytes_that_were_imported(
    store: MemoryInstances,
) -> None:
    imported = row(OLDEST, InstanceState.IMPORTED, body=b"one")
    record(store, [imported])
    record(store, [row(OLD, InstanceState.FAILED, body=b"two")])
    register(store, [row(NEW, body=b"two")])
    assert kept(store) == row(NEW, body=b"two", conflicts=(imported.key,))


@pytest.mark.parametrize("state", [InstanceState.IMPORTED, InstanceState.DELETED])
def test_a_failure_that_comes_too_late_hides_no_import_of_its_own_batch(
    store: MemoryInstances, state: InstanceState
) -> None:
    record(store, [row(state=state)])
    record(store, [row(state=InstanceState.FAILED)])
    assert kept(store).state is state


def test_the_same_end_told_twice_is_written_once(
    store: MemoryInstances,
) -> None:
    ended = row(state=InstanceState.IMPORTED)
    record(store, [ended])
    later = replace(ended, updated_at=NOW + timedelta(seconds=1))
    record(store, [later])
    assert kept(store) == ended
    record(store, [replace(later, warnings=("OTHER",))])
    assert kept(store).warnings == ("OTHER",)


def test_a_late_registration_takes_no_step_back(store: MemoryInstances) -> None:
    record(store, [row(state=InstanceState.FAILED)])
    register(store, [row(state=InstanceState.RECEIVED)])
    assert kept(store).state is InstanceState.FAILED


@pytest.mark.parametrize("first", [OLD, NEW])
def test_the_newer_batchs_row_stays_and_names_other_bytes_whoever_comes_first(
    store: MemoryInstances, first: str
) -> None:
    rows = {OLD: row(OLD, body=b"one"), NEW: row(NEW, body=b"two")}
    for batch_id in sorted(rows, key=lambda each: each != first):
        record(store, [rows[batch_id]])
    assert kept(store) == replace(rows[NEW], conflicts=(rows[OLD].key,))
    record(store, [replace(rows[NEW], state=InstanceState.IMPORTED)])
    assert kept(store).conflicts == (rows[OLD].key,)


def test_the_same_bytes_are_no_conflict(store: MemoryInstances) -> None:
    record(store, [row(OLD)])
    record(store, [row(NEW)])
    assert kept(store) == row(NEW)


def test_checksums_of_two_kinds_tell_nothing(store: MemoryInstances) -> None:
    assert same_bytes(Checksum.of(b"x"), Checksum.crc64nvme(1)) is None
    record(store, [row(OLD)])
    record(store, [replace(row(NEW), checksum=Checksum.crc64nvme(1))])
    assert kept(store).conflicts == ()


def test_one_uid_in_two_studies_of_a_batch_has_one_row_which_shows_the_failure(
    store: MemoryInstances,
) -> None:
    failed = row(state=InstanceState.FAILED, body=b"one")
    imported = row(state=InstanceState.IMPORTED, body=b"two", study="1.3")
    record(store, [failed, imported])
    assert kept(store) == replace(failed, conflicts=(imported.key,))


def test_conflicts_are_bounded(store: MemoryInstances) -> None:
    for number in range(MAX_CONFLICTS + 5):
        batch_id = f"20261123T0930{number:02}Z-0001020304050607"
        record(store, [row(batch_id, body=str(number).encode())])
    assert len(kept(store).conflicts) == MAX_CONFLICTS
