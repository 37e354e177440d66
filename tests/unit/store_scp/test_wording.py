from hypothesis import given
from hypothesis import strategies as st
from store_scp.wording import MOST, first_of, printable


def test_what_is_not_printable_is_escaped_and_what_is_long_is_cut() -> None:
    assert printable("CN=Köln 東", 20) == "CN=Köln 東"
    assert printable("a\r\nb\x1b[2J\u202e", 20) == r"a\r\nb\x1b[2J\u202e"
    assert printable("a" * 20, 20) == "a" * 20
    assert printable("a" * 21, 20) == "a" * 20 + "..."


@given(st.text(), st.integers(1, 40))
def test_any_text_becomes_printable_and_bounded(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert shown.isprintable()
    assert len(shown) <= 10 * longest + 3


def test_a_list_of_thousands_is_not_made_for_the_few_that_are_told() -> None:
    asked = iter(range(1_000))
    assert first_of(str(each) for each in asked)[-1] == "and more"
    assert next(asked) < 20


def test_a_list_has_its_first_members_once_and_says_that_there_are_more() -> None:
    assert first_of([]) == []
    assert first_of(["b", "a", "b"]) == ["b", "a"]
    numbers = [str(number) for number in range(MOST + 3)]
    assert first_of(numbers[:MOST]) == numbers[:MOST]
    assert first_of(numbers) == [*numbers[:MOST], "and more"]
