"""`result_of`: the result of a step, by the step itself, from an outcome and in the steps after it."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    DefinitionError,
    NoResultError,
    Parallel,
    Saga,
    SagaFailedError,
    SagaStuckError,
    SagaWaitingError,
    Signal,
    Step,
    step,
)
from tests.drivers import ONCE


@step
def charge(order: str) -> str:
    """Its result is a text."""
    return f"receipt of {order}"


@charge.compensation
def refund(order: str) -> None:
    """Nothing is to be done."""


@step
def pack(order: str) -> int:
    """Its result is a number."""
    return len(order)


class Reserve(Step):
    def execute(self, order: str) -> list[str]:
        return [order]


@step(retry=ONCE)
def ship(order: str) -> str:
    """Has no result."""
    raise ValueError("no lorry")


def test_result_of_a_step_wherever_it_is(drive, journal):
    """At the top, in a nested saga, in a branch, in a saga that is a branch, in what was chosen."""
    reserve = Reserve()
    inner, lone, both, chosen = (pack.named(name) for name in ("inner", "lone", "both", "chosen"))
    saga = Saga(
        "s",
        [
            charge,
            Saga("packing", [reserve, inner]),
            Parallel("fan", [lone, Saga("branch", [both])]),
            Choose("way", {"left": chosen, "right": ship}, by=lambda order: "left"),
        ],
    )

    outcome = drive(saga, journal=journal).run("s", "tea")

    assert outcome.result_of(charge) == "receipt of tea"
    assert outcome.result_of(reserve) == ["tea"]
    assert [outcome.result_of(each) for each in (inner, lone, both, chosen)] == [3, 3, 3, 3]
    with pytest.raises(NoResultError, match=r"has no result of 'way.right'"):
        outcome.result_of(ship)


def test_step_with_other_settings_is_found_by_its_name(drive):
    """I placed `charge.with_(...)`, and ask for `charge`; or the outcome came from another process."""
    outcome = drive(Saga("s", [charge.with_(timeout=3.0)])).run("s", "tea")

    assert outcome.result_of(charge) == "receipt of tea"
    assert pickle.loads(pickle.dumps(outcome)).result_of(charge) == "receipt of tea"  # noqa: S301 - our own


def test_result_that_is_none_is_a_result(drive):
    """A step that returns nothing was executed all the same."""

    @step
    def nothing(order: str) -> None: ...

    outcome = drive(Saga("s", [nothing])).run("s", "tea")

    assert outcome.result_of(nothing) is None


def test_step_without_result_is_refused_with_its_state(drive, journal):
    """What failed, what never began; what was compensated keeps its result."""
    late = pack.named("late")
    with pytest.raises(SagaFailedError) as failed:
        drive(Saga("s", [charge, ship, late]), journal=journal).run("s", "tea", saga_id="o-1")
    outcome = failed.value.outcome

    assert outcome.compensated == ("charge",)
    assert outcome.result_of(charge) == "receipt of tea"
    with pytest.raises(NoResultError) as caught:
        outcome.result_of(ship)
    assert str(caught.value) == (
        "saga 'o-1' has no result of 'ship': its last state was 'executing.ship', which ended with 'rejected' and "
        "ValueError: no lorry; the saga is in state 'failed'"
    )
    assert (caught.value.saga_id, caught.value.step, caught.value.state) == ("o-1", "ship", "executing.ship")
    with pytest.raises(NoResultError, match="'late': it has not begun; the saga is in state 'failed'") as caught:
        outcome.result_of(late)
    assert caught.value.state is None
    assert pickle.loads(pickle.dumps(caught.value)).step == "late"  # noqa: S301 - our own


def test_state_of_an_execution_that_is_under_way(drive):
    """Stuck in the step itself, or parked before it."""
    with pytest.raises(SagaStuckError) as stuck:
        drive(Saga("s", [pack.with_(pivot=True), ship.with_(retry=ONCE)])).run("s", "tea")
    with pytest.raises(NoResultError, match=r"'ship': it is in state 'stuck.ship'$"):
        stuck.value.outcome.result_of(ship)

    with pytest.raises(SagaWaitingError) as waiting:
        drive(Saga("t", [Signal("approved"), charge])).run("t", "tea")
    with pytest.raises(NoResultError, match=r"it has not begun; the saga is in state 'waiting.approved'"):
        waiting.value.outcome.result_of(charge)


def test_step_that_is_no_one_step_of_the_saga_is_refused(drive):
    """Another saga's step, a step that is in it twice, once for each item, or no step at all."""
    outcome = drive(
        Saga("s", [Saga("a", [charge]), Saga("b", [charge]), Parallel.each("items", pack, over=lambda order: [order])])
    ).run("s", "tea")

    with pytest.raises(DefinitionError, match=r"has no step 'ship'; there are a.charge, b.charge, items"):
        outcome.result_of(ship)
    with pytest.raises(DefinitionError, match=r"has step 'charge' as 'a.charge' and 'b.charge'"):
        outcome.result_of(charge)
    with pytest.raises(DefinitionError, match=re.escape("outcome.results['items']")):
        outcome.result_of(pack)
    with pytest.raises(DefinitionError, match="takes a step of the saga, not 'charge'"):
        outcome.result_of("charge")


def test_a_step_takes_the_results_of_the_steps_before_it(drive, journal):
    """In a step, in a compensation and in a branch; a step that was not executed is an error with the next move."""
    seen: list[Any] = []

    @step(retry=ONCE)
    def last(order: str, context: Any) -> str:
        seen.append(context.result_of(charge))
        return str(context.result_of(ship))

    @step
    def note(order: str, context: Any) -> None:
        seen.append(context.result_of(charge))

    with pytest.raises(SagaFailedError) as caught:
        drive(Saga("s", [charge, Parallel("fan", [note]), last, ship]), journal=journal).run("s", "tea", saga_id="o-1")

    assert seen == ["receipt of tea"] * 2
    assert (
        str(caught.value.outcome.error)
        .removeprefix("fsm_mediator.errors.NoResultError: ")
        .startswith("saga 'o-1': step 'last' sees no result of step 'ship'; there are charge, fan. A step sees")
    )
