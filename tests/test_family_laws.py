"""The laws, of sagas made of sagas: random trees of steps, groups, choices, signals and sleeps, to which things happen.

What really took effect is in the participants' ledger, which the library never sees. A driver may die in any attempt,
a cancel may come at any call, compensations may get stuck and are retried by a person; signals come when they are
waited for.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_mediator import (
    Choose,
    MediatorError,
    MemoryJournal,
    Outcome,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    StepRejectedError,
    step,
)
from fsm_mediator.states import ENDED
from tests.drivers import MORTAL, Died, eventually

TWICE = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)
ROOT = "root"


@attrs.define
class Leaf:
    """A step: what its attempts do, one after another; the last goes for all that follow."""

    name: str
    execute: list[str]
    compensate: list[str] | None


@attrs.define
class Tree:
    """A part that holds others, or waits."""

    kind: str
    name: str
    inside: list[Any]
    number: int = 0


@attrs.define
class Ledger:
    """Every call and every effect, in order."""

    cancel_at: int | None
    calls: list[tuple[str, str]] = attrs.field(factory=list)
    effects: dict[str, bool] = attrs.field(factory=dict)
    compensatable: dict[str, bool] = attrs.field(factory=dict)
    lock: Any = attrs.field(factory=threading.Lock)
    cancel: Callable[[], object] = attrs.field(default=lambda: None)

    def called(self, verb: str, key: str) -> int:
        with self.lock:
            self.calls.append((verb, key))
            number = len(self.calls)
            attempt = self.calls.count((verb, key)) - 1
        if number == self.cancel_at:
            self.cancel()
        return attempt


def step_of(leaf: Leaf, ledger: Ledger) -> Any:
    """The step that does as planned, and writes down every call and every effect."""

    def act(script: list[str], verb: str, context: Any) -> str:
        key = context.execute_key
        number = ledger.called(verb, key)
        does = script[min(number, len(script) - 1)]
        if does == "dies":
            raise Died
        if does == "raises":
            raise ValueError(leaf.name)
        if does == "rejects":
            raise StepRejectedError(leaf.name)
        if does != "doubt":
            with ledger.lock:
                ledger.effects[key] = verb == "execute"
        if does == "dies after":
            raise Died
        if does.startswith("doubt"):
            raise ConnectionError(leaf.name)
        return f"{leaf.name} done"

    def execute(payload: Any, context: Any) -> str:
        with ledger.lock:
            ledger.compensatable[context.execute_key] = leaf.compensate is not None
        return act(leaf.execute, "execute", context)

    made = step(name=leaf.name, retry=TWICE, compensation_retry=TWICE)(execute)
    if leaf.compensate is not None:
        undo = leaf.compensate
        made.compensation(lambda payload, context: act(undo, "compensate", context))
    return made


def part_of(node: Any, ledger: Ledger) -> Any:
    """The part that is planned."""
    if isinstance(node, Leaf):
        return step_of(node, ledger)
    inside = [part_of(each, ledger) for each in node.inside]
    if node.kind == "saga":
        return Saga(node.name, inside)
    if node.kind == "group":
        return Parallel(node.name, inside, at_most=node.number or None)
    if node.kind == "each":
        return Parallel.each(node.name, inside[0], over=lambda payload: range(node.number), at_most=2)
    if node.kind == "choice":
        chosen = inside[node.number % len(inside)].name
        return Choose(node.name, {each.name: each for each in inside}, by=lambda payload: chosen)
    return Signal(node.name, payload=int) if node.kind == "signal" else Sleep(node.name, 0.0)


@st.composite
def trees(draw: st.DrawFn) -> tuple[Tree, int | None]:
    """A saga of a few parts, three deep at the most; mostly well, so that there is something to go wrong later."""
    names = iter(f"p{number}" for number in range(1000))
    acts = st.sampled_from(["returns"] * 8 + ["raises", "rejects", "doubt", "doubt after", "dies", "dies after"])

    def ends_well(script: list[str]) -> list[str]:
        return [*script, "returns"] if script[-1].startswith("dies") else script

    def leaf() -> Leaf:
        execute = ends_well(draw(st.lists(acts, min_size=1, max_size=2)))
        undo = draw(st.none() | st.lists(st.sampled_from(["returns", "returns", "raises", "dies after"]), max_size=4))
        return Leaf(next(names), execute, None if undo is None else [*undo, "returns"])

    def node(depth: int) -> Any:
        kinds = ["leaf"] * 3 + ["signal", "sleep"] + (["saga", "group", "group", "each", "choice"] if depth else [])
        kind = draw(st.sampled_from(kinds))
        if kind == "leaf":
            return leaf()
        if kind in ("signal", "sleep"):
            return Tree(kind, next(names), [])
        size = 1 if kind == "each" else draw(st.integers(1, 3))
        inside = [node(depth - 1) for _ in range(size)]
        return Tree(kind, next(names), inside, draw(st.integers(0, 3)))

    root = Tree("saga", "tree", [leaf(), *(node(2) for _ in range(draw(st.integers(1, 3)))), leaf()])
    return root, draw(st.none() | st.integers(1, 12))


def carried_out(saga: Saga, ledger: Ledger, mediator: Any, journal: Any) -> Outcome:
    """Drive it to its end: recover it when its driver has died, retry it when it is stuck, say what it waits for."""

    def cancel() -> None:
        with contextlib.suppress(RefusedError):
            mediator.cancel(ROOT, "cancelled")

    ledger.cancel = cancel
    mediator.start(saga, {"n": 1}, saga_id=ROOT)
    for _ in range(300):
        try:
            outcome: Outcome = mediator.wait(ROOT, check=False, timeout=0.2)
        except (Died, TimeoutError):
            with contextlib.suppress(Died):
                mediator.recover()
            continue
        if outcome.ended:
            # A branch of what has been given up for good is seen to its end all the same.
            eventually(lambda: all(entry.state in ENDED for entry in journal.entries()))
            return mediator.outcome(ROOT)  # type: ignore[no-any-return]
        for entry in list(journal.entries()):
            with contextlib.suppress(MediatorError, Died):
                if entry.state.startswith("stuck") and entry.saga_id == ROOT:
                    mediator.retry(ROOT)
                phase, _, path = entry.state.partition(".")
                if phase == "waiting":
                    mediator.signal(entry.saga_id, path, 7)
        with contextlib.suppress(Died):
            mediator.recover()
    raise AssertionError(f"it never ended: {[(entry.saga_id, entry.state) for entry in journal.entries()]}")


def broken(outcome: Outcome, ledger: Ledger, journal: Any) -> Iterator[str]:
    """What is wrong with the way it ended, in words."""
    path = {
        key: key.removesuffix(":execute").removeprefix(ROOT).lstrip("/:").replace("/", ".") for key in ledger.effects
    }
    for key, effect in ledger.effects.items():
        if outcome.failed and effect and ledger.compensatable[key]:
            yield f"it failed, and {key} still has its effect"
        if outcome.failed and effect and path[key].replace(":", ".") not in outcome.leftovers:
            yield f"it failed, {key} still has its effect, and is not among {outcome.leftovers}"
        if outcome.succeeded and not effect:
            yield f"it succeeded, and {key} has no effect"
    if outcome.succeeded and any(verb == "compensate" for verb, _ in ledger.calls):
        yield "it succeeded after a compensation"
    for entry in journal.entries():
        own = [(verb, key) for verb, key in ledger.calls if key.startswith(f"{entry.saga_id}:")]
        undos = [number for number, (verb, _) in enumerate(own) if verb == "compensate"]
        if undos and any(verb == "execute" for verb, _ in own[undos[0] :]):
            yield f"{entry.saga_id}: executed after compensation began: {own}"
        order = list(dict.fromkeys(key for verb, key in own if verb == "execute"))
        undone = list(dict.fromkeys(key for verb, key in own if verb == "compensate"))
        if undone != sorted(undone, key=order.index, reverse=True):
            yield f"{entry.saga_id}: compensated in the order {undone}"
        if outcome.succeeded and entry.state != "succeeded":
            yield f"it succeeded, and {entry.saga_id} {entry.state}"
        if (
            outcome.failed
            and entry.state == "succeeded"
            and any(
                effect and ledger.compensatable[key]
                for key, effect in ledger.effects.items()
                if key.startswith(f"{entry.saga_id}:")
            )
        ):
            yield f"it failed, and the branch {entry.saga_id} was not undone"


@pytest.mark.torture
@pytest.mark.parametrize("keeps", ["memory", "sqlite"])
def test_many_trees_end_as_they_must(drive, keeps, torture_seconds):
    """As below, for as long as there is time."""
    until = time.monotonic() + torture_seconds / 4
    while time.monotonic() < until:
        search(drive, keeps, 20)


@pytest.mark.parametrize("keeps", ["memory", "sqlite"])
def test_trees_end_as_they_must(drive, keeps):
    """However sagas are put together, and whatever happens to them: all or nothing, or what is left over is told."""
    search(drive, keeps, 25 if keeps == "memory" else 12)


def search(drive: Any, keeps: str, examples: int) -> None:
    """Try so many trees."""
    logging.getLogger("fsm_mediator").setLevel(logging.CRITICAL)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trees())
    def holds(planned: tuple[Tree, int | None]) -> None:
        tree, cancel_at = planned
        ledger = Ledger(cancel_at)
        with tempfile.TemporaryDirectory() as folder:
            journal: Any = MemoryJournal(encode=True)
            if keeps == "sqlite":
                journal = SQLiteJournal(Path(folder) / "sagas.db", durability="normal")
            saga = part_of(tree, ledger)
            mediator = drive(saga, journal=journal, max_workers=3, **MORTAL)
            try:
                outcome = carried_out(saga, ledger, mediator, journal)
                assert not list(broken(outcome, ledger, journal)), (
                    list(broken(outcome, ledger, journal)),
                    ledger.calls,
                )
            finally:
                mediator.close()
                journal.close()

    try:
        holds()
    finally:
        logging.getLogger("fsm_mediator").setLevel(logging.NOTSET)
