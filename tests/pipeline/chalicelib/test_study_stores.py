"""The same contract for what is due: ends of batches, events, studies, image sets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber
from chalicelib import aws
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.event import EventType, an_event
from chalicelib.stores import Stores
from chalicelib.stores.dynamo_instances import DynamoInstances
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import ANNOUNCED, Due, DynamoOutbox
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
from contract.records import (
    BatchState,
)
from tests.pipeline.chalicelib.store_builders import (
    BATCH,
    LATER,
    NOW,
    a_batch,
    an_instance,
    outbox_of,
    stores,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["stores"]  # a fixture


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


def settle(client: "DynamoDBClient") -> bool:
    event = an_event(EventType.STUDY_QUIET, "1.2", NOW)
    outbox = DynamoOutbox(client, "DicomBatchRecordTable")
    return DynamoStudies(client, "DicomStudyTable", outbox).settle(StudyRecord("1.2"), event)


def promote(client: "DynamoDBClient") -> bool:
    first, other = an_instance(), replace(an_instance(batch_id=LATER), beside=LATER)
    return DynamoInstances(client, "DicomInstanceRecordTable").promote(first, other)


@pytest.mark.usefixtures("moto_runs")
@pytest.mark.parametrize("transact", [settle, promote])
def test_a_transaction_that_another_is_in_the_way_of_may_work_later(
    transact: Callable[["DynamoDBClient"], bool],
) -> None:
    def cancelled(*codes: str) -> bool:
        reasons = {"CancellationReasons": [{"Code": code} for code in codes]}
        with Stubber(client) as stubber:
            stubber.add_client_error(
                "transact_write_items", "TransactionCanceledException", modeled_fields=reasons
            )
            return transact(client)

    client = aws.dynamodb()
    for codes in (("TransactionConflict", "None"), ("None", "ThrottlingError")):
        with pytest.raises(ServiceUnavailable):
            cancelled(*codes)
    assert not cancelled("None", "ConditionalCheckFailed")
    assert not cancelled("ConditionalCheckFailed", "TransactionConflict")


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
