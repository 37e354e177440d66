"""Each difference of the ledger and HealthImaging is found, and nothing where they say the same."""

from dataclasses import replace
from datetime import timedelta

import pytest

from contract.keys import bytes_name
from contract.records import InstanceRecord, InstanceState
from tests.chaos.facts import Copy, Evidence, Promise
from tests.chaos.ledger import Sent
from tests.chaos.outages import Outage
from tests.chaos.verdict import violations
from tests.unit.chaos.runs import (
    AGAIN,
    BATCH,
    FAILED,
    IMAGE_SET,
    IMPORTED,
    NOW,
    OTHER,
    OTHER_DIGEST,
    a_good_run,
    a_second_copy,
    content,
    copy,
    found,
    key,
    row,
    two_versions,
    with_object,
    with_row,
    with_sent,
    without_rows,
)


@pytest.mark.parametrize(
    "copies",
    [
        [],
        [copy(image_set_id="b" * 32)],
        [copy(version=2)],
        [copy(digest=OTHER_DIGEST)],
        [copy(AGAIN)],
        [copy(deleted=1)],
    ],
)
def test_an_instance_reported_imported_that_healthimaging_lacks_is_found(
    copies: list[Copy],
) -> None:
    """In the row's own version of the row's own image set, with the row's own bytes."""
    assert Promise.NOT_IN_HEALTHIMAGING in found(replace(a_good_run(), copies=copies))


def test_an_import_that_only_another_batch_made_is_not_the_rows() -> None:
    taken = row(IMPORTED, InstanceState.IMPORTED, batch_id=OTHER, key=str(key(IMPORTED, OTHER)))
    assert found(with_row(a_good_run(), taken)) == {Promise.NOT_IN_HEALTHIMAGING}


def test_a_version_stays_imported_when_the_next_has_other_bytes_of_the_same_uid() -> None:
    assert violations(two_versions()) == []


def test_one_of_two_versions_that_healthimaging_lacks_is_found() -> None:
    run = two_versions()
    for lost in run.copies:
        left = [each for each in run.copies if each is not lost]
        assert found(replace(run, copies=left)) == {Promise.NOT_IN_HEALTHIMAGING}


def test_an_instance_that_its_own_batch_imported_and_reports_failed_is_found() -> None:
    changed = row(IMPORTED, InstanceState.FAILED, "the results were late")
    run = with_object(with_row(a_good_run(), changed), changed.key)
    assert found(run) == {Promise.IMPORTED_AND_FAILED, Promise.NOT_IN_LEDGER}
    assert found(replace(run, copies=[copy(deleted=1)])) == {Promise.IMPORTED_AND_FAILED}


def test_a_row_of_an_image_set_that_is_gone_says_so() -> None:
    gone = row(IMPORTED, InstanceState.DELETED, "gone", image_set_id=IMAGE_SET, image_set_version=1)
    run = with_row(a_good_run(), gone)
    assert found(replace(run, copies=[copy(deleted=1)])) == set()
    assert found(run) == {Promise.NOT_DELETED, Promise.NOT_IN_LEDGER}


def test_an_imported_version_without_a_row_is_found() -> None:
    unnamed = without_rows(two_versions(), lambda each: each.batch_id == OTHER)
    assert found(unnamed) == {Promise.NOT_IN_LEDGER}


def test_what_healthimaging_has_without_a_row_is_found() -> None:
    run = a_good_run()
    assert found(replace(run, copies=[*run.copies, copy(AGAIN)])) == {Promise.NOT_IN_LEDGER}
    deleted = [*run.copies, copy(AGAIN, deleted=1)]
    assert found(replace(run, copies=deleted)) == set()


def test_what_healthimaging_has_and_was_never_sent_is_found() -> None:
    run = a_good_run()
    for strange in (copy("9.9"), copy(digest=OTHER_DIGEST, version=2)):
        changed = replace(run, copies=[*run.copies, strange])
        assert found(changed) == {Promise.NEVER_SENT, Promise.NOT_IN_LEDGER, Promise.IMPORTED_TWICE}


def test_what_healthimaging_imported_and_no_manifest_lists_is_found() -> None:
    run = a_good_run()
    imported = [*run.imported_keys, str(key(AGAIN))]
    broken = found(replace(run, imported_keys=imported))
    assert broken == {Promise.UNLISTED, Promise.MISCOUNTED}


def test_a_second_import_is_found_with_both_batches() -> None:
    twice = violations(a_second_copy())
    assert [(each.promise, each.subject) for each in twice] == [
        (Promise.IMPORTED_TWICE, key(IMPORTED).instance)
    ]
    assert BATCH in twice[0].detail
    assert OTHER in twice[0].detail


