"""saga_state_machine: Hypothesis drives the real steps of a saga, one move at a time.

Hypothesis draws each move: the call succeeds or a fault strikes, the driver dies, time passes, the saga is cancelled,
or an operator retries or undoes the saga. After every move, recovery from the journal must give the same execution. At
the end the saga continues without faults until it ends. Then the world must be in the right state. Hypothesis shrinks a
failure to a short path, and the error shows the timeline and the diagram of this path.

Source: stateful testing as in Claessen & Hughes, "Testing Monadic Code with QuickCheck", 2002; MacIver's Hypothesis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from fsm_mediator.errors import MediatorError, MissingExtraError

try:
    from hypothesis import stateful
except ModuleNotFoundError as _missing:
    raise MissingExtraError("fsm_mediator.testing.stateful", "testing") from _missing

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, WAIT, Kind
from fsm_mediator.narration import timeline
from fsm_mediator.records import SIGNAL, InboxItem
from fsm_mediator.states import SUCCEEDED
from fsm_mediator.testing import faults
from fsm_mediator.testing.check import Checking, as_signals
from fsm_mediator.testing.faults import FaultPlan
from fsm_mediator.testing.manual import Stepper
from fsm_mediator.testing.runner import CallRunner, why_beyond_repair
from fsm_mediator.testing.world import Worlds

MOST_MOVES: Final = 1000
"""The number of moves without faults after which a saga counts as endless."""


class SagaMachineError(MediatorError, AssertionError):
    """A drawn run of a saga leads to a wrong state. The message ends with its diagram.

    Attributes:
        problem: The problem, in words.
        outcome: The outcome of the run.
    """

    def __init__(self, problem: str, outcome: Outcome) -> None:
        super().__init__(problem)
        self.problem = problem
        self.outcome = outcome

    def __str__(self) -> str:
        # The diagram is made only here: shrinking makes hundreds of these errors and shows none of them.
        text = timeline(self.outcome.history)
        diagram = self.outcome.diagram().to_mermaid()
        return f"saga {self.outcome.saga.name!r}: {self.problem}\ntimeline\n{text}\ndiagram\n{diagram}"


def _move(possible: Callable[[Any], bool]) -> Callable[[Callable[[Any], None]], Any]:
    """A decorator for a move that can happen if *possible* returns True. The move also checks the journal.

    The check is not a Hypothesis invariant, because Hypothesis would print the invariant after each move of a failure.
    """

    def made(function: Callable[[Any], None]) -> Any:
        @functools.wraps(function)
        def moved(self: Any) -> None:
            function(self)
            self.check_journal()

        return stateful.precondition(possible)(stateful.rule()(moved))

    return made


class SagaMachine(stateful.RuleBasedStateMachine):
    """The moves of a saga as Hypothesis rules. `saga_state_machine` makes subclasses of this class.

    To add your own rules, make a subclass of the class that `saga_state_machine` returns.

    Attributes:
        stepper: The `Stepper` that drives the saga. It has the clock, the calls and the outcome.
        observe: A function that returns the state of the world.
    """

    settings_of: ClassVar[Mapping[str, Any]]
    _checking: ClassVar[Checking | None] = None

    stepper: Stepper
    observe: Callable[[], Any]

    @classmethod
    def checking(cls) -> Checking:
        """The `Checking` that compares each run with the fault-free run. All examples share it."""
        if cls._checking is None:
            settings = dict(cls.settings_of)
            cls._checking = Checking(
                settings["saga"],
                settings["payload"],
                settings["observe"],
                settings["reset"],
                settings["signals"],
                encode=settings["encode"],
            )
            cls._checking.case(FaultPlan())
        return cls._checking

    @stateful.initialize()
    def begin(self) -> None:
        """The saga is accepted and begins."""
        self._check = self.checking()
        world = self._check.world()
        self.observe = world.observe
        self._before = self._check.look(world)
        self._world = world
        self._asked: list[str] = []
        self.stepper = Stepper(
            world.saga,
            self.settings_of["payload"],
            self._check.next_id(),
            self._check.call,
            encode=self.settings_of["encode"],
        )

    # Outcomes of the next call

    @_move(lambda self: self._calls())
    def goes_well(self) -> None:
        """The call takes effect and returns, unless the step itself fails."""
        self.stepper.perform()

    @_move(lambda self: self._calls())
    def raises_before_effect(self) -> None:
        """The call raises, and has no effect."""
        self.stepper.perform(faults.RAISES_BEFORE)

    @_move(lambda self: self._calls(COMPENSATE) or (self._calls(EXECUTE) and self._strict()))
    def raises_after_effect(self) -> None:
        """The call takes effect, and then raises."""
        self.stepper.perform(faults.RAISES_AFTER)

    @_move(lambda self: self._calls(EXECUTE))
    def is_rejected(self) -> None:
        """The call is rejected, and has no effect."""
        self.stepper.perform(faults.REJECTED)

    @_move(lambda self: self._calls(EXECUTE))
    def answer_lost_after_effect(self) -> None:
        """The call takes effect, and its answer is lost."""
        self.stepper.perform(faults.LOST)

    @_move(lambda self: self._calls(EXECUTE) or self._calls(COMPENSATE))
    def times_out_before_effect(self) -> None:
        """The call times out, and has no effect."""
        self.stepper.perform(faults.SLOW_BEFORE)

    @_move(lambda self: self._calls(EXECUTE) or self._calls(COMPENSATE))
    def times_out_after_effect(self) -> None:
        """The call takes effect, but times out."""
        self.stepper.perform(faults.SLOW_AFTER)

    @_move(lambda self: self._calls())
    def crashes_after_effect(self) -> None:
        """The call takes effect, and the driver dies before it gets the answer. Another driver recovers the saga."""
        self.stepper.perform(faults.CRASH_AFTER)

    @_move(lambda self: self._calls())
    def crashes_before_record(self) -> None:
        """The driver gets the answer of the call, and dies before it journals the answer."""
        self.stepper.perform(faults.CRASH_UNRECORDED)

    # Other events

    @_move(lambda self: not self.stepper.execution.ended)
    def driver_dies(self) -> None:
        """The driver dies, in any state. Another driver recovers the saga."""
        self.stepper.die()

    @_move(lambda self: self.stepper.execution.ended)
    def nothing_more_happens(self) -> None:
        """The saga has ended. A further recovery must make no call."""
        calls = len(self.stepper.injector.calls)
        self.stepper.die()
        if len(self.stepper.injector.calls) != calls:
            self._fail("it has ended, and something was called")

    @_move(lambda self: self._waits())
    def time_passes(self) -> None:
        """Time passes until the end of the current wait."""
        self.stepper.pass_time()

    @_move(lambda self: self._awaited() is not None)
    def signal_comes(self) -> None:
        """The next signal arrives, before or while the saga waits for it."""
        name = self._awaited()
        assert name is not None
        self.stepper.post(InboxItem(SIGNAL, name, self.settings_of["signals"][name], at=self.stepper.clock()))

    @_move(lambda self: self.stepper.execution.cancellable)
    def is_cancelled(self) -> None:
        """The saga is cancelled."""
        self.stepper.cancel()

    @_move(lambda self: self.stepper.outcome.stuck)
    def a_person_retries(self) -> None:
        """The saga is stuck, and an operator retries it."""
        self.stepper.retry()

    @_move(lambda self: self.stepper.outcome.succeeded and self._undoable())
    def a_person_undoes(self) -> None:
        """The saga has succeeded, and an operator undoes it."""
        self.stepper.undo()

    def check_journal(self) -> None:
        """Check that recovery from the journal gives the same state that the driver has in memory."""
        folded, known = self.stepper.folded(), self.stepper.execution
        if (folded.state, folded.attempt, folded.doubt) != (known.state, known.attempt, known.doubt):
            self._fail(f"the journal gives it back in {folded.state!r}, attempt {folded.attempt}")

    def teardown(self) -> None:
        """Run the saga to its end without faults, then check the world."""
        if hasattr(self, "stepper"):
            self._end()

    def _end(self) -> None:
        for _ in range(MOST_MOVES):
            if self.stepper.execution.ended:
                break
            self._go_on()
        else:
            self._fail(f"it does not end, though all goes well: it is in {self.stepper.execution.state!r}")
        problem = self._check.judged(self.stepper.outcome, self._before, self._check.look(self._world))
        if problem:
            self._fail(problem)
        if self.stepper.execution.state == SUCCEEDED:
            left = self._check.put_back(self._world, self._before, self._undone)
            if left:
                self._fail(left)

    def _undone(self) -> Outcome:
        self.stepper.undo()
        while not self.stepper.execution.ended:
            self._go_on()
        return self.stepper.outcome

    def _go_on(self) -> None:
        if self.stepper.effect is None:
            outcome = self.stepper.outcome
            beyond = why_beyond_repair(outcome, self.stepper.injector, self._asked)
            if beyond:
                self._fail(beyond)
            self._asked.append(outcome.state)
            self.stepper.retry()
        elif self._calls():
            self.stepper.perform()
        elif self._waits():
            self.stepper.pass_time()
        elif self._awaited() is not None:
            self.signal_comes()
        else:
            self._fail(f"it waits in {self.stepper.execution.state!r} for what is not given: pass signals=")

    def _fail(self, problem: str) -> None:
        raise SagaMachineError(problem, self.stepper.outcome)

    # Conditions of the rules above

    def _calls(self, verb: str | None = None) -> bool:
        effect = self.stepper.effect
        return effect is not None and effect.kind in ((EXECUTE, COMPENSATE, PROBE) if verb is None else (verb,))

    def _waits(self) -> bool:
        effect = self.stepper.effect
        return effect is not None and effect.kind == WAIT

    def _strict(self) -> bool:
        return bool(self.settings_of["strict"])

    def _undoable(self) -> bool:
        return "undo" in self.stepper.saga.machine.events

    def _awaited(self) -> str | None:
        execution = self.stepper.execution
        for part in self.stepper.saga.parts:
            if part.kind is Kind.SIGNAL and execution.awaits_signal(part.path):
                return part.path if part.path in self.settings_of["signals"] else None
        return None


def saga_state_machine(
    saga: Saga | Callable[[], Any],
    payload: Any = None,
    *,
    observe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    strict: bool = False,
    encode: bool = True,
) -> type[SagaMachine]:
    """Make a Hypothesis state machine from a saga.

    To make it a test: ``TestCheckout = saga_state_machine(shop, order).TestCase``. The arguments are those of
    `check_saga`. Sagas with groups or choices are refused. Test such sagas with `check_saga`.

    Returns:
        A subclass of `SagaMachine`. Subclass it to add your own rules and invariants.

    Raises:
        DefinitionError: *saga* is neither a saga with *observe* nor a function that returns both.
    """
    Worlds(saga, observe, reset, CallRunner())  # checks the arguments; makes no world yet
    settings = {
        "saga": saga,
        "payload": payload,
        "observe": observe,
        "reset": reset,
        "signals": as_signals(signals),
        "strict": strict,
        "encode": encode,
    }
    name = saga.name if isinstance(saga, Saga) else getattr(saga, "__name__", "saga")
    return type(f"{name.title().replace('_', '')}Machine", (SagaMachine,), {"settings_of": settings})
