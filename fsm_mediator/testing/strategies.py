"""Hypothesis strategies: fault plans of a saga, sagas, and histories that a saga's machine can produce.

`fault_plans` is for properties of your own saga. `sagas` and `histories` are for code that builds on this library, such
as an observer, a journal or a report. All three shrink to the simplest case: no fault, one step, success.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import msgspec

from fsm_mediator.errors import MissingExtraError

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as _missing:
    raise MissingExtraError("fsm_mediator.testing.strategies", "testing") from _missing

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.definition.steps import Context, Step
from fsm_mediator.definition.waits import Parallel, Sleep
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Acceptance, Happened, NotHappened, Record
from fsm_mediator.retry import Retry
from fsm_mediator.testing.faults import Fault, FaultPlan, faults_of, plans
from fsm_mediator.verifier.actions import ActionModel

HISTORY_AT: Final = 1_700_000_000.0
"""The time at which drawn histories begin, in seconds since the epoch."""


def fault_plans(saga: Saga, *, most: int = 3, strict: bool = False) -> st.SearchStrategy[FaultPlan]:
    """Plans with up to *most* possible faults of *saga*, with at most one fault for each call.

    Pass a plan to `check_saga` as *only*. Some faults of a plan may not strike, because an earlier fault ends the saga.

    Args:
        saga: The saga. None of its steps is called.
        most: The maximum number of faults in one plan.
        strict: Let steps also raise after their effect without reporting doubt.
    """
    check_is_saga("fault_plans()", saga)
    single = list(plans(saga, strict=strict))
    more = list(faults_of(saga, strict=strict))

    @st.composite
    def drawn(draw: st.DrawFn) -> FaultPlan:
        number = draw(st.integers(0, most))
        if number == 0:
            return FaultPlan()
        plan = draw(st.sampled_from(single))
        taken = {(fault.part, fault.verb) for fault in plan.all}
        further = draw(st.lists(st.sampled_from(more), max_size=number - 1, unique_by=_place)) if more else []
        kept = tuple(fault for fault in further if _place(fault) not in taken)
        return attrs.evolve(plan, faults=(*plan.faults, *kept))

    return drawn()


def _place(fault: Fault) -> tuple[str, str]:
    return fault.part, fault.verb


class DrawnStep(Step):
    """A step of a drawn saga. Its `execute` only returns the text ``NAME done``."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        for setting, value in settings.items():
            setattr(self, setting, value)

    def execute(self, payload: Any, context: Context) -> str:  # noqa: ARG002 - it shows a step's arguments
        """Return the text ``NAME done``."""
        return f"{context.step} done"


class CompensatedStep(DrawnStep):
    """A drawn step with a compensation."""

    def compensate(self, payload: Any) -> None:
        """Do nothing: there is no effect to undo."""


def _asked(payload: Any, context: Context) -> Happened | NotHappened:  # noqa: ARG001 - an example of a probe's arguments
    return Happened(f"{context.step} done")


@st.composite
def _steps(draw: st.DrawFn, name: str, *, pivot: bool, forward_only: bool) -> Step:
    attempts = st.sampled_from([3, 1, 2, None])
    wait = Retry(wait_initial=draw(st.sampled_from([0.0, 0.1, 60.0])), wait_max=60.0, wait_jitter=0.0)
    settings: dict[str, Any] = {
        "pivot": pivot,
        "retry": msgspec.structs.replace(wait, attempts=draw(attempts)),
        "compensation_retry": msgspec.structs.replace(wait, attempts=draw(attempts)),
        "repeatable": draw(st.sampled_from([True, True, True, False])),
        "timeout": draw(st.sampled_from([None, None, 5.0])),
    }
    if draw(st.sampled_from([False, False, False, True])):
        settings["probe"] = _asked
    compensates = not pivot and not forward_only and draw(st.sampled_from([True, True, False]))
    return (CompensatedStep if compensates else DrawnStep)(name, **settings)


@st.composite
def sagas(draw: st.DrawFn, *, most: int = 6, nested: bool = True, groups: bool = False) -> Saga:
    """Sagas of one to *most* steps that do nothing. They may have compensations, retries, probes and a pivot.

    Args:
        draw: Passed by Hypothesis.
        most: The maximum number of steps.
        nested: Whether some of the steps may be in a nested saga.
        groups: Whether some of the steps may be branches of a group, and whether the saga may sleep for an hour at its
            end.
    """
    size = draw(st.integers(1, most))
    pivot = draw(st.sampled_from([None, None, draw(st.integers(0, size - 1))]))
    steps: list[Any] = [
        draw(_steps(f"s{i}", pivot=i == pivot, forward_only=pivot is not None and i > pivot)) for i in range(size)
    ]
    if nested and draw(st.sampled_from([False, False, True])):
        first = draw(st.integers(0, size - 1))
        last = draw(st.integers(first + 1, size))
        steps[first:last] = [Saga("inner", steps[first:last])]
    if groups and pivot is None and draw(st.booleans()):
        first = draw(st.integers(0, len(steps) - 1))
        steps[first:] = [Parallel("group", steps[first:])]
    if groups and draw(st.booleans()):
        steps.append(Sleep("sleep", 3600.0))
    deadline = draw(st.sampled_from([None, None, 86400.0]))
    return Saga("drawn", steps, deadline=deadline)


@st.composite
def histories(
    draw: st.DrawFn,
    saga: Saga,
    *,
    most: int = 40,
    saga_id: str = "drawn",
    payload: Any = None,
) -> list[Record]:
    """Possible histories of *saga*: paths through its machine with at most *most* actions. No step is called.

    A history may end before the saga does. You can fold every history:
    ``Execution.fold(saga, acceptance_of(saga, ...), history)``.

    Args:
        draw: Passed by Hypothesis.
        saga: The saga.
        most: The maximum number of actions in a history. An action has one or more records.
        saga_id: The id of the execution in the records.
        payload: The payload of the execution.
    """
    check_is_saga("histories()", saga)
    moves = ActionModel(saga)
    execution = Execution(saga, acceptance_of(saga, saga_id, payload))
    ledger, at = moves.nothing, HISTORY_AT
    for _ in range(draw(st.integers(0, most))):
        possible = list(moves.at(execution, ledger))
        if not possible or (execution.ended and draw(st.sampled_from([True, True, False]))):
            break  # a succeeded saga can be undone, so the history sometimes continues
        # The first possible move is success. It is preferred, because most histories would otherwise end early.
        move = possible[0] if draw(st.sampled_from([True, True, False])) else draw(st.sampled_from(possible))
        at += draw(st.sampled_from([0.0, 0.5, 3600.0]))
        at = max(at, execution.history[-1].at if execution.history else at)
        move.act(execution, at)
        while execution.advance(max(at, execution.history[-1].at if execution.history else at)) is not None:
            pass
        ledger = move.ledger
    return list(execution.history)


def acceptance_of(saga: Saga, saga_id: str = "drawn", payload: Any = None) -> Acceptance:
    """The `Acceptance` of an execution of *saga*. Pass it to `Execution.fold` with a history from `histories`."""
    check_is_saga("acceptance_of()", saga)
    deadline = None if saga.deadline is None else HISTORY_AT + saga.deadline
    return Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, payload, HISTORY_AT, deadline)
