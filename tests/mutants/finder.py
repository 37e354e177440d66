"""Finds every place in a module where one small error can be planted.

Left out: docstrings, log calls, type annotations, ``if TYPE_CHECKING``, the ``__main__`` guard,
the options of ``dataclass``, and the parts of f-strings, whose positions Python 3.11 does not know.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.operators import OPERATORS

LOGGERS = {"log", "_log", "_LOG"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted error: what stands at a place in a file, and what is put there instead."""

    path: str
    line: int
    column: int
    operator: str
    before: str
    after: str
    scope: str  # the function around it, as "Class.method"; empty at the top of a module or class
    number: int  # among mutants that are otherwise equal
    lines: tuple[int, int]  # of the statement, whose tests are run
    around: tuple[int, int]  # of the function
    name: str  # what the statement assigns to, outside functions
    span: tuple[int, int]  # bytes of the source that are replaced

    @property
    def key(self) -> str:
        """The mutant's name, which stays the same when other lines of the file change."""
        change = f"{self.before} -> {self.after}"
        return f"{self.path} | {self.scope} | {self.operator} | {change} | {self.number}"

    def applied(self, source: str) -> str:
        """The file with the error in it."""
        start, end = self.span
        data = source.encode()
        return (data[:start] + self.after.encode() + data[end:]).decode()


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda each: (each.span, each.operator, each.after))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: str) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._data = source.encode()
        self._starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scope: list[str] = []
        self._depth = 0  # how many functions are around
        self._lines = self._around = (1, 1)
        self._name = ""
        self._seen: Counter[tuple[str, ...]] = Counter()

    def visit(self, node: ast.AST) -> None:
        if _is_left_out(node):
            return
        if isinstance(node, ast.stmt):
            self._enter_statement(node)
        elif isinstance(node, ast.ExceptHandler):
            self._lines = node.lineno, node.lineno
        lines, name = self._lines, self._name
        for operator in OPERATORS.get(type(node), ()):
            for replacement in operator(node):
                self._add(*replacement)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._enter_scope(node)
        else:
            for child in _children(node):
                self.visit(child)
                self._lines, self._name = lines, name

    def _enter_statement(self, node: ast.stmt) -> None:
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else (node.end_lineno or node.lineno)
        self._lines = node.lineno, max(node.lineno, last)
        if not self._depth:
            self._name = _assigned(node)

    def _enter_scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        is_function = not isinstance(node, ast.ClassDef)
        around = self._around
        self._scope.append(node.name)
        self._depth += is_function
        if not isinstance(node, ast.ClassDef):
            # A default value matters where the function is called: all of its lines.
            self._lines = self._around = node.lineno, node.end_lineno or node.lineno
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                self.visit(default)
        for child in node.body:
            self.visit(child)
        self._depth -= is_function
        self._around = around
        self._scope.pop()

    def _add(self, operator: str, old: ast.AST, new: ast.AST) -> None:
        start = self._offset(old.lineno, old.col_offset)  # type: ignore[attr-defined]
        end = self._offset(old.end_lineno, old.end_col_offset)  # type: ignore[attr-defined]
        after = ast.unparse(new)
        if isinstance(new, ast.expr) and not isinstance(new, ast.Constant | ast.Tuple):
            after = f"({after})"
        before = self._data[start:end].decode()
        scope = ".".join(self._scope) if self._depth else ""
        alike = scope, operator, before, after
        self._seen[alike] += 1
        place = old.lineno, old.col_offset + 1  # type: ignore[attr-defined]
        self.found.append(
            Mutant(self._path, *place, operator, before, after, scope, self._seen[alike],
                   self._lines, self._around, self._name, (start, end))
        )  # fmt: skip

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "bases", "format_spec"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in LOGGERS
        case ast.Call(func=ast.Name(id="dataclass")):
            return True
    return False


def _assigned(node: ast.stmt) -> str:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""
