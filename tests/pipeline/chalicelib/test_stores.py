"""One contract for every store: the in-memory twins and DynamoDB behave alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from botocore.stub import Stubber
from chalicelib import aws
from chalicelib.api.job_pages import JobQuery, Window, page
from chalicelib.errors import ObjectMissing, ObjectTooLarge, ServiceUnavailable
from chalicelib.events.event import EventType, an_event
from chalicelib.stores import Stores
from chalicelib.stores.batches import line_of
from chalicelib.stores.dynamo_instances import DynamoInstances
from chalicelib.stores.dynamodb import DynamoBatches, DynamoJobs
from chalicelib.stores.gate import DynamoGate, Gate, GateStore
from chalicelib.stores.image_sets import DynamoImageSets, MemoryImageSets
from chalicelib.stores.instances import own_rows, record
from chalicelib.stores.jobs import job_id_of, list_key
from chalicelib.stores.memory import (
    MemoryBatches,
    MemoryGate,
    MemoryInstances,
    MemoryJobs,
    MemoryObjects,
)
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import ANNOUNCED, Due, DynamoOutbox, MemoryOutbox, Outbox
from chalicelib.stores.s3 import S3Objects
from chalicelib.stores.schema import STUDIES_BY_LINK
from chalicelib.stores.studies import (
    Arrival,
    DynamoStudies,
    StudyRecord,
    day_link,
    link_key,
    sender_link,
)
from chalicelib.stores.table import Table

from contract.batch_states import TRANSITIONS, BatchEvent
from contract.checksums import Checksum
from contract.keys import RowKey
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)
from tests.unit.chalicelib.builders import is_there, overwrite

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
        DynamoBatches(client, "DicomBatchRecordTable"),
        DynamoInstances(client, "DicomInstanceRecordTable"),
        DynamoStudies(client, "DicomStudyTable", DynamoOutbox(client, "DicomBatchRecordTable")),
        DynamoImageSets(client, "DicomBatchRecordTable"),
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


def outbox_of(stores: Stores) -> Outbox:
    if isinstance(stores.studies, MemoryStudies):
        return stores.studies.outbox
    return DynamoOutbox(aws.dynamodb(), "DicomBatchRecordTable")


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
    outbox.sent(key, NOW)
    outbox.sent(key, NOW)
    outbox.keep(event)
    assert list(outbox.due(Due.EVENT, NOW)) == []
    assert outbox.event(key) is None
    assert outbox.event("event:other") is None


def test_a_study_knows_the_batches_that_joined_and_when_to_be_looked_at(stores: Stores) -> None:
    studies = stores.studies
    later = NOW + timedelta(minutes=5)
    assert studies.get("1.2") is None
    for batch_id in (BATCH, LATER, BATCH):
        studies.join("1.2", Arrival(batch_id, "CT1", NOW))
    assert list(studies.due(later)) == []
    studies.look("1.2", later)
    assert list(studies.due(NOW)) == []
    assert list(studies.due(later)) == ["1.2"]
    study = studies.get("1.2")
    assert study is not None
    assert study.batch_ids == {BATCH, LATER}
    assert study.due_at == later
    assert studies.put_off(study, later + timedelta(minutes=1))
    assert list(studies.due(later)) == []
    assert studies.put_off(study, None)
    assert list(studies.due(later + timedelta(hours=1))) == []


def test_when_a_study_was_first_received_never_changes(stores: Stores) -> None:
    tomorrow, before = NOW + timedelta(days=1), NOW - timedelta(hours=1)
    for number, (sender, at) in enumerate(
        [("CT1", NOW), ("CT1", tomorrow), ("PACS", tomorrow), ("PACS", before)]
    ):
        join(stores, "1.2", Arrival(f"b{number}", sender, at))
    study = stores.studies.get("1.2")
    assert study is not None
    assert study.first_received_at == NOW
    event = an_event(EventType.STUDY_QUIET, "1.2", NOW)
    assert stores.studies.settle(study, event)
    assert stores.studies.get("1.2") == replace(
        study, batch_ids=frozenset(), due_at=None, changes=study.changes
    )
    join(stores, "1.1", Arrival("b9", "CT1", NOW + timedelta(hours=1)))
    first, other = link_key(NOW, "1.2"), link_key(NOW + timedelta(hours=1), "1.1")
    assert links(stores) == {
        day_link(NOW): [first, other],
        sender_link("CT1", NOW): [first, other],
        sender_link("PACS", tomorrow): [link_key(tomorrow, "1.2")],
    }
    assert day_link(NOW) == "day#2026-11-23"
    assert sender_link("CT1", NOW) == "sender#CT1#2026-11-23"


def join(stores: Stores, study: str, arrival: Arrival) -> None:
    stores.studies.join(study, arrival)
    stores.studies.link_sender(study, arrival)


def links(stores: Stores) -> dict[str, list[str]]:
    """Every list of studies, in the order of its index."""
    if isinstance(stores.studies, MemoryStudies):
        pairs = sorted(stores.studies.links.values())
    else:
        table, index = Table(aws.dynamodb(), "DicomStudyTable"), STUDIES_BY_LINK
        scanned = aws.dynamodb().scan(TableName=table.name)["Items"]
        names = sorted({each["link"]["S"] for each in scanned if "link" in each})
        pairs = [
            (name, str(item["linkKey"]))
            for name in names
            for item in table.query(
                IndexName=index,
                KeyConditionExpression="link = :link",
                values={":link": name},
            )
        ]
    return {name: [key for each, key in pairs if each == name] for name, _ in pairs}


def test_a_study_to_which_something_happens_is_neither_put_off_nor_settled(stores: Stores) -> None:
    outbox, studies = outbox_of(stores), stores.studies
    studies.join("1.2", Arrival(BATCH, "CT1", NOW))
    studies.look("1.2", NOW)
    read = studies.get("1.2")
    assert read is not None
    studies.join("1.2", Arrival(LATER, "CT1", NOW))
    event = an_event(EventType.STUDY_QUIET, "1.2", NOW)
    assert not studies.put_off(read, None)
    assert not studies.settle(read, event)
    assert list(outbox.due(Due.EVENT, NOW)) == []
    read = studies.get("1.2")
    assert read is not None
    assert studies.settle(read, event)
    (key,) = outbox.due(Due.EVENT, NOW)
    assert outbox.event(key) == event
    assert list(studies.due(NOW)) == []
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
        outbox = DynamoOutbox(client, "DicomBatchRecordTable")
        studies = DynamoStudies(client, "DicomStudyTable", outbox)
        with pytest.raises(ServiceUnavailable):
            studies.settle(StudyRecord("1.2"), event)


def test_a_study_remembers_no_more_batches_than_fit(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("studies", "memory_studies"):
        monkeypatch.setattr(f"chalicelib.stores.{module}.MAX_BATCHES", 2)
    for batch_id in (BATCH, LATER, "20261123T095000Z-0001020304050607"):
        stores.studies.join("1.2", Arrival(batch_id, "CT1", NOW))
    study = stores.studies.get("1.2")
    assert study is not None
    assert study.batch_ids == {BATCH, LATER}


@pytest.fixture(params=["memory", "aws"])
def gate(request: pytest.FixtureRequest) -> GateStore:
    if request.param == "memory":
        return MemoryGate()
    request.getfixturevalue("_aws")
    return DynamoGate(aws.dynamodb(), "DicomBatchRecordTable")


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
    record(stores.instances, BATCH, rows, is_there)
    found = stores.instances.get_many([*(row.row_key for row in rows), RowKey("1.9", "x")])
    assert found == {row.row_key: row for row in rows}
    assert list(stores.instances.by_study("1.2")) == rows
    assert list(stores.instances.by_study("1.9")) == []
    assert list(stores.instances.by_sop_instance("1.2.3.007")) == [rows[7]]
    assert list(stores.instances.by_sop_instance("1.9")) == []


def test_an_instance_has_a_row_for_each_study_series_and_content(stores: Stores) -> None:
    row = an_instance()
    beside = replace(row, batch_id=LATER, beside="SHA256:x")
    moved = replace(row, study_instance_uid="1.9")
    other = replace(row, series_instance_uid="1.9.9")
    rows = [row, beside, replace(row, checksum=Checksum.of(b"other")), moved, other]
    assert stores.instances.swap_many([(None, each) for each in rows]) == frozenset()
    assert stores.instances.get_many(each.row_key for each in rows) == {
        each.row_key: each for each in rows
    }
    found = stores.instances.of_instances([row.instance, moved.instance, "1/2/3"])
    assert {instance: set(rows) for instance, rows in found.items()} == {
        row.instance: set(rows[:3]),
        moved.instance: {moved},
    }
    assert set(stores.instances.by_study("1.2")) == {*rows[:3], other}
    assert set(stores.instances.by_sop_instance(row.sop_instance_uid)) == set(rows)


def test_rows_change_hands_where_they_are_as_they_were_read(stores: Stores) -> None:
    rows = [an_instance(f"1.2.3.{number}") for number in range(1, 31)]
    assert stores.instances.swap_many([(None, row) for row in rows]) == frozenset()
    taken = [replace(row, batch_id=LATER, updated_at=NOW + timedelta(seconds=1)) for row in rows]
    overwrite(stores.instances, taken[20:22])
    changes = [*zip(rows, taken, strict=True), (None, an_instance("1.2.4"))]
    assert stores.instances.swap_many(changes) == {row.row_key for row in rows[20:22]}
    found = stores.instances.get_many([row.row_key for row in rows])
    assert set(found.values()) == set(taken)
    refused = stores.instances.swap_many([(None, row) for row in rows])
    assert len(refused) == len(rows)
    assert set(stores.instances.get_many(found).values()) == set(taken)


def test_a_row_is_deleted_if_it_is_as_it_was_read(stores: Stores) -> None:
    row = an_instance()
    failed = replace(row, state=InstanceState.FAILED)
    record(stores.instances, BATCH, [row], is_there)
    assert stores.instances.swap_many([(failed, None)]) == {row.row_key}
    assert stores.instances.swap_many([(replace(row, batch_id=LATER), None)]) == {row.row_key}
    assert list(stores.instances.by_study("1.2")) == [row]
    assert stores.instances.swap_many([(row, None)]) == frozenset()
    assert list(stores.instances.by_study("1.2")) == []
    assert stores.instances.swap_many([(row, None)]) == {row.row_key}


def test_a_row_is_promoted_if_both_are_as_they_were_read(stores: Stores) -> None:
    first, other = an_instance(), replace(an_instance(batch_id=LATER), beside=LATER)
    changed = replace(other, state=InstanceState.FAILED)
    assert stores.instances.swap_many([(None, first), (None, other)]) == frozenset()
    assert not stores.instances.promote(first, changed)
    assert not stores.instances.promote(replace(first, batch_id=LATER), other)
    assert set(stores.instances.by_study("1.2")) == {first, other}
    assert stores.instances.promote(first, other)
    assert list(stores.instances.by_study("1.2")) == [replace(other, beside=None)]
    assert not stores.instances.promote(first, other)


def test_the_failure_of_another_batch_hides_no_import(stores: Stores) -> None:
    newer = an_instance(batch_id=LATER)
    failed = replace(an_instance(), state=InstanceState.FAILED)
    record(stores.instances, LATER, [newer], is_there)
    record(stores.instances, BATCH, [failed], is_there)
    rows = {row.batch_id: row for row in stores.instances.by_study("1.2")}
    assert rows == {LATER: newer, BATCH: replace(failed, beside=BATCH)}


def test_a_batchs_rows_are_found_beside_those_of_others(stores: Stores) -> None:
    shared = replace(an_instance(batch_id=LATER), state=InstanceState.IMPORTED)
    copy = replace(an_instance(), state=InstanceState.IMPORTED)
    digest = replace(copy, batch_id="20261123T093500Z-0001020304050607", beside="SHA256:x")
    record(stores.instances, LATER, [shared], is_there)
    record(stores.instances, BATCH, [copy], is_there)
    assert stores.instances.swap_many([(None, digest)]) == frozenset()
    for row in (shared, replace(copy, beside=BATCH), digest):
        found = own_rows(stores.instances, row.batch_id, [an_instance().row_key])
        assert found == {row.instance: row}


def test_an_object_is_read_within_its_bound_and_moved_with_its_reason(stores: Stores) -> None:
    assert stores.objects.read(BUCKET, "a", 4) == b"body"
    with pytest.raises(ObjectTooLarge):
        stores.objects.read(BUCKET, "a", 3)
    stores.objects.move(BUCKET, "a", "b", {"reason": "x"})
    assert stores.objects.read(BUCKET, "b", 4) == b"body"
    with pytest.raises(ObjectMissing):
        stores.objects.read(BUCKET, "a", 4)
