"""The REST resources over the in-memory twins."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.api import resources
from chalicelib.api.parameters import job_query
from chalicelib.api.views import MAX_FAILED
from chalicelib.errors import BadParameter, NotFound
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores.jobs import Cursor
from chalicelib.stores.memory import MemoryObjects
from hypothesis import given
from hypothesis import strategies as st

from contract.keys import manifest_key
from contract.records import InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    SETTINGS,
    FakeHealthImaging,
    a_manifest,
    memory_stores,
)


@pytest.fixture
def stores() -> Stores:
    stores = memory_stores(a_manifest(3))
    start_import(EXECUTION, stores, FakeHealthImaging(), SETTINGS, NOW)
    return stores


def instances(stores: Stores, **query: str) -> Any:
    return resources.list_job_instances(stores, BUCKET, "job1", query)


def test_a_job_is_shown_by_the_names_of_its_table(stores: Stores) -> None:
    job = resources.get_job(stores, "job1")
    assert job["jobStatus"] == "SUBMITTED"
    assert job["submittedAt"] == "2026-11-23T09:30:00.000000Z"
    assert job["instanceCount"] == 3
    assert "endedAt" not in job
    json.dumps(job)


@pytest.mark.parametrize("job_id", ["nope", "x" * 5_000, "\u00e9"])
def test_a_job_that_cannot_be_is_not_found(stores: Stores, job_id: str) -> None:
    with pytest.raises(NotFound):
        resources.get_job(stores, job_id)


def test_jobs_are_filtered_and_cut_into_pages(stores: Stores) -> None:
    first = stores.jobs.get("job1")
    assert first is not None
    for number in range(2, 6):
        later = first.submitted_at + timedelta(minutes=number)
        stores.jobs.create(replace(first, job_id=f"job{number}", submitted_at=later))
    answer = resources.list_jobs(stores, {"limit": "2"})
    assert [job["jobId"] for job in answer["jobs"]] == ["job5", "job4"]
    answer = resources.list_jobs(stores, {"limit": "3", "cursor": answer["nextCursor"]})
    assert [job["jobId"] for job in answer["jobs"]] == ["job3", "job2", "job1"]
    assert "nextCursor" not in answer
    window = {"from": "2026-11-23T09:32:00Z", "to": "2026-11-23T10:33:00+01:00"}
    assert [job["jobId"] for job in resources.list_jobs(stores, window)["jobs"]] == ["job3", "job2"]
    assert resources.list_jobs(stores, {"status": "COMPLETED"})["jobs"] == []
    assert len(resources.list_jobs(stores, {"study": "1.2", "status": "SUBMITTED"})["jobs"]) == 5


def test_a_jobs_instances_come_in_pages_of_its_manifest(stores: Stores) -> None:
    answer = instances(stores, limit="2")
    assert [each["sopInstanceUID"] for each in answer["instances"]] == ["1.2.3.1", "1.2.3.2"]
    answer = instances(stores, limit="2", cursor=answer["nextCursor"])
    assert [each["sopInstanceUID"] for each in answer["instances"]] == ["1.2.3.3"]
    assert "nextCursor" not in answer
    assert instances(stores, cursor="99")["instances"] == []


def test_an_instance_that_was_sent_again_says_where_it_went(stores: Stores) -> None:
    row = stores.instances.get_many(["1.2.3.1"])["1.2.3.1"]
    stores.instances.put_many([replace(row, batch_id=NEWER_BATCH)])
    moved, stayed, _ = instances(stores)["instances"]
    assert moved["supersededByBatchId"] == NEWER_BATCH
    assert "supersededByBatchId" not in stayed


def test_an_instance_without_a_row_is_shown_as_received() -> None:
    stores = memory_stores(a_manifest(1))
    started = memory_stores(a_manifest(1))
    start_import(EXECUTION, started, FakeHealthImaging(), SETTINGS, NOW)
    job = started.jobs.get("job1")
    assert job is not None
    stores.jobs.create(job)
    (each,) = instances(stores)["instances"]
    assert (each["state"], each["batchId"]) == ("RECEIVED", BATCH)


def test_instances_of_a_manifest_that_has_expired_are_not_found(stores: Stores) -> None:
    assert isinstance(stores.objects, MemoryObjects)
    del stores.objects.bodies[BUCKET, manifest_key(BATCH)]
    with pytest.raises(NotFound, match="manifest"):
        instances(stores)


def test_a_study_counts_every_state_and_names_the_failed(stores: Stores) -> None:
    rows = stores.instances.get_many(["1.2.3.1", "1.2.3.2"])
    done = replace(rows["1.2.3.1"], state=InstanceState.IMPORTED)
    lost = replace(rows["1.2.3.2"], state=InstanceState.FAILED, reason="why")
    stores.instances.put_many([done, lost])
    study = resources.get_study(stores, "1.2")
    assert study["receivedCount"] == 3
    assert (study["importingCount"], study["importedCount"], study["failedCount"]) == (1, 1, 1)
    assert (study["jobIds"], study["batchIds"]) == (["job1"], [BATCH])
    assert [each["reason"] for each in study["failed"]] == ["why"]


def test_a_study_lists_a_bounded_number_of_failures(stores: Stores) -> None:
    row = stores.instances.get_many(["1.2.3.1"])["1.2.3.1"]
    lost = replace(row, state=InstanceState.FAILED, reason="why")
    stores.instances.put_many(
        [replace(lost, sop_instance_uid=f"1.9.{number}") for number in range(MAX_FAILED + 5)]
    )
    study = resources.get_study(stores, "1.2")
    assert len(study["failed"]) == MAX_FAILED
    assert study["failedCount"] == MAX_FAILED + 5


def test_a_study_that_is_unknown_or_no_uid_is_told_apart(stores: Stores) -> None:
    with pytest.raises(NotFound):
        resources.get_study(stores, "1.9")
    with pytest.raises(BadParameter, match="studyInstanceUID"):
        resources.get_study(stores, "DOE^JOHN")


def test_times_are_utc_wherever_the_caller_is() -> None:
    assert job_query({"from": "2026-11-23"}).window.since == NOW.replace(hour=0, minute=0)
    assert job_query({"to": "2026-11-23T10:30+01:00"}).window.until == NOW


@pytest.mark.parametrize("when", ["0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "", "now"])
def test_a_time_outside_the_calendar_is_a_bad_parameter(when: str) -> None:
    with pytest.raises(BadParameter, match="from"):
        job_query({"from": when})


def test_a_year_of_three_digits_still_comes_before_this_one(stores: Stores) -> None:
    assert len(resources.list_jobs(stores, {"from": "0999-01-01"})["jobs"]) == 1


names = st.sampled_from(["status", "study", "from", "to", "limit", "cursor"]) | st.text()


@given(st.dictionaries(names, st.text() | st.sampled_from(["1", "1.2", "2026-11-23", "FAILED"])))
def test_any_query_is_answered_or_refused_by_name(query: dict[str, str]) -> None:
    stores = memory_stores(a_manifest(1))
    with suppress(BadParameter):
        json.dumps(resources.list_jobs(stores, query))
    with suppress(BadParameter, NotFound):
        json.dumps(resources.list_job_instances(stores, BUCKET, "job1", query))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_cursor_is_read_or_refused(text: str) -> None:
    with suppress(BadParameter):
        cursor = Cursor.parse(text)
        assert Cursor.parse(str(cursor)) == cursor


@given(st.datetimes(timezones=st.just(NOW.tzinfo)), st.lists(st.text(max_size=5), max_size=5))
def test_a_cursor_survives_the_round_trip(last: Any, seen: list[str]) -> None:
    assert Cursor.parse(str(Cursor(last, tuple(seen)))) == Cursor(last, tuple(seen))


def test_an_ended_job_is_shown_with_its_end(stores: Stores) -> None:
    job = stores.jobs.get("job1")
    assert job is not None
    stores.jobs.put(replace(job, job_status=JobStatus.FAILED, ended_at=NOW, message="why"))
    shown = resources.get_job(stores, "job1")
    assert (shown["endedAt"], shown["message"]) == ("2026-11-23T09:30:00.000000Z", "why")
    state = check_status(EXECUTION, "job1", stores, FakeHealthImaging(), SETTINGS, NOW)
    assert state["status"] == "FAILED"
