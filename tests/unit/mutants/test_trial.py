"""A small project with its own tests: which of its planted errors they find, and how."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.checkout import Checkout
from tests.mutants.evidence import Choice, Evidence
from tests.mutants.finder import mutants
from tests.mutants.trial import Result, Trials, Verdict

SOURCE = """\
def bigger(x, y):
    return x > y

def small(x):
    while x > 9:
        x -= 1
    return x
"""
# The second test starts a process with an environment that names no path.
TESTS = """\
import subprocess, sys
from contract.one import bigger, small

def test_it_is_bigger(): assert bigger(2, 1)

def test_a_process_says_so():
    code = "from contract.one import bigger; print(bigger(1, 1))"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True)
    assert done.stdout == "False\\n"

def test_it_is_small(): assert small(12) <= 9

def test_that_never_passes(): assert False
"""
# Each starts pytest two to four times, in an environment made for it.
pytestmark = pytest.mark.exhaustive


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Trials]:
    files = {"contract/__init__.py": "", "contract/one.py": SOURCE, "tests/test_one.py": TESTS}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with Checkout(tmp_path, Path(sys.executable)) as checkout:
        known = checkout.collected("not image")
        assert known[0] == "tests/test_one.py::test_it_is_bigger"
        yield Trials(checkout, Evidence([], tmp_path, known), "not image", limit=20)


def verdict(trials: Trials, after: str, *tests: str) -> Verdict:
    (mutant,) = (each for each in mutants("contract/one.py", SOURCE) if each.after == after)
    return trials.verdict(mutant, Choice(tuple(f"tests/test_one.py::{each}" for each in tests)))


def test_a_mutant_is_killed_by_the_process_that_a_test_starts(trials: Trials) -> None:
    found = verdict(trials, "(x >= y)", "test_it_is_bigger", "test_a_process_says_so")
    assert found == Verdict(Result.KILLED, "tests/test_one.py::test_a_process_says_so")


def test_a_mutant_that_every_test_passes_survives(trials: Trials) -> None:
    assert verdict(trials, "(x >= y)", "test_it_is_bigger") == Verdict(Result.SURVIVED)
    assert verdict(trials, "(x >= y)") == Verdict(Result.NOT_COVERED)


def test_a_mutant_that_never_ends_is_killed_by_its_limit(trials: Trials) -> None:
    found = verdict(trials, "pass", "test_it_is_small")
    assert found == Verdict(Result.TIMEOUT, "tests/test_one.py::test_it_is_small")


def test_a_test_that_fails_without_the_mutant_kills_nothing(trials: Trials) -> None:
    unfit = "tests/test_one.py::test_that_never_passes"
    found = verdict(trials, "(x >= y)", "test_that_never_passes", "test_it_is_bigger")
    assert found == Verdict(Result.SURVIVED, unfit=(unfit,))
