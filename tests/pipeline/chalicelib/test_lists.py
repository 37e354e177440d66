"""What a page of a list asks DynamoDB for. What the lists hold is tested with each store."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from chalicelib.api import batch_pages, job_pages
from chalicelib.api.job_pages import JobQuery
from chalicelib.api.parameters import MAX_LIMIT
from chalicelib.stores import Stores
from chalicelib.stores.jobs import list_key
from chalicelib.stores.pages import MAX_EXAMINED
from chalicelib.stores.table import KEYS_PER_REQUEST

from contract.batch_states import BatchEvent
from contract.records import BatchState, JobStatus
from tests.pipeline import aws_mock
from tests.pipeline.chalicelib.store_builders import BATCH, a_batch, a_job, stores

__all__ = ["stores"]  # a fixture


@contextmanager
def reading_limits() -> Iterator[list[int | None]]:
    """How many items each query asks DynamoDB for, at most; None where it says nothing."""
    limits: list[int | None] = []

    def listen(call: str, parameters: Mapping[str, Any]) -> None:
        if call == "dynamodb:Query":
            limits.append(parameters.get("Limit"))

    with aws_mock.reading_parameters(listen):
        yield limits


def keep_listed(stores: Stores, count: int) -> None:
    """As many jobs, all of the study 1.2 and SUBMITTED, and as many CLOSED batches."""
    for number in range(count):
        job = a_job(f"j{number}", number)
        stores.jobs.create(job)
        stores.studies.link_job("1.2", list_key(job))
        batch = replace(a_batch(BatchState.CLOSED), batch_id=f"{BATCH[:-4]}{number:04}")
        stores.batches.move(batch, BatchEvent.CLOSED)


LISTS: dict[str, Callable[[Stores], Iterator[str]]] = {
    "jobs": lambda stores: stores.jobs.keys(None, "0", "9"),
    "jobs of a status": lambda stores: stores.jobs.keys(JobStatus.SUBMITTED, "0", "9"),
    "jobs of a study": lambda stores: stores.studies.job_keys("1.2", "0", "9"),
    "batches": lambda stores: stores.batches.ids(None),
    "batches of a state": lambda stores: stores.batches.ids(BatchState.CLOSED),
}


@pytest.mark.parametrize("stores", ["aws"], indirect=True)
def test_a_list_asks_dynamodb_for_keys_a_few_at_a_time_as_they_are_consumed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.stores.table.KEYS_PER_REQUEST", 3)
    keep_listed(stores, 8)
    for name, keys in LISTS.items():
        with reading_limits() as limits:
            found = keys(stores)
            assert len([*islice(found, 3)]) == 3
            assert limits == [3], name
            rest = [*found]
            assert (len(rest), limits) == (5, [3] * 3), name
        assert [*keys(stores)] == sorted(keys(stores), reverse=True), name


@pytest.mark.parametrize("stores", ["aws"], indirect=True)
def test_a_page_asks_dynamodb_for_not_much_more_than_it_shows(stores: Stores) -> None:
    keep_listed(stores, 5)
    for query in (JobQuery(), JobQuery(JobStatus.SUBMITTED), JobQuery(study_instance_uid="1.2")):
        with reading_limits() as limits:
            _, cursor = job_pages.page(stores, query, 2)
            jobs, _ = job_pages.page(stores, query, 2, cursor)
        assert [job.job_id for job in jobs] == ["j2", "j1"]
        assert limits == [KEYS_PER_REQUEST] * 2
    for state in (None, BatchState.CLOSED):
        with reading_limits() as limits:
            batches, _ = batch_pages.page(stores.batches, batch_pages.BatchQuery(state), 2)
        assert (len(batches), limits) == (2, [KEYS_PER_REQUEST])


def test_the_largest_page_is_one_request_for_keys_and_what_one_may_look_at_four() -> None:
    """Each with the key at its cursor, and the one behind it."""
    assert MAX_LIMIT + 2 <= KEYS_PER_REQUEST < 2 * MAX_LIMIT
    assert MAX_EXAMINED + 2 <= 4 * KEYS_PER_REQUEST
