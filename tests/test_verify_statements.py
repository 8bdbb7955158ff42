"""Each place at which `verify` finds a rule broken can be reached: a law that never speaks would prove nothing.

`test_mutants` shows that each rule is broken by a fault. Many rules are held at several places; the faults here reach
those that no mutant of that page reaches.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import Choose, Context, Parallel, Saga, Sleep, verify
from fsm_mediator.errors import JournalError, RefusedError
from fsm_mediator.execution import branching, execution
from fsm_mediator.execution.branching import enter_wait
from fsm_mediator.records import WAKE, Acceptance, Happened, Returned
from fsm_mediator.verifier import abstract_states, answer_laws, attempt_laws, laws, rules_table, state_space
from tests.test_mutants import MUTANTS, Patch, found_with, judged, made, report_with, ruled, sagas, wrapped

MODULES = (abstract_states, answer_laws, attempt_laws, laws)
"""The modules that say what is broken; `state_space` as well, under another name."""

Place = tuple[str, int]
"""A module, and the first line of a call of `broken` in it."""


def places(module: Any) -> dict[Place, tuple[range, str]]:
    """Every call of `broken` in *module*: its lines, and its words."""
    tree = ast.parse(inspect.getsource(module))
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)]
    return {
        (module.__name__, call.lineno): (range(call.lineno, (call.end_lineno or 0) + 1), ast.unparse(call.args[1]))
        for call in calls
        if call.func.id in ("broken", "broken_rule")  # type: ignore[attr-defined]  # it is a name
    }


PLACES = {place: found for module in (*MODULES, state_space) for place, found in places(module).items()}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> set[Place]:
    """The places that `verify` comes to while the test runs."""
    found: set[Place] = set()

    def recording(right: Callable[..., Any]) -> Callable[..., Any]:
        def broken(rule: str, what: str) -> Any:
            frame = sys._getframe(1)
            found.update(
                place
                for place, (lines, _) in PLACES.items()
                if place[0] == frame.f_globals["__name__"] and frame.f_lineno in lines
            )
            return right(rule, what)

        return broken

    for module in MODULES:
        monkeypatch.setattr(module, "broken", recording(rules_table.broken))
    monkeypatch.setattr(state_space, "broken_rule", recording(rules_table.broken))
    return found


FAULTS: dict[str, tuple[Callable[[Patch], None], str, str]] = {}


def fault(words: str, *, on: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register a fault: a part of the *words* that are said of it, and the saga that shows it."""

    def register(function: Callable[[Patch], None]) -> Callable[[Patch], None]:
        FAULTS[function.__doc__ or ""] = function, words, on
        return function

    return register


def saga_named(name: str) -> Saga:
    """A saga of the mutants; or one in which everything is decided by functions."""
    choice = Choose("choice", {"left": made("l"), "right": made("r")}, by=lambda payload, context: "left")
    each = Parallel.each("each", made("i"), over=lambda payload, context: [])
    nap = Sleep("nap", lambda payload, context: 1.0)
    decided = Saga("decided", [made("a"), nap, choice, each])
    return next(saga for saga in (*sagas(), decided) if saga.name == name)


@fault("the records cannot be replayed", on="plain")
def _(patch: Patch) -> None:
    """A fold does not know one of the events."""

    def refuse(original: Any, self: Any, record: Any) -> Any:
        if record.event == "errored":
            raise JournalError("unknown")
        return original(self, record)

    wrapped(patch, "replay", refuse)


@fault("the function of", on="decided")
def _(patch: Patch) -> None:
    """A function that decides is given the name of another execution."""
    patch(branching, "Context", lambda saga_id, *rest: Context(f"{saga_id}'", *rest))


@fault("names no error of a branch", on="fanned")
def _(patch: Patch) -> None:
    """The errors of branches are lost."""
    judged(patch, "_one_of", lambda original, errors, message: None)


@fault("the saga was cancelled, but the record names the error", on="fanned")
def _(patch: Patch) -> None:
    """A group that was cancelled names the error of a branch."""

    def of_a_branch(original: Any, data: Any, *rest: Any) -> Any:
        cancel, data.cancel = data.cancel, None
        try:
            return original(data, *rest)
        finally:
            data.cancel = cancel

    judged(patch, "_error_of_branches", of_a_branch)


