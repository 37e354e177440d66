"""What a dead letter is, in words of ours."""

import json
from typing import Any

import pytest
from chalicelib.operations.dead_messages import DeadLetter, judge, letter_view
from hypothesis import given
from hypothesis import strategies as st

from contract.keys import manifest_key
from tests.unit.chalicelib.builders import BATCH, BUCKET, NOW
from tests.unit.chalicelib.test_s3_events import ANY_TEXT, raw
from tests.unit.chalicelib.test_trigger import event, record

NAME = "DOE^JOHN"


def view(body: str) -> dict[str, Any]:
    return letter_view(DeadLetter("id", "handle", body, NOW, 5, judge(body, BUCKET)))


@pytest.mark.parametrize(
    ("body", "what", "junk"),
    [
        (NAME, "no S3 event: the message is not JSON", True),
        (json.dumps([NAME]), "no S3 event: the message is not a JSON object", True),
        (json.dumps({NAME: 1}), "no S3 event: the message has no Records", True),
        (event({"eventName": NAME}), "no S3 event: a record is not S3's", True),
        (event(raw("dropbox/\ud800.dcm")), "no S3 event: a key is not UTF-8", True),
        (
            event(record(), record("dropbox/x"), {"eventName": NAME}),
            "damaged event that names 2 objects of ours: a record is not S3's",
            False,
        ),
        (
            json.dumps({"Message": event(record())}),
            "damaged event that names an object of ours: the message has no Records",
            False,
        ),
        ('{"Event": "s3:TestEvent"}', "S3's test event, which names no object", False),
        (event(), "S3 event without records that names no object of ours", False),
        (
            event(record("dropbox/x", bucket=NAME)),
            "S3 event ObjectCreated that names no object of ours",
            False,
        ),
        (
            event(record(name="ObjectRemoved:Delete"), record(name=NAME)),
            "S3 event ObjectRemoved and of another kind that names no object of ours",
            False,
        ),
        (event(record()), "S3 event ObjectCreated that names an object of ours", False),
    ],
)
def test_a_dead_letter_is_said_in_our_words(body: str, what: str, junk: bool) -> None:
    found = view(body)
    assert (found["what"], found["junk"]) == (what, junk)
    assert NAME not in json.dumps(found)


def test_a_key_is_a_batchs_id_or_a_digest() -> None:
    keys = [manifest_key(BATCH), f"batches/{NAME}.json", f"dropbox/{NAME}"]
    found = view(event(*map(record, keys)))
    assert found["objectCount"] == 3
    assert found["objects"][0] == {"kind": "manifest", "batchId": BATCH}
    kinds = [(each["kind"], len(each["keySha256"])) for each in found["objects"][1:]]
    assert kinds == [("manifest", 64), ("dropped object", 64)]
    assert NAME not in json.dumps(found)


def test_a_message_of_many_objects_names_some_and_counts_all() -> None:
    found = view(event(*(record(f"dropbox/{number}") for number in range(50))))
    assert (len(found["objects"]), found["objectCount"]) == (10, 50)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=12,
)
_records = _json | ANY_TEXT.map(lambda text: raw(f"dropbox/{text}"))


@given(ANY_TEXT | _json.map(json.dumps) | st.lists(_records).map(lambda found: event(*found)))
def test_any_text_is_judged(body: str) -> None:
    found = view(body)
    assert found["junk"] == found["what"].startswith("no S3 event")
    assert found["damaged"] == found["what"].startswith("damaged event")
