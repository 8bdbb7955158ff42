"""The hunts: every mutant of the plan, only those that survived before, or a few within a time that is set."""

from __future__ import annotations

import hashlib
import heapq
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import pytest

from tests.mutation.forks import Job, Ran, run_all
from tests.mutation.operators import Mutant, mutants_of, parsed
from tests.mutation.patching import import_mutated
from tests.mutation.plan import BY_VERIFY, SAMPLE, SEED, WHOLE, core_modules
from tests.mutation.record import NOT_ASKED, UNKNOWN, Verdict, read_equivalents, read_verdicts
from tests.mutation.session import (
    KEPT,
    Hunt,
    Module,
    Reach,
    Send,
    Walk,
    caught_by,
    found_by_verify,
    reaches,
    ready,
    run_items,
    walks_of,
    with_collected,
)

VERIFY_SECONDS: Final = 15.0
"""Seconds of CPU time after which `verify` is taken to go on for ever; without a mutant it takes 3."""

THIRD_PARTIES: Final = (
    "attrs",
    "click",
    "graphviz",
    "hypothesis.stateful",
    "msgspec",
    "rich",
    "sqlite3",
    "transitions",
)
MEASURED: Final = KEPT / "reached.json"

Found = Callable[[Verdict], None]


def planned() -> list[Mutant]:
    """Every mutant of the states, the table, the rules and the branching; and a sample of the core's."""
    whole = [mutant for name in WHOLE for mutant in mutants_of(name, parsed(name))]
    core = [mutant for name in core_modules() for mutant in mutants_of(name, parsed(name))]
    return [*whole, *heapq.nsmallest(SAMPLE, core, key=_place_in_draw)]


def _place_in_draw(mutant: Mutant) -> bytes:
    """The place of a mutant in the draw. If the code changes a little, most of the same mutants are drawn."""
    return hashlib.blake2b(f"{SEED} {mutant.identity}".encode(), digest_size=8).digest()


def hunt(verdicts: Mapping[str, Verdict], found: Found, *, at_once: int, budget: float, files: Sequence[str]) -> None:
    """Have `verify` and the tests meet mutants, where their *verdicts* are `UNKNOWN`; what comes of it goes to *found*.

    The package must not have been imported: changes outside of functions have to be there at its import.
    """
    assert "fsm_mediator.records" not in sys.modules
    KEPT.mkdir(exist_ok=True)
    asked = {identity for identity, each in verdicts.items() if UNKNOWN in (each.verify, each.tests)}
    mutants = [mutant for mutant in planned() if mutant.identity in asked]
    inside = [verdicts[mutant.identity] for mutant in mutants if mutant.function]
    tested = any(verdicts[mutant.identity].tests == UNKNOWN for mutant in mutants)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            with_collected(files, lambda session: _hunt_inside(session, inside, writer, at_once, budget, tested=tested))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as lines:
        for line in lines:
            found(Verdict(*json.loads(line)))
    _, ended = os.waitpid(pid, 0)
    if ended != 0:
        raise RuntimeError("the hunt for mutants inside of functions has failed")
    outside = [mutant for mutant in mutants if not mutant.function]
    if outside:
        _hunt_outside(outside, verdicts, found, at_once, budget)


def _hunt_inside(
    session: pytest.Session, verdicts: Sequence[Verdict], writer: int, at_once: int, budget: float, *, tested: bool
) -> None:
    """The mutants inside of functions, whose code is exchanged in children of this process.

    *tested*: whether any mutant meets tests, so that it is measured what these reach.
    """
    hunted = Hunt(session, walks_of(BY_VERIFY), budget)
    live = ready({verdict.module for verdict in verdicts})
    known = {mutant.identity: mutant for module in live.values() for mutant in module.mutants()}
    for verdict in read_verdicts().values():  # the tests that caught others in the same function come first
        hunted.credit(verdict)

    def say(verdict: Verdict) -> None:
        os.write(writer, f"{json.dumps(attrs.astuple(verdict))}\n".encode())

    _meet_verify([each for each in verdicts if each.verify == UNKNOWN], hunted, live, known, at_once, say)
    if tested:
        reached = reaches(session, [*WHOLE, *core_modules()], at_once)
        kept = {node: (reach.seconds, sorted(reach.lines)) for node, reach in reached.items()}
        MEASURED.write_text(json.dumps(kept), encoding="utf-8")
        hunted.measured(reached)
    _meet_tests([each for each in verdicts if each.tests == UNKNOWN], hunted, live, known, at_once, say)


