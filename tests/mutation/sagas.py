"""The fixed sagas that `verify` walks under every mutant, and what it then says. Together they have every feature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fsm_mediator import Choose, Parallel, Retry, Saga, Signal, Sleep, step
from fsm_mediator.definition.steps import FunctionStep
from fsm_mediator.verifier import Report, verify

TWICE: Final = Retry(attempts=2)
ONCE: Final = Retry(attempts=1)
FOR_EVER: Final = Retry(attempts=None)

MOST_SITUATIONS: Final = 1500
"""More than any of the sagas has; some mutants go on for ever."""


def made(name: str, *, compensates: bool = True, probe: bool = False, **settings: Any) -> FunctionStep:
    """A step that does nothing."""
    settings = {"retry": TWICE, "compensation_retry": TWICE, **settings}
    one = step(name=name, **settings)(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    if probe:
        one.probing(lambda payload: None)
    return one


def forward(name: str, **settings: Any) -> FunctionStep:
    """A step that cannot be compensated."""
    return made(name, compensates=False, **settings)


def once(name: str) -> FunctionStep:
    """A step that is attempted once."""
    return made(name, retry=ONCE, compensation_retry=ONCE)


def pivot(**settings: Any) -> FunctionStep:
    """The go/no-go step."""
    return forward("pivot", pivot=True, **settings)


def sagas() -> Iterator[Saga]:
    """The sagas, the smallest first: what one of them finds, the others need not be asked for."""
    yield Saga("one", [made("a")])
    yield Saga("once", [made("a", retry=ONCE, compensation_retry=ONCE), forward("b", retry=ONCE)])
    yield Saga("plain", [made("a"), made("b"), made("c")])
    yield Saga("leftovers", [made("a"), forward("mail"), made("c")])
    yield Saga("timed", [made("a", timeout=1.0), made("b", timeout=1.0, repeatable=False)])
    yield Saga("overtaken", [made("a", timeout=1.0, overtake=True, retry=ONCE), made("b")])
    yield Saga("probed", [made("a"), made("asked", probe=True, timeout=1.0)])
    yield Saga("asked_once", [made("a", probe=True, repeatable=False), made("b", probe=True, retry=ONCE)])
    yield Saga("patient", [made("a", retry=Retry(attempts=3), probe=True), made("b", retry=FOR_EVER)])
    named: dict[str, Any] = {
        "in_doubt_on": (OSError,),
        "no_effect_on": (ConnectionRefusedError,),
        "retry": Retry(attempts=2, on=OSError),
    }
    yield Saga("named", [made("a", **named), forward("b", **named), pivot(**named)])
    yield Saga("pivoted", [made("a"), pivot(timeout=1.0), forward("after", retry=FOR_EVER), forward("end")])
    yield Saga("pivot_first", [pivot(probe=True), Signal("word", timeout=5.0), Sleep("nap", 1.0), forward("z")])
    yield Saga("nested", [made("a"), Saga("inner", [once("x"), Saga("core", [once("y")])]), once("b")])
    yield Saga("waiting", [once("a"), Signal("word", timeout=5.0), Signal("ever"), Sleep("nap", 1.0)])
    yield Saga("asleep", [Sleep("nap", until=lambda payload: 5.0), once("a"), Sleep("again", until=lambda p, c: 5.0)])
    two = {"x": once("x"), "y": forward("y", retry=ONCE)}
    yield Saga("chosen", [once("a"), Choose("way", two, by=lambda payload: "x"), once("z")])
    yield Saga("fanned", [once("a"), Parallel("fan", [once("x"), forward("y", retry=ONCE)]), once("c")])
    yield Saga("limited", [Parallel("few", [once("x"), once("y")], at_most=1)])
    yield Saga("eager", [Parallel("fan", [once("x"), once("y")], on_failure="cancel"), once("b")])
    yield Saga("each", [Parallel.each("all", once("item"), over=lambda payload: []), once("z")])
    way = Choose("way", {"x": forward("x"), "y": forward("y")}, by=lambda payload: "y")
    yield Saga("after", [pivot(), Parallel("fan", [forward("x"), forward("y")]), way])
    word = Saga("words", [Signal("word"), once("x")])
    yield Saga("deep", [Parallel("fan", [word, Saga("pair", [once("u"), forward("v", retry=ONCE)])]), once("b")])


def said(report: Report) -> Any:
    """A report as JSON, without what differs from one run to the next."""
    return json.loads(json.dumps(_without_seconds(report.to_dict())))


def _without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    branches = [_without_seconds(branch) for branch in report["branches"]]
    return {**report, "seconds": 0, "branches": branches}


def fault_found(expected: Mapping[str, Any], names: Sequence[str]) -> str:
    """How `verify` finds a fault that is in place: a broken law, an error. Empty: it does not.

    It walks the sagas of these *names*, in this order. Where every law holds and a report yet differs from the
    *expected* one, the answer begins with ``differs``.
    """
    differs = ""
    try:
        every = {saga.name: saga for saga in sagas()}
        for name in names:
            report = verify(every[name], most_nodes=MOST_SITUATIONS)
            if not report.ok:
                laws = sorted({v.law for each in (report, *report.branches) for v in each.violations})
                return f"{name}: {'law ' + ', '.join(map(str, laws)) if laws else 'no end'}"
            if not differs and expected[name] != said(report):
                differs = f"differs: {name}"
    except Exception as error:
        return f"raised {type(error).__name__}"
    return differs
