"""The page about the tables says what the code has, and what its writes cost."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib.imports.rows import instance_row
from chalicelib.settings import TableSettings
from chalicelib.stores import items
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
from tests.unit.chalicelib.builders import BATCH, NOW, a_batch, an_instance

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


def written() -> dict[str, tuple[items.Item | None, items.Item, Schema]]:
    opened, renewed, closed, admitted, started = map(items.batch_row, BATCHES)
    imported = {**started, "state": "IMPORTED", **ANNOUNCED}
    rows = [items.instance_row(each) for each in (ROW, replace(ROW, state=InstanceState.IMPORTED))]
    jobs = [items.job_row(each) for each in (STARTED, ENDED)]
    return {
        "a batch is opened": (None, opened, BATCH_TABLE),
        "its lease is renewed": (opened, renewed, BATCH_TABLE),
        "it is closed": (renewed, closed, BATCH_TABLE),
        "it is admitted": (closed, admitted, BATCH_TABLE),
        "it gets its job": (admitted, started, BATCH_TABLE),
        "it is imported": (started, imported, BATCH_TABLE),
        "a job is started": (None, jobs[0], JOB_TABLE),
        "it has ended": (jobs[0], jobs[1], JOB_TABLE),
        "an instance is registered": (None, rows[0], INSTANCE_TABLE),
        "an instance is imported": (rows[0], rows[1], INSTANCE_TABLE),
    }


@pytest.mark.parametrize(
    "cells", [*table_under("| write | units")], ids=lambda cells: str(cells[0])
)
def test_a_write_costs_what_the_page_says(cells: Cells) -> None:
    before, after, table = written()[cells[0]]
    units = write_units(before, after, table)
    alone = write_units(before, after, replace(table, indexes=()))
    assert (cells[1], cells[2]) == (str(units), str(units - alone))