def _progress(ran: Iterable[Ran], of: int, what: str) -> Iterator[Ran]:
    begun = time.monotonic()
    for number, each in enumerate(ran, 1):
        yield each
        if number % 50 == 0:
            print(f"{number} of {of} mutants met {what}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def _meet_verify(
    verdicts: Sequence[Verdict],
    hunted: Hunt,
    live: Mapping[str, Module],
    known: Mapping[str, Mutant],
    at_once: int,
    found: Found,
) -> None:
    """Have `verify` meet mutants inside of functions."""
    by_identity = {verdict.identity: verdict for verdict in verdicts}
    jobs = (hunted.against_verify(live[each.module], known[each.identity], VERIFY_SECONDS) for each in verdicts)
    for ran in _progress(run_all(jobs, at_once), len(verdicts), "verify"):
        verdict = by_identity[ran.job.name]
        verdict.verify = found_by_verify(ran)
        hunted.credit(verdict)
        found(verdict)


def _meet_tests(
    verdicts: Sequence[Verdict],
    hunted: Hunt,
    live: Mapping[str, Module],
    known: Mapping[str, Mutant],
    at_once: int,
    found: Found,
) -> None:
    """Have the tests meet mutants inside of functions."""
    by_identity = {verdict.identity: verdict for verdict in verdicts}

    def jobs() -> Iterator[Job]:
        for each in verdicts:
            mutant = known[each.identity]
            yield hunted.against_tests(live[each.module], mutant, hunted.tests_for(mutant))

    for ran in _progress(run_all(jobs(), at_once), len(verdicts), "the tests"):
        verdict = by_identity[ran.job.name]
        verdict.tests = caught_by(ran)
        hunted.credit(verdict)
        found(verdict)


# Outside of functions


def _hunt_outside(
    mutants: Sequence[Mutant], verdicts: Mapping[str, Verdict], found: Found, at_once: int, budget: float
) -> None:
    """The mutants outside of functions: each child imports the package anew."""
    for name in THIRD_PARTIES:
        importlib.import_module(name)
    tested = any(verdicts[mutant.identity].tests == UNKNOWN for mutant in mutants)
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if tested else {}
    reached = {node: Reach(seconds, frozenset(lines)) for node, (seconds, lines) in kept.items()}
    walks = walks_of(BY_VERIFY)
    trees = {mutant.module: parsed(mutant.module) for mutant in mutants}
    own = {name: {m.identity: m for m in mutants_of(name, tree)} for name, tree in trees.items()}
    nodes = {name: _widest(name, reached, budget) for name in trees}

    def jobs() -> Iterator[Job]:
        for each in mutants:
            mutant, tree = own[each.module][each.identity], trees[each.module]
            if verdicts[each.identity].verify == UNKNOWN:
                yield _verify_anew(mutant, tree, walks)
            if verdicts[each.identity].tests == UNKNOWN:
                yield _tests_anew(mutant, tree, nodes[each.module])

    for ran in _progress(run_all(jobs(), at_once), len(mutants), "tests or verify, at the import"):
        what, _, identity = ran.job.name.partition(" ")
        verdict = verdicts[identity]
        if what == "verify":
            verdict.verify = found_by_verify(ran)
        else:
            verdict.tests = _caught_anew(ran)
        found(verdict)


def _widest(module: str, reached: dict[str, Reach], budget: float) -> list[str]:
    """The fastest tests that together reach every statement of *module* that tests reach; then others of their files.

    A test of a constant reaches no statement of a function.
    """
    own = sorted(
        (reach.seconds, node, {line for line in reach.lines if line.startswith(f"{module}:")})
        for node, reach in reached.items()
    )
    missing = set().union(*(lines for _, _, lines in own)) if own else set()
    first, later, seconds = [], [], 0.0
    for cost, node, lines in own:
        if lines & missing:
            missing -= lines
            first.append(node)
            seconds += cost
        else:
            later.append((cost, node))
    files = {node.partition("::")[0] for node in first}
    for cost, node in later:
        if node.partition("::")[0] not in files:
            continue
        seconds += cost
        if seconds > budget:
            break
        first.append(node)
    return first


