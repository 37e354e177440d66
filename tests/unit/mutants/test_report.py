"""What is printed of two runs: what the old one killed and the new one did not."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.mutants.__main__ import main, no_longer_killed, told
from tests.mutants.sample import candidates, chosen

REPOSITORY = Path(__file__).parents[3]


def result(key: str, what: str) -> dict[str, object]:
    return {"key": key, "told": key, "result": what, "by": "t", "left_out": 0, "unfit": []}


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ("killed", "killed", False),
        ("killed", "timeout", False),
        ("killed", "survived", True),
        ("timeout", "not covered", True),
        ("killed", "out of time", True),
        ("survived", "survived", False),
        ("out of time", "killed", False),
    ],
)
def test_what_only_the_old_run_killed_is_listed(old: str, new: str, *, lost: bool) -> None:
    found = no_longer_killed([result("a", old)], [result("b", "killed"), result("a", new)])
    assert bool(found) == lost


def test_a_mutant_that_the_new_run_does_not_have_is_listed() -> None:
    (line,) = no_longer_killed([result("a", "killed")], [result("b", "killed")])
    assert "not among the mutants" in line


def test_what_an_earlier_run_killed_is_not_tried_again(tmp_path: Path) -> None:
    mutants = chosen(candidates(REPOSITORY), 1, 3)
    known = [
        result(mutant.key, what)
        for mutant, what in zip(mutants, ("killed", "out of time", "timeout"), strict=True)
    ]
    (tmp_path / "own.json").write_text(json.dumps({"mutants": known}))
    arguments = ["--repo", str(REPOSITORY), "--count", "3", "--list"]
    again = CliRunner().invoke(main, [*arguments, "--again", str(tmp_path / "own.json")])
    assert again.output == f"  2  {told(mutants[1])}\n"
