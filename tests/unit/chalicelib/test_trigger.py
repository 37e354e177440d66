import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
from chalicelib.deadline import Deadline
from chalicelib.errors import MessagesFailed, ServiceUnavailable
from chalicelib.intake.trigger import Intake, Message, trigger_imports
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.objects import MAX_MANIFEST_BYTES
from structlog.testing import capture_logs

from contract.batch_states import BatchEvent
from contract.keys import key_digest, manifest_key
from contract.records import BatchRecord, BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NOW,
    a_batch,
    a_manifest,
    keep_batch,
    memory_stores,
)

KEY = manifest_key(BATCH)


def record(key: str = KEY, bucket: str = BUCKET, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    place = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}
    return {"eventName": name, "s3": place}


def event(*records: object) -> str:
    return json.dumps({"Records": records})


class FakeQueue:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    def delete(self, receipt_handles: Iterable[str]) -> None:
        self.deleted += receipt_handles


class Taken:
    """What the intake handed on: batches to the dispatcher, keys to the dropbox."""

    def __init__(self) -> None:
        self.dispatched: list[str] = []
        self.drops = 0
        self.blocked: list[tuple[str, str]] = []
        self.fault: Exception | None = None

    def take_drops(self) -> None:
        self.drops += 1
        if self.fault:
            raise self.fault

    def block(self, batch_id: str, error: Exception) -> None:
        self.blocked.append((batch_id, type(error).__name__))

    def dispatch(self, batches: Sequence[BatchRecord]) -> None:
        self.dispatched += [batch.batch_id for batch in batches]


@pytest.fixture
def stores() -> Stores:
    stores = memory_stores()
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.bodies[BUCKET, KEY] = a_manifest().to_json()
    return stores


def trigger(stores: Stores, *bodies: str, taken: Taken | None = None) -> tuple[Taken, FakeQueue]:
    taken, queue = taken or Taken(), FakeQueue()
    messages = [Message(str(number), body, f"id-{number}") for number, body in enumerate(bodies)]
    intake = Intake(BUCKET, stores, DATASTORE, NOW, taken.block, taken.take_drops, taken.dispatch)
    try:
        trigger_imports(messages, intake, queue)
    except MessagesFailed:
        queue.deleted.append("raised")
    return taken, queue


def rows(stores: Stores) -> dict[str, InstanceState]:
    return {row.sop_instance_uid: row.state for row in stores.instances.by_study("1.2")}


def test_a_manifest_closes_its_batch_which_is_then_dispatched(stores: Stores) -> None:
    taken, queue = trigger(stores, event(record()))
    assert taken.dispatched == [BATCH]
    assert queue.deleted == []  # Lambda deletes the whole batch itself
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.opened_at, batch.manifest_key) == (BatchState.CLOSED, NOW, KEY)
    assert rows(stores) == dict.fromkeys(["1.2.3.1", "1.2.3.2"], InstanceState.RECEIVED)


def test_an_open_batch_keeps_when_it_was_opened_and_loses_its_lease(stores: Stores) -> None:
    earlier = NOW - timedelta(minutes=5)
    leased = replace(
        a_batch(BatchState.OPEN), opened_at=earlier, owner="task", lease_expires_at=NOW
    )
    stores.batches.move(leased, BatchEvent.OPENED)
    trigger(stores, event(record()))
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.opened_at) == (BatchState.CLOSED, earlier)
    assert (batch.owner, batch.lease_expires_at) == (None, None)


def test_an_event_that_comes_twice_closes_and_offers_the_batch_once(stores: Stores) -> None:
    taken, queue = trigger(stores, event(record()), event(record()))
    assert (taken.dispatched, queue.deleted) == ([BATCH], [])


def test_an_event_that_comes_late_takes_no_step_back(stores: Stores) -> None:
    keep_batch(stores, a_manifest())
    taken, queue = trigger(stores, event(record()))
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (taken.dispatched, queue.deleted) == ([], [])
    assert (batch.state, rows(stores)) == (BatchState.IMPORTING, {})


def test_an_id_whose_digits_are_no_time_is_a_batch_all_the_same(stores: Stores) -> None:
    odd = "99999999T999999Z-0001020304050607"
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.bodies[BUCKET, manifest_key(odd)] = a_manifest(batch_id=odd).to_json()
    trigger(stores, event(record(manifest_key(odd))))
    batch = stores.batches.get(odd)
    assert batch is not None
    assert batch.opened_at == NOW


def test_drops_of_all_messages_go_to_the_dropbox_at_once(stores: Stores) -> None:
    keys = ["dropbox/a", "dropbox/b c", "dropbox/d"]
    bodies = [event(record(keys[0]), record(keys[1])), event(record(keys[2])), event(record())]
    taken, queue = trigger(stores, *bodies)
    assert (taken.drops, taken.dispatched, queue.deleted) == (1, [BATCH], [])


@pytest.mark.parametrize("fault", [ServiceUnavailable("GetObject failed"), KeyError("a bug")])
def test_a_dropbox_that_fails_makes_no_dead_letters_of_everyones_events(
    stores: Stores, fault: Exception
) -> None:
    """The schedule collects what this invocation could not."""
    taken = Taken()
    taken.fault = fault
    _, queue = trigger(stores, event(record("dropbox/a")), event(record()), taken=taken)
    assert (taken.dispatched, queue.deleted) == ([BATCH], [])


