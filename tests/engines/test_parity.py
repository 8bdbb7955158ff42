"""The same sagas on SQLite, PostgreSQL and every engine: the same records, but for times and the order of branches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import Mediator, Outcome, Saga, conforms
from fsm_mediator.engines.mediator import EngineMediator
from tests.engines.backends import ENGINES, engine
from tests.engines.conftest import SAGAS, SEED
from tests.engines.sagas import branches_of, plain, saga_of

pytestmark = pytest.mark.engines

Known = dict[str, Outcome]
PATIENCE = 300.0
AT_A_TIME = 4


def drawn(*, free: bool) -> list[tuple[Saga, dict[str, int], float | None]]:
    """The sagas of this run: ENGINES_SAGAS of them, from ENGINES_SEED on; *free*: a quarter as many."""
    return [saga_of(SEED + number, free=free) for number in range(max(1, SAGAS // 4) if free else SAGAS)]


def on_a_journal(journal: Any, *, free: bool) -> dict[str, Known]:
    """The outcomes of every saga and its branches, by a mediator with a daemon."""
    sagas = drawn(free=free)
    with Mediator(*(saga for saga, *_ in sagas), journal=journal, max_workers=AT_A_TIME) as mediator:
        with mediator.daemon(poll=0.05):
            for saga, payload, deadline in sagas:
                mediator.start(saga.name, payload, saga_id=saga.name, deadline=deadline)
            for saga, *_ in sagas:
                until = time.monotonic() + PATIENCE
                while not settled(mediator.outcome(saga.name)):
                    assert time.monotonic() < until, mediator.outcome(saga.name)
                    time.sleep(0.01)
        found = {}
        for saga, *_ in sagas:
            found[saga.name] = known = Known()
            left = [saga.name]
            while left:
                saga_id = left.pop()
                known[saga_id] = outcome = mediator.outcome(saga_id)
                left += branches_of(outcome)
    return found


async def on_an_engine(mediator: EngineMediator, *, free: bool) -> dict[str, Known]:
    """The same, by an engine whose worker runs."""
    slots, found = asyncio.Semaphore(AT_A_TIME), {}

    async def one(saga: Saga, payload: Any, deadline: float | None) -> None:
        async with slots, asyncio.timeout(PATIENCE):
            outcome = await mediator.run(saga.name, payload, saga_id=saga.name, deadline=deadline, check=False)
            while not settled(outcome):
                await asyncio.sleep(0.1)
                outcome = await mediator.outcome(saga.name)
            found[saga.name] = known = Known()
            left = [saga.name]
            while left:
                saga_id = left.pop()
                known[saga_id] = outcome = await mediator.outcome(saga_id)
                left += branches_of(outcome)

    await asyncio.gather(*(one(*each) for each in drawn(free=free)))
    return found


def settled(outcome: Outcome) -> bool:
    """Whether only a person moves it."""
    return outcome.ended or outcome.stuck


def by_an_engine(name: str) -> Callable[..., dict[str, Known]]:
    """On that engine."""

    def found(request: pytest.FixtureRequest, *, free: bool) -> dict[str, Known]:
        ready = engine(name, request)

        async def all_of_it() -> dict[str, Known]:
            async with ready(*(saga for saga, *_ in drawn(free=free))) as mediator:
                return await on_an_engine(mediator, free=free)

        return asyncio.run(all_of_it())

    return found


def postgres(_: pytest.FixtureRequest, *, free: bool) -> dict[str, Known]:
    """On PostgreSQL."""
    from tests.postgres_server import server

    return on_a_journal(server().journal(), free=free)


Backend = Callable[..., dict[str, Known]]
BACKENDS: dict[str, Backend] = {"postgres": postgres, **{name: by_an_engine(name) for name in ENGINES}}


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], dict[str, Known]]:
    """What the sagas do on SQLite, each kind once."""
    kept: dict[bool, dict[str, Known]] = {}

    def found(free: bool) -> dict[str, Known]:
        if free not in kept:
            kept[free] = on_a_journal(Path(tmp_path_factory.mktemp("sqlite")) / "sagas.db", free=free)
        return kept[free]

    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_records(backend, on_sqlite, request):
    """Sagas whose outcome no schedule can change: equal records, of the branches too, but for times."""
    expected, found = on_sqlite(False), BACKENDS[backend](request, free=False)
    differ = {}
    for name, known in expected.items():
        records = {saga_id: plain(outcome) for saga_id, outcome in known.items()}
        theirs = {saga_id: plain(outcome) for saga_id, outcome in found[name].items()}
        if records != theirs:
            differ[name] = [(saga_id, records.get(saga_id), theirs.get(saga_id)) for saga_id in records]
    executions = sum(map(len, expected.values()))
    print(f"{backend}: {len(differ)} of {len(expected)} sagas differ, {executions} executions")  # noqa: T201 - for the log of `make engines`
    assert not differ, differ


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_laws(backend, on_sqlite, request):
    """Sagas that a schedule can change: they conform, and end as the saga lets them end."""
    expected, found = on_sqlite(True), BACKENDS[backend](request, free=True)
    for saga, *_ in drawn(free=True):
        outcome = found[saga.name][saga.name]
        assert outcome.state == expected[saga.name][saga.name].state, saga.name
        assert not outcome.failed or not outcome.leftovers, saga.name
        for each in found[saga.name].values():
            assert settled(each), each
            assert conforms(each.history, saga).ok, each
    print(f"{backend}: {len(expected)} sagas, {sum(map(len, found.values()))} executions, all conform")  # noqa: T201
