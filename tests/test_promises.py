"""check_promises: what a step says of itself is tried on it alone, and a promise that is not kept is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fsm_mediator import DefinitionError, Saga
from fsm_mediator.testing import Promise, PromiseBrokenError, check_promises
from tests.fake_services import (
    ORDER,
    FakeService,
    Forgets,
    IsNotIdempotent,
    IsUndoneTwice,
    Mail,
    Put,
    RaisesWithoutExecute,
    Sends,
    shop,
)

BROKEN = {
    Forgets: "undoes",
    IsNotIdempotent: "executes_once",
    IsUndoneTwice: "undoes_once undoes_nothing",
    RaisesWithoutExecute: "undoes_once undoes_nothing",
}


def test_steps_that_behave_keep_every_promise():
    """By default a step promises every law, and a good one keeps them."""
    report = check_promises(shop(), ORDER)

    assert {verdict.verdict for verdict in report.verdicts} == {"kept"}
    assert str(report).splitlines() == [
        "step    undoes         undoes_once    undoes_nothing executes_once",
        "reserve kept           kept           kept           kept",
        "charge  kept           kept           kept           kept",
        "ship    kept           kept           kept           kept",
    ]


@pytest.mark.parametrize("bug", BROKEN, ids=lambda bug: bug.__name__)
def test_broken_promise_is_told(bug):
    """Exactly the promises that a step with a bug breaks are told, each with the line that tries it again, alone."""
    with pytest.raises(PromiseBrokenError) as caught:
        check_promises(shop(bug), ORDER)

    broken = caught.value.report.broken
    assert " ".join(verdict.promise for verdict in broken) == BROKEN[bug]
    assert {verdict.step for verdict in broken} == {"charge"}
    for verdict in broken:
        assert f'reproduce  check_promises(..., only="{verdict.id}")' in str(caught.value)
        with pytest.raises(PromiseBrokenError) as again:
            check_promises(shop(bug), ORDER, only=verdict.id)
        assert again.value.report.verdicts == (verdict,)


def test_step_promises_what_it_says():
    """A step declares by an attribute, or in the call, which laws it keeps; only those are tried."""

    class Careless(RaisesWithoutExecute):
        promises = (Promise.UNDOES, "executes_once")

    report = check_promises(shop(Careless), ORDER)
    assert [verdict.verdict for verdict in report.verdicts if verdict.step == "charge"] == ["kept", "-", "-", "kept"]

    report = check_promises(shop(IsNotIdempotent), ORDER, promises={"charge": {"undoes"}})
    assert [verdict.verdict for verdict in report.verdicts if verdict.step == "charge"] == ["kept", "-", "-", "-"]


def test_settings_are_promises_too():
    """A step without `compensate` promises no undoing, and one that is not repeatable no repetition."""
    shelf = FakeService()

    report = check_promises(Mail(shelf).with_(repeatable=False), ORDER, observe=lambda: shelf.held)

    assert [verdict.verdict for verdict in report.verdicts] == ["-", "-", "-", "-"]


def test_single_step_is_put_back_by_its_own_compensation():
    """One step with its service is enough; what was tried is compensated."""
    shelf = FakeService()

    report = check_promises(Put(shelf), ORDER, observe=lambda: len(shelf.held))

    assert {verdict.verdict for verdict in report.verdicts} == {"kept"}
    assert shelf.held == {}
    with pytest.raises(DefinitionError, match="Pass reset="):
        check_promises(Sends(shelf), ORDER, observe=lambda: len(shelf.held))


def test_step_that_changes_nothing_to_be_seen_is_told():
    """A promise that was kept only because nothing could be seen is not called kept."""
    shelf = FakeService()
    report = check_promises(Put(shelf), ORDER, observe=lambda: 1)

    assert [verdict.verdict for verdict in report.verdicts] == ["unseen", "unseen", "kept", "unseen"]


def test_steps_see_the_results_of_those_before():
    """Each step is tried after those before it were executed, and sees what they returned, as in its saga."""
    seen = []

    class Looks(Put):
        def execute(self, order, context):
            seen.append((context.step, dict(context.results)))
            return super().execute(order, context)

    def make():
        shelf = FakeService()
        inner = Saga("inner", [Looks(shelf, "a"), Looks(shelf, "b")])
        return Saga("outer", [Looks(shelf, "first"), inner, Looks(shelf, "last")]), lambda: shelf.held

    check_promises(make, ORDER)

    told = dict(seen)
    assert told["inner.b"] == {"a": {"shelf": "a"}}
    assert told["last"] == {"first": {"shelf": "first"}, "inner": {"a": {"shelf": "a"}, "b": {"shelf": "b"}}}


def test_coroutines_promise_too():
    """Steps of coroutines are awaited."""

    class Slow(Put):
        async def execute(self, order, context):
            await asyncio.sleep(0)
            return super().execute(order, context)

    class Forgetful(Slow):
        async def compensate(self, order, context):
            await asyncio.sleep(0)

    assert not check_promises(shop(Slow), ORDER).broken
    with pytest.raises(PromiseBrokenError, match="charge breaks its promise: execute, then compensate"):
        check_promises(shop(Forgetful), ORDER)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no_step": ({"promises": {"chrage": ()}}, "has no step 'chrage'; it has reserve, charge, ship"),
    "no_promise": ({"promises": {"charge": ["undo"]}}, "must be a set of undoes, undoes_once"),
    "no_law": ({"only": "charge-undo"}, "there is no promise 'charge-undo'; there are reserve-undoes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_call_says_what_is_wanted(mistake):
    """Whoever calls it wrongly is told what it takes."""
    settings, told = MISTAKES[mistake]

    with pytest.raises(DefinitionError, match=told):
        check_promises(shop(), ORDER, **settings)


def test_promise_to_undo_without_compensate_is_refused():
    """What cannot be undone cannot be promised to be."""
    with pytest.raises(DefinitionError, match="promises 'undoes', and has no compensate"):
        check_promises(Mail(FakeService()), ORDER, observe=dict, promises={"mail": ["undoes"]})


def test_step_that_cannot_be_reached_is_told():
    """If a step before it fails, the check says which, and why."""
    with pytest.raises(
        DefinitionError, match=r"'charge' cannot be tried: 'reserve', which comes before it, raised Key"
    ):
        check_promises(shop(), {}, promises={"reserve": ()})
