"""Where batches are kept. Each step of a batch is written once, on the table's condition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol

from contract.batch_states import BatchEvent
from contract.records import BatchRecord, BatchState


@dataclass(frozen=True, slots=True)
class BatchLine:
    """What a list of waiting or importing batches shows of one."""

    batch_id: str
    calling_ae_title: str
    opened_at: datetime
    datastore_id: str | None = None
    urgent: bool = False
    closed_at: datetime | None = None
    admitted_at: datetime | None = None
    job_id: str | None = None


def line_of(batch: BatchRecord) -> BatchLine:
    """The same of a record."""
    return BatchLine(**{each.name: getattr(batch, each.name) for each in fields(BatchLine)})


class BatchStore(Protocol):
    """Batches by id and by state."""

    def get(self, batch_id: str) -> BatchRecord | None:
        """The batch, or None."""
        ...

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """Write what ``batch`` knows, in the state the event leads to.

        False, and nothing changed, if the batch is in no state the event can happen in
        (``contract.batch_states.TRANSITIONS``). ``batch.state`` is not looked at.
        """
        ...

    def link_retry(self, batch_id: str, retried_as: str) -> bool:
        """Say which batch repeats this one; False if this one, or a newer, is recorded already."""
        ...

    def mark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """Say that its import job is being started, if the record still has the mark ``before``.

        None is no mark. False also if the batch has a job, or is neither IMPORTING nor STALLED.
        """
        ...

    def unmark_start(self, batch_id: str, at: datetime, before: datetime | None) -> bool:
        """Say that the start marked ``at`` was not carried out; the mark ``before`` it stands.

        False if the mark is another's by now, or as ``mark_start`` has it.
        """
        ...

    def attach_job(self, batch_id: str, job_id: str) -> bool:
        """Say which job imports the batch; False if it has one, or as ``mark_start`` has it."""
        ...

    def take_lease(self, batch: BatchRecord, owner: str, expires_at: datetime) -> bool:
        """Make an open batch another's, whatever its owner thinks.

        False if it is not OPEN any more, or its owner or lease is not the one ``batch`` has.
        """
        ...

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRecord]:
        """The batches that exist, by id; no id may come twice."""
        ...

    def lines(
        self, state: BatchState, limit: int | None = None, *, newest: bool = False
    ) -> Iterator[BatchLine]:
        """The batches in a state, in the order of their ids, fetched as they are consumed.

        From an index: what was written in the last second may be missing or old.
        """
        ...

    def ids(self, state: BatchState | None, high: str | None = None) -> Iterator[str]:
        """The ids of the batches in one state, or in any, newest first, from ``high`` down.

        From an index, as ``lines``.
        """
        ...
