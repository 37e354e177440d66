"""Every operator plants one error that compiles; what has no effect on the product stays."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutants.finder import Mutant, mutants

REPOSITORY = Path(__file__).parents[3]


def changes(source: str) -> list[tuple[str, str, str]]:
    return [(each.operator, each.before, each.after) for each in mutants("a.py", dedent(source))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x < y", [("comparison", "x < y", "(x <= y)")]),
        ("x is y", [("comparison", "x is y", "(x is not y)")]),
        ("x not in y", [("comparison", "x not in y", "(x in y)")]),
        ("x < y <= z", [("comparison", "x < y <= z", "(x < y < z)"),
                        ("comparison", "x < y <= z", "(x <= y <= z)")]),
        ("x and y", [("boolean", "x and y", "(x or y)")]),
        ("not x", [("negation", "not x", "(x)")]),
        ("x + y", [("arithmetic", "x + y", "(x - y)")]),
        ("x += y", [("arithmetic", "x += y", "x -= y"), ("deletion", "x += y", "pass")]),
        ("x = 7", [("off by one", "7", "6"), ("off by one", "7", "8")]),
        ("x = True", [("truth", "True", "False")]),
        ("def f():\n return x", [("return value", "return x", "return None")]),
        ("if x: y", [("condition", "x", "(not x)")]),
        ("if x == y: z", [("comparison", "x == y", "(x != y)")]),
        ("x if y else z", [("condition", "y", "(not y)")]),
        ("[x for x in y if x]", [("condition", "x", "(not x)")]),
        ("while x: y", [("condition", "x", "(not x)")]),
        ("x()", [("deletion", "x()", "pass")]),
        ("async def f(): await x", [("deletion", "await x", "pass")]),
        ("x.y = z", [("deletion", "x.y = z", "pass")]),
        ("raise x", [("deletion", "raise x", "pass")]),
        ("try: x\nexcept A: y", [("exception", "A", "()")]),
        ("try: x\nexcept (A, B): y", [("exception", "(A, B)", "(A,)"),
                                      ("exception", "(A, B)", "(B,)")]),
        ("with suppress(A): y", [("exception", "suppress(A)", "(suppress())")]),
    ],
)  # fmt: skip
def test_an_operator_changes_one_thing(source: str, expected: list[tuple[str, str, str]]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Docs of 7 things."""',
        "def f(x: Annotated[int, 7]) -> Literal[7]: ...",
        "x: Annotated[int, Field(ge=7)]",
        "if TYPE_CHECKING:\n x = 7",
        "if __name__ == '__main__':\n x = 7",
        "_log.info('x', y=7)",
        "@dataclass(frozen=True)\nclass A: ...",
        "x = f'{7}'",
        "x = 'a' + y",
        "return_value: int",
    ],
)
def test_what_has_no_effect_on_the_product_stays(source: str) -> None:
    assert changes(source) == []


@pytest.mark.parametrize("path", ["contract/checksums.py", "scp/store_scp/leases.py"])
def test_every_mutant_of_a_module_compiles_and_is_another_program(path: str) -> None:
    source = (REPOSITORY / path).read_text()
    before = ast.dump(ast.parse(source))
    found = mutants(path, source)
    programs = {ast.dump(ast.parse(each.applied(source))) for each in found}
    assert before not in programs
    assert len(programs) == len({each.key for each in found}) == len(found) > 10


def test_positions_count_in_files_that_are_not_ascii() -> None:
    source = 'x = "é", 1\n'
    assert [each.applied(source) for each in mutants("a.py", source)] == [
        'x = "é", 0\n',
        'x = "é", 2\n',
    ]


def only(source: str, before: str) -> Mutant:
    return next(each for each in mutants("a.py", dedent(source)) if each.before == before)


def test_a_mutant_knows_its_statement_and_what_is_around_it() -> None:
    source = """\
        LIMIT = 7
        class A:
            def f(self, x=8):
                if (x and
                    y):
                    g()
                try:
                    h()
                except E:
                    pass
    """
    statement = only(source, "x and\n            y")
    assert (statement.scope, statement.lines) == ("A.f", (4, 5))
    assert only(source, "E").lines == (9, 9)
    assert (only(source, "8").scope, only(source, "8").lines) == ("A.f", (3, 10))
    assert (only(source, "7").scope, only(source, "7").name) == ("", "LIMIT")


def test_a_mutants_key_does_not_depend_on_other_lines() -> None:
    moved = only("def f():\n    g()\n    return 7", "7")
    assert moved.key == only("def f():\n    return 7", "7").key
    first, second = (each for each in mutants("a.py", "f(7, 7)") if each.after == "8")
    assert first.key != second.key
