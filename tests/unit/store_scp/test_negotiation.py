import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class
from store_scp.negotiation import (
    VERIFICATION,
    ContextResult,
    accepts_transfer_syntax,
    is_storage,
    negotiate,
)
from store_scp.upper_layer import ProposedContext

from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
)

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
HTJ2K = "1.2.840.10008.1.2.4.201"
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
JPEG_XL = "1.2.840.10008.1.2.4.112"
JPIP = "1.2.840.10008.1.2.4.94"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def chosen(*transfer_syntaxes: str, preferred: tuple[str, ...] = ()) -> str | None:
    (answer,) = negotiate([ProposedContext(1, CT_IMAGE, transfer_syntaxes)], preferred=preferred)
    return answer.transfer_syntax


def result(abstract_syntax: str, *, supported: frozenset[str] = frozenset()) -> ContextResult:
    (answer,) = negotiate([ProposedContext(1, abstract_syntax, (IMPLICIT_LE,))], supported)
    return answer.result


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((IMPLICIT_LE, EXPLICIT_LE), EXPLICIT_LE),
        ((EXPLICIT_LE, IMPLICIT_LE), EXPLICIT_LE),
        ((IMPLICIT_LE, EXPLICIT_BE), EXPLICIT_BE),
        ((IMPLICIT_LE, DEFLATED), DEFLATED),
        ((DEFLATED, EXPLICIT_BE), EXPLICIT_BE),
        ((IMPLICIT_LE,), IMPLICIT_LE),
        ((HTJ2K, JPEG_LOSSLESS, EXPLICIT_LE), HTJ2K),
        ((JPEG_LOSSLESS, HTJ2K), JPEG_LOSSLESS),
        ((EXPLICIT_LE, JPEG_LOSSLESS), EXPLICIT_LE),
        ((JPIP, IMPLICIT_LE), IMPLICIT_LE),
        ((PRIVATE_SYNTAX,), PRIVATE_SYNTAX),
    ],
)
def test_the_requestors_order_decides_but_implicit_comes_last(
    proposed: tuple[str, ...], expected: str
) -> None:
    assert chosen(*proposed) == expected


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((PRIVATE_SYNTAX, EXPLICIT_LE, IMPLICIT_LE), EXPLICIT_LE),
        ((PRIVATE_SYNTAX, IMPLICIT_LE), IMPLICIT_LE),
        ((ENCAPSULATED_UNCOMPRESSED, JPEG_LOSSLESS), JPEG_LOSSLESS),
        ((ENCAPSULATED_UNCOMPRESSED, IMPLICIT_LE), IMPLICIT_LE),
        ((PRIVATE_SYNTAX, ENCAPSULATED_UNCOMPRESSED), ENCAPSULATED_UNCOMPRESSED),
        (("1.2.840.10008.1.2.4.9999", PRIVATE_SYNTAX), "1.2.840.10008.1.2.4.9999"),
        ((PRIVATE_SYNTAX, "1.2.840.10008.1.2.4.9999"), PRIVATE_SYNTAX),
        ((ENCAPSULATED_UNCOMPRESSED, JPEG_XL), JPEG_XL),
    ],
)
def test_what_healthimaging_imports_natively_comes_first_and_what_nobody_registered_last(
    proposed: tuple[str, ...], expected: str
) -> None:
    assert chosen(*proposed) == expected


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [
        ((HTJ2K, JPEG_LOSSLESS), HTJ2K),
        ((JPEG_LOSSLESS, HTJ2K), JPEG_LOSSLESS),
        ((IMPLICIT_LE,), IMPLICIT_LE),
        ((PRIVATE_SYNTAX,), PRIVATE_SYNTAX),
        ((JPIP, HTJ2K), HTJ2K),
        ((EXPLICIT_BE,), JPEG_LOSSLESS),
    ],
)
def test_what_is_preferred_comes_before_all_others_in_its_own_order(
    preferred: tuple[str, ...], expected: str
) -> None:
    proposed = (PRIVATE_SYNTAX, JPIP, JPEG_LOSSLESS, HTJ2K, IMPLICIT_LE)
    assert chosen(*proposed, preferred=preferred) == expected


def test_each_context_is_answered_for_itself_and_in_order() -> None:
    answers = negotiate(
        [
            ProposedContext(1, CT_IMAGE, (IMPLICIT_LE,)),
            ProposedContext(3, CT_IMAGE, (IMPLICIT_LE, EXPLICIT_LE)),
            ProposedContext(5, FIND, (IMPLICIT_LE,)),
            ProposedContext(7, CT_IMAGE, (JPIP,)),
            ProposedContext(9, CT_IMAGE, ()),
        ]
    )
    assert [(each.context_id, each.result, each.transfer_syntax) for each in answers] == [
        (1, ContextResult.ACCEPTED, IMPLICIT_LE),
        (3, ContextResult.ACCEPTED, EXPLICIT_LE),
        (5, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, None),
        (7, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, None),
        (9, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, None),
    ]


