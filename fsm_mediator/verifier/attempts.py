"""Attempts: all possible outcomes of a call of a participant, including a crash of the driver around the call.

The possible outcomes of an attempt depend only on the settings of its part. So they are listed once for each part. Each
outcome is an action together with the name of a change to the ledger. In each situation, the named change is applied to
the current ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, Part
from fsm_mediator.records import Abandoned, Happened, NotHappened, Raised, Returned, TimedOut
from fsm_mediator.retry import Retry
from fsm_mediator.verifier.action import (
    ABANDONED,
    CRASH,
    CRASHED,
    DIES,
    DRIVER,
    POISON,
    POISONED,
    PROBE_CRASHES,
    PROBE_POISONED,
    REFUSED,
    REFUSED_RESULT,
    RETURNED,
    TIMED_OUT,
    Action,
    feed_answer,
)
from fsm_mediator.verifier.attempt_laws import result_of
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.troubles import Trouble, named_troubles, plain_troubles, unknown

_SAME: Final = "same"
_DOUBT: Final = "doubt"
_DONE: Final = "done"
_HIDDEN: Final = "hidden"
_KNOWN: Final = "known"
_DENIED: Final = "denied"
_RUNNING: Final = "running"
_BEGUN: Final = "begun"
_UNDONE: Final = "undone"
_UNDOING: Final = "undoing"
"""The names of the changes that an outcome can make to the ledger.

