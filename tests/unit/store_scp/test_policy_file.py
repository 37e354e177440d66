import json
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.errors import PolicyInvalid
from store_scp.policy import AccessPolicy, AeEntry
from store_scp.policy_file import load_policy
from store_scp.settings import Settings
from store_scp.tls import certificate_names

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
SETTINGS = Settings.from_env({})
MUTUAL = Settings.from_env(
    {
        "SCP_TLS_PORT": "2762",
        "SCP_TLS_CERTIFICATE": "scp.pem",
        "SCP_TLS_KEY": "scp.key",
        "SCP_TLS_CLIENT_CA": "ca.pem",
    }
)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
DATASTORE = "0123456789abcdef" * 2


def load(directory: Path, text: str, name: str, settings: Settings = SETTINGS) -> AccessPolicy:
    file = directory / name
    file.write_text(text, "utf-8")
    return load_policy(file, settings)


def toml(directory: Path, text: str, settings: Settings = MUTUAL) -> AccessPolicy:
    return load(directory, text, "policy.toml", settings)


def complaint(directory: Path, text: str, name: str = "policy.toml") -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        load(directory, text, name, MUTUAL)
    first, *lines = str(caught.value).splitlines()
    assert first == f"The policy file {directory / name} cannot be used:"
    return [line.strip() for line in lines]


