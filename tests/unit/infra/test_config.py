import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deploy import config, rules, templates
from infra.deploy.config import Configuration
from infra.deploy.errors import ConfigInvalid
from infra.deploy.templates import Parameter

TEMPLATES = templates.read()
GOOD: dict[str, Any] = {"region": "eu-west-1", "parameters": {"PeerCIDR1": "10.1.0.0/16"}}


def checked(document: dict[str, Any], stage: str = "prod") -> Configuration:
    return config.check(document, stage, None, TEMPLATES)


def problems(**parameters: Any) -> list[str]:
    """What is said of these parameters beside a good one."""
    try:
        checked(GOOD | {"parameters": GOOD["parameters"] | parameters})
    except ConfigInvalid as error:
        return list(error.problems)
    return []


def test_every_error_of_a_file_is_told_in_one_answer() -> None:
    document = {
        "region": "eu-central-1",
        "parameters": {
            "PeerCIDR1": "10.1.0.0/8",
            "SCPAETitl": "STORE",
            "VpcID": "vpc-12345678",
            "TaskCPU": 512,
            "TaskMemoryLimit": 8192,
            "TaskDesiredCount": 5,
            "DIMSETimeout": "soon",
            "ImageUri": "mine:1",
        },
        "functions": {"check_status": {"timeout": 900, "memory": 64}, "recieve": {}},
        "environment": {"START_RATE": -1, "DICOM_BUCKET": "mine"},
        "colour": "blue",
    }
    with pytest.raises(ConfigInvalid) as raised:
        checked(document, "Prod-1")
    said = raised.value.format_message()
    for expected in (
        "The configuration has 16 errors; nothing was called or changed.",
        "colour = 'blue': extra inputs are not permitted",
        "functions.check_status.memory = 64: input should be greater than or equal to 128",
        "region = 'eu-central-1': HealthImaging is in ap-southeast-2, ",
        "parameters.SCPAETitl: no template has this parameter; did you mean SCPAETitle?",
        "parameters.ImageUri: the command gives this itself",
        "parameters.Stage = 'Prod-1': must be 1 to 8 lower-case letters and digits",
        "parameters.DIMSETimeout = 'soon': must be a number",
        "parameters.PeerCIDR1 = '10.1.0.0/8': 10.1.0.0/8 has host bits set",
        "VpcID needs PublicSubnetIDs",
        "VpcID needs PrivateSubnetIDs",
        "TaskCPU 512 goes with TaskMemoryLimit 1024, 2048 or 4096",
        "parameters.TaskDesiredCount = '5': more than AutoscaleMaxCapacity, 3",
        "environment.DICOM_BUCKET: no Lambda reads this, or an output gives it",
        "environment.START_RATE='-1': ",
        "functions.recieve: there is no such function; did you mean reconcile?",
        "functions.check_status.timeout = 900: the state machine waits for 300 s only",
    ):
        assert expected in said, said


def test_a_timeout_that_fits_no_round_or_outlasts_the_queue_is_an_error() -> None:
    given = {"trigger_import": 121, "collect_dropbox": 60, "recover_batches": 300}
    sizes = {name: {"timeout": seconds} for name, seconds in given.items()}
    with pytest.raises(ConfigInvalid) as raised:
        checked(
            {"region": "eu-west-1", "parameters": {"PeerCIDR1": "10.1.0.0/16"}, "functions": sizes}
        )
    assert sorted(raised.value.problems) == [
        "functions.collect_dropbox.timeout = 60: at least 90, for what it begins to end",
        "functions.trigger_import.timeout = 121: at most 120, a sixth of the queue's visibility",
    ]


def test_what_has_no_default_is_asked_for_in_the_templates_words() -> None:
    with pytest.raises(ConfigInvalid) as raised:
        checked({"region": "eu-west-1"})
    assert raised.value.problems == (
        "parameters.PeerCIDR1: not set; A network whose modalities may connect.",
    )


def test_a_file_that_cannot_be_read_or_parsed_is_one_error(tmp_path: Path) -> None:
    for text in ("parameters = [", None):
        path = tmp_path / f"{text is None}.toml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigInvalid, match=re.escape(str(path))):
            config.load(path, "prod", None, TEMPLATES)


def test_the_command_lines_region_goes_before_the_files_and_that_before_the_profiles(
    tmp_path: Path,
) -> None:
    path = tmp_path / "prod.toml"
    path.write_text('region = "eu-west-1"\n[parameters]\nPeerCIDR1 = "10.1.0.0/16"\n')
    assert config.load(path, "prod", "us-east-1", TEMPLATES, "us-west-2").region == "us-east-1"
    assert config.load(path, "prod", None, TEMPLATES, "us-west-2").region == "eu-west-1"
    path.write_text('[parameters]\nPeerCIDR1 = "10.1.0.0/16"\n')
    assert config.load(path, "prod", None, TEMPLATES, "us-west-2").region == "us-west-2"
    with pytest.raises(ConfigInvalid, match="region: not set"):
        config.load(path, "prod", None, TEMPLATES)


