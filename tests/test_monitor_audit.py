"""The page Audit: who did what, when and why."""

from __future__ import annotations

import html
import re

import pytest

from fsm_mediator import Mediator, OutcomeUnknownError, Saga, Signal, StepRejectedError
from fsm_mediator.ui import Monitor
from tests.asgi import get
from tests.drivers import JOURNALS, MARKS, ONCE, World, eventually
from tests.test_monitor import acting

ROW = re.compile(r"<tr><td>.*?</td><td>(.*?)</td><th[^>]*>(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>")


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def mediator(request, tmp_path):
    """A mediator on each journal."""
    made = JOURNALS[request.param](tmp_path)
    world = World()
    pay = world.step("pay", OutcomeUnknownError("no"), retry=ONCE, pivot=True, undo=None)
    sagas = Saga("s", [Signal("go", payload=bool), pay]), Saga("f", [world.step("a", StepRejectedError("no"), "a")])
    with Mediator(*sagas, journal=made, close_grace=0.0) as mediator:
        yield mediator
    made.close()


def deeds_of(mediator, query=""):
    """The rows of the audit: who, what to, what, why; without tags."""
    monitor = Monitor(mediator, authorize=acting, redact=lambda text: text.replace("4111", "***"))
    page = get(monitor, f"/audit{query}").text
    return [tuple(html.unescape(re.sub("<[^>]*>", "", each)) for each in row) for row in ROW.findall(page)]


def test_everything_that_people_do_is_listed(mediator):
    """Signals, settlements, cancels, holds, repetitions and batches, each with its actor and its reason."""
    mediator.start("s", saga_id="o-1")
    mediator.start("s", saga_id="o-2")
    eventually(lambda: mediator.outcome("o-2").awaits_signal)
    mediator.hold("o-2", reason="wait for 4111", actor="ann")
    mediator.unhold("o-2", reason="all is well", actor="ben")
    mediator.hold(saga="s", step="pay", reason="the bank is away", actor="ann")
    mediator.unhold(saga="s", step="pay", actor="ann")
    mediator.cancel("o-2", "the customer called", actor="eve")
    mediator.signal("o-1", "go", True, actor="carl")
    eventually(lambda: mediator.outcome("o-1").stuck)
    mediator.resolve("o-1", done=True, reason="I saw it", actor="dora")
    mediator.run("f", saga_id="f-1", check=False)
    list(mediator.bulk("again", state="failed", saga="f", reason="fixed", actor="fay"))
    mediator.wait("f-1~2")

    found = deeds_of(mediator)
    (batch,) = [each for each in found if each[1].startswith("batch ")]
    assert batch[0] == "fay"
    assert batch[2:] == ("again: 1 execution", "fixed")
    for deed in (
        ("ann", "o-2", "hold", "wait for ***"),
        ("ben", "o-2", "lift the hold", "all is well"),
        ("ann", "saga s, step pay", "hold", "the bank is away"),
        ("ann", "saga s, step pay", "lift the hold", ""),
        ("carl", "o-1", "signal go", ""),
        ("dora", "o-1", "settled done pay", "I saw it"),
        ("eve", "o-2", "cancel, in go", "the customer called"),
        ("fay", "f-1", "run again", "fixed"),
    ):
        assert deed in found, found


def test_later_pages_have_only_their_executions(mediator, monkeypatch):
    """What was done to sagas is on the first page; a hold is on the page of its execution."""
    monkeypatch.setattr("fsm_mediator.ui.auditing.AUDITED", 2)
    for number in range(3):
        mediator.enqueue("f", saga_id=f"f-{number}")
        mediator.hold(f"f-{number}", actor="ann")
    mediator.hold(saga="f", actor="ben")
    monitor = Monitor(mediator, authorize=acting)
    more = re.search(r'href="/audit(\?[^"]+)"', get(monitor, "/audit").text)
    assert more is not None
    assert [each[1] for each in deeds_of(mediator)] == ["saga f", "f-2", "f-1"]
    assert [each[1] for each in deeds_of(mediator, html.unescape(more[1]))] == ["f-0"]


def test_batch_is_found_again_from_the_audit(mediator):
    """Its row leads to its page, from which it goes on."""
    mediator.run("f", saga_id="f-1", check=False)
    results = mediator.bulk("again", state="failed", reason="fixed", actor="fay")
    next(results)
    link = re.search(r'href="(/batches/[^"]+)"', get(Monitor(mediator, authorize=acting), "/audit").text)
    assert link is not None
    assert "1 accepted" in get(Monitor(mediator, authorize=acting), link[1]).text
    mediator.wait("f-1~2")
