"""Batches with a value: steps settled with a result, signals sent; in Python, by command and on the page."""

from __future__ import annotations

import asyncio
import html
import re
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest

from fsm_mediator import AesGcm, Mediator, OutcomeUnknownError, Retry, Saga, Signal, SQLiteJournal, step
from fsm_mediator.errors import DefinitionError, PayloadError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.notes import for_notes
from fsm_mediator.mediator.bulk import Batch, freeze
from fsm_mediator.ui import Monitor, Operator
from tests import cli_waits_app
from tests.asgi import ask, get, post
from tests.drivers import JOURNALS, MARKS, eventually
from tests.test_cli import APP_OPTION, desk, journal, world
from tests.test_cli_waits import APP, states
from tests.test_cli_waits import desk as waits_desk
from tests.test_monitor import acting

__all__ = ["desk", "journal", "waits_desk", "world"]
ONCE = Retry(attempts=1)
SAME_SITE = {"sec-fetch-site": "same-origin"}


@attrs.frozen
class Receipt:
    """The result of a charge."""

    number: int


@step(name="pay", retry=ONCE, pivot=True)
def charge(order: Any) -> Receipt:
    """Take the money; the bank is away."""
    raise OutcomeUnknownError("the bank is away")


@step
def go(order: Any) -> str:
    """Ends an execution."""
    return "gone"


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def mediator(request, tmp_path):
    """Two executions that wait for an approval, and two that are stuck in a charge, on each journal."""
    made = JOURNALS[request.param](tmp_path)
    with Mediator(
        Saga("s", [Signal("approve", payload=bool), go]),
        Saga("p", [charge, go]),
        journal=made,
        park_after=0.0,
    ) as mediator:
        for number in range(2):
            mediator.run("s", saga_id=f"s-{number}", check=False)
            mediator.run("p", saga_id=f"p-{number}", check=False)
        yield mediator
    made.close()


# In Python


def test_many_are_settled_with_one_result(mediator):
    """Each step has the result as its type; the reason is that of the batch."""
    done = {"done": True, "result": Receipt(7)}
    results = list(mediator.bulk("resolve", state="stuck", saga="p", arguments=done, reason="the bank paid all"))

    assert [(each.saga_id, each.done, each.message) for each in results] == [
        ("p-1", True, "succeeded"),
        ("p-0", True, "succeeded"),
    ]
    outcome = mediator.outcome("p-0")
    assert outcome.results["pay"] in (Receipt(7), {"number": 7})  # not decoded by a journal that keeps objects
    assert "the bank paid all" in [record.reason for record in outcome.history]


def test_result_of_the_wrong_type_is_refused_by_each(tmp_path):
    """Nothing is settled; the result of the execution names the type."""
    with Mediator(Saga("p", [charge]), journal=tmp_path / "sagas.db") as made:
        made.run("p", saga_id="p-1", check=False)
        given = {"done": True, "result": "seven"}
        (result,) = made.bulk("resolve", state="stuck", arguments=given, reason="x")
        assert not result.done
        assert "Expected `object`, got `str`" in result.message
        assert made.outcome("p-1").stuck


def test_signal_is_sent_to_many(mediator):
    """All that wait go on with the value; an interrupted batch keeps it."""
    batch = freeze(mediator.journal, "signal", ["s-0", "s-1"], {"name": "approve", "value": True}, None, "ann", 1.0)
    results = list(mediator.bulk(batch=batch.name))
    assert [each.done for each in results] == [True, True]
    eventually(lambda: mediator.outcome("s-1").ended)
    assert mediator.wait("s-0").results == {"approve": True, "go": "gone"}
    assert Batch(mediator.journal, batch.name).arguments == {"name": "approve", "value": True}


