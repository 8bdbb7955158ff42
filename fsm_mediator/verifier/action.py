"""Action: one event of the search, such as an answer, a crash or a command of an operator."""

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
"""A function that applies an action to an execution. Its second argument is the time, in seconds since the epoch.

It returns the record that the execution made. None if there is no record.
"""

PARTICIPANT: Final = "participant"
DRIVER: Final = "driver"
OTHERS: Final = "others"
PERSON: Final = "person"
"""The origins of actions, for `Action.who`.

`PARTICIPANT`: the participant's code. `DRIVER`: the driver. `OTHERS`: writers to the inbox, and the clock. `PERSON`: an
operator.
"""

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
"""Frequent values of `Action.observation`.

`RETURNED`: the call returned. `REFUSED_RESULT`: the call returned, but its result was refused. `TIMED_OUT`: the call
timed out. `DUE`: a wait is over. `CRASHED`: the driver died. `POISONED`: drivers died too often. `PROBE_POISONED`:
drivers died too often during a probe. `ABANDONED`: the call outlived its time-out and grace period. `CANCEL_COMES`: a
cancel comes. `SIBLING_FAILED`: a cancel comes because another branch failed. `DEADLINE_PASSES`: the deadline passes.
`LOOK`: the driver reads the statuses of the branches. `NOTHING`: the execution does not notice the action.
"""

JOIN_REFUSED: Final = f"{LOOK}, and their joined result is refused"

DIES: Final = "the driver dies before the effect"
"""The label of a crash between the record that announces an attempt and the start of this attempt."""


class Action(NamedTuple):
    """One event of the search.

    Attributes:
        label: The description of the action. In one situation, no two actions have the same label.
        act: The function that applies the action to an execution.
        ledger: The ledger after the action: the effects that really happened.
        crash: Whether the driver dies. A cycle with a crash breaks no law.
        again: Whether the action is a retry by an operator. A cycle with an operator's retry breaks no law.
        outside: Whether the cause of the action is not a call of the saga, but a cancel, a signal or the deadline. The
            records do not contain such a cause.
        who: The origin of the action, such as `PARTICIPANT`.
        observation: The part of the action that the execution notices. An execution reacts to equal observations
            equally.
        doubt: Whether the effect of the call is in doubt.
        repeats: Whether another attempt follows, if attempts are left. None if no attempt failed.
        raises: A function that makes the exception of the call. None if the call does not raise.
        item: The item that the action puts into the inbox. None if it puts no item there.
        settings: The changed settings of the driver during this action (`settings_changes`). Empty if nothing changed.
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
        """The observation, without the suffix for changed settings."""
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
"""The getter and the setter of each attribute of `ExecutionData`, for `copied`.

They make copies fast: the search copies one execution for each reaction.
"""


def feed_answer(answer: Answer) -> Act:
    """A function for `Action.act` that feeds *answer* to an execution."""
    return lambda execution, at: execution.feed(answer, at)


class _Refusing:
    """An `Encoding` that refuses every new result, as a journal refuses a result that is too large."""

    def accept_result(self, _part: Part, _value: Any) -> Any:
        raise ResultRefusedError("it cannot be journaled")


def join_refused(answer: Branches) -> Act:
    """A function for `Action.act` that feeds *answer*, while the journal refuses the joined result of the branches."""

    def act(execution: Execution, at: float) -> Record | None:
        encoding, execution.encoding = execution.encoding, cast("Encoding", _Refusing())
        try:
            return execution.feed(answer, at)
        finally:
            execution.encoding = encoding

    return act


def post_item(item: InboxItem) -> Act:
    """A function for `Action.act` that puts *item* into the inbox of the execution, and makes no record."""
    return lambda execution, _at: execution.receive(item)


def waiting_until(due_at: float) -> Act:
    """A function for `Action.act` that lets time pass, at least until *due_at* (seconds since the epoch)."""
    return lambda execution, at: execution.advance(max(at, due_at))


def waking_at(at: float) -> Act:
    """A function for `Action.act` that wakes a driver at *at* (seconds since the epoch), even during a wait."""
    return lambda execution, _at: execution.advance(at)


def passing_the_deadline(execution: Execution, at: float) -> None:
    """Set the deadline of the execution to the time *at*. The next call of `advance` acts on the deadline."""
    execution.deadline_at = at


def unobserved(_execution: Execution, _at: float) -> None:
    """Do nothing to the execution: the action changes only the ledger."""


REFUSED: Final = feed_answer(Raised(ResultRefusedError("it cannot be journaled")))
CRASH: Final = feed_answer(Crashed())
POISON: Final = feed_answer(Crashed(too_often=True))
PROBE_CRASHES: Final = feed_answer(Crashed(sys.maxsize))
