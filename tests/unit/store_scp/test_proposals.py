"""What the log says of proposed and refused contexts, and never in the peer's words."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from store_scp.negotiation import VERIFICATION, negotiate
from store_scp.policy import AeEntry
from store_scp.proposals import proposed_names, refused_contexts
from store_scp.upper_layer import ProposedContext
from store_scp.wording import MOST

from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
JPIP = "1.2.840.10008.1.2.4.94"
ANY = AeEntry("any")
NARROW = AeEntry(
    "narrow", sop_classes=frozenset({CT_IMAGE}), transfer_syntaxes=frozenset({EXPLICIT_LE})
)


def refused(entry: AeEntry, *contexts: tuple[str, tuple[str, ...]]) -> list[str]:
    proposed = [ProposedContext(1, *each) for each in contexts]
    answers = negotiate(proposed, entry.sop_classes, entry.transfer_syntaxes)
    return refused_contexts(proposed, answers, entry)


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (FIND, "Study Root Query/Retrieve Information Model - FIND"),
        (CT_IMAGE, "CT Image Storage"),
        (VERIFICATION, "Verification SOP Class"),
        (PRIVATE_CLASS, "a private SOP class"),
        ("1.2.840.10008.5.1.4.99999", "an unknown UID"),
        ("1.2.840.10008.5.1.4.1.1.12.77", "an unknown UID"),
        ("DOE^JANE", "text that is no UID"),
        ("", "text that is no UID"),
    ],
)
def test_what_is_proposed_has_a_name_of_ps3_6_or_none(uid: str, name: str) -> None:
    assert proposed_names([ProposedContext(1, uid, ())]) == [name]


@pytest.mark.parametrize(
    ("entry", "context", "line"),
    [
        (
            ANY,
            (FIND, (EXPLICIT_LE,)),
            (
                "Study Root Query/Retrieve Information Model - FIND: this"
                " receiver stores and verifies"
                " only"
            ),
        ),
        (
            NARROW,
            (PRIVATE_CLASS, (EXPLICIT_LE,)),
            (
                "a private SOP class: not among the accepted SOP classes;"
                " needs to be in the entry's"
                " sop_classes, or in SUPPORTED_SOP_CLASS_UIDS if the entry has none"
            ),
        ),
        (
            NARROW,
            (CT_IMAGE, (IMPLICIT_LE, PRIVATE_SYNTAX)),
            (
                "CT Image Storage: none of its transfer syntaxes is accepted (Implicit VR Little"
                " Endian, a private transfer syntax); needs one of the"
                " entry's transfer_syntaxes: Explicit VR"
                " Little Endian"
            ),
        ),
        (
            ANY,
            (CT_IMAGE, (JPIP,)),
            (
                "CT Image Storage: none of its transfer syntaxes is accepted"
                " (JPIP Referenced); needs"
                " one that carries the whole image, such as Explicit VR Little Endian"
            ),
        ),
        (
            ANY,
            (CT_IMAGE, ()),
            (
                "CT Image Storage: no transfer syntax is proposed; needs one that carries the whole"
                " image, such as Explicit VR Little Endian"
            ),
        ),
        (
            NARROW,
            ("../etc", (EXPLICIT_LE,)),
            "text that is no UID: this receiver stores and verifies only",
        ),
    ],
)
def test_a_refused_context_says_why_and_what_would_be_accepted(
    entry: AeEntry, context: tuple[str, tuple[str, ...]], line: str
) -> None:
    assert refused(entry, (CT_IMAGE, (EXPLICIT_LE,)), context) == [line]


def test_the_first_refused_contexts_are_told_once_each() -> None:
    others = [uid for uid, entry in UID_dictionary.items() if "FIND" in entry[0]][: MOST + 1]
    lines = refused(ANY, *[(uid, (EXPLICIT_LE,)) for uid in (*others, *others)])
    assert len(lines) == MOST + 1
    assert lines[-1] == "and more"


UIDS = st.text(max_size=70) | st.from_regex(r"[0-9.]{1,64}", fullmatch=True)
# What a peer writes and no text of ours contains.
PLANTED = UIDS.map(lambda text: f"{text}\x00DOE^JANE")


@given(st.lists(st.tuples(UIDS | PLANTED, st.tuples(UIDS, PLANTED)), max_size=20))
def test_no_text_of_a_peer_is_in_what_is_told(contexts: list[tuple[str, tuple[str, str]]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would repeat what the peer wrote
        told = refused(NARROW, *contexts)
        told += proposed_names(ProposedContext(1, *each) for each in contexts)
    assert not any("DOE" in each or "\x00" in each for each in told)
    assert len(told) <= 2 * (MOST + 1)
