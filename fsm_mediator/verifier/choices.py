"""Choices: the search does not call the deciding functions of a saga (``by``, ``over``, ``seconds``).

Instead, it tries every possible answer of such a function. An answer is called a decision. A decision is part of an
action, so an action has one successor for each decision.

If `Retry.on` is a function, the search does not call this function either. Each exception of the search has an
attribute with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.machine.parts import Callback, Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.verifier.troubles import is_marked_worth_retrying, is_predicate

MOST_ITEMS: Final = 2
"""The maximum number of items of a group over items in a search."""

_FAR: Final = 4e9
"""A time in the future, in seconds since the epoch."""

T = TypeVar("T")


class Undecidable(Exception):  # noqa: N818 - this stands for an exception of a user's function
    """The exception that a failing deciding function raises in the search."""


class Answer(NamedTuple):
    """One possible answer of a deciding function.

    Attributes:
        words: The answer in words.
        answer: The value that the function returns, or the exception that it raises.
    """

    words: str
    answer: Any


class Taken(NamedTuple):
    """The answer that one call of a deciding function gave.

    Attributes:
        path: The path of the part with the function.
        answer: The value that the function returned, or the exception that it raised.
        context: The context that the function got. None if the function takes no context.
    """

    path: str
    answer: Any
    context: Context | None


class ChoicePoints:
    """The decisions of an action, and a copy of the saga with deciding functions that return these decisions.

    Attributes:
        saga: The saga, with every deciding function replaced.
        any: Whether a part of the saga has a deciding function.
        latest: The answers that the deciding functions gave in the latest move.
    """

    def __init__(self, saga: Saga) -> None:
        self.any: bool = any(part.decide is not None for part in saga.parts)
        self._taken: list[tuple[Answer, int]] = []
        self.latest: list[Taken] = []
        self._script: list[int] = []
        self._wanted: list[str] = []
        asked = any(is_predicate(part.retry) or is_predicate(part.compensation_retry) for part in saga.parts)
        self.saga: Saga = self._with_choice_points(saga) if self.any or asked else saga

    def every(self, make: Callable[[], T]) -> Iterator[tuple[str, T]]:
        """Call *make* once for each combination of answers that the deciding functions can give during the call.

        Yields the answers of each call as text, each after a semicolon, and the result of *make*.
        """
        self._script = []
        while True:
            self._taken = []
            self.latest = []
            made = make()
            taken = list(self._taken)
            yield "".join(f"; {choice.words}" for choice, _ in taken), made
            numbers = [self._script[place] if place < len(self._script) else 0 for place in range(len(taken))]
            while numbers and numbers[-1] + 1 == taken[len(numbers) - 1][1]:
                numbers.pop()
            if not numbers:
                return
            numbers[-1] += 1
            self._script = numbers

    def are(self, words: Sequence[str]) -> None:
        """Let the deciding functions give these answers next, in this order. *words*: the text of each answer."""
        self._taken = []
        self._script = []
        self._wanted = list(words)

    def _with_choice_points(self, saga: Saga) -> Saga:
        return saga_of_parts(saga, tuple(self._undecided(part) for part in saga.parts))

    def _undecided(self, part: Part) -> Part:
        """A copy of *part* without the user's deciding function and predicates."""
        retry, compensation_retry = map(_without_predicate, (part.retry, part.compensation_retry))
        decide = None if part.decide is None else self._decider(part)
        return replace(part, decide=decide, retry=retry, compensation_retry=compensation_retry)

    def _decider(self, part: Part) -> Callback:
        assert part.decide is not None
        every = list(choices(part))

        def decide(_payload: Any, context: Context | None = None) -> Any:
            place = len(self._taken)
            if place < len(self._wanted):
                choice = next(choice for choice in every if choice.words == self._wanted[place])
            else:
                choice = every[self._script[place] if place < len(self._script) else 0]
            self._taken.append((choice, len(every)))
            self.latest.append(Taken(part.path, choice.answer, context))
            if isinstance(choice.answer, Exception):
                raise choice.answer
            return choice.answer

        return Callback(decide, takes_context=part.decide.takes_context, is_coroutine=False, label=part.decide.label)


def _without_predicate(policy: Retry) -> Retry:
    return replace(policy, on=is_marked_worth_retrying) if is_predicate(policy) else policy


def saga_of_parts(saga: Saga, parts: tuple[Part, ...]) -> Saga:
    """A copy of *saga* with *parts* instead of its own parts, and with the machine of these parts."""
    other = Saga.__new__(Saga)
    for name in Saga.__slots__:
        object.__setattr__(other, name, getattr(saga, name))
    object.__setattr__(other, "parts", parts)
    object.__setattr__(other, "_by_path", {part.path: part for part in parts})
    object.__setattr__(other, "_every", None)
    object.__setattr__(other, "machine", compile_machine(parts))
    return other


def choices(part: Part) -> Iterator[Answer]:
    """Every possible answer of the deciding function of *part*. The first answer leads to the most work."""
    path = part.path
    if part.kind is Kind.CHOICE:
        for name in part.branches:
            yield Answer(f"{path} chooses {name}", name)
    elif part.kind is Kind.SLEEP and part.subject.relative:
        yield Answer(f"{path} sleeps", 1.0)
        yield Answer(f"{path} sleeps for no time", 0.0)
    elif part.kind is Kind.SLEEP:
        yield Answer(f"{path} sleeps", _FAR)
    else:
        for number in range(MOST_ITEMS, -1, -1):
            yield Answer(
                f"{path} has {number} {'item' if number == 1 else 'items'}",
                [f"item {each}" for each in range(number)],
            )
    yield Answer(f"the function of {path} raises", Undecidable("it cannot be decided"))
