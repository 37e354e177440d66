"""What S3's event notifications say, and what a text says that is none."""

import json
from typing import Any

import pytest
from chalicelib.errors import InvalidEvent
from chalicelib.intake.s3_events import created_keys, named_keys, parse_event
from hypothesis import given
from hypothesis import strategies as st

from contract.keys import manifest_key
from tests.unit.chalicelib.builders import BATCH, BUCKET
from tests.unit.chalicelib.test_trigger import event, record

KEY = manifest_key(BATCH)
DROP = "dropbox/a+b c"
# JSON can name half of a surrogate pair, which is no character.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


def keys_of(body: str) -> list[str]:
    return created_keys(parse_event(body), BUCKET)


def raw(key: object, name: object = "ObjectCreated:Put", bucket: object = BUCKET) -> dict[str, Any]:
    """A record of any form."""
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def test_keys_come_quoted_and_a_multipart_upload_comes_twice() -> None:
    whole = record(name="ObjectCreated:CompleteMultipartUpload")
    assert "%2F" in whole["s3"]["object"]["key"]
    assert keys_of(event(record(), whole)) == [KEY]


def test_s3s_test_event_asks_for_nothing() -> None:
    assert keys_of('{"Service": "Amazon S3", "Event": "s3:TestEvent"}') == []


@pytest.mark.parametrize("prefix", ["batches/", "dropbox/", "instances/"])
def test_a_key_that_is_not_utf8_is_none_of_s3(prefix: str) -> None:
    body = event(record(), raw(f"{prefix}\ud800.dcm"))
    with pytest.raises(InvalidEvent, match="a key is not UTF-8"):
        keys_of(body)
    assert named_keys(body, BUCKET) == [KEY]


def bridge(key: str, bucket: str = BUCKET) -> dict[str, Any]:
    """EventBridge's form of S3's event; the key is not quoted."""
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}
    return {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}


def sns(text: str) -> dict[str, str]:
    return {"Type": "Notification", "Message": text}


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (event(record(), {"eventName": 5}), [KEY]),
        (event(raw(KEY, name=5), record(DROP), record(DROP)), [KEY, DROP]),
        (event(raw(KEY, bucket=None)), [KEY]),
        (json.dumps(bridge(DROP)), [DROP]),
        (json.dumps(sns(event(record()))), [KEY]),
        (json.dumps({"Records": [{"Sns": sns(json.dumps(bridge(KEY)))}]}), [KEY]),
        (json.dumps(bridge(KEY, "another")), []),
        (event(raw(KEY, name=5, bucket="another")), []),
        (event(raw("instances/x", name=5)), []),
        (event(raw(5)), []),
        (json.dumps(sns("{")), []),
        ("[" * 100_000, []),
        (KEY, []),
    ],
)
def test_a_damaged_or_wrapped_event_names_keys_all_the_same(body: str, keys: list[str]) -> None:
    assert named_keys(body, BUCKET) == keys
    with pytest.raises(InvalidEvent):
        keys_of(body)


json_values = st.recursive(
    st.none() | st.integers() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "Event", "eventName", "s3", "bucket", "object", "key"]),
            inner,
            max_size=4,
        )
    ),
)


@given(
    ANY_TEXT
    | json_values.map(json.dumps)
    | json_values.map(event)
    | ANY_TEXT.map(lambda text: event(raw(f"dropbox/{text}")))
)
def test_any_text_gives_keys_or_our_error(body: str) -> None:
    for each in named_keys(body, BUCKET):
        assert each.encode().startswith((b"batches/", b"dropbox/"))
    try:
        keys = keys_of(body)
    except InvalidEvent:
        return
    assert all(key.encode().startswith((b"batches/", b"dropbox/")) for key in keys)
