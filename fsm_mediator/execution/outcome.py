"""Outcome: the state, results, error and leftovers of an execution for its caller, with a summary as text."""

from __future__ import annotations

import copy
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Unpack, overload

import msgspec

from fsm_mediator.definition.result_places import place_of
from fsm_mediator.definition.saga import Saga, signal_names, without_functions
from fsm_mediator.definition.steps import Executable
from fsm_mediator.definition.type_variables import R
from fsm_mediator.error_types import HOME, MediatorError, NoResultError
from fsm_mediator.execution.views import Results
from fsm_mediator.machine.parts import Kind
from fsm_mediator.models import shown
from fsm_mediator.records import Failure, Record
from fsm_mediator.states import (
    ABANDON,
    FAILED,
    PENDING,
    STUCK,
    STUCK_EXECUTING,
    SUCCEEDED,
    WAITING,
    is_within,
    path_of,
    split_state,
)

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, Look, View


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """The state and results of an execution.

    Attributes:
        saga_id: The id of the execution.
        saga: The definition of the execution.
        state: The machine's state, such as ``succeeded``, ``stuck.charge`` or ``waiting.approval``.
        results: The result of each step, by name.
        error: The error that made the execution fail or get stuck. It is the step's exception, or a `RecordedError` if
            the exception was read from the journal. It can also be a `SagaCancelledError`, a `DeadlineExceededError` or
            a `SagaUndoneError`. None if there is no error.
        leftovers: In a failed saga, the steps that still have an effect or may have an effect, because they were not
            compensated. Empty if every effect was undone.
        compensated: The steps that were compensated, in that order.
        history: Every record, in order.
    """

    saga_id: str
    saga: Saga
    state: str
    results: Mapping[str, Any]
    error: BaseException | None
    leftovers: tuple[str, ...]
    compensated: tuple[str, ...]
    history: tuple[Record, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every step was executed."""
        return self.state == SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the execution failed. Its effects are compensated, except for `leftovers`."""
        return self.state == FAILED

    @property
    def stuck(self) -> bool:
        """Whether the execution is stuck: it does not continue until an operator acts."""
        return self.state.startswith((f"{STUCK}.", f"{STUCK_EXECUTING}."))

    @property
    def ended(self) -> bool:
        """Whether the execution succeeded or failed."""
        return self.succeeded or self.failed

    @property
    def awaits_signal(self) -> bool:
        """Whether the execution itself waits for a signal. False if only one of its branches waits for a signal."""
        phase, path = split_state(self.state)
        return phase == WAITING and any(part.path == path and part.kind is Kind.SIGNAL for part in self.saga.parts)

    @property
    def step(self) -> str | None:
        """The path of the current part. None if the execution is pending or ended."""
        return path_of(self.state) or None

    @overload
    def result_of(self, step: Executable[R | Coroutine[Any, Any, R]]) -> R: ...
    @overload
    def result_of(self, step: Executable[Coroutine[Any, Any, R]]) -> R: ...  # type: ignore[overload-cannot-match]  # mypy needs it
    def result_of(self, step: Executable[Any]) -> Any:
        """The result of *step*, with the type of the step's result. A compensated step still has its result.

        Args:
            step: A step of the saga, of a nested saga or of a branch. If the saga has a copy of the step with other
                settings (`Step.with_`), or if the outcome was pickled, the step is found by its name.

        Raises:
            NoResultError: The step has no result. The message has the state of the step.
            DefinitionError: The saga does not have the step, has it twice, or executes it once for each item of a
                group.
        """
        path, names = place_of(self.saga, step)
        found: Any = self.results
        for name in names:
            if not isinstance(found, Mapping) or name not in found:
                raise self._no_result(".".join(names), path)
            found = found[name]
        return found

    def _no_result(self, step: str, path: str) -> NoResultError:
        record = next((record for record in reversed(self.history) if record.step == path), None)
        if self.step == path:
            state: str | None = self.state
            why = f"it is in state {state!r}"
        elif record is not None:
            state = record.source
            error = f" and {record.error}" if record.error is not None else ""
            why = f"its last state was {state!r}, which ended with {record.event!r}{error}"
        else:
            state, why = None, "it has not begun"
        rest = "" if self.step == path else f"; the saga is in state {self.state!r}"
        return NoResultError(f"saga {self.saga_id!r} has no result of {step!r}: {why}{rest}", self.saga_id, step, state)

    def __reduce__(self) -> tuple[Any, ...]:
        error = None if self.error is None else Failure(*Failure.of(self.error).__reduce__()[1]).raised()
        results = Results(self.results)
        fields = (self.state, results, error, self.leftovers, self.compensated, self.history)
        return Outcome, (self.saga_id, without_functions(self.saga), *fields)

    def __deepcopy__(self, memo: dict[int, Any]) -> Outcome:
        return msgspec.structs.replace(self, results=copy.deepcopy(self.results, memo))

    def to_json(self) -> str:
        """The outcome as a JSON text, with its history.

        A pydantic model is written as an object with its fields. Other values without a JSON form are written as their
        ``repr``.
        """
        names = ("saga_id", "state", "results", "leftovers", "compensated")
        error = None if self.error is None else Failure.of(self.error)
        history = [
            {**msgspec.structs.asdict(record), "error": record.error and _error_as_json(record.error)}
            for record in self.history
        ]
        for each in history:
            del each["carrier"]  # only a tracer uses it
        plain = {
            **{name: getattr(self, name) for name in names},
            "saga": self.saga.name,
            "version": self.saga.version,
            "error": error and _error_as_json(error),
            "history": history,
        }
        return msgspec.json.encode(plain, enc_hook=shown).decode()

    def diagram(self, view: View = "detail", **look: Unpack[Look]) -> Diagram:
        """The diagram of the saga's machine with the path of this run, its state, and the states it never reached."""
        from fsm_mediator.diagram import run_diagram

        return run_diagram(self, view, **look)

    def _repr_mimebundle_(self, **kinds: Any) -> Mapping[str, Any]:
        """The diagram of the steps and their results, for a notebook."""
        return {**self.diagram("steps")._repr_mimebundle_(**kinds), "text/plain": repr(self)}

    def summary(self, *, next_move: bool = True) -> str:
        """A summary in up to three sentences. With *next_move*, the last sentence has the Python call to make next."""
        name = f"saga {self.saga_id!r} ({self.saga.name})"
        if self.succeeded:
            return f"{name} succeeded"
        if self.failed:
            return f"{name} failed: {self._why_failed()}; {self._what_is_left()}"
        if self.stuck:
            return f"{name} is stuck: {self._why_stuck()}.{f' {self._next_move()}' if next_move else ''}"
        if self.state == PENDING:
            return f"{name} is pending: it has not begun"
        if self.awaits_signal:
            move = f"; next: mediator.signal({self.saga_id!r}, {self.step!r}, value)" if next_move else ""
            return f"{name} is parked in {self.state!r}{move}"
        signals = [signal for signal in signal_names(self.saga) if is_within(signal, self.step or "")]
        if signals:
            move = f": mediator.signal({self.saga_id!r}, NAME, value); NAME is {' or '.join(map(repr, signals))}"
            return f"{name} is parked in {self.state!r}; a branch may wait for a signal{move if next_move else ''}"
        return f"{name} is parked in {self.state!r}; it resumes by itself when its wait ends"

    def _why_failed(self) -> str:
        record = self._last("rejected", "in_doubt", "exhausted", "undo", ABANDON)
        if record is None:
            return "for a reason that its history does not tell"
        cause = record.error
        if record.event == "undo" or record.step is None or _is_not_the_steps(cause):
            where = f" at step {record.step!r}" if record.step and record.event != "undo" else ""
            return f"{cause.message if cause else 'given up'}{where}"
        if record.attempt == 0:
            return f"{record.step!r} failed with {cause}{f' ({record.reason})' if record.reason else ''}"
        doubt = ", which may have had its effect" if record.in_doubt else ""
        return f"step {record.step!r} gave up after {_times(record.attempt)}, last with {cause}{doubt}"

    def _what_is_left(self) -> str:
        by_hand = [record.step or "" for record in self.history if record.event == "settled_undone"]
        lists = (("compensated", self.compensated), ("settled by hand", by_hand), ("left over", self.leftovers))
        return "; ".join(f"{what}: {', '.join(steps)}" for what, steps in lists if steps) or "there was nothing to undo"

    def _why_stuck(self) -> str:
        record = self.history[-1]
        if record.abandoned:
            why = f"{record.error.message if record.error else ''}, and its thread may be running still"
        elif record.attempt == 0:
            why = f"failed with {record.error}{f' ({record.reason})' if record.reason else ''}"
        else:
            why = f"failed after {_times(record.attempt)}, last with {record.error}"
        verb = "compensating" if record.event == "compensation_exhausted" else "executing"
        first = self._last("rejected", "in_doubt", "undo") if verb == "compensating" else None
        because = f" (it was compensating because: {first.error})" if first is not None else ""
        return f"{verb} {record.step!r} {why}{because}"

    def _next_move(self) -> str:
        machine = self.saga.machine_with(self.state)  # the widest machine, if the settings have changed
        verbs = machine.allowed(self.state) if machine is not None else []
        done = ", done=True" if "settled_done" in verbs and "settled_undone" not in verbs else ""
        both = ", done=True or False" if "settled_done" in verbs and "settled_undone" in verbs else done
        return (
            f"Fix the cause, then: mediator.retry({self.saga_id!r}); or settle it by hand, then: "
            f"mediator.resolve({self.saga_id!r}, reason=...{both})"
        )

    def _last(self, *events: str) -> Record | None:
        return next((record for record in reversed(self.history) if record.event in events), None)

    def __repr__(self) -> str:
        return f"<Outcome {self.saga_id!r} of {self.saga.name!r}: {self.state}>"


def _error_as_json(error: Failure) -> dict[str, str]:
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _is_not_the_steps(cause: Any) -> bool:
    return cause is None or cause.type.split(".")[-1] in (
        *("SagaCancelledError", "DeadlineExceededError", "SagaAbandonedError"),
    )


class SagaNotSucceededError(MediatorError):
    """An execution that was run or awaited did not succeed.

    Attributes:
        outcome: The outcome of the execution so far.
    """

    __cause__: BaseException | None

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.saga_id)
        self.outcome = outcome
        self.__cause__ = outcome.error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.outcome,), self.__dict__  # `__init__` sets the cause again

    def __str__(self) -> str:
        return self.outcome.summary()


class SagaFailedError(SagaNotSucceededError):
    """The saga failed. Each effect is compensated or listed in ``outcome.leftovers``."""


class SagaStuckError(SagaNotSucceededError):
    """The saga is stuck and needs an operator. Fix the cause, then call ``retry`` or ``resolve``."""


class SagaWaitingError(SagaNotSucceededError):
    """The saga is parked. It resumes when its signal comes, its wait is over or its branches have ended."""


for _kind in (SagaNotSucceededError, SagaFailedError, SagaStuckError, SagaWaitingError):
    _kind.__module__ = HOME
