import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle, InvalidUid
from contract.uids import is_uid, parse_uid, uid_digest


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.1", "2.25.0", "1", "1.02.3", "1." + "2" * 62])
def test_a_uid_of_digits_and_dots_is_itself(uid: str) -> None:
    assert parse_uid(uid) == uid


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.2/../3",
        "1.2\n",
        "1.2 ",
        "a.b",
        ";$(x)",
        "1" * 65,
        "\u0661.\u0662",
        "1.2\0",
    ],
)
def test_a_hostile_uid_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidUid) as refused:
        parse_uid(text)
    assert len(text) < 3 or text not in str(refused.value)


@given(st.text(max_size=80))
def test_any_text_is_a_safe_uid_or_refused(text: str) -> None:
    try:
        assert set(parse_uid(text)) <= set("0123456789.")
        assert is_uid(text)
    except InvalidUid:
        assert not is_uid(text)


def test_a_digest_hides_the_uid_and_tells_two_apart() -> None:
    assert "1.2" not in uid_digest("1.2.3")
    assert len(uid_digest("1.2.3")) == 12
    assert uid_digest("1.2.3") != uid_digest("1.2.4")


def test_an_ae_title_loses_its_insignificant_spaces() -> None:
    assert parse_ae_title("  CT SCANNER 1   ") == "CT SCANNER 1"


@pytest.mark.parametrize("text", ["", " " * 16, "A" * 17, "A\\B", "A\nB", "\x00", "CAFÉ"])
def test_a_malformed_ae_title_is_refused(text: str) -> None:
    with pytest.raises(InvalidAeTitle):
        parse_ae_title(text)


@given(st.text(max_size=20))
def test_any_text_is_a_printable_ae_title_or_refused(text: str) -> None:
    try:
        title = parse_ae_title(text)
    except InvalidAeTitle:
        return
    assert title.isascii()
    assert title.isprintable()
