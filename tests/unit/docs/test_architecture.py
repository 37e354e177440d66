"""The page about the tables says what the code has, and what its writes cost."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.events.facts import dropped_event
from chalicelib.imports.deletion import REASON
from chalicelib.settings import TableSettings
from chalicelib.stores import items
from chalicelib.stores.image_sets import image_set_key
from chalicelib.stores.instances import copy_of
from chalicelib.stores.outbox import event_item
from chalicelib.stores.schema import (
    BATCH_TABLE,
    INSTANCE_TABLE,
    JOB_TABLE,
    SCHEMA,
    Index,
    Schema,
)

from bench.pipeline.meter import write_units
from contract.records import BatchState, Counts, InstanceState, JobRecord, JobStatus
from infra.deploy.templates import REPOSITORY
from tests.unit.chalicelib.builders import (
    BATCH,
    NEWER_BATCH,
    NOW,
    a_batch,
    an_instance,
    instance_row,
)

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
Cells = tuple[str, ...]


def table_under(header: str) -> Iterator[Cells]:
    """The cells of a table's rows, without code marks."""
    lines = PAGE.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(header))
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            return
        yield tuple(cell.strip().replace("`", "") for cell in line.split("|")[1:-1])


def documented() -> dict[str, tuple[tuple[str, ...], dict[str, Index]]]:
    found: dict[str, tuple[tuple[str, ...], dict[str, Index]]] = {}
    name = ""
    for cells in table_under("| table | partition key"):
        if cells[0]:
            name = cells[0]
            found[name] = tuple(filter(None, cells[1:3])), {}
        else:
            index = Index(cells[3], cells[4], cells[5], tuple(cells[6].split()))
            found[name][1][index.name] = index
    return found


def test_the_page_has_each_table_and_index() -> None:
    names = TableSettings()
    assert documented() == {
        each.name(names): (each.key, {index.name: index for index in each.indexes})
        for each in SCHEMA
    }


def test_the_page_says_who_asks_each_table_and_index() -> None:
    assert all(cells[7] for cells in table_under("| table | partition key"))


BATCHES = [
    replace(a_batch(BatchState.OPEN), owner="task", lease_expires_at=NOW),
    replace(a_batch(BatchState.OPEN), owner="task", lease_expires_at=NOW + timedelta(seconds=60)),
    replace(a_batch(BatchState.CLOSED), closed_at=NOW),
    replace(a_batch(BatchState.IMPORTING), closed_at=NOW, admitted_at=NOW),
    replace(a_batch(BatchState.IMPORTING), closed_at=NOW, admitted_at=NOW, job_id="j"),
]
ANNOUNCED = {"due": "announce", "dueAt": "2026-11-23"}
STARTED = JobRecord(
    "0" * 32, JobStatus.SUBMITTED, BATCH, "0" * 32, "arn:aws:iam::123456789012:role/" + "x" * 64,
    f"s3://a-bucket-of-this-name/instances/{BATCH}/", f"s3://another-bucket-of-this/{BATCH}/" * 2,
    NOW, "CT1", Counts(500), execution_arn="arn:aws:states:us-east-1:123456789012:" + "x" * 120,
    study_instance_uid="1." + "2" * 62, series_instance_uid="1." + "2" * 62,
)  # fmt: skip
ENDED = replace(STARTED, job_status=JobStatus.COMPLETED, image_set_ids=("0" * 32,) * 3)
ROW = instance_row(BATCH, an_instance("1." + "2" * 62), InstanceState.RECEIVED, NOW)

GONE: items.Item = {}
# Before and after; several, where the page counts them as one.
Writes = list[tuple[items.Item | None, items.Item]]
# A transaction costs twice in the table; the indexes follow it as they follow any write.
IN_A_TRANSACTION = {
    "a batch that has compared the bytes takes the row",
    "a batch makes a row beside the first",
    "a row takes the place of the first with its checksum",
}


