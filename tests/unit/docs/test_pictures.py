from chalicelib.events.schemas import SCHEMAS

from contract.batch_states import TRANSITIONS
from contract.records import BatchState
from docs.pictures import (
    BEGIN,
    EVENTS_BEGIN,
    EVENTS_PAGE,
    PAGE,
    batch_states,
    drawn,
    event_tables,
    events_drawn,
)


def test_the_picture_of_the_batch_states_is_current() -> None:
    page = PAGE.read_text()
    assert page.count(BEGIN) == 1
    assert drawn(page) == page


def test_the_picture_has_every_state_and_every_arrow() -> None:
    picture = batch_states()
    assert all(state in picture for state in BatchState)
    arrows = sum(len(sources) for sources, _ in TRANSITIONS.values())
    assert picture.count(": ") == arrows


def test_the_tables_of_the_events_are_current() -> None:
    page = EVENTS_PAGE.read_text()
    assert page.count(EVENTS_BEGIN) == 1
    assert events_drawn(page) == page


def test_the_tables_have_every_event_and_every_member() -> None:
    tables = event_tables()
    for kind, schema in SCHEMAS.items():
        assert f"### {kind}\n" in tables
        assert all(f"| `{name}` |" in tables for name in schema["properties"])
