"""Every mutant of a module: one small change to its syntax tree, and an identity that outlives a shift of lines.

Comparisons and arithmetic are swapped, conditions negated, ``and`` and ``or`` exchanged, statements left out, values
returned or assigned replaced by None, numbers, truths and names in quotes changed, the first two arguments exchanged.
Assertions, annotations, docstrings and the words of messages are left as they are.
"""

from __future__ import annotations

import ast
import collections
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent.parent
PACKAGE: Final = ROOT / "fsm_mediator"

COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
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
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NOT_EXCHANGED: Final = frozenset(("isinstance", "issubclass", "getattr", "setattr", "min", "max"))
"""Functions whose arguments are not exchanged: for `min` and `max`, the order of two numbers means nothing."""
OPPOSITES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
LEFT_OUT: Final = (ast.AugAssign, ast.Delete, ast.Raise, ast.Continue, ast.Break)
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
WORD: Final = re.compile(r"\w+")
SHOWN: Final = 90
"""So many characters of a piece of code are shown."""


@attrs.define(eq=False)
class Mutant:
    """One change to one module.

    Attributes:
        module: The module's path, from the package: ``execution/rules.py``.
        function: The qualified name of the function that the change is in; empty: it takes hold at import.
        line: The line of the statement that it is in.
        kind: The operator in words.
        before: The code as it is.
        after: The code with the change.
        place: The node that holds the changed one, in its field *field*, at *index* where that is a list.
        new: The node that is put there.
        number: Which of the equal changes in the function it is, from 1.
    """

    module: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    place: ast.AST
    field: str
    index: int | None
    new: ast.AST
    number: int = 1

    @property
    def identity(self) -> str:
        """Its name in the kept files: the same as long as the function and the code in question are."""
        where = f"{self.module}:{self.function}" if self.function else self.module
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{where}: {self.before} -> {self.after}{again}"

    def compiled(self, tree: ast.Module) -> object:
        """The code of the module *tree* with this change, which is taken back afterwards."""
        old = self._put(self.new)
        try:
            return compile(ast.fix_missing_locations(tree), str(PACKAGE / self.module), "exec", dont_inherit=True)
        finally:
            self._put(old)

    def _put(self, node: ast.AST) -> ast.AST:
        old = getattr(self.place, self.field)
        if self.index is None:
            setattr(self.place, self.field, node)
            return old  # type: ignore[no-any-return]
        old[self.index], old = node, old[self.index]
        return old  # type: ignore[no-any-return]


