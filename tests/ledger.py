"""Participants that do what a script says, and the ledger they keep: of what was called, and what has which effect.

The library never sees the ledger. It is the oracle of the laws: what it holds is what really happened.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st
from msgspec.structs import replace

from fsm_mediator import (
    Context,
    Happened,
    NotHappened,
    OutcomeUnknownError,
    RefusedError,
    Retry,
    RetryAfterError,
    Saga,
    Step,
    StepRejectedError,
)
from tests.drivers import Died

SAGA_ID = "s"
PAYLOAD = {"amount": 3}
TIMEOUT = 4.0
WAIT = Retry(wait_initial=1.0, wait_max=8.0, wait_jitter=1.0)


@attrs.frozen
class Act:
    """What one call does: *kind*, whether it took effect, and whether it first asks for the saga to be cancelled."""

    kind: str
    effect: bool = False
    cancels: bool = False

    @property
    def leaves_doubt(self) -> bool:
        """Whether nobody who waits for it can know if it took effect."""
        return self.kind in ("lost", "unknown", "no answer", "slow", "dies", "outlasts")


GOOD = Act("returns", effect=True)


@attrs.frozen(kw_only=True)
class Role:
    """One step: its settings, and what its calls do, one after the other; after the last, all goes well."""

    name: str
    compensates: bool
    pivot: bool
    forward_only: bool
    probes: bool
    repeatable: bool
    attempts: int | None
    compensation_attempts: int
    timed: bool
    overtakes: bool = True
    plain: bool
    execute: tuple[Act, ...]
    compensate: tuple[Act, ...]
    probe: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Plan:
    """A saga, and everything that will happen to it."""

    roles: tuple[Role, ...]
    nested: tuple[int, int] | None
    deadline: float | None
    verbs: tuple[str, ...]
    undo: bool

    def paths(self) -> list[str]:
        """The paths of the steps, in order."""
        return [f"{self.scope(i)}{role.name}" for i, role in enumerate(self.roles)]

    def scope(self, i: int) -> str:
        """What stands before the name of the step."""
        return "inner." if self.nested and self.nested[0] <= i < self.nested[1] else ""


acts = st.builds(
    Act,
    st.sampled_from(
        ["returns", "raises", "raises", "rejects", "later", "lost", "unknown", "no answer", "slow", "dies"]
    ),
    st.booleans(),
    st.sampled_from([False] * 9 + [True]),
).map(lambda act: attrs.evolve(act, effect=(act.effect and act.leaves_doubt) or act.kind == "returns"))


def plans(max_size: int = 12) -> st.SearchStrategy[Plan]:
    """Sagas of up to *max_size* steps, and what happens to them. It shrinks towards few steps that return."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Plan:
        size = draw(st.integers(1, max_size))
        pivot = draw(st.sampled_from([None, None, None, draw(st.integers(0, size - 1))]))
        roles = []
        for i in range(size):
            # Most steps are good: else no saga of many steps would ever come far.
            trouble = draw(st.sampled_from([False, False, True]))
            forward_only = pivot is not None and i > pivot
            compensates = draw(st.booleans() if size == 1 else st.sampled_from([True, True, False]))
            role = Role(
                name=f"s{i}",
                compensates=compensates and i != pivot and not forward_only,
                pivot=i == pivot,
                forward_only=forward_only,
                probes=draw(st.sampled_from([False, False, True])),
                repeatable=draw(st.sampled_from([True, True, False])),
                attempts=draw(st.sampled_from([3, 1, 2, None])),
                compensation_attempts=draw(st.sampled_from([3, 1, 2])),
                timed=False,
                plain=draw(st.booleans()),
                execute=tuple(draw(st.lists(acts, max_size=4)) if trouble else ()),
                compensate=tuple(draw(st.lists(acts, max_size=4)) if draw(st.booleans()) else ()),
                probe=tuple(
                    draw(st.lists(st.sampled_from(["tells", "raises", "nonsense", "slow", "dies"]), max_size=3))
                ),
            )
            slow = any(act.kind == "slow" for act in (*role.execute, *role.compensate)) or "slow" in role.probe
            roles.append(attrs.evolve(role, timed=slow))
        if all(not role.execute for role in roles):  # somebody has to make trouble
            last = draw(st.integers(0, size - 1))
            roles[last] = attrs.evolve(roles[last], execute=(draw(acts.filter(lambda act: act.kind != "slow")),))
        first = draw(st.none() | st.integers(0, size - 1))
        nested = None if first is None else (first, draw(st.integers(first + 1, size)))
        return Plan(
            roles=tuple(roles),
            nested=nested,
            deadline=draw(st.sampled_from([None, None, None, None, 1.0, 5.0])),
            verbs=tuple(draw(st.lists(st.sampled_from(["retry", "done", "undone"]), max_size=6))),
            undo=draw(st.booleans()),
        )

    return drawn()


