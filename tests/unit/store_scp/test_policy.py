from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.errors import AssociationRejected
from store_scp.policy import (
    AccessPolicy,
    AdmittedPeer,
    AeEntry,
    Certificate,
    Peer,
    alternative_name,
    application_context_not_supported,
    congested,
    limit_exceeded,
    policy_from_settings,
    protocol_version_not_supported,
    shutting_down,
)
from store_scp.settings import Settings

OPEN = AeEntry("open")
CT = AeEntry(
    "ct",
    called=frozenset({"STORESCP"}),
    calling=frozenset({"CT1"}),
    networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8::/32")),
    subjects=frozenset({"CN=ct1,O=Hospital"}),
)
CT_CERTIFICATE = Certificate("CN=ct1,O=Hospital", frozenset({"ct1.example.org"}))
CT_PEER = Peer("CT1", "STORESCP", "10.1.2.3", CT_CERTIFICATE)

CALLED = (1, 1, 7)
CALLING = (1, 1, 3)


def triple(rejected: AssociationRejected) -> tuple[int, int, int]:
    return rejected.result, rejected.source, rejected.reason


def rejection(peer: Peer, *entries: AeEntry) -> AssociationRejected:
    with pytest.raises(AssociationRejected) as caught:
        AccessPolicy(entries).admit(peer)
    return caught.value


def entry_of(peer: Peer, *entries: AeEntry) -> str:
    return AccessPolicy(entries).admit(peer).entry.name


def test_an_entry_that_asks_nothing_admits_every_peer() -> None:
    admitted = AccessPolicy((OPEN,)).admit(Peer("ANY", "OTHER", "192.0.2.1", None))
    assert admitted == AdmittedPeer("ANY", "OTHER", OPEN)


def test_titles_are_compared_and_kept_without_padding() -> None:
    peer = replace(CT_PEER, calling=" CT1    ", called="STORESCP  ")
    assert AccessPolicy((CT,)).admit(peer) == AdmittedPeer("CT1", "STORESCP", CT)


@pytest.mark.parametrize(
    ("peer", "expected", "rule"),
    [
        (replace(CT_PEER, called="OTHER"), CALLED, "called"),
        (replace(CT_PEER, called="storescp"), CALLED, "called"),
        (replace(CT_PEER, calling="CT2"), CALLING, "calling"),
        (replace(CT_PEER, address="10.2.0.1"), CALLING, "address"),
        (replace(CT_PEER, address="2001:db9::1"), CALLING, "address"),
        (replace(CT_PEER, address="nowhere"), CALLING, "address"),
        (replace(CT_PEER, certificate=None), CALLING, "certificate"),
        (
            replace(CT_PEER, certificate=Certificate("CN=ct2", CT_CERTIFICATE.names)),
            CALLING,
            "certificate",
        ),
        (Peer("CT2", "STORESCP", "192.0.2.1", None), CALLING, "calling"),
        (Peer("CT2", "OTHER", "192.0.2.1", None), CALLED, "called"),
    ],
)
def test_a_peer_is_told_of_the_first_rule_it_breaks(
    peer: Peer, expected: tuple[int, int, int], rule: str
) -> None:
    rejected = rejection(peer, CT)
    assert triple(rejected) == expected
    assert rule in str(rejected)


def test_of_several_entries_the_one_a_peer_comes_closest_to_tells() -> None:
    mr = AeEntry("mr", called=frozenset({"MRSCP"}))
    rejected = rejection(replace(CT_PEER, address="192.0.2.1"), mr, CT, mr)
    assert triple(rejected) == CALLING
    assert "address" in str(rejected)


@pytest.mark.parametrize(
    ("peer", "key", "needs"),
    [
        (
            replace(CT_PEER, called="OTHER"),
            "called",
            "called=STORESCP, or an entry for the called AE title",
        ),
        (
            replace(CT_PEER, calling="CT9"),
            "calling",
            "calling=CT1, or an entry that names the calling AE title",
        ),
        (
            replace(CT_PEER, address="10.2.0.1"),
            "cidr",
            "an address in 10.1.0.0/16 or 2001:db8::/32, or an entry whose cidr has the peer's",
        ),
        (
            replace(CT_PEER, certificate=None),
            "tls_subject",
            (
                "a certificate with tls_subject=CN=ct1,O=Hospital, shown on"
                " the TLS port, which needs"
                " SCP_TLS_CLIENT_CA"
            ),
        ),
        (
            replace(CT_PEER, certificate=Certificate("CN=mr1", frozenset())),
            "tls_subject",
            "a certificate with tls_subject=CN=ct1,O=Hospital",
        ),
    ],
)
def test_a_rejection_names_the_nearest_entry_its_key_and_what_would_fit(
    peer: Peer, key: str, needs: str
) -> None:
    rejected = rejection(peer, AeEntry("mr", called=frozenset({"MRSCP"})), CT, CT)
    if key == "called":
        rejected = rejection(peer, CT, AeEntry("mr", called=frozenset({"MRSCP"})))
    assert (rejected.entry, rejected.key, rejected.needs) == ("ct", key, needs)


