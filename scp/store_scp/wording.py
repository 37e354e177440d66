"""Texts as a log line may have them: of a bounded length, on one line, in a bounded number."""

from collections.abc import Iterable

# Of a list, a line has so many members.
MOST = 8
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
    """The first ``MOST`` different ones, and how many more there are."""
    different = list(dict.fromkeys(texts))
    more = len(different) - MOST
    return different if more <= 0 else [*different[:MOST], f"and {more} more"]
