"""Lists cut into pages: keys from an index, in an order that nothing changes, and then their rows.

A cursor is the last key that was looked at, so it stays small however many rows share one moment,
and no row is lost or given twice where others come or go between two pages.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from chalicelib.stores.bulk import READS_PER_CALL

Row = TypeVar("Row")
# How many rows one page may cost where a filter leaves most of them out; the page then is short,
# and has a next one.
MAX_EXAMINED = 500


def page(
    keys: Iterator[str],
    fetch: Callable[[Sequence[str]], Mapping[str, Row]],
    wanted: Callable[[Row], bool],
    limit: int,
) -> tuple[list[Row], str | None]:
    """At most ``limit`` rows in the keys' order, and the next page's cursor if there is one.

    The first fetch is of ``limit`` keys, which usually is the page. Each one behind it is of as
    many as one call reads: a filter leaves most rows out, so ``limit`` more would be as few again.
    At most MAX_EXAMINED keys are looked at, and one more is taken to know if there is a next page.
    """
    shown: list[Row] = []
    last = None
    examined = islice(keys, MAX_EXAMINED)
    size = limit
    while len(shown) < limit and (chunk := list(islice(examined, size))):
        rows, size = fetch(chunk), READS_PER_CALL
        for number, key in enumerate(chunk, start=1):
            last = key
            if (row := rows.get(key)) is not None and wanted(row):
                shown.append(row)
            if len(shown) == limit and number < len(chunk):
                return shown, last
    return shown, last if next(keys, None) is not None else None
