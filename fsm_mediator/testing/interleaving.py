"""Scheduler: runs functions in threads, one at a time, and decides at every switch point which of them runs next.

The same schedule gives the same run, as long as the functions draw nothing from time or chance. The schedules are
searched by the number of preemptions: most races need one or two.

Source: iterative context bounding, as in Musuvathi & Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs" (PLDI 2007). If there are more than two functions, the next in line gets the turn, as in Emmi,
Qadeer & Rakamaric, "Delay-Bounded Scheduling" (POPL 2011).
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
from typing import Any, Final, TypeVar

import attrs

PREEMPTIONS: Final = 2
"""The most times that a schedule takes the turn from a function that could continue."""

BLOCKED: Final = 0.02
"""Seconds without a sign after which a function counts as blocked by another one, which then continues. On a busy
machine a slow function may count as blocked: then both continue, which is an interleaving as well."""

ENDLESS: Final = 20_000
"""Switch points after which a run counts as endless."""

DEADLOCKED: Final = 250
"""After so many times that no function could continue, `BLOCKED` seconds apart, the run counts as endless."""

ENDED_WITHIN: Final = 10.0
"""Seconds that functions which others began have to end, after those have ended."""

T = TypeVar("T")

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
    """Runs functions under one schedule. A function may have others begin, and may wait for others.

    Attributes:
        points: Each switch point that was passed: the number of the function, and the place in words.
        names: The name of each function, by its number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._changed = threading.Condition()
        self._turn: int | None = schedule.first
        self._live: set[int] = set()
        self._waiting: dict[int, Callable[[], bool]] = {}
        self._timed: set[int] = set()  # functions that wait for some time only
        self._outside: set[int] = set()  # functions that wait for something outside of this run
        self._here = threading.local()
        self.points: list[tuple[int, str]] = []
        self.names: list[str] = []

    @property
    def here(self) -> int | None:
        """The number of the function that this thread runs."""
        return getattr(self._here, "number", None)

    def run(self, functions: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """Run *functions*, each with its name, to their ends, each in a thread of its own.

        Raises:
            BaseException: The error of a function.
        """
        failures: list[BaseException] = []
        begun = [(self.add(name), function) for name, function in functions]
        threads = [
            threading.Thread(target=self.run_one, args=(number, function, failures), daemon=True)
            for number, function in begun
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._live, ENDED_WITHIN)
        if failures:
            raise failures[0]

    def add(self, name: str) -> int:
        """The number of a new function, which `run_one` is about to run in some thread."""
        with self._changed:
            number = len(self.names)
            self.names.append(name)
            self._live.add(number)
        return number

    def run_one(self, number: int, function: Callable[[], None], failures: list[BaseException] | None = None) -> None:
        """Run the function of this number, in this thread; an error is kept in *failures*, or else raised."""
        self._here.number = number
        try:
            self._await_turn(number)
            function()
        except BaseException as error:
            if failures is None:
                raise
            failures.append(error)
        finally:
            self.end(number)
            self._here.number = None

    def end(self, number: int) -> None:
        """The function of this number has ended, or will not begin."""
        with self._changed:
            self._live.discard(number)
            if self._turn == number:
                self._pass_on(number)
            self._changed.notify_all()

    def traced(self, number: int, function: Callable[..., T]) -> Callable[..., T]:
        """*function*, for a thread that calls it for the function of this number, which waits for it meanwhile."""

        def call(*arguments: Any) -> T:
            self._here.number = number
            with self.at_each_line():
                return function(*arguments)

        return call

    @contextmanager
    def at_each_line(self) -> Iterator[None]:
        """Make a switch point of each line of the user's code that this thread comes to, and after each await."""
        depth = getattr(self._here, "depth", 0)  # coroutines of one thread overlap
        if not depth:
            self._here.traced = sys.gettrace()
            sys.settrace(lambda frame, event, _: self._traced(frame, event))
        self._here.depth = depth + 1
        try:
            yield
        finally:
            self._here.depth -= 1
            if not self._here.depth:
                sys.settrace(self._here.traced)

    def switch_point(self, place: str, *, yields: bool = False) -> None:
        """A place at which the schedule can switch to another function. Does nothing in a thread of no function.

        Args:
            place: In words.
            yields: Whether another function runs next unless the schedule says otherwise: time passes here.

        Raises:
            EndlessRunError: The run does not end.
        """
        number = self.here
        if number is None:
            return
        with self._changed:
            self.points.append((number, place))
            passed = len(self.points)
            if passed > ENDLESS:
                raise EndlessRunError
            # A function that waits for another one in a loop finally lets it continue.
            if ((passed - 1 in self._schedule.switches) is not yields) or passed > ENDLESS // 2:
                self._pass_on(number)
        self._await_turn(number)

    def wait(self, until: Callable[[], bool], *, timed: bool = False) -> bool:
        """Let others run until *until* holds; False, if *timed*: no other can continue."""
        number = self.here
        assert number is not None
        with self._changed:
            if timed:
                self._timed.add(number)
            self._waiting[number] = until
            self._pass_on(number)
        try:
            self._await_turn(number)
        finally:
            with self._changed:
                del self._waiting[number]
                self._timed.discard(number)
        return until()

    def leave(self, function: Callable[[], T], until: Callable[[], bool]) -> T:
        """Call what blocks until something outside happens, or until *until* holds; others run meanwhile."""
        number = self.here
        assert number is not None
        with self._changed:
            self._waiting[number] = until
            self._outside.add(number)
            self._pass_on(number)
        try:
            result = function()
        finally:
            with self._changed:
                self._outside.discard(number)
                self._waiting[number] = lambda: True
        self._await_turn(number)
        with self._changed:
            del self._waiting[number]
        return result

    def _pass_on(self, number: int) -> None:
        """Give the turn to the next function that can continue: to this one last."""
        order = sorted(self._live, key=lambda each: (each <= number, each))
        self._turn = next((each for each in order if self._can_go_on(each)), None)
        self._changed.notify_all()

    def _can_go_on(self, number: int) -> bool:
        return number not in self._waiting or self._waiting[number]()

    def _await_turn(self, number: int) -> None:
        idle = 0
        with self._changed:
            while self._turn != number:
                points, turn = len(self.points), self._turn
                self._changed.wait(BLOCKED)
                if turn != self._turn or points != len(self.points):
                    idle = 0
                elif turn is None:
                    idle += 1
                    self._pass_on(number)
                    if self._turn is None and not self._outside and idle > 1:
                        self._turn = min(self._timed, default=None)
                        self._changed.notify_all()
                        if self._turn is None and idle > DEADLOCKED:
                            raise EndlessRunError
                elif self._can_go_on(number):
                    self._turn = number  # the one whose turn it is waits for something that another one holds
                    self._changed.notify_all()

    def _traced(self, frame: FrameType, event: str) -> Any:
        if not _is_users(frame.f_code):
            return None
        resumed = event == "call" and frame.f_lasti > 0 and bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        if event == "line" or resumed:
            self.switch_point(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return lambda inner, what, _: self._traced(inner, what)


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
