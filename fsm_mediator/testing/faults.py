"""Fault and FaultPlan: the faults of a saga's calls. Each fault has a name that you can read and type.

The possible faults are computed from the saga's parts, without calling a step. The module `injection` injects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from fsm_mediator.definition.checks import DEFAULT_IN_DOUBT_ON
from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.errors import DefinitionError, OutcomeUnknownError
from fsm_mediator.execution.judging import leaves_doubt
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, Kind, Part

RAISES_BEFORE: Final = "raises_before_effect"
RAISES_AFTER: Final = "raises_after_effect"
REJECTED: Final = "is_rejected"
LOST: Final = "answer_lost_after_effect"
SLOW_BEFORE: Final = "times_out_before_effect"
SLOW_AFTER: Final = "times_out_after_effect"
CRASH_BEFORE: Final = "crashes_before_effect"
CRASH_AFTER: Final = "crashes_after_effect"
CRASH_UNRECORDED: Final = "crashes_before_record"
CRASH_RECORDED: Final = "crashes_after_record"
CUT_SHORT: Final = "is_cut_short"
CANCELLED: Final = "cancelled_meanwhile"
OVERDUE: Final = "overdue_meanwhile"
KILL_BEFORE: Final = "killed_before_effect"
KILL_AFTER: Final = "killed_after_effect"
KILL_UNRECORDED: Final = "killed_before_record"
KILL_RECORDED: Final = "killed_after_record"

WORDS: Final = {
    RAISES_BEFORE: "raises, and has done nothing",
    RAISES_AFTER: "raises, though it has taken effect",
    REJECTED: "is refused for good, and has done nothing",
    LOST: "takes effect, and its answer is lost",
    SLOW_BEFORE: "gives no answer in time, and has done nothing",
    SLOW_AFTER: "takes effect, and gives no answer in time",
    CRASH_BEFORE: "has not begun when its driver dies",
    CRASH_AFTER: "has just taken effect when its driver dies",
    CRASH_UNRECORDED: "has answered, and its driver dies before that is journaled",
    CRASH_RECORDED: "has answered, and its driver dies right after that is journaled",
    CUT_SHORT: "is cancelled at its first await, as by a time-out",
    CANCELLED: "is at work when somebody cancels the saga",
    OVERDUE: "is at work when the saga's deadline passes",
    KILL_BEFORE: "has not begun when its process is killed",
    KILL_AFTER: "has just taken effect when its process is killed",
    KILL_UNRECORDED: "has answered, and its process is killed before that is journaled",
    KILL_RECORDED: "has answered, and its process is killed right after that is journaled",
}
"""The description of each kind of fault, such as ``RAISES_BEFORE``."""

KILLS: Final = frozenset({KILL_BEFORE, KILL_AFTER, KILL_UNRECORDED, KILL_RECORDED})
"""The faults that kill the process."""

DEATHS: Final = frozenset({CRASH_BEFORE, CRASH_AFTER, CRASH_UNRECORDED, CRASH_RECORDED}) | KILLS
"""The faults that kill the driver."""

STRICT: Final = frozenset({RAISES_AFTER})
"""The faults that break the rule for `execute`: a step that raises must have no effect, unless it reports doubt."""

UNDONE: Final = "is_undone"
"""The name of the plan without faults in which an operator undoes the successful saga."""

Strict: TypeAlias = "bool | Sequence[Exception | type[Exception]] | Mapping[str, Sequence[Exception | type[Exception]]]"
"""The type of the argument *strict* of `check_saga`: the exceptions that steps raise after their effect.

A list holds for all steps. A mapping has a list for each step that it names. True stands for an error of a class that
the step does not know.
"""

NO_FAULT: Final = "no_fault"
"""The name of the plan without faults."""

_ONCE: Final = "_once"
_VERBS: Final = {EXECUTE: "", COMPENSATE: "undo_", PROBE: "probe_"}


@attrs.frozen
class Fault:
    """One fault in the calls of one step.

    Attributes:
        part: The step's path.
        kind: The kind of fault: one of ``faults.WORDS``.
        verb: The call that the fault strikes: ``execute``, ``compensate`` or ``probe``.
        once: Whether the fault strikes only the first attempt. If False, it strikes every attempt, until the step has
            no attempts left or an operator retries the step.
        absorbed: Whether the step's `Retry` must absorb the fault. If True, the run must succeed, as without faults.
        error: The exception to raise after the effect. A class is called with a message. None if the caller of the
            check did not choose an exception.
        named: The class name of *error*. Empty if the caller of the check did not choose an exception.
    """

    part: str
    kind: str
    verb: str = EXECUTE
    once: bool = False
    absorbed: bool = attrs.field(default=False, eq=False)
    error: Exception | type[Exception] | None = attrs.field(default=None, eq=False)
    named: str = ""

    @property
    def id(self) -> str:
        """The fault's name: ``charge-times_out_after_effect_once``, or ``undo_charge-...`` for a compensation."""
        kind = self.kind.replace("raises", f"raises_{self.named}", 1) if self.named else self.kind
        return f"{_VERBS[self.verb]}{self.part}-{kind}{_ONCE if self.once else ''}"

    def __str__(self) -> str:
        doing = {EXECUTE: "", COMPENSATE: "the compensation of ", PROBE: "the probe of "}[self.verb]
        which = "the first attempt" if self.once else "every attempt"
        words = WORDS[self.kind].replace("raises", f"raises {self.named}", 1) if self.named else WORDS[self.kind]
        return f"{doing}{self.part}: {which} {words}"