@fault("but the record names another error", on="decided")
def _(patch: Patch) -> None:
    """What a function that decides raises is not named."""

    def unnamed(original: Any, data: Any, part: Any) -> Any:
        data.undecided = None
        return original(data, part)

    judged(patch, "undecided", unnamed)


@fault("were decided", on="fanned")
def _(patch: Patch) -> None:
    """A group is recorded with its branches the other way round."""

    def reversed_(data: Any, part: Any, *rest: Any) -> Any:
        due_at, children = enter_wait(data, part, *rest)
        return due_at, None if children is None else children[::-1]

    patch(execution, "enter_wait", reversed_)


@fault("creates", on="fanned")
def _(patch: Patch) -> None:
    """Branches are given no payload."""

    def without_payload(saga_id: str, saga: str, version: str, fingerprint: str, payload: Any, *rest: Any, **more: Any):
        return Acceptance(saga_id, saga, version, fingerprint, None, *rest, **more)

    patch(branching, "Acceptance", without_payload)


@fault("sees a wrong result of", on="plain")
def _(patch: Patch) -> None:
    """A step is given other results than those that were returned."""
    wrapped(patch, "results_seen_by", lambda original, self, part: dict.fromkeys(original(self, part), "another"))


@fault("but its item stays in the inbox", on="plain")
def _(patch: Patch) -> None:
    """The item that says that a hold was removed is not read."""

    def overlook(original: Any, self: Any, item: Any) -> None:
        if item.kind != WAKE:
            original(self, item)

    wrapped(patch, "receive", overlook)


@fault("is no longer among the leftovers", on="leftovers")
def _(patch: Patch) -> None:
    """What was left over is forgotten as soon as something is compensated."""

    def forget(original: Any, self: Any, answer: Any, *rest: Any) -> Any:
        forgets = self.phase == "compensating" and isinstance(answer, Returned)
        record = original(self, answer, *rest)
        if forgets:
            self.doubtful = type(self.doubtful)()
        return record

    wrapped(patch, "feed", forget)


@fault("is refused in", on="plain")
def _(patch: Patch) -> None:
    """A command that does not fit is refused without a reason."""
    judged(patch, "_refusal", lambda original, data, answer: RefusedError("no"))


@fault("returns Happened, and its answer is ignored", on="probed")
def _(patch: Patch) -> None:
    """A probe that says that it happened is taken for one that cannot tell."""

    def unheard(rule: Any, data: Any, part: Any, answer: Any, *rest: Any) -> Any:
        happened = isinstance(answer, Returned) and isinstance(answer.value, Happened)
        return rule(data, part, Returned("nonsense") if happened else answer, *rest)

    ruled(patch, "probing", unheard)


@pytest.mark.parametrize("what", FAULTS)
def test_place_that_no_mutant_reaches_is_reached_by_a_fault(what: str, reached: set[Place]) -> None:
    """A fault that breaks a rule in a rare way is found broken at the very place that holds it."""
    patch, words, on = FAULTS[what]
    with pytest.MonkeyPatch.context() as patches:
        patch(patches.setattr)
        report = verify(saga_named(on), most_nodes=3000)

    assert not report.ok
    assert any(words in PLACES[place][1] for place in reached), [PLACES[place][1] for place in reached]


UNREACHED = {
    "is attempted while a thread of it may be running": "while a thread goes on, `verify` walks nothing but its end: "
    "each command is refused by the mediator. The player's witness holds a real mediator to it",
}
"""The places that no fault of the rules reaches, by a part of their words, and why."""


@pytest.mark.torture
def test_each_place_is_reached_by_some_fault(reached: set[Place]) -> None:
    """Of all places at which a rule can be found broken none is out of reach."""
    report_with.cache_clear()  # another test may have walked with some of the faults
    for what in MUTANTS:
        found_with(what)
    for patch, _, on in FAULTS.values():
        with pytest.MonkeyPatch.context() as patches:
            patch(patches.setattr)
            verify(saga_named(on), most_nodes=3000)

    missed = [words for place, (_, words) in PLACES.items() if place not in reached]

    assert len(PLACES) > 50
    assert [words for words in missed if not any(part in words for part in UNREACHED)] == []
    assert len(missed) == len(UNREACHED)
