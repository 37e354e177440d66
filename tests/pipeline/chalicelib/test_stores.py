"""One contract for every store: the in-memory twins and DynamoDB behave alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.stub import Stubber
from chalicelib import aws
from chalicelib.errors import ObjectMissing, ObjectTooLarge, ServiceUnavailable
from chalicelib.events.event import EventType, an_event
from chalicelib.stores import Stores
from chalicelib.stores.dynamodb import DynamoBatches, DynamoInstances, DynamoJobs
from chalicelib.stores.gate import DynamoGate, Gate, GateStore
from chalicelib.stores.image_sets import DynamoImageSets, MemoryImageSets
from chalicelib.stores.instances import record
from chalicelib.stores.jobs import Cursor, JobQuery, Window, page
from chalicelib.stores.memory import (
    MemoryBatches,
    MemoryGate,
    MemoryInstances,
    MemoryJobs,
    MemoryObjects,
)
from chalicelib.stores.outbox import ANNOUNCED, Due, DynamoOutbox, MemoryOutbox, Outbox
from chalicelib.stores.s3 import S3Objects
from chalicelib.stores.studies import (
    DynamoStudies,
    MemoryStudies,
    StudyRecord,
    study_key,
    study_of,
)

from contract.batch_states import TRANSITIONS, BatchEvent
from contract.checksums import Checksum
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)
from tests.unit.chalicelib.builders import overwrite

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BATCH = "20261123T093000Z-0001020304050607"
LATER = "20261123T094000Z-0001020304050607"
BUCKET = "dicom"


@pytest.fixture(params=["memory", "aws"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "memory":
        objects = MemoryObjects()
        objects.bodies[BUCKET, "a"] = b"body"
        batches = MemoryBatches()
        studies = MemoryStudies(MemoryOutbox(batches))
        return Stores(objects, MemoryJobs(), batches, MemoryInstances(), studies, MemoryImageSets())
    request.getfixturevalue("_aws")
    client, s3 = aws.dynamodb(), aws.s3()
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"body")
    return Stores(
        S3Objects(s3),
        DynamoJobs(client, "DicomImportJobTable"),
        DynamoBatches(client, "DicomBatchTable"),
        DynamoInstances(client, "DicomInstanceTable"),
        DynamoStudies(client, "DicomBatchTable"),
        DynamoImageSets(client, "DicomBatchTable"),
    )


def a_job(job_id: str, minutes: int = 0, status: JobStatus = JobStatus.SUBMITTED) -> JobRecord:
    return JobRecord(
        job_id=job_id,
        job_status=status,
        batch_id=BATCH,
        datastore_id="0" * 32,
        data_access_role_arn="arn:aws:iam::123456789012:role/import",
        input_s3_uri="s3://dicom/instances/x/",
        output_s3_uri="s3://results/x/",
        submitted_at=NOW + timedelta(minutes=minutes),
        calling_ae_title="CT1",
        counts=Counts(3),
        study_instance_uid="1.2",
    )


def an_instance(sop: str = "1.2.3.4", batch_id: str = BATCH) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=sop,
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        batch_id=batch_id,
        key=f"instances/{batch_id}/1.2/1.2.3/{sop}.dcm",
        size=10,
        checksum=Checksum.of(b"x"),
        state=InstanceState.IMPORTED,
        updated_at=NOW,
        image_set_id="abc",
        is_primary=False,
        warnings=("INVALID_OFFSET_TABLE",),
    )


def a_batch(state: BatchState, job_id: str | None = None) -> BatchRecord:
    key = None if state is BatchState.OPEN else f"batches/{BATCH}.json"
    return BatchRecord(BATCH, state, "CT1", NOW, Counts(3), manifest_key=key, job_id=job_id)


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


def test_jobs_are_listed_newest_first_by_status_and_by_study(stores: Stores) -> None:
    for minutes, status in enumerate(JobStatus):
        stores.jobs.create(a_job(f"j{minutes}", minutes, status))
    stores.jobs.create(replace(a_job("other", 9), study_instance_uid="1.9"))
    submitted = stores.jobs.by_status(JobStatus.SUBMITTED, Window(), 10)
    assert [job.job_id for job in submitted] == ["other", "j0"]
    of_study = stores.jobs.by_study("1.2", None, Window(), 10)
    assert [job.job_id for job in of_study] == ["j3", "j2", "j1", "j0"]
    window = Window(NOW + timedelta(minutes=1), NOW + timedelta(minutes=2))
    assert [job.job_id for job in stores.jobs.by_study("1.2", None, window, 10)] == ["j2", "j1"]
    failed = stores.jobs.by_study("1.2", JobStatus.FAILED, Window(), 10)
    assert [job.job_id for job in failed] == ["j3"]
    assert stores.jobs.by_status(JobStatus.FAILED, Window(window.until, window.since), 10) == []


def test_pages_over_all_statuses_lose_and_repeat_nothing(stores: Stores) -> None:
    statuses = list(JobStatus)
    for number in range(10):  # several submitted at the very same time
        stores.jobs.create(a_job(f"j{number}", number // 4, statuses[number % 4]))
    given: list[str] = []
    cursor: Cursor | None = None
    while True:
        jobs, cursor = page(stores.jobs, JobQuery(), 3, cursor)
        given += [job.job_id for job in jobs]
        if cursor is None:
            break
        cursor = Cursor.parse(str(cursor))
    assert sorted(given) == sorted(f"j{number}" for number in range(10))


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


def test_batches_are_found_and_counted_by_state_oldest_first(stores: Stores) -> None:
    for minutes, batch_id in ((5, BATCH), (1, LATER)):
        batch = replace(
            a_batch(BatchState.CLOSED),
            batch_id=batch_id,
            opened_at=NOW + timedelta(minutes=minutes),
        )
        stores.batches.move(batch, BatchEvent.CLOSED)
    found = [batch.batch_id for batch in stores.batches.by_state(BatchState.CLOSED)]
    assert found == [LATER, BATCH]
    oldest = stores.batches.by_state(BatchState.CLOSED, 1)
    newest = stores.batches.newest(BatchState.CLOSED, None, 1)
    assert [batch.batch_id for batch in (*oldest, *newest)] == [LATER, BATCH]
    assert stores.batches.count(BatchState.CLOSED) == 2
    assert stores.batches.count(BatchState.OPEN) == 0


def outbox_of(stores: Stores) -> Outbox:
    if isinstance(stores.studies, MemoryStudies):
        return stores.studies.outbox
    return DynamoOutbox(aws.dynamodb(), "DicomBatchTable")


def end(stores: Stores, event: BatchEvent = BatchEvent.IMPORTED, batch_id: str = BATCH) -> None:
    batch = replace(a_batch(BatchState.CLOSED), batch_id=batch_id, ended_at=NOW)
    if event is not BatchEvent.QUARANTINED:
        stores.batches.move(replace(batch, ended_at=None), BatchEvent.CLOSED)
        stores.batches.move(replace(batch, ended_at=None), BatchEvent.ADMITTED)
    assert stores.batches.move(batch, event)


@pytest.mark.parametrize(
    "event",
    [
        BatchEvent.IMPORTED,
        BatchEvent.PARTLY_IMPORTED,
        BatchEvent.FAILED,
        BatchEvent.QUARANTINED,
    ],
)
def test_the_write_that_ends_a_batch_makes_its_announcement_due(
    stores: Stores, event: BatchEvent
) -> None:
    outbox = outbox_of(stores)
    end(stores, event)
    expected = [BATCH] if TRANSITIONS[event][1] in ANNOUNCED else []
    assert list(outbox.due(Due.ANNOUNCE, NOW)) == expected
    assert outbox.is_due(BATCH, Due.ANNOUNCE) is bool(expected)
    assert not stores.batches.move(a_batch(BatchState.CLOSED), BatchEvent.ADMITTED)


def test_a_batch_goes_from_announcement_to_expiry_and_out_once(stores: Stores) -> None:
    outbox = outbox_of(stores)
    assert not outbox.is_due(BATCH, Due.ANNOUNCE)
    end(stores)
    batch = stores.batches.get(BATCH)
    assert list(outbox.due(Due.ANNOUNCE, NOW - timedelta(microseconds=1))) == []
    assert outbox.done(BATCH, Due.ANNOUNCE, Due.EXPIRE)
    assert not outbox.done(BATCH, Due.ANNOUNCE, Due.EXPIRE)
    assert list(outbox.due(Due.ANNOUNCE, NOW)) == []
    assert list(outbox.due(Due.EXPIRE, NOW)) == [BATCH]
    assert outbox.done(BATCH, Due.EXPIRE)
    assert not outbox.done(BATCH, Due.EXPIRE)
    assert list(outbox.due(Due.EXPIRE, NOW)) == []
    assert stores.batches.get(BATCH) == batch


@pytest.mark.parametrize("then", [None, Due.EXPIRE])
def test_an_end_that_is_corrected_is_announced_again(stores: Stores, then: Due | None) -> None:
    outbox, later = outbox_of(stores), NOW + timedelta(hours=1)
    end(stores, BatchEvent.FAILED)
    assert outbox.done(BATCH, Due.ANNOUNCE, then, NOW)
    batch = replace(a_batch(BatchState.FAILED), ended_at=later, corrected_at=later)
    assert stores.batches.move(batch, BatchEvent.FOUND_IMPORTED)
    assert not stores.batches.move(batch, BatchEvent.FOUND_IMPORTED)
    assert list(outbox.due(Due.ANNOUNCE, later)) == [BATCH]
    # Who announces the old end meanwhile does not take the new one away.
    assert not outbox.done(BATCH, Due.ANNOUNCE, then, NOW)
    assert outbox.done(BATCH, Due.ANNOUNCE, Due.EXPIRE, later)
    assert list(outbox.due(Due.EXPIRE, later)) == [BATCH]


def test_what_is_due_comes_oldest_first(stores: Stores) -> None:
    for minutes, batch_id in ((5, BATCH), (1, LATER)):
        batch = replace(
            a_batch(BatchState.FAILED), batch_id=batch_id, ended_at=NOW + timedelta(minutes=minutes)
        )
        assert stores.batches.move(batch, BatchEvent.FAILED)
    due = outbox_of(stores).due(Due.ANNOUNCE, NOW + timedelta(hours=1))
    assert list(due) == [LATER, BATCH]


def test_an_event_is_kept_once_and_not_again_after_it_was_sent(stores: Stores) -> None:
    outbox = outbox_of(stores)
    event = an_event(EventType.STUDY_QUIET, "1.2", NOW, studyInstanceUID="1.2", batchCount=3)
    key = outbox.keep(event)
    assert outbox.keep(event) == key
    assert list(outbox.due(Due.EVENT, NOW)) == [key]
    assert outbox.event(key) == event
    assert outbox.done(key, Due.EVENT)
    outbox.keep(event)
    assert list(outbox.due(Due.EVENT, NOW)) == []
    assert outbox.event(key) is None
    assert outbox.event("event:other") is None


def test_a_study_knows_the_batches_that_joined_and_when_to_be_looked_at(stores: Stores) -> None:
    outbox, studies = outbox_of(stores), stores.studies
    later = NOW + timedelta(minutes=5)
    assert studies.get("1.2") is None
    for batch_id in (BATCH, LATER, BATCH):
        studies.join("1.2", batch_id)
    assert list(outbox.due(Due.STUDY, later)) == []
    studies.look("1.2", later)
    assert list(outbox.due(Due.STUDY, NOW)) == []
    (key,) = outbox.due(Due.STUDY, later)
    assert (key, study_of(key)) == (study_key("1.2"), "1.2")
    study = studies.get("1.2")
    assert study is not None
    assert study.batch_ids == {BATCH, LATER}
    assert studies.put_off(study, later + timedelta(minutes=1))
    assert list(outbox.due(Due.STUDY, later)) == []
    assert studies.put_off(study, None)
    assert list(outbox.due(Due.STUDY, later + timedelta(hours=1))) == []


def test_a_study_to_which_something_happens_is_neither_put_off_nor_settled(stores: Stores) -> None:
    outbox, studies = outbox_of(stores), stores.studies
    studies.join("1.2", BATCH)
    studies.look("1.2", NOW)
    read = studies.get("1.2")
    assert read is not None
    studies.join("1.2", LATER)
    event = an_event(EventType.STUDY_QUIET, "1.2", NOW)
    assert not studies.put_off(read, None)
    assert not studies.settle(read, event)
    assert list(outbox.due(Due.EVENT, NOW)) == []
    read = studies.get("1.2")
    assert read is not None
    assert studies.settle(read, event)
    (key,) = outbox.due(Due.EVENT, NOW)
    assert outbox.event(key) == event
    assert list(outbox.due(Due.STUDY, NOW)) == []
    settled = studies.get("1.2")
    assert settled is not None
    assert settled.batch_ids == frozenset()


@pytest.mark.usefixtures("moto_runs")
def test_a_transaction_that_another_is_in_the_way_of_may_work_later() -> None:
    client = aws.dynamodb()
    with Stubber(client) as stubber:
        stubber.add_client_error(
            "transact_write_items",
            "TransactionCanceledException",
            modeled_fields={"CancellationReasons": [{"Code": "TransactionConflict"}]},
        )
        event = an_event(EventType.STUDY_QUIET, "1.2", NOW)
        with pytest.raises(ServiceUnavailable):
            DynamoStudies(client, "DicomBatchTable").settle(StudyRecord("1.2"), event)


def test_a_study_remembers_no_more_batches_than_fit(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.stores.studies.MAX_BATCHES", 2)
    for batch_id in (BATCH, LATER, "20261123T095000Z-0001020304050607"):
        stores.studies.join("1.2", batch_id)
    study = stores.studies.get("1.2")
    assert study is not None
    assert study.batch_ids == {BATCH, LATER}


@pytest.fixture(params=["memory", "aws"])
def gate(request: pytest.FixtureRequest) -> GateStore:
    if request.param == "memory":
        return MemoryGate()
    request.getfixturevalue("_aws")
    return DynamoGate(aws.dynamodb(), "DicomBatchTable")


def test_a_deletion_and_a_note_of_an_image_set_find_each_other_in_any_order(
    stores: Stores,
) -> None:
    image_sets = stores.image_sets
    image_sets.note("a", "1.2")
    assert image_sets.deleted(["a", "b"]) == frozenset()
    assert image_sets.delete("a", NOW) == "1.2"
    assert image_sets.delete("b", NOW) is None
    image_sets.note("b", "1.3")
    assert image_sets.deleted(["a", "b", "c"]) == {"a", "b"}
    assert image_sets.delete("b", NOW) == "1.3"
    assert image_sets.deleted([]) == frozenset()


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


def test_instances_are_kept_in_bulk_and_found_by_uid_and_study(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number:03}") for number in range(120)]
    record(stores.instances, rows)
    found = stores.instances.get_many([row.sop_instance_uid for row in rows] + ["1.9"])
    assert found == {row.sop_instance_uid: row for row in rows}
    assert list(stores.instances.by_study("1.2")) == rows
    assert list(stores.instances.by_study("1.9")) == []


def test_rows_change_hands_where_they_are_as_they_were_read(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number}") for number in range(1, 31)]
    assert stores.instances.swap_many([(None, row) for row in rows]) == frozenset()
    taken = [replace(row, batch_id=LATER, updated_at=NOW + timedelta(seconds=1)) for row in rows]
    overwrite(stores.instances, taken[20:22])
    changes = [*zip(rows, taken, strict=True), (None, an_instance("1.2.4"))]
    assert stores.instances.swap_many(changes) == {"1.2.3.21", "1.2.3.22"}
    found = stores.instances.get_many([row.sop_instance_uid for row in rows])
    assert set(found.values()) == set(taken)
    refused = stores.instances.swap_many([(None, row) for row in rows])
    assert len(refused) == len(rows)
    assert set(stores.instances.get_many(found).values()) == set(taken)


def test_a_row_whose_conflicts_were_noted_since_is_not_as_it_was_read(stores: Stores) -> None:
    row = an_instance()
    noted = replace(row, conflicts=("instances/a",))
    done = replace(row, state=InstanceState.IMPORTED)
    assert stores.instances.swap_many([(None, row)]) == frozenset()
    assert stores.instances.swap_many([(row, noted)]) == frozenset()
    assert stores.instances.swap_many([(row, done)]) == {row.sop_instance_uid}
    other = replace(noted, conflicts=("instances/b",))
    assert stores.instances.swap_many([(other, done)]) == {row.sop_instance_uid}
    assert stores.instances.swap_many([(noted, done)]) == frozenset()


def test_a_late_result_of_an_older_batch_does_not_hide_the_newer(stores: Stores) -> None:
    newer = an_instance(batch_id=LATER)
    record(stores.instances, [newer])
    record(stores.instances, [an_instance()])
    assert stores.instances.get_many(["1.2.3.4"])["1.2.3.4"] == newer


def test_an_object_is_read_within_its_bound_and_moved_with_its_reason(stores: Stores) -> None:
    assert stores.objects.read(BUCKET, "a", 4) == b"body"
    with pytest.raises(ObjectTooLarge):
        stores.objects.read(BUCKET, "a", 3)
    stores.objects.move(BUCKET, "a", "b", {"reason": "x"})
    assert stores.objects.read(BUCKET, "b", 4) == b"body"
    with pytest.raises(ObjectMissing):
        stores.objects.read(BUCKET, "a", 4)