def test_where_the_subject_fits_the_alternative_names_are_what_is_needed() -> None:
    both = replace(CT, subject_names=frozenset({"b.example.org", "a.example.org"}))
    rejected = rejection(
        replace(CT_PEER, certificate=replace(CT_CERTIFICATE, names=frozenset())), both
    )
    assert rejected.key == "tls_san"
    assert rejected.needs == "a certificate with tls_san=a.example.org or b.example.org"


def test_without_a_policy_file_a_rejection_names_the_variable() -> None:
    environ = {
        "AE_TITLE": "OURS",
        "REQUIRE_CALLED_AE_TITLE": "true",
        "REQUIRE_CALLING_AE_TITLE": "CT1",
    }
    policy = policy_from_settings(Settings.from_env(environ))
    with pytest.raises(AssociationRejected) as caught:
        policy.admit(replace(CT_PEER, called="OTHER"))
    assert caught.value.key == "REQUIRE_CALLED_AE_TITLE"
    assert caught.value.needs == "called=OURS (AE_TITLE), or REQUIRE_CALLED_AE_TITLE=false"
    with pytest.raises(AssociationRejected) as caught:
        policy.admit(Peer("MR1", "OURS", "192.0.2.1", None))
    assert caught.value.key == "REQUIRE_CALLING_AE_TITLE"
    assert caught.value.needs == "calling=CT1, or the calling AE title in REQUIRE_CALLING_AE_TITLE"


def test_of_many_values_that_would_fit_a_rejection_has_the_first() -> None:
    many = AeEntry("many", calling=frozenset(f"CT{number}" for number in range(10, 30)))
    needs = rejection(replace(CT_PEER, calling="X"), many).needs
    assert needs.startswith("calling=CT10 or CT11 or ")
    assert "CT17 or 12 more, or an entry" in needs


def test_every_other_rejection_says_what_would_be_accepted_or_when() -> None:
    assert "MAXIMUM_ASSOCIATIONS" in limit_exceeded(300).needs
    group = limit_exceeded(4, CT)
    assert (group.entry, group.key) == ("ct", "max_associations")
    assert "4" in str(group)
    assert "some seconds" in congested().needs
    assert "SCP_BUFFER_BYTES" in congested().needs
    assert "some seconds" in shutting_down().needs
    assert "1.2.840.10008.3.1.1.1" in application_context_not_supported().needs
    assert "bit 0" in protocol_version_not_supported().needs
    assert "16 printable" in rejection(replace(CT_PEER, called=""), CT).needs


def test_without_any_entry_no_title_is_served() -> None:
    assert triple(rejection(CT_PEER)) == CALLED


def test_the_first_entry_that_fits_entirely_wins() -> None:
    second = replace(CT, name="second")
    assert entry_of(CT_PEER, CT, second, OPEN) == "ct"
    assert entry_of(replace(CT_PEER, address="192.0.2.1"), CT, second, OPEN) == "open"


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "2001:db8::7%1"])
def test_an_address_is_found_in_its_network_however_a_socket_writes_it(address: str) -> None:
    assert entry_of(replace(CT_PEER, address=address), CT) == "ct"


def test_an_ipv4_address_is_in_no_ipv6_network() -> None:
    everything = replace(CT, networks=(ip_network("::/0"),))
    assert triple(rejection(CT_PEER, everything)) == CALLING


def test_one_of_the_names_of_a_certificate_is_enough() -> None:
    named = replace(
        CT, subjects=frozenset(), subject_names=frozenset({"other.example.org", "ct1.example.org"})
    )
    assert entry_of(CT_PEER, named) == "ct"
    stranger = replace(CT_PEER, certificate=Certificate("CN=ct1,O=Hospital", frozenset()))
    assert triple(rejection(stranger, named)) == CALLING
    assert triple(rejection(replace(CT_PEER, certificate=None), named)) == CALLING


