"""A reference model of the machine and the execution, written directly from docs/machine.md.

Nothing here is taken from the library's way of doing it: `table` reads the design's table row by row, `PlainExecution`
is a handful of variables and an `if` for every sentence of the rules. The tests hold the library against both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import strategies as st
from msgspec.structs import replace

from fsm_mediator import Retry, Saga, Step

NO_LIMIT = None


@attrs.frozen(kw_only=True)
class Shape:
    """All of a step that the machine and the rules know of."""

    name: str
    compensates: bool = False
    pivot: bool = False
    probes: bool = False
    repeatable: bool = True
    attempts: int | None = 3
    compensation_attempts: int | None = 3
    outlives: bool = False
    """It is a plain function with a time-out, and must not be overtaken."""


def shapes(max_size: int = 12, min_size: int = 1) -> st.SearchStrategy[tuple[Shape, ...]]:
    """Sagas of up to *max_size* steps, one of which may be the pivot."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Shape, ...]:
        size = draw(st.integers(min_size, max_size))
        pivot = draw(st.sampled_from([None, None, draw(st.integers(0, size - 1))]))
        attempts = st.sampled_from([1, 2, 3, NO_LIMIT])
        return tuple(
            Shape(
                name=f"s{number}",
                # After the pivot a compensate would be warned about: `test_definition` sees to that.
                compensates=draw(st.sampled_from([True, True, False])) and (pivot is None or number < pivot),
                pivot=number == pivot,
                probes=draw(st.booleans()),
                repeatable=draw(st.booleans()),
                attempts=draw(attempts),
                compensation_attempts=draw(attempts),
                outlives=draw(st.booleans()),
            )
            for number in range(size)
        )

    return drawn()


class ShapedStep(Step):
    """A step of a given shape. What it would do is nobody's business: no machine and no rule ever calls it."""

    def __init__(self, shape: Shape, wait: Retry) -> None:
        self.name = shape.name
        self.pivot = shape.pivot
        self.repeatable = shape.repeatable
        self.retry = replace(wait, attempts=shape.attempts)
        self.compensation_retry = replace(wait, attempts=shape.compensation_attempts)
        self.timeout = 1.0 if shape.outlives else None
        if shape.compensates:
            self.compensate = self.undo_it
        if shape.probes:
            self.probe = self.ask_about_it

    def execute(self, payload):
        """Is never called."""
        raise AssertionError

    def undo_it(self, payload):
        """Is never called."""
        raise AssertionError

    def ask_about_it(self, payload):
        """Is never called."""
        raise AssertionError


def saga_of(plan: Sequence[Shape], wait: Retry | None = None, **settings: Any) -> Saga:
    """The saga of these shapes."""
    return Saga("shaped", [ShapedStep(shape, wait or Retry()) for shape in plan], **settings)


# The machine


def table(plan: Sequence[Shape]) -> set[tuple[str, str, str]]:
    """Every (event, source, target) that the design's table has for a saga of these steps, row by row."""
    steps = range(len(plan))
    pivot = next((i for i in steps if plan[i].pivot), len(plan))  # without a pivot, every step is before it
    up_to_pivot = [i for i in steps if i <= pivot]
    from_pivot_on = [i for i in steps if i >= pivot]
    can_be_undone = [i for i in steps if plan[i].compensates and i < pivot]

    def state(phase: str, i: int) -> str:
        return f"{phase}.{plan[i].name}"

    def enter(i: int) -> str:
        return state("executing", i) if i < len(plan) else "succeeded"

    def back(i: int) -> str:
        earlier = [j for j in can_be_undone if j < i]
        return state("compensating", earlier[-1]) if earlier else "failed"

    def retried(i: int) -> bool:
        return plan[i].attempts != 1

    def undone_patiently(i: int) -> bool:
        return plan[i].compensation_attempts != 1

    def under_way(i: int) -> list[str]:
        """Where S stands before it is executed or given up, and can be reached."""
        places = [state("executing", i)]
        places += [state("retrying", i)] if retried(i) else []
        places += [state("probing", i)] if plan[i].probes else []
        return places

    def stuck_executing(i: int) -> str:
        # "Where stuck.S can be reached both from executing and from compensating, the two are two states."
        return state("stuck_executing" if i in can_be_undone else "stuck", i)

    gets_stuck_executing = [i for i in steps if i >= pivot or plan[i].outlives]

    rows: set[tuple[str, str, str]] = {("start", "pending", enter(0)), ("rejected", "pending", "failed")}
    rows |= {("executed", state("executing", i), enter(i + 1)) for i in steps}
    rows |= {("executed", state("probing", i), enter(i + 1)) for i in steps if plan[i].probes}
    rows |= {("errored", state("executing", i), state("retrying", i)) for i in steps if retried(i)}
    rows |= {("errored", state("probing", i), state("retrying", i)) for i in steps if retried(i) and plan[i].probes}
    rows |= {("unsure", state("executing", i), state("probing", i)) for i in steps if plan[i].probes}
    rows |= {("retry_due", state("retrying", i), state("executing", i)) for i in steps if retried(i)}
    rows |= {("rejected", source, back(i)) for i in up_to_pivot for source in under_way(i)}
    rows |= {("in_doubt", source, state("compensating", i)) for i in can_be_undone for source in under_way(i)}
    rows |= {("exhausted", source, state("stuck", i)) for i in from_pivot_on for source in under_way(i)}
    rows |= {("exhausted", state("executing", i), stuck_executing(i)) for i in steps if plan[i].outlives}
    rows |= {("compensated", state("compensating", i), back(i)) for i in can_be_undone}
    rows |= {
        ("compensation_errored", state("compensating", i), state("retrying_compensation", i))
        for i in can_be_undone
        if undone_patiently(i)
    }
    rows |= {
        ("compensation_due", state("retrying_compensation", i), state("compensating", i))
        for i in can_be_undone
        if undone_patiently(i)
    }
    rows |= {("compensation_exhausted", state("compensating", i), state("stuck", i)) for i in can_be_undone}
    rows |= {("retry", state("stuck", i), state("compensating", i)) for i in can_be_undone}
    rows |= {("retry", stuck_executing(i), enter(i)) for i in gets_stuck_executing}
    rows |= {("settled_undone", state("stuck", i), back(i)) for i in can_be_undone}
    rows |= {("settled_undone", stuck_executing(i), back(i)) for i in gets_stuck_executing if i <= pivot}
    rows |= {("settled_done", stuck_executing(i), enter(i + 1)) for i in gets_stuck_executing}
    if can_be_undone and pivot == len(plan):
        rows |= {("undo", "succeeded", state("compensating", can_be_undone[-1]))}
    return rows


