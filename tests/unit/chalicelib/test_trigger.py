import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_plus

import pytest
from chalicelib.errors import InvalidEvent, MessagesFailed, ServiceUnavailable
from chalicelib.imports.execution import Execution
from chalicelib.intake.trigger import Message, created_keys, trigger_imports
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.objects import MAX_MANIFEST_BYTES
from hypothesis import given
from hypothesis import strategies as st

from contract.keys import manifest_key
from tests.unit.chalicelib.builders import BATCH, BUCKET, a_manifest

KEY = manifest_key(BATCH)


def record(key: str = KEY, bucket: str = BUCKET, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    place = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}
    return {"eventName": name, "s3": place}


def event(*records: object) -> str:
    return json.dumps({"Records": records})


class FakeWorkflow:
    def __init__(self, *faults: Exception) -> None:
        self.started: list[Execution] = []
        self.faults = list(faults)

    def start(self, execution: Execution) -> bool:
        if self.faults:
            raise self.faults.pop(0)
        is_new = execution not in self.started
        self.started += [execution] if is_new else []
        return is_new


class FakeQueue:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    def delete(self, receipt_handles: Iterable[str]) -> None:
        self.deleted += receipt_handles


@pytest.fixture
def objects() -> MemoryObjects:
    objects = MemoryObjects()
    objects.bodies[BUCKET, KEY] = a_manifest().to_json()
    return objects


def trigger(
    objects: MemoryObjects, *bodies: str, workflow: FakeWorkflow | None = None
) -> tuple[FakeWorkflow, FakeQueue]:
    workflow, queue = workflow or FakeWorkflow(), FakeQueue()
    messages = [Message(str(number), body) for number, body in enumerate(bodies)]
    try:
        trigger_imports(messages, BUCKET, objects, workflow, queue)
    except MessagesFailed:
        queue.deleted.append("raised")
    return workflow, queue


def test_a_manifest_starts_an_execution_named_for_its_batch(objects: MemoryObjects) -> None:
    workflow, queue = trigger(objects, event(record()))
    assert workflow.started == [Execution(BATCH, BUCKET, KEY)]
    assert queue.deleted == []  # Lambda deletes the whole batch itself


def test_an_event_that_comes_twice_is_no_error(objects: MemoryObjects) -> None:
    workflow, queue = trigger(objects, event(record()), event(record()))
    assert (len(workflow.started), queue.deleted) == (1, [])


def test_keys_come_quoted_and_a_multipart_upload_comes_twice() -> None:
    whole = record(name="ObjectCreated:CompleteMultipartUpload")
    assert "%2F" in whole["s3"]["object"]["key"]
    assert created_keys(event(record(), whole), BUCKET) == [KEY]


@pytest.mark.parametrize(
    "other",
    [
        record(bucket="another"),
        record(name="ObjectRemoved:Delete"),
        record(key=f"instances/{BATCH}/1.2/1.2.3/1.2.3.4.dcm"),
        record(key="quarantine/invalid-manifest/x.json"),
    ],
)
def test_what_is_no_manifest_of_ours_is_left_alone(
    objects: MemoryObjects, other: dict[str, Any]
) -> None:
    before = dict(objects.bodies)
    workflow, queue = trigger(objects, event(other))
    assert (workflow.started, queue.deleted, objects.bodies) == ([], [], before)


def test_s3s_test_event_asks_for_nothing() -> None:
    assert created_keys('{"Service": "Amazon S3", "Event": "s3:TestEvent"}', BUCKET) == []


def test_a_manifest_that_is_gone_is_dropped() -> None:
    assert trigger(MemoryObjects(), event(record()))[1].deleted == []


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
    objects = MemoryObjects()
    objects.bodies[BUCKET, key] = body
    workflow, queue = trigger(objects, event(record(key)))
    assert (workflow.started, queue.deleted) == ([], [])
    ((bucket, target),) = objects.bodies
    assert target == f"quarantine/invalid-manifest/{key.removeprefix('batches/')}"
    assert objects.metadata[bucket, target]["reason"]


def test_a_reason_never_repeats_what_the_manifest_says(objects: MemoryObjects) -> None:
    document = json.loads(a_manifest().to_json()) | {"closedAt": "DOE^JOHN \u00e9"}
    objects.bodies[BUCKET, KEY] = json.dumps(document).encode()
    trigger(objects, event(record()))
    ((_, metadata),) = objects.metadata.items()
    assert "closedAt" in metadata["reason"]
    assert "DOE" not in metadata["reason"]


def test_a_poison_message_does_not_drag_its_neighbours_along(objects: MemoryObjects) -> None:
    workflow, queue = trigger(objects, "poison", event(record()), "[]", event())
    assert len(workflow.started) == 1
    assert queue.deleted == ["1", "3", "raised"]


@pytest.mark.parametrize("fault", [ServiceUnavailable("StartExecution failed"), KeyError("a bug")])
def test_what_failed_comes_back(objects: MemoryObjects, fault: Exception) -> None:
    workflow, queue = trigger(objects, event(record()), workflow=FakeWorkflow(fault))
    assert queue.deleted == ["raised"]
    trigger(objects, event(record()), workflow=workflow)
    assert len(workflow.started) == 1


json_values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "Event", "eventName", "s3", "bucket", "object", "key"]),
            inner,
            max_size=4,
        )
    ),
)


@given(st.text() | json_values.map(json.dumps) | json_values.map(event))
def test_any_text_gives_keys_or_our_error(body: str) -> None:
    try:
        keys = created_keys(body, BUCKET)
    except InvalidEvent:
        return
    assert all(key.startswith("batches/") for key in keys)