@pytest.mark.parametrize("uid", [VERIFICATION, PRIVATE_CLASS, "2.25.1", CT_IMAGE])
def test_verification_storage_and_private_classes_are_accepted(uid: str) -> None:
    assert result(uid) is ContextResult.ACCEPTED


@pytest.mark.parametrize("uid", sorted(sop_class._STORAGE_CLASSES.values()))
def test_every_storage_class_pynetdicom_knows_is_accepted(uid: str) -> None:
    assert is_storage(uid)


def test_a_storage_class_newer_than_our_tables_is_accepted() -> None:
    assert is_storage("1.2.840.10008.5.1.4.1.1.99999.1")
    assert is_storage("1.2.840.10008.5.1.4.1.1.12.77")  # registered, retired, without a name
    assert not is_storage("1.2.840.10008.5.1.4.99999")


OTHER_SERVICES = [
    getattr(sop_class, name)
    for name in dir(sop_class)
    if name.endswith("_CLASSES")
    and name not in ("_STORAGE_CLASSES", "_VERIFICATION_CLASSES", "_SERVICE_CLASSES")
]


@pytest.mark.parametrize("uid", sorted(uid for each in OTHER_SERVICES for uid in each.values()))
def test_no_other_service_is_accepted(uid: str) -> None:
    assert result(uid) is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("uid", ["", "1.2\n", "../..", "1" * 65, "1.2.840.10008.3.1.1.1"])
def test_what_is_no_sop_class_is_refused(uid: str) -> None:
    assert result(uid) is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


def test_a_list_of_classes_narrows_storage_but_not_verification() -> None:
    supported = frozenset({CT_IMAGE})
    assert result(CT_IMAGE, supported=supported) is ContextResult.ACCEPTED
    assert result(VERIFICATION, supported=supported) is ContextResult.ACCEPTED
    refused = result(PRIVATE_CLASS, supported=supported)
    assert refused is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


def test_a_list_of_transfer_syntaxes_narrows_storage_but_not_verification() -> None:
    answers = negotiate(
        [
            ProposedContext(1, CT_IMAGE, (EXPLICIT_LE, JPEG_LOSSLESS)),
            ProposedContext(3, CT_IMAGE, (EXPLICIT_LE, IMPLICIT_LE)),
            ProposedContext(5, VERIFICATION, (IMPLICIT_LE,)),
        ],
        transfer_syntaxes=frozenset({JPEG_LOSSLESS, HTJ2K}),
    )
    assert [(each.result, each.transfer_syntax) for each in answers] == [
        (ContextResult.ACCEPTED, JPEG_LOSSLESS),
        (ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, None),
        (ContextResult.ACCEPTED, IMPLICIT_LE),
    ]


def test_a_list_of_transfer_syntaxes_accepts_none_that_is_refused_without_it() -> None:
    (answer,) = negotiate([ProposedContext(1, CT_IMAGE, (JPIP,))], transfer_syntaxes={JPIP})
    assert answer.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_all_registered_transfer_syntaxes_are_accepted_but_nine() -> None:
    registered = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
    refused = [uid for uid in registered if not accepts_transfer_syntax(uid)]
    assert len(registered) > 50
    assert len(refused) == 9


@pytest.mark.parametrize("uid", [CT_IMAGE, "", "1.2\r\n", "1.2.840.10008.1.2.4.205"])
def test_what_is_no_transfer_syntax_for_whole_images_is_refused(uid: str) -> None:
    assert not accepts_transfer_syntax(uid)


UIDS = st.one_of(
    st.text(max_size=70),
    st.from_regex(r"[0-9.]{1,64}", fullmatch=True),
    st.sampled_from([CT_IMAGE, FIND, VERIFICATION, EXPLICIT_LE, IMPLICIT_LE, JPIP, "1.02.3"]),
)


@given(st.lists(st.builds(ProposedContext, st.integers(1, 255), UIDS, st.tuples(UIDS, UIDS))))
def test_any_proposal_is_answered_context_by_context(proposed: list[ProposedContext]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would repeat what the peer wrote
        answers = negotiate(proposed)
    assert [each.context_id for each in answers] == [each.context_id for each in proposed]
    for asked, answer in zip(proposed, answers, strict=True):
        accepted = answer.result is ContextResult.ACCEPTED
        assert accepted == (answer.transfer_syntax in asked.transfer_syntaxes)
