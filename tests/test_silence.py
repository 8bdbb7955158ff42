"""What used to happen in silence is said, with the next move."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    Context,
    Mediator,
    Parallel,
    Retry,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    Step,
    forking,
    step,
)
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.mediator import closing
from fsm_mediator.records import MOST_CAUSES, render_traceback
from tests.drivers import PATIENCE, core_of

ENDS = """\
import threading
from fsm_mediator import Mediator, Saga, step
@step
def blocks(payload):
    begun.release()
    threading.Event().wait()
begun = threading.Semaphore(0)
mediators = [Mediator(Saga("s", [blocks]), journal={journal}, close_grace=0) for _ in range(2)]
for number, mediator in enumerate(mediators):
    mediator.start("s", saga_id=f"order-{{number}}")
    begun.acquire()
{last}
"""


def end_of(tmp_path, *options, journal="None", last=""):
    """What a process prints that ends with an execution under way in each of two mediators."""
    code = ENDS.format(journal=journal, last=last)
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_process_that_ends_with_executions_under_way_names_them_once(tmp_path):
    """A script that forgets close() says what it leaves, and what becomes of it."""
    text = end_of(tmp_path)
    assert text.count("the process ends with 2 executions under way: ") == 1
    assert "order-0" in text
    assert "order-1" in text
    assert "lost, for their journal is in memory" in text
    assert "close()" in text
    assert "recover()" in end_of(tmp_path, journal="'sagas.db'")


def test_executions_under_way_are_listed_by_what_becomes_of_them(tmp_path, monkeypatch, caplog):
    """Ten of them are named, in the order in which they began. A closed mediator leaves none."""
    answered = threading.Event()

    @step
    def charge(payload):
        answered.wait(PATIENCE)

    kept, lost, closed = [
        Mediator(Saga("s", [charge]), journal=journal)
        for journal in (SQLiteJournal(tmp_path / "sagas.db", durability="normal"), MemoryJournal(), MemoryJournal())
    ]
    kept.start("s", saga_id="order-1")
    for number in range(11):
        lost.start("s", saga_id=f"o-{number}")
    closed.start("s", saga_id="order-2")
    closed.close(0.0)
    with monkeypatch.context() as patched:
        patched.setattr(forking, "registered", lambda: [object(), *map(core_of, (closed, lost, kept))])
        closing.warn_of_executions_under_way()
    said = [record.getMessage() for record in caplog.records if "the process ends" in record.getMessage()]
    answered.set()
    kept.close()
    lost.close()

    assert [text.partition(". They ")[0] for text in said] == [
        "the process ends with 1 execution under way: order-1",
        f"the process ends with 11 executions under way: {', '.join(f'o-{n}' for n in range(10))} and 1 more",
    ]
    assert "wait until recover() or a daemon on the same journal takes them up" in said[0]
    assert "are lost, for their journal is in memory" in said[1]


def test_process_that_ends_under_dev_mode_warns_of_the_resource(tmp_path):
    """Under ``-X dev`` it is a ResourceWarning, as of any other resource that is not closed."""
    text = end_of(tmp_path, "-X", "dev")
    assert text.count("ResourceWarning: the process ends with 2 executions under way") == 1


def test_process_that_closes_its_mediators_says_nothing_at_its_end(tmp_path):
    """What close() has reported is not reported again."""
    text = end_of(tmp_path, last="for mediator in mediators: mediator.close()")
    assert "the process ends" not in text


def test_process_that_ends_names_ten_of_many(tmp_path):
    """A thousand executions are a number, not a thousand ids."""
    code = (
        "from fsm_mediator import Mediator, Saga, Sleep\n"
        "mediator = Mediator(Saga('s', [Sleep('nap', 50)]))\n"
        "for number in range(30): mediator.start('s', saga_id=f'order-{number}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "30 executions under way" in done.stderr
    assert "and 20 more" in done.stderr
    one = [sys.executable, "-c", code.replace("30", "1")]
    done = subprocess.run(one, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "1 execution under way: order-0. They" in done.stderr


def optional(payload: Any, ctx: Context | None = None) -> None:
    """Would never get its context."""


def misnamed(payload: Any, ctx: Any = None) -> None:
    """Would never get its context, and says so by the name alone."""


def by_keyword(payload: Any, *, context: Any = None) -> None:
    """Would never get its context either: it is passed by position."""


def third(payload: Any, context: Context, again: "fsm_mediator.Context | None" = None) -> None:  # type: ignore[name-defined]  # noqa: F821, UP037
    """Takes one context too many."""


@pytest.mark.parametrize("function", [optional, misnamed, by_keyword, third])
@pytest.mark.parametrize("verb", ["execute", "compensation", "by"])
def test_parameter_that_would_never_get_its_context_is_refused(function, verb):
    """A context under another name would be None for ever; the definition says how to ask for it."""
    define: dict[str, Callable[[Any], object]] = {
        "execute": step,
        "compensation": step(name="book")(lambda payload: None).compensation,
        "by": lambda by: Choose("route", {"a": Signal("a")}, by=by),
    }
    with pytest.raises(DefinitionError, match=r"would never be given its '(ctx|context|again)'.*named 'context'"):
        define[verb](function)


def test_parameters_of_other_meaning_are_welcome():
    """A context of another library, a default, and a bound argument are the user's own."""
    import decimal
    import functools

    def own(payload: Any, precision: decimal.Context | None = None, deep: bool = False) -> None: ...

    def bound(payload: Any, *, context: Any) -> None: ...

    def named(payload: Any, context: Any = None) -> None: ...

    step(own)
    step(name="bound")(functools.partial(bound, context="service"))
    step(named)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"attemps": 3}, "did you mean 'attempts'"), ({"backoff": 2}, "there are attempts, wait_initial")],
    ids=["slip", "unknown"],
)
def test_unknown_setting_of_a_retry_is_a_mistake_in_a_definition(settings, said):
    """A misspelt setting of a Retry is named, with the one that was surely meant."""
    with pytest.raises(DefinitionError, match=said):
        Retry(**settings)


