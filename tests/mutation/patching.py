"""A mutant put in place: the code of the live functions is exchanged, or the module is imported from a changed tree.

A change within a function takes hold in every function object made of that code, wherever it was imported to. A change
outside of any (a constant, a default, a decorator) has to be there when the module is imported.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import attrs

from tests.mutation.operators import PACKAGE, Mutant

Key = tuple[str, int, int]


class NotExchangedError(Exception):
    """No live function is made of the changed code."""


def codes(code: CodeType) -> Iterator[CodeType]:
    """*code*, and all code within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def _keyed(code: CodeType) -> dict[Key, CodeType]:
    """The code objects of a module, by name, line, and number among those of the same name and line."""
    found: dict[Key, CodeType] = {}
    for each in codes(code):
        number = 0
        while (each.co_qualname, each.co_firstlineno, number) in found:
            number += 1
        found[each.co_qualname, each.co_firstlineno, number] = each
    return found


def live_functions(files: frozenset[str]) -> dict[str, list[FunctionType]]:
    """The function objects that there are, by the file of their code."""
    found: dict[str, list[FunctionType]] = {file: [] for file in files}
    gc.unfreeze()
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename in files:
            found[each.__code__.co_filename].append(each)
    gc.freeze()  # children then collect what they have made themselves, and share the rest
    return found


def exchange(functions: Sequence[FunctionType], old: CodeType, new: CodeType) -> None:
    """Give the functions of a module their code from *new*, where that differs from *old*.

    Raises:
        NotExchangedError: None differs, or the new code needs other variables of the functions around it.
    """
    before, after = _keyed(old), _keyed(new)
    changed = [(code, after[key]) for key, code in before.items() if key in after and code != after[key]]
    exchanged = 0
    for function in functions:
        for code, other in changed:
            if function.__code__ == code:
                if code.co_freevars != other.co_freevars:
                    raise NotExchangedError(function.__qualname__)
                function.__code__ = other
                exchanged += 1
                break
    if not exchanged:
        raise NotExchangedError(old.co_filename)


@attrs.define
class MutatedImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook: one module comes from a changed tree."""

    name: str
    code: Any

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        """The changed module's spec; None for every other."""
        if fullname != self.name:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        assert found is not None
        found.loader = self
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        exec(self.code, module.__dict__)  # noqa: S102 - it is our own module, with one change


def import_mutated(mutant: Mutant, tree: ast.Module) -> None:
    """Have *mutant*'s module imported with the change, as soon as somebody imports it."""
    name = f"fsm_mediator.{mutant.module[:-3].replace('/', '.')}"
    assert name not in sys.modules, f"{name} was imported before"
    sys.meta_path.insert(0, MutatedImport(name, mutant.compiled(tree)))


HIT: Final = "_mutation_hit"
"""The name, among the builtins, of what an instrumented statement calls."""


class _Instrument(ast.NodeTransformer):
    """Every statement of a function says first that it is reached."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.within = 0

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.within += 1
        self.generic_visit(node)
        self.within -= 1
        return node

    visit_FunctionDef = _function  # noqa: N815
    visit_AsyncFunctionDef = _function  # noqa: N815

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self.within:
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                if isinstance(statements, list) and statements and isinstance(statements[0], ast.stmt):
                    setattr(node, field, self._with_hits(statements))
        return node

    def _with_hits(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in statements:
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not is_text and not isinstance(statement, (ast.Global, ast.Nonlocal)):
                reached = ast.Tuple([ast.Constant(self.module), ast.Constant(statement.lineno)], ast.Load())
                call = ast.Call(ast.Name(HIT, ast.Load()), [reached], [])
                found.append(ast.copy_location(ast.Expr(call), statement))
            found.append(statement)
        return found


def instrumented(module: str, tree: ast.Module) -> Any:
    """The code of a module of which each statement in a function calls `HIT` with module and line."""
    changed = ast.fix_missing_locations(_Instrument(module).visit(tree))
    return compile(changed, str(PACKAGE / module), "exec", dont_inherit=True)
