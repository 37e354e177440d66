import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.errors import AssociationRejected
from store_scp.policy import AdmittedPeer, PeerPolicy, admit, limit_exceeded, shutting_down

OPEN = PeerPolicy("STORESCP")
STRICT = PeerPolicy("STORESCP", require_called=True, calling=frozenset({"CT1", "MR1"}))


def triple(rejected: AssociationRejected) -> tuple[int, int, int]:
    return rejected.result, rejected.source, rejected.reason


def rejection(policy: PeerPolicy, calling: str, called: str) -> tuple[int, int, int]:
    with pytest.raises(AssociationRejected) as caught:
        admit(policy, calling, called)
    return triple(caught.value)


def test_every_peer_is_admitted_by_default() -> None:
    assert admit(OPEN, "ANY", "OTHER") == AdmittedPeer("ANY", "OTHER")


def test_titles_are_compared_and_kept_without_padding() -> None:
    assert admit(STRICT, " CT1    ", "STORESCP  ") == AdmittedPeer("CT1", "STORESCP")


def test_an_unknown_called_title_is_rejected_where_ours_is_required() -> None:
    assert rejection(STRICT, "CT1", "OTHER") == (1, 1, 7)


def test_a_calling_title_that_is_not_in_the_list_is_rejected() -> None:
    assert rejection(STRICT, "CT2", "STORESCP") == (1, 1, 3)


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "CT\r\nroot", "A\\B", "\x00", "Ä"])
def test_a_malformed_title_is_rejected(title: str) -> None:
    assert rejection(OPEN, title, "STORESCP") == (1, 1, 3)
    assert rejection(OPEN, "CT1", title) == (1, 1, 7)


def test_busy_and_closing_are_transient() -> None:
    assert triple(limit_exceeded()) == (2, 3, 2)
    assert triple(shutting_down()) == (2, 3, 1)


@given(st.text(), st.text())
def test_any_titles_are_admitted_clean_or_rejected_without_being_repeated(
    calling: str, called: str
) -> None:
    try:
        peer = admit(OPEN, calling, called)
    except AssociationRejected as rejected:
        words = str(rejected).split()
        known = ["the", "calling", "called", "AE", "title", "is", "malformed"]
        assert set(words) <= set(known)
    else:
        assert peer.calling_ae_title.isprintable()
        assert peer.called_ae_title.isprintable()
