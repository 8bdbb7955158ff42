"""Around an attempt: what is entered where, what it can change (nothing), and the notices of who drives."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from pathlib import Path

import pytest

from fsm_mediator import (
    AsyncMediator,
    Choose,
    DefinitionError,
    Mediator,
    MemoryJournal,
    NotHappened,
    OutcomeUnknownError,
    Saga,
    Signal,
    StepRejectedError,
    step,
)
from fsm_mediator.mediator.driving import ExecutionDriver
from tests.drivers import MORTAL, ONCE, Died, World, core_of, eventually
from tests.test_readme import run

ambient: contextvars.ContextVar[str] = contextvars.ContextVar("ambient", default="")


class Notes:
    """A hook that writes down what it is entered for and how it is left; and every notice."""

    def __init__(self, name: str = "hook") -> None:
        self.name = name
        self.lines: list[str] = []
        self.threads: list[int] = []
        self.notices: list[str] = []

    @contextlib.contextmanager
    def __call__(self, context):
        self.threads.append(threading.get_ident())
        self.lines.append(f"{self.name} > {context.verb} {context.step} {context.attempt}")
        token = ambient.set(context.step)
        try:
            yield
        except BaseException as error:
            self.lines.append(f"{self.name} < {type(error).__name__}")
            raise
        else:
            self.lines.append(f"{self.name} <")
        finally:
            ambient.reset(token)

    def notice(self, notice) -> None:
        self.notices.append(f"{notice.kind} {notice.saga_id} {notice.state}")


def trip(world: World, **settings) -> Saga:
    """Books, chooses, pays without an answer, asks its probe and gives up: a call of every kind."""
    seen = world.calls.append
    book = world.step(
        "book", lambda *_: seen(f"books in {ambient.get()!r}"), undo=[lambda *_: seen(f"undoes in {ambient.get()!r}")]
    )

    def way(payload):
        seen(f"chooses in {ambient.get()!r}")
        return "rail"

    pay = world.step(
        "pay",
        OutcomeUnknownError("no answer"),
        StepRejectedError("no money"),
        probe=lambda payload: seen(f"asks in {ambient.get()!r}") or NotHappened(),
        **settings,
    )
    return Saga("trip", [book, Choose("way", {"rail": world.step("rail", undo=None)}, by=way), pay])


ATTEMPTS = [
    *("> execute book 1", "<", "> decide way 0", "<", "> execute rail 1", "<"),
    *("> execute pay 1", "< OutcomeUnknownError", "> probe pay 1", "<", "> execute pay 2", "< StepRejectedError"),
    *("> compensate book 1", "<"),
]


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_hook_is_entered_around_each_call(drive, journal, timeout):
    """What I enter is there in every step, probe, compensation and decision, also in a thread of its own."""
    world, notes = World(), Notes()
    mediator = drive(trip(world, timeout=timeout), journal=journal, around=[notes])

    outcome = mediator.run("trip", saga_id="t-1", check=False)

    assert outcome.state == "failed"
    assert notes.lines == [f"hook {line}" for line in ATTEMPTS]
    assert [line for line in world.calls if " in " in line] == [
        *("books in 'book'", "chooses in 'way'", "asks in 'pay'", "undoes in 'book'")
    ]


def test_hooks_leave_in_the_reverse_order(drive):
    """The first of the list is the outermost."""
    world = World()
    lines: list[str] = []
    outer, inner = Notes("outer"), Notes("inner")
    outer.lines = inner.lines = lines

    drive(Saga("s", [world.step("a")]), around=[outer, inner]).run("s")

    assert lines == ["outer > execute a 1", "inner > execute a 1", "inner <", "outer <"]


class Meddler:
    """Enters whatever, and does *does* when it leaves."""

    def __init__(self, does) -> None:
        self.does = does

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised):
        return self.does()


def raises(error: BaseException):
    """A function that raises it."""

    def call(*_):
        raise error

    return call


@pytest.mark.parametrize(
    "does", [lambda: True, raises(ValueError("mine")), raises(SystemExit(3))], ids=["true", "error", "exit"]
)
def test_a_hook_cannot_change_the_answer(drive, journal, does):
    """Whatever a hook returns or raises on leaving, my step's own result and error count, and the other hooks leave."""
    world, notes = World(), Notes()
    saga = Saga("s", [world.step("a", "mine"), world.step("b", ConnectionError("gone"), "at last")])
    mediator = drive(saga, journal=journal, around=[notes, lambda context: Meddler(does)])

    outcome = mediator.run("s")

    assert outcome.results == {"a": "mine", "b": "at last"}
    assert [record.error.type for record in outcome.history if record.error] == ["ConnectionError"]
    assert notes.lines[1::2] == ["hook <", "hook < ConnectionError", "hook <"]


