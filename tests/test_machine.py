"""The machine: the design's table, nothing more and nothing less, on a real ``transitions.Machine``."""

from __future__ import annotations

import copy
import gc
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from transitions import Machine, MachineError, State
from transitions.core import Event, Transition

import fsm_mediator
from fsm_mediator import DefinitionError, Mediator, Retry, Saga, Step, step
from fsm_mediator.machine.fast import DirectEvent
from fsm_mediator.machine.machine import MANY, CompiledMachine, check_machine, compile_machine
from fsm_mediator.machine.parts import Effect, Kind, Part
from fsm_mediator.states import EVENTS, PHASES
from tests.reference_model import Shape, permissive, rows_of_poison, saga_of, shapes, states_of, table

THREE = (
    Shape(name="reserve", compensates=True),
    Shape(name="charge", compensates=True, probes=True, outlives=True),
    Shape(name="notify", attempts=1),
)
PIVOTED = (Shape(name="reserve", compensates=True), Shape(name="go", pivot=True), Shape(name="ship", attempts=None))


class Body:
    """All that an execution is to the machine: something with a state and an effect."""

    def __init__(self, state: str = "pending") -> None:
        self.state = state
        self.effect: Any = None


def rows_of(machine: CompiledMachine) -> set[tuple[str, str, str]]:
    """Every transition of a machine, as the library ``transitions`` itself tells it."""
    told = [
        (event.name, transition.source, str(transition.dest))
        for event in machine.events.values()
        for transition in machine.get_transitions(event.name)
    ]
    assert len(told) == len(set(told)) == len(machine.get_transitions())
    return set(told)


# The table


@given(shapes())
def test_machine_is_the_table_of_the_design(plan):
    """Whatever my saga looks like, its machine has exactly the moves that the documentation lists."""
    assert rows_of(saga_of(plan).machine) == table(plan)


@given(shapes())
def test_machine_with_every_state_is_the_table_under_permissive_settings(plan):
    """An execution that was journaled under more patient settings finds all its states again, and no others."""
    saga = saga_of(plan)
    wider = compile_machine(saga.parts, every=True)

    assert rows_of(wider) == table(permissive(plan)) | rows_of_poison(plan)
    assert rows_of(saga.machine) <= rows_of(wider)


def test_table_of_three_steps_read_aloud():
    """A page that a person can check by eye: reserve, charge (with a probe and a time-out), notify."""
    assert sorted(rows_of(saga_of(THREE).machine)) == sorted(
        {
            ("start", "pending", "executing.reserve"),
            ("rejected", "pending", "failed"),
            ("executed", "executing.reserve", "executing.charge"),
            ("errored", "executing.reserve", "retrying.reserve"),
            ("retry_due", "retrying.reserve", "executing.reserve"),
            ("rejected", "executing.reserve", "failed"),
            ("rejected", "retrying.reserve", "failed"),
            ("in_doubt", "executing.reserve", "compensating.reserve"),
            ("in_doubt", "retrying.reserve", "compensating.reserve"),
            ("compensated", "compensating.reserve", "failed"),
            ("compensation_errored", "compensating.reserve", "retrying_compensation.reserve"),
            ("compensation_due", "retrying_compensation.reserve", "compensating.reserve"),
            ("compensation_exhausted", "compensating.reserve", "stuck.reserve"),
            ("retry", "stuck.reserve", "compensating.reserve"),
            ("settled_undone", "stuck.reserve", "failed"),
            ("executed", "executing.charge", "executing.notify"),
            ("executed", "probing.charge", "executing.notify"),
            ("unsure", "executing.charge", "probing.charge"),
            ("errored", "executing.charge", "retrying.charge"),
            ("errored", "probing.charge", "retrying.charge"),
            ("retry_due", "retrying.charge", "executing.charge"),
            ("rejected", "executing.charge", "compensating.reserve"),
            ("rejected", "retrying.charge", "compensating.reserve"),
            ("rejected", "probing.charge", "compensating.reserve"),
            ("in_doubt", "executing.charge", "compensating.charge"),
            ("in_doubt", "retrying.charge", "compensating.charge"),
            ("in_doubt", "probing.charge", "compensating.charge"),
            ("exhausted", "executing.charge", "stuck_executing.charge"),
            ("retry", "stuck_executing.charge", "executing.charge"),
            ("settled_done", "stuck_executing.charge", "executing.notify"),
            ("settled_undone", "stuck_executing.charge", "compensating.reserve"),
            ("compensated", "compensating.charge", "compensating.reserve"),
            ("compensation_errored", "compensating.charge", "retrying_compensation.charge"),
            ("compensation_due", "retrying_compensation.charge", "compensating.charge"),
            ("compensation_exhausted", "compensating.charge", "stuck.charge"),
            ("retry", "stuck.charge", "compensating.charge"),
            ("settled_undone", "stuck.charge", "compensating.reserve"),
            ("executed", "executing.notify", "succeeded"),
            ("rejected", "executing.notify", "compensating.charge"),
            ("undo", "succeeded", "compensating.charge"),
        }
    )


