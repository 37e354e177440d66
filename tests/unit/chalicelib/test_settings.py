import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from chalicelib import VERSION, logs
from chalicelib.errors import SettingsError
from chalicelib.settings import ImportSettings, IntakeSettings, LogSettings, TableSettings
from hypothesis import given
from hypothesis import strategies as st

COMPLETE = {
    "DATASTORE_ID": "0" * 32,
    "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    "RESULTS_BUCKET": "results",
}


def test_defaults_stand_where_nothing_is_set_and_empty_is_unset() -> None:
    settings = ImportSettings.from_env(COMPLETE | {"POLL_MIN_SECONDS": " "})
    assert (settings.poll_min_seconds, settings.poll_max_seconds) == (5, 60)
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


@given(st.dictionaries(st.sampled_from(sorted(ImportSettings.model_fields)), st.text()))
def test_any_environment_gives_settings_or_our_error(environ: dict[str, str]) -> None:
    upper = {name.upper(): value for name, value in environ.items()}
    for model in (ImportSettings, IntakeSettings, LogSettings):
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
