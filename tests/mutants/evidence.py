"""Which tests execute a mutant's line, by coverage contexts, and in which order they are run."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path

from coverage import CoverageData

from tests.mutants.finder import Mutant
from tests.mutants.sample import product_files

# pytest-cov's contexts of pytest's own process; xdist adds a group to the node id.
_PHASE = re.compile(r"\|(setup|run|teardown)$")
_GROUP = re.compile(r"@[\w-]+$")
# What a test costs where nobody measured it, and what the import of its file costs.
UNKNOWN_SECONDS = 1.0
FILE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Test:
    """What the run that recorded the contexts measured of a test."""

    seconds: float = UNKNOWN_SECONDS
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The tests to run, in order, and how many more execute the line."""

    tests: tuple[str, ...] = ()
    left_out: int = 0


class Evidence:
    """The contexts of a checkout, which may be in several data files.

    ``known``: the node ids that pytest finds in the checkout now; a context whose test is gone
    counts for its file.
    """

    def __init__(self, files: Iterable[Path], repository: Path, known: Sequence[str]) -> None:
        self._repository = repository
        self._known = {test: place for place, test in enumerate(known)}
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for test in known:
            self._by_file[file_of(test)].append(test)
        self._data = [_read(file) for file in files]
        self._tests = {name: test for file in files for name, test in _measured(file)}

    def choose(self, mutant: Mutant, seconds: float) -> Choice:
        """The tests that execute the mutant's line, as many as run in ``seconds``.

        The module's own test file comes first, then the fastest files; where there is no time for
        all, each of those gives its fastest tests. A process that several tests share counts for
        all of them, but after those that are known to execute the line.
        """
        sure: set[str] = set()
        shared: set[str] = set()
        for context in self._contexts(mutant):
            tests, process_tests = self._named(context)
            sure |= tests
            shared |= process_tests
        own = {test for test in sure if _is_own(file_of(test), mutant.path)}
        picked: list[str] = []
        for tests in (own, sure - own, shared - sure):
            spare = seconds - self._cost(picked)
            if tests and (spare > 0 or not picked):
                picked += self._affordable(tests, spare)
        return Choice(tuple(picked), len(sure | shared) - len(picked))

    def _contexts(self, mutant: Mutant) -> set[str]:
        if mutant.scope:
            found = self._on_lines(mutant.path, *mutant.lines)
            # What a process executes on its way out may have lost its test's name.
            return self._on_lines(mutant.path, *mutant.around) if found == {""} else found
        uses = set(self._uses(mutant.name)) if mutant.name else set()
        found = {each for path, line in uses for each in self._on_lines(path, line, line)}
        return found - {""} or self._on_lines(mutant.path, 1, 1_000_000)

    def _on_lines(self, path: str, first: int, last: int) -> set[str]:
        return {
            context
            for by_line in self._lines(path)
            for line, contexts in by_line.items()
            if first <= line <= last
            for context in contexts
        }

    @cache  # noqa: B019 - lives as long as the program
    def _lines(self, path: str) -> list[dict[int, list[str]]]:
        found = []
        for data in self._data:
            names = [each for each in data.measured_files() if f"/{each}".endswith(f"/{path}")]
            if names:
                found.append(data.contexts_by_lineno(min(names, key=len)))
        return found

    def _uses(self, name: str) -> Iterator[tuple[str, int]]:
        """Where functions read what a module or a class assigns."""
        for path, names in self._names.items():
            for line in names.get(name, ()):
                yield path, line

    @cached_property
    def _names(self) -> dict[str, dict[str, set[int]]]:
        files = chain.from_iterable(product_files(self._repository).values())
        texts = {file: (self._repository / file).read_text() for file in files}
        return {file: _names_in_functions(ast.parse(text)) for file, text in texts.items()}

    def _named(self, context: str) -> tuple[set[str], set[str]]:
        """The test that the context names, and those that may share its process."""
        test = _PHASE.sub("", context)
        if not test:
            return set(), set()
        in_process = test != context
        if test not in self._known:
            test = _GROUP.sub("", test)
        if test not in self._known:
            return set(), set(self._by_file.get(file_of(test), ()))
        if in_process:
            return {test}, set()
        fixtures = set(self._test(test).shared)
        mates = {name for name, each in self._tests.items() if fixtures & set(each.shared)}
        return {test}, {*self._by_file[file_of(test)], *(mates & self._known.keys())}

    def _test(self, name: str) -> Test:
        return self._tests.get(name, Test())

    def _cost(self, tests: Iterable[str]) -> float:
        tests = list(tests)
        files = {file_of(each) for each in tests}
        return sum(self._test(each).seconds for each in tests) + FILE_SECONDS * len(files)

    def _affordable(self, tests: set[str], seconds: float) -> list[str]:
        """As many as can be run, at least one; by file, the fastest first."""
        queues: dict[str, list[str]] = defaultdict(list)
        for test in sorted(tests, key=lambda each: (-self._test(each).seconds, each)):
            queues[file_of(test)].append(test)
        files = sorted(
            queues, key=lambda file: (self._cost(queues[file]) / len(queues[file]), file)
        )
        picked: list[str] = []
        spent = 0.0
        while any(queues.values()):
            for file in files:
                if not queues[file]:
                    continue
                test = queues[file].pop()
                spent += self._cost([test])
                if picked and spent > seconds:
                    queues[file].clear()
                    spent -= self._cost([test])
                else:
                    picked.append(test)
        order = {file: place for place, file in enumerate(files)}
        return sorted(picked, key=lambda each: (order[file_of(each)], self._known[each]))

    def seconds(self, test: str) -> float:
        """What the test took when its contexts were recorded."""
        return self._test(test).seconds


def file_of(test: str) -> str:
    """The file of a node id."""
    return test.partition("::")[0]


def _is_own(file: str, path: str) -> bool:
    """Whether tests/.../test_name.py is the test file of .../name.py."""
    return Path(file).stem == f"test_{Path(path).stem}"


def _read(file: Path) -> CoverageData:
    data = CoverageData(str(file))
    data.read()
    return data


def _measured(file: Path) -> Iterator[tuple[str, Test]]:
    listed = file.with_name(f"{file.name}.tests")
    for line in listed.read_text().splitlines() if listed.exists() else ():
        each = json.loads(line)
        yield _GROUP.sub("", each["test"]), Test(each["seconds"], tuple(each["shared"]))


def _names_in_functions(tree: ast.Module) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in function.body:
                for node in ast.walk(statement):
                    match node:
                        case ast.Name(id=name) | ast.Attribute(attr=name):
                            found[name].add(node.lineno)
    return found
