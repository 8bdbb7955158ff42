"""The kit's strategies and state machine: what they draw is valid, and what they find shrinks to something readable."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from fsm_mediator import DefinitionError, Execution, Mediator, Retry, Saga, Signal, Sleep
from fsm_mediator.testing import (
    Fault,
    FaultPlan,
    SagaBrokenError,
    SagaMachineError,
    VirtualClock,
    acceptance_of,
    check_promises,
    check_saga,
    fault_plans,
    histories,
    plans,
    saga_state_machine,
    sagas,
)
from tests.fake_services import ORDER, FakeService, Forgets, LosesTheDoubt, Put, RaisesWithoutExecute, shop

SHOP, _ = shop()()
FEW = settings(
    max_examples=20,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)


@given(fault_plans(SHOP))
@FEW
def test_drawn_plans_are_survived(plan):
    """Any few faults at once are survived by steps that behave."""
    assert not check_saga(shop(), ORDER, only=plan).broken


def test_drawn_plan_that_breaks_a_saga_shrinks_to_one_fault():
    """What a property finds shrinks to the simplest fault that shows it."""
    found = []

    @given(fault_plans(SHOP))
    @settings(FEW, max_examples=100, derandomize=True, database=None)
    def breaks(plan):
        try:
            check_saga(shop(Forgets), ORDER, only=plan)
        except SagaBrokenError:
            found.append(plan)
            raise

    with pytest.raises(SagaBrokenError):
        breaks()
    assert len(found[-1].faults) <= 1


@given(sagas(groups=True))
@FEW
def test_drawn_sagas_run(saga):
    """A drawn saga can be run as it is: nothing fails in it, so that it succeeds, with a result of every step."""
    with Mediator(saga, **VirtualClock().settings) as mediator:
        outcome = mediator.run(saga, {})

    assert outcome.succeeded
    assert all(mediator.sagas)
    assert plans(saga)


@given(st.data())
@FEW
def test_drawn_histories_are_the_machines_own(data):
    """Every drawn history folds into an execution that stands where its last record says."""
    saga = data.draw(sagas(groups=True))
    history = data.draw(histories(saga))

    execution = Execution.fold(saga, acceptance_of(saga), history)

    assert execution.state == (history[-1].target if history else "pending")
    assert [record.at for record in history] == sorted(record.at for record in history)


def test_histories_reach_every_phase_and_every_end():
    """Among the histories are those that succeed, fail and get stuck, and those that are not over."""
    phases: set[str] = set()
    ends: set[str] = set()
    saga = Saga("strict", [Put(FakeService(), "a"), Put(FakeService(), "b")], compensation_retry=Retry(attempts=1))

    @given(histories(saga))
    @settings(FEW, max_examples=150, derandomize=True, database=None)
    def collect(history):
        phases.update(record.target.partition(".")[0] for record in history)
        ends.add(history[-1].target.partition(".")[0] if history else "pending")

    collect()
    assert phases >= {"executing", "retrying", "compensating", "stuck", "succeeded", "failed"}
    assert ends >= {"succeeded", "failed", "executing"}


def checked(machine, **how):
    """Run a state machine as its test would."""
    how = {"max_examples": 30, "stateful_step_count": 8, "derandomize": True, "database": None} | how
    run_state_machine_as_test(machine, settings=settings(FEW, **how))


def test_machine_of_steps_that_behave_holds():
    """Whatever happens to a saga of good steps, move by move, the world is as it must be at the end."""
    checked(saga_state_machine(shop(), ORDER))


def test_machine_of_coroutines_holds():
    """Coroutines are awaited."""

    class Slow(Put):
        timeout = 5.0

        async def execute(self, order, context):
            return super().execute(order, context)

    checked(saga_state_machine(shop(Slow), ORDER), max_examples=10)


def test_machine_gives_signals_and_lets_time_pass():
    """A signal comes early, in time or too late for its time-out; a sleep is over when time passes."""
    ends = set()

    def make():
        shelves = FakeService(), FakeService()
        parts: list[Any] = [
            Put(shelves[0], "a"),
            Signal("ok", timeout=60.0),
            Sleep("nap", 3600.0),
            Put(shelves[1], "b"),
        ]
        return Saga("slow", parts), lambda: [shelf.held for shelf in shelves]

    class Noted(saga_state_machine(make, ORDER, signals={"ok": 1})):  # type: ignore[misc]
        def teardown(self):
            super().teardown()
            ends.add(self.stepper.execution.state)

    checked(Noted)

    assert ends == {"succeeded", "failed"}


def test_machine_of_a_saga_that_is_kept_undoes_what_succeeded():
    """A saga without a way to make it anew is undone after each success."""
    saga, observe = shop()()
    machine = saga_state_machine(saga, ORDER, observe=lambda: {name: len(held) for name, held in observe().items()})

    checked(machine, max_examples=10)

    assert observe() == {"reserve": {}, "charge": {}, "ship": {}}


BUGS = {
    Forgets: ("the world is not as it was before", ["after_effect", "is_cancelled", "a_person_undoes", "dies"]),
    RaisesWithoutExecute: (
        "the compensation of step 'charge' raised of its own accord KeyError",
        ["times_out", "driver_dies", "crashes", "lost"],
    ),
}


def small(charge):
    """What makes a saga of one step without patience anew."""

    def shop():
        shelf = FakeService()
        saga = Saga("small", [charge(shelf, "charge")], retry=Retry(attempts=1), compensation_retry=Retry(attempts=1))
        return saga, lambda: shelf.held

    return shop


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_machine_finds_a_bug_and_shows_the_shortest_way(bug):
    """What it finds shrinks to a few moves, and ends with the timeline and the diagram of where they lead."""
    problem, moves = BUGS[bug]

    with pytest.raises(SagaMachineError) as caught:
        checked(saga_state_machine(small(bug), ORDER), max_examples=60, stateful_step_count=3)

    told = str(caught.value)
    assert problem in told
    assert re.search(r"timeline\n    0.000 s  the saga begins .*\ndiagram\n.*(flowchart|stateDiagram)", told, re.DOTALL)
    note = "\n".join(caught.value.__notes__)
    assert "state = ShopMachine()\nstate.begin()\n" in note
    assert any(move in note for move in moves)
    assert note.count("state.") <= 4


def test_strict_machine_finds_steps_that_lose_their_doubt():
    """Strictly, a step may raise after its effect: one that does not say so is found."""
    checked(saga_state_machine(small(LosesTheDoubt), ORDER), max_examples=10, stateful_step_count=3)
    with pytest.raises(SagaMachineError):
        checked(saga_state_machine(small(LosesTheDoubt), ORDER, strict=True), max_examples=60, stateful_step_count=3)


def test_machine_can_be_given_rules_of_ones_own():
    """A subclass adds rules and invariants, and looks at the world in between."""
    seen = []

    class Mine(saga_state_machine(shop(), ORDER)):  # type: ignore[misc]
        @rule()
        def hour_passes(self):
            self.stepper.clock.advance(3600.0)

        @invariant()
        def never_shipped_before_charged(self):
            world = self.observe()
            seen.append(world)
            assert not (world["ship"] and not world["charge"]) or self.stepper.execution.failure

    checked(Mine, max_examples=10)
    assert len(seen) > 20


def test_groups_are_refused_by_name():
    """What cannot be driven a move at a time is refused, and the error says what can."""
    from fsm_mediator import Parallel

    def make():
        shelf = FakeService()
        return Saga("wide", [Parallel("both", [Put(shelf, "a"), Put(shelf, "b")])]), lambda: shelf.held

    with pytest.raises(DefinitionError, match="cannot be driven step by step; use check_saga"):
        checked(saga_state_machine(make, ORDER))


@pytest.mark.parametrize("module", ["hypothesis", "pytest"])
def test_what_is_missing_is_named(module):
    """Without Hypothesis or pytest the error names the extra that brings them; the rest of the kit works."""
    needs = {
        "hypothesis": "from fsm_mediator.testing import fault_plans",
        "pytest": "import fsm_mediator.testing.plugin",
    }
    code = f"""