def test_table_of_a_pivot_read_aloud():
    """Up to the pivot there is a way back; in doubt at it, or after it, a person is asked; nothing undoes it."""
    rows = rows_of(saga_of(PIVOTED).machine)

    assert {row for row in rows if row[1].endswith((".go", ".ship")) or row[0] == "undo"} == {
        ("executed", "executing.go", "executing.ship"),
        ("errored", "executing.go", "retrying.go"),
        ("retry_due", "retrying.go", "executing.go"),
        ("rejected", "executing.go", "compensating.reserve"),
        ("rejected", "retrying.go", "compensating.reserve"),
        ("exhausted", "executing.go", "stuck.go"),
        ("exhausted", "retrying.go", "stuck.go"),
        ("retry", "stuck.go", "executing.go"),
        ("settled_done", "stuck.go", "executing.ship"),
        ("settled_undone", "stuck.go", "compensating.reserve"),
        ("executed", "executing.ship", "succeeded"),
        ("errored", "executing.ship", "retrying.ship"),
        ("retry_due", "retrying.ship", "executing.ship"),
        ("exhausted", "executing.ship", "stuck.ship"),
        ("exhausted", "retrying.ship", "stuck.ship"),
        ("retry", "stuck.ship", "executing.ship"),
        ("settled_done", "stuck.ship", "succeeded"),
    }


def test_number_of_events_does_not_grow_with_the_steps():
    """A saga of a hundred steps has the events of a saga of three: a log stays readable."""
    long = [attrs.evolve(THREE[1], name=f"s{i}") for i in range(100)]

    assert set(saga_of(long).machine.events) == set(saga_of(THREE).machine.events) <= set(EVENTS)


@given(shapes())
def test_every_state_can_be_reached_and_comes_to_an_end(plan):
    """There is no state that nothing leads to, and none that leads nowhere; ends are ends."""
    machine = saga_of(plan).machine
    rows = rows_of(machine)

    def reached(start: set[str], steps: set[tuple[str, str]]) -> set[str]:
        while further := {b for a, b in steps if a in start} - start:
            start = start | further
        return start

    assert set(machine.states) == states_of(rows) | {"failed"}
    assert reached({"pending"}, {(a, b) for _, a, b in rows}) == set(machine.states)
    assert reached({"succeeded", "failed"}, {(b, a) for _, a, b in rows}) == set(machine.states)
    assert {state.name for state in machine.states.values() if state.final} == {"succeeded", "failed"} & set(
        machine.states
    )
    assert {name.partition(".")[0] for name in machine.states} <= set(PHASES)


@given(shapes(max_size=5))
def test_every_pair_of_state_and_event_is_a_move_or_refused_by_name(plan):
    """Nothing is silently ignored: what cannot happen in a state is refused, and the refusal says why."""
    machine = saga_of(plan).machine
    rows = {(event, source): target for event, source, target in rows_of(machine)}

    for name in machine.states:
        assert machine.allowed(name) == [event for event in machine.events if (event, name) in rows]
        for event in EVENTS:
            body = Body(name)
            assert machine.has_transition(event, name) is ((event, name) in rows)
            if (event, name) in rows:
                assert machine.events[event].trigger(body) is True
                assert body.state == rows[event, name]
                continue
            why = machine.refusal(event, name)
            if (event, name) == ("undo", "succeeded"):
                assert "pivot" in why or why == "no step of this saga can be compensated"
            else:
                assert repr(event) in why
                assert repr(name) in why
                assert all(each in why for each in machine.allowed(name))
            if event in machine.events:
                with pytest.raises(MachineError):
                    machine.events[event].trigger(body)
                assert (body.state, body.effect) == (name, None)