@attrs.define
class Call:
    """One call of a participant, as the ledger noted it when it began."""

    verb: str
    path: str
    attempt: int
    at: float
    act: str
    after_cancel: bool


@attrs.define
class Position:
    """What the participants know of one step."""

    effect: bool = False
    """Its effect is there."""
    done: bool = False
    """It has answered, or was found, or a person says so: its effect is known of."""
    result: Any = None
    doubt: bool = False
    """A call may have had an effect that nobody saw."""
    compensated: bool = False
    by_hand: bool = False
    keys: set[str] = attrs.Factory(set)


class Ledger:
    """What really happened; and what the library told the participants that was not so."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.at = dict(zip(plan.paths(), plan.roles, strict=True))
        self.steps = {path: Position() for path in self.at}
        self.calls: list[Call] = []
        self.undone: list[str] = []
        self.cancelled = False
        self.operated = False
        self.asked: list[tuple[Call, bool]] = []
        self.untrue: list[str] = []
        self.left_behind: list[threading.Thread] = []
        self._played: dict[tuple[str, str], int] = {}

    def begins(self, verb: str, payload: Any, context: Context, now: float) -> Any:
        """A call begins: what it is to do. What the context says is held against what is so."""
        path = context.step
        role, step = self.at[path], self.steps[path]
        script: Sequence[Any] = {"execute": role.execute, "compensate": role.compensate, "probe": role.probe}[verb]
        number = self._played.get((path, verb), 0)
        self._played[path, verb] = number + 1
        act: Any = script[number] if number < len(script) else ("tells" if verb == "probe" else GOOD)
        self.calls.append(Call(verb, path, context.attempt, now, getattr(act, "kind", act), self.cancelled))
        step.keys.add(context.execute_key)
        self._true(context.verb == verb, f"{verb} of {path} was told to {context.verb}")
        self._true(payload == PAYLOAD, f"{verb} of {path} was given {payload!r}")
        self._true(context.saga_id == SAGA_ID, f"{path} was told the id {context.saga_id}")
        own = f"{SAGA_ID}:{path}:{'compensate' if verb == 'compensate' else 'execute'}"
        self._true(context.idempotency_key == own, f"{verb} of {path} got the key {context.idempotency_key}")
        self._true(context.in_doubt is step.doubt, f"{verb} of {path} was told in_doubt={context.in_doubt}")
        self._true(dict(context.results) == self.results(path), f"{path} saw the results {dict(context.results)}")
        if verb == "compensate":
            known = step.result if step.done else None
            self._true(context.result == known, f"compensate of {path} was told the result {context.result!r}")
            self._true(context.error is not None, f"compensate of {path} was not told why")
        else:
            self._true(context.result is None, f"{verb} of {path} was told a result")
            self._true(context.error is None, f"{verb} of {path} was told an error")
        return act

    def results(self, path: str) -> dict[str, Any]:
        """What a step may see: what the steps of its own saga are known to have returned, a nested one's together."""
        inside = path.startswith("inner.")
        seen: dict[str, Any] = {}
        for other, step in self.steps.items():
            if not step.done:
                continue
            scope, _, name = other.rpartition(".")
            if inside and scope:
                seen[name] = step.result
            elif not inside and scope:
                seen.setdefault("inner", {})[name] = step.result
            elif not inside:
                seen[name] = step.result
        return seen

    def _true(self, so: bool, otherwise: str) -> None:
        if not so:
            self.untrue.append(otherwise)

    # What calls do

    def outlasts(self, path: str, verb: str) -> None:
        """A call is left behind: it will take effect later, or not."""
        self.steps[path].doubt = self.steps[path].doubt or verb == "execute"
        self.left_behind.append(threading.current_thread())

    def executes(self, path: str, act: Act) -> Any:
        """`execute` takes its effect, or not. A participant knows the key: done twice is done once."""
        step = self.steps[path]
        if act.effect:
            step.effect = True
        if act.kind in ("returns", "late"):
            step.done, step.doubt, step.result = True, False, f"{path} did"
        elif act.leaves_doubt:
            step.doubt = True
        return step.result

    def compensates(self, path: str, act: Act) -> None:
        """`compensate` undoes the effect, or not."""
        step = self.steps[path]
        if act.effect:
            step.effect = False
        if act.kind in ("returns", "late"):
            step.compensated, step.doubt = True, False
            self.undone.append(path)

    def probes(self, path: str) -> Happened | NotHappened:
        """The probe looks whether the effect is there."""
        step = self.steps[path]
        step.doubt = False
        if step.effect:
            step.done, step.result = True, f"{path} was found"
            return Happened(step.result)
        return NotHappened()

    # What a person does

    def a_person_is_asked(self, path: str) -> None:
        """The saga is stuck in this step; remember what was called last, and whether its effect is in doubt."""
        self.operated = True
        last = [call for call in self.calls if call.path == path and call.verb != "probe"][-1]
        self.asked.append((last, self.steps[path].doubt))

    def by_hand(self, path: str, *, done: bool) -> Any:
        """A person sees to it that the step has its effect, or has none."""
        step = self.steps[path]
        step.effect, step.done, step.doubt, step.by_hand = done, done or step.done, False, True
        if done:
            step.result = f"{path} by hand"
        return step.result if done else None