@pytest.mark.parametrize(
    "define",
    [
        lambda seconds: step(timeout=seconds)(optional_free),
        lambda seconds: step(timeout=1, grace=seconds)(optional_free),
        lambda seconds: Signal("yes", timeout=seconds),
        lambda seconds: Sleep("nap", seconds),
        lambda seconds: Saga("s", [Signal("yes")], deadline=seconds),
        lambda seconds: Retry(wait_max=seconds),
        lambda seconds: Retry(wait_jitter=seconds),
        lambda seconds: Retry(wait_initial=seconds, wait_max=seconds),
    ],
    ids=["timeout", "grace", "signal", "sleep", "deadline", "wait_max", "wait_jitter", "wait_initial"],
)
def test_seconds_past_what_the_system_can_wait_are_refused_where_they_are_defined(define):
    """A wait of 10**11 seconds is a mistake, and is named before anything runs."""
    define(10**9)
    with pytest.raises(DefinitionError, match="more than this system can wait"):
        define(10**11)


def optional_free(payload):
    """Does nothing."""


def test_sleep_whose_function_tells_too_many_seconds_fails_its_saga():
    """What is only known when it runs is refused there, as any other nonsense that a function tells."""
    outcome = Mediator(Saga("s", [Sleep("nap", lambda payload: 1e300)])).run("s", check=False)
    assert outcome.failed
    assert "more than this system can wait" in str(outcome.error)


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_unknown_result_names_the_known_ones(encode, nested):
    """A misspelt step in `context.results` is an error that lists the steps which have one."""

    @step
    def reserve(payload):
        return 1

    @step(retry=Retry(attempts=1))
    def ship(payload, context):
        return context.results["reserv"]

    parts: list[Any] = [reserve, ship]
    saga = Saga("s", [Saga("inner", parts)] if nested else parts)
    outcome = Mediator(saga, journal=MemoryJournal(encode=encode)).run("s", check=False)
    assert isinstance(outcome.error, KeyError)
    assert "there is no result 'reserv'; there are reserve" in str(outcome.error)
    unpickled = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - it was pickled here
    for known in (outcome.results, unpickled.results):
        with pytest.raises(KeyError, match=r"there is no result 'reserv'; there are (reserve|inner)"):
            known["reserv"]


