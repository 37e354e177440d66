"""A study's instances, read from its image sets."""

import gzip
import io
import json
from contextlib import suppress
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from chalicelib.errors import ImportThrottled, ResultsNotUnderstood
from chalicelib.imports.healthimaging import HealthImaging
from chalicelib.imports.inventory import LOST, Held, instances_in, results_of
from hypothesis import given
from hypothesis import strategies as st

from contract.records import Counts
from tests.unit.chalicelib.builders import DATASTORE, NOW, a_manifest

FIRST, SECOND = "a" * 32, "b" * 32


def metadata(*uids: str) -> bytes:
    instances: dict[str, Any] = {uid: {} for uid in uids}
    series = {"1.2.3": {"Instances": instances}}
    return json.dumps({"Study": {"Series": series}}).encode()


def found(image_set_id: str, *, primary: bool, version: int = 1) -> dict[str, Any]:
    return {
        "imageSetId": image_set_id,
        "version": version,
        "createdAt": NOW,
        "updatedAt": NOW,
        "isPrimary": primary,
    }


def page(*summaries: dict[str, Any], further: str | None = None) -> dict[str, Any]:
    more = {"nextToken": further} if further else {}
    return {"imageSetsMetadataSummaries": list(summaries)} | more


def answer_metadata(answers: Stubber, image_set_id: str, body: bytes) -> None:
    blob = StreamingBody(io.BytesIO(body), len(body))
    asked = {"datastoreId": DATASTORE, "imageSetId": image_set_id}
    answers.add_response("get_image_set_metadata", {"imageSetMetadataBlob": blob}, asked)


def test_a_studys_instances_are_read_page_by_page_and_the_primarys_count(
    client: Any, answers: Stubber
) -> None:
    answers.add_response("search_image_sets", page(found(FIRST, primary=False), further="t"))
    answer_metadata(answers, FIRST, metadata("1.1", "1.2"))
    answers.add_response("search_image_sets", page(found(SECOND, primary=True, version=7)))
    answer_metadata(answers, SECOND, gzip.compress(metadata("1.2")))
    inventory = HealthImaging(client).inventory(DATASTORE, "1.2.3")
    assert inventory == {
        "1.1": Held(FIRST, 1, is_primary=False),
        "1.2": Held(SECOND, 7, is_primary=True),
    }


def test_a_data_store_that_is_gone_has_nothing(client: Any, answers: Stubber) -> None:
    code = "ResourceNotFoundException"
    answers.add_client_error("search_image_sets", code, http_status_code=404)
    assert HealthImaging(client).inventory(DATASTORE, "1.2.3") == {}


def test_a_search_that_is_throttled_says_nothing(client: Any, answers: Stubber) -> None:
    answers.add_client_error("search_image_sets", "ThrottlingException", http_status_code=429)
    with pytest.raises(ImportThrottled):
        HealthImaging(client).inventory(DATASTORE, "1.2.3")


def test_each_instance_is_there_or_lost_or_another_batchs() -> None:
    manifest = a_manifest(3)
    held = {"1.2.3.1": Held(FIRST, 2, is_primary=False)}
    results = results_of(manifest, held, {manifest.instances[1].key})
    outcomes = list(results.outcomes.values())
    assert [each.reason for each in outcomes] == [None, None, LOST]
    assert outcomes[1].duplicate
    assert results.image_set_ids == (FIRST,)
    assert results.counts == Counts(3, imported=2, failed=1, duplicates=1, non_primary=1)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(str).map(str.encode))
def test_any_metadata_are_read_or_not_understood(blob: bytes) -> None:
    with suppress(ResultsNotUnderstood):
        assert instances_in(blob) == frozenset()


@pytest.mark.parametrize(
    "blob",
    [b"", b"[]", b"{}", b'{"Study": {"Series": []}}', b'{"Study": {"Series": {"1": 2}}}'],
)
def test_metadata_of_another_form_are_not_understood(blob: bytes) -> None:
    with pytest.raises(ResultsNotUnderstood):
        instances_in(blob)
    with pytest.raises(ResultsNotUnderstood):
        instances_in(gzip.compress(blob)[:-9])
