import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from chalicelib import VERSION, logs
from chalicelib.errors import SettingsError
from chalicelib.settings import (
    AdmissionSettings,
    EventSettings,
    ImportSettings,
    IntakeSettings,
    LogSettings,
    RecoverySettings,
    RetentionSettings,
    TableSettings,
)
from hypothesis import given
from hypothesis import strategies as st

COMPLETE = {
    "DATASTORE_ID": "0" * 32,
    "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    "RESULTS_BUCKET": "results",
}


def test_defaults_stand_where_nothing_is_set_and_empty_is_unset() -> None:
    settings = ImportSettings.from_env(COMPLETE | {"POLL_MIN_SECONDS": " "})
    assert (settings.poll_min_seconds, settings.poll_max_seconds) == (15, 60)
    assert settings.import_max_age_seconds == 86_400
    assert TableSettings.from_env({"JOB_TABLE": ""}).job_table == "DicomImportJobTable"


def test_every_error_is_told_at_once_with_variable_value_and_rule() -> None:
    with pytest.raises(SettingsError) as raised:
        ImportSettings.from_env({"DATASTORE_ID": "x", "POLL_MIN_SECONDS": "often"})
    message = str(raised.value)
    assert "DATA_ACCESS_ROLE_ARN is not set" in message
    assert "RESULTS_BUCKET is not set" in message
    assert "POLL_MIN_SECONDS='often'" in message


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"POLL_MIN_SECONDS": "61"}, "must not exceed POLL_MAX_SECONDS"),
        ({"IMPORT_MAX_AGE_SECONDS": "200000"}, "at most 2000 times POLL_MAX_SECONDS"),
        ({"POLL_MAX_SECONDS": "0"}, "POLL_MAX_SECONDS='0'"),
    ],
)
def test_intervals_must_fit_each_other(more: dict[str, str], rule: str) -> None:
    with pytest.raises(SettingsError, match=rule):
        ImportSettings.from_env(COMPLETE | more)


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1", "1/4"])
def test_a_pace_that_is_none_is_refused(rate: str) -> None:
    environ = {"DICOM_BUCKET": "b", "STATE_MACHINE_ARN": "a", "DATASTORE_ID": "d"}
    assert AdmissionSettings.from_env(environ).start_rate == 1
    with pytest.raises(SettingsError, match="START_RATE"):
        AdmissionSettings.from_env(environ | {"START_RATE": rate})


@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "-1", "soon"])
def test_a_quiet_time_that_is_none_is_refused(minutes: str) -> None:
    environ = {"DICOM_BUCKET": "b"}
    settings = EventSettings.from_env(environ)
    assert (settings.event_bus, settings.study_quiet_minutes) == ("default", 15)
    with pytest.raises(SettingsError, match="STUDY_QUIET_MINUTES"):
        EventSettings.from_env(environ | {"STUDY_QUIET_MINUTES": minutes})


@pytest.mark.parametrize("days", ["-1", "366", "1.5"])
def test_a_retention_that_the_manifests_do_not_outlive_is_refused(days: str) -> None:
    environ = {"DICOM_BUCKET": "b"}
    assert RetentionSettings.from_env(environ).retention_days == 30
    assert RetentionSettings.from_env(environ | {"RETENTION_DAYS": "0"}).retention_days == 0
    with pytest.raises(SettingsError, match="RETENTION_DAYS"):
        RetentionSettings.from_env(environ | {"RETENTION_DAYS": days})


MODELS = (
    AdmissionSettings,
    EventSettings,
    ImportSettings,
    IntakeSettings,
    LogSettings,
    RecoverySettings,
    RetentionSettings,
)
NAMES = sorted({name for model in MODELS for name in model.model_fields})


@given(st.dictionaries(st.sampled_from(NAMES), st.text()))
def test_any_environment_gives_settings_or_our_error(environ: dict[str, str]) -> None:
    upper = {name.upper(): value for name, value in environ.items()}
    for model in MODELS:
        with suppress(SettingsError):
            model.from_env(upper)


def test_log_lines_are_json_from_the_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogSettings(log_level="WARNING"))
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud", batch_id="b")
    logs.configure(LogSettings(log_format="console"))
    structlog.get_logger().info("readable")
    out = capsys.readouterr().out
    assert '"event": "loud"' in out
    assert "quiet" not in out
    assert "readable" in out
    structlog.reset_defaults()


def test_an_unexpected_error_is_described_without_its_message() -> None:
    def raising() -> None:
        raise KeyError("DOE^JOHN")

    with pytest.raises(KeyError) as raised:
        raising()
    said = logs.describe(raised.value)
    assert said["error"] == "KeyError"
    assert "raising" in said["where"]
    assert "DOE" not in str(said)
    assert logs.describe(KeyError())["where"] == ""


def test_the_version_is_the_projects() -> None:
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text())["project"]["version"] == VERSION
