"""An instance is IMPORTING while its batch's job runs: the batch's record tells, not its own row.

A write for each instance at its job's start would be a third of what the ledger costs.
"""

from dataclasses import dataclass, field, replace

from chalicelib.stores.batches import BatchStore
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows as they are shown, for one answer: each batch is read once."""

    batches: BatchStore
    _read: dict[str, BatchRecord | None] = field(default_factory=dict)

    def of(self, row: InstanceRecord) -> InstanceRecord:
        """The row; of one that is RECEIVED, how far its batch is."""
        if row.state is not InstanceState.RECEIVED:
            return row
        batch = self.batch(row.batch_id)
        if batch is None or batch.state is not BatchState.IMPORTING or batch.job_id is None:
            return row
        return replace(row, state=InstanceState.IMPORTING, job_id=batch.job_id)

    def batch(self, batch_id: str) -> BatchRecord | None:
        """The batch's record."""
        if batch_id not in self._read:
            self._read[batch_id] = self.batches.get(batch_id)
        return self._read[batch_id]
