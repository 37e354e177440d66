"""Where batches are kept. Each step of a batch is written once, on a condition."""

from typing import Protocol

from contract.records import BatchRecord, BatchState

ENDED = frozenset({BatchState.IMPORTED, BatchState.PARTIAL, BatchState.FAILED})


class BatchStore(Protocol):
    """Batches by id. A write that comes second returns False and changes nothing."""

    def get(self, batch_id: str) -> BatchRecord | None:
        """The batch, or None."""
        ...

    def create(self, batch: BatchRecord) -> bool:
        """Keep a batch the pipeline had not seen."""
        ...

    def start(self, batch: BatchRecord) -> bool:
        """Keep the batch with its job, unless it has a job already."""
        ...

    def end(self, batch: BatchRecord) -> bool:
        """Keep the batch's end, unless it has ended already."""
        ...
