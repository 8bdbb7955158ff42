"""Retry: compute the waits between attempts. The clock, the sleep and the randomness belong to the caller."""

from __future__ import annotations

import inspect
import math
from _thread import TIMEOUT_MAX
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from fsm_mediator.error_types import DefinitionError, RetryAfterError, StepRejectedError, leaves_of, safe_repr

type_or_predicate = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]


_SPECIAL = (StepRejectedError, ExceptionGroup)


class _CheckedNames(msgspec.StructMeta):
    """A metaclass that reports an unknown setting as a `DefinitionError`, like every other mistake in a definition."""

    if not TYPE_CHECKING:  # with this method, pyright would check neither the arguments nor the result of Retry(...)

        def __call__(cls, *arguments: Any, **settings: Any) -> Any:  # noqa: N805 - a metaclass
            known = cls.__struct_fields__
            for name in settings:
                if name not in known:
                    import difflib

                    near = difflib.get_close_matches(name, known, 1)
                    meant = f"did you mean {near[0]!r}? There are" if near else "there are"
                    raise DefinitionError(f"{cls.__name__}: unknown setting {name!r}; {meant} {', '.join(known)}")
            return super().__call__(*arguments, **settings)


class Retry(msgspec.Struct, frozen=True, kw_only=True, metaclass=_CheckedNames):
    """The number of attempts of a step before the saga gives up, and the waits between them.

    The n-th wait is ``wait_initial * wait_exp_base ** (n - 1)`` seconds, at most *wait_max*, plus up to *wait_jitter*
    seconds drawn at random.

    Attributes:
        attempts: The number of attempts, including the first. None for no limit.
        wait_initial: The number of seconds between the first and the second attempt.
        wait_max: The longest wait in seconds, without jitter.
        wait_jitter: The maximum number of random seconds that are added, so that many sagas do not retry at the same
            time.
        wait_exp_base: The factor by which each wait is longer than the previous wait.
        on: The exceptions after which another attempt is made: a type, a tuple of types, or a predicate. Another
            attempt is always made after a timeout, a crash or a `RetryAfterError`, and never after a
            `StepRejectedError`. For an exception group, it is made if it would be made for any exception in the group.

    Raises:
        DefinitionError: A value is not a number or is out of range, *wait_initial* is more than *wait_max*, or *on* is
            not a type, a tuple of types or a predicate.

    Source: names and defaults follow stamina; jitter as in "Exponential Backoff and Jitter" (AWS, 2015).
    """

    attempts: int | None = 3
    wait_initial: float = 0.1
    wait_max: float = 30.0
    wait_jitter: float = 0.1
    wait_exp_base: float = 2.0
    on: type_or_predicate = Exception

    def __post_init__(self) -> None:
        if self.attempts is not None and (type(self.attempts) is not int or self.attempts < 1):
            raise DefinitionError(
                f"Retry: attempts must be a whole number of at least 1, or None for no limit, not "
                f"{safe_repr(self.attempts)}"
            )
        for name, least in (("wait_initial", 0), ("wait_exp_base", 1)):
            check_number(f"Retry: {name}", getattr(self, name), least)
        for name in ("wait_max", "wait_jitter"):
            check_wait(f"Retry: {name}", getattr(self, name))
        if self.wait_initial > self.wait_max:
            raise DefinitionError(
                f"Retry: wait_initial={self.wait_initial:g} is more than wait_max={self.wait_max:g}, the longest wait; "
                f"raise wait_max, or lower wait_initial"
            )
        if not _is_type_or_predicate(self.on):
            if isinstance(self.on, tuple) and not self.on:
                raise DefinitionError("Retry: on=() would never retry; write Retry(attempts=1) instead")
            raise DefinitionError(
                f"Retry: on must be an exception type, a tuple of them, or a predicate of an exception, not {self.on!r}"
            )

    def wait(self, attempt: int, chance: float = 0.0) -> float:
        """The number of seconds between *attempt* (the first is 1) and the next attempt.

        *chance* is a random number from 0 to 1. It is the share of *wait_jitter* that is added.
        """
        try:
            # A float, because the power of an int would become huge and slow if the number of attempts has no limit.
            wait = self.wait_initial * float(self.wait_exp_base) ** (attempt - 1)
        except OverflowError:
            wait = self.wait_max if self.wait_initial else 0.0
        return min(wait, self.wait_max) + self.wait_jitter * chance

    def allows(self, attempt: int) -> bool:
        """Whether the number of attempts allows another attempt after *attempt* (the first is 1)."""
        return self.attempts is None or attempt < self.attempts

    def covers(self, error: Exception) -> bool:
        """Whether another attempt is made after *error*.

        For an exception group: whether another attempt is made after any exception in the group.
        """
        if isinstance(error, _SPECIAL):
            if not isinstance(error, ExceptionGroup):
                return False
            leaves = [leaf for leaf in leaves_of(error) if not isinstance(leaf, StepRejectedError)]
            if leaves and isinstance(self.on, (type, tuple)) and isinstance(error, self.on):
                return True
            return any(self.covers(leaf) for leaf in leaves)  # type: ignore[arg-type]  # all are Exceptions
        if self.on is Exception or isinstance(error, RetryAfterError):
            return True
        if isinstance(self.on, (type, tuple)):
            return isinstance(error, self.on)
        try:
            return bool(self.on(error))
        except Exception as broken:
            # The saga must continue even if a predicate raises. Its error stays visible on the step's own error.
            error.add_note(f"Retry.on raised {safe_repr(broken)} when asked about this error; that counts as no")
            return False


def check_number(what: str, value: Any, least: float = 0, *, above: bool = False) -> None:
    """Check that *value* is a finite number of at least *least*, or, if *above* is True, greater than *least*.

    Raises:
        DefinitionError: *value* is not such a number. *what* names the value in the message.
    """
    if not takes_number(value) or value < least or (above and value == least):
        bound = f"greater than {least:g}" if above else f"of at least {least:g}"
        raise DefinitionError(f"{what} must be a finite number {bound}, not {safe_repr(value)}")


def check_wait(what: str, value: Any, *, above: bool = False) -> None:
    """Check that *value* is a number of seconds that this system can wait.

    Raises:
        DefinitionError: *value* is not a number, is too small, or is too large. *what* names it in the message.
    """
    check_number(what if what.endswith("seconds") else f"{what} (seconds)", value, above=above)
    if value > TIMEOUT_MAX:
        raise DefinitionError(
            f"{what}={value:g} is more than this system can wait, {TIMEOUT_MAX:g} seconds; for no limit, leave it out"
        )


def takes_number(value: Any) -> bool:
    """Whether *value* is a finite number."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _is_type_or_predicate(on: Any) -> bool:
    if isinstance(on, type):
        return issubclass(on, BaseException)
    if isinstance(on, tuple):
        return bool(on) and all(isinstance(each, type) and issubclass(each, BaseException) for each in on)
    return callable(on) and not inspect.iscoroutinefunction(on)  # a coroutine would always count as true
