"""Shortening: in a long saga, only a few steps of each kind are searched instead of all steps.

Rules read a part's settings, and never its place. They use little of the settings. A number of attempts is only
compared with the current attempt, so ten attempts differ from three only in the number of attempts in the middle.
Seconds are only added to the clock. Rules read other settings on the way forward than on the way back.

So each step has a *kind* on each of these two sides. Steps are of one kind if all that rules, table and laws read of
them there is equal, and if their rows of the table are alike. Each row leads to the step itself, to the next part, to
the nearest part before it that can be compensated, or to a fixed state. The rows are not taken on trust; each is
compared.

The search walks the first and the last few steps of each kind, and every part of another sort. The rows of the
shorter machine lead past a step left out to the part behind it. So every path of the whole machine, with the steps left
out contracted, is a path of the shorter one. And whatever happens at a step left out happens at the last of its kind,
with parts of the same kinds before it. From one step to the next, an execution only carries whether there will be
leftovers. The rows of the shorter machine are compared as well.

A step that is walked only for its kind on the way forward is *passed* on the way back: its compensation returns, and
nothing else. Steps of its kind on that side are walked on both sides. A crash brings each of these into every situation
on the way back: its effect is there or not, in doubt or not. If a law is broken, the whole saga is walked, so that a
counterexample is a path of the machine that runs.
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
"""Sagas of up to so many parts are walked as they are."""

AT_EACH_END: Final = 1
"""So many of the first, and as many of the last steps of each kind are walked."""

_BACK: Final = frozenset((COMPENSATING, RETRYING_COMPENSATION, STUCK))
"""The phases of the way back, for a step that can be compensated."""

ATTEMPTS: Final = 3
"""So many attempts are walked in the place of more: the first, one in the middle, the last."""


class Shortened(NamedTuple):
    """A long saga, shortened.

    Attributes:
        saga: The shorter saga.
        walked_instead: For each step left out, by path: the paths of the steps that were walked in its place, on the
            way forward and on the way back. A path is empty if the step is walked itself, or cannot be compensated.
        passed: The paths of the steps that are walked on the way forward only.
        most_attempts: The most attempts of a policy, if fewer attempts were searched. 0 if all attempts were searched.
    """

    saga: Saga
    walked_instead: Mapping[str, tuple[str, str]]
    passed: frozenset[str]
    most_attempts: int

    def in_words(self) -> str:
        """The steps and the attempts left out."""
        words = []
        paths = [path for path, (forward, _) in self.walked_instead.items() if forward]
        if paths:
            shown = ", ".join(paths[:2]) + (f", ... {paths[-1]}" if len(paths) > 2 else "")
            words.append(
                f"{len(paths)} steps have the settings and the transitions of others, and were not walked one by one: "
                f"{shown}"
            )
        if self.passed:
            words.append(
                f"{len(self.passed)} steps are compensated as others are, and were walked on the way forward only"
            )
        if self.most_attempts:
            words.append(f"up to {self.most_attempts} attempts were walked as {ATTEMPTS}")
        return "; ".join(words)

    def states(self, walked: set[str]) -> set[str]:
        """The reached states of the whole saga; *walked* are those of the shorter one."""
        return walked | {state for state, instead in self._left_out() if instead in walked}

    def taken(self, walked: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """The taken transitions of the whole saga, as event and source; *walked* are those of the shorter one."""
        events: dict[str, list[str]] = {}
        for event, source in walked:
            events.setdefault(source, []).append(event)
        return walked | {(event, state) for state, instead in self._left_out() for event in events.get(instead, ())}

    def _left_out(self) -> Iterator[tuple[str, str]]:
        """Every state of a step left out, and the state walked in its place."""
        for path, (forward, backward) in self.walked_instead.items():
            for phase in PHASES:
                instead = backward if backward and phase in _BACK else forward
                if instead:
                    yield f"{phase}.{path}", f"{phase}.{instead}"


def shortened(saga: Saga) -> Shortened | None:
    """*saga*, shortened. None if it is small or has no steps that can be left out."""
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
        return None  # the shorter machine is not the whole one with steps left out
    passed = frozenset(path for path, (forward, backward) in walked_instead.items() if not forward and backward)
    return Shortened(shorter, walked_instead, passed, most if most > ATTEMPTS else 0)


def _at_the_ends(by_kind: Mapping[Any, Sequence[str]], side: str) -> set[str]:
    """The paths of the first and the last few parts of each kind of this side."""
    every = (paths for kind, paths in by_kind.items() if kind[0] == side)
    return {path for paths in every for path in (*paths[:AT_EACH_END], *paths[-AT_EACH_END:])}


def _beside_others(parts: Sequence[Part]) -> set[str]:
    """The paths of the steps beside a wait, a group or the pivot: they are walked, so that its neighbours stay."""
    plain = [_is_plain_step(part) for part in parts]
    pairs = zip(parts, [True, *plain[:-1]], [*plain[1:], True], strict=True)
    return {part.path for part, before, after in pairs if not (before and after)}


def _is_plain_step(part: Part) -> bool:
    return part.kind is Kind.STEP and not part.pivot


def _kinds(part: Part, rows: frozenset[tuple[str, ...]]) -> Iterator[Any]:
    """Everything in a part that rules, table and laws read, but for its path: on the way forward, and back."""
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
    """The part of a policy that the rules read: attempts, exceptions (or that a predicate judges them), any wait."""
    attempts = _few(policy).attempts
    return attempts, "a predicate" if is_predicate(policy) else policy.on, policy.wait(1) > 0


def _attempts(part: Part) -> Iterator[int]:
    if part.kind is Kind.STEP:
        policies: Iterable[Retry] = (part.retry, part.compensation_retry) if part.compensatable else (part.retry,)
        yield from (policy.attempts for policy in policies if policy.attempts is not None)


def _few(policy: Retry) -> Retry:
    return policy if policy.attempts is None else replace(policy, attempts=min(policy.attempts, ATTEMPTS))


def _with_few_attempts(part: Part) -> Part:
    if part.kind is not Kind.STEP:
        return part
    return replace(part, retry=_few(part.retry), compensation_retry=_few(part.compensation_retry))


def _shapes(machine: CompiledMachine, parts: Sequence[Part]) -> dict[str, frozenset[tuple[str, ...]]]:
    """The rows of each part: event, phase, next phase, and what the part of the next state is to it."""
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
    if other in ("", path):
        return "itself" if other else ""
    if other == after:
        return "the next"
    return "the nearest before" if other == before else other
