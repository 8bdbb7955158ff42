"""The laws: the rules that every reachable state of an execution must satisfy, given the real effects.

Each law checks one transition: the new state, and the ledger before and after it. This module does not search, and does
not decide the reaction of an execution. The laws state the promises a second time, independently of the rules.

1. From every state an end or a visible park can be reached. In a park, the execution waits for an operator or a
   signal. No part gets more attempts than its policy allows. Every cycle contains an operator's retry, a crash, or a
   `Retry` without limit. (`graph` checks the cycles.)
2. In ``failed``, no compensatable step has an effect: each effect was compensated, newest first, or settled by an
   operator. Every other effect is among the leftovers.
3. In ``succeeded``, every step has its effect, and no compensation has begun.
4. No attempt begins while another attempt of the same step is still running. No step executes after a compensation
   began. No step executes again after its answer is known.
5. Laws 1 to 4 hold also after a crash at any point and the recovery.

Source: the ledger is a history variable, as in Abadi and Lamport, "The Existence of Refinement Mappings", 1991.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.records import Record
from fsm_mediator.states import COMPENSATING, EXECUTING, FAILED, RETRYING_COMPENSATION, SUCCEEDED, WAITING, split_state
from fsm_mediator.verifier.attempt_laws import AGAIN
from fsm_mediator.verifier.branches import BranchModel, Status
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.rules_table import Broken, broken

BACKWARD: Final = frozenset({COMPENSATING, RETRYING_COMPENSATION, FAILED})
"""The phases after compensation has begun, without stuck phases."""


class TransitionView(NamedTuple):
    """One transition of an execution, with the values that the laws read. The view does not depend on the ledger.

    Attributes:
        state: The new state.
        begun: For each attempt that the transition announces: the event, the phase, and the number of the part.
        goes_on: Whether the execution has a next effect after the transition.
        leftovers: The leftovers that the execution lists.
        groups: If the execution has ended, the groups that it entered, with the names of their branches.
        turns: If compensation begins, the numbers of the parts with effects that no longer matter, because the parts
            are signals or leftovers. None if compensation does not begin here.
        awaits: The number of the awaited signal. None if the execution waits for no signal.
        stuck: The number of the pivot that gets stuck. None if no pivot gets stuck.
        forgets: The leftovers that the execution listed earlier in the compensation, and does not list any more.
    """

    state: str
    begun: tuple[tuple[str, str, int], ...]
    goes_on: bool
    leftovers: frozenset[str]
    groups: tuple[tuple[BranchModel, tuple[str, ...]], ...] = ()
    turns: frozenset[int] | None = None
    forgets: tuple[str, ...] = ()
    awaits: int | None = None
    stuck: int | None = None


class Laws:
    """The laws for one saga.

    Attributes:
        parts: The parts of the saga.
        index: The number of each part, by path.
        branch_models: The models of the branches of each group, by the group's path.
        signals: The numbers of the signals.
        backward: The states after compensation has begun. In these states, earlier answers and doubts matter only
            because the leftovers follow from them.
    """

    def __init__(self, saga: Saga, branch_models: Mapping[str, BranchModel]) -> None:
        self.parts: tuple[Part, ...] = saga.parts
        self.index: dict[str, int] = {part.path: number for number, part in enumerate(saga.parts)}
        self.branch_models = branch_models
        self.signals: tuple[int, ...] = tuple(at for at, part in enumerate(saga.parts) if part.kind is Kind.SIGNAL)
        self._left_over = tuple(
            at
            for at, part in enumerate(saga.parts)
            if part.kind is Kind.STEP and not part.compensatable and not part.pivot
        )
        self.backward: frozenset[str] = _backward(saga.machine)
        self._listed: dict[Any, frozenset[str]] = {}
        self._turns: dict[frozenset[str], frozenset[int]] = {}

    def passage(
        self, execution: Execution, records: Sequence[Record], before: frozenset[str] = frozenset()
    ) -> TransitionView:
        """The view of the transition that made *records* and led to the state of *execution*.

        *before*: the leftovers before the transition. Empty if compensation had not begun.
        """
        begun = []
        for record in records:
            phase, path = split_state(record.target)
            if phase in (EXECUTING, COMPENSATING) or (phase == WAITING and path in self.branch_models):
                begun.append((record.event, phase, self.index[path]))
        state = execution.state
        leftovers: frozenset[str] = frozenset()
        turns: frozenset[int] | None = None
        forgets: tuple[str, ...] = ()
        if state in self.backward:
            leftovers = self._leftovers(execution) if records else before
            if records and records[0].source not in self.backward:
                turns = self._turning(leftovers)
            elif before:
                forgets = tuple(sorted(before.difference(leftovers)))
        groups = tuple(
            (model, execution.plans[path])
            for path, model in self.branch_models.items()
            if execution.ended and execution.plans is not None and path in execution.plans
        )
        goes_on = execution.effect is not None
        awaits = None
        if execution.effect is not None and execution.phase == WAITING and execution.effect.part.kind is Kind.SIGNAL:
            awaits = self.index[execution.effect.part.path]
        stuck = None
        if records and records[-1].event == "exhausted":
            at = self.index[split_state(state)[1]]
            stuck = at if self.parts[at].pivot and self.parts[at].kind is Kind.STEP else None
        return TransitionView(*(state, tuple(begun), goes_on, leftovers, groups, turns, forgets, awaits, stuck))

    def _leftovers(self, execution: Execution) -> frozenset[str]:
        """The leftovers of *execution*, computed once for each combination of its answers, doubts and branches."""
        branches = tuple(sorted((execution.branch_leftovers or {}).items()))
        key = (tuple(execution.answered), execution.doubtful, branches)
        found = self._listed.get(key)
        if found is None:
            found = self._listed[key] = frozenset(execution.leftovers)
        return found

    def _turning(self, leftovers: frozenset[str]) -> frozenset[int]:
        """The numbers of the parts whose effects no longer matter once a compensation has begun with *leftovers*."""
        found = self._turns.get(leftovers)
        if found is None:
            listed = [self.index[path] for path in leftovers if path in self.index]
            listed += self.signals
            found = frozenset(at for at in listed if not self.parts[at].pivot)  # the effect of a pivot always matters
            self._turns[leftovers] = found
        return found

    def broken_by(self, passage: TransitionView, before: EffectLedger, after: EffectLedger) -> Iterator[Broken]:
        """The rules that a transition breaks. *before* and *after*: the ledger before and after the transition."""
        if after.running is not None and passage.goes_on:
            path = self.parts[after.running].path
            yield broken("overtaken", f"the saga goes on while a thread of {path} may be running")
        if passage.awaits is not None and after.effects[passage.awaits]:
            yield broken("signal", f"the saga waits for {self.parts[passage.awaits].path}, a signal that has come")
        if passage.stuck is not None and not after.suspect:
            yield broken("stuck", f"the pivot {self.parts[passage.stuck].path} is stuck, but surely had no effect")
        for event, phase, at in passage.begun:
            yield from self._begun_wrongly(event, phase, at, before, after)
        if passage.state == SUCCEEDED:
            yield from self._succeeded_without(passage, after)
        elif passage.state == FAILED and (True in after.effects or passage.groups):
            yield from self._failed_with(passage, after)
        if passage.turns is not None and True in after.effects:
            yield from self._turns_with(passage.turns, after)
        if passage.forgets:
            yield broken("leftovers", f"{', '.join(passage.forgets)} is no longer among the leftovers")

    def _begun_wrongly(
        self, event: str, phase: str, at: int, before: EffectLedger, after: EffectLedger
    ) -> Iterator[Broken]:
        part = self.parts[at]
        if phase != COMPENSATING:
            yield from self._executed_out_of_order(event, at, before, after)
        else:
            if True in after.effects[at + 1 :]:
                yield from self._compensated_out_of_order(at, after)
            had_effect = after.effects[at] or after.known[at] or after.suspect
            if part.kind is Kind.STEP and event not in (*AGAIN, "retry") and not had_effect:
                yield broken("no effect", f"{part.path} is compensated, although it surely had no effect")
        if before.running is not None and not part.overtake:
            yield broken("overtaken", f"{part.path} is attempted while a thread of it may be running")

    def _executed_out_of_order(
        self, event: str, at: int, before: EffectLedger, after: EffectLedger
    ) -> Iterator[Broken]:
        part = self.parts[at]
        if after.undoing:
            yield broken("forward", f"{part.path} is executed after a compensation")
        if after.known[at]:
            yield broken("known", f"{part.path} is executed again, although its answer is known")
        if not part.repeatable and before.suspect and event == "retry_due":
            yield broken("not repeatable", f"{part.path} is not repeatable, but is repeated in doubt")

    def _compensated_out_of_order(self, at: int, after: EffectLedger) -> Iterator[Broken]:
        behind = zip(self.parts[at + 1 :], after.effects[at + 1 :], strict=True)
        later = [part.path for part, effect in behind if effect and part.compensatable]
        if later:
            yield broken("newest first", f"{self.parts[at].path} is compensated before {', '.join(reversed(later))}")

    def _succeeded_without(self, passage: TransitionView, after: EffectLedger) -> Iterator[Broken]:
        if False in after.effects:
            each = zip(self.parts, after.effects, strict=True)
            missing = [part for part, effect in each if not effect and part.kind in (Kind.STEP, Kind.SIGNAL)]
            for part in missing:
                never = "had no effect" if part.kind is Kind.STEP else "never came"
                yield broken("succeeded", f"the saga succeeded, but {part.path} {never}")
        for model, name, status in _branches(passage, after):
            if status != Status.SUCCEEDED:
                yield broken("succeeded", f"the saga succeeded, but branch {model.path}.{name} is {status}")
        if after.undoing:
            yield broken("no way back", "the saga succeeded after a compensation")

    def _turns_with(self, listed: frozenset[int], after: EffectLedger) -> Iterator[Broken]:
        for at in self._left_over:
            if after.effects[at] and at not in listed:
                path = self.parts[at].path
                yield broken("leftovers", f"compensation begins, but the effect of {path} is not among the leftovers")

    def _failed_with(self, passage: TransitionView, after: EffectLedger) -> Iterator[Broken]:
        for part, effect in zip(self.parts, after.effects, strict=True):
            if effect and part.kind in GROUPS:
                yield broken(
                    "compensated", f"the saga failed, but {part.path} has a branch that is running, stuck or not undone"
                )
            elif effect and part.compensatable:
                yield broken("compensated", f"the saga failed, but the effect of {part.path} was not compensated")
            elif effect and part.pivot:
                yield broken("pivot", f"the saga failed, although its pivot {part.path} took effect")
            elif effect and part.kind is Kind.STEP and part.path not in passage.leftovers:
                yield broken("leftovers", f"the saga failed, but the effect of {part.path} is not among its leftovers")
        for model, name, status in _branches(passage, after):
            missing = [path for path in model.leftovers_of(name, status) if path not in passage.leftovers]
            if missing:
                yield broken("leftovers", f"the saga failed, but {', '.join(missing)} is not among its leftovers")


def _backward(machine: CompiledMachine) -> frozenset[str]:
    """The states after compensation has begun, including the stuck states from which a retry continues it."""
    back = {state for state, place in machine.places.items() if place.phase in BACKWARD}
    again = {move.source for move in machine.moves() if move.event == "retry" and move.target in back}
    return frozenset(back | again)


def _branches(passage: TransitionView, after: EffectLedger) -> Iterator[tuple[BranchModel, str, str]]:
    """Every started branch of the groups in *passage*: its model, its name, and its status in the ledger *after*."""
    for model, names in passage.groups:
        statuses = after.branches[model.at]
        if statuses:  # without statuses, the execution ended before its branches were created
            for name, status in zip(names, statuses, strict=True):
                yield model, name, status