def states_of(rows: set[tuple[str, str, str]]) -> set[str]:
    """Every state that the rows name."""
    return {state for _, source, target in rows for state in (source, target)}


def permissive(plan: Sequence[Shape]) -> list[Shape]:
    """The same steps, with the settings under which every state of theirs can be reached."""
    return [attrs.evolve(shape, attempts=NO_LIMIT, compensation_attempts=NO_LIMIT, outlives=True) for shape in plan]


def rows_of_poison(plan: Sequence[Shape]) -> set[tuple[str, str, str]]:
    """The rows that are taken only after drivers have died again and again in a probe."""
    pivot = next((i for i, shape in enumerate(plan) if shape.pivot), len(plan))
    asked = [shape for shape in plan[:pivot] if shape.probes]
    stuck = {True: "stuck_executing", False: "stuck"}
    return {("exhausted", f"probing.{each.name}", f"{stuck[each.compensates]}.{each.name}") for each in asked}


# The execution


@attrs.define
class Told:
    """What a record must say."""

    event: str
    source: str
    target: str
    attempt: int
    in_doubt: bool


class PlainExecution:
    """Where an execution stands, and what it must do when something happens to it.

    Every method that something happens by returns what the record must say, or None where nothing moves.
    """

    def __init__(self, plan: Sequence[Shape]) -> None:
        self.plan = list(plan)
        self.pivot = next((i for i, shape in enumerate(plan) if shape.pivot), len(plan))
        self.phase = "pending"
        self.at = 0
        self.attempt = 0
        self.doubt = False
        self.attempts_left_if_unknown = False
        self.results: dict[str, Any] = {}
        self.compensated: list[str] = []
        self.doubtful: list[str] = []
        self.failed_because: str | None = None
        self.trouble: str | None = None

    # Looking

    @property
    def shape(self) -> Shape:
        """The step it stands in."""
        return self.plan[self.at]

    @property
    def state(self) -> str:
        """The state's name."""
        if self.phase in ("pending", "succeeded", "failed"):
            return self.phase
        return f"{self.phase}.{self.shape.name}"

    @property
    def after_pivot(self) -> bool:
        """Whether it can only go forward: it has passed its pivot."""
        return self.phase not in ("pending", "succeeded", "failed") and self.at > self.pivot

    def can_be_undone(self, i: int) -> bool:
        """Whether the step can be compensated."""
        return self.plan[i].compensates and i < self.pivot

    @property
    def cancellable(self) -> bool:
        """Whether a cancel can still do something."""
        return self.phase in ("pending", "executing", "retrying", "probing") and not self.after_pivot

    @property
    def leftovers(self) -> list[str]:
        """The steps with an effect, for sure or perhaps, that nothing compensates."""
        return [
            shape.name
            for i, shape in enumerate(self.plan)
            if shape.name in self.doubtful or (shape.name in self.results and not self.can_be_undone(i))
        ]

    @property
    def stuck_executing(self) -> str:
        """The phase in which it waits for a person when it got stuck executing."""
        return "stuck_executing" if self.can_be_undone(self.at) else "stuck"

    def settles(self) -> list[str]:
        """What a person may say of a stuck step."""
        if self.phase == "stuck_executing" or (self.phase == "stuck" and not self.can_be_undone(self.at)):
            return ["done"] if self.at > self.pivot else ["done", "undone"]
        return ["undone"] if self.phase == "stuck" else []

    # Moving

    def _tell(self, event: str, phase: str, *, begun: int | None = None, in_doubt: bool | None = None) -> Told:
        source, attempt = self.state, self.attempt if begun is None else begun
        self.phase = phase
        return Told(event, source, self.state, attempt, self.doubt if in_doubt is None else in_doubt)

    def _forward(self, event: str, result: Any) -> Told:
        """S has its effect: on to the next step."""
        source, attempt = self.state, self.attempt
        self.results[self.shape.name] = result
        self.doubt, self.trouble = False, None
        if self.at + 1 < len(self.plan):
            self.at, self.phase, self.attempt = self.at + 1, "executing", 1
        else:
            self.phase, self.attempt = "succeeded", 0
        return Told(event, source, self.state, attempt, False)

    def _backward(self, event: str, before: int, *, doubt: bool = False, begun: int | None = None) -> Told:
        """Whatever is left of S is dealt with: back to the nearest step before it that can be compensated."""
        source, attempt = self.state, self.attempt if begun is None else begun
        self.doubt, self.trouble = False, None
        while before > 0 and not self.can_be_undone(before - 1):
            before -= 1
        if before > 0:
            self.at, self.phase, self.attempt = before - 1, "compensating", 1
        else:
            self.phase, self.attempt = "failed", 0
        return Told(event, source, self.state, attempt, doubt)

    def begin(self) -> Told:
        """A driver takes it up."""
        self.phase, self.attempt = "executing", 1
        return Told("start", "pending", self.state, 0, False)

    def returned(self, result: Any) -> Told:
        """`execute` or `compensate` answered."""
        if self.phase == "executing":
            return self._forward("executed", result)
        self.compensated.append(self.shape.name)
        return self._backward("compensated", self.at)

    def failed(self, error: str, *, doubt: bool, again: bool) -> Told:
        """An attempt did not return: it is in doubt or not, and the policy finds it worth another attempt or not."""
        if self.phase == "compensating":
            limit = self.shape.compensation_attempts
            self.trouble = error
            if again and (limit is None or self.attempt < limit):
                return self._tell("compensation_errored", "retrying_compensation")
            return self._tell("compensation_exhausted", "stuck")
        limit = self.shape.attempts
        left = again and (limit is None or self.attempt < limit)
        self.doubt = self.doubt or doubt
        repeat = left and (self.shape.repeatable or not self.doubt)
        self.trouble = error
        # "the attempt is in doubt and S has a probe"; doubt that is left from an earlier attempt is asked about last.
        if self.shape.probes and (doubt or (self.doubt and not repeat)):
            self.attempts_left_if_unknown = left
            return self._tell("unsure", "probing")
        if repeat:
            return self._tell("errored", "retrying")
        return self.give_up(error)

    def abandoned(self, error: str) -> Told:
        """A thread outlived time-out and grace."""
        self.trouble = error
        if self.phase == "compensating":
            return self._tell("compensation_exhausted", "stuck")
        self.doubt = True
        return self._tell("exhausted", self.stuck_executing)

    def give_up(self, error: str | None, *, begun: int | None = None) -> Told:
        """No more attempts."""
        if self.phase == "pending":
            self.failed_because = error
            self.phase = "failed"
            return Told("rejected", "pending", "failed", 0, False)
        if self.after_pivot or (self.at == self.pivot and self.doubt):
            self.trouble = error
            return self._tell("exhausted", "stuck", begun=begun)
        self.failed_because = error
        if not self.doubt:
            return self._backward("rejected", self.at, begun=begun)
        if self.can_be_undone(self.at):
            told = self._tell("in_doubt", "compensating", begun=begun)
            self.attempt, self.trouble = 1, error
            return told
        self.doubtful.append(self.shape.name)
        return self._backward("rejected", self.at, doubt=True, begun=begun)

    def probed(self, answer: str, result: Any = None) -> Told:
        """The probe said ``happened``, ``not_happened``, or could not tell."""
        if answer == "happened":
            return self._forward("executed", result)
        self.doubt = answer != "not_happened"
        if self.attempts_left_if_unknown and (self.shape.repeatable or not self.doubt):
            return self._tell("errored", "retrying")
        return self.give_up(self.trouble)

    def due(self) -> Told:
        """The wait is over."""
        if self.phase == "retrying":
            told = self._tell("retry_due", "executing")
        else:
            told = self._tell("compensation_due", "compensating")
        self.attempt += 1
        return told

    def retried(self) -> Told:
        """A person says: try again."""
        phase = "executing" if "done" in self.settles() else "compensating"
        told = self._tell("retry", phase)
        self.attempt = 1
        return told

    def settled(self, *, done: bool, result: Any = None) -> Told:
        """A person made sure that S has its effect, or has none."""
        if done:
            return self._forward("settled_done", result)
        if self.failed_because is None:
            self.failed_because = self.trouble
        return self._backward("settled_undone", self.at)

    def undone(self, error: str) -> Told:
        """A person undoes it after it succeeded."""
        self.failed_because = error
        return self._backward("undo", len(self.plan))

    def can_undo(self) -> bool:
        """Whether there is anything to undo, and a way back."""
        return (
            self.phase == "succeeded"
            and self.pivot == len(self.plan)
            and any(self.can_be_undone(i) for i in range(len(self.plan)))
        )
