"""Scheduler: runs functions in threads, one at a time, and decides at every switch point which of them goes on.

The same schedule gives the same run, as long as the functions draw nothing from time or chance. The schedules are
searched by the number of preemptions: most races need one or two.

Source: iterative context bounding, as in Musuvathi & Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs" (PLDI 2007).
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import attrs

PREEMPTIONS: Final = 2
"""How often, at most, a schedule takes the turn from a function that could go on."""

BLOCKED: Final = 0.02
"""Seconds without a sign after which a function counts as blocked by another one, which then goes on. On a busy machine
one that is only slow may count as blocked: both go on then, which is an interleaving as well."""

ENDLESS: Final = 20_000
"""Switch points after which a run counts as endless."""

_OWN: Final = (str(Path(__file__).parents[1]), *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class EndlessRunError(BaseException):
    """A run came to too many switch points. A BaseException, so that no handler takes it for an error of a step."""


@attrs.frozen
class Schedule:
    """Which function begins, and at which switch points another one takes its turn.

    Attributes:
        first: The number of the function that begins.
        switches: The numbers of the switch points, counted over the run.
    """

    first: int
    switches: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, (self.first, *self.switches)))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that ``str`` wrote."""
        first, *switches = map(int, text.split("."))
        return cls(first, tuple(switches))


class Scheduler:
    """Runs functions under one schedule.

    Attributes:
        points: Each switch point that was passed: the number of the function, and the place in words.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._changed = threading.Condition()
        self._turn = schedule.first
        self._live: set[int] = set()
        self.points: list[tuple[int, str]] = []

    def run(self, functions: Sequence[Callable[[], None]]) -> None:
        """Run *functions* to their ends, each in a thread of its own.

        Raises:
            BaseException: What a function raised.
        """
        self._live = set(range(len(functions)))
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=self._run_one, args=(number, function, failures), daemon=True)
            for number, function in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _run_one(self, number: int, function: Callable[[], None], failures: list[BaseException]) -> None:
        try:
            self._await_turn(number)
            function()
        except BaseException as error:
            failures.append(error)
        finally:
            with self._changed:
                self._live.discard(number)
                if self._turn == number:
                    self._pass_on(number)
                self._changed.notify_all()

    @contextmanager
    def at_each_line(self, number: int) -> Iterator[None]:
        """Make a switch point of each line of the user's code that this thread comes to, and after each await."""
        before = sys.gettrace()
        sys.settrace(lambda frame, event, _: self._traced(number, frame, event))
        try:
            yield
        finally:
            sys.settrace(before)

    def switch_point(self, number: int, place: str) -> None:
        """A place at which the schedule can let another function go on.

        Raises:
            EndlessRunError: The run does not end.
        """
        with self._changed:
            self.points.append((number, place))
            passed = len(self.points)
            if passed > ENDLESS:
                raise EndlessRunError
            # A function that waits for another one in a loop lets it go on, in the end.
            if passed - 1 in self._schedule.switches or passed > ENDLESS // 2:
                self._pass_on(number)
        self._await_turn(number)

    def _pass_on(self, number: int) -> None:
        others = sorted(self._live - {number}, key=lambda each: (each < number, each))
        if others:
            self._turn = others[0]
        self._changed.notify_all()

    def _await_turn(self, number: int) -> None:
        with self._changed:
            while self._turn != number:
                points, turn = len(self.points), self._turn
                self._changed.wait(BLOCKED)
                if turn == self._turn and points == len(self.points) and turn not in (number, None):
                    self._turn = number  # the one whose turn it is waits for something that another one holds
                    self._changed.notify_all()

    def _traced(self, number: int, frame: FrameType, event: str) -> Any:
        if not _is_users(frame.f_code):
            return None
        resumed = event == "call" and frame.f_lasti > 0 and bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        if event == "line" or resumed:
            self.switch_point(number, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return lambda inner, what, _: self._traced(number, inner, what)


def _is_users(code: CodeType) -> bool:
    """Whether *code* belongs neither to this library nor to Python nor to an installed package."""
    return not code.co_filename.startswith((*_OWN, "<"))


def schedules(points: Callable[[Schedule], Sequence[tuple[int, str]]], count: int, most: int) -> Iterator[Schedule]:
    """Every schedule with few preemptions, those with fewer first, at most *most*.

    Args:
        points: Returns the switch points of a schedule that was yielded and run.
        count: The number of functions.
        most: At most so many schedules.
    """
    level = [Schedule(first) for first in range(count)]
    left = most
    for depth in range(PREEMPTIONS + 1):
        following = []
        for schedule in level:
            if left <= 0:
                return
            left -= 1
            yield schedule
            if depth < PREEMPTIONS:
                begin = schedule.switches[-1] + 1 if schedule.switches else 0
                following += [
                    Schedule(schedule.first, (*schedule.switches, at)) for at in range(begin, len(points(schedule)))
                ]
        level = following
