from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.checksums import Checksum
from contract.errors import InvalidMetadata
from contract.keys import InstanceKey
from contract.manifest import ManifestInstance
from contract.metadata import Sender, Target, from_metadata, to_metadata
from tests.unit.contract.test_manifest import BATCH, CHECKSUM, an_instance

SENDER = Sender("CT1", "STORESCP", "10.0.0.1", "a1b2")
STUDY = Target("study")


def metadata_of(
    instance: ManifestInstance,
    sender: Sender = SENDER,
    target: Target = STUDY,
    checksum: Checksum | None = CHECKSUM,
) -> dict[str, str]:
    return to_metadata(
        InstanceKey.parse(instance.key),
        instance.sop_class_uid,
        instance.transfer_syntax_uid,
        instance.study_date,
        checksum,
        sender,
        target,
    )


@pytest.mark.parametrize("study_date", ["20261123", None])
@pytest.mark.parametrize("target", [STUDY, Target("mixed"), Target("study", "d" * 32, urgent=True)])
def test_metadata_rebuilds_entry_sender_and_target(study_date: str | None, target: Target) -> None:
    instance = an_instance(study_date=study_date)
    metadata = metadata_of(instance, target=target)
    assert from_metadata(instance.key, instance.size, metadata) == (instance, SENDER, target)


def test_what_s3_says_of_the_checksum_goes_before_what_was_known() -> None:
    other = Checksum.of(b"other")
    instance = an_instance()
    for metadata in (metadata_of(instance), metadata_of(instance, checksum=None)):
        entry, _, _ = from_metadata(instance.key, instance.size, metadata, other)
        assert entry == replace(instance, checksum=other)


def test_metadata_from_before_there_was_a_target_is_read() -> None:
    instance = an_instance()
    old = {k: v for k, v in metadata_of(instance).items() if k != "batch-by"}
    assert from_metadata(instance.key, instance.size, old) == (instance, SENDER, STUDY)


def test_metadata_at_its_longest_fits_into_what_s3_allows() -> None:
    long = "1." + "2" * 62
    key = InstanceKey(BATCH, long, long, long)
    sender = Sender("A" * 16, "B" * 16, "2001:db8::" + "f" * 29, "c" * 32)
    target = Target("mixed", "d" * 32, urgent=True)
    metadata = to_metadata(key, long, long, "20261123", CHECKSUM, sender, target)
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 800


def test_missing_or_malformed_metadata_is_named() -> None:
    instance = an_instance()
    metadata = metadata_of(instance)
    with pytest.raises(InvalidMetadata, match="lacks checksum"):
        from_metadata(instance.key, 1, {k: v for k, v in metadata.items() if k != "checksum"})
    with pytest.raises(InvalidMetadata, match="malformed"):
        from_metadata(instance.key, 1, metadata | {"sop-class-uid": "x"})


@given(
    st.text(max_size=30) | st.just(an_instance().key),
    st.dictionaries(
        st.sampled_from(sorted(metadata_of(an_instance()))), st.text(max_size=20), max_size=12
    ),
)
def test_any_metadata_is_an_entry_or_refused(key: str, other: dict[str, str]) -> None:
    try:
        from_metadata(key, 1, metadata_of(an_instance()) | other)
    except InvalidMetadata:
        return
    assert key == an_instance().key
