"""Claims of batches: a batch is carried out by one process at a time, so that each execution is acted on once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner

from fsm_mediator import AsyncMediator, Mediator, Saga, SQLiteJournal, StepRejectedError
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.console import REFUSED
from fsm_mediator.errors import JournalError, MediatorError, RefusedError
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.liveness import host
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.mediator import bulk_claims
from fsm_mediator.mediator.bulk import Batch, freeze
from fsm_mediator.mediator.bulk_claims import process_at_it
from fsm_mediator.ui import Monitor
from tests.asgi import ask, get, post
from tests.drivers import JOURNALS, MARKS, PATIENCE, World
from tests.test_earlier_journals import Earlier
from tests.test_monitor import acting

COUNT = 4


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def journal(request, tmp_path):
    """Each journal."""
    made = JOURNALS[request.param](tmp_path)
    yield made
    made.close()


def failing(world: World) -> Saga:
    """A saga whose first runs fail."""
    return Saga("s", [world.step("a", *[StepRejectedError("no")] * COUNT, "ok")])


def mediators(journal: Any, count: int) -> list[Any]:
    """So many mediators on a journal in which four executions have failed; each has its own steps, which then work."""
    with Mediator(failing(World()), journal=journal) as first:
        for number in range(COUNT):
            first.run("s", saga_id=f"o-{number}", check=False)
    return [Mediator(Saga("s", [World().step("a")]), journal=journal, close_grace=0.0) for _ in range(count)]


def frozen(journal: Any) -> Batch:
    """A batch that runs all of them again."""
    return freeze(journal, "again", [f"o-{number}" for number in range(COUNT)], {}, "why", "ann", 5.0)


def acted_on(journal: Any) -> Counter[str]:
    """How many results each execution has."""
    return Counter(note.value["id"] for note in journal.notes(kind="batch_result"))


def test_second_mediator_is_refused_while_the_first_goes_on(journal):
    """The refusal names the process; nothing is begun twice, and the first one ends the batch."""
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    with first, second:
        results = first.bulk(batch=batch.name)
        next(results)
        with pytest.raises(RefusedError, match=r"is carried out by process \d+ .* --resume"):
            list(second.bulk(batch=batch.name))
        assert process_at_it(journal, batch) == f"process {os.getpid()} on {host()}"
        list(results)

        assert process_at_it(journal, batch) is None
        assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}
        assert list(second.bulk(batch=batch.name)) == []


def test_command_that_prunes_is_refused_while_another_process_prunes(tmp_path):
    """The command claims the batch as a mediator does, although it needs no app: each execution has one result."""
    path = tmp_path / "sagas.db"
    with closing(SQLiteJournal(path)) as journal:
        (first,) = mediators(journal, 1)
        batch = freeze(journal, "prune", [f"o-{number}" for number in range(COUNT)], {}, "why", "ann", time.time())
        command = ["bulk", "--resume", batch.name, "--journal", str(path)]
        with first:
            results = first.bulk(batch=batch.name)
            assert next(results).done
            refused = CliRunner().invoke(cli, command)
            assert refused.exit_code == REFUSED
            assert "is carried out by process" in refused.stderr
            results.close()  # and the command takes over
        done = CliRunner().invoke(cli, command)
        assert "3 done, 0 refused" in done.output

        assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}
        assert process_at_it(journal, batch) is None
        assert list(journal.entries()) == []


def test_mediators_that_resume_at_the_same_moment_act_once(journal):
    """Four threads, each with its own mediator, resume one batch together: one carries it out, three are refused."""
    racing = mediators(journal, 4)
    batch = frozen(journal)
    together, outcomes = threading.Barrier(len(racing)), list[Any]()

    def resume(mediator: Mediator) -> None:
        together.wait()
        try:
            outcomes.append(list(mediator.bulk(batch=batch.name)))
        except RefusedError as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=resume, args=(each,)) for each in racing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in racing:
        each.close()

    assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}
    assert sum(isinstance(each, list) and len(each) == COUNT for each in outcomes) == 1
    assert all(isinstance(each, RefusedError) or len(each) in (0, COUNT) for each in outcomes)


def test_claim_between_the_look_and_the_claim_of_another_counts(journal, monkeypatch):
    """The second mediator has seen that the batch is free, and the first one claims it then: one of them is refused."""
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    newest, begun = vars(bulk_claims)["_newest"], list[Any]()

    def then_the_first_begins(*asked: Any) -> Any:
        seen = newest(*asked)
        monkeypatch.setattr(bulk_claims, "_newest", newest)
        begun.append(first.bulk(batch=batch.name))
        next(begun[0])
        return seen

    with first, second:
        monkeypatch.setattr(bulk_claims, "_newest", then_the_first_begins)
        with pytest.raises(RefusedError, match="is carried out by process"):
            list(second.bulk(batch=batch.name))
        assert len(list(begun[0])) == COUNT - 1

    assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}


def test_batch_that_ends_just_before_a_claim_is_not_repeated(journal, monkeypatch):
    """What has a result by the time of the claim is not acted on again."""
    first, second = mediators(journal, 2)
    batch, claim_batch = frozen(journal), bulk_claims.claim_batch

    def when_the_first_has_ended(*asked: Any) -> Any:
        monkeypatch.setattr(bulk_claims, "claim_batch", claim_batch)
        assert len(list(first.bulk(batch=batch.name))) == COUNT
        return claim_batch(*asked)

    with first, second:
        monkeypatch.setattr(bulk_claims, "claim_batch", when_the_first_has_ended)
        assert list(second.bulk(batch=batch.name)) == []

    assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}


def test_mediator_that_is_at_a_batch_does_not_begin_it_twice(journal):
    """A second call of the same mediator is refused too, and leaves no claim in use; another batch is free."""
    (only,) = mediators(journal, 1)
    batch, other = frozen(journal), freeze(journal, "again", ["o-0"], {"even_if_succeeded": True}, "why", "ann", 6.0)
    with only:
        results = only.bulk(batch=batch.name)
        next(results)
        in_use = set(bulk_claims.RUNNING)
        with pytest.raises(RefusedError, match="is carried out by process"):
            list(only.bulk(batch=batch.name))
        assert in_use == bulk_claims.RUNNING
        assert len(list(only.bulk(batch=other.name))) == 1
        assert len(list(results)) == COUNT - 1


def test_closed_mediator_holds_no_batch_and_notes_nothing_more(journal):
    """A loop that outlives its mediator ends without a trace in the journal; another mediator goes on."""
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    results = first.bulk(batch=batch.name)
    next(results)
    first.wait("o-0~2")
    first.close()
    results.close()
    assert len(journal.notes(kind="batch_claim")) == 1
    with second:
        assert len(list(second.bulk(batch=batch.name))) == COUNT - 1


def test_error_of_the_journal_is_no_result(drive, monkeypatch):
    """It ends the batch, which is resumed later, and is not noted as if the verb had been refused."""
    journal = MemoryJournal(encode=True)
    mediators(journal, 0)
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    batch = frozen(journal)

    def breaks(*_: Any, **__: Any) -> None:
        raise JournalError("disk full")

    async def breaks_async(*_: Any, **__: Any) -> None:
        raise JournalError("disk full")

    inner = getattr(mediator, "inner", mediator)

    def all_of_it() -> list[Any]:
        if inner is mediator:
            return list(mediator.bulk(batch=batch.name))

        async def collect() -> list[Any]:
            return [each async for each in inner.bulk(batch=batch.name)]

        return asyncio.run_coroutine_threadsafe(collect(), mediator.loop).result(PATIENCE)

    with monkeypatch.context() as broken:
        broken.setattr(inner, "again", breaks if inner is mediator else breaks_async)
        with pytest.raises(JournalError, match="disk full"):
            all_of_it()
    assert acted_on(journal) == {}
    assert [each.done for each in all_of_it()] == [True] * COUNT


def test_batch_of_a_dead_driver_is_taken_over(journal):
    """A mediator that is gone holds no batch; if it comes back, it is refused before it acts again."""
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    with first, second:
        results = first.bulk(batch=batch.name)
        next(results)
        (claim,) = journal.notes(kind="batch_claim")
        journal.dismiss(claim.value["driver"])  # as after its lease ran out
        bulk_claims.RUNNING.clear()  # as in another process
        assert len(list(second.bulk(batch=batch.name))) == COUNT - 1
        with pytest.raises(RefusedError, match=r"was taken over by process \d+"):
            next(results)

        assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}


def test_interrupted_batch_is_free_at_once(journal):
    """A loop that is left early, and one that fails, release the batch; another mediator goes on."""
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    with first, second:
        results = first.bulk(batch=batch.name)
        next(results)
        results.close()
        assert process_at_it(journal, batch) is None
        assert len(list(second.bulk(batch=batch.name))) == COUNT - 1


def test_release_that_fails_leaves_the_batch_to_its_own_mediator(monkeypatch):
    """The journal could not be written for a moment: the error is raised, and the same mediator can resume."""
    journal = MemoryJournal()
    (first,) = mediators(journal, 1)
    batch = frozen(journal)
    with first:
        results = first.bulk(batch=batch.name)
        next(results)
        with monkeypatch.context() as patched:
            patched.setattr(journal, "add_note", lambda *_, **__: (_ for _ in ()).throw(JournalError("disk full")))
            with pytest.raises(JournalError, match="disk full"):
                results.close()
        assert len(list(first.bulk(batch=batch.name))) == COUNT - 1


def test_journal_that_knows_no_drivers_keeps_the_last_claim():
    """Without `is_driver_alive` a batch can be taken over at any time, and the mediator before is refused."""
    inner = MemoryJournal(encode=True)
    earlier: Any = Earlier(inner)
    for name in ("add_note", "notes"):
        setattr(earlier, name, getattr(inner, name))
    journal = open_journal(earlier)
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    with first, second:
        results = first.bulk(batch=batch.name)
        next(results)
        bulk_claims.RUNNING.clear()  # as in another process
        assert len(list(second.bulk(batch=batch.name))) == COUNT - 1
        with pytest.raises(RefusedError, match="taken over"):
            next(results)


def test_asynchronous_mediators_take_turns(tmp_path):
    """The same with async for: the second one is refused, and a loop that is left releases the batch."""

    async def run() -> list[str]:
        journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
        mediators(journal, 0)
        batch = frozen(journal)
        async with (
            AsyncMediator(failing(World()), journal=journal) as first,
            AsyncMediator(failing(World()), journal=journal) as second,
        ):
            results: Any = first.bulk(batch=batch.name)
            await anext(results)
            with pytest.raises(RefusedError, match="carried out by process"):
                [each async for each in second.bulk(batch=batch.name)]
            await results.aclose()
            return [each.saga_id async for each in second.bulk(batch=batch.name)]

    assert asyncio.run(run()) == ["o-1", "o-2", "o-3"]


def test_asynchronous_mediator_that_counted_as_dead_is_refused_before_it_acts_again(tmp_path):
    """The same with async for."""

    async def run() -> None:
        journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
        mediators(journal, 0)
        batch = frozen(journal)
        async with (
            AsyncMediator(Saga("s", [World().step("a")]), journal=journal) as first,
            AsyncMediator(Saga("s", [World().step("a")]), journal=journal) as second,
        ):
            results: Any = first.bulk(batch=batch.name)
            await anext(results)
            (claim,) = journal.notes(kind="batch_claim")
            journal.dismiss(claim.value["driver"])
            bulk_claims.RUNNING.clear()
            assert len([each async for each in second.bulk(batch=batch.name)]) == COUNT - 1
            with pytest.raises(RefusedError, match="taken over"):
                await anext(results)
        assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}

    asyncio.run(run())


def _resume(path: str, name: str, ready: Any, answers: Any) -> None:
    with closing(SQLiteJournal(path, durability="normal")) as journal:
        mediator = Mediator(Saga("s", [World().step("a")]), journal=journal)
        ready.wait()
        try:
            answers.put(len(list(mediator.bulk(batch=name))))
        except MediatorError as error:
            answers.put(str(error))
        mediator.close()


def test_processes_that_resume_at_the_same_moment_act_once(tmp_path):
    """Three processes on one file: each execution has one result and one repetition."""
    path = str(tmp_path / "sagas.db")
    with closing(SQLiteJournal(path, durability="normal")) as journal:
        mediators(journal, 0)
        batch = frozen(journal)
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_resume, args=(path, batch.name, ready, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()

    assert found.count(COUNT) == 1, found
    assert all(each in (0, COUNT) or "is carried out by process" in each for each in found)
    with closing(SQLiteJournal(path)) as journal:
        assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}
        assert len(list(journal.entries())) == 2 * COUNT


def test_page_of_a_batch_names_the_process_at_it(tmp_path):
    """The page of another process offers no button; a form that is sent all the same is refused in words."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    first, second = mediators(journal, 2)
    batch = frozen(journal)
    with closing(journal), first, second:
        results = first.bulk(batch=batch.name)
        next(results)
        monitor, place = Monitor(second, authorize=acting), f"/batches/{batch.name}"
        page = get(monitor, place).text
        assert f"3 left. Carried out by process {os.getpid()} on {host()} now." in page
        assert "Go on with" not in page
        answer = post(monitor, place, {})
        assert answer.status == 409
        assert "is carried out by process" in answer.text
        results.close()
        assert "Go on with the 3" in get(monitor, place).text


def test_button_that_is_pressed_twice_begins_a_batch_once(tmp_path, monkeypatch, caplog):
    """The second press shows the page of the batch that this process is at, and nothing is said to be interrupted."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    (only,) = mediators(journal, 1)
    batch, gate, again = frozen(journal), World(), only.again
    wait = gate.gate()

    def gated(*asked: Any, **words: Any) -> Any:
        wait()
        return again(*asked, **words)

    async def press() -> None:
        monitor, place = Monitor(only, authorize=acting), f"/batches/{batch.name}"
        for _ in range(2):
            assert (await ask(monitor, place, {}, {"sec-fetch-site": "same-origin"})).status == 303
            await asyncio.to_thread(gate.begun)
        gate.go()
        while " 0 left" not in (await ask(monitor, place)).text:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)

    monkeypatch.setattr(only, "again", gated)
    with closing(journal), only:
        asyncio.run(asyncio.wait_for(press(), PATIENCE))

    assert acted_on(journal) == {f"o-{number}": 1 for number in range(COUNT)}
    assert "is interrupted" not in caplog.text
