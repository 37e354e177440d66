"""docs/faults.md and the tests that check its rows agree, both ways."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "faults.md").read_text()
_ROW = re.compile(r"^\| `([a-z-]+)` \|.*\| ([^|]*) \|$", re.MULTILINE)


def rows() -> dict[str, set[str]]:
    """The files that each row of the page names, by its fault."""
    return {name: set(re.findall(r"`([^`]+)`", files)) for name, files in _ROW.findall(PAGE)}


def faults_of(path: Path) -> Iterator[str]:
    """The names in ``pytest.mark.fault("...")`` of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            (name,) = (ast.literal_eval(argument) for argument in node.args)
            yield name


def marked() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in faults_of(path):
            found[name].add(str(path.relative_to(ROOT)))
    return found


def test_each_row_names_the_files_whose_tests_check_it() -> None:
    assert rows() == marked()


def test_each_fault_has_one_row() -> None:
    names = Counter(name for name, _ in _ROW.findall(PAGE))
    assert set(names.values()) == {1}