def test_refusal_of_undo_says_which_reason_it_is():
    """I asked to undo: I am told whether the pivot forbids it or there is nothing to undo."""
    assert saga_of(PIVOTED).machine.refusal("undo", "succeeded") == (
        "'go' is the saga's pivot: once it is done there is no way back"
    )
    assert saga_of(THREE[2:]).machine.refusal("undo", "succeeded") == "no step of this saga can be compensated"


def test_refusal_of_an_event_that_does_not_exist_lists_those_there_are():
    """A typing error is told apart from a move that is not possible now."""
    why = saga_of(THREE).machine.refusal("explode", "pending")

    assert why.startswith("there is no event 'explode'; there are: start, executed")
    assert all(event in why for event in EVENTS)


def test_every_event_is_described():
    """Each event has words that say what it does, for refusals and pictures."""
    assert set(EVENTS) == {event for plan in (THREE, PIVOTED) for event, _, _ in table(plan)}
    assert all(EVENTS.values())


# It is a real machine


def test_machine_is_a_real_transitions_machine():
    """What I know about ``transitions`` holds: `saga.machine` is one, and tells everything about itself."""
    machine = saga_of(THREE).machine

    assert isinstance(machine, Machine)
    assert machine.initial == "pending"
    assert machine.models == []
    assert set(machine.get_triggers("executing.notify")) == {"executed", "rejected"}
    assert isinstance(machine.get_state("executing.charge"), State)
    assert machine.has_queue is False
    assert machine.send_event is True


@pytest.mark.parametrize("plan", [THREE, PIVOTED])
def test_callbacks_are_wired_to_the_steps(plan):
    """The machine that is drawn is the one that runs: entering a state is bound to the very function of the step."""
    saga = saga_of(plan)
    by_name = {part.path: part.subject for part in saga.parts}
    kinds = {
        "executing": ("execute", "execute"),
        "probing": ("probe", "probe"),
        "compensating": ("compensate", "compensate"),
        "retrying": ("wait", None),
        "retrying_compensation": ("wait", None),
    }

    for name, state in saga.machine.states.items():
        phase, _, path = name.partition(".")
        (bound,) = state.on_enter
        body = Body()
        saga.machine.callback(bound, type("Event", (), {"model": body})())
        if phase not in kinds:
            assert body.effect is None
            continue
        kind, method = kinds[phase]
        assert isinstance(bound, Effect)
        assert body.effect is bound
        assert (bound.kind, bound.part.path) == (kind, path)
        if method is None:
            assert bound.callback is None
        else:
            assert bound.callback is not None
            assert bound.callback.function == getattr(by_name[path], method)


def test_callback_is_the_participants_own_function():
    """I can follow `saga.machine` to the function that will be called."""

    class Charge(Step):
        def execute(self, order):
            return order

    charge = Charge()
    bound: Any = Saga("shop", [charge]).machine.states["executing.charge"].on_enter[0]

    assert bound.callback.function.__func__ is Charge.execute
    assert bound.callback.function.__self__ is charge
    assert repr(bound).startswith("<execute ")
    assert repr(bound).endswith("Charge.execute>")


class StateSpace(RuleBasedStateMachine):
    """A machine that is triggered at random agrees with a plain dictionary of moves, whatever is refused between."""

    @initialize(plan=shapes(max_size=6))
    def begin(self, plan: tuple[Shape, ...]) -> None:
        self.machine = saga_of(plan).machine
        self.moves = {(event, source): target for event, source, target in table(plan)}
        self.body = Body()
        self.state = "pending"

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        allowed = sorted(event for event, source in self.moves if source == self.state)
        if not allowed:
            return
        event = data.draw(st.sampled_from(allowed))
        assert self.machine.events[event].trigger(self.body) is True
        self.state = self.moves[event, self.state]

    @rule(event=st.sampled_from(sorted(EVENTS)))
    def refuse(self, event: str) -> None:
        if (event, self.state) in self.moves or event not in self.machine.events:
            return
        before = self.body.effect
        with pytest.raises(MachineError):
            self.machine.events[event].trigger(self.body)
        assert self.body.effect is before

    @precondition(lambda self: hasattr(self, "body"))
    @invariant()
    def same_state(self) -> None:
        assert self.body.state == self.state

    @precondition(lambda self: hasattr(self, "body"))
    @invariant()
    def effect_belongs_to_the_state(self) -> None:
        phase, _, path = self.state.partition(".")
        if self.body.effect is None:
            assert phase in ("pending", "succeeded", "failed", "stuck", "stuck_executing")
        else:
            assert self.body.effect.part.path == path


