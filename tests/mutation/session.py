"""The tests under mutants: pytest collects once, and every test or mutant then has a forked child of its own.

First each test is run alone, with the package instrumented: that tells which statements it reaches, how long it takes,
and whether it holds when it is run so. Then each mutant meets the tests that reach its statement, those first that have
caught others in the same function, then the fastest, until one fails or their time is used up.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import hashlib
import importlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

import attrs
import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.forks import FINISHED, Job, Ran, run_all
from tests.mutation.operators import PACKAGE, ROOT, Mutant, mutants_of, parsed
from tests.mutation.patching import HIT, NotExchangedError, exchange, instrumented, live_functions
from tests.mutation.plan import few_variants
from tests.mutation.record import UNKNOWN, Verdict

FAST: Final = 3.0
"""Seconds of CPU time that a test may take."""

KEPT: Final = ROOT / ".mutants"
"""Where what the tests reach is kept, from one run to the next."""

NOT_EXCHANGED: Final = "not exchanged"

Send = Callable[[str], None]


@attrs.frozen
class Reach:
    """What one test reaches.

    Attributes:
        seconds: How much CPU time it takes, and a tenth of what it waits.
        lines: The statements that it reaches, as ``module:line``.
    """

    seconds: float
    lines: frozenset[str]


class Module:
    """A module of the package, ready to be mutated in a child."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tree: ast.Module = parsed(name)
        self.file = str(PACKAGE / name)
        self.code: CodeType = compile(self.tree, self.file, "exec", dont_inherit=True)
        self.functions: Sequence[FunctionType] = ()

    def mutants(self) -> list[Mutant]:
        """Every mutant of it."""
        return mutants_of(self.name, self.tree)

    def put_in_place(self, mutant: Mutant) -> None:
        """Exchange the code of the live functions."""
        code = mutant.compiled(self.tree)
        assert isinstance(code, CodeType)
        exchange(self.functions, self.code, code)


def ready(names: Iterable[str]) -> dict[str, Module]:
    """The modules of these names, with the functions that are made of their code.

    The modules are imported, because the package loads many of them only when they are used.
    """
    modules = {name: Module(name) for name in names}
    for name in modules:
        importlib.import_module(f"fsm_mediator.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}")
    functions = live_functions(frozenset(module.file for module in modules.values()))
    for module in modules.values():
        module.functions = functions[module.file]
    return modules


def run_items(session: pytest.Session, items: Sequence[pytest.Item], send: Send) -> None:
    """Run tests until one fails; say which is run, and which failed."""
    where = Path(tempfile.mkdtemp(prefix="mutant-", dir=os.environ.get("MUTANTS_FILES")))
    vars(vars(session.config)["_tmp_path_factory"])["_basetemp"] = where  # its folders, which no parameter can move now
    try:
        for item, following in itertools.zip_longest(items, items[1:]):
            send(f"at {item.nodeid}")
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                send(f"failed {item.nodeid}")
                return
        send("passed")
    finally:
        shutil.rmtree(where, ignore_errors=True)


def caught_by(ran: Ran) -> str:
    """The test by which a child's mutant was caught; empty: by none. `UNKNOWN`: it could not be put in place."""
    if ran.lines == [NOT_EXCHANGED]:
        return UNKNOWN
    failed = next((line.removeprefix("failed ") for line in ran.lines if line.startswith("failed ")), "")
    if failed or (ran.end == FINISHED and ran.lines):
        return failed
    last = next((line.removeprefix("at ") for line in reversed(ran.lines) if line.startswith("at ")), None)
    if last is None:
        raise RuntimeError(f"the mutant was not put in place: {ran}")
    return f"{ran.end}: {last}"