def batch_writes() -> dict[str, Writes]:
    opened, renewed, closed, admitted, started = map(items.batch_row, BATCHES)
    imported = {**started, "state": "IMPORTED", **ANNOUNCED}
    failed = {**started, "state": "FAILED", **ANNOUNCED}
    announced = {**imported, "due": "expire"}
    return {
        "a batch is opened": [(None, opened)],
        "its lease is renewed": [(opened, renewed)],
        "it is closed": [(renewed, closed)],
        "it is admitted": [(closed, admitted)],
        "its execution died": [(started, {**started, "state": "STALLED"})],
        "it gets its next execution": [
            ({**started, "state": "STALLED"}, {**started, "attempt": 1, "admittedAt": "2026-11-23"})
        ],
        "the start of its job is noted": [(admitted, {**admitted, "startAskedAt": "2026-11-23"})],
        "it gets its job": [(admitted, started)],
        "it is imported": [(started, imported)],
        "its end is announced": [(imported, announced)],
        "the same of a batch that has failed": [(failed, not_due(failed))],
        "its objects are deleted": [(announced, not_due(announced))],
        "its retry is noted": [(failed, {**failed, "retriedAs": NEWER_BATCH})],
    }


def not_due(item: items.Item) -> items.Item:
    return {name: value for name, value in item.items() if name not in ("due", "dueAt")}


def other_writes() -> dict[str, Writes]:
    """Of what else is in the table of batches."""
    event = event_item(dropped_event("quarantine/not-part10/" + "0" * 64, "not-part10", NOW))
    request = {"batchId": f"retry:{BATCH}", "newBatchId": NEWER_BATCH, "reason": "x" * 500}
    image_set = {"batchId": image_set_key("0" * 32), "studyInstanceUID": "1." + "2" * 62}
    free = {"batchId": "admission", "asked": 1, "recent": ["x" * 16] * 10}
    held = {**free, "holder": "0" * 32, "heldUntil": "2026-11-23"}
    return {
        "an event is kept": [(None, event)],
        "an event that was kept is sent": [(event, not_due(event))],
        "an operator's request is kept": [(None, request)],
        "an image set is noted": [(None, image_set)],
        "its deletion is noted": [(image_set, {**image_set, "deletedAt": "2026-11-23"})],
        "the gate or a lock is taken": [(free, held)],
        "it is held on to, or left": [(held, free)],
    }


def job_writes() -> dict[str, Writes]:
    running = replace(STARTED, job_status=JobStatus.IN_PROGRESS)
    started, seen, ended = map(items.job_row, (STARTED, running, ENDED))
    return {
        "a job is started": [(None, started)],
        "it is seen running": [(started, seen)],
        "it has ended": [(seen, ended)],
    }


def instance_writes() -> dict[str, Writes]:
    imported = replace(ROW, state=InstanceState.IMPORTED)
    deleted = replace(imported, state=InstanceState.DELETED, reason=REASON)
    others = replace(ROW, batch_id=NEWER_BATCH)
    row, there, gone, taken = map(items.instance_row, (ROW, imported, deleted, others))
    copy, others_copy = (items.instance_row(copy_of(each)) for each in (ROW, others))
    return {
        "an instance is registered": [(None, row)],
        "an instance is imported": [(row, there)],
        "its row becomes a retry's": [(row, taken)],
        "the same of a row that a batch's id names": [(None, others_copy), (copy, GONE)],
        # A row that is checked costs as one that is written.
        "a batch that has compared the bytes takes the row": [(row, taken), (copy, copy)],
        "a batch makes a row beside the first": [(None, others_copy), (row, row)],
        "a row is deleted": [(copy, GONE)],
        "a row takes the place of the first with its checksum": [(row, taken), (others_copy, GONE)],
        "an instance becomes DELETED": [(there, gone)],
    }


WRITES: dict[str, tuple[Schema, Writes]] = {
    name: (table, writes)
    for table, found in (
        (BATCH_TABLE, batch_writes()),
        (BATCH_TABLE, other_writes()),
        (JOB_TABLE, job_writes()),
        (INSTANCE_TABLE, instance_writes()),
    )
    for name, writes in found.items()
}


@pytest.mark.parametrize(
    "cells", [*table_under("| write | units")], ids=lambda cells: str(cells[0])
)
def test_a_write_costs_what_the_page_says(cells: Cells) -> None:
    table, writes = WRITES[cells[0]]
    units = sum(write_units(*each, table) for each in writes)
    alone = sum(write_units(*each, replace(table, indexes=())) for each in writes)
    twice = alone if cells[0] in IN_A_TRANSACTION else 0
    assert (cells[1], cells[2]) == (str(units + twice), str(units - alone))


def test_the_page_has_each_write_once() -> None:
    assert sorted(cells[0] for cells in table_under("| write | units")) == sorted(WRITES)
