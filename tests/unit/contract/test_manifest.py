import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.checksums import Checksum
from contract.errors import InvalidChecksum, InvalidManifest
from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.times import from_iso, to_iso

BATCH = "20261123T093000Z-0001020304050607"
CHECKSUM = Checksum.of(b"the object")
uids = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).map(
    lambda parts: ".".join(map(str, parts))
)


def an_instance(sop: str = "1.2.3.4", study_date: str | None = "20261123") -> ManifestInstance:
    return ManifestInstance(
        key=str(InstanceKey(BATCH, "1.2", "1.2.3", sop)),
        size=10,
        checksum=CHECKSUM,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=sop,
        series_instance_uid="1.2.3",
        study_instance_uid="1.2",
        study_date=study_date,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def a_manifest(*instances: ManifestInstance) -> Manifest:
    return Manifest(
        batch_id=BATCH,
        closed_at=datetime(2026, 11, 23, 9, 31, 5, 250, tzinfo=UTC),
        close_reason=CloseReason.QUIET,
        source=Source("CT1", "STORESCP", ("10.0.0.1",), ("a1b2",)),
        datastore_id=None,
        instances=instances or (an_instance(),),
    )


@given(st.lists(uids, min_size=1, max_size=20, unique=True))
def test_a_manifest_survives_the_round_trip(sops: list[str]) -> None:
    manifest = a_manifest(*(an_instance(sop) for sop in sops))
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_document_is_what_the_design_says() -> None:
    document = json.loads(a_manifest().to_json())
    assert document["version"] == 1
    assert document["prefix"] == f"instances/{BATCH}/"
    assert document["closedAt"] == "2026-11-23T09:31:05.000250Z"
    assert document["target"] == {"datastoreId": None, "urgent": False}
    assert document["instances"][0]["checksum"] == str(CHECKSUM)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 2, "version"),
        ("version", True, "version"),
        ("batchId", "nonsense", "batch id"),
        ("prefix", "instances/", "prefix"),
        ("closedAt", "yesterday", "malformed"),
        ("closeReason", "bored", "malformed"),
        ("source", [], "source"),
        ("source.callingAeTitle", "A\\B", "AE title"),
        ("source.associationIds", [1], "associationIds"),
        ("target", None, "target"),
        ("target.datastoreId", 5, "datastoreId"),
        ("target.urgent", "yes", "urgent"),
        ("target.urgent", None, "urgent"),
        ("instances", [], "1 to 5000"),
        ("instances.0", 7, "instances[]"),
        ("instances.0.size", -1, "negative"),
        ("instances.0.size", "10", "size"),
        ("instances.0.checksum", "MD5:AA==", "checksum"),
        ("instances.0.sopInstanceUID", "../..", "UID"),
        ("instances.0.sopInstanceUID", "1.9", "key"),
        ("instances.0.studyDate", "11/23/26", "studyDate"),
    ],
)
def test_a_wrong_member_is_named(path: str, value: object, said: str) -> None:
    document = json.loads(a_manifest().to_json())
    *parents, last = [int(each) if each.isdigit() else each for each in path.split(".")]
    place: Any = document
    for each in parents:
        place = place[each]
    place[last] = value
    with pytest.raises(InvalidManifest) as refused:
        Manifest.from_json(json.dumps(document).encode())
    assert said in str(refused.value)


def test_an_instance_listed_twice_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="twice"):
        Manifest.from_json(a_manifest(an_instance(), an_instance()).to_json())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidManifest):
        Manifest.from_json(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["version", "a"]), inner),
    )
)
def test_any_json_is_a_manifest_or_refused(document: object) -> None:
    with pytest.raises(InvalidManifest):
        Manifest.from_json(json.dumps(document).encode())


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InvalidManifest):
        Manifest.from_json(b"[" * 100_000)


def test_a_manifest_from_before_there_was_urgent_is_read() -> None:
    document = json.loads(a_manifest().to_json())
    del document["target"]["urgent"]
    assert Manifest.from_json(json.dumps(document).encode()) == a_manifest()


def test_a_checksum_names_its_algorithm_and_compares_by_value() -> None:
    assert Checksum.parse(str(CHECKSUM)) == CHECKSUM
    assert Checksum.of(b"x") != CHECKSUM
    # The last character's spare bits differ; the value is the same.
    assert Checksum.parse("CRC32C:AAAAAB==") == Checksum.parse("CRC32C:AAAAAA==")


@pytest.mark.parametrize("text", ["", "SHA256", "SHA256:", "SHA256:AAAA", "MD5:AAAA", "CRC32C:é"])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(InvalidChecksum):
        Checksum.parse(text)


def test_times_are_utc_and_sort_as_text() -> None:
    moment = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert to_iso(moment) == "2026-11-23T09:30:00.000000Z"
    assert from_iso(to_iso(moment)) == moment
    with pytest.raises(ValueError, match="time zone"):
        to_iso(datetime(2026, 11, 23))  # noqa: DTZ001 - that is the point
