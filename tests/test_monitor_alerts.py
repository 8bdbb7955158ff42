"""The monitor's button for alerts that were seen, and its batches that delete what has ended."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, Mediator, OutcomeUnknownError, Parallel, Retry, Saga, Signal, step
from fsm_mediator.alerts import Alerts
from fsm_mediator.statistics.side_store import side_store_of
from fsm_mediator.ui import Monitor, Operator
from tests.asgi import ask, get, post
from tests.drivers import ONCE, PATIENCE, World, eventually
from tests.test_monitor import acting, looking

BUTTON = "/do/acknowledge/o-1"
ITS_OWN = {"sec-fetch-site": "same-origin"}


def stuck(mediator: Any) -> Monitor:
    """A monitor whose execution *o-1* is stuck."""
    mediator.start("order", saga_id="o-1")
    eventually(lambda: mediator.outcome("o-1").stuck)
    return Monitor(mediator, authorize=acting)


@pytest.fixture
def mediator(tmp_path):
    """A mediator whose executions are stuck in their only step, and then succeed."""
    answers = OutcomeUnknownError("no"), OutcomeUnknownError("no"), "ok"
    saga = Saga("order", [World().step("ship", *answers, retry=ONCE, pivot=True, undo=None)])
    with Mediator(saga, journal=tmp_path / "sagas.db") as made:
        yield made


def test_alert_is_acknowledged_where_it_would_be_sent(mediator):
    """The button silences the alerts until the execution moves; the page says by whom, and the audit says why."""
    sent: list[Any] = []
    monitor, alerts = stuck(mediator), Alerts(sent.extend, stuck_for=0.0, every=0.0)
    assert BUTTON in get(monitor, "/runs/o-1").text
    assert post(monitor, BUTTON, {"reason": "the harbour is closed"}).headers["location"] == "/runs/o-1"

    page = get(monitor, "/runs/o-1").text
    assert BUTTON not in page
    assert re.search(r"Its alerts were acknowledged by anna .* and are silent until it moves", page)
    assert alerts.look(mediator.journal) == 0
    audit = get(monitor, "/audit").text
    assert all(words in audit for words in ("acknowledge", "anna", "the harbour is closed"))
    late = post(monitor, BUTTON, {"reason": "I too"})
    assert late.status == 409
    assert "takes no &#39;acknowledge&#39; now" in late.text

    mediator.retry("o-1")
    assert BUTTON in get(monitor, "/runs/o-1").text
    assert "Its alerts were acknowledged" not in get(monitor, "/runs/o-1").text
    assert alerts.look(mediator.journal) == 1
    mediator.retry("o-1")
    assert BUTTON not in get(monitor, "/runs/o-1").text


def test_what_raises_no_alert_has_no_button(tmp_path):
    """An execution that waits for its signal has no button, and neither has an execution that was retried once."""
    saga = Saga("s", [World().step("a"), Signal("go"), World().step("b", *[ValueError("no")] * 9, retry=slow())])
    with Mediator(saga, journal=tmp_path / "sagas.db", park_after=0.0) as mediator:
        monitor = Monitor(mediator, authorize=acting)
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").awaits_signal)
        assert BUTTON not in get(monitor, "/runs/o-1").text
        assert post(monitor, BUTTON, {}).status == 409
        mediator.signal("o-1", "go", None)
        eventually(lambda: mediator.outcome("o-1").state == "retrying.b")
        assert BUTTON not in get(monitor, "/runs/o-1").text


def slow() -> Retry:
    """Attempts so far apart that a test sees only the first."""
    return Retry(attempts=9, wait_initial=3600, wait_max=3600, wait_jitter=0)


def test_step_that_is_tried_often_has_the_button(tmp_path):
    """An observer reports it from some attempt on."""
    begun, release = threading.Event(), threading.Event()

    @step(retry=Retry(attempts=5, wait_initial=0.0, wait_jitter=0))
    def charge(order: Any, context: Any) -> None:
        if context.attempt == 4:
            begun.set()
            release.wait(PATIENCE)
        raise ConnectionError

    with Mediator(Saga("s", [charge]), journal=tmp_path / "sagas.db") as mediator:
        mediator.start("s", saga_id="o-1")
        assert begun.wait(PATIENCE)
        page = get(Monitor(mediator, authorize=acting), "/runs/o-1").text
        release.set()
        mediator.wait("o-1", check=False)

    assert BUTTON in page


@pytest.mark.parametrize(
    ("who", "headers", "status"),
    [
        (looking, ITS_OWN, 403),
        (lambda _: Operator("carl", {"look", "retry"}), ITS_OWN, 403),
        (acting, {"sec-fetch-site": "cross-site"}, 403),
        (lambda _: Operator("carl", {"look", "acknowledge"}), ITS_OWN, 303),
    ],
)
def test_only_permitted_forms_of_the_monitor_acknowledge(mediator, who, headers, status):
    """The permission has the verb's name, and a form of another site is refused."""
    stuck(mediator)
    monitor = Monitor(mediator, authorize=who)
    answer = post(monitor, BUTTON, {"reason": "x"}, headers=headers)

    assert answer.status == status
    assert len(mediator.notes("o-1")) == (status == 303)


