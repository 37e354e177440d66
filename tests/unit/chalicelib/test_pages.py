"""Pages cut from lists of keys: none lost, none twice, and few fetches whatever a filter leaves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest
from chalicelib.stores.bulk import READS_PER_CALL
from chalicelib.stores.pages import MAX_EXAMINED, page


class Listed:
    """Keys in their order, each with a row of its own; it counts what is taken and fetched."""

    def __init__(self, count: int) -> None:
        self.keys = [f"{number:06}" for number in range(count)]
        self.taken = 0
        self.fetched: list[int] = []

    def behind(self, cursor: str | None) -> Iterator[str]:
        for key in self.keys if cursor is None else self.keys[self.keys.index(cursor) + 1 :]:
            self.taken += 1
            yield key

    def fetch(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.fetched.append(len(keys))
        return {key: key for key in keys}

    def page(
        self, wanted: Iterable[int], limit: int, cursor: str | None = None
    ) -> tuple[list[int], str | None]:
        shown = {f"{number:06}" for number in wanted}
        rows, last = page(self.behind(cursor), self.fetch, shown.__contains__, limit)
        return [*map(int, rows)], last


def all_pages(listed: Listed, wanted: Iterable[int], limit: int) -> list[list[int]]:
    found, cursor = listed.page(wanted, limit)
    pages = [found]
    while cursor is not None:
        assert len(pages) <= len(listed.keys), "the pages never end"
        found, cursor = listed.page(wanted, limit, cursor)
        pages.append(found)
    return pages


def test_a_page_that_nothing_is_left_out_of_is_one_fetch_of_its_size() -> None:
    listed = Listed(1_000)
    assert listed.page(range(1_000), 20) == ([*range(20)], "000019")
    assert (listed.fetched, listed.taken) == ([20], 21)


@pytest.mark.parametrize("limit", [1, 20, 100])
def test_a_page_without_rows_costs_a_fetch_for_each_hundred_keys_and_is_bounded(
    limit: int,
) -> None:
    listed = Listed(2 * MAX_EXAMINED)
    assert listed.page([], limit) == ([], f"{MAX_EXAMINED - 1:06}")
    assert sum(listed.fetched) == MAX_EXAMINED
    assert listed.taken == MAX_EXAMINED + 1
    assert len(listed.fetched) <= 1 + MAX_EXAMINED / READS_PER_CALL
    assert max(listed.fetched) <= READS_PER_CALL


def test_a_page_that_is_full_in_the_middle_of_the_second_chunk_ends_at_the_last_key_looked_at() -> (
    None
):
    listed, wanted = Listed(300), [0, 30, 40, 50, 51, 299]
    assert listed.page(wanted, 3) == ([0, 30, 40], "000040")
    assert listed.fetched == [3, READS_PER_CALL]
    assert all_pages(listed, wanted, 3) == [[0, 30, 40], [50, 51, 299]]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 101, 102, 103, MAX_EXAMINED, MAX_EXAMINED + 1])
@pytest.mark.parametrize("step", [1, 2, 7, 99, 10_000])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_all_pages_together_are_the_list_and_end_with_it(count: int, step: int, limit: int) -> None:
    wanted = range(step - 1, count, step)
    pages = all_pages(Listed(count), wanted, limit)
    assert [number for found in pages for number in found] == [*wanted]
    assert all(len(found) <= limit for found in pages)


@pytest.mark.parametrize("count", [5, MAX_EXAMINED])
def test_the_last_page_has_no_cursor_though_it_is_full(count: int) -> None:
    """Whether it is full with the last key, or as many were looked at as may be."""
    listed = Listed(count)
    assert listed.page([count - 1], 1) == ([count - 1], None)
    assert Listed(count + 1).page([count - 1], 1) == ([count - 1], f"{count - 1:06}")


def test_a_key_without_a_row_is_passed_over() -> None:
    listed = Listed(4)
    rows, cursor = page(listed.behind(None), lambda _: {"000002": "a row"}, bool, 1)
    assert (rows, cursor) == (["a row"], "000002")


def test_an_empty_list_is_one_empty_page() -> None:
    assert Listed(0).page([], 20) == ([], None)
