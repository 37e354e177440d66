"""The life of a batch: one table, which every conditional write and the picture in docs/ follow.

::

    OPEN -> CLOSED -> IMPORTING -> IMPORTED | PARTIAL | FAILED
       \\-> QUARANTINED <-/  ^
                            v
                         STALLED -> IMPORTED | PARTIAL | FAILED

A batch whose execution ended before it is STALLED until its next execution is started, for as often
as that takes. HealthImaging may run, or have ended, its job all the same: a STALLED batch gets its
end from whoever learns of it first, as an IMPORTING one does.

FAILED and PARTIAL are what is known: if HealthImaging turns out to have imported more, the batch
goes on to what is true.
"""

from enum import StrEnum

from contract.errors import ContractError
from contract.records import BatchState


class BatchEvent(StrEnum):
    """What happens to a batch."""

    OPENED = "opened"  # whoever makes it took a lease on it
    CLOSED = "closed"  # its manifest exists
    ADMITTED = "admitted"  # it was its turn: an execution imports it
    STALLED = "stalled"  # its execution ended, and it did not
    RESUMED = "resumed"  # another execution imports it
    IMPORTED = "imported"
    PARTLY_IMPORTED = "partly imported"
    FAILED = "failed"
    # It was recorded as failed, and HealthImaging has imported it, or some of it, after all.
    FOUND_IMPORTED = "found imported"
    FOUND_PARTLY_IMPORTED = "found partly imported"
    QUARANTINED = "quarantined"  # there is nothing in it that could be imported


# Its job may be started, run, or have ended without anybody having recorded that.
UNDER_WAY = frozenset({BatchState.IMPORTING, BatchState.STALLED})

# By event: from which states (None: no record yet), and to which.
TRANSITIONS: dict[BatchEvent, tuple[frozenset[BatchState | None], BatchState]] = {
    BatchEvent.OPENED: (frozenset({None}), BatchState.OPEN),
    # A receiver without a batch table opens no record.
    BatchEvent.CLOSED: (frozenset({None, BatchState.OPEN}), BatchState.CLOSED),
    BatchEvent.ADMITTED: (frozenset({BatchState.CLOSED}), BatchState.IMPORTING),
    BatchEvent.STALLED: (frozenset({BatchState.IMPORTING}), BatchState.STALLED),
    BatchEvent.RESUMED: (frozenset({BatchState.STALLED}), BatchState.IMPORTING),
    # From CLOSED, too: a batch of nothing but duplicates needs no job.
    BatchEvent.IMPORTED: (
        frozenset({BatchState.CLOSED, *UNDER_WAY}),
        BatchState.IMPORTED,
    ),
    BatchEvent.PARTLY_IMPORTED: (UNDER_WAY, BatchState.PARTIAL),
    BatchEvent.FAILED: (
        frozenset({None, BatchState.CLOSED, *UNDER_WAY}),
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
