"""An instance is IMPORTING while its batch's job runs: the batch's record tells, not its own row.

A write for each instance at its job's start would be a third of what the ledger costs.
"""

from dataclasses import dataclass, field, replace

from chalicelib.stores.batches import BatchStore
from contract.batch_states import UNDER_WAY
from contract.records import BatchRecord, InstanceRecord, InstanceState


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows as they are shown, for one answer: each batch is read once."""

    batches: BatchStore
    _read: dict[str, BatchRecord | None] = field(default_factory=dict)

    def of(self, row: InstanceRecord) -> InstanceRecord:
        """The row; of one that is RECEIVED, how far its batch is."""
        if row.state is not InstanceState.RECEIVED:
            return row
        if row.batch_id not in self._read:
            self._read[row.batch_id] = self.batches.get(row.batch_id)
        batch = self._read[row.batch_id]
        if batch is None or batch.state not in UNDER_WAY or batch.job_id is None:
            return row
        return replace(row, state=InstanceState.IMPORTING, job_id=batch.job_id)
