"""Troubles: every kind of exception that a call of a participant can raise, with its meaning.

The meaning of an exception is whether it leaves doubt, and whether another attempt follows. docs/rules.md defines it.
This module implements the definition a second time, independently of `execution`, so that the laws can check the
execution. No function of a user is called. If `Retry.on` is a function, the search tries both of its answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from fsm_mediator.error_types import leaves_of
from fsm_mediator.errors import OutcomeUnknownError, RetryAfterError, StepRejectedError, StepSignalError
from fsm_mediator.machine.parts import Part
from fsm_mediator.retry import Retry

ASKED_WAIT: Final = 7.0
"""The seconds that a call asks for by `RetryAfterError`."""

NOT_AGAIN: Final = ", and Retry.on answers no"
"""The suffix of `Trouble.words` and `Trouble.observation` if the function `Retry.on` returns False."""


_JUDGED_APART: Final = (StepSignalError, BaseExceptionGroup)
"""Exceptions that have special rules in docs/rules.md."""


class Trouble(NamedTuple):
    """One kind of exception.

    Attributes:
        words: A verb phrase after the name of the call, such as ``raises``.
        observation: The `Action.observation` of a call that raises this exception.
        make: A function that makes the exception.
        doubt: Whether the exception leaves doubt: the call may have had its effect.
        repeats: Whether another attempt follows, if attempts are left.
    """

    words: str
    observation: str
    make: Callable[[], BaseException]
    doubt: bool
    repeats: bool


def is_marked_worth_retrying(error: BaseException) -> bool:
    """Whether *error* is worth another attempt. The search uses this function instead of a user's predicate.

    The exception itself has the answer in an attribute (see `made`).
    """
    return bool(getattr(error, "is_worth", True))


def is_predicate(policy: Retry) -> bool:
    """Whether `Retry.on` of *policy* is a function."""
    return not isinstance(policy.on, (type, tuple))


def plain_troubles(part: Part, policy: Retry) -> Iterator[Trouble]:
    """The exceptions that any call can raise: `Exception`, `RetryAfterError` and `StepRejectedError`."""
    yield from _answers("raises", "raised", Exception, part, policy)
    yield Trouble("raises RetryAfterError", "raised again", lambda: RetryAfterError(ASKED_WAIT), False, True)
    yield Trouble("rejects", "rejected", lambda: StepRejectedError("rejected"), False, False)


def unknown(part: Part, policy: Retry) -> Iterator[Trouble]:
    """The `Trouble` of `OutcomeUnknownError`: a call raises it if it does not know whether it had its effect."""
    yield from _answers("raises OutcomeUnknownError", "unknown", OutcomeUnknownError, part, policy)


@functools.lru_cache(maxsize=10_000)
def named_troubles(part: Part, policy: Retry) -> tuple[Trouble, ...]:
    """`SystemExit`, groups of exceptions, and the exceptions that the settings of *part* name."""
    return tuple(_named_troubles(part, policy))


def _named_troubles(part: Part, policy: Retry) -> Iterator[Trouble]:
    on: tuple[Any, ...] = ()
    if isinstance(policy.on, (type, tuple)):
        on = policy.on if isinstance(policy.on, tuple) else (policy.on,)
    for kind in dict.fromkeys((*part.in_doubt_on, *part.no_effect_on, *on)):
        if kind is not Exception and issubclass(kind, Exception) and not issubclass(kind, _JUDGED_APART):
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            yield from _answers(f"raises {name}", f"raised {name}", kind, part, policy)
    yield Trouble("exits during its call", "ended", lambda: SystemExit("it ends"), True, True)
    for words, make in (
        ("raises a group of errors, and one leaves doubt", _doubtful_group),
        ("raises a group of refusals", _refusing_group),
        ("raises a group of a refusal and an error", _mixed_group),
    ):
        group = make()
        leaves = [type(leaf) for leaf in leaves_of(group)]
        doubt = any(leaves_doubt(part, leaf) for leaf in leaves)
        repeats = any(_is_repeated(leaf, policy, worth=True) for leaf in leaves)
        if isinstance(policy.on, (type, tuple)) and isinstance(group, policy.on):
            repeats = not all(issubclass(leaf, StepRejectedError) for leaf in leaves)
        yield Trouble(words, words.replace("raises", "raised"), make, doubt, repeats)


def _answers(words: str, observation: str, kind: type[BaseException], part: Part, policy: Retry) -> Iterator[Trouble]:
    """The `Trouble` for an exception of *kind*. If `Retry.on` is a function, one for each answer of the function."""
    doubt = leaves_doubt(part, kind)
    make = functools.partial(made, kind)
    yield Trouble(words, observation, make, doubt, _is_repeated(kind, policy, worth=True))
    if is_predicate(policy) and issubclass(kind, Exception):
        never = functools.partial(made, kind, is_worth=False)
        yield Trouble(f"{words}{NOT_AGAIN}", f"{observation}{NOT_AGAIN}", never, doubt, False)


def _is_repeated(kind: type[BaseException], policy: Retry, *, worth: bool) -> bool:
    """Whether an exception of *kind* is retried.

    A `StepRejectedError` is never retried. An exception such as `SystemExit`, which is no `Exception`, is always
    retried. For all other exceptions `Retry.on` decides. *worth*: the answer of `Retry.on` if it is a function.
    """
    if not issubclass(kind, Exception):
        return True
    if issubclass(kind, StepRejectedError):
        return False
    return worth if is_predicate(policy) else issubclass(kind, policy.on)  # type: ignore[arg-type]  # no predicate


def leaves_doubt(part: Part, kind: type[BaseException]) -> bool:
    """Whether an exception of *kind* leaves *part* in doubt. The most specific class in the settings decides."""
    if issubclass(kind, StepSignalError):
        return issubclass(kind, OutcomeUnknownError)
    if not issubclass(kind, Exception):
        return True
    doubtful = [each for each in part.in_doubt_on if issubclass(kind, each)]
    sure = [each for each in part.no_effect_on if issubclass(kind, each)]
    return bool(doubtful) and not any(all(issubclass(no, yes) for yes in doubtful) for no in sure)


def made(kind: type[BaseException], *, is_worth: bool = True) -> BaseException:
    """An exception of *kind*, made without calling its constructor."""
    builtin: Any = next(each for each in kind.__mro__ if each.__module__ == "builtins")
    error: BaseException = builtin.__new__(kind)
    object.__setattr__(error, "is_worth", is_worth)  # for `is_marked_worth_retrying`
    return error


def _doubtful_group() -> BaseException:
    return ExceptionGroup("several", [Exception("one"), ExceptionGroup("inner", [OutcomeUnknownError("another")])])


def _refusing_group() -> BaseException:
    return ExceptionGroup("several", [StepRejectedError("one"), StepRejectedError("another")])


def _mixed_group() -> BaseException:
    return ExceptionGroup("several", [StepRejectedError("one"), Exception("another")])
