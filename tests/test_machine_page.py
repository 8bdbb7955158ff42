"""docs/machine.md: its tables list exactly the phases, events and transitions that machines have."""

from __future__ import annotations

import collections
import re
from pathlib import Path

import pytest

from fsm_mediator import Choose, Parallel, Retry, Saga, Signal, Sleep, step
from fsm_mediator.machine import compile_machine
from fsm_mediator.states import EVENTS, PHASES, phase_of

PAGE = (Path(__file__).parent.parent / "docs" / "machine.md").read_text(encoding="utf-8")


def part(name, *, compensates=True, **settings):
    """A step with a probe."""
    made = step(name=name, **settings)(lambda payload: None)
    made.probing(lambda payload: None)
    if compensates:
        made.compensation(lambda payload: None)
    return made


EVERYTHING = [
    Saga("backward", [part("a", timeout=1.0), Signal("s", timeout=1), Sleep("t", 1), Parallel("g", [part("b")])]),
    Saga(
        "pivoted",
        [
            part("a"),
            part("go", pivot=True, compensates=False, retry=Retry(attempts=2)),
            part("b", compensates=False, timeout=1.0),
            Signal("s", timeout=1),
            Choose("c", {"x": part("d", compensates=False)}, by=lambda payload: "x"),
        ],
    ),
]
"""Sagas that have every kind of transition between them."""


@pytest.fixture(scope="module")
def machines():
    """Their machines, with the states that settings rule out."""
    return [compile_machine(saga.parts, every=True) for saga in EVERYTHING]


def rows(text):
    """The cells of each row of a table, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()[2:]]


def named(cell):
    """The names between backticks."""
    return set(re.findall(r"`(\w+)", cell))


def test_page_lists_each_phase():
    """A reader finds every phase on the page, and no phase that does not exist."""
    table = PAGE.split("## States", 1)[1].split("\n\n")[1]

    assert set().union(*(named(row[0]) for row in rows(table))) == set(PHASES)


def test_page_lists_each_transition(machines):
    """The page says of every event from which phases it leads, and to which, as the machines have it."""
    sources, targets = collections.defaultdict(set), collections.defaultdict(set)
    for machine in machines:
        for event, source, target in machine.moves():
            sources[event].add(phase_of(source))
            targets[event].add(phase_of(target))
    where = {
        "enter": {"executing", "waiting"},
        "next": {"executing", "waiting", "succeeded"},
        "back": {"compensating", "failed"},
    }
    table = PAGE.split("<!-- transitions -->\n", 1)[1].split("<!-- /transitions -->")[0]
    told = {next(iter(named(row[0]))): row for row in rows(table)}

    assert list(told) == list(EVENTS)
    for event, (_, source, target, _) in told.items():
        assert named(source) == sources[event], event
        allowed = named(target.replace("from `pending`", "").replace("from `stuck_executing`", ""))
        for word, phases in where.items():
            if re.search(rf"\b{word}\b", target):
                allowed |= phases
        assert targets[event] <= allowed, event