def test_all_of_a_group_are_acknowledged(mediator):
    """From the page Stuck, also if the first of them already is."""
    monitor = stuck(mediator)
    assert post(monitor, BUTTON, {"reason": "seen"}).status == 303
    link = re.search(r'href="(/bulk\?verb=acknowledge&amp;[^"]*step=ship[^"]*)"', get(monitor, "/stuck").text)
    assert link is not None
    assert "1 execution fits" in get(monitor, html.unescape(link[1])).text

    asyncio.run(confirmed(monitor, {"verb": "acknowledge", "state": "stuck", "reason": "all of them"}, "1 accepted"))
    assert [note.reason for note in mediator.notes("o-1") if note.kind == "acknowledged"] == ["seen", "all of them"]


async def confirmed(monitor: Monitor, form: dict[str, str], result: str) -> str:
    """Confirm a batch, and return its page when nothing of it is left."""
    begun = await ask(monitor, "/bulk", form, ITS_OWN)
    assert begun.status == 303, begun.text
    for _ in range(600):
        text = (await ask(monitor, begun.headers["location"])).text
        if " 0 left" in text:
            break
        await asyncio.sleep(0.05)
    assert result in text
    return text


@pytest.mark.parametrize("kind", [Mediator, AsyncMediator])
def test_what_has_ended_is_deleted_in_bulk(tmp_path, kind):
    """Only what has ended is counted and deleted, each with its branches; the ids of the deleted ones lead nowhere."""
    pair = Parallel("pair", [World().step("left"), World().step("right")])
    path, sagas = tmp_path / "sagas.db", (Saga("whole", [pair]), Saga("held", [Signal("go")]))
    with Mediator(*sagas, journal=path) as first:
        first.run("whole", saga_id="w-1")
        first.run("whole", saga_id="w-2")
        first.start("held", saga_id="h-1")
        eventually(lambda: first.outcome("h-1").awaits_signal)
        store = side_store_of(first.journal)
        assert store is not None
        store.refresh()  # it counts, and knows nothing of branches

    async def press() -> None:
        mediator = kind(*sagas, journal=path)
        monitor = Monitor(mediator, authorize=acting)
        assert "verb=prune" in (await ask(monitor, "/runs?saga=whole")).text
        assert "2 executions fit" in (await ask(monitor, "/bulk?verb=prune&since=1d")).text
        refused = await ask(monitor, "/bulk", {"verb": "prune", "since": "1d", "reason": ""}, ITS_OWN)
        assert refused.status == 422
        form = {"verb": "prune", "since": "1d", "reason": "the trial is over"}
        text = await confirmed(monitor, form, "2 accepted, 0 refused, 0 left")
        assert text.count("deleted, with 2 branches") == 2
        assert "/runs/w-1" not in text
        assert (await ask(monitor, "/runs/w-1")).status == 404
        assert (await ask(Monitor(mediator, authorize=looking), "/bulk", form, ITS_OWN)).status == 403
        assert (await ask(monitor, "/bulk", form, {"sec-fetch-site": "cross-site"})).status == 403
        assert (await ask(monitor, "/do/prune/h-1", {"reason": "x"}, ITS_OWN)).status == 409
        assert [entry.saga_id for entry in mediator.journal.entries()] == ["h-1"]
        closing = mediator.close()
        if closing is not None:
            await closing

    asyncio.run(press())
