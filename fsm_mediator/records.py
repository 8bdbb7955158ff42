"""The data types that all modules share: records, acceptances, answers and inbox items.

This file must contain no rules and no I/O. Times are seconds since the epoch, as floats.
"""

from __future__ import annotations

import linecache
import textwrap
import traceback
from typing import Any, Final, Self, TypeAlias

import msgspec

from fsm_mediator.error_types import (
    DeadlineExceededError,
    MediatorError,
    RecordedError,
    SagaAbandonedError,
    SagaCancelledError,
    SagaUndoneError,
    SiblingFailedError,
)


class Failure:
    """An error as the journal stores it: the type's name, the message, and the traceback as text.

    If the exception still exists, *exception* has it, and its type and traceback become text when they are first read.

    Attributes:
        message: ``str()`` of the exception.
        exception: The exception itself. None if it no longer exists, for example if the failure comes from a journal.
    """

    __slots__ = ("_traceback", "_type", "exception", "message")

    def __init__(self, type: str, message: str = "", traceback: str = "") -> None:
        self._type: str | None = type
        self.message: str = message
        self.exception: BaseException | None = None
        self._traceback: str | None = traceback

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """A failure that describes the exception *error*."""
        failure = cls.__new__(cls)
        failure.exception = error
        if error.__class__ is RecordedError:
            failure._type, failure.message, failure._traceback = error.type, error.message, error.traceback
            return failure
        failure._type = failure._traceback = None
        try:
            failure.message = str(error)
        except Exception as broken:
            failure.message = f"<its __str__ raised {broken.__class__.__name__}>"
        return failure

    @property
    def type(self) -> str:
        """The name of the exception's type, with its module unless the module is ``builtins``."""
        if self._type is None:
            kind = self.exception.__class__
            self._type = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        return self._type

    @property
    def traceback(self) -> str:
        """The traceback as text. Empty if it was not kept."""
        if self._traceback is None:
            assert self.exception is not None
            try:
                self._traceback = render_traceback(self.exception)
            except Exception as broken:
                self._traceback = f"<the traceback could not be rendered: {broken.__class__.__name__}>"
        return self._traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type, self.message, self.traceback)

    def raised(self) -> BaseException:
        """The exception itself, if it still exists. Otherwise a new error.

        If the library made the error (`SagaCancelledError`), the new error has this type. Otherwise: `RecordedError`.
        """
        if self.exception is not None:
            return self.exception
        own = _CAUSES.get(self.type)
        return own(self.message) if own is not None else RecordedError(self.type, self.message, self.traceback)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Failure):
            return NotImplemented
        return self.type == other.type and self.message == other.message

    def __hash__(self) -> int:
        return hash((self.type, self.message))

    def __repr__(self) -> str:
        return f"Failure({self.type!r}, {self.message!r})"

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


MOST_CAUSES: Final = 100
MOST_IN_GROUP: Final = 15
MOST_NESTED_GROUPS: Final = 10


def render_traceback(error: BaseException, depth: int = 0) -> str:
    """The traceback of *error* and of its causes as text, causes first. The time grows linearly with the text's length.

    The standard library is slower: it reads every source file again and parses each line to mark columns, which takes
    ten times as long for 20 frames. In a chain of causes, it also renders a cause several times.
    """
    blocks: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if len(seen) == MOST_CAUSES:
            blocks.append("(Earlier causes are left out.)\n")
            break
        seen.add(id(each))
        blocks.append(_render_without_causes(each, depth))
        if each.__cause__ is not None:
            blocks.append("\nThe above exception was the direct cause of the following exception:\n\n")
            each = each.__cause__
        elif each.__context__ is not None and not each.__suppress_context__:
            blocks.append("\nDuring handling of the above exception, another exception occurred:\n\n")
            each = each.__context__
        else:
            break
    else:
        del blocks[-1]  # the chain of causes is a circle
    return "".join(reversed(blocks))


def _render_without_causes(error: BaseException, depth: int) -> str:
    frames = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        linecache.lazycache(frame.f_code.co_filename, frame.f_globals)
        frames.append(traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name))
    text = "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames)) if frames else ""
    # Causes and members of a group are rendered apart. Without *_seen*, each would be rendered again for every error
    # that it leads to.
    others = {id(each) for each in (error.__cause__, error.__context__, *getattr(error, "exceptions", ()))}
    itself = traceback.TracebackException(type(error), error, None, _seen=others)
    itself.exceptions = None  # Python 3.13 reads it, but does not set it because of *_seen*
    text += "".join(itself.format_exception_only())
    if isinstance(error, BaseExceptionGroup) and depth < MOST_NESTED_GROUPS:
        for number, each in enumerate(error.exceptions[:MOST_IN_GROUP], 1):
            text += f"  +- {number} of {len(error.exceptions)}\n"
            text += textwrap.indent(render_traceback(each, depth + 1), "  | ", lambda _line: True)
    return text


