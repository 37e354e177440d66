import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from store_scp.errors import SettingsInvalid
from store_scp.settings import Settings, available_cpus


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


def test_only_a_transfer_syntax_that_is_accepted_can_be_preferred() -> None:
    settings = Settings.from_env({"PREFERRED_TRANSFER_SYNTAX_UIDS": "1.2.840.10008.1.2.1, 1.2.3"})
    assert settings.preferred_transfer_syntax_uids == ("1.2.840.10008.1.2.1", "1.2.3")
    for refused in ("1.2.840.10008.1.2.4.94", "1.2.840.10008.5.1.4.1.1.2", "JPEG"):
        assert "PREFERRED_TRANSFER_SYNTAX_UIDS" in complaint(PREFERRED_TRANSFER_SYNTAX_UIDS=refused)


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
        ("DIMSE_TIMEOUT", "9", "greater than or equal to 10"),
        ("STORAGE_FSYNC", "perhaps", "boolean"),
        ("SCP_WORKERS", "0", "greater than or equal to 1"),
        ("SCP_WORKERS", "65", "less than or equal to 64"),
        ("SCP_MAX_OPERATIONS", "0", "greater than or equal to 1"),
        ("SCP_MAX_OPERATIONS", "65", "less than or equal to 64"),
        ("SCP_BUFFER_BYTES", str(64 * 1024**2 - 1), "67108864"),
        ("SCP_BUFFER_BYTES", str(64 * 1024**3 + 1), "68719476736"),
        ("SCP_TLS_PORT", "65536", "65535"),
        ("SCP_HEALTH_PORT", "-1", "greater than or equal to 0"),
        ("SCP_EMF_NAMESPACE", "no spaces", "pattern"),
        ("SCP_PROXY_PROTOCOL", "v1", "'off' or 'v2'"),
        ("SCP_PROXY_TRUSTED_CIDRS", "10.0.0.1/8", "not a valid IPv4 network"),
        ("ARTIM_TIMEOUT", "0", "greater than 0"),
        ("PDU_TIMEOUT", "86401", "86400"),
        ("TLS_HANDSHAKE_TIMEOUT", "inf", "finite"),
        ("ECS_AGENT_URI", "agent", "pattern"),
        ("SCP_PROTECTION_MINUTES", "2881", "2880"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
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


def test_our_own_settings_have_the_documented_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.workers == available_cpus() >= 1
    assert settings.max_operations == 8
    assert settings.buffer_bytes == 1024**3
    assert settings.storage_fsync is True
    assert (settings.artim_timeout, settings.pdu_timeout, settings.drain_seconds) == (30, 60, 100)
    assert (settings.plain, settings.tls_port, settings.proxy_protocol) == (True, None, "off")
    assert (settings.health_port, settings.emf_namespace, settings.policy_file) == (
        8_080,
        None,
        None,
    )
    assert (settings.ecs_agent_uri, settings.protection_minutes) == (None, 10)


TLS = {"SCP_TLS_PORT": "2762", "SCP_TLS_CERTIFICATE": "/c.pem", "SCP_TLS_KEY": "/k.pem"}
PROXY = {"SCP_PROXY_PROTOCOL": "v2", "SCP_PROXY_TRUSTED_CIDRS": "10.0.0.0/8, 2001:db8::/32"}
FILES = "SCP_TLS_PORT needs SCP_TLS_CERTIFICATE and SCP_TLS_KEY"
PORT = "SCP_TLS_CERTIFICATE, _KEY and _CLIENT_CA need SCP_TLS_PORT"


@pytest.mark.parametrize(
    ("environ", "rules"),
    [
        ({"SCP_TLS_PORT": "2762"}, [FILES]),
        ({"SCP_TLS_PORT": "0", "SCP_TLS_KEY": "/k.pem"}, [FILES]),
        ({"SCP_TLS_CERTIFICATE": "/c.pem"}, [PORT]),
        ({"SCP_TLS_CLIENT_CA": "/ca.pem"}, [PORT]),
        ({"SCP_PLAIN": "false"}, ["SCP_PLAIN=false needs SCP_TLS_PORT"]),
        (
            {"SCP_PROXY_PROTOCOL": "v2"},
            ["SCP_PROXY_PROTOCOL=v2 needs SCP_PROXY_TRUSTED_CIDRS"],
        ),
        (
            {"SCP_PROXY_TRUSTED_CIDRS": "10.0.0.0/8"},
            ["SCP_PROXY_TRUSTED_CIDRS needs SCP_PROXY_PROTOCOL=v2"],
        ),
        (
            {"SCP_PLAIN": "false", "SCP_TLS_KEY": "/k.pem"},
            [PORT, "SCP_PLAIN=false needs SCP_TLS_PORT"],
        ),
    ],
)
def test_every_broken_rule_between_variables_has_its_line(
    environ: dict[str, str], rules: list[str]
) -> None:
    first, *lines = complaint(**environ).splitlines()
    assert first == "The settings cannot be used:"
    assert lines == [f"  {rule}" for rule in rules]


def test_variables_that_agree_are_taken_together() -> None:
    settings = Settings.from_env(TLS | PROXY | {"SCP_PLAIN": "false", "SCP_TLS_CLIENT_CA": "/ca"})
    assert (settings.tls_port, settings.plain) == (2762, False)
    assert [str(each) for each in settings.proxy_trusted_cidrs] == ["10.0.0.0/8", "2001:db8::/32"]
    assert Settings.from_env(TLS | {"SCP_TLS_PORT": "0"}).tls_port == 0  # the system chooses