@attrs.frozen
class FaultPlan:
    """All faults of one run of a saga.

    Attributes:
        faults: The faults under test.
        because: Further faults that are needed to reach the faults under test. For example, a compensation runs only if
            the saga fails.
        undone: Whether an operator undoes the saga after it succeeded.
    """

    faults: tuple[Fault, ...] = ()
    because: tuple[Fault, ...] = ()
    undone: bool = False

    @property
    def id(self) -> str:
        """The plan's name. To run only this plan: ``check_saga(..., only="charge-times_out_after_effect")``."""
        return "+".join(fault.id for fault in self.faults) or (UNDONE if self.undone else NO_FAULT)

    @property
    def all(self) -> tuple[Fault, ...]:
        """Every fault of the plan: *because* and *faults*."""
        return (*self.because, *self.faults)

    def and_(self, fault: Fault) -> FaultPlan:
        """A copy of the plan, with *fault* added to the faults under test."""
        return attrs.evolve(self, faults=(*self.faults, fault))

    def __str__(self) -> str:
        sentences = [*map(str, self.faults)]
        sentences += [f"to get there, {fault}" for fault in self.because]
        sentences += ["when it has succeeded, a person undoes it"] if self.undone else []
        return "; ".join(sentences) or "nothing goes wrong"


def plans(saga: Saga, *, strict: Strict = False, kill: bool = False) -> tuple[FaultPlan, ...]:
    """Every plan with a single possible fault of *saga*, without the fault-free plan.

    Args:
        saga: The saga. None of its steps is called.
        strict: Let steps also raise after their effect without reporting doubt, as for `check_saga`.
        kill: Also kill the process, at every point where a driver can die.

    Raises:
        DefinitionError: *saga* is not a `Saga`, *strict* names a step that the saga does not have, or *strict* has
            something other than exceptions.
    """
    check_is_saga("plans()", saga)
    found = [_plan(saga, fault) for fault in faults_of(saga, strict=strict, kill=kill)]
    if "undo" in saga.machine.events:
        found.append(FaultPlan(undone=True))
    return tuple(found)


def faults_of(saga: Saga, *, strict: Strict = False, kill: bool = False) -> Iterator[Fault]:
    """Every possible fault in the calls of *saga* and its branches, in the order of the parts."""
    found = list(_faults_of(saga, strict=strict is True, kill=kill, overdue=saga.deadline is not None))
    yield from found
    if not isinstance(strict, bool):
        yield from _named_faults(strict, {fault.part: fault for fault in found if fault.kind == LOST})


def _named_faults(
    strict: Sequence[object] | Mapping[str, Sequence[object]], steps: Mapping[str, Fault]
) -> Iterator[Fault]:
    """The faults that raise the errors in *strict*.

    A list of errors applies to every step in *steps*. A mapping has errors for each step that it names.
    """
    by_step = strict if isinstance(strict, Mapping) else dict.fromkeys(steps, strict)
    for path, errors in by_step.items():
        if path not in steps:
            raise DefinitionError(f"strict: the saga has no step {path!r}; it has {', '.join(steps)}")
        for error in errors if isinstance(errors, Sequence) else (errors,):
            kind = error if isinstance(error, type) else type(error)
            if not issubclass(kind, Exception):
                raise DefinitionError(f"strict names exceptions, or classes of them, not {error!r}")
            yield Fault(path, RAISES_AFTER, error=error, named=kind.__name__)  # type: ignore[arg-type]