TestWalk = StateSpace.TestCase
TestWalk.settings = settings(max_examples=40, stateful_step_count=30)


def test_one_machine_serves_many_executions_at_once():
    """A move of one execution is no business of another on the same machine."""
    machine = saga_of(THREE).machine
    one, two = Body(), Body()
    machine.events["start"].trigger(one)

    assert (one.state, two.state) == ("executing.reserve", "pending")
    assert machine.events["start"].transitions.keys() == {"pending"}


def test_refused_triggers_leave_nothing_in_the_machine():
    """A million wrong verbs do not fill the memory of a process."""
    machine = saga_of(THREE).machine
    before = rows_of(machine)
    for event in machine.events.values():
        for state in machine.states:
            if state not in event.transitions:
                with pytest.raises(MachineError):
                    event.trigger(Body(state))

    assert rows_of(machine) == before
    assert all(len(candidates) == 1 for event in machine.events.values() for candidates in event.transitions.values())


# The parts besides steps, as far as the machine has room for them


def test_waits_are_laid_out_as_the_table_says():
    """A sleep, a signal and a group each wait in a state of their own, with the ways out that the table gives them."""
    parts = [
        Part(path="group", kind=Kind.GROUP, group_compensates=True),
        Part(path="answer", kind=Kind.SIGNAL, seconds=5.0),
        Part(path="nap", kind=Kind.SLEEP, seconds=5.0),
    ]
    rows = rows_of(compile_machine(parts))

    assert rows == {
        ("start", "pending", "waiting.group"),
        ("rejected", "pending", "failed"),
        ("executed", "waiting.group", "waiting.answer"),
        ("rejected", "waiting.group", "failed"),
        ("in_doubt", "waiting.group", "compensating.group"),
        ("compensated", "compensating.group", "failed"),
        ("compensation_exhausted", "compensating.group", "stuck.group"),
        ("retry", "stuck.group", "compensating.group"),
        ("settled_undone", "stuck.group", "failed"),
        ("executed", "waiting.answer", "waiting.nap"),
        ("rejected", "waiting.answer", "compensating.group"),
        ("executed", "waiting.nap", "succeeded"),
        ("rejected", "waiting.nap", "compensating.group"),
        ("undo", "succeeded", "compensating.group"),
    }


def test_waits_after_the_pivot_get_stuck_instead_of_going_back():
    """After the pivot a signal that never comes waits for a person; a sleep just ends; an endless signal just waits."""
    parts = [
        Part(path="go", retry=Retry(attempts=1), pivot=True),
        Part(path="answer", kind=Kind.SIGNAL, seconds=5.0, forward_only=True),
        Part(path="endless", kind=Kind.SIGNAL, forward_only=True),
        Part(path="nap", kind=Kind.SLEEP, seconds=5.0, forward_only=True),
    ]
    rows = rows_of(compile_machine(parts))

    assert {row for row in rows if not row[1].endswith(".go") and row[1] != "pending"} == {
        ("executed", "waiting.answer", "waiting.endless"),
        ("exhausted", "waiting.answer", "stuck.answer"),
        ("retry", "stuck.answer", "waiting.answer"),
        ("settled_done", "stuck.answer", "waiting.endless"),
        ("executed", "waiting.endless", "waiting.nap"),
        ("executed", "waiting.nap", "succeeded"),
    }


# The check


def fault_unknown_event(machine: CompiledMachine) -> None:
    """An event that nobody knows."""
    machine.events["explode"] = Event("explode", machine)
    machine.events["explode"].add_transition(Transition("pending", "failed"))


def fault_unknown_target(machine: CompiledMachine) -> None:
    """A move to a state that is not there."""
    machine.events["executed"].transitions["executing.notify"][0].dest = "nowhere"


