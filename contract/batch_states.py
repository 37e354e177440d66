"""The life of a batch: one table, which every conditional write and the picture in docs/ follow.

::

    OPEN -> CLOSED -> IMPORTING -> IMPORTED | PARTIAL | FAILED
       \\-> QUARANTINED <-/

FAILED and PARTIAL are what is known: if HealthImaging turns out to have imported more, the batch
goes on to what is true.
"""

from enum import StrEnum

from contract.errors import ContractError
from contract.records import BatchState


class BatchEvent(StrEnum):
    """What happens to a batch."""

    OPENED = "opened"  # a receiver took a lease on it
    CLOSED = "closed"  # its manifest exists
    ADMITTED = "admitted"  # it was its turn: an execution imports it
    IMPORTED = "imported"
    PARTLY_IMPORTED = "partly imported"
    FAILED = "failed"
    # It was recorded as failed, and HealthImaging has imported it, or some of it, after all.
    FOUND_IMPORTED = "found imported"
    FOUND_PARTLY_IMPORTED = "found partly imported"
    QUARANTINED = "quarantined"  # there is nothing in it that could be imported


# By event: from which states (None: no record yet), and to which.
TRANSITIONS: dict[BatchEvent, tuple[frozenset[BatchState | None], BatchState]] = {
    BatchEvent.OPENED: (frozenset({None}), BatchState.OPEN),
    # A receiver without a batch table opens no record; a dropbox batch is closed from the start.
    BatchEvent.CLOSED: (frozenset({None, BatchState.OPEN}), BatchState.CLOSED),
    BatchEvent.ADMITTED: (frozenset({BatchState.CLOSED}), BatchState.IMPORTING),
    # From CLOSED, too: a batch of nothing but duplicates needs no job.
    BatchEvent.IMPORTED: (
        frozenset({BatchState.CLOSED, BatchState.IMPORTING}),
        BatchState.IMPORTED,
    ),
    BatchEvent.PARTLY_IMPORTED: (frozenset({BatchState.IMPORTING}), BatchState.PARTIAL),
    BatchEvent.FAILED: (
        frozenset({None, BatchState.CLOSED, BatchState.IMPORTING}),
        BatchState.FAILED,
    ),
    BatchEvent.FOUND_IMPORTED: (
        frozenset({BatchState.PARTIAL, BatchState.FAILED}),
        BatchState.IMPORTED,
    ),
    BatchEvent.FOUND_PARTLY_IMPORTED: (
        frozenset({BatchState.PARTIAL, BatchState.FAILED}),
        BatchState.PARTIAL,
    ),
    BatchEvent.QUARANTINED: (
        frozenset({None, BatchState.OPEN, BatchState.CLOSED}),
        BatchState.QUARANTINED,
    ),
}

ENDED = frozenset(
    {BatchState.IMPORTED, BatchState.PARTIAL, BatchState.FAILED, BatchState.QUARANTINED}
)


class IllegalBatchTransition(ContractError):
    """An event does not fit a batch's state."""


def after(state: BatchState | None, event: BatchEvent) -> BatchState:
    """The state after an event; raises IllegalBatchTransition."""
    sources, target = TRANSITIONS[event]
    if state not in sources:
        raise IllegalBatchTransition(f"a batch that is {state or 'unknown'} cannot be {event}")
    return target
