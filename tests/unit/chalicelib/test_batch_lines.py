"""What the index by state shows of a batch is what a line has, and nothing else.

A line's names stand in three places: the index, which AWS has as it was deployed and does not
change in place; the line itself; and how the one is read as the other.
"""

from dataclasses import fields, replace
from datetime import timedelta

from chalicelib.stores.batches import BatchLine, line_of
from chalicelib.stores.items import batch_row, line_from_item
from chalicelib.stores.schema import BATCH_TABLE, BATCHES_BY_STATE

from contract.records import BatchState
from tests.unit.chalicelib.builders import DATASTORE, NOW, a_batch

(BY_STATE,) = [index for index in BATCH_TABLE.indexes if index.name == BATCHES_BY_STATE]
WHOLE = replace(
    a_batch(BatchState.IMPORTING), datastore_id=DATASTORE, urgent=True, job_id="job1",
    closed_at=NOW + timedelta(seconds=1), admitted_at=NOW + timedelta(seconds=2),
)  # fmt: skip


def test_a_line_is_read_from_what_the_index_shows() -> None:
    row = batch_row(WHOLE)
    assert line_from_item({name: row[name] for name in (*BY_STATE.key, *BY_STATE.shows)}) == (
        line_of(WHOLE)
    )
    # None of it would look the same if it were not there.
    assert all(getattr(line_of(WHOLE), each.name) for each in fields(BatchLine))


def test_the_index_shows_nothing_that_a_line_does_not_have() -> None:
    assert len(BY_STATE.shows) == len(fields(BatchLine)) - len(BATCH_TABLE.key)
