"""However the batches of one instance meet, one imports the same bytes, and nothing is lost."""

from collections.abc import Callable

import pytest

from tests.model import import_rules as rules
from tests.model.claim_races import Old, first_finding
from tests.model.import_rules import planted

# Hundreds of races, of which coverage would see nothing new.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]

exhaustive = pytest.mark.exhaustive

LOST = "are neither imported nor FAILED"
TWICE, WAITS, TWO_ROWS = "are imported 2 times", "has ended, and its row waits", "has 2 rows"


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(400), id="400 races"),
        *(
            pytest.param(range(low, low + 500), marks=exhaustive, id=f"500 races from {low}")
            for low in range(400, 5_400, 500)
        ),
    ],
)
def test_the_same_bytes_are_imported_once_and_nothing_is_lost(seeds: range) -> None:
    with planted():
        assert first_finding(seeds) is None


@pytest.mark.parametrize(
    ("error", "old", "wrong"),
    [
        (rules.only_imported_stands, None, TWICE),
        (rules.blind_writes, None, "was started and has no row"),
        (rules.unguarded, Old.ARCHIVED, TWICE),
        (rules.failed_is_anybodys, None, LOST),
        pytest.param(rules.named_for_anybody, None, TWICE, marks=exhaustive),
        pytest.param(rules.named_unguarded, Old.ARCHIVED, TWICE, marks=exhaustive),
        pytest.param(rules.copies_stand, Old.ARCHIVED, WAITS, marks=exhaustive),
        pytest.param(rules.own_looked_for_once, Old.ARCHIVED, TWO_ROWS, marks=exhaustive),
        pytest.param(rules.promotion_believed, Old.ARCHIVED, WAITS, marks=exhaustive),
        pytest.param(rules.taken_early, Old.ARCHIVED, TWICE, marks=exhaustive),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_is_found(
    error: Callable[[pytest.MonkeyPatch], None], old: Old | None, wrong: str
) -> None:
    """In at most 5,000 races; mostly in one of the first hundreds."""
    with planted(error):
        finding = first_finding(range(5_000), old)
    assert finding is not None
    assert wrong in finding.wrong
    assert finding.trace