_CAUSES: Final[dict[str, type[MediatorError]]] = {
    f"{cause.__module__}.{cause.__qualname__}": cause
    for cause in (
        *(SagaCancelledError, SiblingFailedError, DeadlineExceededError, SagaUndoneError),
        SagaAbandonedError,
    )
}
"""The errors that no step raises, by name. Each can be made again from its record, because its message has all data."""


class Record(msgspec.Struct, frozen=True):
    """One transition of one execution: a row of the journal.

    Attributes:
        saga_id: The id of the execution.
        saga: The saga's name.
        seq: The record's number in its execution. The first record has the number 1.
        event: The name of the transition, one of the machine's events.
        source: The state that was left.
        target: The state that was entered.
        at: The time of the transition, in seconds since the epoch.
        step: The path of the part to which *source* belongs. None for ``pending`` and ``succeeded``.
        attempt: The number of attempts that were begun in *source*. 0 if no attempts are made in that state.
        value: The step's result, the signal's value, or the result that a person gave. None if there is none.
        error: The error of the attempt, or an earlier error that this record repeats. None if there is no error.
        in_doubt: Whether the step may have had an effect, according to all that is known after this record.
        due_at: The end of the wait in *target*, in seconds since the epoch. None if there is no wait or no end.
        reason: An explanation from a person, or from the library for events that need an explanation.
        abandoned: Whether the attempt's thread outlived its timeout and grace, and may still be running.
        children: The names of the branches for which *target* waits, in order. None if *target* waits for no branches.
        actor: The name of the person or program that caused the record by a verb or a signal. None if not known.
        carrier: The trace context of the driver when it wrote the commit. Only the last record of a commit has it. None
            if there is no trace context.
    """

    saga_id: str
    saga: str
    seq: int
    event: str
    source: str
    target: str
    at: float
    step: str | None = None
    attempt: int = 0
    value: Any = None
    error: Failure | None = None
    in_doubt: bool = False
    due_at: float | None = None
    reason: str | None = None
    abandoned: bool = False
    children: tuple[str, ...] | None = None
    actor: str | None = None
    carrier: dict[str, str] | None = None


class Acceptance(msgspec.Struct, frozen=True):
    """The data with which an execution was accepted. It is written once, with or before the first record.

    Attributes:
        saga_id: The id of the execution.
        saga: The saga's name.
        version: The saga's version.
        fingerprint: The fingerprint of the saga's shape. Only a saga with the same fingerprint drives the execution.
        payload: The payload, which every step gets as an argument.
        at: The time at which the execution was accepted, in seconds since the epoch.
        deadline_at: The time by which the execution must succeed, in seconds since the epoch. None for no deadline.
        parent: The id of the parent, if the execution is a branch. Otherwise None.
        successor: The id of the branch of the same group that may begin when this branch has settled (``at_most``).
            None if no branch waits for this one.
        original: A copy of the original payload, if steps get the object itself and may change it. If the id is started
            again, the new payload is compared with the copy. Not journaled. UNSET if no copy is needed.
        notes: Notes that are written by the same commit as the acceptance. They are not part of the acceptance's row.
        carrier: The trace context in which the execution was accepted: ``traceparent`` and ``tracestate``. None if
            there was none.
    """

    saga_id: str
    saga: str
    version: str
    fingerprint: str
    payload: Any
    at: float
    deadline_at: float | None = None
    parent: str | None = None
    successor: str | None = None
    original: Any = msgspec.UNSET
    notes: tuple[Any, ...] = ()
    carrier: dict[str, str] | None = None


# The answers that `Execution.feed` takes: the results of an effect.


class Begin(msgspec.Struct, frozen=True):
    """The answer with which a driver begins a pending execution."""


class Returned(msgspec.Struct, frozen=True):
    """The called function returned *value*. *late* is whether it returned after its timeout, within the grace."""

    value: Any = None
    late: bool = False


class Raised(msgspec.Struct, frozen=True):
    """The called function raised *error*, which is not an interrupt.

    *late* is whether it raised after its timeout, within the grace.
    """

    error: BaseException
    late: bool = False


class TimedOut(msgspec.Struct, frozen=True):
    """The call gave no answer within *seconds*. The call has ended, or may still run during the next attempt."""

    seconds: float


class Abandoned(msgspec.Struct, frozen=True):
    """The thread of the call gave no answer within its timeout and grace, *seconds* in total, and may still run."""

    seconds: float