import sys
from typing import Any
sys.modules[{module!r}] = None
from fsm_mediator import MissingExtraError
from fsm_mediator.testing import check_saga
try:
    {needs[module]}
except MissingExtraError as error:
    assert error.extra == "testing", error
    assert "pip install 'fsm-mediator[testing]'" in str(error), error
else:
    raise AssertionError
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FIVE: Any = 5
TEXT: Any = "soon"


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        (lambda: plans(FIVE), "plans() takes a saga, not 5"),
        (lambda: fault_plans(FIVE), "fault_plans() takes a saga, not 5"),
        (lambda: acceptance_of(FIVE), "acceptance_of() takes a saga, not 5"),
        (lambda: drawn_from(histories(FIVE)), "histories() takes a saga, not 5"),
        (lambda: saga_state_machine(FIVE), "a check takes a Saga with observe="),
        (lambda: saga_state_machine(SHOP), "the effects of saga 'checkout' are not known"),
        (lambda: saga_state_machine(shop(), ORDER, signals=FIVE), "signals is a dict"),
        (lambda: check_saga(SHOP, observe=FIVE), "observe must be a function without arguments, not 5"),
        (lambda: check_saga(SHOP, observe=dict, reset=FIVE), "reset must be a function without arguments, not 5"),
        (lambda: check_saga(shop(), ORDER, only=FIVE), "only= is the name of a fault, a FaultPlan, or a list"),
        (lambda: check_saga(shop(), ORDER, only=FaultPlan((Fault("charge", "bursts"),))), "there is no fault 'bursts'"),
        (
            lambda: check_saga(shop(), ORDER, only=[FaultPlan((Fault("chrge", "is_rejected"),))]),
            "no step for the fault",
        ),
        (lambda: check_promises(SHOP, observe=dict, promises=FIVE), "promises is a dict"),
        (lambda: VirtualClock(TEXT), "VirtualClock: now (seconds) must be a finite number"),
        (lambda: VirtualClock(chance=5), "VirtualClock: chance is a number from 0 to 1, not 5"),
        (lambda: VirtualClock().advance(TEXT), "VirtualClock.advance (seconds) must be a finite number"),
    ],
)
def test_slip_in_a_test_is_told_in_words(slip, said):
    """What the kit is given by a slip is refused where it is given, and not somewhere within."""
    with pytest.raises(DefinitionError) as caught:
        slip()

    assert said in str(caught.value)


def drawn_from(strategy):
    """Have Hypothesis draw once."""

    @settings(max_examples=1, database=None)
    @given(strategy)
    def draw(_):
        """Nothing is asked of it."""

    draw()