def test_where_subject_and_names_are_bound_a_certificate_needs_both() -> None:
    both = replace(CT, subject_names=frozenset({"ct1.example.org"}))
    assert entry_of(CT_PEER, both) == "ct"
    nameless = replace(CT_PEER, certificate=replace(CT_CERTIFICATE, names=frozenset()))
    assert triple(rejection(nameless, both)) == CALLING
    renamed = replace(CT_PEER, certificate=replace(CT_CERTIFICATE, subject="CN=mr1"))
    assert triple(rejection(renamed, both)) == CALLING


def test_a_certificate_nobody_asks_for_does_no_harm() -> None:
    assert entry_of(CT_PEER, OPEN) == "open"


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "CT\r\nroot", "A\\B", "\x00", "Ä"])
def test_a_malformed_title_is_rejected(title: str) -> None:
    assert triple(rejection(replace(CT_PEER, calling=title), OPEN)) == CALLING
    assert triple(rejection(replace(CT_PEER, called=title), OPEN)) == CALLED


def test_the_settings_alone_admit_every_peer_by_default() -> None:
    policy = policy_from_settings(Settings.from_env({}))
    assert policy == AccessPolicy((AeEntry("default"),), from_file=False)


def test_the_settings_alone_make_one_entry() -> None:
    policy = policy_from_settings(
        Settings.from_env(
            {
                "AE_TITLE": "ARCHIVE",
                "REQUIRE_CALLED_AE_TITLE": "true",
                "REQUIRE_CALLING_AE_TITLE": "CT1,MR1",
                "SUPPORTED_SOP_CLASS_UIDS": "1.2.3",
                "PREFERRED_TRANSFER_SYNTAX_UIDS": "1.2.840.10008.1.2.1",
                "BATCH_BY": "mixed",
            }
        )
    )
    assert policy.entries == (
        AeEntry(
            "default",
            called=frozenset({"ARCHIVE"}),
            calling=frozenset({"CT1", "MR1"}),
            sop_classes=frozenset({"1.2.3"}),
            preferred_transfer_syntaxes=("1.2.840.10008.1.2.1",),
            batch_by="mixed",
        ),
    )


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("CT1.Example.ORG", "ct1.example.org"),
        ("Modality@Example.ORG", "Modality@example.org"),
        ("urn:uuid:F81D4FAE", "urn:uuid:F81D4FAE"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
    ],
)
def test_alternative_names_are_compared_without_case_where_they_have_none(
    written: str, compared: str
) -> None:
    assert alternative_name(written) == compared


def test_busy_and_closing_are_transient() -> None:
    assert triple(limit_exceeded(300)) == (2, 3, 2)
    assert triple(limit_exceeded(4, CT)) == (2, 3, 2)
    assert triple(congested()) == (2, 3, 1)
    assert triple(shutting_down()) == (2, 3, 1)


def test_what_is_not_dicom_as_we_speak_it_is_permanent() -> None:
    assert triple(application_context_not_supported()) == (1, 1, 2)
    assert triple(protocol_version_not_supported()) == (1, 2, 2)


BROKEN = [
    replace(CT_PEER, calling=""),
    replace(CT_PEER, called=""),
    replace(CT_PEER, called="OTHER"),
    replace(CT_PEER, calling="OTHER"),
    replace(CT_PEER, address=""),
    replace(CT_PEER, certificate=None),
]
CERTIFICATES = st.none() | st.builds(Certificate, st.text(), st.frozensets(st.text()))
PEERS = st.builds(Peer, st.text(), st.text(), st.text(), CERTIFICATES)
ENTRIES = st.sampled_from([OPEN, CT, replace(CT, calling=frozenset(), called=frozenset())])


@given(PEERS, ENTRIES)
def test_any_peer_is_admitted_clean_or_rejected_without_being_repeated(
    peer: Peer, entry: AeEntry
) -> None:
    try:
        admitted = AccessPolicy((entry,)).admit(peer)
    except AssociationRejected as rejected:
        said = (str(rejected), rejected.needs, rejected.entry, rejected.key)
    else:
        assert admitted.entry is entry
        assert admitted.calling_ae_title.isprintable()
        assert admitted.called_ae_title.isprintable()
        return
    known = [rejection(each, CT) for each in BROKEN]
    assert said in [(str(each), each.needs, each.entry, each.key) for each in known]


@given(st.text())
def test_any_alternative_name_is_the_same_when_written_as_it_is_compared(text: str) -> None:
    assert alternative_name(alternative_name(text)) == alternative_name(text)
