"""What is told of an instance between its receipt and its end."""

from dataclasses import replace

import pytest
from chalicelib.api.progress import Progress
from chalicelib.stores.memory import MemoryBatches

from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    NOW,
    a_batch,
    an_instance,
    instance_row,
)

ROW = instance_row(BATCH, an_instance("1.2.3.1"), InstanceState.RECEIVED, NOW)


def batches(state: BatchState, job_id: str | None) -> MemoryBatches:
    store = MemoryBatches()
    store.rows[BATCH] = replace(a_batch(state), job_id=job_id)
    return store


@pytest.mark.parametrize("state", [BatchState.IMPORTING, BatchState.STALLED])
def test_it_is_importing_while_its_batchs_job_may_run(state: BatchState) -> None:
    shown = Progress(batches(state, "job1")).of(ROW)
    assert shown == replace(ROW, state=InstanceState.IMPORTING, job_id="job1")


@pytest.mark.parametrize(
    "store",
    [
        MemoryBatches(),
        batches(BatchState.CLOSED, None),
        batches(BatchState.IMPORTING, None),
        batches(BatchState.IMPORTED, "job1"),
    ],
    ids=["unknown", "closed", "admitted", "ended"],
)
def test_it_is_received_before_and_in_the_moment_behind(store: MemoryBatches) -> None:
    assert Progress(store).of(ROW) == ROW


def test_its_end_needs_no_batch() -> None:
    ended = replace(ROW, state=InstanceState.FAILED, reason="why")
    assert Progress(MemoryBatches()).of(ended) is ended
