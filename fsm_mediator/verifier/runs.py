"""Runs: long runs of consecutive steps with equal settings, of which a few are walked.

Rules read a part's settings, and never its place. The table's rows of a part lead to the part itself, its neighbours,
or a fixed state. So a step in the middle of a run behaves as the steps around it do. The rows are not taken on trust: a
run is shortened only if the rows of all its inner steps are alike, and alike in the machine of the shorter saga. Then
every path of the whole machine, with the steps left out contracted, is a path of the shorter one, and the other way
round: the ledger of a step left out is that of its neighbour on the same side of the turning point. If a law is broken,
the whole saga is walked, so that a counterexample is a path of the machine that runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.machine.table import Transition
from fsm_mediator.states import PHASES, split_state
from fsm_mediator.verifier.choices import saga_of_parts

WHOLE: Final = 40
"""Sagas of up to so many parts are walked as they are."""

AT_EACH_END: Final = 3
"""So many steps at each end of a run are walked."""


class Shortened(NamedTuple):
    """A saga with long runs shortened.

    Attributes:
        saga: The shorter saga.
        walked_instead: For each step left out, the step that was walked in its place, by path.
    """

    saga: Saga
    walked_instead: Mapping[str, str]

    def in_words(self) -> str:
        """The steps that were left out."""
        paths = list(self.walked_instead)
        shown = ", ".join(paths[:2]) + (f", ... {paths[-1]}" if len(paths) > 2 else "")
        return (
            f"{len(paths)} steps have the settings and the transitions of the steps around them, and were not walked "
            f"one by one: {shown}"
        )

    def states(self, walked: set[str]) -> set[str]:
        """The states of the whole saga that are reached if *walked* are those of the shorter one."""
        left_out = self.walked_instead.items()
        return walked | {state for path, other in left_out for state in _renamed(walked, other, path)}

    def paths(self, walked: set[str]) -> set[str]:
        """The paths of the whole saga for which something holds that holds for *walked*."""
        return walked | {path for path, other in self.walked_instead.items() if other in walked}

    def taken(self, walked: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """The transitions of the whole saga, as event and source, that are taken if *walked* are."""
        by_source: dict[str, set[str]] = {}
        for event, source in walked:
            by_source.setdefault(split_state(source)[1], set()).add(f"{event} {split_state(source)[0]}")
        return walked | {
            (event, f"{phase}.{path}")
            for path, other in self.walked_instead.items()
            for event, phase in (words.split(" ") for words in by_source.get(other, ()))
        }


def _renamed(states: set[str], other: str, path: str) -> Iterator[str]:
    return (f"{phase}.{path}" for phase in PHASES if f"{phase}.{other}" in states)


def shortened(saga: Saga) -> Shortened | None:
    """*saga* with its long runs shortened; None: it has none, or is small."""
    if len(saga.parts) <= WHOLE:
        return None
    shapes = _shapes(saga.machine, saga.parts)
    kept: list[Part] = []
    walked_instead: dict[str, str] = {}
    for _, group in groupby(saga.parts, _settings):
        run = list(group)
        inner = {shapes[part.path] for part in run[1:-1]}
        if len(run) > 2 * AT_EACH_END + 1 and len(inner) == 1:
            left_out = run[AT_EACH_END:-AT_EACH_END]
            walked_instead |= {part.path: run[AT_EACH_END - 1].path for part in left_out}
            run = run[:AT_EACH_END] + run[-AT_EACH_END:]
        kept += run
    if not walked_instead:
        return None
    shorter = saga_of_parts(saga, tuple(kept))
    if any(shapes[path] != shape for path, shape in _shapes(shorter.machine, kept).items()):
        return None  # the shorter machine is not the whole one with steps left out
    return Shortened(shorter, walked_instead)


def _settings(part: Part) -> Any:
    """Everything in a part that rules, table and laws read, but for its path; alone for all that is no step."""
    if part.kind is not Kind.STEP or part.pivot:
        return part.path
    return (
        *(part.scope, part.execute is None, part.compensate is None, part.probe is None),
        *(part.retry, part.compensation_retry, part.timeout, part.grace, part.overtake, part.forward_only),
        *(part.repeatable, part.in_doubt_on, part.no_effect_on),
    )


def _shapes(machine: CompiledMachine, parts: Sequence[Part]) -> dict[str, frozenset[Any]]:
    """The rows of each part, with its neighbours named by how far away they are."""
    numbers = {part.path: number for number, part in enumerate(parts)}
    found: dict[str, set[Any]] = {part.path: set() for part in parts}
    for move in machine.moves():
        source = split_state(move.source)
        if source[1]:
            found[source[1]].add((move.event, source[0], *_relative(move, numbers)))
    return {path: frozenset(rows) for path, rows in found.items()}


def _relative(move: Transition, numbers: Mapping[str, int]) -> tuple[str, Any]:
    phase, path = split_state(move.target)
    if not path:
        return phase, ""
    away = numbers[path] - numbers[split_state(move.source)[1]]
    return (phase, away) if abs(away) < AT_EACH_END else (phase, path)
