"""ProcessMemory: resets the state that steps keep in their process, because a simulated crash must lose that state.

The memory of a step consists of its attributes and of the outer variables of its functions. A simulated crash resets
them to their values before the run. A value that `observe` shows belongs to the world, so it is not reset.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Step

MOST: Final = 10_000
"""The maximum number of objects that are stored for one attribute or variable."""

_CONTAINERS: Final = (dict, list, set, deque, bytearray)


@attrs.frozen(eq=False)
class _Kept:
    """A mutable object (*holder*), and a shallow copy of its content before the run."""

    holder: Any
    content: Any

    def has_changed(self) -> bool:
        now = _content_of(self.holder)
        if len(now) != len(self.content):
            return True
        if isinstance(now, dict):
            return any(key not in self.content or self.content[key] is not each for key, each in now.items())
        if isinstance(now, (set, bytearray)):
            return bool(now != self.content)
        return any(before is not each for before, each in zip(self.content, now, strict=True))

    def put_back(self) -> None:
        held = self.holder if isinstance(self.holder, _CONTAINERS) else vars(self.holder)
        held.clear()
        if isinstance(held, (dict, set)):
            held.update(self.content)
        else:
            held.extend(self.content)


@attrs.frozen
class _Root:
    """One attribute of a step or one outer variable of its functions, with the mutable objects in its value.

    Attributes:
        name: The attribute or variable, in words, for messages.
        owner: The dictionary of the object that has the attribute. None for a variable.
        key: The name of the attribute in *owner*.
        value: The value before the run.
        kept: The mutable objects in this value.
    """

    name: str
    owner: dict[str, Any] | None
    key: str
    value: Any
    kept: tuple[_Kept, ...]

    def has_changed(self) -> bool:
        rebound = self.owner is not None and self.owner.get(self.key, self) is not self.value
        return rebound or any(each.has_changed() for each in self.kept)

    def put_back(self) -> None:
        if self.owner is not None:
            self.owner[self.key] = self.value
        for each in self.kept:
            each.put_back()


class ProcessMemory:
    """The memory of the steps of one saga, as it is now.

    Args:
        saga: The saga, before its run.
        look: A function that returns the state of the world.
        world: The names of attributes and variables that are known to belong to the world; `learn` adds to them.

    Attributes:
        lost: The attributes and variables that a crash has reset, in words.
    """

    def __init__(self, saga: Saga, look: Callable[[], Any], world: set[str]) -> None:
        self._look = look
        self._world = world
        self._roots = tuple(_roots_of(saga))
        self._steps = tuple(_steps_of(saga))
        self._names = [frozenset(vars(step)) for _, step in self._steps]
        self.lost: dict[str, None] = {}

    def lose(self) -> None:
        """Reset all attributes and variables that changed, as in a new process. The world stays as it is."""
        for root in self._roots:
            if root.name not in self._world and root.has_changed() and self._puts_back(root):
                self.lost[root.name] = None
        for (path, step), names in zip(self._steps, self._names, strict=True):
            for name in vars(step).keys() - names:
                del vars(step)[name]
                self.lost[f"the attribute {name!r} of step {path!r}"] = None

    def learn(self) -> None:
        """Find the changed attributes and variables whose values belong to the world, and store their names.

        Their values do not change.
        """
        for root in self._roots:
            if root.name not in self._world and root.has_changed() and not self._puts_back(root, keeps=True):
                self._world.add(root.name)

    def _puts_back(self, root: _Root, *, keeps: bool = False) -> bool:
        """Reset *root*, unless its value belongs to the world. Returns False if the value belongs to the world.

        If *keeps* is True, *root* is not reset in either case. The result is the same.
        """
        before = self._look()
        now = _Root(root.name, root.owner, root.key, root.owner.get(root.key) if root.owner else None, ())
        held = [attrs.evolve(each, content=_content_of(each.holder)) for each in root.kept]
        root.put_back()
        is_unseen = bool(self._look() == before)
        if keeps or not is_unseen:
            now.put_back()
            for each in held:
                each.put_back()
        return is_unseen

    def __str__(self) -> str:
        return ", ".join(self.lost)


def _content_of(holder: Any) -> Any:
    if isinstance(holder, bytearray):
        return bytearray(holder)
    if isinstance(holder, dict):
        return dict(holder)
    if isinstance(holder, set):
        return set(holder)
    return list(holder) if isinstance(holder, (list, deque)) else dict(vars(holder))


def _steps_of(saga: Saga) -> Iterator[tuple[str, Any]]:
    """The path and the object of every step that has attributes, in a saga and its branches."""
    for part in saga.parts:
        if isinstance(part.subject, Step) and hasattr(part.subject, "__dict__"):
            yield part.path, part.subject
        for branch in saga.branches.get(part.path, {}).values():
            yield from _steps_of(branch)


def _roots_of(saga: Saga) -> Iterator[_Root]:
    for path, step in _steps_of(saga):
        for name, value in vars(step).items():
            yield _Root(f"the attribute {name!r} of step {path!r}", vars(step), name, value, _kept_in(value))
    for path, function in _functions_of(saga):
        for name, value in _variables_of(function):
            if isinstance(value, _CONTAINERS):
                yield _Root(f"the variable {name!r} that step {path!r} uses", None, name, value, _kept_in(value))


def _functions_of(saga: Saga) -> Iterator[tuple[str, FunctionType]]:
    for part in saga.parts:
        for callback in (part.execute, part.compensate, part.probe):
            function = None if callback is None else callback.function
            function = function.__func__ if isinstance(function, MethodType) else function
            if isinstance(function, FunctionType):
                yield part.path, function
        for branch in saga.branches.get(part.path, {}).values():
            yield from _functions_of(branch)


def _variables_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The outer variables that *function* uses."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # the variable has no value yet
    yield from ((name, function.__globals__[name]) for name in code.co_names if name in function.__globals__)


def _kept_in(value: Any) -> tuple[_Kept, ...]:
    """Every mutable object in *value* that can be reset."""
    found: dict[int, _Kept] = {}
    todo = [value]
    while todo and len(found) < MOST:
        each = todo.pop()
        if id(each) in found or not _can_change(each):
            continue
        found[id(each)] = kept = _Kept(each, _content_of(each))
        if not isinstance(each, (set, bytearray)):
            todo += kept.content.values() if isinstance(kept.content, dict) else kept.content
    return tuple(found.values())


def _can_change(value: Any) -> bool:
    """Whether *value* is a container or an object of a user's class.

    Containers are lists, dictionaries, sets, deques and bytearrays. Other objects of the standard library do not count.
    """
    kind = type(value)
    if kind in _CONTAINERS:
        return True
    module = kind.__module__.split(".", 1)[0]
    if module == "collections":
        return isinstance(value, _CONTAINERS)
    is_users = module not in sys.stdlib_module_names and module != "fsm_mediator" and not issubclass(kind, type)
    return is_users and hasattr(value, "__dict__") and not isinstance(value, (*_CONTAINERS, Step))