def test_the_example_of_the_documentation_is_a_policy(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert toml(tmp_path, examples[0]).entries == (
        AeEntry(
            name="ct",
            called=frozenset({"ARCHIVE"}),
            calling=frozenset({"CT1", "CT2"}),
            networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8:7::/48")),
            subjects=frozenset({"CN=ct1,O=Hospital"}),
            subject_names=frozenset({"ct1.example.org"}),
            sop_classes=frozenset({CT_IMAGE, SECONDARY_CAPTURE}),
            transfer_syntaxes=frozenset({EXPLICIT_LE, JPEG_2000_LOSSLESS}),
            preferred_transfer_syntaxes=(JPEG_2000_LOSSLESS,),
            max_associations=4,
            batch_by="study",
        ),
        AeEntry(
            name="migration",
            called=frozenset({"MIGRATE"}),
            networks=(ip_network("10.9.0.7"),),
            batch_by="mixed",
            datastore_id=DATASTORE,
        ),
    )


def test_json_says_the_same_as_toml(tmp_path: Path) -> None:
    entry = {"name": "ct", "called": "ARCHIVE", "calling": ["CT1"], "cidr": "10.1.0.0/16"}
    assert load(tmp_path, json.dumps({"ae": [entry]}), "policy.json") == toml(
        tmp_path, '[[ae]]\nname="ct"\ncalled=["ARCHIVE"]\ncalling="CT1"\ncidr=["10.1.0.0/16"]'
    )


def test_what_an_entry_leaves_out_is_as_the_settings_have_it(tmp_path: Path) -> None:
    settings = Settings.from_env({"SUPPORTED_SOP_CLASS_UIDS": "1.2.3", "BATCH_BY": "mixed"})
    text = '[[ae]]\nname="a"\n[[ae]]\nname="b"\nsop_classes="CTImageStorage"\nbatch="study"'
    assert toml(tmp_path, text, settings).entries == (
        AeEntry("a", sop_classes=frozenset({"1.2.3"}), batch_by="mixed"),
        AeEntry("b", sop_classes=frozenset({CT_IMAGE}), batch_by="study"),
    )


def test_preferred_transfer_syntaxes_keep_their_order_and_default_to_the_settings(
    tmp_path: Path,
) -> None:
    settings = Settings.from_env({"PREFERRED_TRANSFER_SYNTAX_UIDS": EXPLICIT_LE})
    text = (
        '[[ae]]\nname="a"\n[[ae]]\nname="b"\n'
        'preferred_transfer_syntaxes=["JPEG2000Lossless", "ExplicitVRLittleEndian"]'
    )
    assert [
        each.preferred_transfer_syntaxes for each in toml(tmp_path, text, settings).entries
    ] == [
        (EXPLICIT_LE,),
        (JPEG_2000_LOSSLESS, EXPLICIT_LE),
    ]


def test_what_an_entry_prefers_it_has_to_accept(tmp_path: Path) -> None:
    (line,) = complaint(
        tmp_path,
        '[[ae]]\nname="a"\ntransfer_syntaxes="ExplicitVRLittleEndian"\n'
        'preferred_transfer_syntaxes="JPEG2000Lossless"',
    )
    assert line.startswith("entry 1 ('a'): preferred_transfer_syntaxes: ")
    assert line.endswith("names one that the entry's transfer_syntaxes leaves out")
    (line,) = complaint(
        tmp_path, '[[ae]]\nname="a"\npreferred_transfer_syntaxes="1.2.840.10008.1.2.4.94"'
    )
    assert line.endswith("is not a transfer syntax the receiver accepts")


def test_titles_and_names_are_kept_as_they_are_compared(tmp_path: Path) -> None:
    (entry,) = toml(
        tmp_path, '[[ae]]\nname="a"\ncalling=" CT1 "\ntls_san="CT1.Example.ORG"'
    ).entries
    assert entry.calling == {"CT1"}
    assert entry.subject_names == {"ct1.example.org"}


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    lines = complaint(
        tmp_path,
        """
        version = 1
        [[ae]]
        name = "ct"
        calling = ["CT1", "A\\\\B", ""]
        cidr = "1.2.3.4/8"
        [[ae]]
        name = "ct"
        called = []
        datastore-id = "x"
        [[ae]]
        batch = "patient"
        max_associations = 0
        """,
    )
    assert lines == [
        "entry 1 ('ct'): calling: 'A\\\\B': an AE title is printable ASCII without backslash",
        "entry 1 ('ct'): calling: '': an AE title has 1 to 16 characters",
        "entry 1 ('ct'): cidr: '1.2.3.4/8': is not a CIDR network, or has bits behind its prefix",
        "entry 2 ('ct'): name: 'ct': is the name of an earlier entry, too",
        "entry 2 ('ct'): called: a list: is empty; a key that narrows nothing is left out",
        "entry 2 ('ct'): 'datastore-id': 'x': is not a key of a policy file",
        "entry 3: name: is required",
        "entry 3: max_associations: 0: input should be greater than or equal to 1",
        "entry 3: batch: 'patient': input should be 'study' or 'mixed'",
        "version: 1: is not a key of a policy file",
    ]


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("name", '"CT"', "pattern"),
        ("name", '""', "pattern"),
        ("name", '"a\\n"', "pattern"),
        ("name", f'"{"a" * 33}"', "pattern"),
        ("called", "5", "valid frozenset"),
        ("called", "[5]", "valid string"),
        ("calling", f'"{"A" * 17}"', "16 characters"),
        ("cidr", "167772160", "tuple"),
        ("cidr", "[167772160]", "CIDR"),
        ("cidr", '"ct1.example.org"', "CIDR"),
        ("cidr", '"::ffff:10.0.0.0/104"', "IPv4"),
        ("tls_subject", '"ct1"', "RFC 4514"),
        ("tls_subject", '"CN=ct1, O=Hospital"', "RFC 4514"),
        ("tls_subject", '"CN = ct1"', "RFC 4514"),
        ("tls_san", '""', "at least 1 character"),
        ("sop_classes", '"CTImage"', "neither a UID nor the keyword"),
        ("sop_classes", '"1.2.840.10008.5.1.4.1.2.2.1"', "not a storage SOP class"),
        ("sop_classes", '"1.2.840.10008.1.1"', "not a storage SOP class"),
        ("sop_classes", '"ExplicitVRLittleEndian"', "not a storage SOP class"),
        ("sop_classes", '"__doc__"', "neither"),
        ("sop_classes", '"PYDICOM_IMPLEMENTATION_UID"', "neither"),
        ("transfer_syntaxes", '"1.2.840.10008.1.2.4.94"', "not a transfer syntax"),
        ("transfer_syntaxes", '"CTImageStorage"', "not a transfer syntax"),
        ("max_associations", "10_001", "10000"),
        ("max_associations", "true", "valid integer"),
        ("max_associations", '"4"', "valid integer"),
        ("max_associations", "0x1" + "0" * 5_000, "beyond 64 bits"),
        ("datastore_id", f'"{DATASTORE.upper()}"', "pattern"),
        ("datastore_id", '"abc"', "pattern"),
    ],
)
def test_a_bad_value_is_named_with_its_rule(
    tmp_path: Path, key: str, value: str, rule: str
) -> None:
    name = "" if key == "name" else 'name = "ct"\n'
    (line,) = complaint(tmp_path, f"[[ae]]\n{name}{key} = {value}")
    assert re.match(rf"entry 1 \([^)]*\): {key}: ", line)
    assert rule in line


