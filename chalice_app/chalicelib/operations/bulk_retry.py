"""Many batches' failed instances once more: batch after batch, newest first, page after page.

Each is the retry of its own that ``retry BATCH_ID`` asks for, so that an interrupted run is begun
again and finds what it has done. One that is refused stops no other. A run ends early if the list
of batches cannot be read on, if AWS does not take the credentials, and by Ctrl-C.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from chalicelib.api.batch_pages import BatchQuery
from chalicelib.api.batch_pages import page as batch_page
from chalicelib.api.parameters import cursor_of
from chalicelib.errors import ApiProblem
from chalicelib.operations.failures import FAILURES, in_words, is_of_credentials
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores.batches import BatchStore
from contract.records import BatchRecord

# Batches of each outcome that a summary names; its counts are of all.
MAX_NAMED = 1_000
_PAGE = 100
Json = dict[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which batches. ``since`` and ``until`` bound the time of a batch's end, both inclusive.

    ``cursor`` is the id of the last batch of an earlier run; ``limit`` how many are asked for.
    """

    query: BatchQuery
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    cursor: str | None = None

    def has(self, batch: BatchRecord) -> bool:
        """Whether the batch ended within the bounds."""
        if batch.ended_at is None:
            return self.since is None and self.until is None
        is_late = self.since is None or batch.ended_at >= self.since
        return is_late and (self.until is None or batch.ended_at <= self.until)


class Outcome(StrEnum):
    """What became of one batch's retry."""

    DONE = "done"
    BEFORE = "doneBefore"  # an earlier request has made its batch
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(slots=True)
class Summary:
    """``stopped`` is why the run ended before its end; ``next_cursor`` where it can go on."""

    found: dict[Outcome, list[Json]] = field(default_factory=lambda: {each: [] for each in Outcome})
    next_cursor: str | None = None
    stopped: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether all that was asked for is done."""
        bad = self.found[Outcome.REFUSED] or self.found[Outcome.FAILED]
        return not (bad or self.stopped)

    def to_json(self) -> Json:
        """The counts, and the batches."""
        answer: Json = {f"{name}Count": len(each) for name, each in self.found.items()}
        answer |= {str(name): each[:MAX_NAMED] for name, each in self.found.items() if each}
        answer |= {"stopped": self.stopped} if self.stopped else {}
        return answer | ({"nextCursor": self.next_cursor} if self.next_cursor else {})


def retry_all(
    selection: Selection,
    reason: str,
    operations: Callable[[], Operations],
    tell: Tell,
    *,
    force: bool = False,
) -> Summary:
    """Retry every batch of the selection; ``tell`` gets a line for each as soon as it is done.

    ``operations`` are made anew for each batch: a run may take hours, and a request has its time.
    """
    summary, asked = Summary(), 0
    began = operations()
    last, is_cut = selection.cursor, True
    try:
        for batch in _batches(selection, began.stores.batches):
            if selection.limit is not None and asked == selection.limit:
                break
            outcome, what = _retry(batch.batch_id, reason, operations(), began.now, force=force)
            asked += 1
            summary.found[outcome].append({"batchId": batch.batch_id} | what)
            last = batch.batch_id  # not before: a run from its cursor on begins behind it
            tell(f"{asked} {batch.batch_id} {outcome}: {what.get('newBatchId') or what['why']}")
        else:
            is_cut = False
    except (*FAILURES, KeyboardInterrupt) as error:
        summary.stopped = in_words(error)
    if is_cut and last:
        summary.next_cursor = cursor_of(last)
    return summary


def _batches(selection: Selection, store: BatchStore) -> Iterator[BatchRecord]:
    cursor = selection.cursor
    while True:
        found, cursor = batch_page(store, selection.query, _PAGE, cursor)
        yield from filter(selection.has, found)
        if cursor is None:
            return


def _retry(
    batch_id: str, reason: str, operations: Operations, began_at: datetime, *, force: bool
) -> tuple[Outcome, Json]:
    try:
        entry = retry_batch(batch_id, reason, operations, force=force)
    except ApiProblem as error:
        return Outcome.REFUSED, {"why": str(error)}
    except Exception as error:  # the other batches must not suffer for it
        if is_of_credentials(error):
            raise
        return Outcome.FAILED, {"why": in_words(error)}
    outcome = Outcome.DONE if entry.requested_at >= began_at else Outcome.BEFORE
    return outcome, {"newBatchId": entry.batch_id}