@pytest.mark.parametrize("fault", [ValueError("broken"), SystemExit(3)], ids=["error", "exit"])
def test_a_hook_that_cannot_be_entered_is_left_out(drive, caplog, fault):
    """A hook that raises on entering harms nothing: it is logged, and the attempt goes on with the others."""
    world, notes = World(), Notes()

    outcome = drive(Saga("s", [world.step("a")]), around=[raises(fault), notes]).run("s", saga_id="o-1")

    assert outcome.results == {"a": "a done"}
    assert notes.lines == ["hook > execute a 1", "hook <"]
    (line,) = [line.getMessage() for line in caplog.records if "around" in line.getMessage()]
    assert "is left out for this attempt to execute 'a' of execution 'o-1'" in line


def test_a_traceback_begins_in_the_step(drive):
    """No frame of the library, nor of a hook, stands above my own in the traceback that is journaled."""
    world = World()
    saga = Saga("s", [world.step("a", lambda payload, _: payload / 0, undo=None)])

    plain, hooked = (
        drive(saga, around=around).run("s", 1, check=False).history[-1].error.traceback for around in ([], [Notes()])
    )

    assert hooked == plain


@contextlib.asynccontextmanager
async def awaited(context):
    """An asynchronous hook."""
    token = ambient.set(f"awaited {context.step}")
    await asyncio.sleep(0)
    try:
        yield
    finally:
        await asyncio.sleep(0)
        ambient.reset(token)


def test_an_asynchronous_hook_surrounds_coroutines_and_functions():
    """In an AsyncMediator my asynchronous hook is there in coroutine steps, and in plain ones, which run in threads."""

    @step
    async def first(payload):
        return ambient.get()

    @step
    def second(payload):
        return ambient.get()

    @step(timeout=60.0)
    async def third(payload):
        return ambient.get()

    async def main():
        async with AsyncMediator(Saga("s", [first, second, third]), around=[awaited]) as mediator:
            return (await mediator.run("s")).results

    assert asyncio.run(main()) == {"first": "awaited first", "second": "awaited second", "third": "awaited third"}


class Asynchronous:
    """A hook that is a class."""

    def __init__(self, context) -> None:
        pass

    async def __aenter__(self):
        pass

    async def __aexit__(self, *_):
        pass


@pytest.mark.parametrize(
    "hook", [awaited, functools.partial(awaited), Asynchronous], ids=["function", "partial", "class"]
)
def test_a_sync_mediator_refuses_an_asynchronous_hook(hook):
    """I am told when the mediator is made, not when the first saga runs."""
    with pytest.raises(DefinitionError, match="use AsyncMediator"):
        Mediator(around=[hook])


async def coroutine(context):
    """No hook."""


def generator(context):
    """No hook: the decorator is missing."""
    yield


@pytest.mark.parametrize(
    "hook", [7, contextlib.nullcontext(), coroutine, generator], ids=["number", "made", "coroutine", "generator"]
)
@pytest.mark.parametrize("kind", [Mediator, AsyncMediator])
def test_what_is_no_hook_is_refused(kind, hook):
    """A context manager that is ready made, or a function that makes none, is refused with the cure."""
    with pytest.raises(DefinitionError, match="context manager"):
        kind(around=[hook])
    with pytest.raises(DefinitionError, match="around is a list"):
        kind(around=hook if isinstance(hook, int) else 3)


def test_nothing_is_paid_without_hooks(drive):
    """A mediator without hooks and notices is driven by the code that knows of none, in memory by its fast path."""
    core = core_of(drive(around=[], observers=[lambda record: None]))

    assert type(core) is ExecutionDriver
    assert core.memory is not None


# Notices


def test_notices_tell_each_stint(drive, journal):
    """I am told who takes an execution up and why it is left, in pairs."""
    world, notes = World(), Notes()
    saga = Saga("s", [world.step("a"), Signal("go"), world.step("b")])
    mediator = drive(saga, journal=journal, around=[notes])

    assert mediator.run("s", saga_id="o-1", check=False).state == "waiting.go"
    first = list(notes.notices)
    mediator.signal("o-1", "go")
    mediator.wait("o-1")
    eventually(lambda: len(notes.notices) >= 4)

    assert first == ["claimed o-1 executing.a", "parked o-1 waiting.go"]
    assert notes.notices[-2:] == ["claimed o-1 waiting.go", "settled o-1 succeeded"]


def test_joining_an_execution_is_no_stint(drive, journal):
    """A second call with the same id takes nothing up."""
    notes = Notes()
    mediator = drive(Saga("s", [World().step("a")]), journal=journal, around=[notes])
    mediator.run("s", saga_id="o-1")
    mediator.run("s", saga_id="o-1")

    assert notes.notices == ["claimed o-1 executing.a", "settled o-1 succeeded"]


