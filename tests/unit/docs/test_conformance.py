"""The conformance statement says what the code does."""

import re
from pathlib import Path

import pytest
from store_scp import negotiation, part10
from store_scp.dimse.status import Status
from store_scp.settings import Settings
from store_scp.upper_layer.pdus import APPLICATION_CONTEXT

PAGE = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text()
_CODE = re.compile(r"`([^`]+)`")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins so, without that line and its rule."""
    _, table = PAGE.split(f"\n| {heading} |", 1)
    lines = table.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes(text: str) -> list[str]:
    return _CODE.findall(text)


def between(start: str, end: str) -> str:
    return PAGE.split(start, 1)[1].split(end, 1)[0]


def defaults() -> list[tuple[str, str]]:
    """Every variable the page gives a default for."""
    found = []
    for _, variables, values in rows("parameter"):
        texts = [each.strip("` ") for each in values.split(",")]
        found += list(zip(codes(variables), texts, strict=True))
    return found


def written(value: object) -> str:
    """A setting as the page writes it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_status_table_is_the_codes() -> None:
    assert rows("status") == [
        [str(each), each.category, each.comment, each.clause] for each in Status
    ]


def test_the_identifiers_are_the_codes() -> None:
    told = dict(rows("property"))
    assert told["application context name"] == f"`{APPLICATION_CONTEXT}`"
    assert told["implementation class UID"] == f"`{part10.IMPLEMENTATION_CLASS_UID}`"
    assert told["implementation version name"] == f"`{part10.IMPLEMENTATION_VERSION_NAME}`"


@pytest.mark.parametrize(("variable", "told"), defaults())
def test_a_default_is_the_settings_one(variable: str, told: str) -> None:
    settings = Settings.from_env({}).model_dump(mode="json", by_alias=True)
    assert told == written(settings[variable])


def test_the_sop_classes_that_are_refused_are_the_codes() -> None:
    told = between("Not among them", "`SUPPORTED_SOP_CLASS_UIDS`")
    assert set(codes(told)) == negotiation._NOT_COMPOSITE


def test_the_transfer_syntaxes_that_are_refused_are_the_codes() -> None:
    told = between("Refused, since", "\n\n")
    assert set(codes(told)) == negotiation._REFUSED_TRANSFER_SYNTAXES


def test_the_transfer_syntaxes_chosen_last_are_told_in_their_order() -> None:
    told = between("but Explicit", "are chosen only")
    names = [negotiation.registered(uid).name for uid in negotiation._LAST_CHOICES]
    places = [f"Explicit{told}".index(each) for each in names]
    assert places == sorted(places)
