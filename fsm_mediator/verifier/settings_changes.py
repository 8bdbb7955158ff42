"""Settings that change during an execution: a driver with other settings takes one answer.

Settings are read when an answer is taken. So any order of deployments is a sequence of answers under other settings:
with fewer or more attempts, with a new timeout, or without the earlier timeout. `on_failure` needs no action, because
only a mediator reads it, and the search tries a cancel of a branch in every situation. The shape of a saga (paths,
compensations, probes, the pivot, `repeatable`) cannot change, because the fingerprint identifies it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import Effect, Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.states import COMPENSATING
from fsm_mediator.verifier.action import Action
from fsm_mediator.verifier.choices import saga_of_parts

FEWER: Final = "fewer"
MORE: Final = "more"

TIMED: Final = "a time-out"
UNTIMED: Final = "no time-out"

_WORDS: Final = {
    FEWER: "which has only one attempt by now",
    MORE: "which has one attempt more by now",
    TIMED: "which has a time-out by now",
    UNTIMED: "which has no time-out any more",
}

_SECONDS: Final = 1.0
"""The time-out of a part that has got one."""


def changes_at(execution: Execution, part: Part) -> Iterator[str]:
    """The changes of the number of attempts that matter to *execution*, which is at *part*."""
    attempts = (part.compensation_retry if execution.phase == COMPENSATING else part.retry).attempts
    if attempts is None or execution.attempt < attempts:
        yield FEWER
    elif execution.attempt == attempts:
        yield MORE


def timeout_change(part: Part) -> str:
    """The change of the timeout of *part*, a step or a signal. It gets a timeout, or loses its timeout."""
    has_one = (part.seconds if part.kind is Kind.SIGNAL else part.timeout) is not None
    return UNTIMED if has_one else TIMED


def with_timeout(part: Part) -> Part:
    """A copy of *part* with a timeout."""
    if part.kind is Kind.SIGNAL:
        return replace(part, seconds=part.seconds or _SECONDS)
    return part if part.timeout is not None else replace(part, timeout=_SECONDS, grace=_SECONDS)


def under_changed_settings(action: Action, part: Part, settings: str) -> Action:
    """*action*, taken by a driver with these settings."""
    label = f"{action.label}, at {part.path}, {_WORDS[settings]}"
    return action._replace(label=label, observation=f"{action.observation} with {settings}", settings=settings)


@functools.lru_cache(maxsize=8)
def with_settings(saga: Saga, settings: str) -> Saga:
    """A copy of *saga* with these settings."""
    return saga_of_parts(saga, tuple(_changed(part, settings) for part in saga.parts))


def _changed(part: Part, settings: str) -> Part:
    if settings in (TIMED, UNTIMED):
        if part.kind not in (Kind.STEP, Kind.SIGNAL):
            return part
        if settings == TIMED:
            return with_timeout(part)
        return replace(part, **({"seconds": None} if part.kind is Kind.SIGNAL else {"timeout": None, "grace": None}))
    return replace(
        part,
        retry=_allowing(part.retry, settings),
        compensation_retry=_allowing(part.compensation_retry, settings),
    )


def _allowing(policy: Retry, settings: str) -> Retry:
    if settings == FEWER:
        return replace(policy, attempts=1)
    return policy if policy.attempts is None else replace(policy, attempts=policy.attempts + 1)


@contextmanager
def settings_of(action: Action, execution: Execution) -> Iterator[None]:
    """While this lasts, give *execution* the settings of *action*. Then restore its own settings."""
    saga = execution.saga
    if action.settings:
        _use(execution, with_settings(saga, action.settings))
    yield
    if action.settings:
        _use(execution, saga)


def _use(execution: Execution, saga: Saga) -> None:
    """Give *execution* the definition *saga*, which has the same shape."""
    execution.saga = saga
    machine = saga.machine if execution.state in saga.machine.states else saga.widest_machine
    execution.use_machine(machine)
    entered = machine.states[execution.state].on_enter
    execution.effect = next((each for each in entered if isinstance(each, Effect)), None)
