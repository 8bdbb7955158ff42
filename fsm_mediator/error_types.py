"""All errors except the four that have an `Outcome`. This module imports nothing else of the library.

The modules of the lower layers, up to the folder ``execution``, import errors from this module. All other modules, and
users, import errors from ``errors``.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX
from collections.abc import Iterator
from typing import Any, Final


class MediatorError(Exception):
    """The base class of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, pickle calls the class with only the text, which a class with other parameters refuses. An error
        # that cannot be unpickled would break a whole pool of worker processes.
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[MediatorError], args: tuple[Any, ...], attributes: dict[str, Any]) -> MediatorError:
    error = kind.__new__(kind, *args)
    error.args = args  # `__new__` of OSError does not set `args`: its `__init__` does, and is not called here
    error.__dict__.update(attributes)
    return error


class DefinitionError(MediatorError, ValueError):
    """A step, a saga or a setting is wrong. The message names the mistake, its place, and the fix."""


class DefinitionWarning(UserWarning):
    """A definition is valid, but may not do what its author expects."""


class MissingExtraError(DefinitionError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: The extra of ``fsm-mediator`` that installs the dependency.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'fsm-mediator[{extra}]'")
        self.extra = extra


class StillRunningError(MediatorError, TimeoutError):
    """A caller's wait for an execution ended at its timeout. The execution continues.

    Attributes:
        saga_id: The id of the execution. ``mediator.outcome(saga_id)`` returns its outcome later.
        state: The state of the execution when the wait ended.
    """

    def __init__(self, saga_id: str, state: str, timeout: float, message: str = "") -> None:
        super().__init__(
            message
            or f"saga {saga_id!r} is still in {state!r} after {timeout:g} seconds; it continues in the background. "
            f"Ask for it with mediator.outcome({saga_id!r})"
        )
        self.saga_id = saga_id
        self.state = state


class StepSignalError(MediatorError):
    """The base class of the errors that a step raises to report more than a failure, such as an unknown outcome."""


class StepRejectedError(StepSignalError):
    """Raised by a step: the request was refused, there was no effect, and another attempt would not help."""


class OutcomeUnknownError(StepSignalError):
    """Raised by a step: the effect may or may not have happened."""


class RetryAfterError(StepSignalError):
    """Raised by a step: it failed without an effect, and the next attempt must not begin before *seconds* have passed.

    Attributes:
        seconds: The minimum wait, in seconds. The step's `Retry` may wait longer. The attempt counts as usual.

    Raises:
        DefinitionError: *seconds* is not a number of at least 0, or is more than this system can wait.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        try:
            possible = 0 <= seconds <= TIMEOUT_MAX
        except TypeError:
            possible = False
        if not possible:
            raise DefinitionError(
                f"RetryAfterError: seconds must be a number of at least 0 that this system can wait, "
                f"at most {TIMEOUT_MAX:g}, not {seconds!r}"
            )
        super().__init__(message or f"try again in {seconds:g} seconds")
        self.seconds = seconds


class AttemptError(MediatorError):
    """The base class of the errors that are recorded if an attempt, a wait or a decision gave no valid answer."""


class AttemptTimedOutError(AttemptError, TimeoutError):
    """An attempt did not answer within its timeout and grace."""


class AttemptCrashedError(AttemptError):
    """The process that drove an attempt ended before the answer was journaled."""


class ResultRefusedError(AttemptError):
    """A step took effect, but returned a value that the journal cannot store."""


class SignalTimedOutError(AttemptError, TimeoutError):
    """The signal that an execution waits for did not come before its timeout."""


class DecisionError(AttemptError):
    """The deciding function of a choice, a sleep or a group raised, or returned an invalid answer."""


class SagaCancelledError(MediatorError):
    """The reason why a saga failed: it was cancelled."""


class SiblingFailedError(SagaCancelledError):
    """A branch was cancelled because another branch of its group failed."""


class DeadlineExceededError(MediatorError):
    """The saga's deadline passed before it succeeded."""


class SagaUndoneError(MediatorError):
    """A person undid the saga after it had succeeded."""


class SagaAbandonedError(MediatorError):
    """A person gave up the saga because no driver could drive it. No effect was undone."""


class RecordedError(MediatorError):
    """Replaces an exception that exists only as a record, because it was raised in another process or long ago.

    Attributes:
        type: The name of the exception's type.
        message: The text of the exception.
        traceback: The traceback of the exception, as text.
    """

    def __init__(self, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback


class RefusedError(MediatorError):
    """A call is not possible in the current state of the execution or the mediator. The call changed nothing."""


class AlreadyDrivenError(RefusedError):
    """``retry``, ``resolve`` or ``undo`` was refused because the thread of an attempt that timed out still runs.

    If the journal cannot pass such a call on to the driver that owns the execution, the call is also refused while any
    driver owns it. ``abandon`` is refused while a living driver owns the execution.
    """


class InvalidSagaIdError(RefusedError, ValueError):
    """The text cannot be a saga_id: it is empty, is too long, or has reserved characters."""


class SagaIdTakenError(RefusedError, ValueError):
    """The id belongs to an execution of another saga or with another payload, or to a deleted execution."""


class MediatorClosedError(RefusedError):
    """The mediator was closed, and accepts no new work."""


class UnknownSagaError(MediatorError, LookupError):
    """No saga of this name (and version) is registered with the mediator."""


class UnknownExecutionError(MediatorError, LookupError):
    """The journal has no execution with this id."""


class NoResultError(MediatorError, LookupError):
    """`result_of` was called for a step that has no result.

    Attributes:
        saga_id: The id of the execution.
        step: The path of the step.
        state: The latest state of the step. None if the step has not begun, or if this is not known.
    """

    def __init__(self, message: str, saga_id: str, step: str, state: str | None = None) -> None:
        super().__init__(message)
        self.saga_id = saga_id
        self.step = step
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.saga_id, self.step, self.state)


class PayloadError(MediatorError, ValueError):
    """A payload, result or signal value cannot be encoded, is too large, or has another type.

    Attributes:
        type: The name of the expected type, if a value from the journal could not be decoded. Otherwise empty.
    """

    type = ""


class JournalError(MediatorError):
    """The journal could not be opened, read or written. A record is never written in part."""


class LeaseLostError(JournalError):
    """Another driver has taken over the execution, so this driver stops. Its commit was refused and wrote nothing."""


class DefinitionChangedError(JournalError):
    """The journal has an execution that the registered definition cannot drive. The execution stays in the journal."""


class IllegalRecordError(JournalError):
    """The saga's machine cannot have produced the records of the execution.

    Attributes:
        seq: The number of the first record that does not fit.
    """

    def __init__(self, message: str, seq: int = 0) -> None:
        super().__init__(message)
        self.seq = seq


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, at any depth, in order. If *error* is no group, yield *error* itself."""
    todo = [error]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseExceptionGroup):
            todo.extend(reversed(each.exceptions))
        else:
            yield each


def is_interrupt(error: BaseException) -> bool:
    """Whether *error* is a `KeyboardInterrupt`, or a group that contains a `KeyboardInterrupt` at any depth."""
    return any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(error))


HOME: Final = "fsm_mediator.errors"
"""The module from which users import errors. The names of the library's errors in a journal begin with it."""

for _kind in [kind for kind in vars().values() if isinstance(kind, type) and kind.__module__ == __name__]:
    _kind.__module__ = HOME


def safe_repr(thing: object, most: int = 500) -> str:
    """`repr(thing)`, cut to *most* characters.

    Never raises, although the repr of a deeply nested or huge value can raise.
    """
    try:
        text = repr(thing)
    except Exception as error:
        return f"a {type(thing).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."
