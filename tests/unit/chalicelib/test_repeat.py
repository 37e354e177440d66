"""What retries and releases have in common: they ask first, and may die anywhere."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import (
    ImportRefused,
    ImportThrottled,
    ServiceUnavailable,
)
from chalicelib.imports.aside import failed_key
from chalicelib.operations.journal import Entry, MemoryJournal
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores.memory import MemoryBatches, MemoryInstances
from chalicelib.stores.memory_files import MemoryFiles

from contract.batch_states import BatchEvent
from contract.errors import ProductError
from contract.keys import InstanceKey, manifest_key
from contract.records import BatchRecord, BatchState
from tests.unit.chalicelib.builders import (
    BATCH,
    failed,
    in_state,
    keep_results,
    lines,
    remove,
    summary,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.repeat_desk import (
    COMPLETED,
    KEYS,
    RUNNING,
    WHY,
    Desk,
    a_failed_batch,
    an_imported_batch,
    archived,
    release,
    repeat,
    retry,
)

PORTS = ("files", "journal", "batches", "instances")


def watched(desk: Desk, name: str, calls: Calls) -> Operations:
    there = {
        "files": desk.files,
        "journal": desk.journal,
        "batches": desk.stores.batches,
        "instances": desk.stores.instances,
    }
    return desk.operations(**{name: calls.port(there[name])})


def crashes(action: Any) -> list[tuple[str, int]]:
    found = []
    for name in PORTS:
        desk, calls = Desk(), Calls()
        action(watched(desk, name, calls))
        found += [(name, number) for number in range(calls.number)]
    return found


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(("port", "dies_at"), crashes(retry))
def test_a_retry_may_die_at_any_call(port: str, dies_at: int, is_closed: bool) -> None:
    assert_survives(retry, port, dies_at, is_closed)


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(("port", "dies_at"), crashes(release))
def test_a_release_may_die_at_any_call(port: str, dies_at: int, is_closed: bool) -> None:
    assert_survives(release, port, dies_at, is_closed)


def assert_survives(action: Any, port: str, dies_at: int, is_closed: bool) -> None:
    """``is_closed``: the manifest's event comes between the crash and the next try."""
    desk, uncrashed = Desk(), Desk()
    with pytest.raises(Crash):
        action(watched(desk, port, Calls({dies_at: die})))
    published = [key for key in desk.keys("batches/") if key != manifest_key(BATCH)]
    closed_early = is_closed and published
    if closed_early:
        desk.close(published[0].removeprefix("batches/").removesuffix(".json"))
    entry, expected = action(desk.operations()), action(uncrashed.operations())
    if not closed_early:
        desk.close(entry.batch_id)
    uncrashed.close(expected.batch_id)
    assert end_of(desk, entry) == end_of(uncrashed, expected)


def end_of(desk: Desk, entry: Entry) -> Any:
    assert isinstance(desk.stores.instances, MemoryInstances)
    assert isinstance(desk.stores.batches, MemoryBatches)
    rows, batches = desk.stores.instances.rows, desk.stores.batches.rows
    return entry, desk.keys(""), desk.manifest(entry.batch_id), rows, batches


def dies_before_its_manifest(desk: Desk, action: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFiles, "create", create)
        with pytest.raises(Crash):
            action(desk.operations())


