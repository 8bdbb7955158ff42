"""Shortening: in a long saga, only a few steps of each kind are searched instead of all steps.

This is sound because the rules read only a few properties of a step:

- They read the settings of a step, never its position.
- They compare the number of attempts only with the current attempt. So ten attempts differ from three only in how many
  attempts are neither the first nor the last.
- They only add seconds to the clock.
- They read some settings only during execution, and other settings only during compensation.

So each step has two *kinds*: one for execution (*forward*) and one for compensation (*back*). Two steps have the same
kind if the rules, the table and the laws read equal settings of both, and if both have the same rows in the table of
transitions. A row leads to the step itself, to the next part, to the nearest earlier part that can be compensated, or
to a fixed state. The module compares all rows.

The search covers the first and the last step of each kind, and every part that is not a plain step. In the shorter
machine, the part before an omitted step is followed by the part after it. If you remove the omitted steps from a path
of the whole machine, the rest is a path of the shorter machine. Every outcome of an omitted step is also searched: it
is an outcome of the last step of its kind, which follows parts of the same kinds. An execution carries only one fact
from one step to the next: whether there will be leftovers. The module also compares the rows of the shorter machine
with the rows of the whole machine.

A step that is searched only for its forward kind is *passed* during compensation: its compensation always returns.
Other steps of the same back kind are searched in both directions. For these steps the search tries compensation in
every situation: with and without the effect, with and without doubt.

If the shorter saga breaks a law, the whole saga is searched. So a counterexample is always a path of the real machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.states import COMPENSATING, PHASES, RETRYING_COMPENSATION, STUCK, split_state
from fsm_mediator.verifier.choices import saga_of_parts
from fsm_mediator.verifier.troubles import is_predicate

WHOLE: Final = 20
"""The number of parts up to which a saga is not shortened."""

AT_EACH_END: Final = 1
"""The number of first steps, and of last steps, of each kind that are searched."""

_BACK: Final = frozenset((COMPENSATING, RETRYING_COMPENSATION, STUCK))
"""The phases of compensation, for a step that can be compensated."""

ATTEMPTS: Final = 3
"""The maximum number of attempts that are searched: the first attempt, a middle attempt, and the last attempt."""


class Shortened(NamedTuple):
    """A long saga in its shortened form.

    Attributes:
        saga: The shorter saga.
        walked_instead: For each omitted step, by path, the paths of the two steps that are searched instead: for
            execution and for compensation. The first path is empty if the step itself is searched for execution. The
            second path is empty if the step cannot be compensated.
        passed: The paths of the steps that are searched for execution only.
        most_attempts: The maximum number of attempts of all policies, if fewer attempts are searched. Otherwise 0.
    """

    saga: Saga
    walked_instead: Mapping[str, tuple[str, str]]
    passed: frozenset[str]
    most_attempts: int

    def in_words(self) -> str:
        """A text for the report: the steps and attempts that the search omits."""
        words = []
        paths = [path for path, (forward, _) in self.walked_instead.items() if forward]
        if paths:
            shown = ", ".join(paths[:2]) + (f", ... {paths[-1]}" if len(paths) > 2 else "")
            words.append(
                f"{len(paths)} steps have the same settings and transitions as others, and were not walked: {shown}"
            )
        if self.passed:
            words.append(
                f"{len(self.passed)} steps are compensated like other steps, and were walked only on the path forward"
            )
        if self.most_attempts:
            words.append(f"{ATTEMPTS} attempts were walked in place of up to {self.most_attempts}")
        return "; ".join(words)

    def states(self, walked: set[str]) -> set[str]:
        """The reached states of the whole saga. *walked*: the reached states of the shorter saga."""
        return walked | {state for state, instead in self._left_out() if instead in walked}

    def taken(self, walked: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """The taken transitions of the whole saga, as event and source.

        *walked*: the taken transitions of the shorter saga, as event and source.
        """
        events: dict[str, list[str]] = {}
        for event, source in walked:
            events.setdefault(source, []).append(event)
        return walked | {(event, state) for state, instead in self._left_out() for event in events.get(instead, ())}

    def _left_out(self) -> Iterator[tuple[str, str]]:
        """Every state of each omitted step, with the state that is searched instead."""
        for path, (forward, backward) in self.walked_instead.items():
            for phase in PHASES:
                instead = backward if backward and phase in _BACK else forward
                if instead:
                    yield f"{phase}.{path}", f"{phase}.{instead}"


def shortened(saga: Saga) -> Shortened | None:
    """A shorter version of *saga*. None if *saga* is small or has no steps and no attempts that can be omitted."""
    if len(saga.parts) <= WHOLE:
        return None
    shapes = _shapes(saga.machine, saga.parts)
    by_kind: dict[Any, list[str]] = {}
    for part in saga.parts:
        for kind in _kinds(part, shapes[part.path]):
            by_kind.setdefault(kind, []).append(part.path)
    on_both_sides = _beside_others(saga.parts) | _at_the_ends(by_kind, "itself") | _at_the_ends(by_kind, "back")
    walked = on_both_sides | _at_the_ends(by_kind, "forward")
    walked_instead = {}
    for part in saga.parts:
        if part.path not in on_both_sides:
            forward, *backward = (by_kind[kind][-1] for kind in _kinds(part, shapes[part.path]))
            walked_instead[part.path] = "" if part.path in walked else forward, backward[0] if backward else ""
    most = max((attempts for part in saga.parts for attempts in _attempts(part)), default=0)
    if not walked_instead and most <= ATTEMPTS:
        return None
    kept = tuple(_with_few_attempts(part) for part in saga.parts if part.path in walked)
    shorter = saga_of_parts(saga, kept)
    if any(shapes[path] != shape for path, shape in _shapes(shorter.machine, kept).items()):
        return None  # the rows of the shorter machine differ, so a search of it would prove nothing
    passed = frozenset(path for path, (forward, backward) in walked_instead.items() if not forward and backward)
    return Shortened(shorter, walked_instead, passed, most if most > ATTEMPTS else 0)


def _at_the_ends(by_kind: Mapping[Any, Sequence[str]], side: str) -> set[str]:
    """The paths of the first and the last parts of each kind on *side*.

    *by_kind*: the paths of the parts of each kind. *side*: ``forward`` for execution, ``back`` for compensation, or
    ``itself`` for parts that are not plain steps.
    """
    every = (paths for kind, paths in by_kind.items() if kind[0] == side)
    return {path for paths in every for path in (*paths[:AT_EACH_END], *paths[-AT_EACH_END:])}


def _beside_others(parts: Sequence[Part]) -> set[str]:
    """The paths of all parts that have a wait, a group or the pivot as a neighbour.

    These parts are searched, so that each wait, group and pivot keeps its neighbours.
    """
    plain = [_is_plain_step(part) for part in parts]
    pairs = zip(parts, [True, *plain[:-1]], [*plain[1:], True], strict=True)
    return {part.path for part, before, after in pairs if not (before and after)}


def _is_plain_step(part: Part) -> bool:
    return part.kind is Kind.STEP and not part.pivot


def _kinds(part: Part, rows: frozenset[tuple[str, ...]]) -> Iterator[Any]:
    """The kinds of *part*: values that are equal for parts that the rules and the laws treat equally.

    A plain step has a kind for execution and, if it can be compensated, a kind for compensation. Any other part has one
    kind, which no other part has. *rows*: the rows of the part in the transition table.
    """
    if not _is_plain_step(part):
        yield "itself", part.path
        return
    back = frozenset(row for row in rows if part.compensatable and row[1] in _BACK)
    both = part.scope, part.timeout is None, part.overtake, part.forward_only, part.in_doubt_on, part.no_effect_on
    forward = part.execute is None, part.probe is None, part.repeatable, part.compensate is None, _policy(part.retry)
    yield "forward", both, forward, rows - back
    if part.compensatable:
        yield "back", both, _policy(part.compensation_retry), back


def _policy(policy: Retry) -> Any:
    """The values of a policy that the rules read: attempts, exceptions or a predicate, and whether there is a wait."""
    attempts = _few(policy).attempts
    return attempts, "a predicate" if is_predicate(policy) else policy.on, policy.wait(1) > 0


def _attempts(part: Part) -> Iterator[int]:
    """For each policy of *part* that limits the attempts, the maximum number of attempts."""
    if part.kind is Kind.STEP:
        policies: Iterable[Retry] = (part.retry, part.compensation_retry) if part.compensatable else (part.retry,)
        yield from (policy.attempts for policy in policies if policy.attempts is not None)


def _few(policy: Retry) -> Retry:
    """*policy* with at most `ATTEMPTS` attempts. A policy without limit stays the same."""
    return policy if policy.attempts is None else replace(policy, attempts=min(policy.attempts, ATTEMPTS))


def _with_few_attempts(part: Part) -> Part:
    if part.kind is not Kind.STEP:
        return part
    return replace(part, retry=_few(part.retry), compensation_retry=_few(part.compensation_retry))


def _shapes(machine: CompiledMachine, parts: Sequence[Part]) -> dict[str, frozenset[tuple[str, ...]]]:
    """For each part, its rows of the transition table: event, phase, next phase, and `_relation` of the next part."""
    neighbours: dict[str, tuple[str, str]] = {}
    before = ""
    for number, part in enumerate(parts):
        neighbours[part.path] = before, parts[number + 1].path if number + 1 < len(parts) else ""
        if part.compensatable:
            before = part.path
    found: dict[str, set[tuple[str, ...]]] = {part.path: set() for part in parts}
    for move in machine.moves():
        phase, path = split_state(move.source)
        if path:
            to, other = split_state(move.target)
            found[path].add((move.event, phase, to, _relation(path, other, *neighbours[path])))
    return {path: frozenset(rows) for path, rows in found.items()}


def _relation(path: str, other: str, before: str, after: str) -> str:
    """The relation of the part at *other* to the part at *path*: ``itself``, ``the next`` or ``the nearest before``.

    *before* and *after*: the paths of the neighbours of the part at *path*. If *other* is none of these parts, the
    relation is *other* itself. If *other* is empty, the relation is empty.
    """
    if other in ("", path):
        return "itself" if other else ""
    if other == after:
        return "the next"
    return "the nearest before" if other == before else other
