"""Execution: one running instance of a saga, free of I/O; every judgement is made here.

A driver asks `Execution.effect` what is to be done, does it, and gives what came of it to `feed`, which decides the
one event by the rules, triggers it on the machine and returns the record. `advance` makes the moves that need no
effect in between (a wait is over, a cancel or the deadline takes hold). Time and chance come in as arguments.
Folding the records gives the same execution back.

Clocks, sleeping, randomness, threads, journals and the calling of steps must never enter this file.

The rules of doubt: a step that raised has had no effect, unless it says otherwise (`OutcomeUnknownError`, or what its
``in_doubt_on`` names); a time-out and a crash leave an attempt in doubt. Doubt about a step adds up over its attempts,
until it answers or its probe tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.definition.waits import EACH, items_of
from fsm_mediator.errors import (
    AttemptCrashedError,
    AttemptTimedOutError,
    DeadlineExceededError,
    DecisionError,
    DefinitionChangedError,
    IllegalRecordError,
    OutcomeUnknownError,
    RefusedError,
    ResultRefusedError,
    RetryAfterError,
    SagaCancelledError,
    SagaUndoneError,
    SignalTimedOutError,
    StepSignalError,
)
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import COMPENSATE, GROUPS, Effect, Kind, Part
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    Abandoned,
    Acceptance,
    Answer,
    Begin,
    Branch,
    Branches,
    Crashed,
    Due,
    Failure,
    Happened,
    InboxItem,
    NotHappened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Record,
    Returned,
    Signalled,
    TimedOut,
)
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    path_of,
)

_STEP: Final = Kind.STEP  # a member of an enumeration takes its time to be looked up before Python 3.12
RUNNING: Final = "running"
"""How a branch stands that has not settled."""

_YIELDING: Final = frozenset({PENDING, EXECUTING, RETRYING, WAITING})
"""The phases in which a cancel or the deadline takes hold: between effects, never inside one."""


class Execution:
    """One running instance of a saga: its machine's state, plus what was learned on the way.

    Attributes:
        saga: The definition.
        acceptance: What opened it.
        saga_id: Its id.
        state: The machine's state; set by nothing but the machine.
        effect: What is to be done next; None: it is pending, stuck or has ended.
        seq: The number of its last record.
        attempt: The number of the attempt that is announced, under way or was made last, from 1.
        doubt: Whether the part it stands in may have had an effect that nobody saw.
        due_at: When the wait it is in ends, in seconds since the epoch.
        deadline_at: When its attempts must have ended; lifted by an operator's retry.
        failure: What set compensation off.
        trouble: The latest error of an attempt at the part it stands in.
        history: Its records.
        given: Of a branch that is a single step: the results that its parent had when the group began.
        settle: What an item of `Parallel.each` is given to, with the branch's saga, to be seen as a journal would give
            it back; raises if it cannot be journaled. None: items stay as they are.
    """

    __slots__ = (
        *(
            "_answered",
            "_born",
            "_cancel",
            "_doubtful",
            "_events",
            "_left",
            "_machine",
            "_places",
            "_plans",
            "_signals",
        ),
        *("_taken", "_undecided", "acceptance", "attempt", "compensated", "deadline_at", "doubt", "due_at"),
        *("effect", "failure", "given", "history", "saga", "saga_id", "seq", "settle", "state", "trouble"),
    )

    def __init__(self, saga: Saga, acceptance: Acceptance) -> None:
        self.saga = saga
        self.acceptance = acceptance
        self.saga_id = acceptance.saga_id
        self.state: str = PENDING
        self.effect: Effect | None = None
        self.seq = 0
        self.attempt = 0
        self.doubt = False
        self.due_at: float | None = None
        self.deadline_at = acceptance.deadline_at
        self.failure: Failure | None = None
        self.trouble: Failure | None = None
        self.history: list[Record] = []
        self.compensated: tuple[str, ...] = ()
        # Places and events are at hand, for ``Machine.__getattr__`` makes the way to them over the machine a slow one.
        machine = saga.machine
        self._machine, self._places, self._events = machine, machine.places, machine.events
        self._answered: dict[str, Any] = {}
        self._doubtful: tuple[str, ...] = ()
        self._cancel: InboxItem | None = None
        self._taken: tuple[int, ...] = ()
        # Only an execution that waits has any of these.
        self._signals: dict[str, InboxItem] | None = None
        self._plans: dict[str, tuple[str, ...]] | None = None
        self._left: dict[str, tuple[str, ...]] | None = None
        self._born: tuple[Acceptance, ...] = ()
        self._undecided: Exception | None = None
        self.given: Mapping[str, Any] | None = None
        self.settle: Callable[[Saga, Any], Any] | None = None

    @classmethod
    def fold(cls, saga: Saga, acceptance: Acceptance, records: Iterable[Record]) -> Self:
        """The execution that wrote *records*.

        Raises:
            IllegalRecordError: The saga's machine cannot have produced them.
            DefinitionChangedError: They name a state that the saga does not have.
        """
        execution = cls(saga, acceptance)
        for record in records:
            execution.replay(record)
        return execution

    def replay(self, record: Record) -> None:
        """Make the move that *record* tells of.

        Raises:
            IllegalRecordError: It does not follow from where the execution stands.
            DefinitionChangedError: It names a state that the saga does not have.
        """
        where = f"saga {self.saga_id!r}, record {record.seq}"
        if record.seq != self.seq + 1 or record.source != self.state:
            raise IllegalRecordError(
                f"{where}: it leaves {record.source!r} as number {record.seq}, but the execution stands in "
                f"{self.state!r} and its next record is number {self.seq + 1}",
                record.seq,
            )
        machine = self._machine
        if record.target not in machine.states:
            wider = self.saga.machine_with(record.target)
            if wider is None:
                raise DefinitionChangedError(
                    f"{where} enters {record.target!r}, a state that saga {self.saga.name!r} version "
                    f"{self.saga.version} does not have. Register the definition that wrote it"
                )
            self._machine, self._places, self._events = wider, wider.places, wider.events
            machine = wider
        if not machine.has_transition(record.event, record.source):
            raise IllegalRecordError(f"{where}: {machine.refusal(record.event, record.source)}", record.seq)
        part = self._places[record.source].part
        self._events[record.event].trigger(self)
        if self.state != record.target:
            raise IllegalRecordError(
                f"{where}: {record.event!r} leads from {record.source!r} to {self.state!r}, not to {record.target!r}",
                record.seq,
            )
        self._learn(record, part)

    def feed(self, answer: Answer, at: float, chance: float = 0.0) -> Record | None:
        """Take what came of the effect, or a person's verb: decide the event, make the move.

        Args:
            answer: What came of it.
            at: The time, in seconds since the epoch.
            chance: A number from 0 to 1, for the jitter of waits.

        Returns:
            The record; None where nothing moves: a crash while nothing was under way, or while probing, which is
            asked again.

        Raises:
            RefusedError: The answer does not fit the state; nothing has changed.
        """
        phase, part = self._places[self.state]
        return _RULES[phase](self, part, answer, at, chance)  # type: ignore[arg-type]  # part is None only where unused

    def begin(self, at: float) -> Record:
        """As ``feed(Begin(), at)``."""
        return self.succeed(None, at)

    def succeed(self, value: Any, at: float) -> Record:
        """As ``feed(Returned(value), at)`` of an attempt, or ``feed(Begin(), at)``, in one piece.

        That is what happens nearly always: there is nothing to judge, and to be learned only that it is done. A test
        holds it against what the records, folded, teach.
        """
        effect = self.effect
        source = self.state
        path: str | None = None
        if effect is None:
            event, part = "start", None
        else:
            part = effect.part
            event = "compensated" if effect.kind == COMPENSATE else "executed"
        self._events[event].trigger(self)
        following = self.effect
        due_at: float | None = None
        children: tuple[str, ...] | None = None
        if following is not None and following.part.kind is not _STEP:
            due_at, children = self._wait_begun(following.part, at, value, part)
        if part is not None:
            path = part.path
            if event == "executed":
                self._answered[path] = value
            else:
                value = None
                self.compensated += (path,)
        self.seq = seq = self.seq + 1
        if due_at is None and children is None:
            record = Record(self.saga_id, self.saga.name, seq, event, source, self.state, at, path, self.attempt, value)
        else:
            record = Record(
                *(self.saga_id, self.saga.name, seq, event, source, self.state, at, path, self.attempt, value),
                due_at=due_at,
                children=children,
            )
            self._learn_plan(record)
        self.history.append(record)
        self.due_at = due_at
        self.doubt = False
        self.trouble = None
        self.attempt = 1 if following is not None and following.callback is not None else 0
        if self._cancel is not None or self._signals:
            self._forget_what_is_moot()
        return record

    def advance(self, at: float) -> Record | None:
        """Make the next move that needs no effect in between; None: there is none now.

        To be called, until it returns None, after every `feed` and whenever a wait may be over.
        """
        phase, part = self._places[self.state]
        if (
            (self._cancel is not None or self.deadline_at is not None)
            and phase in _YIELDING
            and not (part or self.saga.parts[0]).forward_only
            and (not self.group or self._born)  # whose branches, once they are there, are told instead and waited for
        ):
            if self._cancel is not None:
                cancelled = SagaCancelledError(self._cancel.reason or "it was cancelled")
                return self._yield_to(cancelled, part, phase, at, self._cancel.reason)
            if self.deadline_at is not None and at >= self.deadline_at:
                late = DeadlineExceededError(
                    f"its deadline, {self.deadline_at - self.acceptance.at:.3g} seconds after it was accepted, passed"
                )
                return self._yield_to(late, part, phase, at, None)
        if phase == WAITING and part is not None:
            return self._advance_wait(part, at)
        if phase == COMPENSATING and part is not None and self._plans and self._plans.get(part.path) == ():
            return self.feed(Branches(()), at)  # a group over no items: nobody will ever look at its branches
        if self.due_at is not None and at >= self.due_at and self.effect is not None and self.effect.kind == "wait":
            return _RULES[phase](self, part, _DUE, at, 0.0)  # type: ignore[arg-type]  # who waits stands in a part
        return None

    def _advance_wait(self, part: Part, at: float) -> Record | None:
        if part.kind is Kind.SIGNAL and self._signals and part.path in self._signals:
            return self.feed(Signalled(self._signals[part.path].value), at)
        if part.kind in GROUPS:
            plan = self._plans.get(part.path) if self._plans else None
            if plan is not None:
                return None if plan else self.feed(Branches(()), at)
        elif part.kind is Kind.SIGNAL or self.due_at is not None:
            return self.feed(Due(), at) if self.due_at is not None and at >= self.due_at else None
        undecided = self._undecided or DecisionError(f"it was never decided what {part.path!r} waits for")
        return self._give_up(part, at, Failure.of(undecided), doubt=False)

    def note(self, item: InboxItem) -> None:
        """Take notice of an inbox item; `advance` acts on it as soon as it may."""
        if item.kind == CANCEL and self.cancellable and self._cancel is None:
            self._cancel = item
        elif item.kind == SIGNAL and self.awaits_signal(item.name) and item.name not in (self._signals or ()):
            if self._signals is None:
                self._signals = {}
            self._signals[item.name] = item  # the first that comes is the one that counts
        else:
            self._taken += (item.number,)

    def has_answered(self, path: str) -> bool:
        """Whether the part at *path* was executed, and its answer is known."""
        return path in self._answered

    def answer_of(self, path: str) -> Any:
        """What the part at *path* answered."""
        return self._answered[path]

    def awaits_signal(self, path: str) -> bool:
        """Whether the signal at *path* is waited for, or will be if all goes well."""
        if path in self._answered or self.failure is not None or self.state in ENDED:
            return False
        return any(part.path == path and part.kind is Kind.SIGNAL for part in self.saga.parts)

    def take(self) -> tuple[int, ...]:
        """The numbers of the inbox items that need not be kept any longer: acted on, or moot."""
        if not self._taken:
            return ()
        taken, self._taken = self._taken, ()
        return taken

    @property
    def cancellable(self) -> bool:
        """Whether a cancel can still make it compensate: it neither is past its pivot nor ended nor compensating."""
        phase, part = self._places[self.state]
        return (phase in _YIELDING or phase == PROBING) and not (part or self.saga.parts[0]).forward_only

    @property
    def is_interruptible(self) -> bool:
        """Whether a cancel that has come, or its deadline, may have to take hold before anything else is done."""
        return self._cancel is not None or self.deadline_at is not None

    @property
    def cancelled(self) -> bool:
        """Whether a cancel has come that has not taken hold yet."""
        return self._cancel is not None

    @property
    def group(self) -> tuple[str, ...]:
        """The names of the branches of the group that it stands in; empty: it stands in none."""
        if self._plans is None:
            return ()
        part = self._places[self.state].part
        return self.branches_of(part.path) if part is not None else ()

    def branches_of(self, path: str) -> tuple[str, ...]:
        """The names of the branches of the group at *path*, if it has come there."""
        return self._plans.get(path, ()) if self._plans is not None else ()

    @property
    def has_new_branches(self) -> bool:
        """Whether branches come into being with the record that was made last, and nobody has taken them yet."""
        return bool(self._born)

    def pop_new_branches(self) -> tuple[Acceptance, ...]:
        """The branches that come into being with the record that was made last."""
        born, self._born = self._born, ()
        return born

    @property
    def ended(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.state in ENDED

    @property
    def phase(self) -> str:
        """The state without its part."""
        return self._places[self.state].phase

    @property
    def machine(self) -> CompiledMachine:
        """The machine that it runs on: its saga's, wider if it stands in a state that the settings now rule out."""
        return self._machine

    @property
    def wake_at(self) -> float | None:
        """When `advance` must be called again though nothing came: the wait's end, or the deadline before it."""
        if self.effect is None or self.effect.kind not in ("wait", "await") or self.effect.part.kind in GROUPS:
            return None  # a deadline is the branches' own
        yields = self.phase in _YIELDING and not self.effect.part.forward_only
        times = [time for time in (self.due_at, self.deadline_at if yields else None) if time is not None]
        return min(times, default=None)

    @property
    def results(self) -> Mapping[str, Any]:
        """What each step returned, by name; a nested saga's under its own name."""
        return _nested(self._answered, "") if self.saga.nested else self._answered

    def context(self, effect: Effect) -> Context:
        """What the callback of *effect* is told about the call."""
        part = effect.part
        compensating = effect.kind == COMPENSATE
        return Context(
            self.saga_id,
            part.path,
            self.attempt,
            effect.kind,
            MappingProxyType(self.results_seen_by(part)),
            self._answered.get(part.path) if compensating else None,
            self.doubt,
            self.failure if compensating else None,
        )

    def results_seen_by(self, part: Part) -> Mapping[str, Any]:
        """What the parts before *part* returned, by name; in a nested saga: those of the nested saga."""
        results: Mapping[str, Any] = _nested(self._answered, part.scope) if self.saga.nested else self._answered
        return results if self.given is None else {**self.given, **results}

    def outcome(self) -> Outcome:
        """Where it stands, for a caller."""
        state = self.state
        error = None
        leftovers: tuple[str, ...] = ()
        if state != SUCCEEDED:
            if state == FAILED:
                why = self.failure
                leftovers = self.leftovers
            else:
                why = self.trouble if self.phase in STUCK_PHASES else self.failure
            error = why.raised() if why is not None else None
        saga, answered = self.saga, self._answered
        results = _nested(answered, "") if saga.nested else dict(answered)
        return Outcome(self.saga_id, saga, state, results, error, leftovers, self.compensated, tuple(self.history))

    @property
    def leftovers(self) -> tuple[str, ...]:
        """The parts with an effect, or perhaps one, that no compensation undoes; in the order of the saga."""
        found: list[str] = []
        for part in self.saga.parts:
            path = part.path
            if part.kind is _STEP:
                if path in self._doubtful or (path in self._answered and not part.compensatable):
                    found.append(path)
            elif self._left is not None:
                found += self._left.get(path, ())
        return tuple(found)

    # The rules: one function for each phase. `part` is what the state belongs to.

    def _pending(self, _part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        return self.succeed(None, at) if isinstance(answer, Begin) else self._unmoved(answer)

    def _executing(self, part: Part, answer: Answer, at: float, chance: float) -> Record | None:
        if isinstance(answer, Returned):
            if answer.late:
                return self._move("executed", at, answer.value, reason="answered late")
            return self.succeed(answer.value, at)
        if isinstance(answer, Abandoned):
            overdue = Failure.of(self._error_of(answer, self._attempt_of(part)))
            return self._move("exhausted", at, error=overdue, in_doubt=True, abandoned=True)
        error, doubt, again = self._judge(part, answer)
        policy = part.retry
        again = again and policy.allows(self.attempt)
        failure = Failure.of(error)
        doubted = self.doubt or doubt
        due_at = at + _wait(policy.wait(self.attempt, chance), error) if again else None
        again = again and (not doubted or part.repeatable)
        if part.probe is not None and (doubt or (doubted and not again)):
            return self._move("unsure", at, error=failure, in_doubt=True, due_at=due_at)
        if again:
            return self._stay("errored", part, at, failure, doubted, due_at)
        return self._give_up(part, at, failure, doubted)

    def _retrying(self, part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if not isinstance(answer, Due):
            return self._unmoved(answer)
        if not part.retry.allows(self.attempt):  # the policy is read live, and allows fewer attempts by now
            return self._give_up(part, at, self.trouble, self.doubt)
        return self._stay("retry_due", part, at, None, self.doubt, None)

    def _probing(self, part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if isinstance(answer, Crashed):
            return None
        doubt, reason = True, None
        if isinstance(answer, Returned) and isinstance(answer.value, Happened):
            return self._move("executed", at, answer.value.result, reason="its probe says that it happened")
        if isinstance(answer, Returned) and isinstance(answer.value, NotHappened):
            doubt, reason = False, "its probe says that it did not happen"
        elif isinstance(answer, Returned):
            reason = f"its probe returned {answer.value!r}, neither Happened nor NotHappened, and so could not tell"
        elif isinstance(answer, (Raised, TimedOut, Abandoned)):
            told = Failure.of(answer.error) if isinstance(answer, Raised) else f"no answer {_within(answer)}"
            reason = f"its probe could not tell: {told}"
        else:
            return self._unmoved(answer)
        if self.due_at is not None and (part.repeatable or not doubt):
            due_at = max(self.due_at, at)
            return self._move("errored", at, error=self.trouble, in_doubt=doubt, due_at=due_at, reason=reason)
        return self._give_up(part, at, self.trouble, doubt, reason=reason)

    def _waiting(self, part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if isinstance(answer, Due) and part.kind is Kind.SLEEP:
            return self._move("executed", at)
        if isinstance(answer, Due) and part.kind is Kind.SIGNAL:
            late = SignalTimedOutError(f"the signal {part.path!r} did not come within {part.seconds or 0:g} seconds")
            return self._give_up(part, at, Failure.of(late), doubt=False)
        if isinstance(answer, Signalled) and part.kind is Kind.SIGNAL:
            return self._move("executed", at, answer.value)
        if isinstance(answer, Branches) and part.kind in GROUPS:
            return self._joined(part, answer.branches, at)
        return self._unmoved(answer)

    def _joined(self, part: Part, branches: Sequence[Branch], at: float) -> Record | None:
        """All branches have settled, or they have not yet."""
        if any(branch.state == RUNNING for branch in branches):
            return None
        wrong = [branch for branch in branches if branch.state != SUCCEEDED]
        if wrong:
            failure = Failure.of(self._error_of_branches(part, wrong, at))
            return self._give_up(part, at, failure, doubt=True, reason=_words(branches))
        results = [branch.result for branch in branches]
        value = results if part.each else dict(zip((branch.name for branch in branches), results, strict=True))
        return self._move("executed", at, value)

    def _error_of_branches(self, part: Part, wrong: Sequence[Branch], at: float) -> BaseException:
        if self._cancel is not None:
            return SagaCancelledError(self._cancel.reason or "it was cancelled")
        errors = [branch.error for branch in wrong if branch.error is not None]
        late = next((error for error in errors if isinstance(error, DeadlineExceededError)), None)
        if late is not None and self.deadline_at is not None and at >= self.deadline_at:
            return late
        if len(errors) == 1:
            return errors[0]
        return BaseExceptionGroup(f"{len(wrong)} branches of {part.path!r} did not succeed", errors)

    def _compensating(self, part: Part, answer: Answer, at: float, chance: float) -> Record | None:
        if part.kind in GROUPS:
            return self._compensating_group(answer, at)
        if isinstance(answer, Returned):
            if answer.late:
                return self._move("compensated", at, reason="answered late")
            return self.succeed(None, at)
        error = self._error_of(answer, f"attempt {self.attempt} to compensate {part.path!r}")
        failure = Failure.of(error)
        if isinstance(answer, Abandoned):
            return self._move("compensation_exhausted", at, error=failure, in_doubt=self.doubt, abandoned=True)
        policy = part.compensation_retry
        if policy.allows(self.attempt) and (not isinstance(answer, Raised) or policy.covers(answer.error)):
            due_at = at + _wait(policy.wait(self.attempt, chance), error)
            return self._stay("compensation_errored", part, at, failure, self.doubt, due_at)
        return self._move("compensation_exhausted", at, error=failure, in_doubt=self.doubt)

    def _compensating_group(self, answer: Answer, at: float) -> Record | None:
        if not isinstance(answer, Branches):
            return self._unmoved(answer)  # a crash is none: the branches are there, and are seen to again
        branches = answer.branches
        if any(branch.state == RUNNING or branch.undoable for branch in branches):
            return None
        stuck = [branch for branch in branches if branch.state == STUCK]
        if stuck:
            errors = [branch.error for branch in stuck if branch.error is not None]
            error = errors[0] if len(errors) == 1 else BaseExceptionGroup(f"{len(stuck)} branches are stuck", errors)
            return self._move("compensation_exhausted", at, error=Failure.of(error), reason=_words(branches))
        left = [f"{branch.name}.{path}" for branch in branches for path in branch.leftovers]
        return self._move("compensated", at, left or None)

    def _retrying_compensation(self, part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if isinstance(answer, Due):
            return self._stay("compensation_due", part, at, None, self.doubt, None)
        return self._unmoved(answer)

    def _stuck(self, _part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if isinstance(answer, Branches):
            if any(branch.state in (STUCK, RUNNING) for branch in answer.branches):
                return None
            return self._move("retry", at, in_doubt=self.doubt, reason="none of its branches is stuck any more")
        if isinstance(answer, OperatorRetry):
            return self._move("retry", at, in_doubt=self.doubt, reason=answer.reason)
        if isinstance(answer, OperatorSettled):
            if answer.done:
                return self._move("settled_done", at, answer.result, reason=answer.reason)
            return self._move("settled_undone", at, reason=answer.reason)
        return self._unmoved(answer)

    def _ended(self, _part: Part, answer: Answer, at: float, _chance: float) -> Record | None:
        if isinstance(answer, OperatorUndo):
            error = SagaUndoneError(f"it was undone: {answer.reason}" if answer.reason else "it was undone")
            return self._move("undo", at, error=Failure.of(error), reason=answer.reason)
        return self._unmoved(answer)

    def _judge(self, part: Part, answer: Answer) -> tuple[Exception, bool, bool]:
        """The error that *answer* is, whether it leaves doubt, and whether it is worth another attempt."""
        if isinstance(answer, Raised):
            error = answer.error
            if isinstance(error, ResultRefusedError):  # it took effect; doing it again would return the same
                return error, True, False
            said = isinstance(error, StepSignalError)
            doubt = isinstance(error, OutcomeUnknownError) if said else isinstance(error, part.in_doubt_on)
            return error, doubt, part.retry.covers(error)
        return self._error_of(answer, self._attempt_of(part)), True, True

    def _attempt_of(self, part: Part) -> str:
        return f"attempt {self.attempt} of {part.path!r}"

    def _error_of(self, answer: Answer, attempt: str) -> Exception:
        """The error that *answer* is, given *attempt* in words."""
        if isinstance(answer, Raised):
            return answer.error
        if isinstance(answer, (TimedOut, Abandoned)):
            return AttemptTimedOutError(f"{attempt} gave no answer {_within(answer)}")
        if isinstance(answer, Crashed):
            return AttemptCrashedError(f"{attempt}: whoever drove it ended before its answer was journaled")
        self._unmoved(answer)
        raise AssertionError("not reached")

    def _give_up(
        self,
        part: Part,
        at: float,
        failure: Failure | None,
        doubt: bool,
        *,
        reason: str | None = None,
        unbegun: int = 0,
    ) -> Record:
        """No more attempts at *part*: back, or on to a person."""
        if part.forward_only or (part.pivot and doubt):
            event = "exhausted"
        elif doubt and part.compensatable:
            event = "in_doubt"
        else:
            event = "rejected"
        return self._move(event, at, error=failure, in_doubt=doubt, reason=reason, unbegun=unbegun)

    def _yield_to(self, error: Exception, part: Part | None, phase: str, at: float, reason: str | None) -> Record:
        failure = Failure.of(error)
        self._born = ()
        if part is None:
            return self._move("rejected", at, error=failure, reason=reason)
        # In executing, `advance` is only called before the attempt has begun: it was announced, and is taken back.
        return self._give_up(part, at, failure, self.doubt, reason=reason, unbegun=1 if phase == EXECUTING else 0)

    def _unmoved(self, answer: Answer) -> Record | None:
        """Nothing was under way that could have crashed; anything else does not fit the state."""
        if isinstance(answer, Crashed):
            return None
        event = {OperatorRetry: "retry", OperatorUndo: "undo", Begin: "start"}.get(type(answer))
        if isinstance(answer, OperatorSettled):
            event = "settled_done" if answer.done else "settled_undone"
        why = self._machine.refusal(event, self.state) if event else f"{answer!r} does not fit the state {self.state!r}"
        raise RefusedError(f"saga {self.saga_id!r}: {why}")

    def _move(
        self,
        event: str,
        at: float,
        value: Any = None,
        *,
        error: Failure | None = None,
        in_doubt: bool = False,
        due_at: float | None = None,
        reason: str | None = None,
        abandoned: bool = False,
        unbegun: int = 0,
    ) -> Record:
        """Trigger *event*; besides `succeed` and `replay` the only way in which an execution's state ever changes."""
        source = self.state
        known = self._events.get(event)
        if known is None or source not in known.transitions:
            raise RefusedError(f"saga {self.saga_id!r}: {self._machine.refusal(event, source)}")
        part = self._places[source].part
        known.trigger(self)
        effect = self.effect
        children = None
        if effect is not None and effect.part.kind is not _STEP and due_at is None:
            due_at, children = self._wait_begun(effect.part, at, value if part is not None else None, part)
        record = Record(
            self.saga_id,
            self.saga.name,
            self.seq + 1,
            event,
            source,
            self.state,
            at,
            part.path if part is not None else None,
            self.attempt - unbegun,
            value,
            error,
            in_doubt,
            due_at,
            reason,
            abandoned,
            children,
        )
        self._learn(record, part)
        return record

    def _stay(
        self, event: str, part: Part, at: float, error: Failure | None, in_doubt: bool, due_at: float | None
    ) -> Record:
        """As `_move` from one attempt at *part* to the wait for its next (with an *error*), and from that to the next.

        Nothing else happens as often where things go wrong. The test of `succeed` holds this against the fold as well.
        """
        known, source = self._events.get(event), self.state
        if known is None or source not in known.transitions:
            raise RefusedError(f"saga {self.saga_id!r}: {self._machine.refusal(event, source)}")
        known.trigger(self)
        attempt = self.attempt
        self.seq = seq = self.seq + 1
        state, path = self.state, part.path
        record = Record(
            self.saga_id, self.saga.name, seq, event, source, state, at, path, attempt, None, error, in_doubt, due_at
        )
        self.history.append(record)
        self.due_at = due_at
        self.doubt = in_doubt
        if error is not None:
            self.trouble = error
        else:
            self.attempt = attempt + 1
        if self._cancel is not None or self._signals:
            self._forget_what_is_moot()
        return record

    def _wait_begun(
        self, part: Part, at: float, value: Any, before: Part | None
    ) -> tuple[float | None, tuple[str, ...] | None]:
        """As `_begin_wait`, where *part* was just entered to be waited for, and not to be compensated."""
        if self._places[self.state].phase != WAITING:
            return None, None
        return self._begin_wait(part, at, value, before)

    def _begin_wait(
        self, part: Part, at: float, value: Any, before: Part | None
    ) -> tuple[float | None, tuple[str, ...] | None]:
        """What is waited for at *part*, which is just entered from *before*, which answered *value*."""
        self._undecided = None
        if part.kind is Kind.SIGNAL:
            return (None if part.seconds is None else at + part.seconds), None
        try:
            decided = None
            if part.decide is not None and (part.kind is Kind.SLEEP or part.path not in (self._plans or ())):
                answered = self._answered
                if before is not None and before is not part:
                    self._answered = {**answered, before.path: value}  # what is being learned just now
                try:
                    decided = self._decide(part)
                finally:
                    self._answered = answered
            if part.kind is Kind.SLEEP:
                return (part.subject.due_at(at, decided) if part.subject else at + (part.seconds or 0.0)), None
            return None, self._planned(part, at, decided)
        except Exception as error:
            self._undecided = error
            return None, None

    def _decide(self, part: Part) -> Any:
        assert part.decide is not None
        payload = self.acceptance.payload
        if not part.decide.takes_context:
            return part.decide.function(payload)
        results = MappingProxyType(self.results_seen_by(part))
        return part.decide.function(payload, Context(self.saga_id, part.path, 0, "decide", results))

    def _planned(self, part: Part, at: float, decided: Any) -> tuple[str, ...]:
        """The branches of *part*, which are born now, unless they were before."""
        known = self._plans.get(part.path) if self._plans else None
        if known is not None:
            return known
        sagas = self.saga.branches[part.path]
        mine = self.acceptance
        payloads = [mine.payload] * len(part.branches)
        names: tuple[str, ...] = part.branches
        if part.each:
            payloads = items_of(part, decided)
            if self.settle is not None:
                payloads = [self.settle(sagas[EACH], item) for item in payloads]
            names = tuple(map(str, range(len(payloads))))
        elif part.kind is Kind.CHOICE:
            if decided not in part.branches:
                assert part.decide is not None
                raise DecisionError(
                    f"{part.decide.label} chose {decided!r} for {part.path!r}; there are {', '.join(part.branches)}"
                )
            names = (decided,)
        ids = [f"{self.saga_id}/{part.path}.{name}" for name in names]
        after = part.at_most or len(ids)
        self._born = tuple(
            Acceptance(
                branch_id,
                (saga := sagas[EACH if part.each else name]).name,
                saga.version,
                saga.fingerprint,
                payload,
                at,
                None if part.forward_only else self.deadline_at,
                self.saga_id,
                ids[number + after] if number + after < len(ids) else None,
            )
            for number, (branch_id, name, payload) in enumerate(zip(ids, names, payloads, strict=False))
        )
        return names

    def _learn(self, record: Record, part: Part | None) -> None:
        """What a record teaches; `feed` and `replay` both end here, so that a fold cannot differ from the run."""
        self.seq = record.seq
        self.history.append(record)
        self.due_at = record.due_at
        event = record.event
        if event in _REPEATING:
            self.attempt += 1
        elif event in _STAYING:
            self._learn_of_the_same_part(event, record)
        else:
            path = part.path if part is not None else ""
            if event in ("executed", "settled_done"):
                self._answered[path] = record.value
            elif event == "compensated":
                self.compensated += (path,)
                if record.value:
                    self._left = {**(self._left or {}), path: tuple(f"{path}.{left}" for left in record.value)}
            elif event in ("rejected", "undo"):
                self.failure = record.error
                if record.in_doubt:
                    self._doubtful += (path,)
            elif event == "settled_undone" and self.failure is None:
                self.failure = self.trouble
            self.doubt = False
            self.trouble = None
            self.attempt = 1 if self.effect is not None and self.effect.callback is not None else 0
        if record.children is not None:
            self._learn_plan(record)
        if self._cancel is not None or self._signals:
            self._forget_what_is_moot()

    def _learn_plan(self, record: Record) -> None:
        if record.children is not None:
            self._plans = {**(self._plans or {}), path_of(record.target): record.children}

    def _forget_what_is_moot(self) -> None:
        if self._cancel is not None and not self.cancellable:
            self._taken += (self._cancel.number,)
            self._cancel = None
        for path in [path for path in self._signals or () if not self.awaits_signal(path)]:
            assert self._signals is not None
            self._taken += (self._signals.pop(path).number,)

    def _learn_of_the_same_part(self, event: str, record: Record) -> None:
        self.doubt = record.in_doubt
        if record.error is not None:
            self.trouble = record.error
        if event in ("retry", "in_doubt"):
            self.attempt = 1 if self.effect is not None and self.effect.callback is not None else 0
        if event == "retry":
            self.deadline_at = None  # a person decided that it goes on; the deadline would end it at once
        elif event == "in_doubt":
            self.failure = record.error

    def __repr__(self) -> str:
        return f"<Execution {self.saga_id!r} of {self.saga.name!r}: {self.state}>"


_DUE: Final = Due()

_REPEATING: Final = frozenset(("retry_due", "compensation_due"))
"""The events that begin one more attempt at the same part."""

_STAYING: Final = frozenset(
    ("errored", "unsure", "in_doubt", "exhausted", "compensation_errored", "compensation_exhausted", "retry")
)
"""The other events after which the execution stands in the same part as before."""

_Rule = Callable[[Execution, Part, Answer, float, float], Record | None]
_RULES: Final[dict[str, _Rule]] = {
    PENDING: Execution._pending,
    EXECUTING: Execution._executing,
    RETRYING: Execution._retrying,
    PROBING: Execution._probing,
    WAITING: Execution._waiting,
    COMPENSATING: Execution._compensating,
    RETRYING_COMPENSATION: Execution._retrying_compensation,
    **dict.fromkeys(STUCK_PHASES, Execution._stuck),
    SUCCEEDED: Execution._ended,
    FAILED: Execution._ended,
}


def _wait(wait: float, error: Exception) -> float:
    return max(wait, error.seconds) if isinstance(error, RetryAfterError) else wait


def _within(answer: TimedOut | Abandoned) -> str:
    return f"within {answer.seconds:g} seconds"


def _words(branches: Iterable[Branch]) -> str:
    by_state: dict[str, list[str]] = {}
    for branch in branches:
        by_state.setdefault(branch.state, []).append(branch.name)
    return "; ".join(f"{state}: {', '.join(names)}" for state, names in by_state.items())


def _nested(answered: Mapping[str, Any], scope: str) -> dict[str, Any]:
    """*answered*, by path, as nested dictionaries; only what is in *scope*, seen from there."""
    seen: dict[str, Any] = {}
    places = {scope[:-1]: seen}
    for path, value in answered.items():
        if path.startswith(scope):
            outer, _, name = path.rpartition(".")
            inside = places.get(outer)
            if inside is None:
                inside = _place(places, outer)
            inside[name] = value
    return seen


def _place(places: dict[str, dict[str, Any]], path: str) -> dict[str, Any]:
    """The dictionary of the nested saga at *path*, made if need be."""
    inside = places.get(path)
    if inside is None:
        outer, _, name = path.rpartition(".")
        inside = places[path] = _place(places, outer).setdefault(name, {})
    return inside