def _caught_anew(ran: Ran) -> str:
    """As `caught_by`; an import that fails is caught by every test."""
    return caught_by(ran) if any(line.startswith(("at ", "passed")) for line in ran.lines) else "died: at import"


def _tests_anew(mutant: Mutant, tree: Any, nodes: Sequence[str]) -> Job:
    def call(send: Send) -> None:
        import_mutated(mutant, tree)
        with_collected(nodes, lambda session: run_items(session, session.items, send))

    return Job(f"tests {mutant.identity}", call, 60.0)


def _verify_anew(mutant: Mutant, tree: Any, walks: dict[str, Walk]) -> Job:
    def call(send: Send) -> None:
        import_mutated(mutant, tree)
        send("in place")
        try:
            from tests.mutation.sagas import fault_found
        except Exception as error:
            send(f"found raised {type(error).__name__}")
            return
        send(f"found {fault_found({name: walk.said for name, walk in walks.items()}, list(walks))}")

    return Job(f"verify {mutant.identity}", call, VERIFY_SECONDS)


# Within a time


def sampled(seconds: float, seed: str, at_once: int) -> list[Verdict]:
    """What becomes of a few mutants inside of functions, drawn by *seed*, within so many seconds.

    Each meets the tests that have caught it, or others in its function, when the record was made; and `verify`, where
    that had found it.
    """
    record, equivalents = read_verdicts(), read_equivalents()
    modules = [name for name in (*WHOLE, *core_modules()) if any(each.module == name for each in record.values())]
    every = [m for name in modules for m in mutants_of(name, parsed(name)) if m.function]
    every = [m for m in every if m.identity not in equivalents and (m.module in WHOLE or m.identity in record)]
    drawn = random.Random(seed).sample(every, min(len(every), int(seconds)))  # noqa: S311 - can be repeated
    tests = {mutant.identity: _recorded_tests(mutant, record) for mutant in drawn}
    files = sorted({node.partition("::")[0] for nodes in tests.values() for node in nodes})
    verdicts: list[Verdict] = []

    def work(session: pytest.Session) -> None:
        items = {item.nodeid for item in session.items}
        hunted = Hunt(session, {}, seconds)
        hunted.measured({node: Reach(0.5, frozenset()) for node in items})
        live = ready({mutant.module for mutant in drawn})
        known = {m.identity: m for module in live.values() for m in module.mutants()}

        def jobs() -> Iterator[Job]:
            for mutant in drawn:
                nodes = [node for node in tests[mutant.identity] if node in items]
                yield hunted.against_tests(live[mutant.module], known[mutant.identity], nodes)

        kinds = {mutant.identity: mutant.kind for mutant in drawn}
        until = time.monotonic() + seconds  # by then the tests have been collected
        verdicts.extend(
            Verdict(ran.job.name, kinds[ran.job.name], NOT_ASKED, caught_by(ran))
            for ran in run_all(jobs(), at_once, until)
        )

    with_collected(files, work)
    return verdicts


def _recorded_tests(mutant: Mutant, record: dict[str, Verdict]) -> list[str]:
    """The test that caught *mutant* by the record, then those that caught others in its function.

    Of a mutant that the record does not know: all that caught any in its module.
    """
    where = f"{mutant.module}:{mutant.function}"
    own = record.get(mutant.identity)
    by_tests = [each for each in record.values() if "::" in each.test]  # others were caught when they were imported
    others = [each.test for each in by_tests if each.function == where]
    if own is None:  # it was made after the record: any test that caught one in its module may catch it
        return list(dict.fromkeys([*others, *(each.test for each in by_tests if each.module == mutant.module)]))
    return list(dict.fromkeys([*([own.test] if "::" in own.test else []), *others[:8]]))