def fault_unknown_source(machine: CompiledMachine) -> None:
    """A move from a state that is not there."""
    machine.events["executed"].transitions["nowhere"] = [Transition("nowhere", "succeeded")]


def fault_two_moves(machine: CompiledMachine) -> None:
    """Two moves for one event from one state."""
    machine.events["executed"].transitions["executing.reserve"].append(Transition("executing.reserve", "succeeded"))


def fault_unreachable(machine: CompiledMachine) -> None:
    """A state that nothing leads to."""
    del machine.events["exhausted"].transitions["executing.charge"]


def fault_undeclared(machine: CompiledMachine) -> None:
    """A state without any move."""
    machine.states["limbo"] = State("limbo")


def fault_dead_end(machine: CompiledMachine) -> None:
    """A stuck state that no verb leads out of."""
    del machine.events["retry"].transitions["stuck.reserve"]
    del machine.events["settled_undone"].transitions["stuck.reserve"]


def fault_endless(machine: CompiledMachine) -> None:
    """A compensation that only ever leads to itself."""
    machine.events["compensated"].transitions["compensating.reserve"][0].dest = "retrying_compensation.reserve"
    machine.events["settled_undone"].transitions["stuck.reserve"][0].dest = "compensating.reserve"


def fault_no_start(machine: CompiledMachine) -> None:
    """Nothing leads out of pending but a cancel."""
    del machine.events["start"].transitions["pending"]


