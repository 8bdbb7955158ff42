"""Actions: everything that can happen to the executions of one saga.

In each state of an execution: the call returns, raises, leaves doubt with and without an effect, times out, is
abandoned; the driver dies; a cancel, a signal or the deadline comes; branches end; an operator gives a command. The
verifier tries all actions; the explorer offers them to its user.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import AWAIT, COMPENSATE, EXECUTE, PROBE, WAIT, Effect, Kind, Part
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    Abandoned,
    Begin,
    Happened,
    InboxItem,
    NotHappened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Returned,
    TimedOut,
)
from fsm_mediator.states import PENDING, STUCK_PHASES, WAITING
from fsm_mediator.verifier.action import (
    CRASH,
    CRASHED,
    DIES,
    DRIVER,
    DUE,
    NOTHING,
    OTHERS,
    PERSON,
    POISON,
    POISONED,
    PROBE_CRASHES,
    PROBE_POISONED,
    RETURNED,
    TROUBLE,
    Action,
    feed_answer,
    passing_the_deadline,
    post_item,
    unobserved,
    waiting_until,
)
from fsm_mediator.verifier.branches import Births, Child, branch_models_of
from fsm_mediator.verifier.effect_ledger import EffectLedger


class ActionModel:
    """Everything that can happen to the executions of one saga; no step of it is called.

    Args:
        saga: The saga.
        strict: Let steps also raise after their effect without reporting doubt, which breaks the rules.
        children: The branches already searched, with their outcomes, by the path of their group.
        once: Generate actions for only one of several symmetric branches in the same status.

    Attributes:
        index: The number of each part, by path: its position in an `EffectLedger`.
        nothing: The ledger before anything has happened.
        branch_models: The branches of each of its groups, by path.
    """

    def __init__(
        self,
        saga: Saga,
        *,
        strict: bool = False,
        children: dict[str, dict[str, Child]] | None = None,
        once: bool = False,
    ) -> None:
        self.strict = strict
        self.parts = saga.parts
        self.index = {part.path: number for number, part in enumerate(saga.parts)}
        self.branch_models = branch_models_of(saga, children, once=once)
        self._signals = tuple(part.path for part in saga.parts if part.kind is Kind.SIGNAL)
        none = (False,) * len(saga.parts)
        self.nothing = EffectLedger(none, none, branches=((),) * len(saga.parts) if self.branch_models else ())

    def after(self, ledger: EffectLedger, born: Births) -> EffectLedger:
        """The ledger of an action, with the branches that its records started."""
        for path, names in born:
            ledger = self.branch_models[path].with_spawned(ledger, names)
        return ledger

    def branch_changes(
        self, execution: Execution, before: EffectLedger, after: EffectLedger
    ) -> Iterator[tuple[str, str]]:
        """Each branch of *execution* with a changed status, as ``group.branch``, and the new status."""
        for path, model in self.branch_models.items():
            names = execution.branches_of(path)
            for name, was, is_now in zip(names, before.branches[model.at], after.branches[model.at], strict=False):
                if was != is_now:
                    yield f"{path}.{name}", is_now

    def at(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        """Everything that can happen to *execution* now, under this ledger. No two actions have the same label."""
        if ledger.running is not None:
            yield from self._abandoned_thread_ends(ledger)
            return
        effect = execution.effect
        if execution.state == PENDING:
            yield Action("the saga begins", feed_answer(Begin()), ledger, who=DRIVER, observation="begin")
        if effect is not None:
            part = effect.part
            if effect.kind == EXECUTE:
                yield from self._execute_can_come_to(part, ledger)
            elif effect.kind == PROBE:
                yield from self._probe_can_come_to(part, ledger)
            elif effect.kind == COMPENSATE:
                yield from self._compensate_can_come_to(part, ledger)
            elif effect.kind == WAIT:
                due = waiting_until(execution.due_at or 0.0)
                yield Action("the wait is over", due, ledger, who=OTHERS, observation=DUE)
            elif effect.kind == AWAIT and part.kind is Kind.SIGNAL and execution.due_at is not None:
                due = waiting_until(execution.due_at)
                yield Action(f"no signal {part.path} comes in time", due, ledger, who=OTHERS, observation=DUE)
            yield Action(DIES, CRASH, ledger, crash=True, who=DRIVER, observation=CRASHED)
            if effect.callback is not None:
                yield from self._drivers_die_again_and_again(effect, ledger)
        if execution.group:
            yield from self.branch_models[execution.machine.places[execution.state].part.path].moves(execution, ledger)  # type: ignore[union-attr]  # it stands in a group
        yield from self._others_can_say(execution, ledger)
        yield from self._operator_can_say(execution, ledger)

    def _execute_can_come_to(self, part: Part, ledger: EffectLedger) -> Iterator[Action]:
        at = self.index[part.path]
        done = ledger.with_(at, effect=True)
        known = ledger.with_(at, effect=True, known=True)
        name = part.path
        yield Action(f"{name} takes effect and returns", RETURNED, known, observation="returned")
        for label, observation in ((f"{name} raises", "raised"), (f"{name} raises, to be tried again", "raised again")):
            yield Action(f"{label}, without effect", TROUBLE[observation], ledger, observation=observation)
            if self.strict:
                yield Action(
                    f"{label}, after its effect and without saying so",
                    TROUBLE[observation],
                    done,
                    observation=observation,
                )
        yield Action(f"{name} rejects, without effect", TROUBLE["rejected"], ledger, observation="rejected")
        yield Action(
            f"{name} takes effect and returns what is refused", TROUBLE["refused"], done, observation="refused"
        )
        if part.can_outlive_its_timeout:
            label = f"{name} outlives time-out and grace"
            yield Action(label, feed_answer(Abandoned(1.0)), ledger._replace(running=at), observation="abandoned")
            yield Action(
                f"{name} takes effect and returns late", feed_answer(Returned(late=True)), known, observation="late"
            )
        doubts = [(f"{name} says that it does not know", "unknown", TROUBLE["unknown"])]
        if part.timeout is not None and not part.can_outlive_its_timeout:
            doubts.append((f"{name} times out", "timed out", feed_answer(TimedOut(part.timeout))))
        for label, observation, act in doubts:
            yield Action(f"{label}, without effect", act, ledger, observation=observation)
            yield Action(f"{label}, after its effect", act, done, observation=observation)
        label = f"the driver dies after the effect of {name}"
        yield Action(label, CRASH, done, crash=True, who=DRIVER, observation=CRASHED)

    def _probe_can_come_to(self, part: Part, ledger: EffectLedger) -> Iterator[Action]:
        at = self.index[part.path]
        name = f"the probe of {part.path}"
        if ledger.effects[at]:
            confirmed = ledger.with_(at, effect=True, known=True)
            yield Action(f"{name}: it happened", feed_answer(Returned(Happened())), confirmed, observation="happened")
        else:
            yield Action(
                f"{name}: it did not happen", feed_answer(Returned(NotHappened())), ledger, observation="not happened"
            )
        yield Action(f"{name} raises", TROUBLE["raised"], ledger, observation="raised")
        yield Action(f"{name} returns nonsense", RETURNED, ledger, observation="returned")
        if part.timeout is not None:
            yield Action(f"{name} times out", feed_answer(TimedOut(part.timeout)), ledger, observation="timed out")

    def _compensate_can_come_to(self, part: Part, ledger: EffectLedger) -> Iterator[Action]:
        at = self.index[part.path]
        begun = ledger._replace(undoing=True)
        undone = begun.with_(at, effect=False, known=False)
        name = f"compensating {part.path}"
        yield Action(f"{name} returns", RETURNED, undone, observation="returned")
        fails = [
            ("raises", "raised", TROUBLE["raised"]),
            ("rejects", "rejected", TROUBLE["rejected"]),
            ("raises, to be tried again", "raised again", TROUBLE["raised again"]),
        ]
        if part.compensation_can_outlive_its_timeout:
            abandoned = begun._replace(running=at)
            yield Action(
                f"{name} outlives time-out and grace", feed_answer(Abandoned(1.0)), abandoned, observation="abandoned"
            )
            yield Action(f"{name} returns late", feed_answer(Returned(late=True)), undone, observation="late")
        elif part.timeout is not None:
            fails.append(("times out", "timed out", feed_answer(TimedOut(part.timeout))))
        for label, observation, act in fails:
            yield Action(f"{name} {label}, without having undone it", act, begun, observation=observation)
            yield Action(f"{name} {label}, after having undone it", act, undone, observation=observation)
        yield Action(f"the driver dies after {name}", CRASH, undone, crash=True, who=DRIVER, observation=CRASHED)

    def _drivers_die_again_and_again(self, effect: Effect, ledger: EffectLedger) -> Iterator[Action]:
        """More often than `max_recoveries` allows; or than a probe is asked."""
        at, name = self.index[effect.part.path], effect.part.path
        after = [("before the effect", ledger)]
        if effect.kind != PROBE:
            begun = ledger._replace(undoing=True) if effect.kind == COMPENSATE else ledger
            over = begun.with_(at, effect=effect.kind == EXECUTE, known=False)
            after = [("before the effect", begun), ("after the effect", over)]
        else:
            label = f"drivers die again and again while they ask the probe of {name}"
            yield Action(label, PROBE_CRASHES, ledger, crash=True, who=DRIVER, observation=PROBE_POISONED)
        for when, each in after:
            label = f"every driver dies at {effect.kind} {name}, {when}"
            yield Action(label, POISON, each, crash=True, who=DRIVER, observation=POISONED)

    def _abandoned_thread_ends(self, ledger: EffectLedger) -> Iterator[Action]:
        """The abandoned thread ends, with or without effect. Until then the saga is stuck and refuses every command."""
        at = ledger.running
        assert at is not None
        over = ledger._replace(running=None)
        yield Action("the abandoned thread ends without effect", unobserved, over, observation=NOTHING)
        done = over.with_(at, effect=not ledger.undoing)
        yield Action("the abandoned thread ends after its effect", unobserved, done, observation=NOTHING)

    def _others_can_say(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        if execution.cancellable and not execution.cancelled:
            cancel = post_item(InboxItem(CANCEL, number=1))
            yield Action("a cancel comes", cancel, ledger, outside=True, who=OTHERS, observation="cancel")
            if execution.deadline_at is None:
                yield Action(
                    "the deadline passes",
                    passing_the_deadline,
                    ledger,
                    outside=True,
                    who=OTHERS,
                    observation="deadline",
                )
        for number, path in enumerate(self._signals, 2):
            signal = post_item(InboxItem(SIGNAL, path, number=number))
            after = ledger
            if path in (execution.signals or ()):
                label = f"the signal {path} comes again"
            elif execution.awaits_signal(path):
                label = f"the signal {path} comes"
                after = ledger.with_(self.index[path], effect=True)
            else:
                label = f"the signal {path} comes too late"
            yield Action(label, signal, after, outside=True, who=OTHERS, observation=f"signal {path}")
        if execution.phase == WAITING and execution.effect is not None and execution.effect.part.kind is Kind.SIGNAL:
            unknown = post_item(InboxItem(SIGNAL, "unknown", number=len(self._signals) + 2))
            yield Action(
                "a signal comes that nobody knows", unknown, ledger, outside=True, who=OTHERS, observation="unknown"
            )

    def _operator_can_say(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        machine, state = execution.machine, execution.state
        part = machine.places[state].part
        model = self.branch_models.get(part.path) if part is not None else None
        if machine.has_transition("retry", state):
            tried = model.all_retried(execution, ledger) if model is not None and execution.group else ledger
            again = feed_answer(OperatorRetry())
            yield Action("a person says: try again", again, tried, again=True, who=PERSON, observation="retry")
        if part is not None and execution.phase in STUCK_PHASES:
            for event, done in (("settled_done", True), ("settled_undone", False)):
                if machine.has_transition(event, state):
                    label = f"a person has made sure: it is {'' if done else 'not '}done"
                    settled = self._settled(part, execution, ledger, done=done)
                    yield Action(
                        label, feed_answer(OperatorSettled(done, "seen")), settled, who=PERSON, observation=event
                    )
        if machine.has_transition("undo", state):
            yield Action("a person says: undo", feed_answer(OperatorUndo()), ledger, who=PERSON, observation="undo")

    def _settled(self, part: Part, execution: Execution, ledger: EffectLedger, *, done: bool) -> EffectLedger:
        at = self.index[part.path]
        model = self.branch_models.get(part.path)
        if model is not None:
            ledger = model.settled(execution, ledger, done=done)
            return ledger.with_(at, effect=ledger.effects[at], known=done)
        return ledger.with_(at, effect=done, known=done)
