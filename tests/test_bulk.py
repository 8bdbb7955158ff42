"""Bulk: one verb for many executions, frozen, with a result for each, and resumed after an interruption."""

from __future__ import annotations

import asyncio

import pytest

from fsm_mediator import AsyncMediator, Mediator, Parallel, Retry, Saga, SQLiteJournal, StepRejectedError
from fsm_mediator.errors import DefinitionError, JournalError, RefusedError
from fsm_mediator.mediator import bulk
from fsm_mediator.mediator.bulk import Batch
from fsm_mediator.mediator.bulk_pruning import prune_one
from tests.drivers import JOURNALS, MARKS, World

ONCE = Retry(attempts=1)


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def mediator(request, tmp_path):
    """A mediator on each journal."""
    made = JOURNALS[request.param](tmp_path)
    with Mediator(journal=made, close_grace=0.0) as mediator:
        yield mediator
    made.close()


def stuck(mediator, count, *works):
    """So many executions that are stuck in a step, which then does *works*; and what was called."""
    world = World()
    script = [OSError("no power")] * count + list(works)
    saga = Saga("s", [world.step("pay", pivot=True, undo=None), world.step("light", *script, retry=ONCE, undo=None)])
    mediator.register(saga)
    for number in range(count):
        assert mediator.run(saga, number, saga_id=f"o-{number}", check=False).stuck
    return world


def test_all_that_fit_are_retried_with_a_result_for_each(mediator):
    """I retry everything that is stuck with one error: each gets its result, and who asked for it and why."""
    stuck(mediator, 4, "on", "on", OSError("still no power"), "on")

    results = list(mediator.bulk("retry", error="OSError", state="stuck", reason="the power is back", actor="ann"))

    assert [result.saga_id for result in results] == ["o-3", "o-2", "o-1", "o-0"]
    assert [result.message for result in results].count("succeeded") == 3
    assert all(result.done for result in results)
    assert mediator.count(by="state") == {"succeeded": 3, "stuck.light": 1}
    noted = [note for note in mediator.notes("o-3") if note.kind == "batch_result"]
    assert [(note.actor, note.value["done"], note.reason) for note in noted] == [("ann", True, "succeeded")]
    assert {record.actor for record in mediator.outcome("o-3").history} == {None, "ann"}


def test_interrupted_batch_goes_on_with_what_has_no_result(mediator):
    """A batch that was killed half-way is resumed by its name: nothing twice, and nothing that came to fit since."""
    world = stuck(mediator, 4, "on")
    half = mediator.bulk("retry", state="stuck")
    done = [next(half).saga_id, next(half).saga_id]
    half.close()
    mediator.run("s", 9, saga_id="later", check=False)
    (name,) = {note.value["batch"] for note in mediator.journal.notes(kind="batch")}
    calls = len(world.calls)

    rest = [result.saga_id for result in mediator.bulk(batch=name)]

    assert [*done, *rest] == ["o-3", "o-2", "o-1", "o-0"]
    assert world.calls[calls:] == ["light", "light"]
    assert list(mediator.bulk(batch=name)) == []


def test_refusals_are_results(mediator):
    """What refuses the verb does not end the batch."""
    stuck(mediator, 2, "on")
    mediator.retry("o-0")
    results = {result.saga_id: result for result in mediator.bulk("retry", saga="s")}

    assert results["o-1"].done
    assert not results["o-0"].done
    assert "o-0" in results["o-0"].message


def test_many_ids_are_kept_in_several_notes(mediator, monkeypatch):
    """The ids of a large batch are frozen whole; a batch whose last note is missing was never confirmed."""
    monkeypatch.setattr(bulk, "CHUNK", 2)
    ids = [f"o-{number}" for number in range(5)]
    journal = mediator.journal
    made = bulk.freeze(journal, "cancel", ids, {}, "why", "ann", 5.0)
    assert (made.ids, made.left(), made.words()) == (ids, ids, {"actor": "ann", "reason": "why"})
    assert len(journal.notes(kind="batch")) == 3

    notes = journal.notes
    monkeypatch.setattr(journal, "notes", lambda *args, **named: notes(*args, **named)[:2])
    with pytest.raises(RefusedError, match="no batch"):
        Batch(journal, made.name)


def test_batch_of_nothing_yields_nothing(mediator):
    """A filter that nothing fits is no error; a verb that does not exist is."""
    stuck(mediator, 1)
    assert list(mediator.bulk("cancel", state="waiting")) == []
    with pytest.raises(DefinitionError, match="the verbs for many"):
        list(mediator.bulk("delete"))
    with pytest.raises(RefusedError, match="no batch"):
        list(mediator.bulk(batch="unknown"))