def _faults_of(saga: Saga, *, strict: bool, kill: bool, overdue: bool) -> Iterator[Fault]:
    for part in saga.parts:
        for name, branch in saga.branches.get(part.path, {}).items():
            for fault in _faults_of(branch, strict=strict, kill=kill, overdue=overdue):
                inside = "" if branch.single is not None and fault.part == branch.single else f".{fault.part}"
                yield attrs.evolve(fault, part=f"{part.path}.{name}{inside}")
        if part.kind is not Kind.STEP:
            continue
        yield from _of_execute(part, strict=strict, overdue=overdue)
        if part.compensatable:
            yield from _of_compensate(part)
        if part.probe is not None:
            yield from _of_probe(part)
        if kill:
            verbs = (EXECUTE, COMPENSATE) if part.compensatable else (EXECUTE,)
            yield from (
                Fault(part.path, kind, verb, once=True, absorbed=verb == EXECUTE and _is_absorbed(part, kind))
                for verb in verbs
                for kind in (KILL_BEFORE, KILL_AFTER, KILL_UNRECORDED, KILL_RECORDED)
            )


def _of_execute(part: Part, *, strict: bool, overdue: bool) -> Iterator[Fault]:
    repeated = [RAISES_BEFORE, LOST, SLOW_BEFORE, SLOW_AFTER, CRASH_BEFORE, CRASH_AFTER]
    if strict and _declares_nothing(part):
        repeated.append(RAISES_AFTER)
    for kind in repeated:
        yield Fault(part.path, kind)
        if part.retry.attempts != 1:
            yield Fault(part.path, kind, once=True, absorbed=_is_absorbed(part, kind))
    yield Fault(part.path, REJECTED)
    if part.execute is not None and part.execute.is_coroutine:
        yield Fault(part.path, CUT_SHORT, once=True)
    yield Fault(part.path, CRASH_UNRECORDED, once=True, absorbed=_is_absorbed(part, CRASH_UNRECORDED))
    yield Fault(part.path, CRASH_RECORDED, once=True)  # the same as a crash before the next call
    if not part.forward_only:
        yield Fault(part.path, CANCELLED, once=True)
        if overdue:
            yield Fault(part.path, OVERDUE, once=True)


def _declares_nothing(part: Part) -> bool:
    """Whether ``in_doubt_on`` of *part* names no particular errors: it has the default errors, no errors or all errors.

    Then a strict check raises an error that no setting names after the effect of the step.
    """
    return part.in_doubt_on in (DEFAULT_IN_DOUBT_ON, ()) or leaves_doubt(part, Exception("any"))


def _is_absorbed(part: Part, kind: str) -> bool:
    """Whether another attempt follows if a fault of *kind* strikes the first attempt at *part*."""
    if part.retry.attempts == 1:
        return False
    if kind == RAISES_BEFORE:
        return part.retry.covers(Exception("made to fail"))
    if not part.repeatable or kind in (RAISES_AFTER, KILL_RECORDED):
        return False
    if kind in DEATHS:
        return True
    if kind == LOST or part.timeout is None:
        error = ConnectionError("lost") if kind == LOST else TimeoutError("late")
        return part.retry.covers(error if leaves_doubt(part, error) else OutcomeUnknownError("lost"))
    return not part.can_outlive_its_timeout


def _of_compensate(part: Part) -> Iterator[Fault]:
    for kind in (RAISES_BEFORE, RAISES_AFTER):
        yield Fault(part.path, kind, COMPENSATE)
        if part.compensation_retry.attempts != 1:
            yield Fault(part.path, kind, COMPENSATE, once=True)
    if part.timeout is not None:
        yield Fault(part.path, SLOW_BEFORE, COMPENSATE, once=True)
        yield Fault(part.path, SLOW_AFTER, COMPENSATE, once=True)
    cut = (CUT_SHORT,) if part.compensate is not None and part.compensate.is_coroutine else ()
    for kind in (*cut, CRASH_BEFORE, CRASH_AFTER, CRASH_UNRECORDED, CRASH_RECORDED):
        yield Fault(part.path, kind, COMPENSATE, once=True)


def _of_probe(part: Part) -> Iterator[Fault]:
    yield Fault(part.path, RAISES_BEFORE, PROBE)
    if part.timeout is not None:
        yield Fault(part.path, SLOW_AFTER, PROBE)
    yield Fault(part.path, CRASH_BEFORE, PROBE, once=True)
    yield Fault(part.path, CRASH_AFTER, PROBE, once=True)