class Crashed(msgspec.Struct, frozen=True):
    """The driver that performed the effect has died, and the result is unknown.

    Attributes:
        times: The number of drivers that died since the execution's last record.
        too_often: Whether the drivers of the execution died so often, in total, that a person must decide.
    """

    times: int = 0
    too_often: bool = False


class Due(msgspec.Struct, frozen=True):
    """The time at which the wait ends has come."""


class Signalled(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The signal that the execution waits for has come."""

    value: Any = None
    actor: str | None = None


class Branch(msgspec.Struct, frozen=True, eq=False):
    """The status of one branch of a group.

    Attributes:
        name: The name of the branch.
        state: ``succeeded``, ``failed``, ``stuck``, ``running``, or ``not begun`` if the branch ended before it was
            created.
        result: The result, if the branch succeeded.
        error: The error, if the branch failed or is stuck.
        undoable: Whether the branch succeeded and can be compensated.
        leftovers: The steps with an effect, or a possible effect, that no compensation undoes.
    """

    name: str
    state: str
    result: Any = None
    error: BaseException | None = None
    undoable: bool = False
    leftovers: tuple[str, ...] = ()


class Branches(msgspec.Struct, frozen=True):
    """The status of all branches of the group that an execution waits for."""

    branches: tuple[Branch, ...]


# The answers by which an operator's verb changes an execution.


class OperatorRetry(msgspec.Struct, frozen=True):
    """A person has fixed the cause of the failure. The step is tried again, and its attempts are counted from one."""

    reason: str | None = None
    actor: str | None = None


class OperatorSettled(msgspec.Struct, frozen=True):
    """A person decided whether the step has taken effect (*done*). *reason* says how the person found out."""

    done: bool
    reason: str
    result: Any = None
    actor: str | None = None


class OperatorUndo(msgspec.Struct, frozen=True):
    """A person wants to undo a saga that has succeeded."""

    reason: str | None = None
    actor: str | None = None


Answer: TypeAlias = (
    Begin
    | Returned
    | Raised
    | TimedOut
    | Abandoned
    | Crashed
    | Due
    | Signalled
    | Branches
    | OperatorRetry
    | OperatorSettled
    | OperatorUndo
)

# The answers of probes.


class Happened(msgspec.Struct, frozen=True):
    """A probe's answer: the attempt took effect, and *result* is what `execute` would have returned."""

    result: Any = None


class NotHappened(msgspec.Struct, frozen=True):
    """A probe's answer: no attempt of this step has taken effect."""


# The inbox: messages to an execution.


class InboxItem(msgspec.Struct, frozen=True):
    """One row of an execution's inbox.

    Attributes:
        kind: ``cancel``, ``signal``, ``child`` (a branch has ended or is stuck), ``begin`` (a branch may begin),
            ``late`` (the late answer of an abandoned attempt), ``wake`` (a hold was removed). Or a verb: ``retry``,
            ``resolve`` or ``undo``.
        name: The signal's path, or the branch's name. For a cancel after the failure of a branch: the name of that
            branch. For a verb: a unique name, by which its answer is found.
        value: The signal's value, or the branch's state. For ``resolve``: a dictionary with ``done`` and ``result``.
        reason: The reason, in the sender's words.
        at: The time at which the item was sent, in seconds since the epoch.
        number: The number that the journal gave the item. A commit names the items that it consumes by their numbers.
        actor: The name of the person or program that sent the item. None if there is none.
        carrier: The trace context of the sender. None if there is none.
    """

    kind: str
    name: str = ""
    value: Any = None
    reason: str | None = None
    at: float = 0.0
    number: int = 0
    actor: str | None = None
    carrier: dict[str, str] | None = None


CANCEL: Final = "cancel"
SIGNAL: Final = "signal"
CHILD: Final = "child"
BEGIN: Final = "begin"
LATE: Final = "late"
WAKE: Final = "wake"
RETRY: Final = "retry"
RESOLVE: Final = "resolve"
UNDO: Final = "undo"
UNCHECKED: Final = "posted where the definition is not registered"
"""The reason in a signal whose value was not checked by its sender. The driver that reads the signal checks the value.
"""

VERBS: Final = frozenset((RETRY, RESOLVE, UNDO))
"""The verbs of operators. The driver that reads a verb journals the answer."""


class VerbAnswer(msgspec.Struct, frozen=True):
    """The answer of a driver to an operator's verb in an inbox.

    Attributes:
        number: The number that the verb had in the inbox.
        name: The unique name of the inbox item.
        seq: The number of the verb's record. None if the verb was refused.
        refusal: The reason of the refusal, as text. None if the verb was accepted.
        at: The time of the answer, in seconds since the epoch. An answer is kept for a day, or until it is deleted.
    """

    number: int
    name: str
    seq: int | None = None
    refusal: str | None = None
    at: float = 0.0