@pytest.mark.parametrize(
    ("verb", "arguments", "reason", "words"),
    [
        ("signal", {"value": True}, None, "needs the name of the signal"),
        ("signal", {"name": 7}, None, "needs the name of the signal"),
        ("signal", {"name": "a", "valeu": 1}, None, "no argument 'valeu': it takes name, value"),
        ("resolve", {"done": True}, " ", "needs a reason"),
        ("resolve", {"done": "yes"}, "seen", "must be true or false, not 'yes'"),
        ("resolve", {"done": False, "result": 1}, "seen", "only a step that is done has a result"),
        ("cancel", {"force": True}, "x", "no argument 'force': it takes none"),
    ],
)
def test_arguments_that_fit_nothing_are_refused_at_once(verb, arguments, reason, words):
    """A mistake is one error before the first execution is touched, and no note is left."""
    kept = MemoryJournal()
    with Mediator(journal=kept) as mediator, pytest.raises(DefinitionError, match=re.escape(words)):
        list(mediator.bulk(verb, state="stuck", arguments=arguments, reason=reason))
    assert kept.notes(kind="batch") == []


def test_value_that_is_no_json_is_refused_at_once():
    """A value that no journal could keep is named."""
    with Mediator() as mediator, pytest.raises(PayloadError, match="the arguments of a batch"):
        list(mediator.bulk("signal", state="waiting", arguments={"name": "a", "value": object()}))


def test_values_of_a_batch_are_sealed(tmp_path):
    """With a cipher the result is not readable in the file; without the key the page says so."""
    path, cipher = tmp_path / "sagas.db", AesGcm({"k": b"0" * 32})
    given = {"done": True, "result": "PAN 4111"}
    with closing(SQLiteJournal(path, cipher=cipher, durability="normal")) as kept:
        batch = freeze(kept, "resolve", ["o-1"], given, "seen", "ann", 1.0)
        assert Batch(kept, batch.name).arguments == given
        assert "PAN 4111" in get(Monitor(kept, authorize=acting), f"/batches/{batch.name}").text
    assert not any(b"4111" in file.read_bytes() for file in tmp_path.iterdir())
    with closing(SQLiteJournal(path)) as blind:
        text = html.unescape(get(Monitor(blind, authorize=acting), f"/batches/{batch.name}").text)
        assert "is sealed with the key 'k'" in text
        assert "1 left" in text


def test_secrets_of_a_batch_are_hidden_on_its_page():
    """The reason, the value and the results of a batch are redacted as those of an execution are."""
    with Mediator(Saga("p", [charge])) as made:
        made.run("p", "card 4111", saga_id="p-1", check=False)
        arguments = {"done": True, "result": {"number": "4111"}}
        results = list(made.bulk("resolve", saga="p", arguments=arguments, reason="4111 was charged"))
        (claim, *_) = for_notes(made.journal).notes(kind="batch_claim")
        monitor = Monitor(made, authorize=acting, redact=lambda text: text.replace("4111", "***"))
        page = get(monitor, f"/batches/{claim.value['batch']}").text
        audit = get(monitor, "/audit").text
    assert len(results) == 1
    assert "*** was charged" in page
    assert "4111" not in page
    assert "*** was charged" in audit
    assert "4111" not in audit


# On the command line


def test_command_settles_many_and_names_a_missing_reason(desk, journal):
    """`--argument` has the verb's further arguments."""
    fits = ("bulk", "resolve", "--where", "state=stuck", "--argument", "done=false", *APP_OPTION, "-j", journal)
    assert "needs a reason" in desk(*fits, code=None)
    assert "1 done, 0 refused" in desk(*fits, "-r", "found it on the shelf")
    assert "failed" in desk("show", "held", "-j", journal)


def test_command_signals_many(waits_desk):
    """The name of a signal is written without quotes, its value as JSON."""
    with Mediator(*cli_waits_app.sagas, journal="sagas.db", park_after=1.0) as first:
        for number in range(2):
            first.run("approved", 1, saga_id=f"a-{number}", check=False)
    signalled = ("bulk", "signal", "--where", "state=waiting saga=approved", "--argument", "name=approval")
    assert "2 done, 0 refused" in waits_desk(*signalled, "--argument", "value=7", *APP)
    waits_desk("recover", *APP)
    assert states() == {"a-0": "succeeded", "a-1": "succeeded"}