class Actor(Step):
    """A step that plays its role."""

    def __init__(self, role: Role, ledger: Ledger, stage: Callable[[], Any]) -> None:
        self.name = role.name
        self.role = role
        self.ledger = ledger
        self.stage = stage
        """Who drives, once there is somebody."""
        self.pivot = role.pivot
        self.repeatable = role.repeatable
        self.retry = replace(WAIT, attempts=role.attempts)
        self.compensation_retry = replace(WAIT, attempts=role.compensation_attempts)
        self.timeout = TIMEOUT if role.timed else None
        self.overtake = role.overtakes

    def play(self, verb: str, payload: Any, context: Context) -> Generator[Any, None, Any]:
        """What a call does. It gives what it has to wait for, and returns or raises what the call returns or raises."""
        stage, ledger, path = self.stage(), self.ledger, context.step
        act = ledger.begins(verb, payload, context, stage.now())
        result: Any
        kind = getattr(act, "kind", act)
        if getattr(act, "cancels", False):
            try:
                yield stage.cancel(context.saga_id)
            except RefusedError:
                pass
            else:
                ledger.cancelled = True
        if kind == "late":
            stage.dawdle()
        elif kind == "outlasts":
            ledger.outlasts(path, verb)
            yield stage.outlast(2)
        if verb == "execute":
            result = ledger.executes(path, act)
        elif verb == "compensate":
            ledger.compensates(path, act)
            result = None
        else:
            result = ledger.probes(path) if kind == "tells" else "nonsense"
        if kind == "slow":
            yield stage.outlast()
        if kind in TROUBLE:
            error = TROUBLE[kind]()
            raise error
        return result


TROUBLE: dict[str, Callable[[], BaseException]] = {
    "raises": lambda: ValueError("it failed"),
    "rejects": lambda: StepRejectedError("no"),
    "later": lambda: RetryAfterError(5.0),
    "lost": lambda: ConnectionError("lost"),
    "unknown": lambda: OutcomeUnknownError("who knows"),
    "no answer": lambda: TimeoutError("no answer"),
    "dies": Died,
    "slow": lambda: AssertionError("it was waited for all the same"),
}


def plainly(verb: str) -> Callable[..., Any]:
    """A step's *verb* as a plain function."""

    def call(self: Actor, payload: Any, context: Context) -> Any:
        playing = self.play(verb, payload, context)
        try:
            while True:
                next(playing)
        except StopIteration as played:
            return played.value

    return call


def awaited(verb: str) -> Callable[..., Any]:
    """A step's *verb* as a coroutine function."""

    async def call(self: Actor, payload: Any, context: Context) -> Any:
        playing = self.play(verb, payload, context)
        await asyncio.sleep(0)
        try:
            waits = next(playing)
            while True:
                try:
                    await waits
                except RefusedError as error:
                    waits = playing.throw(error)
                else:
                    waits = next(playing)
        except StopIteration as played:
            return played.value

    return call


def cast(role: Role, ledger: Ledger, stage: Callable[[], Any], *, coroutines: bool) -> Step:
    """The step of a role: with the methods that it has, as plain functions or as coroutine functions."""
    call = awaited if coroutines and (role.timed or not role.plain) else plainly
    methods = {verb: call(verb) for verb in ("execute", "compensate", "probe")}
    if not role.compensates:
        del methods["compensate"]
    if not role.probes:
        del methods["probe"]
    return type("Cast", (Actor,), methods)(role, ledger, stage)  # type: ignore[no-any-return]


def staged(plan: Plan, ledger: Ledger, stage: Callable[[], Any], *, coroutines: bool) -> Saga:
    """The saga of the plan."""
    parts: list[Step | Saga] = [cast(role, ledger, stage, coroutines=coroutines) for role in plan.roles]
    if plan.nested is not None:
        first, last = plan.nested
        parts[first:last] = [Saga("inner", parts[first:last])]
    return Saga("plan", parts, deadline=plan.deadline)
