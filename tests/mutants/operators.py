"""The operators: how each kind of syntax is changed into one small error.

An operator takes a node and yields its own name, the node that is replaced, and what replaces it.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Replacement = tuple[str, ast.AST, ast.AST]
Node = TypeVar("Node", bound=ast.AST)

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


def _changed(node: Node, **fields: Any) -> Node:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def comparison(node: ast.Compare) -> Iterator[Replacement]:
    """``<`` becomes ``<=``, ``is`` becomes ``is not``, ..."""
    for index, each in enumerate(node.ops):
        ops = [*node.ops[:index], COMPARISONS[type(each)](), *node.ops[index + 1 :]]
        yield "comparison", node, _changed(node, ops=ops)


def boolean(node: ast.BoolOp) -> Iterator[Replacement]:
    """``and`` becomes ``or``, and the other way."""
    op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "boolean", node, _changed(node, op=op)


def negation(node: ast.UnaryOp) -> Iterator[Replacement]:
    """``not`` is dropped."""
    if isinstance(node.op, ast.Not):
        yield "negation", node, node.operand


def arithmetic(node: ast.BinOp | ast.AugAssign) -> Iterator[Replacement]:
    """``+`` becomes ``-``, ``*`` becomes ``//``, ...; not where a text is put together."""
    if type(node.op) in ARITHMETIC and not any(map(_is_text, ast.walk(node))):
        yield "arithmetic", node, _changed(node, op=ARITHMETIC[type(node.op)]())


def _is_text(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Constant(value=str() | bytes()):
            return True
    return False


def constant(node: ast.Constant) -> Iterator[Replacement]:
    """A number is off by one; True becomes False."""
    match node.value:
        case bool():
            yield "truth", node, ast.Constant(not node.value)
        case int() | float():
            for value in (node.value + 1, node.value - 1):
                yield "off by one", node, ast.Constant(value)


def returned(node: ast.Return) -> Iterator[Replacement]:
    """None is returned."""
    match node.value:
        case None | ast.Constant(value=None):
            return
    yield "return value", node, ast.Return(ast.Constant(None))


def condition(node: ast.If | ast.While | ast.IfExp) -> Iterator[Replacement]:
    """The condition is negated; not where a comparison or ``not`` is changed to the same effect."""
    match node.test:
        case ast.UnaryOp(op=ast.Not()):
            return
        case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot()]):
            return
        case ast.Compare(ops=[ast.In() | ast.NotIn()]):
            return
    yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)


def filtered(node: ast.comprehension) -> Iterator[Replacement]:
    """A comprehension's condition is negated."""
    for each in node.ifs:
        yield "condition", each, ast.UnaryOp(ast.Not(), each)


def deleted(node: ast.stmt) -> Iterator[Replacement]:
    """A statement that has an effect is deleted."""
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()):
            pass
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            pass
        case ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            pass
        case _:
            return
    yield "deletion", node, ast.Pass()


def caught(node: ast.ExceptHandler) -> Iterator[Replacement]:
    """A handler does not catch one of its exceptions."""
    if isinstance(node.type, ast.Tuple):
        for index in range(len(node.type.elts)):
            left = [*node.type.elts[:index], *node.type.elts[index + 1 :]]
            yield "exception", node.type, _changed(node.type, elts=left)
    elif node.type:
        yield "exception", node.type, ast.Tuple([], ast.Load())


def suppressed(node: ast.Call) -> Iterator[Replacement]:
    """``suppress`` does not suppress one of its exceptions."""
    match node.func:
        case ast.Name(id="suppress") | ast.Attribute(attr="suppress"):
            for index in range(len(node.args)):
                args = [*node.args[:index], *node.args[index + 1 :]]
                yield "exception", node, _changed(node, args=args)


OPERATORS: dict[type[ast.AST], tuple[Callable[[Any], Iterator[Replacement]], ...]] = {
    ast.Compare: (comparison,),
    ast.BoolOp: (boolean,),
    ast.UnaryOp: (negation,),
    ast.BinOp: (arithmetic,),
    ast.AugAssign: (arithmetic, deleted),
    ast.Constant: (constant,),
    ast.Return: (returned,),
    ast.If: (condition,),
    ast.While: (condition,),
    ast.IfExp: (condition,),
    ast.comprehension: (filtered,),
    ast.ExceptHandler: (caught,),
    ast.Call: (suppressed,),
    **dict.fromkeys((ast.Expr, ast.Assign, ast.Raise, ast.Continue, ast.Break, ast.Delete),
                    (deleted,)),
}  # fmt: skip
