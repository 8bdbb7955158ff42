"""ExecutionData: the data of an execution, and queries on this data.

This module does not make moves: `rules` decides the event that follows from an answer, and `Execution` makes the move.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeAlias

from fsm_mediator.definition.saga import Saga, find_signal
from fsm_mediator.definition.steps import Context
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.execution.views import Encoding, FreshResults, Results
from fsm_mediator.machine.fast import DirectEvent
from fsm_mediator.machine.machine import CompiledMachine, StateInfo
from fsm_mediator.machine.parts import COMPENSATE, GROUPS, Effect, Kind, Part
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record
from fsm_mediator.states import (
    ENDED,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    is_within,
    name_of,
    names_of,
    outer_path,
    split_name,
)

STEP: Final = Kind.STEP
"""`Kind.STEP` as a constant, because the lookup in an enumeration is slow before Python 3.12."""

IMMUTABLE: Final = frozenset((NoneType, bool, int, float, str, bytes))
"""The types of values that a step cannot change, so that all attempts may share a value."""

PLACES_KEPT: Final = 10_000
"""The maximum number of paths for which `_place_of` keeps its result."""

Around: TypeAlias = Callable[[Callable[..., Any], Context], Callable[..., Any]]
"""The type of a function that wraps a user's function. It gets the user's function and the `Context` of the call."""

INTERRUPTIBLE: Final = frozenset({PENDING, EXECUTING, RETRYING, WAITING})
"""The phases in which a cancel or the deadline has an effect: between effects, never during an effect."""


class ExecutionData:
    """The data of one running instance of a saga: the state of its machine, and the data from its records and inbox.

    Attributes:
        saga: The definition.
        acceptance: The acceptance that created the execution: its saga, payload and time.
        saga_id: The id of the execution.
        machine: The machine of the saga. If this machine lacks the execution's state under the current settings, it is
            `Saga.widest_machine`, which has every possible state.
        places: The phase and the part of every state, copied from *machine*, because its attributes are slow to read.
        events: The events of *machine* by name, copied for the same reason.
        state: The machine's state. Only the machine sets it.
        effect: The next effect. None if the execution is pending, stuck or ended.
        seq: The number of the last record. 0 before the first record.
        attempt: The number of the last attempt that was announced: journaled before it began. From 1.
        doubt: Whether the current part is in doubt: it may have had its effect, although no answer says so.
        due_at: The end of the current wait, in seconds since the epoch. None if there is no wait, or it has no end.
        deadline_at: The deadline, in seconds since the epoch. None if there is none. An operator's retry removes it.
        failure: The error that started the compensation. None if there is no such error.
        trouble: The latest error of an attempt at the current part. None if there is no such error.
        history: All records so far, in order.
        answered: The result of each executed part, by path.
        compensated: The paths of the parts that were compensated, in that order.
        doubtful: The paths of the parts that were given up in doubt.
        plans: The names of the branches of each group that the execution has entered, by the group's path. None if it
            has entered no group.
        branch_leftovers: The leftovers of the branches of each compensated group, by the group's path. None if there
            are no leftovers.
        signals: The signals that have come and were not used yet, by path. None or empty if there are no such signals.
        cancel: The cancel that has come and has had no effect yet. None if there is no such cancel.
        consumed: The numbers of the inbox items that may be deleted, because they had their effect or are obsolete.
        forwarded: Signals for branches that came to the inbox of this execution, as (branch id, item). The next commit
            posts them to the branches.
        new_branches: The branches that the last record creates. The commit with this record also creates the branches.
        undecided: The exception of the current part's deciding function. None if the function returned an answer.
        poison: The error to raise instead of a call of the next deciding function, because drivers died repeatedly
            during calls of this function. None if the function may be called.
        parent_results: A function that returns the results that the parent had when the group began. Only for a branch
            that was made from a single step; otherwise None.
        encoding: The `Encoding` that makes copies of payloads and results, equal to the values that the journal
            returns. None if the journal does not encode values. Then all attempts share the same objects.
        around: A function that wraps a deciding function in the user's context managers. None if there are no context
            managers.
    """

    __slots__ = (
        *(
            "acceptance",
            "answered",
            "around",
            "attempt",
            "branch_leftovers",
            "cancel",
            "compensated",
            "consumed",
            "deadline_at",
        ),
        *("doubt", "doubtful", "due_at", "effect", "encoding", "events", "failure", "forwarded", "history"),
        *("machine", "new_branches", "parent_results", "places", "plans", "poison", "saga", "saga_id", "seq"),
        *("signals", "state", "trouble", "undecided"),
    )

    def __init__(self, saga: Saga, acceptance: Acceptance) -> None:
        self.saga = saga
        self.acceptance = acceptance
        self.saga_id: str = acceptance.saga_id
        self.state: str = PENDING
        self.effect: Effect | None = None
        self.seq = 0
        self.attempt = 0
        self.doubt = False
        self.due_at: float | None = None
        self.deadline_at: float | None = acceptance.deadline_at
        self.failure: Failure | None = None
        self.trouble: Failure | None = None
        self.history: list[Record] = []
        self.compensated: tuple[str, ...] = ()
        machine = saga.machine
        self.machine: CompiledMachine = machine
        self.places: dict[str, StateInfo] = machine.places
        self.events: dict[str, DirectEvent] = machine.events  # type: ignore[assignment]  # of `CompiledMachine.event_cls`
        self.answered: dict[str, Any] = {}
        self.doubtful: tuple[str, ...] = ()
        self.cancel: InboxItem | None = None
        self.consumed: tuple[int, ...] = ()
        self.forwarded: tuple[tuple[str, InboxItem], ...] = ()
        self.signals: dict[str, InboxItem] | None = None
        self.plans: dict[str, tuple[str, ...]] | None = None
        self.branch_leftovers: dict[str, tuple[str, ...]] | None = None
        self.new_branches: tuple[Acceptance, ...] = ()
        self.undecided: Exception | None = None
        self.poison: Exception | None = None
        self.parent_results: Callable[[], Mapping[str, Any]] | None = None
        self.encoding: Encoding | None = None
        self.around: Around | None = None

    def use_machine(self, machine: CompiledMachine) -> None:
        """Make all further moves with *machine*."""
        self.machine = machine
        self.places, self.events = machine.places, machine.events  # type: ignore[assignment]  # as above

    @property
    def phase(self) -> str:
        """The phase of the state, such as ``executing`` for ``executing.charge``."""
        return self.places[self.state].phase

    @property
    def ended(self) -> bool:
        """Whether the execution has succeeded or failed."""
        return self.state in ENDED

    @property
    def cancellable(self) -> bool:
        """Whether a cancel can make the execution compensate.

        False after the pivot, during compensation, if the execution is stuck, and if it has ended.
        """
        phase, part = self.places[self.state]
        return (phase in INTERRUPTIBLE or phase == PROBING) and not (part or self.saga.parts[0]).forward_only

    @property
    def is_interruptible(self) -> bool:
        """Whether a cancel has come, or there is a deadline. Both are checked before any other move."""
        return self.cancel is not None or self.deadline_at is not None

    @property
    def cancelled(self) -> bool:
        """Whether a cancel has come that has had no effect yet."""
        return self.cancel is not None

    @property
    def wake_at(self) -> float | None:
        """The time of the next call of `Execution.advance` if no inbox item comes, in seconds since the epoch.

        It is the end of the wait or the deadline. None if the execution waits for nothing, for branches, or without
        end.
        """
        if self.effect is None or self.effect.kind not in ("wait", "await") or self.effect.part.kind in GROUPS:
            return None  # the branches have the deadline themselves
        interruptible = self.phase in INTERRUPTIBLE and not self.effect.part.forward_only
        times = [time for time in (self.due_at, self.deadline_at if interruptible else None) if time is not None]
        return min(times, default=None)

    # Signals and branches

    def awaits_signal(self, path: str) -> bool:
        """Whether the execution waits for the signal at *path*, or will wait for the signal unless a step fails.

        A path ``GROUP.BRANCH.SIGNAL`` names a signal of a branch. The execution accepts such a signal until it enters
        the group. After that, only the branch accepts the signal.
        """
        if path in self.answered or self.failure is not None or self.state in ENDED:
            return False
        found = find_signal(self.saga, path)
        return found is not None and (found.group is None or found.group.path not in (self.plans or ()))

    @property
    def group(self) -> tuple[str, ...]:
        """The names of the branches of the current group. Empty if the execution is in no state of a group."""
        if self.plans is None:
            return ()
        part = self.places[self.state].part
        return self.branches_of(part.path) if part is not None else ()

    def branches_of(self, path: str) -> tuple[str, ...]:
        """The names of the branches of the group at *path*. Empty if the execution has not entered the group."""
        return self.plans.get(path, ()) if self.plans is not None else ()

    @property
    def decides_next(self) -> bool:
        """Whether the next move forward calls a deciding function. True only in a pending or waiting execution."""
        phase, part = self.places[self.state]
        parts = self.saga.parts
        following = 0 if part is None else parts.index(part) + 1
        return phase in (PENDING, WAITING) and following < len(parts) and parts[following].decide is not None

    # Results

    @property
    def results(self) -> Mapping[str, Any]:
        """The result of each step, by name. The results of a nested saga are in a dictionary under its name."""
        return nested_results(self.answered, "") if self.saga.nested else self.answered

    def results_seen_by(self, part: Part) -> Mapping[str, Any]:
        """The results that *part* can read, by name: those of the parts before it. The mapping is read-only.

        A part of a nested saga can read only the results of its own saga.
        """
        if self.encoding is not None:
            return self._fresh_results(part.scope, self.encoding)
        results = nested_results(self.answered, part.scope) if self.saga.nested else Results(self.answered)
        return MappingProxyType(
            results if self.parent_results is None else Results({**self.parent_results(), **results})
        )

    def _fresh_results(self, scope: str, encoding: Encoding) -> FreshResults:
        saga, answered = self.saga, self.answered
        parent = {} if self.parent_results is None else self.parent_results()

        def load(name: str) -> Any:
            path = scope + name
            if path in answered:
                return encoding.result(saga.part(path), answered[path])
            inside = {
                each: encoding.result(saga.part(each), value)
                for each, value in answered.items()
                if is_within(each, path)
            }
            return nested_results(inside, f"{path}.") if inside else parent[name]

        own: Iterable[str] = answered
        if saga.nested:
            own = (split_name(path.removeprefix(scope))[0] for path in answered if path.startswith(scope))
        return FreshResults((*parent, *own), load)

    def payload_seen(self) -> Any:
        """The payload for one attempt, or for one call of a deciding function. With `encoding`, a new copy."""
        payload = self.acceptance.payload
        if self.encoding is None or payload.__class__ in IMMUTABLE:
            return payload
        return self.encoding.payload(self.saga, payload)

    def context(self, effect: Effect) -> Context:
        """The `Context` for the function of the step that *effect* calls."""
        part = effect.part
        compensating = effect.kind == COMPENSATE
        return Context(
            self.saga_id,
            part.path,
            self.attempt,
            effect.kind,
            self.results_seen_by(part),
            self._result_seen(part) if compensating else None,
            self.doubt,
            self.failure if compensating else None,
            self.seq,
        )

    def _result_seen(self, part: Part) -> Any:
        if self.encoding is None or part.path not in self.answered:
            return self.answered.get(part.path)
        return self.encoding.result(part, self.answered[part.path])

    @property
    def leftovers(self) -> tuple[str, ...]:
        """The paths of the parts with an effect, or a possible effect, that no compensation undoes, in saga order."""
        found: list[str] = []
        for part in self.saga.parts:
            path = part.path
            if part.kind is STEP:
                if path in self.doubtful or (path in self.answered and not part.compensatable):
                    found.append(path)
            elif path in self.doubtful:  # the group was given up, with its branches
                found.append(path)
            elif self.branch_leftovers is not None:
                found += self.branch_leftovers.get(path, ())
        return tuple(found)

    def outcome(self) -> Outcome:
        """The `Outcome` of the execution so far: its state, results, error and history."""
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
        saga, answered = self.saga, self.answered
        results = nested_results(answered, "") if saga.nested else Results(answered)
        return Outcome(self.saga_id, saga, state, results, error, leftovers, self.compensated, tuple(self.history))

    def __repr__(self) -> str:
        return f"<Execution {self.saga_id!r} of {self.saga.name!r}: {self.state}>"


def nested_results(answered: Mapping[str, Any], scope: str) -> dict[str, Any]:
    """The results in *answered* (by path) as nested dictionaries by name.

    *scope*: the prefix of a nested saga's paths. Only its results are returned. Empty for the whole saga.
    """
    seen: dict[str, Any] = Results()
    last, inside, depth = None, seen, 0
    if scope:
        depth = scope.count(".")
        answered = {path: value for path, value in answered.items() if path.startswith(scope)}
    for path, value in answered.items():
        try:
            outer, name = known_places[path]
        except KeyError:
            outer, name = _place_of(path)
        if outer is not last:  # mostly the part before is in the same nested saga
            last, inside = outer, seen
            for each in outer[depth:] if depth else outer:
                inside = inside.setdefault(each, {})
        inside[name] = value
    return seen


known_places: dict[str, tuple[tuple[str, ...], str]] = {}
"""The results of `_place_of`, by path, because every outcome needs them. So all outcomes share the strings."""


def _place_of(path: str) -> tuple[tuple[str, ...], str]:
    """The names of the nested sagas that contain the part at *path*, and the name of the part."""
    if len(known_places) >= PLACES_KEPT:
        known_places.clear()
    known_places[path] = place = (_names_of(outer_path(path)), sys.intern(name_of(path)))
    return place


@functools.lru_cache(maxsize=PLACES_KEPT)
def _names_of(path: str) -> tuple[str, ...]:
    """The names in *path*. The parts of a nested saga share one tuple."""
    return tuple(map(sys.intern, names_of(path))) if path else ()
