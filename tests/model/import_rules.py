"""Errors that a test plants into the import, each in the place of a rule of the product's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from chalicelib import threads
from chalicelib.errors import ResultsNotReady
from chalicelib.imports import (
    claim_rules,
    claims,
    completion,
    failure,
    image_sets,
    late,
    notice,
    status,
)
from chalicelib.imports.comparison import Pair
from chalicelib.imports.execution import job_state
from chalicelib.imports.outcome import NOT_REPORTED, Outcome, Results, read_results
from chalicelib.operations import retry
from chalicelib.stores import instances as ledger
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.memory import MemoryBatches, MemoryInstances

from contract.keys import RowKey
from contract.records import InstanceState, JobStatus
from tests.unit.chalicelib.in_turn import InTurn


def record_failure_unasked(patch: pytest.MonkeyPatch) -> None:
    """RecordFailure does not ask what became of the batch's job."""

    def failed(execution: Any, job_id: str, context: Any) -> Any:
        return job_state(job_id, context.settings.datastore_id, 0, JobStatus.FAILED, "no")

    patch.setattr(failure, "check_status", failed)


def record_failure_unlooked(patch: pytest.MonkeyPatch) -> None:
    """RecordFailure does not look for the job of a start without an answer."""
    patch.setattr(failure, "lost_job", lambda *_: None)


def list_believed(patch: pytest.MonkeyPatch) -> None:
    """What the list of jobs does not show yet was not started."""
    patch.setattr(failure, "may_be_unlisted", lambda *_: False)


def no_mark(patch: pytest.MonkeyPatch) -> None:
    """A start is not marked before it is sent."""
    patch.setattr(MemoryBatches, "mark_start", lambda *_: True)


def mark_cleared(patch: pytest.MonkeyPatch) -> None:
    """A clear no to a second start takes away the mark of the first."""
    real = MemoryBatches.unmark_start
    forgetful = lambda store, batch_id, at, _: real(store, batch_id, at, None)  # noqa: E731
    patch.setattr(MemoryBatches, "unmark_start", forgetful)


def retry_unasked(patch: pytest.MonkeyPatch) -> None:
    """A retry does not ask what became of the batch's job."""
    patch.setattr(retry, "settled", lambda batch, *_, **__: batch)


def late_ignored(patch: pytest.MonkeyPatch) -> None:
    """A job that is recorded as FAILED is not asked for again."""
    for module in (late, notice):
        real = module.ask

        def ask(execution: Any, job: Any, context: Any, real: Any = real) -> Any:
            return job if job.job_status is JobStatus.FAILED else real(execution, job, context)

        patch.setattr(module, "ask", ask)


def failure_hides_import(patch: pytest.MonkeyPatch) -> None:
    """A failure that comes too late is written over what was imported."""
    patch.setattr(ledger, "was_imported", lambda *_: False)


def age_limit_fails(patch: pytest.MonkeyPatch) -> None:
    """A job that runs for too long has failed."""

    def overdue(job: Any, *_: Any) -> Any:
        return replace(job, job_status=JobStatus.FAILED, message="overdue")

    patch.setattr(status, "_still_running", overdue)


def results_early(patch: pytest.MonkeyPatch) -> None:
    """What the result files do not hold yet has failed."""

    def early(manifest: Any, *arguments: Any) -> Results:
        try:
            return read_results(manifest, *arguments)
        except ResultsNotReady:
            keys = [each.key for each in manifest.instances]
            return Results({key: Outcome(NOT_REPORTED) for key in keys}, ())

    patch.setattr(completion, "read_results", early)


