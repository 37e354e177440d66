import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error"}


def events() -> Iterator[str]:
    """What the receiver logs, as the code names it."""
    for file in sorted((ROOT / "scp" / "store_scp").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    ast.Attribute(ast.Name("_log"), level), [ast.Constant(str() as event), *_]
                ) if level in LEVELS:
                    yield event


def test_each_event_of_the_receiver_is_in_the_page_that_explains_them() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    found = set(events())
    assert len(found) > 20
    assert sorted(event for event in found if f"`{event}`" not in page) == []