@pytest.mark.parametrize("key", ["tls_subject", "tls_san"])
def test_a_certificate_nobody_will_show_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(PolicyInvalid, match=f"entry 1 \\('ct'\\): {key}: .*SCP_TLS_CLIENT_CA"):
        toml(tmp_path, f'[[ae]]\nname = "ct"\n{key} = "CN=ct1"', SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("policy.toml", "[[ae]", "cannot be parsed: Expected ']]' .*line 1"),
        ("policy.toml", "", "ae: is required"),
        ("policy.toml", "ae = []", "ae: a list: must have 1 to 1000 entries, not 0"),
        ("policy.toml", "ae = [1]", "entry 1: 1: input should be a valid dictionary"),
        ("policy.toml", "[ae]\nname = 'ct'", "ae: a dict: input should be a valid tuple"),
        ("policy.toml", "ae = " + "[" * 100_000, "cannot be parsed"),
        ("policy.json", "{", "cannot be parsed: Expecting property name"),
        ("policy.json", "[]", "a list: input should be a valid dictionary"),
        ("policy.json", "null", "a NoneType: input should be a valid dictionary"),
        ("policy.json", "[" * 100_000, "cannot be parsed"),
        ("policy.json", "1" * 5_000, "cannot be parsed"),
        ("policy.json", '{"ae": [], "ae": [{"name": "ct"}]}', "a key twice"),
        ("policy.yaml", "", "must end in .toml or .json"),
        ("policy.toml", "#" * 262_145, "more than 262144 bytes"),
        ("policy.toml", "[[ae]]\n" * 1_001, "1 to 1000 entries, not 1001"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(
    tmp_path: Path, name: str, text: str, rule: str
) -> None:
    lines = complaint(tmp_path, text, name)
    assert any(re.search(rule, line) for line in lines)
    assert all(len(line) < 300 for line in lines)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes("# Köln".encode("latin-1"))
    for name, rule in [
        ("missing.toml", "cannot be read: No such file"),
        ("directory.toml", "cannot be read: Is a directory"),
        ("latin.toml", "cannot be parsed: 'utf-8'"),
    ]:
        with pytest.raises(PolicyInvalid, match=rule):
            load_policy(tmp_path / name, SETTINGS)


ATTRIBUTES = st.tuples(
    st.sampled_from(["commonName", "organizationName", "emailAddress", "1.2.3"]), st.text()
)
SUBJECTS = st.lists(st.lists(ATTRIBUTES, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3)


@given(SUBJECTS)
def test_the_subject_of_any_certificate_can_be_bound(
    tmp_path_factory: pytest.TempPathFactory, subject: list[tuple[tuple[str, str], ...]]
) -> None:
    written = certificate_names({"subject": tuple(subject)}).subject
    text = json.dumps({"ae": [{"name": "a", "tls_subject": written}]})
    directory = tmp_path_factory.getbasetemp()
    (entry,) = load(directory, text, "subject.json", MUTUAL).entries
    assert entry.subjects == {written}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.text(max_size=20)
KEYS = st.sampled_from([*AeEntry.__slots__, "cidr", "tls_subject", "tls_san", "batch"]) | NAMES
ENTRIES = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=2)
DOCUMENTS = st.dictionaries(st.just("ae") | NAMES, ENTRIES, max_size=2)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | DOCUMENTS.map(json.dumps),
    st.sampled_from(["any.toml", "any.json"]),
)
def test_any_bytes_are_a_policy_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str, name: str
) -> None:
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        policy = load_policy(file, MUTUAL)
    except PolicyInvalid as error:
        said = str(error)
    else:
        assert policy.entries
        return
    assert len(said.splitlines()) > 1
