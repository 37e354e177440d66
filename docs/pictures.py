"""Draws in docs/ what the code says: ``python docs/pictures.py``, from the repository."""

from pathlib import Path
from typing import Any

from chalicelib.events.event import EventType
from chalicelib.events.schemas import SCHEMAS

from contract.batch_states import ENDED, TRANSITIONS

PAGE = Path(__file__).with_name("batches.md")
BEGIN = "```mermaid\n"
END = "```\n"


def batch_states() -> str:
    """The table of batch states as a Mermaid state diagram."""
    arrows = [
        f"    {state or '[*]'} --> {target}: {event}"
        for event, (sources, target) in TRANSITIONS.items()
        for state in sorted(sources, key=lambda source: source or "")
    ]
    ends = [f"    {state} --> [*]" for state in sorted(ENDED)]
    return "\n".join(["stateDiagram-v2", *arrows, *ends]) + "\n"


def drawn(page: str) -> str:
    """The page with its picture as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, behind = rest.partition(END)
    return before + BEGIN + batch_states() + END + behind


EVENTS_PAGE = Path(__file__).with_name("events.md")
EVENTS_BEGIN = "<!-- drawn by docs/pictures.py -->\n"
EVENTS_END = "<!-- drawn until here -->\n"


def event_tables() -> str:
    """The schema of each event's detail as a table."""
    return "".join(_event_table(kind) for kind in SCHEMAS)


def _event_table(kind: EventType) -> str:
    schema = SCHEMAS[kind]
    rows = [
        f"| `{name}` | {_type(member)} | {member['description']} |"
        for name, member in schema["properties"].items()
    ]
    head = [f"### {kind}", "", schema["description"], "", "| member | type | meaning |"]
    return "\n".join([*head, "|---|---|---|", *rows]) + "\n\n"


def _type(member: dict[str, Any]) -> str:
    if "enum" in member and member["type"] == "string":
        return " or ".join(f"`{value}`" for value in member["enum"])
    return "list of strings" if member["type"] == "array" else str(member["type"])


def events_drawn(page: str) -> str:
    """The page of events with its tables as they are now."""
    before, _, rest = page.partition(EVENTS_BEGIN)
    _, _, behind = rest.partition(EVENTS_END)
    return before + EVENTS_BEGIN + event_tables() + EVENTS_END + behind


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
    EVENTS_PAGE.write_text(events_drawn(EVENTS_PAGE.read_text()))
