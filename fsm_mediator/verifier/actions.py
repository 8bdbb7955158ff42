"""Actions: everything that can happen to the executions of one saga.

In each state of an execution, a call may return, raise, leave doubt with or without an effect, time out, or be
abandoned. The driver may die. A cancel, a signal or the deadline may come, branches may end, and an operator may give a
command. The verifier tries all actions. The explorer offers the actions to its user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import is_branch
from fsm_mediator.machine.parts import AWAIT, COMPENSATE, EXECUTE, PROBE, WAIT, Effect, Kind, Part
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    Begin,
    InboxItem,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
)
from fsm_mediator.states import PENDING, RETRYING, STUCK_PHASES, WAITING
from fsm_mediator.verifier.action import (
    ABANDONED,
    CANCEL_COMES,
    CRASH,
    CRASHED,
    DEADLINE_PASSES,
    DIES,
    DRIVER,
    DUE,
    NOTHING,
    OTHERS,
    PERSON,
    RETURNED,
    SIBLING_FAILED,
    Act,
    Action,
    feed_answer,
    passing_the_deadline,
    post_item,
    unobserved,
    waiting_until,
    waking_at,
)
from fsm_mediator.verifier.attempt_laws import FIRST_VALUE, result_of
from fsm_mediator.verifier.attempts import Changes, Possible, attempts_of
from fsm_mediator.verifier.branches import Births, BranchModel, Child, branch_models_of
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.settings_changes import changes_at, timeout_change, under_changed_settings, with_timeout

_LONG: Final = 1e6
"""The delay of a driver that wakes late: the seconds from the end of the wait until the driver wakes."""


class ActionModel:
    """Everything that can happen to the executions of one saga. No function of the saga is called.

    Args:
        saga: The saga.
        strict: Let steps also raise after their effect without reporting doubt. Steps must not do this.
        thorough: Let calls also raise `SystemExit`, groups of exceptions, and the exceptions that the settings name.
            Also change settings between two answers, let cancels and signals come too late, and let drivers wake early
            or late.
        children: The branches that were already searched, with their outcomes, by the path of the group and the name of
            the branch.
        once: Generate actions for only one of several symmetric branches in the same status.
        passed: The paths of the steps whose compensation always returns in this search. The model generates no other
            outcome of these compensations.

    Attributes:
        index: The number of each part, by path. This number is the part's position in an `EffectLedger`.
        nothing: The ledger before the first action.
        branch_models: The branches of each group of the saga, by the group's path.
    """

    def __init__(
        self,
        saga: Saga,
        *,
        strict: bool = False,
        thorough: bool = False,
        children: dict[str, dict[str, Child]] | None = None,
        once: bool = False,
        passed: frozenset[str] = frozenset(),
    ) -> None:
        self._passed = passed
        self.strict = strict
        self.thorough = thorough
        self._listed: dict[tuple[str, str], list[Possible]] = {}
        self._is_branch = is_branch(saga.name)
        self.parts: tuple[Part, ...] = saga.parts
        self.index: dict[str, int] = {part.path: number for number, part in enumerate(saga.parts)}
        self.branch_models: dict[str, BranchModel] = branch_models_of(saga, children, once=once)
        self._signals = tuple(part.path for part in saga.parts if part.kind is Kind.SIGNAL)
        none = (False,) * len(saga.parts)
        self.nothing: EffectLedger = EffectLedger(
            none, none, branches=((),) * len(saga.parts) if self.branch_models else ()
        )

    def after(self, ledger: EffectLedger, born: Births) -> EffectLedger:
        """*ledger* with the branches *born*, which the records of an action have started."""
        for path, names in born:
            ledger = self.branch_models[path].with_spawned(ledger, names)
        return ledger

    def branch_changes(
        self, execution: Execution, before: EffectLedger, after: EffectLedger
    ) -> Iterator[tuple[str, str]]:
        """The branches of *execution* whose status differs between the ledgers *before* and *after*.

        Yields the place of each such branch, as ``group.branch``, and its status in *after*.
        """
        for path, model in self.branch_models.items():
            names = execution.branches_of(path)
            for name, was, is_now in zip(names, before.branches[model.at], after.branches[model.at], strict=False):
                if was != is_now:
                    yield f"{path}.{name}", is_now

    def at(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        """Everything that can happen to *execution* now, with this ledger. Each action has a different label."""
        if ledger.running is not None:
            yield from self._abandoned_thread_ends(ledger)
            return
        effect = execution.effect
        if execution.state == PENDING:
            yield Action("the saga begins", feed_answer(Begin()), ledger, who=DRIVER, observation="begin")
        if effect is not None and effect.callback is not None:
            part = effect.part
            at = self.index[part.path]
            ledgers = Changes(ledger, at)
            attempts = self._attempts(effect.kind, part)
            if effect.kind == COMPENSATE and part.path in self._passed:
                yield next(each for each in attempts if each.action.observation == RETURNED).under(ledgers)
                return
            for each in attempts:
                if each.needs is None or each.needs is ledger.effects[at]:
                    yield each.under(ledgers)
        elif effect is not None:
            yield from self._time_can_pass(execution, effect, ledger)
            yield Action(DIES, CRASH, ledger, crash=True, who=DRIVER, observation=CRASHED)
        if self.thorough:
            yield from self._under_changed_settings(execution, ledger)
        if execution.group:
            yield from self.branch_models[execution.machine.places[execution.state].part.path].moves(execution, ledger)  # type: ignore[union-attr]  # the state belongs to a group
        yield from self._others_can_say(execution, ledger)
        yield from self._operator_can_say(execution, ledger)

    def _attempts(self, kind: str, part: Part) -> list[Possible]:
        """The possible outcomes of an attempt at *part*, computed once for each part and each *kind*.

        *kind*: ``execute``, ``probe`` or ``compensate``. The prefix ``timed`` means: as if the part had a timeout.
        """
        known = self._listed.get((kind, part.path))
        if known is None:
            verb, timed = kind.removeprefix("timed "), kind.startswith("timed ")
            which = with_timeout(part) if timed else part
            known = attempts_of(verb, which, strict=self.strict, thorough=self.thorough)
            self._listed[kind, part.path] = known
        return known

    def _under_changed_settings(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        part = execution.machine.places[execution.state].part
        if part is None or part.kind not in (Kind.STEP, Kind.SIGNAL):
            return
        at = self.index[part.path]
        part = self.parts[at]
        effect = execution.effect
        if part.kind is Kind.SIGNAL:
            if execution.due_at is not None and effect is not None:
                for late in self._time_can_pass(execution, effect, ledger):
                    yield under_changed_settings(late, part, timeout_change(part))
        elif effect is not None and effect.callback is not None:
            yield from self._attempts_under_changed_settings(execution, effect.kind, at, ledger)
        elif effect is not None and execution.phase == RETRYING:
            over = Action(
                "the wait is over", waiting_until(execution.due_at or 0.0), ledger, who=OTHERS, observation=DUE
            )
            for settings in changes_at(execution, part):
                yield under_changed_settings(over, part, settings)
        elif execution.phase in STUCK_PHASES and part.timeout is not None:
            for command in self._operator_can_say(execution, ledger):
                yield under_changed_settings(command, part, timeout_change(part))

    def _attempts_under_changed_settings(
        self, execution: Execution, kind: str, at: int, ledger: EffectLedger
    ) -> Iterator[Action]:
        part, ledgers = self.parts[at], Changes(ledger, at)
        following = self.parts[at + 1] if at + 1 < len(self.parts) else None
        attempts = self._attempts(kind, part)
        failures = ("raised", "not happened") if kind == PROBE else ("raised", "unknown")
        for settings in changes_at(execution, part):
            for each in attempts:
                if each.action.observation in failures and each.needs in (None, ledger.effects[at]):
                    yield under_changed_settings(each.under(ledgers), part, settings)
        if part.timeout is None and kind != PROBE:
            for each in self._attempts(f"timed {kind}", part):
                if each.action.observation in (ABANDONED, "timed out"):
                    yield under_changed_settings(each.under(ledgers), part, timeout_change(part))
        if kind == EXECUTE and following is not None and following.kind is Kind.SIGNAL:
            returns = next(each for each in attempts if each.action.observation == RETURNED)
            yield under_changed_settings(returns.under(ledgers), following, timeout_change(following))

    def _time_can_pass(self, execution: Execution, effect: Effect, ledger: EffectLedger) -> Iterator[Action]:
        part, due_at = effect.part, execution.due_at
        if effect.kind == WAIT:
            label = "the wait is over"
        elif effect.kind == AWAIT and part.kind is Kind.SIGNAL and due_at is not None:
            label = f"no signal {part.path} comes in time"
        else:
            return
        yield Action(label, waiting_until(due_at or 0.0), ledger, who=OTHERS, observation=DUE)
        if self.thorough and due_at:
            for when, at in (("before the wait is over", due_at / 2), ("long after the wait is over", due_at + _LONG)):
                label = f"a driver wakes {when}"
                yield Action(label, waking_at(at), ledger, who=OTHERS, observation=f"wakes {when}")

    def _abandoned_thread_ends(self, ledger: EffectLedger) -> Iterator[Action]:
        """The two ends of an abandoned thread: without effect, and after its effect.

        Until the thread ends, the saga is stuck and refuses commands.
        """
        at = ledger.running
        assert at is not None
        over = ledger._replace(running=None)
        yield Action("the abandoned thread ends without effect", unobserved, over, observation=NOTHING)
        done = over.with_(at, effect=not ledger.undoing)
        yield Action("the abandoned thread ends after its effect", unobserved, done, observation=NOTHING)

    def _others_can_say(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        in_time = execution.cancellable and not execution.cancelled
        if in_time or (self.thorough and not execution.cancelled):
            item = InboxItem(CANCEL, number=1)
            label = "a cancel comes" if in_time else "a cancel comes too late"
            yield _outside(label, post_item(item), ledger, CANCEL_COMES, item)
            if self.thorough and self._is_branch:
                beside = InboxItem(CANCEL, "another branch", number=1)
                label = f"{label}, because another branch failed"
                yield _outside(label, post_item(beside), ledger, SIBLING_FAILED, beside)
            if execution.deadline_at is None:
                yield _outside("the deadline passes", passing_the_deadline, ledger, DEADLINE_PASSES)
        for number, path in enumerate(self._signals, 2):
            item = InboxItem(SIGNAL, path, FIRST_VALUE, number=number)
            after = ledger
            if path in (execution.signals or ()):
                label = f"the signal {path} comes again"
                item = InboxItem(SIGNAL, path, "another", number=number + len(self._signals) + 1)
            elif execution.awaits_signal(path):
                label = f"the signal {path} comes"
                after = ledger.with_(self.index[path], effect=True)
            else:
                label = f"the signal {path} comes too late"
            yield _outside(label, post_item(item), after, f"signal {path}", item)
        if execution.phase == WAITING and execution.effect is not None and execution.effect.part.kind is Kind.SIGNAL:
            item = InboxItem(SIGNAL, "unknown", number=2 * len(self._signals) + 3)
            yield _outside("a signal with an unknown name comes", post_item(item), ledger, "unknown", item)

    def _operator_can_say(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        machine, state = execution.machine, execution.state
        part = machine.places[state].part
        model = self.branch_models.get(part.path) if part is not None else None
        if machine.has_transition("retry", state):
            tried = model.all_retried(execution, ledger) if model is not None and execution.group else ledger
            again = feed_answer(OperatorRetry())
            yield Action("a person retries", again, tried, again=True, who=PERSON, observation="retry")
        if part is not None and execution.phase in STUCK_PHASES:
            for event, done in (("settled_done", True), ("settled_undone", False)):
                if machine.has_transition(event, state):
                    label = f"a person resolves {part.path} as {'' if done else 'not '}done"
                    settled = self._settled(part, execution, ledger, done=done)
                    word = OperatorSettled(done, "seen", result_of(part) if part.kind is Kind.STEP else None)
                    yield Action(label, feed_answer(word), settled, who=PERSON, observation=event)
        if machine.has_transition("undo", state):
            yield Action(
                "a person undoes the saga", feed_answer(OperatorUndo()), ledger, who=PERSON, observation="undo"
            )

    def _settled(self, part: Part, execution: Execution, ledger: EffectLedger, *, done: bool) -> EffectLedger:
        at = self.index[part.path]
        model = self.branch_models.get(part.path)
        if model is not None:
            ledger = model.settled(execution, ledger, done=done)
            return ledger.with_(at, effect=ledger.effects[at], known=done)
        return ledger.with_(at, effect=done, known=done)._replace(suspect=False)


def _outside(label: str, act: Act, ledger: EffectLedger, observation: str, item: InboxItem | None = None) -> Action:
    return Action(label, act, ledger, outside=True, who=OTHERS, observation=observation, item=item)