def blind(run: Evidence, began: int, ended: int | None, of: str = str(key(IMPORTED))) -> Evidence:
    """An object could not be read from so many minutes on.

    The second batch was admitted at once, and its copy stored a minute later.
    """
    outage = Outage(
        {of}.__contains__,
        NOW + timedelta(minutes=began),
        None if ended is None else NOW + timedelta(minutes=ended),
    )
    return replace(run, outages=[outage])


def test_a_copy_that_could_not_be_compared_is_imported_beside_the_first() -> None:
    run = a_second_copy()
    for began, ended in ((-1, 0), (0, 1), (1, None), (-5, None)):
        assert found(blind(run, began, ended)) == set()
    for began, ended in ((-2, -1), (2, None)):
        assert found(blind(run, began, ended)) == {Promise.IMPORTED_TWICE}
    assert found(blind(run, 0, 1, of=str(key(FAILED)))) == {Promise.IMPORTED_TWICE}


def test_a_copy_may_have_been_compared_by_an_execution_before_the_latest() -> None:
    run = blind(a_second_copy(), -2, -1)
    late = replace(run.batches[OTHER], closed_at=NOW - timedelta(minutes=3))
    for attempt, broken in ((0, {Promise.IMPORTED_TWICE}), (1, set())):
        batches = {**run.batches, OTHER: replace(late, attempt=attempt)}
        assert found(replace(run, batches=batches)) == broken


@pytest.mark.parametrize("differs", [False, True])
def test_a_second_import_is_found_whose_row_says_that_it_was_compared(differs: bool) -> None:
    run = blind(a_second_copy(), 0, 1)
    (told,) = (each for each in run.instances.values() if each.batch_id == OTHER)
    named = replace(
        told, beside=bytes_name(str(content(IMPORTED).digest), "0" * 32), differs=differs
    )
    changed = with_row(without_rows(run, lambda each: each is told), named)
    assert found(changed) == ({Promise.IMPORTED_TWICE} if differs else set())


def test_a_copys_row_names_one_copy_and_excuses_no_other() -> None:
    run = blind(a_second_copy(), 0, 1)
    copies = [*run.copies, copy(minutes=2, version=3)]
    run = replace(run, copies=copies, sent=with_sent(run, content(IMPORTED), Sent(3)))
    assert found(run) == {Promise.IMPORTED_TWICE, Promise.NOT_IN_LEDGER}


def test_a_second_import_into_another_image_set_is_found() -> None:
    run = a_second_copy()
    (told,) = (each for each in run.instances.values() if each.batch_id == OTHER)
    elsewhere = replace(told, image_set_id="b" * 32, image_set_version=1)
    copies = [copy(), copy(minutes=1, image_set_id="b" * 32)]
    assert found(with_row(replace(run, copies=copies), elsewhere)) == {Promise.IMPORTED_TWICE}


def again(run: Evidence, *copies: Copy) -> Evidence:
    """Imported twice; the row is the second batch's, as it is where the first was deleted."""
    (second,) = (each for each in run.instances.values() if each.batch_id == OTHER)
    rows = without_rows(run, lambda each: each.batch_id == OTHER)
    return replace(with_row(rows, replace(second, beside=None)), copies=copies)


def test_what_was_deleted_may_be_sent_and_imported_again() -> None:
    run = a_second_copy()
    assert found(again(run, copy(deleted=1), copy(minutes=2, version=2))) == set()
    before = again(run, copy(deleted=3), copy(minutes=2, version=2))
    assert found(before) == {Promise.IMPORTED_TWICE}


def test_what_was_deleted_is_not_imported_again_by_itself() -> None:
    run = again(a_second_copy(), copy(deleted=1), copy(minutes=2, version=2))
    once = with_sent(run, content(IMPORTED), Sent(1, refused=5))
    assert found(replace(run, sent=once)) == {Promise.IMPORTED_TWICE}


def test_one_of_two_versions_may_be_deleted() -> None:
    run = two_versions()
    older, newer = run.copies
    minute = NOW + timedelta(minutes=3)

    def deleted(each: InstanceRecord) -> InstanceRecord:
        return replace(each, state=InstanceState.DELETED, reason="gone")

    (first,) = (each for each in run.instances.values() if each.state is InstanceState.IMPORTED
                and each.batch_id == BATCH)  # fmt: skip
    gone = with_row(run, deleted(first))
    assert found(replace(gone, copies=[replace(older, deleted_at=minute), newer])) == set()
    assert found(gone) == {Promise.NOT_DELETED, Promise.NOT_IN_LEDGER}