`_SAME`: no change. `_DOUBT`: the effect is in doubt, and did not happen. `_DONE`: the effect is in doubt, and happened.
`_HIDDEN`: the effect happened, and the saga does not suspect it. `_KNOWN`: the effect happened, and the saga knows it.
`_DENIED`: the probe answered that there is no effect. `_RUNNING`: the call was abandoned, and its thread may still run.
`_BEGUN`: a compensation began. `_UNDONE`: a compensation removed the effect. `_UNDOING`: a compensation was abandoned,
and its thread may still run.
"""

_NO_LEDGER: Final = EffectLedger((), ())


class Possible(NamedTuple):
    """A possible outcome of an attempt at one part. It does not depend on the ledger.

    Attributes:
        action: The action, without its ledger.
        change: The name of the change that the action makes to the ledger.
        needs: True if the part must have an effect for this action, False if it must have none. None if either is fine.
    """

    action: Action
    change: str
    needs: bool | None = None

    def under(self, ledgers: Changes) -> Action:
        """The action, with the ledger after it. *ledgers*: the changes to the ledger of one situation."""
        return Action(self.action[0], self.action[1], ledgers.after(self.change), *self.action[3:])


class Changes:
    """The changes to one ledger. The ledger after each change is computed once.

    Args:
        ledger: The ledger before the change.
        at: The number of the part that is called.
    """

    __slots__ = ("_at", "_ledger", "_made")

    def __init__(self, ledger: EffectLedger, at: int) -> None:
        self._ledger = ledger
        self._at = at
        self._made = {_SAME: ledger}

    def after(self, change: str) -> EffectLedger:
        """The ledger after the change with this name, such as `_DONE`."""
        made = self._made.get(change)
        if made is None:
            made = self._made[change] = self._after(change)
        return made

    def _after(self, change: str) -> EffectLedger:
        ledger, at = self._ledger, self._at
        if change == _DOUBT:
            return ledger if ledger.suspect else ledger._replace(suspect=True)
        if change == _DENIED:
            return ledger._replace(suspect=False)
        if change == _DONE:
            return ledger.with_(at, effect=True)._replace(suspect=True)
        if change == _HIDDEN:
            return ledger.with_(at, effect=True)
        if change == _KNOWN:
            return ledger.with_(at, effect=True, known=True)._replace(suspect=False)
        if change == _RUNNING:
            return ledger._replace(running=at, suspect=True)
        begun = ledger if ledger.undoing else ledger._replace(undoing=True)
        if change == _BEGUN:
            return begun
        if change == _UNDOING:
            return begun._replace(running=at)
        return begun.with_(at, effect=False, known=False)


def attempts_of(kind: str, part: Part, *, strict: bool, thorough: bool) -> list[Possible]:
    """All possible outcomes of a call of this *kind* at *part*.

    Args:
        kind: ``execute``, ``probe`` or ``compensate``.
        part: The part.
        strict: Whether the call may also raise after its effect without reporting doubt.
        thorough: Whether the call may also raise the rarer exceptions, as in `ActionModel`.
    """
    if kind == EXECUTE:
        listed = _execute(part, strict=strict, thorough=thorough)
    else:
        listed = (_probe if kind == PROBE else _compensate)(part, thorough=thorough)
    dies = Action(DIES, CRASH, _NO_LEDGER, crash=True, who=DRIVER, observation=CRASHED, doubt=True, repeats=True)
    suspect = _DOUBT if kind == EXECUTE else _SAME
    return [*listed, Possible(dies, suspect), *_drivers_die_again_and_again(kind, part)]


def _raised(name: str, trouble: Trouble) -> Action:
    """The action in which the call *name* raises the exception of *trouble*."""
    act = feed_answer(Raised(trouble.make()))
    return Action(
        *(f"{name} {trouble.words}", act, _NO_LEDGER),
        observation=trouble.observation,
        doubt=trouble.doubt,
        repeats=trouble.repeats,
        raises=trouble.make,
    )


def _answered(label: str, act: object, observation: str, **more: object) -> Action:
    return Action(label, act, _NO_LEDGER, observation=observation, **more)  # type: ignore[arg-type]


def _saying(action: Action, words: str) -> Action:
    return action._replace(label=f"{action.label}{words}")


def _without_and_with_effect(action: Action) -> Iterator[Possible]:
    yield Possible(_saying(action, ", without effect"), _DOUBT)
    yield Possible(_saying(action, ", after its effect"), _DONE)


def _execute(part: Part, *, strict: bool, thorough: bool) -> Iterator[Possible]:
    name, policy = part.path, part.retry
    result = result_of(part)
    yield Possible(_answered(f"{name} takes effect and returns", feed_answer(Returned(result)), RETURNED), _KNOWN)
    troubles = [*plain_troubles(part, policy), *unknown(part, policy)]
    if thorough:
        troubles += named_troubles(part, policy)
    for trouble in troubles:
        raised = _raised(name, trouble)
        if trouble.doubt:
            yield from _without_and_with_effect(raised)
            continue
        yield Possible(_saying(raised, ", without effect"), _SAME)
        if strict and not trouble.observation.startswith("rejected"):
            yield Possible(_saying(raised, ", after its effect and without reporting doubt"), _HIDDEN)
    refused = _answered(f"{name} takes effect and returns a value that is refused", REFUSED, REFUSED_RESULT, doubt=True)
    yield Possible(refused._replace(repeats=False), _DONE)
    if part.can_outlive_its_timeout:
        outlives = _answered(f"{name} outlives time-out and grace", feed_answer(Abandoned(1.0)), ABANDONED)
        yield Possible(outlives._replace(doubt=True, repeats=False), _RUNNING)
        late = _answered(f"{name} takes effect and returns late", feed_answer(Returned(result, True)), "late")
        yield Possible(late, _KNOWN)
        if thorough:
            yield from (Possible(each, _SAME) for each in _raised_late(part, policy, name, ", without effect"))
    if part.timeout is not None and not part.can_outlive_its_timeout:
        timed_out = _answered(f"{name} times out", feed_answer(TimedOut(part.timeout)), TIMED_OUT)
        yield from _without_and_with_effect(timed_out._replace(doubt=True, repeats=True))
    dies = _answered(f"the driver dies after the effect of {name}", CRASH, CRASHED, doubt=True, repeats=True)
    yield Possible(dies._replace(crash=True, who=DRIVER), _DONE)


def _raised_late(part: Part, policy: Retry, name: str, words: str) -> Iterator[Action]:
    """The actions in which a call raises an error or a refusal after the timeout, but within the grace period."""
    for trouble in plain_troubles(part, policy):
        if trouble.observation in ("raised", "rejected"):
            late = trouble._replace(words=f"{trouble.words} late", observation=f"{trouble.observation} late")
            act = feed_answer(Raised(trouble.make(), late=True))
            yield _saying(_raised(name, late)._replace(act=act), words)


def _probe(part: Part, *, thorough: bool) -> Iterator[Possible]:
    name = f"the probe of {part.path}"
    happened = _answered(f"{name} returns Happened", feed_answer(Returned(Happened(result_of(part)))), "happened")
    yield Possible(happened, _KNOWN, needs=True)
    denied = _answered(f"{name} returns NotHappened", feed_answer(Returned(NotHappened())), "not happened")
    yield Possible(denied, _DENIED, needs=False)
    troubles = [trouble for trouble in plain_troubles(part, part.retry) if trouble.observation == "raised"]
    if thorough:
        troubles += [each for each in plain_troubles(part, part.retry) if each.observation == "rejected"]
        troubles += [each for each in named_troubles(part, part.retry) if each.observation == "ended"]
        refused = _answered(
            f"{name} returns Happened with a result that is refused", REFUSED, REFUSED_RESULT, doubt=True
        )
        yield Possible(refused, _SAME, needs=True)
    for trouble in troubles:
        yield Possible(_raised(name, trouble)._replace(doubt=True, repeats=None), _SAME)
    nonsense = _answered(
        f"{name} returns neither Happened nor NotHappened", feed_answer(Returned()), RETURNED, doubt=True
    )
    yield Possible(nonsense, _SAME)
    if part.timeout is not None:
        timed_out = _answered(f"{name} times out", feed_answer(TimedOut(part.timeout)), TIMED_OUT, doubt=True)
        yield Possible(timed_out, _SAME)
    if thorough and part.can_outlive_its_timeout:
        outlives = _answered(f"{name} outlives time-out and grace", feed_answer(Abandoned(1.0)), ABANDONED)
        yield Possible(outlives._replace(doubt=True), _SAME)


def _compensate(part: Part, *, thorough: bool) -> Iterator[Possible]:
    name, policy = f"compensating {part.path}", part.compensation_retry
    yield Possible(_answered(f"{name} returns", feed_answer(Returned()), RETURNED), _UNDONE)
    troubles = [*plain_troubles(part, policy)]
    if thorough:
        troubles += named_troubles(part, policy)
    fails = [_raised(name, trouble) for trouble in troubles]
    if part.compensation_can_outlive_its_timeout:
        outlives = _answered(f"{name} outlives time-out and grace", feed_answer(Abandoned(1.0)), ABANDONED)
        yield Possible(outlives._replace(repeats=False), _UNDOING)
        yield Possible(_answered(f"{name} returns late", feed_answer(Returned(late=True)), "late"), _UNDONE)
        if thorough:
            fails += _raised_late(part, policy, name, "")
    elif part.timeout is not None:
        fails.append(_answered(f"{name} times out", feed_answer(TimedOut(part.timeout)), TIMED_OUT, repeats=True))
    for action in fails:
        yield Possible(_saying(action, ", without undoing the effect"), _BEGUN)
        yield Possible(_saying(action, ", after undoing the effect"), _UNDONE)
    dies = _answered(f"the driver dies after {name}", CRASH, CRASHED, repeats=True)
    yield Possible(dies._replace(crash=True, who=DRIVER), _UNDONE)


def _drivers_die_again_and_again(kind: str, part: Part) -> Iterator[Possible]:
    """Crashes of drivers that happen too often: more than `max_recoveries`, or in every attempt of a probe."""
    name = part.path
    after = [("before the effect", _SAME)]
    if kind == EXECUTE:
        after = [("before the effect", _DOUBT), ("after the effect", _DONE)]
    elif kind == COMPENSATE:
        after = [("before the effect", _BEGUN), ("after the effect", _UNDONE)]
    else:
        label = f"the probe of {name} kills its driver in every attempt"
        asked = _answered(label, PROBE_CRASHES, PROBE_POISONED, doubt=True)
        yield Possible(asked._replace(crash=True, who=DRIVER), _SAME)
    for when, change in after:
        label = f"every driver dies at {kind} {name}, {when}"
        poisoned = _answered(label, POISON, POISONED, doubt=True, repeats=False)
        yield Possible(poisoned._replace(crash=True, who=DRIVER), change)
