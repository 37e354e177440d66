import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from store_scp.errors import SettingsInvalid
from store_scp.settings import Settings


def complaint(**environ: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env(environ)
    return str(caught.value)


def test_the_defaults_are_the_reference_products() -> None:
    settings = Settings.from_env({})
    assert settings.dicom_bucket is None
    assert settings.storage_dir == Path("/app/storage")
    assert settings.port == 11_112
    assert settings.ae_title == "STORESCP"
    assert settings.require_called_ae_title is False
    assert settings.require_calling_ae_title == ()
    assert settings.max_pool_connections == 50
    assert settings.dimse_timeout == 60
    assert settings.maximum_associations == 300
    assert settings.network_timeout == 90
    assert settings.supported_sop_class_uids == ()
    assert settings.log_level == "INFO"
    assert settings.maximum_pdu_size == 131_072  # theirs is unlimited


def test_lists_are_separated_by_commas() -> None:
    settings = Settings.from_env(
        {"REQUIRE_CALLING_AE_TITLE": "CT1, MR 1,", "SUPPORTED_SOP_CLASS_UIDS": "1.2.3,1.2.4"}
    )
    assert settings.require_calling_ae_title == ("CT1", "MR 1")
    assert settings.supported_sop_class_uids == ("1.2.3", "1.2.4")


def test_an_empty_variable_is_unset_and_an_unknown_one_ignored() -> None:
    settings = Settings.from_env({"DICOM_BUCKET": "", "SCP_PORT": "", "PATH": "/bin"})
    assert settings == Settings.from_env({})


def test_the_log_level_may_be_written_small() -> None:
    assert Settings.from_env({"LOG_LEVEL": "debug"}).log_level == "DEBUG"


def test_all_bad_variables_are_named_at_once_with_value_and_rule() -> None:
    text = complaint(SCP_PORT="99999", AE_TITLE="A" * 17, BATCH_BY="patient", LOG_LEVEL="loud")
    first, *lines = text.splitlines()
    assert first == "The settings cannot be used:"
    assert [re.split("[ =]+", line)[1] for line in lines] == [
        "SCP_PORT",
        "AE_TITLE",
        "LOG_LEVEL",
        "BATCH_BY",
    ]
    assert "SCP_PORT='99999': input should be less than or equal to 65535" in text
    assert "BATCH_BY='patient': input should be 'study' or 'mixed'" in text


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MAXIMUM_PDU_SIZE", "0", "memory without a limit"),
        ("MAXIMUM_PDU_SIZE", "4095", "from 4096 to 1048576"),
        ("MAXIMUM_PDU_SIZE", "1048577", "from 4096 to 1048576"),
        ("BATCH_MAX_FILES", "5001", "5000"),
        ("BATCH_MAX_BYTES", "10000000001", "10000000000"),
        ("MAX_INSTANCE_BYTES", str(4 * 1024**3 + 1), "4294967296"),
        ("REQUIRE_CALLED_AE_TITLE", "perhaps", "boolean"),
        ("REQUIRE_CALLING_AE_TITLE", "CT1,A\\B", "backslash"),
        ("SUPPORTED_SOP_CLASS_UIDS", "CT", "digits"),
        ("NETWORK_TIMEOUT", "0", "greater than 0"),
        ("NETWORK_TIMEOUT", "nan", "finite"),
        ("DICOM_BUCKET", "Not_A_Bucket", "pattern"),
    ],
)
def test_every_limit_is_enforced(name: str, value: str, rule: str) -> None:
    text = complaint(**{name: value})
    assert f"  {name}=" in text
    assert rule in text


def test_settings_do_not_change() -> None:
    settings = Settings.from_env({})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
