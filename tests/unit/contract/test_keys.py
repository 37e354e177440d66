from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ContractError, InvalidKey, InvalidUid
from contract.keys import (
    InstanceKey,
    batch_prefix,
    manifest_key,
    new_batch_id,
    outcome_key,
    parse_batch_id,
    parse_manifest_key,
    quarantine_key,
)

OPENED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BATCH = "20261123T093000Z-0001020304050607"
KEY = f"instances/{BATCH}/1.2/1.2.3/1.2.3.4.dcm"


def test_a_batch_id_sorts_by_its_opening_time_in_utc() -> None:
    there = timezone(timedelta(hours=9))
    assert new_batch_id(OPENED.astimezone(there), bytes(range(8))) == BATCH
    later = new_batch_id(OPENED + timedelta(seconds=1), bytes(8))
    assert later > BATCH


def test_a_batch_id_needs_its_entropy() -> None:
    with pytest.raises(InvalidKey):
        new_batch_id(OPENED, b"short")


def test_a_batch_id_is_an_execution_name_and_a_client_token() -> None:
    assert len(BATCH) <= 64
    assert set(BATCH) <= set("0123456789abcdefTZ-")


def test_a_batch_prefix_ends_in_a_slash_so_that_no_sibling_matches() -> None:
    assert batch_prefix(BATCH) == f"instances/{BATCH}/"
    assert not manifest_key(BATCH).startswith(batch_prefix(BATCH))


def test_a_manifest_key_leads_back_to_its_batch() -> None:
    assert parse_manifest_key(manifest_key(BATCH)) == BATCH


@pytest.mark.parametrize(
    "key", ["batches/x.json", "batches/.json", f"other/{BATCH}.json", f"batches/a/{BATCH}.json", ""]
)
def test_what_is_no_manifest_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidKey):
        parse_manifest_key(key)


def test_an_instance_key_leads_back_to_its_uids() -> None:
    parsed = InstanceKey.parse(KEY)
    assert parsed == InstanceKey(BATCH, "1.2", "1.2.3", "1.2.3.4")
    assert str(parsed) == KEY


@pytest.mark.parametrize(
    "key", [KEY[:-4], KEY + "/x", "instances//1/2/3.dcm", KEY.removeprefix("instances/"), "x"]
)
def test_what_is_no_instance_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidKey):
        InstanceKey.parse(key)


def test_no_instance_key_is_built_from_a_hostile_uid() -> None:
    with pytest.raises(InvalidUid):
        InstanceKey(BATCH, "../..", "1.2", "1.2")


@given(st.text(max_size=200))
def test_any_text_is_a_key_of_ours_or_refused(text: str) -> None:
    for parse in (InstanceKey.parse, parse_manifest_key, parse_batch_id):
        try:
            parse(text)
        except ContractError:
            continue
        assert text.isascii()


@given(st.text(max_size=400))
def test_a_quarantine_key_is_safe_whatever_the_name(name: str) -> None:
    key = quarantine_key("invalid-manifest", name)
    assert key.startswith("quarantine/invalid-manifest/")
    assert key.isascii()
    assert key.count("/") == 2


@pytest.mark.parametrize("reason", ["", "Not DICOM", "a/b", "-a"])
def test_a_quarantine_reason_is_a_plain_slug(reason: str) -> None:
    with pytest.raises(InvalidKey):
        quarantine_key(reason, "x")


def test_an_instance_keeps_its_batch_and_uids_where_it_is_put_aside() -> None:
    key = InstanceKey.parse(KEY)
    assert key.quarantined("import-failed") == KEY.replace(
        "instances/", "quarantine/import-failed/"
    )
    assert key.duplicate() == KEY.replace("instances/", "duplicates/")
    with pytest.raises(InvalidKey):
        key.quarantined("Not a slug")


def test_what_a_job_did_stands_under_its_batch_and_its_end_whatever_its_id_is() -> None:
    batch_id = "20261123T093000Z-0123456789abcdef"
    assert (
        outcome_key(batch_id, "0" * 32, "FAILED") == f"outcomes/{batch_id}/{'0' * 32}-FAILED.json"
    )
    assert outcome_key(batch_id, "../a b", "COMPLETED").endswith("/..%2Fa%20b-COMPLETED.json")
    with pytest.raises(InvalidKey):
        outcome_key("../x", "a", "FAILED")
