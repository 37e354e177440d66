"""Which tests a mutant is run against: those whose contexts are on its line."""

import json
from pathlib import Path

import pytest
from coverage import CoverageData

from tests.mutants.evidence import Evidence
from tests.mutants.finder import Mutant, mutants

SOURCE = """\
LIMIT = 7
def f(x):
    return x < LIMIT
def g(x):
    return x > 1
"""
FAST, SLOW, OTHER = "tests/fast.py::a", "tests/slow.py::b[1|run]", "tests/slow.py::c"
FAR = "tests/far.py::d"
OWN = "tests/test_m.py::e"
KNOWN = [OTHER, SLOW, FAST, FAR, OWN]


def mutant(before: str) -> Mutant:
    return next(each for each in mutants("contract/m.py", SOURCE) if each.before == before)


def evidence(
    folder: Path,
    contexts: dict[str, list[int]],
    tests: dict[str, tuple[float, list[str]]] | None = None,
) -> Evidence:
    (folder / "contract").mkdir()
    (folder / "contract" / "m.py").write_text(SOURCE)
    data = CoverageData(str(folder / "contexts"))
    for context, lines in contexts.items():
        data.set_context(context)
        data.add_lines({"contract/m.py": lines})
    data.write()
    listed = (
        json.dumps({"test": name, "seconds": seconds, "shared": shared})
        for name, (seconds, shared) in (tests or {}).items()
    )
    (folder / "contexts.tests").write_text("\n".join(listed))
    return Evidence([folder / "contexts"], folder, KNOWN)


def test_the_tests_of_the_line_run_and_the_fastest_file_comes_first(tmp_path: Path) -> None:
    known = evidence(
        tmp_path,
        {f"{SLOW}|run": [3], f"{FAST}@group|setup": [3], f"{OTHER}|run": [5], "": [1, 2]},
        {SLOW: (2.0, []), FAST: (0.1, [])},
    )
    assert known.choose(mutant("x < LIMIT"), 60).tests == (FAST, SLOW)


def test_a_line_that_no_test_executes_has_none(tmp_path: Path) -> None:
    assert evidence(tmp_path, {f"{SLOW}|run": [3]}).choose(mutant("x > 1"), 60).tests == ()


def test_where_time_is_short_each_file_gives_its_fastest_tests(tmp_path: Path) -> None:
    known = evidence(
        tmp_path,
        {f"{each}|run": [3] for each in KNOWN if each != OWN},
        {SLOW: (9.0, []), OTHER: (2.0, []), FAST: (0.1, []), FAR: (0.2, [])},
    )
    choice = known.choose(mutant("x < LIMIT"), 5)
    assert choice.tests == (FAST, FAR, OTHER)
    assert choice.left_out == 1
    assert len(known.choose(mutant("x < LIMIT"), 0).tests) == 1


def test_a_process_counts_for_the_file_and_for_the_tests_with_its_fixtures(tmp_path: Path) -> None:
    known = evidence(
        tmp_path,
        {OTHER: [3]},
        {OTHER: (1.0, ["tests::cloud"]), FAST: (1.0, ["tests::cloud"]), FAR: (1.0, ["x"])},
    )
    assert known.choose(mutant("x < LIMIT"), 60).tests == (OTHER, FAST, SLOW)


def test_the_context_of_a_test_that_is_gone_counts_for_its_file(tmp_path: Path) -> None:
    known = evidence(tmp_path, {"tests/slow.py::gone|run": [3]})
    assert known.choose(mutant("x < LIMIT"), 60).tests == (OTHER, SLOW)


@pytest.mark.parametrize("context", [f"{FAR}|run", FAR])
def test_a_constants_tests_are_those_of_the_lines_that_read_it(
    tmp_path: Path, context: str
) -> None:
    known = evidence(tmp_path, {context: [3], f"{FAST}|run": [5]})
    assert known.choose(mutant("7"), 60).tests == (FAR,)


def test_the_modules_own_tests_come_first(tmp_path: Path) -> None:
    known = evidence(
        tmp_path, {f"{OWN}|run": [3], f"{FAST}|run": [3]}, {OWN: (9.0, []), FAST: (0.1, [])}
    )
    assert known.choose(mutant("x < LIMIT"), 60).tests == (OWN, FAST)
    assert known.choose(mutant("x < LIMIT"), 5).tests == (OWN,)


def test_a_line_that_runs_without_a_tests_name_counts_for_those_of_its_function(
    tmp_path: Path,
) -> None:
    known = evidence(tmp_path, {"": [3], f"{FAR}|run": [2], f"{FAST}|run": [4]})
    assert known.choose(mutant("x < LIMIT"), 60).tests == (FAR,)