class Collected:
    """A plugin of pytest: what was collected is handed to *work*, in place of being run."""

    def __init__(self, work: Callable[[pytest.Session], None]) -> None:
        self.work = work

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do the work."""
        session.items[:] = few_variants(session.items)
        self.work(session)
        return True


QUICK: Final = ("--no-header", "--tb=native", "--assert=plain")
"""A test that fails is not explained."""

ARGUMENTS: Final = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", *QUICK)


def with_collected(files: Iterable[str], work: Callable[[pytest.Session], None]) -> None:
    """Collect *files* and do *work*, where children have their files in memory.

    Raises:
        RuntimeError: pytest has failed.
    """
    shared = Path("/dev/shm")  # noqa: S108 - files of tests, in a folder of our own
    where = tempfile.mkdtemp(prefix="mutants-", dir=shared if shared.is_dir() else None)
    os.environ["MUTANTS_FILES"] = where
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    try:
        status = pytest.main([*ARGUMENTS, *files], plugins=[Collected(work)])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"pytest has ended with {status!r}")
    finally:
        shutil.rmtree(where, ignore_errors=True)


# What the tests reach


def reaches(session: pytest.Session, names: Sequence[str], at_once: int) -> dict[str, Reach]:
    """What each fast test reaches that holds when it is run alone.

    What was measured before is kept, as long as neither the package nor the test's own file changes.
    """
    KEPT.mkdir(exist_ok=True)
    kept = KEPT / f"reached-{_digest(PACKAGE / name for name in sorted(names))}.json"
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    files = {item.nodeid: _digest([item.path]) for item in session.items}
    new = [item for item in session.items if known.get(item.nodeid, [""])[0] != files[item.nodeid]]
    if new:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for node, measured in _measured(new, session, names, at_once):
                    known[node] = [files[node], *measured]
                kept.write_text(json.dumps(known), encoding="utf-8")
                status = 0
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        if ended != 0:
            raise RuntimeError("what the tests reach was not measured")
        known = json.loads(kept.read_text(encoding="utf-8"))
    return {
        node: Reach(
            known[node][1], frozenset(line for file, lines in known[node][2].items() for line in _named(file, lines))
        )
        for node in files
        if len(known[node]) > 1
    }


def _named(module: str, lines: Iterable[int]) -> Iterator[str]:
    return (f"{module}:{line}" for line in lines)


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def instrument(names: Sequence[str]) -> set[tuple[str, int]]:
    """Have every statement in the functions of these modules note that it is reached, in the set that is returned."""
    hits: set[tuple[str, int]] = set()
    setattr(builtins, HIT, hits.add)
    for module in ready(names).values():
        if module.functions:
            exchange(module.functions, module.code, instrumented(module.name, parsed(module.name)))
    return hits


def _measured(
    items: Sequence[pytest.Item], session: pytest.Session, names: Sequence[str], at_once: int
) -> Iterator[tuple[str, list[Any]]]:
    """For each test its seconds, and the lines that it reaches by module; nothing for one that is slow or fails."""
    hits = instrument(names)

    def measure(item: pytest.Item) -> Callable[[Send], None]:
        def call(send: Send) -> None:
            hits.clear()
            begun, used = time.monotonic(), time.process_time()
            run_items(session, [item], lambda line: send(line) if line == "passed" else None)
            busy = time.process_time() - used
            send(str(round(busy + (time.monotonic() - begun - busy) / 10, 4)))
            lines: dict[str, list[int]] = {}
            for name, line in sorted(hits):
                lines.setdefault(name, []).append(line)
            send(json.dumps(lines))

        return call

    jobs = (Job(item.nodeid, measure(item), FAST) for item in items)
    for number, ran in enumerate(run_all(jobs, at_once), 1):
        holds = ran.end == FINISHED and len(ran.lines) == 3
        yield ran.job.name, [float(ran.lines[1]), json.loads(ran.lines[2])] if holds else []
        if number % 500 == 0:
            print(f"{number} of {len(items)} tests measured", flush=True)


# Mutants


class Walk(NamedTuple):
    """What `verify` says of one of the fixed sagas, and the statements that it reaches, as ``module:line``."""

    said: Any
    lines: frozenset[str]


def walks_of(names: Sequence[str]) -> dict[str, Walk]:
    """What `verify` says of each of the fixed sagas without a mutant, and what of the modules *names* it reaches."""

    def call(send: Send) -> None:
        from fsm_mediator.verifier import verify
        from tests.mutation.sagas import MOST_SITUATIONS, sagas, said

        hits = instrument(names)
        several = sagas()
        while True:
            hits.clear()
            saga = next(several, None)
            if saga is None:
                return
            report = said(verify(saga, most_nodes=MOST_SITUATIONS))
            send(json.dumps([saga.name, report, [f"{module}:{line}" for module, line in sorted(hits)]]))

    ran = next(run_all([Job("walks", call, 600)], 1))
    if ran.end != FINISHED:
        raise RuntimeError(f"the fixed sagas were not walked: {ran.end}")
    return {name: Walk(report, frozenset(lines)) for name, report, lines in map(json.loads, ran.lines)}


class Hunt:
    """The tests and `verify` against mutants.

    Args:
        session: What was collected.
        walks: What `verify` says of the fixed sagas without a mutant, and what it reaches with each.
        budget: Seconds that the tests of one mutant may take.
    """

    def __init__(
        self,
        session: pytest.Session,
        walks: Mapping[str, Walk],
        budget: float,
    ) -> None:
        self.session = session
        self.reached: Mapping[str, Reach] = {}
        self.walks = walks
        self.budget = budget
        self.items = {item.nodeid: item for item in session.items}
        self.tests_at: dict[str, list[str]] = collections.defaultdict(list)
        self.sagas: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.killers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def measured(self, reached: Mapping[str, Reach]) -> None:
        """Take note of what each test reaches."""
        self.reached = reached
        for node, reach in sorted(reached.items(), key=lambda each: each[1].seconds):
            for line in reach.lines:
                self.tests_at[line].append(node)

    def tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that meet a mutant, in order."""
        reaching = self.tests_at.get(f"{mutant.module}:{mutant.line}", [])
        known = self.killers[f"{mutant.module}:{mutant.function}"]
        proven = [node for node, _ in known.most_common(15) if node in self.reached]
        proven = [node for node in proven if node in set(reaching)]
        ordered = dict.fromkeys([*proven, *reaching])
        chosen: list[str] = []
        seconds = 0.0
        for node in ordered:
            seconds += self.reached[node].seconds
            if seconds > self.budget and chosen:
                break
            chosen.append(node)
        return chosen

    def credit(self, verdict: Verdict) -> None:
        """Note which test, and which of the sagas, has found a mutant."""
        if verdict.caught:
            self.killers[verdict.function][verdict.test] += 1
        if verdict.found_by_verify and ": " in verdict.verify:
            self.sagas[verdict.function][verdict.verify.partition(": ")[0]] += 1

    def against_tests(self, module: Module, mutant: Mutant, nodes: Sequence[str]) -> Job:
        """The job in which a mutant meets tests."""
        items = [self.items[node] for node in nodes if node in self.items]
        seconds = sum(self.reached[node].seconds for node in nodes if node in self.reached)

        def call(send: Send) -> None:
            with _in_place(module, mutant, send):
                run_items(self.session, items, send)

        return Job(mutant.identity, call, 5 + 3 * seconds)

    def against_verify(self, module: Module, mutant: Mutant, seconds: float) -> Job:
        """The job in which a mutant meets `verify`, on the sagas that reach its statement.

        Those that found others in its function come first.
        """
        known = self.sagas[f"{mutant.module}:{mutant.function}"]
        line = f"{mutant.module}:{mutant.line}"
        names = [name for name, walk in self.walks.items() if line in walk.lines]
        names.sort(key=lambda name: -known[name])
        expected = {name: walk.said for name, walk in self.walks.items()}

        def call(send: Send) -> None:
            from tests.mutation.sagas import fault_found

            with _in_place(module, mutant, send):
                send("in place")
                send(f"found {fault_found(expected, names)}")

        return Job(mutant.identity, call, seconds)


@contextlib.contextmanager
def _in_place(module: Module, mutant: Mutant, send: Send) -> Iterator[None]:
    try:
        module.put_in_place(mutant)
    except NotExchangedError:
        send(NOT_EXCHANGED)
        os._exit(3)
    yield


def found_by_verify(ran: Ran) -> str:
    """How `verify` found the mutant of a child; empty: it did not. `UNKNOWN`: it could not be put in place."""
    if ran.lines == [NOT_EXCHANGED]:
        return UNKNOWN
    line = next((line for line in ran.lines if line.startswith("found ")), None)
    if "in place" not in ran.lines:
        raise RuntimeError(f"the mutant was not put in place: {ran}")
    return ran.end if line is None else line.removeprefix("found ")
