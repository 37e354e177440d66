"""The REST resources over the in-memory twins."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.api import resources
from chalicelib.api.parameters import cursor_of, job_query, key_cursor, request
from chalicelib.api.views import MAX_IMAGE_SETS, MAX_LISTED, instance_view, study_view
from chalicelib.errors import BadParameter, NotFound
from chalicelib.imports.failure import record_failure
from chalicelib.imports.outcome import MAX_WARNINGS
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.operations.journal import Entry, MemoryJournal, numbered
from chalicelib.operations.retry import retry_subject
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Blocked, Work
from chalicelib.stores.items import batch_item
from chalicelib.stores.jobs import list_key
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from hypothesis import given
from hypothesis import strategies as st

from contract.checksums import Checksum
from contract.keys import InstanceKey, manifest_key
from contract.manifest import Manifest
from contract.records import BatchState, InstanceState, JobStatus
from contract.times import to_iso
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_batch,
    a_context,
    a_manifest,
    an_instance,
    instance_row,
    keep_batch,
    memory_stores,
    overwrite,
    rows_by_uid,
    the_row,
)


@pytest.fixture
def stores() -> Stores:
    stores = memory_stores(a_manifest(3))
    start_import(EXECUTION, a_context(stores, FakeHealthImaging()))
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


@pytest.mark.parametrize("job_id", ["", "nope", "x" * 5_000, "\u00e9"])
def test_a_job_that_cannot_be_is_not_found(stores: Stores, job_id: str) -> None:
    with pytest.raises(NotFound):
        resources.get_job(stores, job_id)


def test_jobs_are_filtered_and_cut_into_pages(stores: Stores) -> None:
    first = stores.jobs.get("job1")
    assert first is not None
    for number in range(2, 6):
        later = first.submitted_at + timedelta(minutes=number)
        job = replace(first, job_id=f"job{number}", submitted_at=later)
        stores.jobs.create(job)
        stores.studies.link_job("1.2", list_key(job))
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


def test_an_instance_that_another_batch_imports_says_which(stores: Stores) -> None:
    row = the_row(stores, "1.2.3.1")
    overwrite(stores.instances, [replace(row, batch_id=NEWER_BATCH)])
    moved, stayed, _ = instances(stores)["instances"]
    assert moved["duplicateOfBatchId"] == NEWER_BATCH
    assert "duplicateOfBatchId" not in stayed


def test_an_instance_without_a_row_is_shown_as_received() -> None:
    stores = memory_stores(a_manifest(1))
    started = memory_stores(a_manifest(1))
    start_import(EXECUTION, a_context(started, FakeHealthImaging()))
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
    rows = rows_by_uid(stores)
    done = replace(rows["1.2.3.1"], state=InstanceState.IMPORTED)
    lost = replace(rows["1.2.3.2"], state=InstanceState.FAILED, reason="why")
    overwrite(stores.instances, [done, lost])
    study = resources.get_study(stores, "1.2")
    assert study["receivedCount"] == 3
    assert (study["importingCount"], study["importedCount"], study["failedCount"]) == (1, 1, 1)
    assert (study["jobIds"], study["batchIds"]) == (["job1"], [BATCH])
    assert [each["reason"] for each in study["failed"]] == ["why"]


def test_a_study_lists_a_bounded_number_of_failures(stores: Stores) -> None:
    row = the_row(stores, "1.2.3.1")
    lost = replace(row, state=InstanceState.FAILED, reason="why")
    many = [replace(lost, sop_instance_uid=f"1.9.{each}") for each in range(MAX_LISTED + 5)]
    overwrite(stores.instances, many)
    study = resources.get_study(stores, "1.2")
    assert len(study["failed"]) == MAX_LISTED
    assert study["failedCount"] == MAX_LISTED + 5


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


def test_a_study_tells_conflicts_failures_and_non_primary(stores: Stores) -> None:
    rows = rows_by_uid(stores)
    second = replace(rows["1.2.3.1"], state=InstanceState.IMPORTED, is_primary=False)
    failed = replace(rows["1.2.3.2"], state=InstanceState.FAILED)
    other = replace(rows["1.2.3.1"], checksum=Checksum.of(b"other bytes"))
    overwrite(stores.instances, [second, failed, other])
    study = resources.get_study(stores, "1.2")
    assert (study["nonPrimaryCount"], study["conflictCount"], study["failedCount"]) == (
        1,
        1,
        1,
    )
    assert [each["sopInstanceUID"] for each in study["failed"]] == ["1.2.3.2"]
    assert (study["instanceCount"], study["receivedCount"]) == (3, 4)
    assert [each["sopInstanceUID"] for each in study["conflicts"]] == ["1.2.3.1"]


def test_an_instance_is_found_by_its_uid(stores: Stores) -> None:
    (found,) = resources.get_instance(stores, MemoryJournal(), "1.2.3.1", {})["instances"]
    assert found["state"] == "IMPORTING"
    with pytest.raises(NotFound):
        resources.get_instance(stores, MemoryJournal(), "1.9", {})
    with pytest.raises(BadParameter, match="sopInstanceUID"):
        resources.get_instance(stores, MemoryJournal(), "DOE^JOHN", {})


def test_an_instance_is_shown_in_every_study_and_content_page_by_page(stores: Stores) -> None:
    row = the_row(stores)
    moved = replace(row, study_instance_uid="1.9", state=InstanceState.IMPORTED)
    other = replace(row, checksum=Checksum.of(b"other bytes"), state=InstanceState.FAILED)
    overwrite(stores.instances, [moved, other])
    first = resources.get_instance(stores, MemoryJournal(), "1.2.3.1", {"limit": "2"})
    second = resources.get_instance(
        stores, MemoryJournal(), "1.2.3.1", {"limit": "2", "cursor": first["nextCursor"]}
    )
    found = [*first["instances"], *second["instances"]]
    assert sorted((each["studyInstanceUID"], each["state"]) for each in found) == [
        ("1.2", "FAILED"),
        ("1.2", "IMPORTING"),
        ("1.9", "IMPORTED"),
    ]
    assert "nextCursor" not in second
    assert resources.get_study(stores, "1.9")["importedCount"] == 1
    assert resources.get_study(stores, "1.2")["conflictCount"] == 1


def test_a_batch_tells_which_retry_was_the_last_and_why_it_was_made(stores: Stores) -> None:
    journal = MemoryJournal()
    retries = [BATCH.replace("0930", time) for time in ("0931", "0932", "0933")]
    entries = [
        Entry(retry_subject(BATCH), retries[0], "the first", NOW),
        Entry(numbered(retry_subject(BATCH), 2), retries[1], "the second", NOW),
        Entry(retry_subject(BATCH, force=True), retries[2], "by force", NOW),
    ]
    assert resources.get_batch(stores, journal, BATCH)["state"] == "IMPORTING"
    for entry in entries:
        before = resources.get_batch(stores, journal, BATCH)
        journal.begin(entry)  # asked for, and not made yet
        assert resources.get_batch(stores, journal, BATCH) == before
        assert stores.batches.link_retry(BATCH, entry.batch_id)
        view = resources.get_batch(stores, journal, BATCH)
        assert (view["retriedAs"], view["retryReason"]) == (entry.batch_id, entry.reason)
    with pytest.raises(NotFound):
        resources.get_batch(stores, journal, NEWER_BATCH)
    with pytest.raises(BadParameter, match="batchId"):
        resources.get_batch(stores, journal, "x" * 5_000)


def many_batches(count: int, **titles: str) -> Stores:
    """Four of them opened at each time, in all states in turn."""
    stores, states = memory_stores(), list(BatchState)
    batches = stores.batches
    assert isinstance(batches, MemoryBatches)
    for number in range(count):
        batch_id = f"20261123T093000Z-{number:016x}"
        batch = a_batch(states[number % len(states)], batch_id)
        batches.rows[batch_id] = replace(
            batch,
            opened_at=NOW + timedelta(seconds=number // 4),
            calling_ae_title=titles.get(f"n{number}", "CT1"),
        )
    return stores


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
@pytest.mark.parametrize("filters", [{}, {"callingAeTitle": "MR1"}, {"state": "FAILED"}])
def test_pages_of_batches_lose_and_repeat_nothing(
    limit: int, filters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.stores.pages.MAX_EXAMINED", 8)
    stores = many_batches(32, **dict.fromkeys(["n0", "n1", "n13", "n29"], "MR1"))
    given: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(40):
        answer = resources.list_batches(stores, filters | {"limit": str(limit)} | cursor)
        given += [batch["batchId"] for batch in answer["batches"]]
        assert len(answer["batches"]) <= limit
        if "nextCursor" not in answer:
            break
        cursor = {"cursor": answer["nextCursor"]}
    else:
        pytest.fail("the pages never end")
    whole = stores.batches.get_many(list(stores.batches.ids(None))).values()
    assert given == [each.batch_id for each in whole if filters.items() <= batch_item(each).items()]
    assert len(given) in (32, 4)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [({"state": "DONE"}, "state"), ({"callingAeTitle": ""}, "callingAeTitle")],
)
def test_a_wrong_filter_of_batches_is_named(query: dict[str, str], parameter: str) -> None:
    with pytest.raises(BadParameter, match=parameter):
        resources.list_batches(many_batches(1), query)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 10_000, "body"),
        (b" " * 20_000, "body"),
        (b"{}", "reason"),
        (b'{"reason": 1}', "reason"),
        (b'{"reason": " "}', "reason"),
        (b'{"reason": "a\\nb"}', "reason"),
        (json.dumps({"reason": "x" * 501}).encode(), "reason"),
        (b'{"reason": "x", "colour": "red"}', "colour"),
        (b'{"reason": "x", "key": ""}', "key"),
    ],
)
def test_a_body_that_does_not_say_why_is_refused_by_name(body: bytes, parameter: str) -> None:
    with pytest.raises(BadParameter) as caught:
        request(body, frozenset({"key"}))
    assert caught.value.parameter == parameter


json_objects = st.recursive(
    st.none() | st.text(),
    lambda inner: st.dictionaries(st.sampled_from(["reason", "key", "x"]), inner),
)


@given(st.binary() | json_objects.map(lambda each: json.dumps(each).encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with suppress(BadParameter):
        assert request(body, frozenset({"key"})).reason.strip()


def test_no_answer_passes_what_a_lambda_may_return() -> None:
    """6 MB, and the body is escaped once more into the answer to API Gateway."""
    worst = replace(
        instance_row(BATCH, an_instance("1.2.3.1"), InstanceState.FAILED, NOW),
        reason="\u00e9" * 500,
        warnings=("W" * 100,) * MAX_WARNINGS,
        beside=str(Checksum.of(b"other bytes")),
    )
    rows = [
        replace(worst, sop_instance_uid=f"1.2.{n}", job_id=f"{n:064}", batch_id=f"{n:033}")
        for n in range(5_000)
    ]
    stores = memory_stores(a_manifest(1))
    start_import(EXECUTION, a_context(stores, FakeHealthImaging()))
    job = stores.jobs.get("job1")
    assert job is not None
    image_sets = tuple(f"{number:032}" for number in range(5_000))
    for number in range(100):
        stores.jobs.create(replace(job, job_id=f"x{number}", image_set_ids=image_sets))
    jobs = resources.list_jobs(stores, {"limit": "100"})
    study = study_view("1.2", rows)
    page = {"instances": [instance_view(row) for row in rows[:100]]}
    assert max(len(json.dumps(json.dumps(each))) for each in (jobs, study, page)) < 4_000_000
    shown = jobs["jobs"][0]
    assert (len(shown["imageSetIds"]), shown["imageSetCount"]) == (MAX_IMAGE_SETS, 5_000)


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
        key = key_cursor({"cursor": text})
        assert key is not None
        assert key_cursor({"cursor": cursor_of(key)}) == key


@pytest.mark.parametrize("text", ["", "A", "====", "AAAA" * 100, cursor_of("a\nb"), "w6k="])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="cursor"):
        resources.list_jobs(memory_stores(), {"cursor": text})


@given(st.datetimes(timezones=st.just(NOW.tzinfo)), st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_a_cursor_survives_the_round_trip(last: Any, job_id: str) -> None:
    key = f"{to_iso(last)}#{job_id}"
    assert key_cursor({"cursor": cursor_of(key)}) == key


def test_an_ended_job_is_shown_with_its_end(stores: Stores) -> None:
    job = stores.jobs.get("job1")
    assert job is not None
    stores.jobs.put(replace(job, job_status=JobStatus.FAILED, ended_at=NOW, message="why"))
    shown = resources.get_job(stores, "job1")
    assert (shown["endedAt"], shown["message"]) == ("2026-11-23T09:30:00.000000Z", "why")


def of_two_studies(batch_id: str = BATCH) -> Manifest:
    manifest = a_manifest(2, batch_id=batch_id)
    one, two = manifest.instances
    key = InstanceKey(batch_id, "1.9", two.series_instance_uid, two.sop_instance_uid)
    moved = replace(two, key=str(key), study_instance_uid="1.9")
    return replace(manifest, instances=(one, moved))


def begins(stores: Stores) -> None:
    start_import(EXECUTION, a_context(stores, FakeHealthImaging()))


def fails_at_once(stores: Stores) -> None:
    error = {"Error": "ImportRefused", "Cause": "{}"}
    record_failure(EVENT | {"error": error}, a_context(stores, FakeHealthImaging()))


def is_recorded_again(stores: Stores) -> None:
    batches = stores.batches
    assert isinstance(batches, MemoryBatches)
    batches.rows[BATCH] = replace(batches.rows[BATCH], job_id="job1")
    check_status(EXECUTION, "job1", a_context(stores, FakeHealthImaging()))


def all_are_duplicates(stores: Stores) -> None:
    manifest = of_two_studies(NEWER_BATCH)
    rows = [
        replace(instance_row(NEWER_BATCH, each, InstanceState.IMPORTED, NOW), image_set_id="a" * 32)
        for each in manifest.instances
    ]
    overwrite(stores.instances, rows)
    keep_batch(stores, manifest)
    service = FakeHealthImaging()
    start_import(EXECUTION, a_context(stores, service))
    assert service.started == []


@pytest.mark.parametrize("way", [begins, fails_at_once, is_recorded_again, all_are_duplicates])
def test_a_job_of_two_studies_is_listed_with_each_of_them(way: Callable[[Stores], None]) -> None:
    stores = memory_stores(of_two_studies())
    way(stores)
    (job,) = resources.list_jobs(stores, {})["jobs"]
    assert "studyInstanceUID" not in job
    for study in ("1.2", "1.9"):
        assert resources.list_jobs(stores, {"study": study})["jobs"] == [job]
    assert resources.list_jobs(stores, {"study": "1.2.9"})["jobs"] == []


def test_pages_of_what_is_blocked_lose_and_repeat_nothing_though_it_is_tried_meanwhile(
    stores: Stores,
) -> None:
    subjects = [f"2026112309300{number}Z-0001020304050607" for number in range(5)]
    records = [Blocked(Work.RECOVERY, each, "x", "y", NOW, NOW, NOW) for each in subjects]
    for record in (*records, replace(records[0], work=Work.EXPIRY)):
        stores.blocked.put(record)
    seen, query = [], {"limit": "2"}
    while True:
        answer = resources.list_blocked(stores, query)
        seen += [(each["work"], each["subject"]) for each in answer["blocked"]]
        for _, subject in seen:  # what was shown is put off
            known = stores.blocked.get(Work.RECOVERY, subject)
            if known:
                stores.blocked.put(replace(known, next_try_at=NOW + timedelta(hours=1)))
        if "nextCursor" not in answer:
            break
        query = {"limit": "2", "cursor": answer["nextCursor"]}
    assert seen == [("expiry", subjects[0]), *(("recovery", each) for each in subjects)]