def test_taking_over_from_a_dead_driver_is_recovering(drive, journal, monkeypatch):
    """A notice tells that the driver before has died; observers are given notices as hooks are."""
    world, notes = World(), Notes()
    saga = Saga("s", [world.step("a", Died(), "a done")])
    first = drive(saga, journal=journal, **MORTAL)
    monkeypatch.setattr(core_of(first).owned, "release", lambda saga_id: None)  # as after SIGKILL
    with pytest.raises(Died):
        first.run("s", saga_id="o-1")
    journal.dismiss(core_of(first).driver.id)

    class Watcher:
        notice = notes.notice

        def __call__(self, record):
            pass

    (outcome,) = drive(saga, journal=journal, observers=[Watcher()]).recover()

    assert outcome.state == "succeeded"
    assert notes.notices == ["recovered o-1 executing.a", "settled o-1 succeeded"]


def test_losing_the_lease_is_told():
    """A driver whose execution was claimed by another one meanwhile says so, and that its stint is over."""
    world, notes, journal = World(), Notes(), MemoryJournal(encode=True)
    other = World()

    def overtaken(payload, context):
        journal.dismiss(core_of(mediator).driver.id)
        with Mediator(Saga("s", [other.step("a", undo=None)]), journal=journal) as second:
            second.recover()

    mediator = Mediator(Saga("s", [world.step("a", overtaken, undo=None)]), journal=journal, around=[notes])

    assert mediator.run("s", saga_id="o-1").state == "succeeded"
    assert notes.notices[:2] == ["claimed o-1 executing.a", "lease_lost o-1 succeeded"]
    mediator.close()


def test_a_listener_that_raises_harms_nothing(drive, caplog, monkeypatch):
    """A notice that my code cannot digest is logged."""
    notes = Notes()
    monkeypatch.setattr(notes, "notice", raises(ValueError("no")))

    assert drive(Saga("s", [World().step("a")]), around=[notes]).run("s").state == "succeeded"
    assert "raised at a notice" in caplog.text


# The page


@pytest.mark.once
def test_the_page_does_what_it_says(monkeypatch):
    """Whoever types the code of docs/telemetry.md sees its output."""
    page = Path(__file__).parent.parent / "docs" / "telemetry.md"

    assert run(page.read_text(encoding="utf-8"), monkeypatch) >= 2


def test_ctrl_c_on_entering_a_hook_is_no_fault_of_the_hook():
    """It ends the run before the step is called, and the saga can be resumed."""
    world, journal = World(), MemoryJournal()
    saga = Saga("s", [world.step("a")])
    with contextlib.closing(Mediator(saga, journal=journal, around=[raises(KeyboardInterrupt())])) as mediator:
        with pytest.raises(KeyboardInterrupt):
            mediator.run("s", saga_id="o-1")
        assert world.calls == []

    with contextlib.closing(Mediator(saga, journal=journal)) as later:
        assert later.run("s", saga_id="o-1").succeeded


def test_hooks_exit_around_coroutine_steps_with_the_error_of_the_step():
    """Both kinds of hooks see the end of a coroutine step, the last one first, with the error that it raised."""
    lines: list[str] = []
    outer, inner = Notes("outer"), Notes("inner")
    outer.lines = inner.lines = lines

    @contextlib.asynccontextmanager
    async def middle(context):
        try:
            yield
        except ValueError:
            lines.append("middle < ValueError")
            raise
        else:
            lines.append("middle <")

    @step(retry=ONCE)
    async def good(payload):
        lines.append("good")

    @step(retry=ONCE)
    async def bad(payload):
        raise ValueError("no such order")

    async def main():
        async with AsyncMediator(Saga("s", [good, bad]), around=[outer, middle, inner]) as mediator:
            return await mediator.run("s", check=False)

    assert asyncio.run(main()).failed
    assert lines == [
        *("outer > execute good 1", "inner > execute good 1", "good", "inner <", "middle <", "outer <"),
        *("outer > execute bad 1", "inner > execute bad 1"),
        *("inner < ValueError", "middle < ValueError", "outer < ValueError"),
    ]


def test_asynchronous_hook_exits_with_the_error_of_a_function(caplog):
    """A plain step raises in its thread. The hook sees the error, and an error of the hook itself is logged."""
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def watches(context):
        try:
            yield
        except ValueError as error:
            seen.append(str(error))
            raise OSError("no connection") from error

    @step(retry=ONCE)
    def charge(payload):
        raise ValueError("no such order")

    async def main():
        async with AsyncMediator(Saga("s", [charge]), around=[watches]) as mediator:
            return await mediator.run("s", check=False)

    outcome = asyncio.run(main())

    assert seen == ["no such order"]
    assert str(outcome.error) == "no such order"
    assert [str(record.exc_info[1]) for record in caplog.records if "around: " in record.getMessage()] == [
        "no connection"
    ]
