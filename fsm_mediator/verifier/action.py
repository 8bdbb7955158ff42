"""Action: one event of the search, with its label, its effect on an execution, and the ledger after it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from fsm_mediator.errors import ResultRefusedError
from fsm_mediator.execution.data import ExecutionData
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.views import Encoding
from fsm_mediator.machine.parts import Part
from fsm_mediator.records import Answer, Branches, Crashed, InboxItem, Raised, Record
from fsm_mediator.verifier.effect_ledger import EffectLedger

Act = Callable[[Execution, float], Record | None]
"""Applies an action to an execution, at a time in seconds since the epoch."""

PARTICIPANT: Final = "participant"
DRIVER: Final = "driver"
OTHERS: Final = "others"
PERSON: Final = "person"
"""The origin of an action: the participant's code, the driver, a writer to the inbox (or a clock), an operator."""

RETURNED: Final = "returned"
REFUSED_RESULT: Final = "refused"
TIMED_OUT: Final = "timed out"
DUE: Final = "due"
CRASHED: Final = "crashed"
POISONED: Final = "poisoned"
PROBE_POISONED: Final = "probe poisoned"
ABANDONED: Final = "abandoned"
CANCEL_COMES: Final = "cancel"
SIBLING_FAILED: Final = "cancel for a branch that failed"
DEADLINE_PASSES: Final = "deadline"
LOOK: Final = "look"
NOTHING: Final = "nothing"
"""Observations of a call: it returns, its result is refused, it times out, or it outlives time-out and grace. The
driver died, or it died too often, anywhere or in a probe. The wait is over, a cancel comes, another branch failed, or
the deadline passes. The driver looks at the branches. Nothing happens."""

JOIN_REFUSED: Final = f"{LOOK}, and their joined result is refused"

DIES: Final = "the driver dies before it begins"
"""A label: the announced attempt was not begun."""


class Action(NamedTuple):
    """One event of the search: its label, its effect on the execution, and the ledger after it.

    Attributes:
        crash: Whether the driver dies. Crashes may form cycles.
        again: Whether an operator retries. Retries may form cycles.
        outside: Whether the records do not contain the action's cause.
        who: The origin of the action.
        observation: The visible part of the action. An execution reacts in the same way to equal observations.
        doubt: Whether the call's effect is in doubt.
        repeats: Whether another attempt follows, if attempts are left. None if no attempt failed.
        raises: Makes the exception of a call that raises.
        item: The item for the inbox.
        settings: The changed settings of the driver at this moment (`settings_changes`).
    """

    label: str
    act: Act
    ledger: EffectLedger
    crash: bool = False
    again: bool = False
    outside: bool = False
    who: str = PARTICIPANT
    observation: str = ""
    doubt: bool = False
    repeats: bool | None = None
    raises: Callable[[], BaseException] | None = None
    item: InboxItem | None = None
    settings: str = ""

    @property
    def seen(self) -> str:
        """The observation, without the settings."""
        return self.observation.removesuffix(f" with {self.settings}") if self.settings else self.observation


def copied(execution: Execution) -> Execution:
    """A copy of *execution*, in the same state."""
    other = Execution.__new__(Execution)
    for get, put in _SLOTS:
        put(other, get(execution))
    other.history = list(execution.history)
    other.answered = dict(execution.answered)
    if execution.signals is not None:
        other.signals = dict(execution.signals)
    return other


_SLOTS: Final = tuple(
    (slot.__get__, slot.__set__) for slot in (vars(ExecutionData)[name] for name in ExecutionData.__slots__)
)
"""The getter and the setter of each attribute: a copy is made for every reaction."""


def feed_answer(answer: Answer) -> Act:
    """Feed *answer* to the execution."""
    return lambda execution, at: execution.feed(answer, at)


class _Refusing:
    """A journal that refuses every joined result."""

    def accept_result(self, _part: Part, _value: Any) -> Any:
        raise ResultRefusedError("it cannot be journaled")


def join_refused(answer: Branches) -> Act:
    """Feed *answer*. The journal accepts each single result of the branches, but refuses all of them together."""

    def act(execution: Execution, at: float) -> Record | None:
        encoding, execution.encoding = execution.encoding, cast("Encoding", _Refusing())
        try:
            return execution.feed(answer, at)
        finally:
            execution.encoding = encoding

    return act


def post_item(item: InboxItem) -> Act:
    """Put *item* into the inbox of the execution."""
    return lambda execution, _at: execution.receive(item)


def waiting_until(due_at: float) -> Act:
    """Let time pass, at least until *due_at*."""
    return lambda execution, at: execution.advance(max(at, due_at))


def waking_at(at: float) -> Act:
    """Wake a driver at the time *at*, whether or not the wait is over."""
    return lambda execution, _at: execution.advance(at)


def passing_the_deadline(execution: Execution, at: float) -> None:
    """Set the deadline of the execution to now. `advance` acts on it."""
    execution.deadline_at = at


def unobserved(_execution: Execution, _at: float) -> None:
    """Do nothing to the execution: the action changes only the ledger."""


REFUSED: Final = feed_answer(Raised(ResultRefusedError("it cannot be journaled")))
CRASH: Final = feed_answer(Crashed())
POISON: Final = feed_answer(Crashed(too_often=True))
PROBE_CRASHES: Final = feed_answer(Crashed(sys.maxsize))