# On the page


async def _ended(monitor: Monitor, page: str) -> str:
    for _ in range(600):
        text = (await ask(monitor, page)).text
        if " 0 left" in text:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("query", "form", "fields", "saga_id", "result"),
    [
        (
            {"verb": "resolve", "state": "stuck", "saga": "p", "step": "pay"},
            {"done": "yes", "result": '{"number": 7}', "reason": "the bank paid"},
            ("Does pay have its effect?", "Result of pay", "JSON, a Receipt"),
            "p-0",
            ("pay", Receipt(7)),
        ),
        (
            {"verb": "signal", "state": "waiting", "saga": "s", "step": "approve"},
            {"signal": "approve", "value": "true", "reason": "all of them"},
            ('name="signal" autocomplete="off" value="approve"', '<option value="true">'),
            "s-0",
            ("approve", True),
        ),
    ],
)
def test_page_gives_a_value_to_many(tmp_path, query, form, fields, saga_id, result):
    """The form has the type of the step that the filter names; the batch shows the value."""

    async def press() -> None:
        await asyncio.to_thread(prepare)
        monitor = Monitor(made, authorize=acting)
        counted = html.unescape((await ask(monitor, f"/bulk?{urlencode(query)}")).text)
        assert "2 executions fit" in counted
        assert all(words in counted for words in fields), counted
        begun = await ask(monitor, "/bulk", {**query, **form}, SAME_SITE)
        assert begun.status == 303, begun.text
        text = await _ended(monitor, begun.headers["location"])
        assert "2 accepted, 0 refused" in text
        assert "<code>" in text
        name, value = result
        assert (await asyncio.to_thread(made.wait, saga_id)).results[name] == value

    def prepare() -> None:
        for number in range(2):
            made.run("s", saga_id=f"s-{number}", check=False)
            made.run("p", saga_id=f"p-{number}", check=False)

    sagas = Saga("s", [Signal("approve", payload=bool)]), Saga("p", [charge])
    with Mediator(*sagas, journal=tmp_path / "sagas.db", park_after=0.0) as made:
        asyncio.run(press())


def test_page_refuses_a_form_that_is_filled_in_wrongly(tmp_path):
    """No batch is begun: a reason is missing, a value is no JSON, a verb is not permitted."""
    with Mediator(Saga("s", [Signal("approve", payload=bool)]), journal=tmp_path / "sagas.db") as made:
        monitor = Monitor(made, authorize=acting)
        resolve = {"verb": "resolve", "state": "stuck", "done": "yes", "reason": "x"}
        assert post(monitor, "/bulk", {**resolve, "reason": ""}).status == 422
        assert post(monitor, "/bulk", {**resolve, "done": ""}).status == 422
        assert post(monitor, "/bulk", {**resolve, "result": "{"}).status == 422
        retrying = Monitor(made, authorize=lambda _: Operator("ben", {"look", "retry"}))
        assert post(retrying, "/bulk", resolve).status == 403
        assert for_notes(made.journal).notes(kind="batch") == []


def test_groups_of_stuck_executions_offer_the_verbs_that_they_take(tmp_path):
    """Behind the pivot there is no cancel; a journal without a mediator offers nothing."""
    with Mediator(Saga("p", [charge]), journal=tmp_path / "sagas.db") as made:
        made.run("p", saga_id="p-1", check=False)
        page = get(Monitor(made, authorize=acting), "/stuck").text
        offered = re.findall(
            r'/bulk\?verb=(\w+)&amp;state=stuck&amp;saga=p&amp;step=pay&amp;error=[\w.]*OutcomeUnknownError"', page
        )
        assert offered == ["retry", "resolve", "hold", "acknowledge"]
        looking = get(Monitor(made, authorize=lambda _: Operator("ben")), "/stuck").text
        assert "/bulk?verb" not in looking
        assert "/bulk?verb" not in get(Monitor(tmp_path / "sagas.db", authorize=acting), "/stuck").text