def claim_unverified(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether the image set of a duplicate is there."""
    patch.setattr(image_sets.ImageSets, "keep", lambda _, rows: {row.key for row in rows})


def only_imported_stands(patch: pytest.MonkeyPatch) -> None:
    """Duplicates are told by what is IMPORTED, not by what waits for its import."""
    real = claims._Claiming._standing

    def standing(self: Any, rows: Any, _: Any) -> Any:
        return real(self, rows, frozenset())

    patch.setattr(claims._Claiming, "_standing", standing)


def blind_writes(patch: pytest.MonkeyPatch) -> None:
    """Rows are written without the condition that they are as they were read."""

    def swap_many(self: MemoryInstances, changes: Any) -> frozenset[RowKey]:
        for change in changes:
            key, row = change.row_key, change.row
            self.rows = {k: v for k, v in self.rows.items() if k != key}
            self.rows |= {key: row} if row else {}
        return frozenset()

    patch.setattr(MemoryInstances, "swap_many", swap_many)


def unguarded(patch: pytest.MonkeyPatch) -> None:
    """A row is written, though that which it was decided by has changed."""

    def is_as_read(self: MemoryInstances, change: ledger.Change) -> bool:
        return self.rows.get(change.row_key) == change.was

    patch.setattr(MemoryInstances, "_is_as_read", is_as_read)


def named_unguarded(patch: pytest.MonkeyPatch) -> None:
    """The first row is taken, though a batch that could not compare has made one beside it."""
    real = claim_rules._guard

    def guard(place: Any, *arguments: Any) -> Any:
        return real(place, *arguments) if place.is_named else None

    patch.setattr(claim_rules, "_guard", guard)


def copies_stand(patch: pytest.MonkeyPatch) -> None:
    """Batches leave an instance to a copy that waits."""

    def said(self: Any, found: Sequence[tuple[Any, Any]]) -> Any:
        pairs = [Pair(*each) for each in found]
        here = [pair.other for pair in pairs if not pair.is_elsewhere]
        standing = self._standing(here, self._alive(here))
        verdicts = self._comparison.of(pairs)
        return standing, {pair.keys: each for pair, each in zip(pairs, verdicts, strict=True)}

    patch.setattr(claims._Claiming, "_said", said)


def failed_is_anybodys(patch: pytest.MonkeyPatch) -> None:
    """What has failed is taken over by a batch for another data store."""

    def is_elsewhere(self: Pair) -> bool:
        is_other = self.row.datastore_id != self.other.datastore_id
        return is_other and self.other.state is not InstanceState.FAILED

    patch.setattr(Pair, "is_elsewhere", property(is_elsewhere))


def named_for_anybody(patch: pytest.MonkeyPatch) -> None:
    """A row is named by its bytes alone, whatever data store they are for."""
    patch.setattr(claims, "bytes_name", lambda sha256, _: sha256)


def promotion_believed(patch: pytest.MonkeyPatch) -> None:
    """A batch leaves its first row to another one, which was not put in its place."""
    real = MemoryInstances.promote
    believed = lambda store, first, other: real(store, first, other) or True  # noqa: E731
    patch.setattr(MemoryInstances, "promote", believed)


def own_looked_for_once(patch: pytest.MonkeyPatch) -> None:
    """A batch's row that becomes the first while a Query looks for it is not looked for again."""

    def once(store: ledger.InstanceStore, _: str, keys: Sequence[RowKey]) -> ledger.Rows:
        first = store.get_many(keys)
        return {**first, **ledger.all_of(store, keys)}

    for module in (ledger, claims, retry):
        patch.setattr(module, "shared_and_own", once)


def taken_early(patch: pytest.MonkeyPatch) -> None:
    """A batch has its row before it deletes others', one of which was imported meanwhile."""
    real = claim_rules._taken

    def taken(facts: claim_rules.Facts, name: Any) -> list[ledger.Change]:
        changes = real(facts, name)
        theirs = [each for each in changes if each.row is None and each.was in facts.same]
        return [*(each for each in changes if each not in theirs), *theirs]

    patch.setattr(claim_rules, "_taken", taken)


def deletion_not_noted(patch: pytest.MonkeyPatch) -> None:
    """An import does not note its image sets."""
    patch.setattr(MemoryImageSets, "note", lambda *_: None)


def deletion_not_settled(patch: pytest.MonkeyPatch) -> None:
    """An import does not ask, behind its rows, whether what it wrote is deleted."""
    patch.setattr(completion, "settle_deletions", lambda *_: None)


@contextmanager
def planted(*errors: Any) -> Iterator[None]:
    """With these errors, and no threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "ThreadPoolExecutor", InTurn)
        for error in errors:
            error(patch)
        yield
