"""Places of results: finds the keys under which ``outcome.results`` has the result of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import name_of_step
from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.states import name_of, names_of

Names = tuple[str, ...]


def place_of(saga: Saga, step: object) -> tuple[str, Names]:
    """The path of *step*, or of its group if it is in a branch, and the keys that lead to its result.

    Raises:
        DefinitionError: *step* is not a step, the saga does not have the step, has it several times, or executes it
            once for each item of a group.
    """
    name = name_of_step(step)
    found = list(_places(saga, lambda part: part.subject is step))
    if not found:  # for example, the saga has a copy of the step with other settings, or the outcome was pickled
        found = list(_places(saga, lambda part: name_of(part.path) == name))
    if not found:
        there_are = ", ".join(".".join(names) for _, names in _places(saga, lambda _: True))
        raise DefinitionError(f"saga {saga.name!r} has no step {name!r}; there are {there_are}")
    if len(found) > 1:
        places = " and ".join(repr(".".join(names)) for _, names in found)
        raise DefinitionError(
            f"saga {saga.name!r} has step {name!r} as {places}; take the result that you mean from outcome.results"
        )
    part, names = found[0]
    if part.each:
        raise DefinitionError(
            f"step {name!r} is executed once for each item of {part.path!r}; the results are the list "
            f"outcome.results[{part.path!r}]"
        )
    return part.path, names


def _places(saga: Saga, is_it: Callable[[Part], bool]) -> Iterator[tuple[Part, Names]]:
    """For each step for which *is_it* is true, its part, and the keys that lead to its result.

    If the step is in a branch of a group or a choice, the part is the group or the choice.
    """
    for part in saga.parts:
        names = names_of(part.path)
        if part.kind is Kind.STEP and is_it(part):
            yield part, names
        elif part.kind in GROUPS:
            for name, branch in saga.branches[part.path].items():
                for _, inside in _places(branch, is_it):
                    yield part, (*names, name) if branch.single is not None else (*names, name, *inside)