def test_saga_parked_inside_a_choice_names_the_signal():
    """Whoever reads the outcome learns what to send; so does one who sends the signal under its short name."""
    choice = Choose(
        "route", {"manual": Saga("manual", [Signal("approval")]), "auto": Signal("hook")}, by=lambda _: "manual"
    )
    each = Parallel.each("items", Signal("weight"), over=lambda _: [1])
    mediator = Mediator(Saga("c", [choice, each]))
    outcome = mediator.run("c", saga_id="c-1", check=False)
    assert "mediator.signal('c-1', NAME, value); NAME is 'route.manual.approval'" in outcome.summary()
    assert "items" not in outcome.summary()  # it is not there yet
    assert "mediator" not in outcome.summary(next_move=False)
    from fsm_mediator.errors import RefusedError

    with pytest.raises(RefusedError, match=r"it has route\.manual\.approval, route\.auto, items\.0"):
        mediator.signal("c-1", "approval", 1)
    mediator.signal("c-1", "route.manual.approval", 1)
    outcome = mediator.wait("c-1", check=False)
    assert "'items.0'" in outcome.summary()
    mediator.signal("c-1", "items.0", 1)
    assert mediator.wait("c-1").succeeded


def test_name_that_is_a_property_of_a_base_class_is_respected():
    """A company's base class may compute names, as it may compute any other setting."""

    class Named(Step):
        def __init__(self, prefix: str) -> None:
            self.prefix = prefix

        @property
        def name(self) -> str:  # type: ignore[override]
            return f"{self.prefix}_step"

        def execute(self, payload: Any) -> None: ...

    class Charge(Named): ...

    saga = Saga("s", [Charge("card"), Charge("bank")])
    assert [part.path for part in saga.parts] == ["card_step", "bank_step"]


def test_each_cause_of_a_chain_is_looked_at_a_bounded_number_of_times(monkeypatch):
    """The text of a chain of causes is made in a time that grows with its length and no faster."""
    made: list[object] = []
    original = traceback.TracebackException.__init__

    def counted(self: Any, *arguments: Any, **settings: Any) -> None:
        made.append(self)
        original(self, *arguments, **settings)

    monkeypatch.setattr(traceback.TracebackException, "__init__", counted)
    error: BaseException | None = None
    for number in range(MOST_CAUSES):
        later = ValueError(number)
        later.__cause__ = later.__context__ = error
        error = later
    assert error is not None
    render_traceback(error)
    assert len(made) == MOST_CAUSES


def test_saga_that_runs_itself_without_end_is_named(caplog):
    """A step that runs its own saga again exhausts the stack; the log says so, and what to do."""
    mediators: list[Mediator] = []

    @step(retry=Retry(attempts=1))
    def again(payload):
        return mediators[0].run("loop").state

    mediators.append(Mediator(Saga("loop", [again])))
    outcome = mediators[0].run("loop", check=False)
    assert outcome.failed
    (said,) = [record.message for record in caplog.records if "runs itself" in record.message]
    assert "saga 'loop' runs itself" in said
    assert "start()" in said


TOO_LONG = 1e11
"""Seconds: more than a lock can wait on any system."""


@pytest.mark.parametrize(
    "settings", [{"park_after": TOO_LONG}, {"close_grace": TOO_LONG}], ids=["park_after", "close_grace"]
)
def test_settings_that_no_system_can_wait_are_refused(drive, settings):
    """At once, and not as an OverflowError out of a run or a close that is under way."""
    with pytest.raises(DefinitionError, match="more than this system can wait"):
        drive(Saga("s", [step(name="a")(lambda p: None)]), **settings)


def test_waits_of_a_caller_that_no_system_can_wait_are_refused(drive):
    """In every call that takes seconds; nothing was started."""
    mediator = drive(Saga("s", [step(name="a")(lambda p: None)]))
    for call in (
        lambda: mediator.run("s", timeout=TOO_LONG),
        lambda: mediator.start("s", deadline=TOO_LONG),
        lambda: mediator.wait("o-1", timeout=TOO_LONG),
        lambda: mediator.retry("o-1", timeout=TOO_LONG),
        lambda: mediator.close(grace=TOO_LONG),
        lambda: mediator.daemon(poll=TOO_LONG),
    ):
        with pytest.raises(DefinitionError, match="more than this system can wait"):
            call()
    assert mediator.executions() == []
