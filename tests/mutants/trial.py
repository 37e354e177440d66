"""Plants one mutant, runs the tests of its line, and reports what became of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.mutants.checkout import Checkout, Run
from tests.mutants.evidence import Choice, Evidence, file_of
from tests.mutants.finder import Mutant

OPTIONS = ["-x", "-v", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
# Of the limit, so much is planned; the rest is for a machine that is slower than the recording one.
PLANNED = 0.6
# A test hangs if it is quiet for so long, and for so many times its usual seconds.
HANGS_SECONDS = 15.0
HANGS_TIMES = 5
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py(?:::.*?)?)(?: - .*)?$", re.MULTILINE)
_STARTED = re.compile(
    r"^(\S+?\.py::.*?)(?: (?:PASSED|FAILED|ERROR|SKIPPED|XFAIL).*)?$", re.MULTILINE
)


class Result(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMEOUT = "timeout"  # killed: a test hangs that otherwise does not
    SURVIVED = "survived"
    NOT_COVERED = "not covered"  # survived: no test executes the line
    OUT_OF_TIME = "out of time"  # survived so far: not every chosen test was run


KILLS = {Result.KILLED, Result.TIMEOUT}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant, by which test, and how many tests that execute it were not run."""

    result: Result
    by: str = ""
    left_out: int = 0
    unfit: tuple[str, ...] = ()  # tests that fail without the mutant, too


class Trials:
    """Tries mutants one after the other in one copy of the checkout."""

    def __init__(self, checkout: Checkout, evidence: Evidence, markers: str, limit: float) -> None:
        self._checkout = checkout
        self._evidence = evidence
        self._options = [*OPTIONS, "-m", markers]
        self._limit = limit
        self._sound: dict[str, bool] = {}

    def verdict(self, mutant: Mutant, choice: Choice) -> Verdict:
        """Run the tests with the mutant planted; a test that fails without it does not count."""
        source = (self._checkout.path / mutant.path).read_text()
        tests = list(choice.tests)
        unfit: list[str] = []
        while tests:
            with self._checkout.planted(mutant.path, mutant.applied(source)):
                run = self._run(tests)
                result, by = self._judged(run, tests)
                if result is Result.KILLED and not self._fails_again(by):
                    result = Result.SURVIVED
            if result is Result.OUT_OF_TIME or run.code == 0:
                return Verdict(result, by, choice.left_out, tuple(unfit))
            if result in KILLS and self._passes_without(by):
                return Verdict(result, by, choice.left_out, tuple(unfit))
            unfit.append(by)
            left = [each for each in tests if not _within(each, by)]
            if len(left) == len(tests):  # whole files were run, and this test was not chosen
                break
            tests = left
        result = Result.SURVIVED if choice.tests else Result.NOT_COVERED
        return Verdict(result, "", choice.left_out, tuple(unfit))

    def _run(self, tests: Sequence[str]) -> Run:
        run = self._checkout.pytest(self._options, tests, self._limit)
        if run.code == 4:  # the mutant changes the names of the tests' parameters
            files = list(dict.fromkeys(map(file_of, tests)))
            run = self._checkout.pytest(self._options, files, self._limit)
        return run

    def _judged(self, run: Run, tests: Sequence[str]) -> tuple[Result, str]:
        started = _STARTED.findall(run.output)
        current = started[-1].strip() if started else tests[0]
        if run.code is None:
            usual = self._evidence.seconds(current)
            hangs = run.quiet > max(HANGS_SECONDS, HANGS_TIMES * usual)
            return (Result.TIMEOUT if hangs else Result.OUT_OF_TIME), current
        if run.code == 0:
            return Result.SURVIVED, ""
        failed = _FAILED.search(run.output)
        return Result.KILLED, failed[1] if failed else current

    def _fails_again(self, test: str) -> bool:
        return self._run([test]).code != 0

    def _passes_without(self, test: str) -> bool:
        if test not in self._sound:
            if "::" in test:
                run = self._run([test])
            else:  # the file was not even imported
                run = self._checkout.pytest(["--collect-only", *self._options], [test], self._limit)
            self._sound[test] = run.code == 0
        return self._sound[test]


def _within(test: str, name: str) -> bool:
    """Whether the node id is this one, or in the file or function that ``name`` is."""
    return test == name or test.startswith((f"{name}::", f"{name}["))


def as_json(number: int, mutant: Mutant, verdict: Verdict) -> dict[str, Any]:
    """One mutant in the file of results."""
    return {
        "number": number,
        "key": mutant.key,
        "place": f"{mutant.path}:{mutant.line}:{mutant.column}",
        "operator": mutant.operator,
        "before": mutant.before,
        "after": mutant.after,
        "result": verdict.result.value,
        "by": verdict.by,
        "left_out": verdict.left_out,
        "unfit": list(verdict.unfit),
    }
