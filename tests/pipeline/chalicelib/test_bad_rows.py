"""Items that somebody else has changed or written: the others are read, on moto's DynamoDB."""

from typing import Any

import pytest
from chalicelib import aws, wiring
from chalicelib.errors import RowUnreadable
from chalicelib.stores.blocked import Blocked, Work, listed
from chalicelib.stores.instances import Change

from contract.batch_states import BatchEvent
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    NEWER_BATCH,
    NOW,
    a_batch,
    an_instance,
    instance_row,
)

pytestmark = pytest.mark.usefixtures("_aws")
BATCHES, INSTANCES = "DicomBatchRecordTable", "DicomInstanceRecordTable"


def spoil(table: str, key: dict[str, Any], attribute: str, value: str) -> None:
    aws.dynamodb().update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": attribute},
        ExpressionAttributeValues={":value": {"S": value}},
    )


def test_a_batch_that_cannot_be_read_hides_no_other() -> None:
    batches = wiring.stores().batches
    for batch_id in (BATCH, NEWER_BATCH):
        assert batches.move(a_batch(batch_id=batch_id), BatchEvent.CLOSED)
    spoil(BATCHES, {"batchId": {"S": BATCH}}, "openedAt", "yesterday")
    assert [line.batch_id for line in batches.lines(BatchState.CLOSED)] == [NEWER_BATCH]
    assert batches.get_many([BATCH, NEWER_BATCH]).keys() == {NEWER_BATCH}
    with pytest.raises(RowUnreadable):
        batches.get(BATCH)


def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    instances = wiring.stores().instances
    rows = [
        instance_row(BATCH, an_instance(uid), InstanceState.RECEIVED, NOW)
        for uid in ("1.2.3.1", "1.2.3.2")
    ]
    assert not instances.swap_many([Change(None, row) for row in rows])
    bad, good = rows
    key = {name: {"S": value} for name, value in bad.row_key._asdict().items()}
    spoil(INSTANCES, key, "state", "LOST")
    assert instances.of_instances(row.instance for row in rows) == {good.instance: (good,)}


def test_a_record_of_what_is_blocked_that_cannot_be_read_hides_no_other() -> None:
    store = wiring.stores().blocked
    good = Blocked(Work.RECOVERY, NEWER_BATCH, "x", "y", NOW, NOW, NOW)
    store.put(good)
    bad = {"batchId": "blocked:recovery:odd", "due": "blocked:recovery", "dueAt": "never"}
    aws.dynamodb().put_item(
        TableName=BATCHES, Item={name: {"S": value} for name, value in bad.items()}
    )
    tries = store.next_tries(Work.RECOVERY)
    assert tries.keys() == {NEWER_BATCH, "odd"}
    assert tries["odd"] < NOW
    assert listed(store, Work) == [good]