def shown(node: ast.AST) -> str:
    """The code of *node* on one line, cut where it is long."""
    if isinstance(node, (ast.If, ast.While)):
        return f"if {shown(node.test)}"
    text = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module of the package."""
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def mutants_of(module: str, tree: ast.Module) -> list[Mutant]:
    """Every mutant of the module *tree*, each with an identity of its own."""
    found = list(_Walk(module).of(tree))
    times: collections.Counter[str] = collections.Counter()
    for mutant in found:
        times[mutant.identity] += 1
        mutant.number = times[mutant.identity]
    return found


class _Walk:
    """A walk through a module's tree, which knows the function and the statement that it is in."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.names: list[str] = []
        self.function = ""
        self.statement: ast.stmt | None = None

    def of(self, tree: ast.Module) -> Iterator[Mutant]:
        yield from self._children(tree)

    def _children(self, node: ast.AST, fields: tuple[str, ...] | None = None) -> Iterator[Mutant]:
        for field in fields or [name for name, _ in ast.iter_fields(node)]:
            value = getattr(node, field, None)
            if isinstance(value, list):
                for index, each in enumerate(value):
                    if isinstance(each, ast.AST):
                        yield from self._node(node, field, index, each)
            elif isinstance(value, ast.AST):
                yield from self._node(node, field, None, value)

    def _node(self, place: ast.AST, field: str, index: int | None, node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom)) or field in ("annotation", "returns"):
            return
        outer = self.statement
        if isinstance(node, ast.stmt):
            self.statement = node
        for kind, new in _changes(place, field, node):
            yield self._mutant(kind, place, field, index, node, new)
        if isinstance(node, FUNCTIONS):
            yield from self._function(node)
        elif isinstance(node, ast.ClassDef):
            yield from self._children(node, ("decorator_list",))
            self.names.append(node.name)
            yield from self._children(node, ("body",))
            self.names.pop()
        elif not _is_type_checking(node) and not (isinstance(node, ast.Expr) and _is_text(node.value)):
            yield from self._children(node)
        self.statement = outer

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Mutant]:
        yield from self._children(node.args, ("defaults", "kw_defaults"))
        yield from self._children(node, ("decorator_list",))
        outer = self.function
        self.names.append(node.name)
        self.function = self.function or ".".join(self.names)
        yield from self._children(node, ("body",))
        self.names.pop()
        self.function = outer

    def _mutant(self, kind: str, place: ast.AST, field: str, index: int | None, node: ast.AST, new: ast.AST) -> Mutant:
        ast.copy_location(new, node)
        before, after = shown(node), shown(new)
        if isinstance(node, (ast.Constant, ast.Name)):  # which says nothing without what it stands in
            mutant = Mutant(self.module, self.function, 0, kind, "", "", place, field, index, new)
            before = shown(place)
            old = mutant._put(new)
            after = shown(place)
            mutant._put(old)
        if isinstance(new, ast.Pass):
            after = "left out"
        line = self.statement.lineno if self.statement is not None else 1
        return Mutant(self.module, self.function, line, kind, before, after, place, field, index, new)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _negated(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(op=ast.Not(), operand=copy.deepcopy(node))


def _changes(place: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The operator and the new node of every change to *node*, which is *field* of *place*."""
    change = _BY_TYPE.get(type(node))
    if change is not None:
        yield from change(place, field, node)
    if isinstance(node, LEFT_OUT):
        yield "statement", ast.Pass()
    is_condition = field in {"test", "ifs"}
    if is_condition and not isinstance(node, (ast.Compare, ast.UnaryOp, ast.Constant)) and not _is_type_checking(place):
        assert isinstance(node, ast.expr)
        yield "negation", _negated(node)


def _compare(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.Compare)
    for at, operator in enumerate(node.ops):
        new = copy.deepcopy(node)
        new.ops[at] = COMPARISONS[type(operator)]()
        yield "comparison", new


def _boolean(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.BoolOp)
    new = copy.deepcopy(node)
    new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or", new


def _unary(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.UnaryOp)
    if isinstance(node.op, ast.Not):
        yield "negation", copy.deepcopy(node.operand)


def _arithmetic(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.BinOp)
    if type(node.op) in ARITHMETIC and not (_is_text(node.left) or isinstance(node.left, ast.JoinedStr)):
        new = copy.deepcopy(node)
        new.op = ARITHMETIC[type(node.op)]()
        yield "arithmetic", new


def _call(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Name) and node.func.id in OPPOSITES:
        new = copy.deepcopy(node)
        new.func = ast.Name(OPPOSITES[node.func.id], ast.Load())
        yield "min/max, any/all", new
    first_two = node.args[:2]
    plain = len(first_two) == 2 and not any(isinstance(each, ast.Starred) for each in first_two)
    keeps_order = isinstance(node.func, ast.Name) and node.func.id in NOT_EXCHANGED
    if plain and not keeps_order and ast.dump(first_two[0]) != ast.dump(first_two[1]):
        new = copy.deepcopy(node)
        new.args[:2] = new.args[1::-1]
        yield "arguments", new


def _constant(place: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(place, (ast.Expr, ast.JoinedStr, ast.FormattedValue)) or field == "slice":
        if isinstance(value, int) and not isinstance(value, bool):
            yield "constant", ast.Constant(value + 1)
    elif isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, str) and WORD.fullmatch(value):
        yield "constant", ast.Constant(f"{value}_")


def _expression(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.Expr)
    if not isinstance(node.value, ast.Constant):
        yield "statement", ast.Pass()


def _assignment(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, (ast.Assign, ast.AnnAssign))
    value = node.value
    if value is None or (isinstance(value, ast.Constant) and value.value is None):
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
        yield "statement", ast.Pass()
    elif not any(isinstance(target, (ast.Tuple, ast.List)) for target in targets):
        new = copy.copy(node)
        new.value = ast.Constant(None)
        yield "None assigned", new


def _returned(_place: ast.AST, _field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node, ast.Return)
    if node.value is None:
        yield "statement", ast.Pass()
    elif not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "None returned", ast.Return(ast.Constant(None))
    else:
        yield "statement", ast.Pass()


_BY_TYPE: Final[dict[type[ast.AST], Callable[[ast.AST, str, ast.AST], Iterator[tuple[str, ast.AST]]]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.Call: _call,
    ast.Constant: _constant,
    ast.Expr: _expression,
    ast.Assign: _assignment,
    ast.AnnAssign: _assignment,
    ast.Return: _returned,
}
