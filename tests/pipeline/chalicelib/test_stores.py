"""One contract for every store: the in-memory twins and DynamoDB behave alike."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain

import pytest
from chalicelib import aws
from chalicelib.api.job_pages import JobQuery, Window, page
from chalicelib.errors import ObjectMissing, ObjectTooLarge
from chalicelib.stores import Stores
from chalicelib.stores.batches import line_of
from chalicelib.stores.gate import DynamoGate, Gate, GateStore
from chalicelib.stores.jobs import job_id_of, list_key
from chalicelib.stores.memory import (
    MemoryGate,
)

from contract.batch_states import TRANSITIONS, BatchEvent
from contract.records import (
    BatchState,
    Counts,
    JobStatus,
)
from tests.pipeline.chalicelib.store_builders import (
    BATCH,
    BUCKET,
    LATER,
    NOW,
    a_batch,
    a_job,
    stores,
)

__all__ = ["stores"]  # a fixture


def test_a_job_comes_back_as_it_was_kept(stores: Stores) -> None:
    job = replace(
        a_job("j1"), series_instance_uid="1.2.3", study_date="20261123", image_set_ids=("a", "b"),
        ended_at=NOW, message="why", execution_arn="arn:x", counts=Counts(3, 2, 1, 1),
    )  # fmt: skip
    assert stores.jobs.create(job)
    assert stores.jobs.get("j1") == job
    assert stores.jobs.get("other") is None


def test_a_job_is_created_once_and_keeps_its_end(stores: Stores) -> None:
    assert stores.jobs.create(a_job("j1"))
    assert not stores.jobs.create(replace(a_job("j1"), message="again"))
    ended = a_job("j1", status=JobStatus.COMPLETED)
    assert stores.jobs.put(ended)
    assert not stores.jobs.put(a_job("j1", status=JobStatus.IN_PROGRESS))
    assert stores.jobs.get("j1") == ended


def test_a_job_that_is_kept_as_failed_is_corrected_and_one_that_completed_is_not(
    stores: Stores,
) -> None:
    failed = replace(a_job("j1"), job_status=JobStatus.FAILED)
    completed = replace(failed, job_status=JobStatus.COMPLETED)
    assert stores.jobs.correct(failed)
    assert stores.jobs.correct(completed)
    assert not stores.jobs.correct(failed)
    assert stores.jobs.get("j1") == completed


def test_keys_of_jobs_come_newest_first_of_all_or_of_one_status(stores: Stores) -> None:
    jobs = [a_job(f"j{minutes}", minutes, status) for minutes, status in enumerate(JobStatus)]
    for job in jobs:
        stores.jobs.create(job)
    keys = [list_key(job) for job in reversed(jobs)]
    assert [job_id_of(key) for key in keys] == ["j3", "j2", "j1", "j0"]
    assert list(stores.jobs.keys(None, "0", "9")) == keys
    assert list(stores.jobs.keys(None, keys[2], keys[1])) == keys[1:3]
    assert list(stores.jobs.keys(None, keys[1], keys[2])) == []
    for job in jobs:
        assert list(stores.jobs.keys(job.job_status, "0", "9")) == [list_key(job)]
    ended = replace(jobs[0], job_status=JobStatus.COMPLETED)
    assert stores.jobs.put(ended)
    assert list(stores.jobs.keys(JobStatus.SUBMITTED, "0", "9")) == []
    assert stores.jobs.get_many(["j0", "j9", "j1"]) == {"j0": ended, "j1": jobs[1]}


def test_the_jobs_of_a_study_come_newest_first(stores: Stores) -> None:
    keys = [list_key(a_job(f"j{minutes}", minutes)) for minutes in (0, 2, 1)]
    for key in keys:
        for _ in range(2):
            stores.studies.link_job("1.2", key)
    stores.studies.link_job("1.2.3", keys[0])
    assert list(stores.studies.job_keys("1.2", "0", "9")) == [keys[1], keys[2], keys[0]]
    assert list(stores.studies.job_keys("1.2", keys[2], keys[2])) == [keys[2]]
    assert list(stores.studies.job_keys("1.2", keys[1], keys[0])) == []
    assert list(stores.studies.job_keys("1.9", "0", "9")) == []
    assert stores.studies.get("1.2") is None


def pages(stores: Stores, query: JobQuery, limit: int) -> list[list[str]]:
    """The ids on each page; no list in these tests has more than 20 pages."""
    given, cursor = [], None
    for _ in range(20):
        jobs, cursor = page(stores, query, limit, cursor)
        given.append([job.job_id for job in jobs])
        if cursor is None:
            return given
        assert len(cursor) < 100
    raise AssertionError(f"the list has no end: {given}")


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_pages_over_jobs_of_one_moment_lose_and_repeat_nothing_and_end(
    stores: Stores, limit: int
) -> None:
    statuses = list(JobStatus)
    for number in range(10):
        job = a_job(f"j{number}", number // 4, statuses[number % 4])
        stores.jobs.create(job)
        stores.studies.link_job("1.2", list_key(job))
    wanted = [f"j{number}" for number in reversed(range(10))]
    for query in (JobQuery(), JobQuery(study_instance_uid="1.2")):
        given = pages(stores, query, limit)
        assert [*chain(*given)] == wanted
        assert [len(each) for each in given[:-1]] == [limit] * (len(given) - 1)
        assert given[-1]
    submitted = pages(stores, JobQuery(status=JobStatus.SUBMITTED), limit)
    assert [*chain(*submitted)] == ["j8", "j4", "j0"]
    window = Window(NOW + timedelta(minutes=1), NOW + timedelta(minutes=1))
    found = pages(stores, JobQuery(window=window, study_instance_uid="1.2"), limit)
    assert [*chain(*found)] == ["j7", "j6", "j5", "j4"]


def test_a_job_of_two_studies_is_in_the_lists_of_both(stores: Stores) -> None:
    job = replace(a_job("j1"), study_instance_uid=None)
    for study in ("1.2", "1.3"):
        stores.studies.link_job(study, list_key(job))
    assert pages(stores, JobQuery(study_instance_uid="1.3"), 5) == [[]]  # not recorded yet
    stores.jobs.create(job)
    stores.studies.link_job("1.3", list_key(a_job("j1", 7)))  # by who had another time, and failed
    for study in ("1.2", "1.3"):
        assert pages(stores, JobQuery(study_instance_uid=study), 5) == [["j1"]]


def test_each_step_of_a_batch_is_taken_once_and_in_order(stores: Stores) -> None:
    batches = stores.batches
    leased = replace(
        a_batch(BatchState.OPEN), owner="task", lease_expires_at=NOW, datastore_id="d", urgent=True
    )
    assert not batches.move(a_batch(BatchState.IMPORTING), BatchEvent.ADMITTED)
    assert batches.move(leased, BatchEvent.OPENED)
    assert not batches.move(leased, BatchEvent.OPENED)
    assert batches.get(BATCH) == leased
    assert batches.move(a_batch(BatchState.CLOSED), BatchEvent.CLOSED)
    assert batches.move(replace(a_batch(BatchState.CLOSED), admitted_at=NOW), BatchEvent.ADMITTED)
    assert not batches.move(a_batch(BatchState.CLOSED), BatchEvent.CLOSED)
    partial = replace(a_batch(BatchState.PARTIAL, "j1"), counts=Counts(3, 2, 1), message="1 failed")
    assert batches.move(partial, BatchEvent.PARTLY_IMPORTED)
    assert not batches.move(a_batch(BatchState.FAILED, "j1"), BatchEvent.FAILED)
    kept = replace(partial, datastore_id="d", urgent=True, admitted_at=NOW)
    assert batches.get(BATCH) == kept
    assert batches.get(LATER) is None


@pytest.mark.parametrize("event", BatchEvent)
@pytest.mark.parametrize("state", [None, *BatchState])
def test_a_batch_moves_as_the_table_says(
    stores: Stores, event: BatchEvent, state: BatchState | None
) -> None:
    ways: dict[BatchState, list[BatchEvent]] = {
        BatchState.OPEN: [BatchEvent.OPENED],
        BatchState.CLOSED: [BatchEvent.CLOSED],
        BatchState.IMPORTING: [BatchEvent.CLOSED, BatchEvent.ADMITTED],
        BatchState.STALLED: [BatchEvent.CLOSED, BatchEvent.ADMITTED, BatchEvent.STALLED],
        BatchState.IMPORTED: [BatchEvent.CLOSED, BatchEvent.IMPORTED],
        BatchState.PARTIAL: [
            BatchEvent.CLOSED,
            BatchEvent.ADMITTED,
            BatchEvent.PARTLY_IMPORTED,
        ],
        BatchState.FAILED: [BatchEvent.FAILED],
        BatchState.QUARANTINED: [BatchEvent.QUARANTINED],
    }
    for step in ways[state] if state else []:
        assert stores.batches.move(a_batch(BatchState.CLOSED), step)
    sources, target = TRANSITIONS[event]
    assert stores.batches.move(a_batch(BatchState.CLOSED), event) is (state in sources)
    batch = stores.batches.get(BATCH)
    assert (batch.state if batch else None) == (target if state in sources else state)


def test_a_start_is_marked_while_a_batch_has_no_job(stores: Stores) -> None:
    assert not stores.batches.mark_start(BATCH, NOW, None)
    stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.CLOSED)
    assert not stores.batches.mark_start(BATCH, NOW, None)
    stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.ADMITTED)
    later = NOW + timedelta(seconds=1)

    def marked() -> datetime | None:
        batch = stores.batches.get(BATCH)
        assert batch is not None
        return batch.start_asked_at

    assert not stores.batches.mark_start(BATCH, later, NOW)  # it has no mark
    assert stores.batches.mark_start(BATCH, NOW, None)
    assert marked() == NOW
    assert not stores.batches.mark_start(BATCH, later, None)  # another's came first
    assert not stores.batches.mark_start(BATCH, later, later)
    assert not stores.batches.unmark_start(BATCH, later, None)  # another's
    assert stores.batches.mark_start(BATCH, later, NOW)
    assert stores.batches.unmark_start(BATCH, later, NOW)
    assert marked() == NOW
    assert stores.batches.unmark_start(BATCH, NOW, None)
    assert marked() is None
    assert stores.batches.mark_start(BATCH, NOW, None)
    assert stores.batches.attach_job(BATCH, "j1")
    assert not stores.batches.unmark_start(BATCH, NOW, None)


def test_a_batch_has_one_job(stores: Stores) -> None:
    stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.CLOSED)
    assert not stores.batches.attach_job(BATCH, "j1")
    stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.ADMITTED)
    assert stores.batches.attach_job(BATCH, "j1")
    assert not stores.batches.attach_job(BATCH, "j2")
    assert not stores.batches.attach_job(LATER, "j1")
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.job_id == "j1"


def test_a_stalled_batch_has_the_number_of_its_next_execution_and_may_get_its_job(
    stores: Stores,
) -> None:
    batches, later = stores.batches, NOW + timedelta(minutes=5)
    closed = replace(a_batch(BatchState.CLOSED), admitted_at=NOW)
    for step in (BatchEvent.CLOSED, BatchEvent.ADMITTED):
        assert batches.move(closed, step)
    assert not batches.move(closed, BatchEvent.RESUMED)
    assert batches.move(closed, BatchEvent.STALLED)
    assert batches.mark_start(BATCH, NOW, None)
    assert batches.attach_job(BATCH, "j1")
    assert [line.batch_id for line in batches.lines(BatchState.STALLED)] == [BATCH]
    assert batches.move(replace(closed, attempt=1, admitted_at=later), BatchEvent.RESUMED)
    assert not batches.move(replace(closed, attempt=2), BatchEvent.RESUMED)
    batch = batches.get(BATCH)
    assert batch is not None
    assert (batch.attempt, batch.admitted_at, batch.job_id) == (1, later, "j1")
    assert (batch.state, batch.start_asked_at) == (BatchState.IMPORTING, NOW)


def test_a_batch_names_the_last_of_its_retries(stores: Stores) -> None:
    first, last = (f"20261201T0{hour}0000Z-0123456789abcdef" for hour in (1, 2))
    assert not stores.batches.link_retry(BATCH, first)
    stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.CLOSED)
    assert stores.batches.link_retry(BATCH, first)
    assert stores.batches.link_retry(BATCH, last)
    assert not stores.batches.link_retry(BATCH, last)
    assert not stores.batches.link_retry(BATCH, first)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.retried_as == last


def test_a_lease_is_taken_only_from_the_owner_and_end_that_were_read(stores: Stores) -> None:
    later = NOW + timedelta(seconds=60)
    read = replace(a_batch(BatchState.OPEN), owner="task", lease_expires_at=NOW)
    assert not stores.batches.take_lease(read, "recovery", later)
    stores.batches.move(read, BatchEvent.OPENED)
    assert not stores.batches.take_lease(replace(read, owner="another"), "recovery", later)
    assert not stores.batches.take_lease(replace(read, lease_expires_at=later), "recovery", later)
    assert stores.batches.take_lease(read, "recovery", later)
    assert not stores.batches.take_lease(read, "recovery", later)
    batch = stores.batches.get(BATCH)
    assert batch == replace(read, owner="recovery", lease_expires_at=later)
    stores.batches.move(read, BatchEvent.CLOSED)
    assert not stores.batches.take_lease(batch, "recovery", later)


def test_batches_are_listed_by_state_and_in_all_in_the_order_of_their_ids(stores: Stores) -> None:
    urgent = replace(
        a_batch(BatchState.CLOSED), urgent=True, datastore_id="d", closed_at=NOW, admitted_at=NOW
    )
    later = replace(a_batch(BatchState.CLOSED), batch_id=LATER)
    for batch in (later, urgent):
        assert stores.batches.move(batch, BatchEvent.CLOSED)
    assert list(stores.batches.lines(BatchState.CLOSED)) == [line_of(urgent), line_of(later)]
    assert list(stores.batches.lines(BatchState.CLOSED, 1)) == [line_of(urgent)]
    assert list(stores.batches.lines(BatchState.CLOSED, 1, newest=True)) == [line_of(later)]
    assert list(stores.batches.lines(BatchState.OPEN)) == []
    assert list(stores.batches.ids(BatchState.CLOSED)) == [LATER, BATCH]
    assert list(stores.batches.ids(BatchState.CLOSED, BATCH)) == [BATCH]
    assert stores.batches.move(later, BatchEvent.ADMITTED)
    assert list(stores.batches.ids(BatchState.CLOSED)) == [BATCH]
    assert list(stores.batches.ids(None)) == [LATER, BATCH]
    assert list(stores.batches.ids(None, BATCH)) == [BATCH]
    assert stores.batches.get_many([BATCH, "x"]) == {BATCH: urgent}


@pytest.fixture(params=["memory", "aws"])
def gate(request: pytest.FixtureRequest) -> GateStore:
    if request.param == "memory":
        return MemoryGate()
    request.getfixturevalue("_aws")
    return DynamoGate(aws.dynamodb(), "DicomBatchRecordTable")


def test_the_gate_is_held_by_one_who_learns_that_others_came(gate: GateStore) -> None:
    until = NOW + timedelta(seconds=60)
    assert gate.enter("a", NOW, until) == Gate()
    assert gate.enter("b", NOW, until) is None
    assert not gate.leave("b")
    assert not gate.leave("a", 0)
    assert gate.enter("a", NOW, until) == Gate(asked=1)
    assert gate.leave("a", 1)
    assert gate.enter("b", NOW, until) == Gate(asked=1)


def test_the_gate_passes_on_pace_and_memory(gate: GateStore) -> None:
    until = NOW + timedelta(seconds=60)
    assert gate.enter("a", NOW, until) is not None
    kept = Gate(next_start=NOW + timedelta(seconds=1), recent=("CT1", "CT2"))
    assert gate.keep("a", kept, until)
    assert gate.leave("a")
    assert not gate.keep("a", kept, until)
    assert gate.enter("b", NOW, until) == kept


def test_the_gate_of_a_holder_that_died_opens_when_its_time_is_over(gate: GateStore) -> None:
    until = NOW + timedelta(seconds=60)
    assert gate.enter("a", NOW, until) is not None
    later = until + timedelta(seconds=1)
    assert gate.enter("b", later, later + timedelta(seconds=60)) is not None
    assert not gate.keep("a", Gate(), later)
    assert not gate.leave("a")


def test_an_object_is_read_within_its_bound_and_moved_with_its_reason(stores: Stores) -> None:
    assert stores.objects.read(BUCKET, "a", 4) == b"body"
    with pytest.raises(ObjectTooLarge):
        stores.objects.read(BUCKET, "a", 3)
    stores.objects.move(BUCKET, "a", "b", {"reason": "x"})
    assert stores.objects.read(BUCKET, "b", 4) == b"body"
    with pytest.raises(ObjectMissing):
        stores.objects.read(BUCKET, "a", 4)
