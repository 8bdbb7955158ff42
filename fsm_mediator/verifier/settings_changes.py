"""Settings that change during an execution: one answer is fed by a driver with other settings.

An execution reads the settings when an answer is fed to it. So any order of deployments is a sequence of answers under
different settings. The search tries fewer attempts, more attempts, a new timeout, and a removed timeout. It does not
change `on_failure`: only a mediator reads this setting, and the search tries a cancel of a branch in every situation.
The shape of a saga (paths, compensations, probes, the pivot, `repeatable`) cannot change, because the fingerprint would
change too.
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
    FEWER: "which now has only one attempt",
    MORE: "which now has one more attempt",
    TIMED: "which now has a time-out",
    UNTIMED: "which no longer has a time-out",
}

_SECONDS: Final = 1.0
"""The time-out of a part that gets a new time-out, in seconds."""


def changes_at(execution: Execution, part: Part) -> Iterator[str]:
    """The changes of the number of attempts (`FEWER`, `MORE`) that can change the next move of *execution*.

    *part*: the part of the current state.
    """
    attempts = (part.compensation_retry if execution.phase == COMPENSATING else part.retry).attempts
    if attempts is None or execution.attempt < attempts:
        yield FEWER
    elif execution.attempt == attempts:
        yield MORE


def timeout_change(part: Part) -> str:
    """The possible change of the timeout of *part*: `UNTIMED` if *part* has a timeout, otherwise `TIMED`."""
    has_one = (part.seconds if part.kind is Kind.SIGNAL else part.timeout) is not None
    return UNTIMED if has_one else TIMED


def with_timeout(part: Part) -> Part:
    """*part* with a timeout. If *part* already has a timeout, that timeout stays."""
    if part.kind is Kind.SIGNAL:
        return replace(part, seconds=part.seconds or _SECONDS)
    return part if part.timeout is not None else replace(part, timeout=_SECONDS, grace=_SECONDS)


def under_changed_settings(action: Action, part: Part, settings: str) -> Action:
    """A copy of *action* in which the driver has other settings of *part*. *settings*: the change, such as `FEWER`."""
    label = f"{action.label}, at {part.path}, {_WORDS[settings]}"
    return action._replace(label=label, observation=f"{action.observation} with {settings}", settings=settings)


@functools.lru_cache(maxsize=8)
def with_settings(saga: Saga, settings: str) -> Saga:
    """A copy of *saga* with changed settings of all parts. *settings*: the change, such as `FEWER`."""
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
    """Inside of the ``with`` block, *execution* has the settings of *action*. Then its own settings are restored."""
    saga = execution.saga
    if action.settings:
        _use(execution, with_settings(saga, action.settings))
    yield
    if action.settings:
        _use(execution, saga)


def _use(execution: Execution, saga: Saga) -> None:
    """Replace the definition of *execution* by *saga*, which has the same shape."""
    execution.saga = saga
    machine = saga.machine if execution.state in saga.machine.states else saga.widest_machine
    execution.use_machine(machine)
    entered = machine.states[execution.state].on_enter
    execution.effect = next((each for each in entered if isinstance(each, Effect)), None)
