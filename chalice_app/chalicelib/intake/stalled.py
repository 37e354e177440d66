"""Batches whose execution ended before they did: found, shown as STALLED, and started again.

An execution ends after its batch. So where it has ended, and the batch has not, it died: it was
stopped by hand, its history was full, the definition was wrong. Whether it runs is asked by
starting it once more under its own name, which AWS takes once in 90 days: while it runs, that
starts nothing; where a crash after the admission prevented it, it begins now.

============================ ======================================================================
it dies                      then
============================ ======================================================================
an execution, at any step    the batch is STALLED once that is found; its next execution goes on
                             with what it finds, for each step is safe to repeat
every execution              each has the next number; there is no last one
the dispatcher, before it    the batch is IMPORTING with the number of an execution that does not
starts the next execution    exist: asking whether it runs starts it
============================ ======================================================================
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from chalicelib.errors import RowUnreadable
from chalicelib.imports.execution import Execution
from chalicelib.intake.admission import due_again, last_start
from chalicelib.logs import describe, named
from chalicelib.stores.batches import BatchLine, BatchStore
from contract.batch_states import BatchEvent
from contract.records import BatchRecord, BatchState

# How long an execution is not asked after. Most have ended by then.
_UNASKED = timedelta(minutes=5)
# IMPORTING and STALLED ones that one invocation reads, a few milliseconds each.
_MOST_READ = 100
_log = structlog.get_logger()


class Workflow(Protocol):
    """The state machine."""

    def start(self, execution: Execution, attempt: int = 0) -> bool:
        """See that a batch's execution runs; False if its ``attempt``-th has ended already.

        Raises ServiceUnavailable.
        """
        ...


def find_dead(
    importing: Iterable[BatchLine],
    batches: BatchStore,
    workflow: Workflow,
    bucket: str,
    now: datetime,
) -> list[BatchRecord]:
    """Make STALLED what is IMPORTING without an execution; returns these batches.

    Where an execution cannot be asked after, the batch stays as it is, and so do those after it:
    the next invocation asks again.
    """
    found = []
    try:
        for line in asked_after(importing, now):
            batch = _made_stalled(line.batch_id, batches, workflow, bucket)
            found += [batch] if batch else []
    except Exception as error:  # noqa: BLE001 - the batches that wait must not suffer for it
        _log.warning("executions_not_asked_after", **describe(error))
    return found


def asked_after(importing: Iterable[BatchLine], now: datetime) -> list[BatchLine]:
    """The batches whose executions are asked after at ``now``, others in each minute if many."""
    old = sorted(
        (line for line in importing if now - last_start(line) > _UNASKED),
        key=lambda line: line.batch_id,
    )
    if len(old) <= _MOST_READ:
        return old
    first = int(now.timestamp() // 60) * _MOST_READ % len(old)
    return [*old[first:], *old[:first]][:_MOST_READ]


def _made_stalled(
    batch_id: str, batches: BatchStore, workflow: Workflow, bucket: str
) -> BatchRecord | None:
    batch = readable(batches, batch_id)
    if batch is None or batch.state is not BatchState.IMPORTING:
        return None  # the index was late
    if workflow.start(Execution.of(batch_id, bucket), batch.attempt):
        return None
    if not batches.move(_step_of(batch), BatchEvent.STALLED):
        return None  # it has ended meanwhile
    _log.warning("import_stalled", batch_id=batch_id, attempt=batch.attempt)
    return replace(batch, state=BatchState.STALLED)


def readable(batches: BatchStore, batch_id: str) -> BatchRecord | None:
    """The batch; None, and a line in the log, where its record is not what the product writes."""
    try:
        return batches.get(batch_id)
    except RowUnreadable:
        _log.error("batch_unreadable", batch_id=named(batch_id))
        return None


def to_start_again(
    stalled: Sequence[BatchLine], found: Sequence[BatchRecord], batches: BatchStore, now: datetime
) -> list[BatchRecord]:
    """Of the STALLED batches, and those just ``found`` to be, whose next execution is due."""
    known = {batch.batch_id for batch in found}
    lines = [line for line in sorted(stalled, key=last_start) if line.batch_id not in known]
    # Those that were started first: each gets its turn, as no interval is longer than an hour.
    read = (readable(batches, line.batch_id) for line in lines[:_MOST_READ])
    others = (batch for batch in read if batch and batch.state is BatchState.STALLED)
    return due_again([*found, *others], now)


def start_again(
    batch: BatchRecord, batches: BatchStore, workflow: Workflow, bucket: str, now: datetime
) -> BatchRecord | None:
    """Start a STALLED batch's next execution, whose number is noted first; None if it has none.

    Raises ServiceUnavailable: the execution is then started when it is asked after.
    """
    again = replace(_step_of(batch), attempt=batch.attempt + 1, admitted_at=now)
    if not batches.move(again, BatchEvent.RESUMED):
        return None  # it has ended meanwhile
    if workflow.start(Execution.of(batch.batch_id, bucket), again.attempt):
        _log.warning("import_resumed", batch_id=batch.batch_id, attempt=again.attempt)
        return again
    # The name was taken: somebody deleted the record, and another one counts from 0 again.
    batches.move(replace(again, admitted_at=last_start(batch)), BatchEvent.STALLED)
    return None


def _step_of(batch: BatchRecord) -> BatchRecord:
    """Without what others may be writing into the record at this moment."""
    return replace(batch, start_asked_at=None, job_id=None, message=None)
