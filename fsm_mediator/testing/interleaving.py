"""Scheduler: runs functions in threads, one at a time, and decides at every switch point which function runs next.

The same schedule gives the same run, unless a function uses the real time or random numbers. Schedules with few
preemptions are tried first, because most races need only one or two preemptions.

At a preemption, the function with the next number runs.

Source: iterative context bounding, as in Musuvathi & Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs" (PLDI 2007). The fixed order of functions is from Emmi, Qadeer & Rakamaric, "Delay-Bounded
Scheduling" (POPL 2011).
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
"""The maximum number of preemptions in a schedule. A preemption switches away from a function that could continue."""

BLOCKED: Final = 0.02
"""The seconds without progress after which the running function counts as blocked. Then another function continues. On
a busy machine a slow function may count as blocked. Then both functions run, which is a valid interleaving too."""

ENDLESS: Final = 20_000
"""The number of switch points after which a run counts as endless."""

DEADLOCKED: Final = 250
"""The number of checks, `BLOCKED` seconds apart, in which no function could continue. Then a run counts as endless."""

ENDED_WITHIN: Final = 10.0
"""The seconds that `Scheduler.run` waits, after its functions have ended, for other functions that they started."""

T = TypeVar("T")

_OWN: Final = (str(Path(__file__).parents[1]), *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class EndlessRunError(BaseException):
    """A run does not end. It is a BaseException, so that no handler treats it as the error of a step."""


@attrs.frozen
class Schedule:
    """The function that runs first, and the switch points at which another function continues.

    Attributes:
        first: The number of the function that runs first.
        switches: The numbers of the switch points at which another function continues. The numbers count from the start
            of the run.
    """

    first: int
    switches: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, (self.first, *self.switches)))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule with this text, which ``str(schedule)`` returns."""
        first, *switches = map(int, text.split("."))
        return cls(first, tuple(switches))


class Scheduler:
    """Runs functions under one schedule. A function may start other functions, and may wait for them.

    Attributes:
        points: The switch points that the run has passed: the number of the function, and the place in words.
        names: The name of each function. The index is the function's number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._changed = threading.Condition()
        self._turn: int | None = schedule.first
        self._live: set[int] = set()
        self._waiting: dict[int, Callable[[], bool]] = {}
        self._timed: set[int] = set()  # functions that wait for time to pass
        self._outside: set[int] = set()  # functions that wait for an event outside of this run
        self._here = threading.local()
        self.points: list[tuple[int, str]] = []
        self.names: list[str] = []

    @property
    def here(self) -> int | None:
        """The number of the function that this thread runs. None if it runs no function of this scheduler."""
        return getattr(self._here, "number", None)

    def run(self, functions: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """Run each of *functions* (name, function) to its end, in its own thread.

        Raises:
            BaseException: A function raised this error.
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
        """Register a function that `run_one` will run in some thread, and return its number."""
        with self._changed:
            number = len(self.names)
            self.names.append(name)
            self._live.add(number)
        return number

    def run_one(self, number: int, function: Callable[[], None], failures: list[BaseException] | None = None) -> None:
        """Run the function *number* in this thread. If *failures* is given, an error is added to it, not raised."""
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
        """Remove the function with this number: it has ended, or it will not run."""
        with self._changed:
            self._live.discard(number)
            if self._turn == number:
                self._pass_on(number)
            self._changed.notify_all()

    def traced(self, number: int, function: Callable[..., T]) -> Callable[..., T]:
        """A wrapper of *function*, with a switch point at each line.

        A helper thread calls the wrapper, while the function with the number *number* waits for the result. The switch
        points count as switch points of that function.
        """

        def call(*arguments: Any) -> T:
            self._here.number = number
            with self.at_each_line():
                return function(*arguments)

        return call

    @contextmanager
    def at_each_line(self) -> Iterator[None]:
        """Inside of the ``with`` block, this thread has a switch point at each line of the user's code.

        It also has a switch point after each await.
        """
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
        """Mark a place at which the schedule can switch to another function.

        In a thread that runs none of the functions, this does nothing.

        Args:
            place: The place, in words.
            yields: Whether time passes here. If False, another function runs next only if the schedule lists this
                switch point. If True, it is the reverse: the same function continues only if the schedule lists it.

        Raises:
            EndlessRunError: The run reached too many switch points.
        """
        number = self.here
        if number is None:
            return
        with self._changed:
            self.points.append((number, place))
            passed = len(self.points)
            if passed > ENDLESS:
                raise EndlessRunError
            # A function may wait for another function in a loop. After many switch points, every function gets turns.
            if ((passed - 1 in self._schedule.switches) is not yields) or passed > ENDLESS // 2:
                self._pass_on(number)
        self._await_turn(number)

    def wait(self, until: Callable[[], bool], *, timed: bool = False) -> bool:
        """Let other functions run until *until* returns True.

        A *timed* wait also ends, with the result False, when no other function can continue.
        """
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
        """Call *function*, which waits for an event outside of this run, and return its result.

        Other functions run until *until* returns True or *function* returns. Then the scheduler may give the turn to
        the caller, which continues after *function* has returned.
        """
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
        """Give the turn to the next function that can continue, in the order of numbers.

        The function *number* itself gets the turn only if no other function can continue.
        """
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
                    self._turn = number  # the function with the turn is blocked by another function
                    self._changed.notify_all()

    def _traced(self, frame: FrameType, event: str) -> Any:
        if not _is_users(frame.f_code):
            return None
        resumed = event == "call" and frame.f_lasti > 0 and bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        if event == "line" or resumed:
            self.switch_point(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return lambda inner, what, _: self._traced(inner, what)


def _is_users(code: CodeType) -> bool:
    """Whether *code* is the user's code. Code of this library, of Python and of installed packages is not."""
    return not code.co_filename.startswith((*_OWN, "<"))


def schedules(points: Callable[[Schedule], Sequence[tuple[int, str]]], count: int, most: int) -> Iterator[Schedule]:
    """The schedules with few preemptions, sorted by the number of preemptions.

    Args:
        points: A function that returns the switch points which the run of a schedule passed. It is called with a
            schedule after that schedule was yielded and run.
        count: The number of functions.
        most: The maximum number of schedules.
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