def test_each_stack_is_given_what_its_template_asks_for_and_no_more() -> None:
    configuration = checked(GOOD | {"parameters": {"PeerCIDR1": "10.1.0.0/16", "SCPPort": 104}})
    by_name = {each.name: each for each in TEMPLATES}
    assert configuration.parameters_of(by_name["storage"]) == {"Stage": "prod"}
    assert configuration.parameters_of(by_name["service"], ImageUri="i:1") == {
        "Stage": "prod",
        "ImageUri": "i:1",
        "SCPPort": "104",
        "PeerCIDR1": "10.1.0.0/16",
    }
    assert configuration.stack_name("storage") == "dicom-store-scp-prod-storage"


def test_lists_and_booleans_of_toml_become_what_cloudformation_takes() -> None:
    vpc = {
        "VpcID": "vpc-12345678",
        "PublicSubnetIDs": ["subnet-11111111", "subnet-22222222"],
        "PrivateSubnetIDs": ["subnet-33333333", "subnet-44444444"],
        "CustomerManagedKey": True,
    }
    given = checked(GOOD | {"parameters": GOOD["parameters"] | vpc}).parameters
    assert given["PublicSubnetIDs"] == "subnet-11111111,subnet-22222222"
    assert given["CustomerManagedKey"] == "true"


def test_a_private_api_needs_endpoints_only_in_a_vpc_of_your_own() -> None:
    assert problems(PrivateApi=True) == []
    vpc = {
        "VpcID": "vpc-12345678",
        "PublicSubnetIDs": "subnet-11111111,subnet-22222222",
        "PrivateSubnetIDs": "subnet-33333333,subnet-44444444",
    }
    (said,) = problems(PrivateApi=True, **vpc)
    assert said.startswith("api.vpc_endpoints: PrivateApi in your own VPC")
    with pytest.raises(ConfigInvalid, match="only for PrivateApi"):
        checked(GOOD | {"api": {"vpc_endpoints": ["vpce-1"]}})


def test_rules_between_parameters() -> None:
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/1-2"
    assert "takes only certificates of its Region" in problems(TLSCertificateARN=arn)[0]
    assert problems(TLSCertificateARN=arn.replace("us-east-1", "eu-west-1")) == []
    assert "SCPPort and SCPTLSPort must differ" in problems(SCPPort=2762)
    assert "PeerCIDR2 = '300.1.0.0/16'" in problems(PeerCIDR2="300.1.0.0/16")[0]
    assert problems(TaskCPU=4096, TaskMemoryLimit=8192, TaskDesiredCount=3) == []


def test_every_rule_of_the_templates_can_be_evaluated() -> None:
    found = [rule for each in TEMPLATES for rule in each.document.get("Rules", {}).values()]
    assert found
    for rule in found:
        rules.evaluate(rule.get("RuleCondition", True), {})
        for each in rule["Assertions"]:
            rules.evaluate(each["Assert"], {})


def test_the_rules_of_a_parameter() -> None:
    number = Parameter("N", "Number", value=(1, 10))
    assert config.broken_rules(number, "0") == ["must be at least 1"]
    assert config.broken_rules(number, "11") == ["must be at most 10"]
    assert config.broken_rules(number, "1e1") == ["must be a number"]
    assert config.broken_rules(number, "10") == []
    text = Parameter("T", pattern="[a-z]+", length=(2, 3))
    assert config.broken_rules(text, "a") == ["must have at least 2 characters"]
    assert len(config.broken_rules(text, "ABCD")) == 2
    assert config.broken_rules(Parameter("A", allowed=("a", "b")), "c") == ["must be one of a, b"]
    names = Parameter("L", "CommaDelimitedList", pattern="[a-z]+")
    assert config.broken_rules(names, "a, b") == []
    assert config.broken_rules(names, "a,1") == ["must match [a-z]+"]


_scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats()
_known = ["PeerCIDR1", "VpcCIDR", "TaskCPU", "START_RATE", "check_status", "memory", "uri"]
_keys = st.sampled_from(_known) | st.text()
# Small: large documents take seconds to make, and nothing here depends on size.
_tables = st.recursive(
    _scalars,
    lambda inner: st.dictionaries(_keys, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=5,
)
_sections = st.sampled_from(["region", "parameters", "functions", "environment", "api", "image"])


@given(st.dictionaries(_sections | st.text(), _tables, max_size=5), st.text())
def test_any_document_is_a_configuration_or_a_list_of_errors(
    document: dict[str, Any], stage: str
) -> None:
    with suppress(ConfigInvalid):
        checked(document, stage)