def test_asynchronous_mediator_yields_as_it_goes(tmp_path):
    """The same with async for."""
    world = World()

    async def run() -> list[tuple[str, bool]]:
        journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
        saga = Saga("order", [world.step("a"), world.step("b", StepRejectedError("no"), StepRejectedError("no"), "b")])
        async with AsyncMediator(saga, journal=journal) as mediator:
            for number in range(2):
                await mediator.run("order", saga_id=f"o-{number}", check=False)
            found = [result async for result in mediator.bulk("again", state="failed", reason="mended")]
            for result in found:
                await mediator.wait(result.message, check=False)
        return [(result.message, result.done) for result in found]

    assert asyncio.run(run()) == [("o-1~2", True), ("o-0~2", True)]


# Deleting


def ended(mediator):
    """Executions of every kind: two failed, one succeeded, one stuck, one with branches; the ids of what has ended."""
    world = World()
    once = [StepRejectedError("no"), StepRejectedError("no"), "done", OSError("no power")]
    saga = Saga("s", [world.step("pay", *once, retry=ONCE, undo=None)])
    group = Saga("g", [Parallel("both", [world.step("a"), world.step("b")])])
    broken = world.step("x", OSError("no"), retry=ONCE, undo=None)
    stuck_saga = Saga("t", [world.step("first", pivot=True, undo=None), broken])
    for each in (saga, group, stuck_saga):
        mediator.register(each)
    for number in range(3):
        mediator.run("s", number, saga_id=f"o-{number}", check=False)
    assert mediator.run("t", saga_id="stuck", check=False).stuck
    mediator.run("g", saga_id="whole")
    return ["whole", "o-2", "o-1", "o-0"]


def test_what_has_ended_is_deleted_with_a_result_for_each(mediator):
    """I delete what fits, each whole with its branches; who did it and why stays in the journal."""
    ids = ended(mediator)
    journal = mediator.journal

    failed = list(mediator.bulk("prune", state="failed", reason="a test run", actor="ann"))
    assert failed == [("o-1", True, "deleted"), ("o-0", True, "deleted")]
    every = list(mediator.bulk("prune"))
    assert every == [("whole", True, "deleted, with 2 branches"), ("o-2", True, "deleted")]

    assert [entry.saga_id for entry in mediator.executions()] == ["stuck"]
    assert all(journal.forgotten(saga_id) is not None for saga_id in ids)
    (first, _) = journal.notes(kind="batch")
    assert (first.actor, first.reason, first.value["ids"]) == ("ann", "a test run", ["o-1", "o-0"])
    kept = [(note.value["id"], note.value["done"], note.actor) for note in journal.notes(kind="batch_result")]
    assert kept[:2] == [("o-1", True, "ann"), ("o-0", True, "ann")]


def test_what_cannot_be_deleted_is_refused_and_stays(mediator):
    """What has not ended, a branch by itself, what ended again since, and an id that there never was."""
    ended(mediator)
    journal = mediator.journal
    (refused,) = mediator.bulk("prune", state="stuck")
    assert refused == ("stuck", False, "execution 'stuck' has not ended, but is in 'stuck.x'; nothing was deleted")
    results = {
        saga_id: prune_one(journal, saga_id, at)
        for saga_id, at in (("whole/both.a", 9e9), ("whole", 5.0), ("unknown", 9e9))
    }
    assert "is a branch, and is deleted with its parent: prune 'whole'" in results["whole/both.a"].message
    assert "ended again after the batch was confirmed" in results["whole"].message
    assert "unknown" in results["unknown"].message
    assert not any(result.done for result in results.values())
    assert len(list(journal.entries())) == 7


def test_interrupted_pruning_goes_on(mediator):
    """A batch that died between a deletion and its result counts that as done, and does the rest."""
    ids = ended(mediator)
    journal = mediator.journal
    batch = bulk.freeze(journal, "prune", ids, {}, None, None, mediator.journal.find("whole").changed_at)
    assert prune_one(journal, "o-2", batch.at).done  # and its process is killed

    results = list(mediator.bulk(batch=batch.name))

    assert [(result.saga_id, result.done) for result in results] == [(saga_id, True) for saga_id in ids]
    assert results[1].message == "deleted before"
    assert list(mediator.bulk(batch=batch.name)) == []


def test_pruning_takes_no_arguments_and_needs_a_journal_that_can(mediator, monkeypatch):
    """Both are refused before anything is frozen."""
    with pytest.raises(DefinitionError, match="has no argument 'archive': it takes none"):
        list(mediator.bulk("prune", arguments={"archive": "x"}))
    for each in type(mediator.journal).__mro__:
        if "prune_these" in vars(each):
            monkeypatch.delattr(each, "prune_these")
    with pytest.raises(JournalError, match="lacks prune_these"):
        list(mediator.bulk("prune"))
    assert mediator.journal.notes(kind="batch") == []


def test_asynchronous_mediator_prunes(tmp_path):
    """The same with async for."""

    async def run() -> list[tuple[str, bool, str]]:
        async with AsyncMediator(Saga("s", [World().step("a")]), journal=SQLiteJournal(tmp_path / "a.db")) as mediator:
            await mediator.run("s", saga_id="o-1")
            return [(each.saga_id, each.done, each.message) async for each in mediator.bulk("prune", saga="s")]

    assert asyncio.run(run()) == [("o-1", True, "deleted")]
