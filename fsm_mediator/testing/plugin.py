"""The pytest plugin. Load it with ``-p fsm_mediator.testing.plugin``, or ``pytest_plugins`` in a conftest.

The fixtures are `virtual_clock`, `memory_journal`, `sqlite_journal` and `mediator`. The marker
``@pytest.mark.saga(...)`` takes the arguments of `check_saga`, and makes one test for each fault. The body of the test
runs only if the saga survives the fault; the fixture ``saga_case`` has the `Case` to check further. The last lines of a
session show the coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import attrs

from fsm_mediator.errors import MissingExtraError

try:
    import pytest
except ModuleNotFoundError as _missing:
    raise MissingExtraError("fsm_mediator.testing.plugin", "testing") from _missing

from fsm_mediator.definition.saga import Saga
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.testing import check
from fsm_mediator.testing.check import Checking
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import FaultPlan
from fsm_mediator.testing.report import Case, CheckReport

MARKER = (
    "saga(saga, payload=None, *, observe=None, reset=None, signals=None, strict=False, pairs=False, kill=False, "
    "encode=True, only=None): one test for every fault that the saga can meet; arguments as for "
    "fsm_mediator.testing.check_saga"
)

_CASE = "saga_case"
_SUITES = pytest.StashKey[list["_Suite"]]()
_COVERED = pytest.StashKey[list[CheckReport]]()
_WORDS = "fsm_mediator_covered"


@attrs.frozen
class _Coverage:
    """The coverage of one saga by a test: the number of cases, and the paths and transitions that were taken.

    *known* is the number of all transitions. This is plain data, because test reports may be sent between processes.
    """

    saga: str
    cases: int
    paths: list[str]
    transitions: list[str]
    known: int

    @classmethod
    def of(cls, report: CheckReport) -> _Coverage:
        return cls(
            report.saga.name,
            len(report.cases),
            ["; ".join(path) for path in report.paths],
            [" ".join(each) for each in report.transitions],
            sum(1 for _ in report.saga.machine.moves()),
        )


class _Suite:
    """The tests that one marker ``saga`` makes. All these tests share one fault-free run."""

    def __init__(self, saga: Any = None, payload: Any = None, **settings: Any) -> None:
        self.how: dict[str, Any] = {name: settings.pop(name, default) for name, default in _HOW.items()}
        world = {name: settings.pop(name, default) for name, default in _WORLD.items()}
        if saga is None:
            raise pytest.UsageError(f"@pytest.mark.saga names no saga; write @pytest.mark.saga(checkout): {MARKER}")
        if settings:
            raise pytest.UsageError(f"@pytest.mark.saga: unknown argument {next(iter(settings))!r}; it takes {MARKER}")
        encode = world.pop("encode")
        self.checking = Checking(saga, payload, **world, encode=encode)

    def plans(self) -> list[FaultPlan]:
        return [FaultPlan(), *self.checking.plans(**self.how)]


_HOW = {"only": None, "strict": False, "pairs": False, "kill": False}
_WORLD = {"observe": None, "reset": None, "signals": None, "encode": True}


@attrs.frozen
class _Planned:
    suite: _Suite
    plan: FaultPlan

    def case(self) -> Case:
        __tracebackhide__ = True
        case = self.suite.checking.case(self.plan)
        report = CheckReport(self.suite.checking.saga, (case,))
        for listener in check.listeners:
            listener(report)
        report.raise_for_problems()
        return case


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``saga``."""
    config.addinivalue_line("markers", MARKER)
    config.stash[_SUITES] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the event loops of coroutine sagas."""
    for suite in config.stash.get(_SUITES, []):
        suite.checking.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each fault plan, if the test function has the marker ``saga``."""
    marker = metafunc.definition.get_closest_marker("saga")
    if marker is None:
        return
    suite = _Suite(*marker.args, **marker.kwargs)
    metafunc.config.stash[_SUITES].append(suite)
    if _CASE not in metafunc.fixturenames:
        metafunc.fixturenames.append(_CASE)
    plans = suite.plans()
    ids = [f"{suite.checking.saga.name}-{plan.id}" for plan in plans]
    metafunc.parametrize(_CASE, [_Planned(suite, plan) for plan in plans], ids=ids)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Run the case before the test's body. If the saga does not survive the fault, the test fails."""
    __tracebackhide__ = True
    callspec = getattr(pyfuncitem, "callspec", None)
    planned = callspec.params.get(_CASE) if callspec is not None else None
    if isinstance(planned, _Planned):
        pyfuncitem.funcargs[_CASE] = planned.case()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Record the reports of all checks that run during a test."""
    __tracebackhide__ = True
    covered = item.stash.setdefault(_COVERED, [])
    check.listeners.append(covered.append)
    try:
        return (yield)
    finally:
        check.listeners.remove(covered.append)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a test the coverage of all sagas that were checked in this test."""
    report = yield
    if call.when == "call" and (covered := item.stash.get(_COVERED, None)):
        setattr(report, _WORDS, [attrs.asdict(_Coverage.of(each)) for each in covered])
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line of coverage for each saga."""
    reports_seen: Iterable[Any] = (each for reports in terminalreporter.stats.values() for each in reports)
    for line in summary(_Coverage(**each) for report in reports_seen for each in getattr(report, _WORDS, ())):
        terminalreporter.write_line(line)


def summary(covered: Iterable[_Coverage]) -> Iterator[str]:
    """One line for each saga: its coverage by all tests together."""
    sagas: dict[str, list[_Coverage]] = {}
    for each in covered:
        sagas.setdefault(each.saga, []).append(each)
    for name, parts in sorted(sagas.items()):
        cases = sum(part.cases for part in parts)
        paths = {path for part in parts for path in part.paths}
        transitions = {each for part in parts for each in part.transitions}
        yield (
            f"saga {name}: {_number(len(paths), 'failure path')} covered in {_number(cases, 'run')}, "
            f"{len(transitions)} of {max(part.known for part in parts)} transitions"
        )


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that moves only when a mediator waits: hours of backoff take microseconds."""
    return VirtualClock()


@pytest.fixture
def memory_journal() -> Iterator[MemoryJournal]:
    """A journal in memory that encodes and decodes like a durable journal."""
    journal = MemoryJournal(encode=True)
    yield journal
    journal.close()


@pytest.fixture
def sqlite_journal(tmp_path: Any) -> Iterator[Any]:
    """A SQLite journal in a new file for each test."""
    from fsm_mediator.journal.sqlite.journal import SQLiteJournal

    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    yield journal
    journal.close()


@pytest.fixture
def mediator(virtual_clock: VirtualClock) -> Iterator[Callable[..., Mediator]]:
    """Makes mediators on `virtual_clock`: ``mediator(checkout, journal=sqlite_journal)``. Closes them at the end."""
    made: list[Mediator] = []

    def make(*sagas: Saga, **settings: Any) -> Mediator:
        own: dict[str, Any] = {"journal": MemoryJournal(encode=True), "close_grace": 0.0}
        made.append(Mediator(*sagas, **(own | virtual_clock.settings | settings)))
        return made[-1]

    yield make
    for each in made:
        each.close()