@pytest.mark.parametrize(
    "other",
    [
        record(bucket="another"),
        record(name="ObjectRemoved:Delete"),
        record(key=f"instances/{BATCH}/1.2/1.2.3/1.2.3.4.dcm"),
        record(key="quarantine/invalid-manifest/x.json"),
    ],
)
def test_what_is_no_manifest_of_ours_is_left_alone(stores: Stores, other: dict[str, Any]) -> None:
    assert isinstance(stores.objects, MemoryObjects)
    before = dict(stores.objects.bodies)
    taken, queue = trigger(stores, event(other))
    assert (taken.dispatched, taken.drops, queue.deleted) == ([], 0, [])
    assert stores.objects.bodies == before


def test_a_manifest_that_is_gone_is_dropped() -> None:
    assert trigger(memory_stores(), event(record()))[1].deleted == []


@pytest.mark.parametrize(
    ("key", "body"),
    [
        (KEY, b"not JSON"),
        (KEY, b" " * (MAX_MANIFEST_BYTES + 1)),
        (manifest_key("20261123T094000Z-0001020304050607"), a_manifest().to_json()),
        ("batches/somebody-elses.json", b"{}"),
    ],
)
def test_a_manifest_that_is_not_ours_goes_to_quarantine_with_the_reason(
    key: str, body: bytes
) -> None:
    stores = memory_stores()
    objects = stores.objects
    assert isinstance(objects, MemoryObjects)
    objects.bodies[BUCKET, key] = body
    taken, queue = trigger(stores, event(record(key)))
    assert (taken.dispatched, queue.deleted) == ([], [])
    ((bucket, target),) = objects.bodies
    name = key_digest(key) if "somebody" in key else key.removeprefix("batches/")
    assert target == f"quarantine/invalid-manifest/{name}"
    assert objects.metadata[bucket, target]["reason"]


def test_a_reason_never_repeats_what_the_manifest_says(stores: Stores) -> None:
    objects = stores.objects
    assert isinstance(objects, MemoryObjects)
    document = json.loads(a_manifest().to_json()) | {"closedAt": "DOE^JOHN \u00e9"}
    objects.bodies[BUCKET, KEY] = json.dumps(document).encode()
    trigger(stores, event(record()))
    ((_, metadata),) = objects.metadata.items()
    assert "closedAt" in metadata["reason"]
    assert "DOE" not in metadata["reason"]


def test_an_event_of_a_key_that_is_not_utf8_fails_alone(stores: Stores) -> None:
    odd = record()
    odd["s3"]["object"]["key"] = "dropbox/\ud800.dcm"
    taken, queue = trigger(stores, event(odd), event(record()))
    assert (taken.dispatched, taken.drops, queue.deleted) == ([BATCH], 0, ["1", "raised"])


def test_a_poison_message_does_not_drag_its_neighbours_along(stores: Stores) -> None:
    taken, queue = trigger(stores, "poison", event(record()), "[]", event())
    assert taken.dispatched == [BATCH]
    assert queue.deleted == ["1", "3", "raised"]


@pytest.mark.parametrize("fault", [ServiceUnavailable("UpdateItem failed"), KeyError("a bug")])
def test_what_failed_comes_back(
    stores: Stores, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBatches, "move", broken)
        taken, queue = trigger(stores, event(record()))
    assert (taken.dispatched, queue.deleted) == ([], ["raised"])
    # Time alone mends the one, and recovery tries the other again.
    assert taken.blocked == ([(BATCH, "KeyError")] if isinstance(fault, KeyError) else [])
    taken, queue = trigger(stores, event(record()))
    assert (taken.dispatched, queue.deleted) == ([BATCH], [])


def test_a_message_that_failed_is_named_by_its_id_and_never_by_its_text(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("DOE^JOHN")

    monkeypatch.setattr("chalicelib.intake.trigger.close_batch", fails)
    taken = Taken()
    taken.fault = ServiceUnavailable("GetObject failed")
    bodies = ["DOE^JOHN", event(record()), event(record()), event(record("dropbox/DOE^JOHN"))]
    with capture_logs() as lines:
        trigger(stores, *bodies, taken=taken)
    failed = [line["message_ids"] for line in lines if line["event"] == "message_failed"]
    assert failed == [["id-0"], ["id-1", "id-2"]]
    assert "DOE" not in str(lines)


def test_messages_that_the_invocation_has_no_time_for_come_back(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each close takes half a minute, the longest that is reckoned with; there are two minutes."""
    clock = [NOW]

    def slow(*_: object) -> None:
        clock[0] += timedelta(seconds=30)

    monkeypatch.setattr("chalicelib.intake.trigger.close_batch", slow)
    until = Deadline(NOW + timedelta(seconds=118))
    ids = [f"20261123T09300{number}Z-0001020304050607" for number in range(6)]
    messages = [Message(each, event(record(manifest_key(each))), each) for each in ids]
    taken, queue = Taken(), FakeQueue()
    intake = Intake(
        BUCKET,
        stores,
        DATASTORE,
        NOW,
        taken.block,
        taken.take_drops,
        taken.dispatch,
        until,
        lambda: clock[0],
    )
    with capture_logs() as lines, pytest.raises(MessagesFailed, match="3 of 6"):
        trigger_imports(messages, intake, queue)
    assert queue.deleted == ids[:3]
    put_off = [line["message_ids"] for line in lines if line["event"] == "message_put_off"]
    assert put_off == [[each] for each in ids[3:]]
    assert clock[0] <= until.ends_at
