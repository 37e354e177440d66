"""Texts as a log line may have them: of a bounded length, on one line, in a bounded number."""

from collections.abc import Iterable
from itertools import islice

# Of a list, a line has so many members; so many are looked at to find as many that differ.
MOST = 8
_LOOKED_AT = 16
# Of a name, so many characters: more than a name of the DNS (RFC 1035 2.3.4), and than a
# distinguished name of all attributes that people use.
LONGEST = 512


def printable(text: str, longest: int = LONGEST) -> str:
    """The first ``longest`` characters, with what is not printable escaped as Python does it."""
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text[:longest]
    )
    return shown if len(text) <= longest else f"{shown}..."


def first_of(texts: Iterable[str]) -> list[str]:
    """The first few different ones, and whether there are more.

    ``texts`` is not asked for many more than are told: a peer can make it thousands.
    """
    given = iter(texts)
    different = list(dict.fromkeys(islice(given, _LOOKED_AT)))
    more = len(different) > MOST or next(given, None) is not None
    return [*different[:MOST], "and more"] if more else different
