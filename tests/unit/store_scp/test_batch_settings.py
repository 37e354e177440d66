"""What can be set about batches' leases, size and urgency."""

from pathlib import Path

import pytest
from store_scp.errors import PolicyInvalid, SettingsInvalid
from store_scp.policy_file import load_policy
from store_scp.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("BATCH_MAX_METADATA_BYTES", "50000001", "50000000"),
        ("BATCH_TABLE", "no table", "pattern"),
        ("LEASE_SECONDS", "0.5", "greater than or equal to 1"),
        ("BATCH_TABLE", "batches", "BATCH_TABLE needs DICOM_BUCKET"),
    ],
)
def test_every_limit_is_enforced(name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        Settings.from_env({name: value})
    assert name in str(refused.value)
    assert rule in str(refused.value)


def test_leases_are_off_until_a_table_is_named() -> None:
    assert Settings.from_env({}).batch_table is None
    leased = Settings.from_env({"BATCH_TABLE": "batches", "DICOM_BUCKET": "bucket"})
    assert (leased.batch_table, leased.lease_seconds) == ("batches", 60)


@pytest.mark.parametrize(("text", "urgent"), [("urgent = true", True), ("", False)])
def test_an_entry_of_the_policy_may_be_urgent(tmp_path: Path, text: str, urgent: bool) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'[[ae]]\nname = "stroke"\n{text}\n')
    (entry,) = load_policy(file, Settings.from_env({})).entries
    assert entry.urgent is urgent


def test_urgent_is_true_or_false_and_nothing_like_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[[ae]]\nname = "stroke"\nurgent = "yes"\n')
    with pytest.raises(PolicyInvalid, match="urgent: 'yes'"):
        load_policy(file, Settings.from_env({}))
