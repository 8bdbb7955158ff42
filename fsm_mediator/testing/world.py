"""World: creates the saga and its world for each run, and compares two observations of the world.

The steps are the user's real steps. `observe` returns the state of the world. Its result is copied at once. Without a
copy, `observe` could return the same object twice, and the comparison would compare the object with itself.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import pprint
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import DefinitionError


@attrs.frozen
class World:
    """A saga that is ready to run, and the function that observes its world.

    Attributes:
        saga: The saga, with its real steps.
        observe: A function that returns the state of the world.
    """

    saga: Saga
    observe: Callable[[], Any]


class Worlds:
    """Provides the world of each run: a new world from a function, or the same world after a reset.

    Args:
        source: The saga, or a function without arguments that returns a new ``(saga, observe)``.
        observe: A function that returns the state of the world, if *source* is a saga. None if *source* is a function.
        reset: A function that restores the world to its initial state. None if there is no such function.
        call: The runner that calls these functions, which may be coroutine functions.

    Raises:
        DefinitionError: *source* is neither a saga nor such a function.
    """

    def __init__(
        self,
        source: Saga | Callable[[], Any],
        observe: Callable[[], Any] | None,
        reset: Callable[[], Any] | None,
        call: Callable[[Callable[[], Any]], Any],
    ) -> None:
        if isinstance(source, Saga):
            if observe is None:
                raise DefinitionError(
                    f"the effects of saga {source.name!r} are not known: pass observe=, a function that returns the "
                    f"state of the world; or pass a function that returns (saga, observe) instead of the saga"
                )
        elif not callable(source) or observe is not None or reset is not None:
            raise DefinitionError(
                f"a check takes a Saga with observe= (and reset=), or, alone, a function that returns new "
                f"(saga, observe) for each run; not {source!r}"
            )
        for name, function in (("observe", observe), ("reset", reset)):
            if function is not None and not callable(function):
                raise DefinitionError(f"{name} must be a function without arguments, not {function!r}")
        self._source = source
        self._observe = observe
        self._reset = reset
        self._call = call
        self._used = False

    @property
    def is_fresh_per_run(self) -> bool:
        """Whether each run has its own world."""
        return not isinstance(self._source, Saga) or self._reset is not None

    def next(self) -> World:
        """The world of the next run."""
        if isinstance(self._source, Saga):
            if self._used and self._reset is not None:
                self._call(self._reset)
            self._used = True
            assert self._observe is not None
            return World(self._source, self._observe)
        made = self._call(self._source)
        if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], Saga) or not callable(made[1]):
            raise DefinitionError(
                f"{getattr(self._source, '__name__', self._source)!r} must return a pair: the saga, and a function "
                f"that returns what the world looks like; it returned {made!r}"
            )
        return World(*made)

    def look(self, world: World) -> Any:
        """The state of the world now.

        Raises:
            DefinitionError: The result of `observe` does not equal its own copy.
        """
        seen = self._call(world.observe)
        if inspect.isawaitable(seen):
            raise DefinitionError("observe returned an awaitable; make observe a coroutine function")
        kept = copy.deepcopy(seen)
        if not kept == seen:
            raise DefinitionError(
                f"what observe returned does not equal its own copy, and so cannot be compared: {seen!r}. Return plain "
                f"data: numbers, texts, tuples, lists, dictionaries"
            )
        return kept


def differences(expected: Any, found: Any) -> str:
    """The differences between two observations, one per line: ``-`` was expected, ``+`` was found."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        lines = []
        for key in dict.fromkeys((*expected, *found)):
            if key in expected and key in found and expected[key] == found[key]:
                continue
            lines += [f"- {key!r}: {expected[key]!r}"] if key in expected else []
            lines += [f"+ {key!r}: {found[key]!r}"] if key in found else []
        return "\n".join(lines)
    before, after = pprint.pformat(expected, width=100), pprint.pformat(found, width=100)
    if "\n" not in before and "\n" not in after:
        return f"- {before}\n+ {after}"
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), "expected", "found", lineterm="", n=1)
    return "\n".join(line for line in diff if not line.startswith(("---", "+++")))


def without(look: Any, names: tuple[str, ...]) -> Any:
    """*look*, an observation of the world, without the keys *names*. If it is not a mapping, *look* itself."""
    if isinstance(look, Mapping) and any(name in look for name in names):
        return {key: value for key, value in look.items() if key not in names}
    return look