def _plan(saga: Saga, fault: Fault) -> FaultPlan:
    """The plan with this fault, and with the faults needed to reach it."""
    if fault.verb == PROBE:
        return FaultPlan((fault,), (Fault(fault.part, LOST, once=True),))
    if fault.verb == COMPENSATE:
        last = _last_that_can_refuse(saga.parts, fault.part)
        if last is None:
            return FaultPlan((fault,), undone=True)
        return FaultPlan((fault,), (Fault(last, REJECTED),))
    return FaultPlan((fault,))


def _last_that_can_refuse(parts: Sequence[Part], path: str) -> str | None:
    """The last step after *path* that can reject, so that the part at *path* is compensated. None if there is none."""
    refusing = None
    seen = False
    for part in parts:
        if seen and part.kind is Kind.STEP and not part.forward_only:
            refusing = part.path
        seen = seen or path == part.path or (part.kind is not Kind.STEP and path.startswith(f"{part.path}."))
    return refusing


def why_it_must_succeed(saga: Saga, plan: FaultPlan) -> str:
    """The reason why a run under *plan* must succeed: a `Retry` absorbs the only fault. Empty if the run may fail."""
    absorbed = [fault for fault in faults_of(saga, strict=True, kill=True) if fault.absorbed]
    if len(plan.all) != 1 or plan.all[0] not in absorbed:
        return ""
    return (
        f"the fault is within the Retry of {plan.all[0].part!r}, so that the saga must succeed as it does without "
        f"faults: is the step safe to repeat?"
    )


def plan_of(saga: Saga, name: str, strict: Strict = False) -> FaultPlan:
    """The plan with this name. The name may begin with the saga's name.

    Raises:
        DefinitionError: There is no such step or fault.
    """
    if name in (NO_FAULT, f"{saga.name}-{NO_FAULT}"):
        return FaultPlan()
    if name in (UNDONE, f"{saga.name}-{UNDONE}"):
        return FaultPlan(undone=True)
    faults = tuple(_fault_of(saga, each, strict) for each in name.split("+"))
    verbs = {fault.verb for fault in faults}
    because = _plan(saga, faults[0]) if EXECUTE not in verbs else FaultPlan()
    return FaultPlan(faults, because.because, because.undone)


def checked_plan(saga: Saga, plan: object, strict: Strict = False) -> FaultPlan:
    """The plan *plan*, which may be given by its name. Checks that every fault of the plan can strike in *saga*.

    Raises:
        DefinitionError: *plan* is neither a plan nor a name, or its fault or step does not exist.
    """
    if isinstance(plan, str):
        return plan_of(saga, plan, strict)
    if not isinstance(plan, FaultPlan):
        raise DefinitionError(f"only= is the name of a fault, a FaultPlan, or a list of those, not {plan!r}")
    for fault in plan.all:
        if fault.error is None:
            _fault_of(saga, fault.id, strict)
    return plan


def _fault_of(saga: Saga, name: str, strict: Strict) -> Fault:
    known = {fault.id: fault for fault in faults_of(saga, strict=strict, kill=True)}
    for each in (name, name.removeprefix(f"{saga.name}-")):
        # The name of a fault that strikes only once may omit the suffix.
        if (found := known.get(each) or known.get(f"{each}{_ONCE}")) is not None:
            return attrs.evolve(found, absorbed=False)
    where, _, what = name.rpartition("-")
    once = what.endswith(_ONCE)
    kind = what.removesuffix(_ONCE)
    if kind not in WORDS:
        raise DefinitionError(f"there is no fault {what!r}, as in {name!r}; there are {', '.join(WORDS)}")
    paths = {fault.part for fault in faults_of(saga)}
    for place in (where, where.removeprefix(f"{saga.name}-")):
        for verb in (EXECUTE, COMPENSATE, PROBE):
            path = place.removeprefix(_VERBS[verb])
            if place.startswith(_VERBS[verb]) and path in paths:
                return Fault(path, kind, verb, once)
    raise DefinitionError(
        f"saga {saga.name!r} has no step for the fault {name!r}; its parts are {', '.join(sorted(paths))}"
    )


def pairs_of(first: FaultPlan, reached: Iterable[tuple[str, str]], faults: Iterable[Fault]) -> Iterator[FaultPlan]:
    """Plans that add one more fault to *first*: each of *faults* that strikes one of the *reached* calls.

    Args:
        first: The plan to add to.
        reached: The calls after the first fault of *first*, as (step, verb).
        faults: The faults to choose from.
    """
    after = set(reached)
    taken = {(fault.part, fault.verb) for fault in first.all}
    for fault in faults:
        place = (fault.part, fault.verb)
        if place in after and place not in taken:
            yield first.and_(fault)