FAULTS: dict[Callable[[CompiledMachine], None], str] = {
    fault_unknown_event: "unknown event 'explode'",
    fault_unknown_target: "from 'executing.notify' to 'nowhere' names an unknown state",
    fault_unknown_source: "from 'nowhere' to 'succeeded' names an unknown state",
    fault_two_moves: "two moves for 'executed' from 'executing.reserve'",
    fault_unreachable: "cannot reach stuck_executing.charge",
    fault_undeclared: "cannot reach limbo",
    fault_dead_end: "reaches no end from stuck.reserve",
    fault_endless: "reaches no end from compensating.charge, compensating.reserve, retrying_compensation.charge",
    fault_no_start: "cannot reach compensating.charge, compensating.reserve",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_finds_each_fault(fault):
    """A machine with a hole in it is refused when the saga is defined, before anything runs, and the hole is named."""
    machine = saga_of(THREE).machine
    check_machine(machine)
    fault(machine)

    with pytest.raises(DefinitionError) as caught:
        check_machine(machine)
    assert FAULTS[fault] in str(caught.value)


@given(shapes(max_size=4), st.data())
def test_check_judges_a_machine_with_one_move_missing_as_plain_reachability_does(plan, data):
    """Take any one move away: the check refuses the machine exactly if something cannot be reached or cannot end."""
    machine = saga_of(plan).machine
    rows = sorted(rows_of(machine))
    gone = data.draw(st.sampled_from(rows))
    del machine.events[gone[0]].transitions[gone[1]]
    edges = {(a, b) for event, a, b in rows if (event, a, b) != gone}

    def closure(start: set[str], steps: set[tuple[str, str]]) -> set[str]:
        while further := {b for a, b in steps if a in start} - start:
            start = start | further
        return start

    reachable = closure({"pending"}, edges) == set(machine.states)
    ends = closure({"succeeded", "failed"} & set(machine.states), {(b, a) for a, b in edges}) == set(machine.states)

    if reachable and ends:
        check_machine(machine)
    else:
        with pytest.raises(DefinitionError):
            check_machine(machine)


# The direct classes and the stock ones


class Spied(Body):
    """A body that notes every callback it sees, and what the callback saw."""

    def __init__(self, state: str = "pending") -> None:
        super().__init__(state)
        self.seen: list[tuple[Any, ...]] = []

    def by_name(self, data: Any) -> None:
        """A callback that the machine finds by its name on the model."""
        self.note("by_name", data)

    def note(self, label: str, data: Any) -> None:
        transition = data.transition
        self.seen.append(
            (
                label,
                *(data.event.name, data.state.name, self.state, data.args, data.kwargs, data.result),
                None if transition is None else (transition.source, transition.dest),
                None if data.error is None else (type(data.error), str(data.error)),
            )
        )


class StopError(Exception):
    """Raised by a callback."""


class StopNow(BaseException):
    """Raised by a callback, and not an Exception."""


@attrs.frozen
class Extra:
    """A callback to add: where, on which of the places there, and what it does."""

    slot: str
    place: int
    does: str
    label: str

    def function(self) -> Any:
        """The callback itself."""
        if self.does == "named" and self.slot not in ("conditions", "unless"):
            return "by_name"

        def callback(data: Any) -> bool:
            data.model.note(self.label, data)
            if self.does == "raises":
                raise StopError(self.label)
            if self.does == "stops":
                raise StopNow(self.label)
            return self.does != "no"

        return callback

    def add(self, machine: CompiledMachine) -> None:
        """Add it to *machine*."""
        transitions = [
            each for event in machine.events.values() for found in event.transitions.values() for each in found
        ]
        states = list(machine.states.values())
        function = self.function()
        if self.slot in ("before", "after", "prepare"):
            getattr(transitions[self.place % len(transitions)], self.slot).append(function)
        elif self.slot in ("conditions", "unless"):
            target = self.slot == "conditions"
            transition = transitions[self.place % len(transitions)]
            transition.conditions.append(transition.condition_cls(function, target=target))
        elif self.slot in ("on_enter", "on_exit"):
            getattr(states[self.place % len(states)], self.slot).append(function)
        elif self.slot == "second":
            first = transitions[self.place % len(transitions)]
            other = states[self.place % len(states)].name
            for event in machine.events.values():
                if first in event.transitions.get(first.source, []):
                    event.transitions[first.source].append(machine.transition_cls(first.source, other))
        elif self.slot == "internal":
            transitions[self.place % len(transitions)].dest = None
        elif self.slot == "ignore":
            states[self.place % len(states)].ignore_invalid_triggers = True
        else:
            setattr(machine, self.slot, [*getattr(machine, self.slot), function])


SLOTS = [
    *("before", "after", "prepare", "conditions", "unless", "on_enter", "on_exit"),
    *("before_state_change", "after_state_change", "prepare_event", "finalize_event", "on_exception", "on_final"),
    *("second", "internal", "ignore"),
]
extras = st.lists(
    st.builds(
        Extra,
        slot=st.sampled_from(SLOTS),
        place=st.integers(0, 500),
        does=st.sampled_from(["notes", "notes", "raises", "stops", "no", "named"]),
        label=st.uuids().map(str),
    ),
    max_size=12,
)


def triggered(machine: CompiledMachine, body: Spied, event: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """What came of a trigger, an error included; without arguments, of the move that an execution makes."""
    known = machine.events[event]
    try:
        if isinstance(known, DirectEvent) and not (args or kwargs):
            return ("returned", known.move(body))
        return ("returned", known.trigger(body, *args, **kwargs))
    except BaseException as error:
        return ("raised", type(error), str(error))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(shapes(max_size=4), extras, st.data())
def test_direct_machine_behaves_as_the_stock_one(plan, added, data):
    """What I add to `saga.machine`, callbacks, conditions, hooks, runs exactly as ``transitions`` documents it."""
    parts = saga_of(plan).parts
    direct, stock = compile_machine(parts), compile_machine(parts, stock=True)
    assert type(stock.events["start"]) is Event
    for extra in added:
        extra.add(direct)
        extra.add(stock)
    one, two = Spied(), Spied()
    events = sorted(direct.events)

    for number in range(data.draw(st.integers(1, 12))):
        allowed = sorted(set(direct.allowed(one.state))) if one.state in direct.states else []
        event = data.draw(st.sampled_from(allowed or events) | st.sampled_from(events))
        if data.draw(st.integers(0, 9)) == 0:  # somebody puts it elsewhere, a state that is none included
            one.state = two.state = data.draw(st.sampled_from([*sorted(direct.states), "nowhere"]))
        words = {"word": number} if data.draw(st.booleans()) else {}
        assert triggered(direct, one, event, **words) == triggered(stock, two, event, **words)
        assert one.seen == two.seen
        assert one.state == two.state
        assert (one.effect is None) is (two.effect is None)
        if one.effect is not None:
            assert (one.effect.kind, one.effect.part) == (two.effect.kind, two.effect.part)


@pytest.mark.parametrize("slot", ["finalize_event", "prepare_event", "on_final", "on_exception", "before"])
@pytest.mark.parametrize("does", ["notes", "raises", "stops"])
def test_hook_of_the_machine_runs_as_in_stock(slot, does):
    """Each hook of ``transitions`` that I may set is called, once, and its error goes where theirs goes."""
    parts = saga_of(THREE).parts
    results = []
    for stock in (False, True):
        machine = compile_machine(parts, stock=stock)
        Extra(slot, 1, does, "hook").add(machine)
        if slot != "on_final":  # which comes after entering, and so would not be seen
            Extra("on_enter", list(machine.states).index("failed"), "raises", "entering").add(machine)
        body = Spied()
        results.append((triggered(machine, body, "rejected"), body.seen, body.state))

    assert results[0] == results[1]
    assert any(seen[0] == "hook" for seen in results[0][1])


@pytest.mark.parametrize("plan", [THREE, PIVOTED])
@pytest.mark.parametrize("does", ["notes", "no"])
def test_all_hooks_together_run_in_the_order_of_stock(plan, does):
    """With a callback at every place where ``transitions`` takes one, they are called in its order and see the same."""
    parts = saga_of(plan).parts
    walk = ["start", "executed", "errored", "retry_due", "rejected", "compensation_errored", "compensated"]
    results = []
    for stock in (False, True):
        machine = compile_machine(parts, stock=stock)
        for slot in SLOTS[:13]:
            if slot == "unless":
                continue  # what it lets pass, a condition does not
            of_states = slot in ("on_enter", "on_exit")
            many = slot in ("before", "after", "prepare", "conditions") or of_states
            count = len(machine.states) if of_states else len(machine.get_transitions()) if many else 1
            for place in range(count):
                Extra(slot, place, does if slot == "conditions" else "notes", f"{slot} {place}").add(machine)
        body = Spied()
        told = [triggered(machine, body, event) for event in walk]
        results.append((told, body.seen, body.state))

    assert results[0] == results[1]
    noted = {seen[0].split()[0] for seen in results[0][1]}
    always = {"prepare_event", "prepare", "conditions", "finalize_event", "on_exception"}
    assert noted >= (always if does == "no" else {*always, "before", "after", "on_enter", "on_exit"}), noted


@pytest.mark.parametrize("slot", ["before_state_change", "after_state_change", "prepare_event", "finalize_event"])
def test_a_hook_that_is_appended_to_a_list_of_the_machine_is_called(slot):
    """I may read a list of callbacks before any move and append to it later, without assigning it."""
    machine: Any = saga_of(THREE).machine
    callbacks = getattr(machine, slot)
    body, noted = Body(), []
    assert machine.events["start"].move(body)
    callbacks.append(lambda event: noted.append(event.event.name))

    assert machine.events["executed"].move(body)

    assert (body.state, noted) == ("executing.charge", ["executed"])


@pytest.mark.parametrize("change", ["entered twice", "entered by nothing", "left", "replaced", "all states replaced"])
def test_a_state_that_is_changed_between_two_moves_is_entered_as_it_is_now(change):
    """I may change the callbacks of a state, or the states of the machine, after a move; the next move obeys."""
    machine: Any = saga_of(THREE).machine
    first, second, noted = Body(), Body(), []

    def callback(event: Any) -> None:
        noted.append(event.event.name)

    machine.events["start"].move(first)
    entered = machine.states["executing.reserve"]
    if change == "entered twice":
        entered.on_enter.append(callback)
    elif change == "entered by nothing":
        entered.on_enter.clear()
    elif change == "left":
        machine.states["pending"].on_exit.append(callback)
    elif change == "replaced":
        machine.states["executing.reserve"] = State("executing.reserve", on_enter=[callback])
    else:
        machine.states = {**machine.states, "executing.reserve": State("executing.reserve", on_enter=[callback])}
    machine.events["start"].move(second)

    assert (first.state, second.state) == ("executing.reserve", "executing.reserve")
    assert first.effect is not None
    assert (second.effect is None) is (change in ("entered by nothing", "replaced", "all states replaced"))
    assert noted == ([] if change == "entered by nothing" else ["start"])


def test_refused_move_of_an_event_that_was_added_later_leaves_nothing_in_the_machine():
    """I add an event to `saga.machine`: from other states than its own it is refused, each time."""
    machine: Any = saga_of(THREE).machine
    machine.add_transition("skip", "pending", "executing.charge")
    body = Body()
    body.state = "executing.reserve"

    for _ in range(2):
        with pytest.raises(MachineError):
            machine.events["skip"].move(body)

    assert not machine.has_transition("skip", "executing.reserve")
    assert body.state == "executing.reserve"


@pytest.mark.parametrize("slot", ["prepare", "before", "after"])
@pytest.mark.parametrize("given", ["when made", "assigned", "appended"])
def test_callback_of_a_move_is_called_however_it_was_given(slot, given):
    """A callback of one transition runs, whether I pass it, assign its list or append to it; the others stay fast."""
    machine: Any = saga_of(THREE).machine
    body, noted = Body(), []

    def callback(event: Any) -> None:
        noted.append(event.event.name)

    known = machine.events["start"].transitions
    if given == "when made":
        known["pending"].clear()
        machine.add_transition("start", "pending", "executing.reserve", **{slot: callback})
    elif given == "assigned":
        setattr(known["pending"][0], slot, [callback])
    else:
        getattr(known["pending"][0], slot).append(callback)
    machine.events["start"].move(body)
    machine.events["executed"].move(body)

    assert (body.state, noted) == ("executing.charge", ["start"])


def test_a_copied_machine_minds_its_own_callbacks():
    """Whoever copies a machine and hangs a hook on the copy gets it called there, and nowhere else."""
    machine = saga_of(THREE).machine
    copied = copy.deepcopy(machine)
    noted: list[str] = []
    copied.before_state_change = [lambda event: noted.append(event.event.name)]

    for each in (machine, copied):
        body = Body()
        each.events["start"].trigger(body)
        assert body.state == "executing.reserve"

    assert noted == ["start"]
    assert list(copied.moves()) == list(machine.moves())


def test_running_sagas_writes_nothing_to_the_log_of_transitions(caplog):
    """With the root logger at DEBUG, my log has no lines of the machine's library in it."""
    caplog.set_level(logging.DEBUG)
    flaky = iter([ValueError("once"), ValueError("twice")])

    @step(retry=Retry(wait_initial=0, wait_jitter=0))
    def charge(order):
        raise next(flaky, ValueError("for good"))

    @step
    def reserve(order):
        return order

    @reserve.compensation
    def release(order):
        return None

    with Mediator(Saga("shop", [reserve, charge])) as mediator:
        outcome = mediator.run("shop", 1, check=False)

    assert outcome.failed
    assert len(outcome.history) == 8
    assert [record.name for record in caplog.records if record.name.startswith("transitions")] == []


def test_only_the_compiler_imports_transitions():
    """The library behind the machine can be exchanged in one folder."""
    package = Path(fsm_mediator.__file__).parent
    statement = re.compile(r"^ *(?:from transitions\b|import .*\btransitions\b)", re.MULTILINE)
    importing = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if statement.search(path.read_text(encoding="utf-8"))
    }

    assert importing == {"machine/machine.py", "machine/fast.py"}


def test_a_large_machine_is_compiled_without_garbage_collection():
    """Else 10,000 steps take three times as long, for nothing of theirs is garbage."""
    saga = Saga("large", [step(name=f"s{number}")(lambda payload: None) for number in range(MANY + 1)])
    collected: list[str] = []
    gc.callbacks.append(lambda phase, _info: collected.append(phase))
    try:
        compile_machine(saga.parts)
    finally:
        gc.callbacks.pop()

    assert collected.count("start") <= 1  # when it is enabled again
    assert gc.isenabled()


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of Python *function* runs."""
    count = 0
    before = sys.gettrace()

    def trace(_frame: object, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("what", ["compensated", "not compensated", "after the pivot"])
def test_defining_a_saga_grows_with_its_steps_and_no_faster(what):
    """A saga of twice as many steps takes twice as long to define and compile; ten thousand take about a second."""

    def define(size: int) -> Callable[[], object]:
        steps = [
            step(name=f"s{number}", pivot=what == "after the pivot" and number == 0)(lambda payload: None)
            for number in range(size)
        ]
        for one in steps:
            if what == "compensated":
                one.compensation(lambda payload: None)
        return lambda: Saga("large", steps).machine

    assert lines_run(define(200)) < 2.1 * lines_run(define(100))
