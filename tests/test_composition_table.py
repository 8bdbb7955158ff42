"""What can be put inside what, and what becomes of it: each cell of the table in ``docs/composition.md`` is a test.

The table is written from what is expected here, and a test fails when the page is stale; ``python -m
tests.test_composition_table`` writes it anew. Every cell is one saga, ``before``, then the container with the content
and something beside it, then ``after``. It is brought about on both mediators; where somebody is killed, by SIGKILL, in
a process of its own and on a SQLite journal.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from fsm_mediator import (
    AsyncMediator,
    Choose,
    DeadlineExceededError,
    Mediator,
    MemoryJournal,
    OutcomeUnknownError,
    Parallel,
    Retry,
    Saga,
    SagaCancelledError,
    Signal,
    SignalTimedOutError,
    Sleep,
    SQLiteJournal,
    step,
)
from fsm_mediator.states import ENDED
from fsm_mediator.testing.processes import in_a_child, kill
from tests.drivers import ONCE, PATIENCE, Clock, eventually
from tests.test_readme import run

pytestmark = pytest.mark.once

PAGE = Path(__file__).parent.parent / "docs" / "composition.md"
ID = "w-1"
WAIT = 60.0

CONTAINERS = {
    "a saga": 'Saga("whole", [before, CONTENT, after])',
    "a nested saga": 'Saga("inside", [CONTENT, beside])',
    "`Parallel`": 'Parallel("all", [CONTENT, beside])',
    "`Parallel.each`": 'Parallel.each("all", CONTENT, over=...)',
    "`Choose`": 'Choose("one", {"this": CONTENT, "that": beside}, by=...)',
}
CONTENTS = {
    "a step": "it",
    "a saga": 'Saga("inner", [first, it])',
    "a group": 'Parallel("fork", [it, twin])',
    "a choice": 'Choose("way", {"yes": it, "no": twin}, by=...)',
    "a signal": 'Signal("word", timeout=60)',
    "a sleep": 'Sleep("nap", ...)',
}
HAPPENINGS = {
    "succeeds": "No fault happens.",
    "fails": "`it` raises after the other branches have begun. A signal does not come in time. The function of a sleep "
    "raises.",
    "is in doubt": "`it` raises `OutcomeUnknownError`, so it may have had its effect.",
    "is cancelled": "`mediator.cancel` is called while an attempt of `it` runs, or while the saga waits.",
    "runs out of time": "The saga's deadline passes while an attempt of `it` runs, or while the saga waits.",
    "is killed": "SIGKILL ends the process while an attempt of `it` runs, or while the saga waits. Another process "
    "recovers it.",
    "is undone": "The container succeeds, and then `after` raises.",
    "fails after the pivot": "The same as *fails*, but `before` is the pivot. Then a person calls `retry`, and the "
    "saga succeeds.",
}
WAITS = ("a signal", "a sleep")
WAITING = {"a signal": "word", "a sleep": "nap"}


class World:
    """What was done, by whomever: participants append to a file, which outlives a process that is killed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "calls"
        self.begun = threading.Event()
        self.go = threading.Event()
        self.at_the_gate = ""

    def step(
        self, name: str, deed: Callable[[Any, Any], Any] | None = None, *, undo: bool = True, **settings: Any
    ) -> Any:
        """A step that writes down its call, then does its deed."""

        def execute(payload: Any, context: Any) -> Any:
            self._write(f"{name}{self._item(payload)}", context.idempotency_key)
            return deed(payload, context) if deed is not None else f"{name} done"

        made = step(name=name, retry=settings.pop("retry", ONCE), compensation_retry=ONCE, **settings)(execute)
        if undo:

            @made.compensation
            def compensate(payload: Any, context: Any) -> None:
                self._write(f"undo {name}{self._item(payload)}", context.idempotency_key)

        return made

    @staticmethod
    def _item(payload: Any) -> str:
        return f" {payload}" if isinstance(payload, int) else ""

    def _write(self, call: str, key: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{call}\t{key}\n")

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Every call and its key, in order."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [(line.partition("\t")[0], line.partition("\t")[2]) for line in lines]

    def gate(self, _: Any, context: Any) -> str:
        """A deed: wait to be let go."""
        self.at_the_gate = context.saga_id
        self.begun.set()
        assert self.go.wait(PATIENCE), "nobody opened the gate"
        return "through"


@attrs.frozen
class Cell:
    """One saga, and what happens to it."""

    container: str
    content: str
    happening: str

    def __str__(self) -> str:
        return f"{self.content} in {self.container} {self.happening}".replace("`", "")

    @property
    def is_each(self) -> bool:
        """Whether there are two of the content, the first of which is what something happens to."""
        return self.container == "`Parallel.each`"

    @property
    def waits(self) -> bool:
        """Whether the content is a wait, which calls nothing."""
        return self.content in WAITS

    @property
    def forward(self) -> bool:
        """Whether it stands after the pivot."""
        return self.happening == "fails after the pivot"

    # What is expected

    @property
    def state(self) -> str:
        """Where it ends."""
        return "succeeded" if self.happening in ("succeeds", "is killed") or self.forward else "failed"

    @property
    def stuck_in(self) -> str | None:
        """Where it stands until a person says something."""
        if not self.forward:
            return None
        inside = {"a step": "it", "a saga": "inner.it", "a group": "fork", "a choice": "way"}
        own = inside.get(self.content) or WAITING[self.content]
        return {
            "a saga": f"stuck.{own}",
            "a nested saga": f"stuck.inside.{own}",
            "`Choose`": "stuck.one",
        }.get(self.container, "stuck.all")

    @property
    def done(self) -> set[str]:
        """What of the content, and beside it, has its effect for sure or perhaps when the happening is over."""
        has_effect = self.happening != "fails" and not self.forward
        mine = {"a step": ["it"], "a saga": ["first", "it"], "a group": ["it", "twin"], "a choice": ["it"]}
        parts = [part for part in mine.get(self.content, []) if has_effect or part != "it"]
        names = {f"{part} 1" for part in parts} if self.is_each else set(parts)
        if (
            self.is_each
        ):  # the second goes well whatever happens to the first; nobody approves or wakes what is cancelled
            names |= {f"{part} 2" for part in mine.get(self.content, [])}
        elif self.container == "`Parallel`" or (self.container == "a nested saga" and self.happening == "is undone"):
            names.add("beside")
        return names

    @property
    def undone(self) -> set[str]:
        """What is compensated."""
        return self.done | {"before"} if self.state == "failed" else set()

    @property
    def error(self) -> type[Exception] | None:
        """What the outcome tells as the cause."""
        if self.happening == "fails":
            return SignalTimedOutError if self.content == "a signal" else ValueError
        return {
            "is in doubt": OutcomeUnknownError,
            "is cancelled": SagaCancelledError,
            "runs out of time": DeadlineExceededError,
            "is undone": ValueError,
        }.get(self.happening)

    @property
    def is_ended_from_outside(self) -> bool:
        """Whether it is told to end while it is at something."""
        return self.happening in ("is cancelled", "runs out of time")

    @property
    def has_no_doubt(self) -> bool:
        """Whether it calls nothing, and so nothing of it can be in doubt."""
        return self.waits and self.happening == "is in doubt"

    def rendered(self) -> str:
        """The cell in the page."""
        if self.has_no_doubt:
            return "not possible: it calls no service"
        if self.stuck_in:
            return f"`{self.stuck_in}`, then `{self.state}`"
        if self.happening == "is killed":
            again = {"a signal": "waits again, then", "a sleep": "sleeps for the remaining time, then"}.get(
                self.content, "`it` again, same key:"
            )
            return f"{again} `{self.state}`"
        if self.state == "succeeded":
            return f"`{self.state}`"
        return f"`{self.state}`; undone: {', '.join(sorted(self.undone, key=newest_first))}"


def newest_first(name: str) -> tuple[int, str]:
    """Sorts what is undone as a page shows it: the order within each execution, one item of `each` after another."""
    plain, _, item = name.partition(" ")
    return (len(NEWEST_FIRST) if plain == "before" else 0, item + str(NEWEST_FIRST.index(plain)))


NEWEST_FIRST = ("beside", "it", "twin", "first", "before")


def on_a_loop() -> bool:
    """Whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def built(cell: Cell, world: World, *, well: bool = False) -> Saga:
    """The saga of a cell; *well*: whatever happened to it does not happen any more."""
    undo = not cell.forward
    tried: list[str] = []

    def let_the_others_begin() -> None:
        """A group cancels what has not begun when a branch fails: so this one fails last."""
        others = {name for name in cell.done if name.startswith(("twin", "beside")) or name.endswith(" 2")}
        if not well and not cell.forward and not on_a_loop():  # a task lets others go first
            eventually(lambda: others <= {call for call, _ in world.calls})

    def deed(payload: Any, context: Any) -> Any:
        struck = not well and payload != 2  # the second of `each` is spared
        if struck and cell.happening == "is killed":
            kill()
        if struck and cell.is_ended_from_outside:
            return world.gate(payload, context)
        if struck and cell.happening == "is in doubt":
            let_the_others_begin()
            raise OutcomeUnknownError("no answer")
        if struck and cell.happening.startswith("fails") and not tried:
            let_the_others_begin()
            tried.append("once")
            raise ValueError("no")
        return "done"

    def seconds(payload: Any) -> float:
        if not well and payload != 2 and cell.happening.startswith("fails") and not tried:
            let_the_others_begin()
            tried.append("once")
            raise ValueError("no")
        return WAIT

    retry = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0) if cell.happening == "is killed" else ONCE
    it = world.step("it", deed, undo=undo, retry=retry)
    twin = world.step("twin", undo=undo, retry=retry)
    content: Any = {
        "a step": lambda: it,
        "a saga": lambda: Saga("inner", [world.step("first", undo=undo, retry=retry), it]),
        "a group": lambda: Parallel("fork", [it, twin]),
        "a choice": lambda: Choose("way", {"yes": it, "no": twin}, by=lambda payload: "yes"),
        "a signal": lambda: Signal("word", timeout=WAIT),
        "a sleep": lambda: Sleep("nap", seconds),
    }[cell.content]()
    beside = world.step("beside", undo=undo, retry=retry)
    container: Any = {
        "a saga": lambda: content,
        "a nested saga": lambda: Saga("inside", [content, beside]),
        "`Parallel`": lambda: Parallel("all", [content, beside]),
        "`Parallel.each`": lambda: Parallel.each("all", content, over=lambda payload: [1, 2]),
        "`Choose`": lambda: Choose("one", {"this": content, "that": beside}, by=lambda payload: "this"),
    }[cell.container]()

    def fail(*_: Any) -> None:
        raise ValueError("after")

    after = world.step("after", fail if cell.happening == "is undone" else None, undo=False)
    return Saga("whole", [world.step("before", undo=undo, pivot=cell.forward), container, after], payload=str)


# Bringing it about


def waiting_entries(journal: Any, cell: Cell) -> list[Any]:
    """The executions that stand in the content, which is a wait; [] as long as not all that will, do."""
    going = [entry for entry in journal.entries() if entry.state not in ENDED]
    own = [entry for entry in going if entry.state.endswith(f".{WAITING[cell.content]}")]
    whole = all(entry in own or any(each.saga_id.startswith(f"{entry.saga_id}/") for each in own) for entry in going)
    return own if whole and len(own) == (2 if cell.is_each else 1) and not any(entry.driver for entry in going) else []


def say_it(mediator: Any, entry: Any) -> None:
    """Give the signal that an execution waits for."""
    mediator.signal(entry.saga_id, entry.state.partition(".")[2], "yes")


def spare_the_second(mediator: Any, cell: Cell, waiting: list[Any]) -> None:
    """In `each`, the second signal comes."""
    for entry in waiting:
        if cell.is_each and entry.saga_id.endswith("1"):
            say_it(mediator, entry)
            eventually(functools.partial(is_ended, mediator.journal, entry.saga_id))


def is_ended(journal: Any, saga_id: str) -> bool:
    """Whether it has ended."""
    return journal.find(saga_id).state in ENDED


def settled_but(world: World, journal: Any) -> bool:
    """Whether all that goes on is who stands at the gate, and those who wait for it."""
    return all(
        entry.state in ENDED or f"{world.at_the_gate}/".startswith(f"{entry.saga_id}/") for entry in journal.entries()
    )


def brought_about(cell: Cell, world: World, journal: Any, make: Callable[..., Any], clock: Clock) -> Any:
    """The outcome of what happens in *cell*; everything but a killing."""
    saga = built(cell, world)
    deadline = WAIT / 2 if cell.happening == "runs out of time" else None
    if cell.content == "a sleep" and not cell.is_ended_from_outside:
        mediator = make(saga, journal=journal, clock=clock, sleep=clock.sleep)
        outcome = mediator.run("whole", "p", saga_id=ID, check=False)
    elif cell.waits:
        mediator = make(saga, journal=journal, clock=clock, park_after=0.0)
        mediator.start("whole", "p", saga_id=ID, deadline=deadline)
        waiting = eventually(lambda: waiting_entries(journal, cell))
        if cell.happening == "is cancelled":
            mediator.cancel(ID)
        elif cell.happening == "runs out of time":
            clock.now += WAIT / 2 + 1
            mediator.recover()
        elif cell.happening.startswith("fails"):
            spare_the_second(mediator, cell, waiting)
            clock.now += WAIT + 1
            mediator.recover()
        else:
            for entry in waiting:
                say_it(mediator, entry)
        outcome = mediator.wait(ID, check=False)
    else:
        mediator = make(saga, journal=journal, clock=clock)
        if cell.is_ended_from_outside:
            mediator.start("whole", "p", saga_id=ID, deadline=deadline)
            assert world.begun.wait(PATIENCE)
            eventually(lambda: settled_but(world, journal))
            if deadline is None:
                mediator.cancel(ID)
            clock.now += WAIT / 2 + 1
            world.go.set()
            outcome = mediator.wait(ID, check=False)
        else:
            outcome = mediator.run("whole", "p", saga_id=ID, check=False)
    if cell.stuck_in:
        assert outcome.state == cell.stuck_in
        outcome = mediator.retry(ID)
        if cell.content == "a signal":
            for entry in eventually(lambda: [each for each in journal.entries() if each.state.endswith(".word")]):
                say_it(mediator, entry)
            outcome = mediator.wait(ID, check=False)
    return outcome


def die(cell: Cell, world: World, path: Path, clock: Clock, *, is_async: bool) -> None:
    """In a process of its own: run it until it dies; by its own hand where it would go on waiting."""
    saga = built(cell, world)
    settings: dict[str, Any] = {"journal": SQLiteJournal(path, durability="normal"), "clock": clock}
    sleepers = iter(range(1 if cell.is_each else 0, -1, -1))  # who come before the last one wait, the last one kills
    if is_async:

        async def slept(_: float) -> None:
            await asyncio.sleep(PATIENCE) if next(sleepers) else kill()

        async def main() -> None:
            await AsyncMediator(saga, sleep=slept, **settings).run("whole", "p", saga_id=ID, check=False)

        asyncio.run(main())
    else:

        def sleep(_: float) -> None:
            threading.Event().wait(PATIENCE) if next(sleepers) else kill()

        Mediator(saga, sleep=sleep, **settings).run("whole", "p", saga_id=ID, check=False)
    kill()


def killed(cell: Cell, world: World, folder: Path, make: Callable[..., Any], clock: Clock) -> tuple[Any, Any]:
    """The outcome after a killing, and the journal."""
    path = folder / "sagas.db"
    assert in_a_child(lambda: die(cell, world, path, clock, is_async=make.is_async))  # type: ignore[attr-defined]
    clock.now += WAIT / 2
    journal = SQLiteJournal(path, durability="normal")
    mediator = make(built(cell, world, well=True), journal=journal, clock=clock, sleep=clock.sleep)
    mediator.recover()
    if cell.content == "a signal":
        for entry in eventually(lambda: waiting_entries(journal, cell)):
            say_it(mediator, entry)
    return mediator.wait(ID, check=False), journal


CELLS = [
    Cell(container, content, happening) for container in CONTAINERS for content in CONTENTS for happening in HAPPENINGS
]


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    """The participants; whoever still stands at the gate is let go at the end."""
    made = World(tmp_path)
    yield made
    made.go.set()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_cell_is_true(cell, world, drive, tmp_path):
    """What the table says of this container, this content and this happening is what happens."""
    clock = Clock()
    if cell.has_no_doubt:
        assert not any_in_doubt(built(cell, world), WAITING[cell.content])
        return
    if cell.happening == "is killed":
        outcome, journal = killed(cell, world, tmp_path, drive, clock)
    else:
        journal = MemoryJournal(encode=True)
        outcome = brought_about(cell, world, journal, drive, clock)

    assert outcome.state == cell.state, outcome.summary()
    assert cell.error is None or isinstance(causes(outcome.error)[0], cell.error) or is_recorded(outcome, cell.error)
    calls = [call for call, _ in world.calls]
    undone = [call.removeprefix("undo ") for call in calls if call.startswith("undo ")]
    assert sorted(undone) == sorted(cell.undone)
    if undone:
        assert undone[-1] == "before"
    for item in ("", " 1", " 2"):
        if f"first{item}" in undone and f"it{item}" in undone:
            assert undone.index(f"it{item}") < undone.index(f"first{item}")
    assert ("after" in calls) == (cell.state == "succeeded" or cell.happening == "is undone")
    assert all(entry.state in ENDED for entry in journal.entries()), [entry.state for entry in journal.entries()]
    if cell.happening == "is killed":
        if not cell.waits:
            struck = "it 1" if cell.is_each else "it"
            keys = [key for call, key in world.calls if call == struck]
            assert len(keys) >= 2
            assert len(set(keys)) == 1
        if cell.content == "a sleep":
            assert max(clock.slept) == WAIT / 2
        assert calls.count("before") == calls.count("after") == 1
        journal.close()


def any_in_doubt(saga: Saga, name: str) -> bool:
    """Whether anywhere in *saga* or its branches a part of this name can be in doubt, or compensated."""
    own = any(
        state.endswith(f".{name}")
        and (state.startswith("compensating") or saga.machine.has_transition("in_doubt", state))
        for state in saga.machine.states
    )
    return own or any(any_in_doubt(branch, name) for group in saga.branches.values() for branch in group.values())


def causes(error: Any) -> list[Any]:
    """The errors that *error* is made of."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in causes(each)]
    return [error]


def is_recorded(outcome: Any, kind: type[Exception]) -> bool:
    """Whether what the journal has kept of the cause is an error of this kind."""
    return getattr(causes(outcome.error)[0], "type", "").rpartition(".")[2] == kind.__name__


# The page

BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"


def rendered() -> str:
    """The tables, as they stand in the docs."""
    lines = [
        "`python -m tests.test_composition_table` writes these tables. Each cell is a test on both mediators, and",
        "a test fails if the tables are not up to date.",
        "",
        "Every saga below has the parts `[before, CONTAINER, after]`. The container contains one of these parts:",
        "",
        *(f"- {what}: `{code}`" for what, code in CONTENTS.items()),
        "",
        "Each column of a table is one of these cases. A cell lists the compensated steps, newest first; the branches",
        "of a group are compensated at the same time:",
        "",
        *(f"- *{what}*: {told}" for what, told in HAPPENINGS.items()),
    ]
    for container, code in CONTAINERS.items():
        lines += ["", f"### In {container}", "", f"`{code}`", ""]
        lines += ["| | " + " | ".join(HAPPENINGS) + " |", "|---" * (len(HAPPENINGS) + 1) + "|"]
        for content in CONTENTS:
            cells = (Cell(container, content, happening).rendered() for happening in HAPPENINGS)
            lines.append(f"| {content} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    """Whoever pastes the page's code sees the page's output."""
    monkeypatch.chdir(tmp_path)
    assert run(PAGE.read_text(encoding="utf-8"), monkeypatch) >= 9


def test_the_page_tells_what_is_tested():
    """The table in the docs is the one whose cells are tested."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == rendered()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + rendered() + END + rest.partition(END)[2], encoding="utf-8")