def test_recovery_may_close_the_batch_of_a_retry_that_died_before_its_manifest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was opened when all was copied: nothing is imported half."""
    desk = Desk()
    dies_before_its_manifest(desk, retry, monkeypatch)
    (opened,) = in_state(desk.stores.batches, BatchState.OPEN)
    assert opened.retry_of == BATCH
    assert len(desk.keys(f"instances/{opened.batch_id}/")) == 2
    assert desk.stores.batches.move(opened, BatchEvent.CLOSED)


@pytest.mark.parametrize("force", [False, True])
def test_what_was_made_of_a_batch_is_not_made_anew_under_it(force: bool) -> None:
    """Its manifest is gone with its retention: what is copied there is imported by nobody."""
    desk = a_failed_batch(COMPLETED)
    keep_results(desk.stores, summary=summary(0, 4), failure=lines(*(failed(key) for key in KEYS)))
    entry = retry_batch(BATCH, WHY, desk.operations(), force=force)
    desk.close(entry.batch_id)
    retried = desk.stores.batches.get(entry.batch_id)
    assert retried is not None
    assert isinstance(desk.stores.batches, MemoryBatches)
    desk.stores.batches.rows[entry.batch_id] = replace(retried, state=BatchState.IMPORTED)
    remove(desk.files, [manifest_key(entry.batch_id), *desk.keys(f"instances/{entry.batch_id}/")])
    again = retry_batch(BATCH, WHY, desk.operations(), force=force)
    assert (again == entry) is not force  # by force, what is in the bucket is imported once more
    assert desk.keys(f"instances/{entry.batch_id}/") == []
    assert manifest_key(entry.batch_id) not in desk.keys("batches/")


def test_a_release_is_not_made_anew_in_its_ended_batch() -> None:
    desk = Desk()
    entry = release(desk.operations())
    desk.close(entry.batch_id)
    remove(desk.files, [manifest_key(entry.batch_id)])
    desk.files.copy(desk.files.head(desk.row("1.2.3.1").key), failed_key(KEYS[0]), {})
    assert release(desk.operations()) == entry
    assert desk.keys("batches/") == [manifest_key(BATCH)]


def test_a_batch_that_was_closed_meanwhile_is_not_written_over() -> None:
    """By recovery, whose manifest has what was copied by then."""
    desk = Desk()

    class ClosedMeanwhile(MemoryBatches):
        def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
            if event is BatchEvent.OPENED:
                super().move(batch, event)
                super().move(batch, BatchEvent.CLOSED)
            return super().move(batch, event)

    assert isinstance(desk.stores.batches, MemoryBatches)
    batches = ClosedMeanwhile()
    batches.rows = desk.stores.batches.rows
    with pytest.raises(ServiceUnavailable, match="made the batch meanwhile"):
        retry_batch(BATCH, WHY, desk.operations(batches=batches))
    assert desk.keys("batches/") == [manifest_key(BATCH)]
    assert len(desk.keys("quarantine/")) == 2


@pytest.mark.parametrize("operation", ["retry", "release"])
def test_nothing_is_imported_again_while_the_job_runs(operation: str) -> None:
    desk = a_failed_batch(RUNNING)
    with pytest.raises(OperationRefused, match="still runs"):
        repeat(desk, operation)
    assert desk.journal.entries == {}


@pytest.mark.fault("import-unanswered")
@pytest.mark.parametrize("operation", ["retry", "release"])
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (ImportRefused("AccessDeniedException: no"), OperationRefused),
        (ImportThrottled("later"), ServiceUnavailable),
        (ServiceUnavailable("later"), ServiceUnavailable),
    ],
)
def test_nothing_is_imported_again_before_healthimaging_has_answered(
    operation: str, fault: ProductError, answer: type[Exception]
) -> None:
    desk = a_failed_batch(RUNNING)
    desk.service.faults = [fault]
    with pytest.raises(answer):
        repeat(desk, operation)
    assert desk.journal.entries == {}


@pytest.mark.parametrize("action", [retry, release])
def test_a_batch_that_recovery_found_empty_is_made_anew_under_another_name(
    action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deleted the copies: the originals are all there is."""
    desk = Desk()
    dies_before_its_manifest(desk, action, monkeypatch)
    (opened,) = in_state(desk.stores.batches, BatchState.OPEN)
    remove(desk.files, desk.keys(f"instances/{opened.batch_id}/"))
    assert desk.stores.batches.move(opened, BatchEvent.QUARANTINED)
    entry = action(desk.operations())
    assert entry.batch_id != opened.batch_id
    assert desk.keys(f"instances/{entry.batch_id}/") == [
        each.key for each in desk.manifest(entry.batch_id).instances
    ]
    assert action(desk.operations()) == entry


def test_what_is_made_meanwhile_is_not_copied_again() -> None:
    desk = an_imported_batch()

    class Slow(MemoryJournal):
        def begin(self, _: Entry) -> Entry:
            made = by_force(desk.operations())
            desk.close(made.batch_id)
            remove(desk.files, desk.keys(f"instances/{made.batch_id}/"))
            return made

    with pytest.raises(ServiceUnavailable, match="made the batch meanwhile"):
        by_force(desk.operations(journal=Slow()))
    (made,) = desk.journal.entries.values()
    assert desk.keys(f"instances/{made.batch_id}/") == []


def by_force(operations: Operations) -> Entry:
    return retry_batch(BATCH, WHY, operations, force=True)


def at(desk: Desk, minutes: float, journal: MemoryJournal | None = None) -> Operations:
    """The desk, so long after its first request."""
    operations = desk.operations(journal=journal)
    later = operations.now + timedelta(minutes=minutes)
    return replace(operations, imports=replace(operations.imports, now=later))


@pytest.mark.parametrize("action", [retry, release])
@pytest.mark.parametrize(("minutes", "goes_on"), [(29, True), (31, False)])
def test_a_request_that_died_with_its_copies_goes_on_only_while_they_are_young(
    monkeypatch: pytest.MonkeyPatch, action: Any, minutes: int, goes_on: bool
) -> None:
    """Reconciliation may be deleting older ones at this very moment."""
    desk = Desk()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBatches, "move", lambda *_: die())
        with pytest.raises(Crash):
            action(desk.operations())
    (died,) = {InstanceKey.parse(key).batch_id for key in desk.keys("instances/")} - {BATCH}
    entry = action(at(desk, minutes))
    assert (entry.batch_id == died) == goes_on
    listed = {each.key for each in desk.manifest(entry.batch_id).instances}
    assert listed == set(desk.keys(f"instances/{entry.batch_id}/"))
    assert action(at(desk, minutes)) == entry


@pytest.mark.parametrize("action", [retry, release])
def test_a_request_that_was_given_up_as_too_old_makes_no_second_batch(action: Any) -> None:
    """It goes on after all: somebody's laptop slept."""
    desk, made = Desk(), list[Entry]()
    before = desk.keys("instances/")

    class Sleeping(MemoryJournal):
        def get(self, subject: str) -> Entry | None:
            if desk.keys("instances/") != before and not made:  # it has copied, and opened nothing
                desk.journal.entries = self.entries
                made.append(action(at(desk, 31)))
            return super().get(subject)

    with pytest.raises(ServiceUnavailable, match="meanwhile"):
        action(at(desk, 0, Sleeping()))
    assert desk.keys("batches/") == sorted(map(manifest_key, (BATCH, made[0].batch_id)))


def test_requests_that_copy_nothing_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    archived(monkeypatch, *desk.keys("quarantine/"))
    for hours in range(3):
        with pytest.raises(OperationRefused):
            retry(at(desk, 60 * hours))
    assert len(desk.journal.entries) == 1
