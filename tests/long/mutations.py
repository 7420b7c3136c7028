"""Mutants of a module: its syntax tree with one operator, constant or statement changed."""

import ast
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

_OPPOSITES = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)),
    *((ast.Add, ast.Sub), (ast.LShift, ast.RShift), (ast.BitAnd, ast.BitOr), (ast.Mult, ast.FloorDiv)),
)
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Mod: ast.FloorDiv,
    **dict(_OPPOSITES),
    **{other: one for one, other in _OPPOSITES},
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "left": "right"}
_PARTS_LEFT_ALONE = {"annotation", "returns", "decorator_list", "ctx"}
# Texts of errors, keys of tables, and sizes of caches: what they are makes no difference that these tests could notice.
_CALLS_LEFT_ALONE = {"damaged", "Table", "zip", "cast", "TypeVar"}
_NAMES_LEFT_ALONE = ("MAX_CACHED", "_AT_ONCE")


class Mutant(NamedTuple):
    """A change: file, place among all nodes of the file, number of the change there; line and both texts to show."""

    path: Path
    node: int
    change: int
    line: int
    before: str
    after: str

    def source(self) -> str:
        """Return the source of the changed module."""
        tree = ast.parse(self.path.read_text())
        place = list(_places_of(tree))[self.node]
        place.put(list(_changes(place.node))[self.change])
        return ast.unparse(ast.fix_missing_locations(tree))

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}:{self.line}: {self.before}  ->  {self.after}"


class _Place(NamedTuple):
    parent: Any
    field: str
    at: int | None
    node: Any

    def put(self, node: ast.AST) -> None:
        if self.at is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.at] = node


def mutants_of(path: Path) -> list[Mutant]:
    """Return all mutants of a module."""
    found = []
    for number, place in enumerate(_places_of(ast.parse(path.read_text()))):
        for change, changed in enumerate(_changes(place.node)):
            line = getattr(place.node, "lineno", getattr(place.parent, "lineno", 0))
            found.append(Mutant(path, number, change, line, _shown(place.node), _shown(changed)))
    return found


def _places_of(tree: ast.AST) -> Iterator[_Place]:
    if isinstance(tree, ast.Raise | ast.Assert):
        return
    for field, value in ast.iter_fields(tree):
        if field in _PARTS_LEFT_ALONE:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield _Place(tree, field, index, child)
                yield from _places_of(child)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _CALLS_LEFT_ALONE
        case ast.Assign(targets=[ast.Name(id=name)]):
            return any(part in name for part in _NAMES_LEFT_ALONE)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def _changes(node: Any) -> Iterator[ast.AST]:
    """Yield what a node is changed to."""
    yield from _other_operators(node)
    yield from _other_values(node)
    match node:
        case ast.BoolOp(values=values):
            for index in range(len(values)):
                rest = values[:index] + values[index + 1 :]
                yield deepcopy(rest[0]) if len(rest) == 1 else ast.BoolOp(node.op, deepcopy(rest))
        case ast.IfExp():
            yield deepcopy(node.body)
            yield deepcopy(node.orelse)
        case ast.If() | ast.While():
            changed = deepcopy(node)
            changed.test = ast.UnaryOp(ast.Not(), changed.test)
            yield changed
        case ast.Expr(value=ast.Constant() | ast.Yield() | ast.YieldFrom()):
            pass
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


def _other_operators(node: Any) -> Iterator[ast.AST]:
    changed: Any = deepcopy(node)
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                changed.ops[index] = _OPERATORS[type(operator)]()
                yield deepcopy(changed)
                changed.ops[index] = operator
        case ast.BinOp() | ast.AugAssign():
            if type(node.op) in _OPERATORS:
                changed.op = _OPERATORS[type(node.op)]()
                yield changed
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield deepcopy(node.operand)


def _other_values(node: Any) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.Name(id=name) if name in _NAMES:
            yield ast.Name(_NAMES[name], node.ctx)
        case ast.Attribute(attr=name) if name in _NAMES:
            yield ast.Attribute(deepcopy(node.value), _NAMES[name], node.ctx)


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:90]
