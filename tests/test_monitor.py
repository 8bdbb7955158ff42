"""The operator's pages: what they show, the verbs that they offer and take, and whom they refuse."""

from __future__ import annotations

import asyncio
import hashlib
import html
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

import fsm_mediator.ui
from fsm_mediator import (
    AsyncMediator,
    DefinitionError,
    JournalError,
    Mediator,
    OutcomeUnknownError,
    Parallel,
    PayloadError,
    Saga,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.ui import VERBS, Monitor, Operator, pages
from fsm_mediator.ui.access import SAFETY_HEADERS, FormTokens
from fsm_mediator.ui.live import digest_of, events
from fsm_mediator.ui.logins import OneTimeToken, PasswordFile, ProxyHeader, logged_in
from fsm_mediator.ui.offers import Field, arguments, offers, value_field
from fsm_mediator.ui.pictures import strip
from fsm_mediator.ui.reading import Reader
from tests.asgi import ask, get, post
from tests.drivers import ONCE, World, eventually

HOSTILE = "<script>alert('x')</script>\"&"
PAGES = ("/", "/runs", "/stuck", "/machines", "/machines/order/1", "/audit", "/runs/o-1")


def acting(_request: Any) -> Operator:
    """Everybody may do everything."""
    return Operator.acting("anna")


def looking(_request: Any) -> Operator:
    """Everybody may look."""
    return Operator("ben")


def order(world: World) -> Saga:
    """Charge, wait for an approval, and ship: the pivot, which fails in doubt."""
    shipping = world.step("ship", OutcomeUnknownError("no"), retry=ONCE, pivot=True, undo=None)
    return Saga("order", [world.step("charge"), Signal("approve", payload=bool), shipping])


@pytest.fixture
def world():
    """The participants."""
    return World()


@pytest.fixture
def stuck(world, tmp_path):
    """A mediator with one execution that is stuck in its pivot."""
    with Mediator(order(world), journal=tmp_path / "sagas.db") as mediator:
        mediator.start("order", {"item": HOSTILE}, saga_id="o-1")
        mediator.signal("o-1", "approve", True)
        eventually(lambda: mediator.outcome("o-1").stuck)
        yield mediator


# Pages


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_shown_and_safe(stuck, path):
    """Whatever the journal holds is text, and no page can load or run what is not ours."""
    answer = get(Monitor(stuck, authorize=acting), path)

    assert answer.status == 200
    assert "<script>alert" not in answer.text
    assert not re.search(r"<script(?! src=)|\son\w+=|\sstyle=|<style", answer.text)
    assert set(SAFETY_HEADERS) <= {(k.encode(), v.encode()) for k, v in answer.headers.items()}


def test_an_execution_is_shown_in_full(stuck):
    """Payload, timeline, errors and the picture."""
    text = html.unescape(get(Monitor(stuck, authorize=acting), "/runs/o-1").text)

    assert all(words in text for words in ("stuck", "approve is executed", "OutcomeUnknownError: no", "o-1</h1>"))
    assert '<g id="ship"' in text
    assert "alert('x')" in text  # the payload


def test_a_moment_of_the_past_is_drawn(stuck):
    """After its second record the execution waited."""
    monitor = Monitor(stuck, authorize=acting)

    then, now = (get(monitor, f"/runs/o-1{query}").text for query in ("?at=2", ""))
    assert "2 of 4" in then
    assert "4 of 4" in now
    assert then.count("✓ done") < now.count("✓ done")


def test_records_are_filtered_by_state(stuck):
    """A state, or a step in any of its states."""
    text = get(Monitor(stuck, authorize=acting), "/runs/o-1?state=charge").text

    assert re.findall(r'id="record-(\d)"', text) == ["1", "2"]


def test_trouble_comes_first(stuck):
    """An operator sees what waits for a person before all else."""
    text = get(Monitor(stuck, authorize=acting), "/").text

    assert text.index("Waiting for a person") < text.index('id="sagas"')
    assert "1 stuck" in text


def test_stuck_executions_are_grouped_by_step_and_cause(stuck):
    """As the mediator of many failures needs it."""
    (group,) = Reader(stuck.journal, stuck.sagas, str).stuck_groups()

    assert group[:3] == ("order", "ship", "fsm_mediator.errors.OutcomeUnknownError")
    assert [entry.saga_id for entry, _ in group[3]] == ["o-1"]


@pytest.mark.parametrize(
    ("query", "shown"), [("state=stuck", 1), ("state=succeeded", 0), ("saga=order", 1), ("id=o-1", 1)]
)
def test_the_list_is_filtered_by_its_address(stuck, query, shown):
    """An address can be kept and sent."""
    assert get(Monitor(stuck, authorize=acting), f"/runs?{query}").text.count("/runs/o-1") == shown


def test_no_field_hides_a_property_of_its_form(stuck):
    """A field named ``attributes`` takes that of the form itself away, which refreshing the page needs."""
    monitor = Monitor(stuck, authorize=acting)
    names = {name for path in PAGES for name in re.findall(r"<main.*", get(monitor, path).text, re.DOTALL)}
    fields = {name for main in names for name in re.findall(r' name="([^"]*)"', main)}

    assert fields >= {"state", "having", "reason"}
    assert not fields & {"attributes", "children", "childNodes", "id", "nodeName", "parentNode", "tagName"}


def test_the_list_is_read_page_by_page(world, monkeypatch):
    """By a cursor in the address: what begins meanwhile moves nothing."""
    monkeypatch.setattr(pages, "A_PAGE", 2)
    mediator = Mediator(Saga("s", [world.step("a")]))
    for number in range(5):
        mediator.set_attributes(mediator.enqueue("s", saga_id=f"o-{number}"), {"tenant": "acme"})
    mediator.enqueue("s", saga_id="other")
    monitor, seen, address = Monitor(mediator, authorize=acting), [], "/runs?having=tenant%3Dacme"
    while address:
        text = html.unescape(get(monitor, address).text)
        seen += re.findall(r'<a href="/runs/(o-\d|other)"', text)
        following = re.search(r'href="([^"]*)" rel="next"', text)
        address = following[1] if following else ""

    assert seen == ["o-4", "o-3", "o-2", "o-1", "o-0"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/nobody", 404),
        ("/runs?id=nobody", 404),
        ("/runs?state=nonsense", 400),
        ("/machines/other/1", 404),
        ("/x", 404),
    ],
)
def test_what_is_not_there_is_said(stuck, path, status):
    """With the words of the library, and its status."""
    assert get(Monitor(stuck, authorize=acting), path).status == status


def test_machines_show_numbers_the_proof_and_what_changed(stuck):
    """With the executions in flight on the version before."""
    newer = Saga("order", [step(name="charge")(print)], version="2")
    stuck.register(newer)

    text = get(Monitor(stuck, authorize=acting), "/machines/order/2?verify=1&show=p95").text
    assert "1 in flight" in text
    assert "compensated" in text


def test_an_empty_journal_says_what_to_do():
    """And nothing else."""
    monitor = Monitor(Mediator(), authorize=acting)

    assert "Start one" in get(monitor, "/").text
    assert "--app" in get(monitor, "/machines").text


def test_an_execution_in_trouble_is_named():
    """Nobody drives it, or its driver is gone."""
    mediator = Mediator(Saga("s", [step(name="a")(print)]))
    mediator.enqueue("s", saga_id="o-1")
    reader = Reader(mediator.journal, mediator.sagas, str, clock=lambda: time.time() + 120)

    (row,) = reader.rows([reader.entry("o-1")])
    assert row.trouble == "nobody drives it"
    assert [kind for kind, _ in reader.troubled()] == ["Nobody drives them"]


def test_secrets_are_hidden(stuck):
    """In payloads and errors."""

    def hidden(text: str) -> str:
        return text.replace("alert", "***").replace("Error: no", "Error: NN")

    monitor = Monitor(
        stuck, authorize=acting, redact=lambda text: text.replace("alert", "***").replace("Error: no", "Error: NN")
    )

    text = get(monitor, "/runs/o-1").text
    assert "alert" not in text
    assert "OutcomeUnknownError: NN" in text
    picture = text[text.index("<svg") :]
    assert "Error: NN" in picture
    assert "Error: no" not in picture


def test_a_strip_leaves_room_for_short_times():
    """Beside a wait of days an attempt of a millisecond can be seen."""
    bars = re.findall(r'width="([\d.]+)" height', str(strip((), 0.0, 86400.0 * 9)))

    assert [float(bar) > 900 for bar in bars] == [True]


# Verbs


def offered(mediator: Any, saga_id: str) -> list[str]:
    """The verbs that the page of an execution offers."""
    reader = Reader(mediator.journal, mediator.sagas, str)
    entry = reader.entry(saga_id)
    return [offer.verb for offer in offers(reader.saga_of(entry), entry, Drivability(mediator.journal).why_not(entry))]


def test_the_verbs_are_those_that_the_machine_takes(world, tmp_path):
    """In each state others."""
    saga = Saga("s", [world.step("a"), Signal("go"), world.step("b", ValueError("no"), "ok", retry=ONCE)])
    with Mediator(saga, order(world), journal=tmp_path / "sagas.db") as mediator:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").awaits_signal)
        assert offered(mediator, "o-1") == ["signal", "cancel", "hold"]

        mediator.signal("o-1", "go", None)
        eventually(lambda: mediator.outcome("o-1").ended)
        assert offered(mediator, "o-1") == ["again"]

        mediator.start("s", saga_id="o-2")
        mediator.signal("o-2", "go", None)
        eventually(lambda: mediator.outcome("o-2").ended)
        assert offered(mediator, "o-2") == ["undo"]

        mediator.start("order", saga_id="o-3")
        mediator.signal("o-3", "approve", True)
        eventually(lambda: mediator.outcome("o-3").stuck)
        assert offered(mediator, "o-3") == ["retry", "resolve", "hold"]


@pytest.mark.parametrize("kind", [Mediator, AsyncMediator])
def test_a_verb_is_carried_out(world, tmp_path, kind):
    """By either mediator, with the reason of the form."""

    async def press() -> None:
        journal = SQLiteJournal(tmp_path / "sagas.db")
        with Mediator(order(world), journal=journal) as first:
            first.start("order", saga_id="o-1")
            first.signal("o-1", "approve", True)
            eventually(lambda: first.outcome("o-1").stuck)
        mediator = kind(order(world), journal=journal)
        form = {"done": "yes", "result": '{"parcel": 7}', "reason": "the parcel is there"}
        headers = {"sec-fetch-site": "same-origin"}

        answer = await ask(Monitor(mediator, authorize=acting), "/do/resolve/o-1", form, headers)
        assert answer.status == 303, answer.text
        assert answer.headers["location"] == "/runs/o-1"
        last = journal.records("o-1")[-1]
        assert (last.event, last.actor, last.reason) == ("settled_done", "anna", "the parcel is there")
        closing = mediator.close()
        if closing is not None:
            await closing

    asyncio.run(press())


def test_a_cancel_says_what_it_would_compensate(world):
    """Before the button is pressed."""
    with Mediator(order(world)) as mediator:
        mediator.start("order", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").awaits_signal)

        assert (
            "It would compensate, in this order: charge." in get(Monitor(mediator, authorize=acting), "/runs/o-1").text
        )


def test_an_execution_is_held_and_let_go(world):
    """The page says by whom."""
    with Mediator(order(world)) as mediator:
        monitor = Monitor(mediator, authorize=acting)
        mediator.start("order", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").awaits_signal)

        assert post(monitor, "/do/hold/o-1", {"reason": "the bank is down"}).status == 303
        text = get(monitor, "/runs/o-1").text
        assert "On hold by anna" in text
        assert "/do/unhold/o-1" in text
        assert "/do/hold/o-1" not in text
        assert post(monitor, "/do/unhold/o-1", {}).status == 303
        assert "On hold" not in get(monitor, "/runs/o-1").text


def test_page_says_who_has_seen_an_alert(world):
    """Among the notes, with the reason."""
    with Mediator(order(world)) as mediator:
        mediator.start("order", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").awaits_signal)
        mediator.acknowledge("o-1", reason="the bank is slow", actor="anna")
        page = get(Monitor(mediator, authorize=acting), "/runs/o-1").text
        assert re.search(r"<li>acknowledged .* by anna: the bank is slow<pre", page)


def test_what_has_failed_is_run_again(world):
    """And the new execution is shown."""
    saga = Saga("s", [world.step("a", ValueError("no"), "ok", retry=ONCE)])
    with Mediator(saga) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        moved = post(Monitor(mediator, authorize=acting), "/do/again/o-1", {"reason": "mended"})

        assert moved.headers["location"] == "/runs/o-1~2"
        assert mediator.wait("o-1~2").succeeded


@pytest.mark.parametrize("kind", [Mediator, AsyncMediator])
def test_one_verb_is_given_to_all_that_fit(world, tmp_path, kind):
    """They are counted, then confirmed; each has a result, and the page goes on with what has none."""
    saga = Saga("s", [world.step("a", *[ValueError("no")] * 3, "ok", retry=ONCE)])
    with Mediator(saga, journal=tmp_path / "sagas.db") as first:
        for number in range(3):
            first.run("s", saga_id=f"o-{number}", check=False)

    async def press() -> None:
        mediator = kind(saga, journal=tmp_path / "sagas.db")
        monitor = Monitor(mediator, authorize=acting)
        headers = {"sec-fetch-site": "same-origin"}
        counted = (await ask(monitor, "/bulk?verb=again&state=failed&saga=s")).text
        assert "3 executions fit" in counted
        form = {"verb": "again", "state": "failed", "saga": "s", "reason": "mended"}
        begun = await ask(monitor, "/bulk", form, headers)
        assert begun.status == 303, begun.text
        page = begun.headers["location"]
        for _ in range(600):
            text = (await ask(monitor, page)).text
            if "3 accepted, 0 refused, 0 left" in text:
                break
            await asyncio.sleep(0.05)
        assert "3 accepted, 0 refused, 0 left" in text
        assert (await ask(monitor, page, {}, headers)).status == 303  # goes on with nothing
        assert (await ask(monitor, "/bulk?verb=again")).status == 400
        assert (await ask(monitor, "/bulk?verb=undo&state=succeeded")).status == 400
        assert (await ask(monitor, "/batches/nobody")).status == 409
        watcher = Monitor(mediator, authorize=looking)
        assert (await ask(watcher, "/bulk", form, headers)).status == 403
        assert (await ask(watcher, page, {}, headers)).status == 403
        assert (await ask(monitor, "/bulk", form, {"sec-fetch-site": "cross-site"})).status == 403
        closing = mediator.close()
        if closing is not None:
            await closing

    asyncio.run(press())


def test_the_audit_names_who_did_what(stuck):
    """With the reason."""
    monitor = Monitor(stuck, authorize=acting)
    assert post(monitor, "/do/resolve/o-1", {"done": "yes", "reason": "I saw it"}).status == 303

    text = get(monitor, "/audit").text
    assert all(words in text for words in ("anna", "settled done ship", "I saw it"))


def test_of_two_operators_one_is_told(stuck, world):
    """The second press comes to an execution that has gone on."""
    monitor = Monitor(stuck, authorize=acting)
    form = {"done": "yes", "reason": "seen"}

    assert post(monitor, "/do/resolve/o-1", form).status == 303
    late = post(monitor, "/do/resolve/o-1", form)
    assert late.status == 409
    assert "takes no" in late.text
    assert world.calls.count("ship") == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("who", "read_only"), [(looking, False), (acting, True)])
def test_who_may_not_act_is_refused(stuck, verb, who, read_only):
    """A viewer, and everybody in a monitor that is read-only."""
    before = stuck.journal.records("o-1")
    monitor = Monitor(stuck, authorize=who, read_only=read_only)

    assert post(monitor, f"/do/{verb}/o-1", {"reason": "x", "done": "yes"}).status == 403
    assert stuck.journal.records("o-1") == before


def test_nobody_sees_anything_without_permission(stuck):
    """Neither pages nor events; the permission may be asked for by a coroutine."""

    async def nobody(_request: Any) -> None:
        return None

    monitor = Monitor(stuck, authorize=nobody)
    assert [get(monitor, path).status for path in (*PAGES, "/events?page=/")] == [403] * (len(PAGES) + 1)
    assert post(monitor, "/do/retry/o-1", {}).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_a_request_from_another_site_is_refused(stuck, site):
    """Even with the right token."""
    token = FormTokens(b"key").token_of(Operator.acting("anna"))
    monitor = Monitor(stuck, authorize=acting, secret=b"key")

    answer = post(monitor, "/do/retry/o-1", {"form_token": token}, headers={"sec-fetch-site": site})
    assert answer.status == 403
    assert len(stuck.journal.records("o-1")) == 4


def test_without_the_words_of_a_browser_the_token_decides(stuck):
    """As over plain HTTP to another machine."""
    monitor = Monitor(stuck, authorize=acting, secret=b"key")
    shown = re.search(r'name="form_token" value="(\w+)"', get(monitor, "/runs/o-1").text)
    assert shown is not None
    form = {"done": "yes", "reason": "seen"}

    assert asyncio.run(ask(monitor, "/do/resolve/o-1", {**form, "form_token": "wrong"})).status == 403
    assert asyncio.run(ask(monitor, "/do/resolve/o-1", {**form, "form_token": shown[1]})).status == 303


def test_a_verb_is_a_form_of_bounded_size(stuck):
    """Neither JSON nor a flood."""
    monitor = Monitor(stuck, authorize=acting)

    assert post(monitor, "/do/retry/o-1", {}, headers={"content-type": "application/json"}).status == 415
    assert post(monitor, "/do/retry/o-1", {"reason": "x" * 1_100_000}).status == 413
    assert get(monitor, "/do/retry/o-1").status == 405


@pytest.mark.parametrize(
    ("type", "form", "value"),
    [
        (bool, "true", True),
        (int, "7", 7),
        (str, "true", "true"),
        (Literal["a", "b"], '"b"', "b"),
        (int | None, "", None),
        (Any, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_a_form_is_typed_from_the_steps_type(type, form, value):
    """Choices where there are some, text for texts, else JSON."""
    field = value_field("value", "Value", type)
    from fsm_mediator.ui.offers import Offer

    assert arguments(Offer("signal", "", "", (field,)), {"value": form}) == {"value": value}


@pytest.mark.parametrize(
    ("field", "form"),
    [
        (Field("reason", "Reason", required=True), {}),
        (Field("value", "Value", json=True), {"value": "{no json"}),
        (Field("done", "Done?", choices=(("yes", "yes"),)), {"done": "perhaps"}),
    ],
)
def test_a_form_that_is_filled_in_wrongly_is_refused(field, form):
    """With the name of the field."""
    from fsm_mediator.ui.offers import Offer

    with pytest.raises(PayloadError, match=re.escape(field.label)):
        arguments(Offer("resolve", "", "", (field,)), form)


def test_permissions_that_do_not_exist_are_refused():
    """A mistyped one would permit nothing, silently."""
    with pytest.raises(DefinitionError, match="rety"):
        Operator("anna", {"look", "rety"})
    with pytest.raises(DefinitionError, match="authorize"):
        Monitor(Mediator(), authorize=None)  # type: ignore[arg-type]


# Live


def test_a_page_is_told_when_it_changes(stuck, tmp_path):
    """By whichever process it was changed."""

    async def listen() -> list[bytes]:
        monitor = Monitor(stuck, authorize=acting)

        async def render() -> str:
            return (await ask(monitor, "/runs/o-1")).text

        async def gone() -> bool:
            return False

        shown = digest_of(await render())
        heard = []
        stream = events(render, gone, shown)
        heard += [await anext(stream), await anext(stream)]
        with Mediator(*stuck.sagas, journal=tmp_path / "sagas.db") as other:
            await asyncio.to_thread(other.resolve, "o-1", done=True, reason="seen")
        heard.append(await anext(stream))
        return heard

    assert [b"changed" in each for each in asyncio.run(listen())] == [False, False, True]


def test_how_long_ago_something_was_is_no_change():
    """Or a page would change each second."""
    page = '<time datetime="2026-01-01">{}</time><input name="form_token" value="{}">'

    assert digest_of(page.format("1 s ago", "a")) == digest_of(page.format("2 s ago", "b"))
    assert digest_of(page.format("1 s ago", "a")) != digest_of(page.format("1 s ago", "a").replace("2026", "2027"))


def test_events_are_only_of_pages(stuck):
    """A page that does not exist has none."""
    assert get(Monitor(stuck, authorize=acting), "/events?page=/do/retry/o-1").status == 404


# In other apps


def test_it_is_mounted_under_any_path(stuck):
    """Links, forms and files have the path before them."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/admin/sagas", Monitor(stuck, authorize=acting))])
    text = get(app, "/behind/admin/sagas/runs/o-1", root_path="/behind").text

    links = re.findall(r'(?:href|src|action|data-events|hx-get)="(/[^"]*)"', text)
    assert links
    assert all(link.startswith("/behind/admin/sagas/") for link in links)
    assert get(app, "/behind/admin/sagas/static/monitor.css", root_path="/behind").status == 200
    moved = post(app, "/behind/admin/sagas/do/resolve/o-1", {"done": "yes", "reason": "x"}, root_path="/behind")
    assert moved.headers["location"] == "/behind/admin/sagas/runs/o-1"


@pytest.mark.once
def test_it_is_mounted_into_fastapi(stuck):
    """Beside the app's own pages."""
    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/sagas", Monitor(stuck, authorize=acting))

    assert get(app, "/sagas/runs/o-1").status == 200
    assert get(app, "/openapi.json").status == 200


@pytest.mark.once
def test_it_is_served_in_front_of_django(stuck):
    """On ASGI one app leads to both."""
    from django.conf import settings
    from starlette.applications import Starlette
    from starlette.routing import Mount

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for this test")  # noqa: S106
    from django.core.asgi import get_asgi_application

    monitor = Mount("/sagas", Monitor(stuck, authorize=acting))
    app = Starlette(routes=[monitor, Mount("/", get_asgi_application())])

    assert get(app, "/sagas/runs/o-1").status == 200
    assert get(app, "/elsewhere").status in (400, 404)


urlpatterns: list[Any] = []
"""The pages of the Django site above."""


@pytest.mark.once
def test_it_is_mounted_into_flask(stuck):
    """A verb too is carried out in the thread that runs it."""
    from a2wsgi import ASGIMiddleware
    from flask import Flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client

    middleware: Any = ASGIMiddleware  # its types of ASGI and WSGI are narrower than those of others
    app = Flask(__name__)
    client = Client(DispatcherMiddleware(app, {"/sagas": middleware(Monitor(stuck, authorize=acting))}))

    assert "/sagas/static/monitor.css" in client.get("/sagas/runs/o-1").text
    form = {"done": "yes", "reason": "seen"}
    answer = client.post("/sagas/do/resolve/o-1", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sagas/runs/o-1")


# Without an app


def test_a_journal_alone_is_only_read(stuck, tmp_path):
    """Pages without pictures and without verbs."""
    monitor = Monitor(tmp_path / "sagas.db", authorize=acting)

    shown = get(monitor, "/runs/o-1").text
    assert "--app" in shown
    assert "/do/" not in shown
    assert post(monitor, "/do/retry/o-1", {}).status == 403
    assert [get(monitor, path).status for path in PAGES] == [
        404 if path == "/machines/order/1" else 200 for path in PAGES
    ]


@pytest.mark.parametrize("spec", ["{}/none.db", "sqlite:///{}/none.db"])
def test_a_journal_that_is_not_there_is_not_made(tmp_path, spec):
    """A mistyped path or URL would look like an empty journal."""
    with pytest.raises(JournalError, match="does not exist"):
        Monitor(spec.format(tmp_path), authorize=acting)

    assert not list(tmp_path.iterdir())


def test_a_token_lets_one_browser_in(stuck):
    """The second is refused, though it has the address."""
    door = OneTimeToken(Monitor(stuck, authorize=logged_in), Operator.acting("anna"))
    address = f"/?token={door.token}"

    assert get(door, "/").status == 403
    first = get(door, address)
    assert first.status == 303
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert "HttpOnly" in first.headers["set-cookie"]
    assert get(door, "/", headers={"cookie": cookie}).status == 200
    assert get(door, address).status == 403
    assert get(door, "/", headers={"cookie": "fsm_mediator=guessed"}).status == 403


def test_a_file_of_passwords_knows_who_may_act(stuck, tmp_path):
    """A wrong password is asked for again."""
    path = tmp_path / "people"
    path.write_text("# who may come\nanna:act:s3cret:with colon\nben:look:other\n")
    path.chmod(0o600)
    app = PasswordFile(Monitor(stuck, authorize=logged_in), path)

    def as_(name: str, password: str) -> dict[str, str]:
        import base64

        return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}

    assert get(app, "/").status == 401
    assert get(app, "/", headers=as_("anna", "wrong")).status == 401
    assert get(app, "/", headers={"authorization": "Basic ?"}).status == 401
    assert get(app, "/", headers=as_("ben", "other")).status == 200
    assert post(app, "/do/retry/o-1", {}, headers=as_("ben", "other")).status == 403
    form = {"done": "yes", "reason": "x"}
    assert post(app, "/do/resolve/o-1", form, headers=as_("anna", "s3cret:with colon")).status == 303


@pytest.mark.parametrize(("text", "mode"), [("anna:act:x\n", 0o644), ("anna:boss:x\n", 0o600), ("\n", 0o600)])
def test_a_file_that_is_no_file_of_passwords_is_refused(stuck, tmp_path, text, mode):
    """Others can read it, a line is wrong, or nobody is in it."""
    path = tmp_path / "people"
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(DefinitionError, match="people"):
        PasswordFile(Monitor(stuck, authorize=logged_in), path)


def test_a_proxy_says_who_asks(stuck):
    """Without its header nobody is let in."""
    app = ProxyHeader(Monitor(stuck, authorize=logged_in), "X-Remote-User")

    assert get(app, "/").status == 403
    assert "anna" in get(app, "/", headers={"x-remote-user": "anna"}).text


def test_another_address_needs_a_login(tmp_path, monkeypatch):
    """The command refuses before it opens anything."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["ui", "-j", "sagas.db", "--host", "0.0.0.0"])  # noqa: S104 - it is refused

    assert result.exit_code == 2
    assert "--password-file" in result.output


@pytest.mark.once
def test_the_command_serves_the_pages(stuck, tmp_path):
    """Without an app no code of the user is loaded; SIGTERM ends it in order."""
    (tmp_path / "sitecustomize.py").touch()
    command = [sys.executable, "-m", "fsm_mediator", "ui", "-j", str(tmp_path / "sagas.db"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(url, timeout=30) as page:
            assert "1 stuck" in page.read().decode()
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode == 0


def test_the_vendored_file_is_the_one_that_its_licence_names():
    """A file from elsewhere is known by its hash."""
    folder = Path(fsm_mediator.ui.__file__).parent / "static"
    digest = hashlib.sha256((folder / "htmx.min.js").read_bytes()).hexdigest()

    licence = (folder / "htmx.LICENSE.txt").read_text()
    assert digest in licence
    assert "Zero-Clause BSD" in licence


def test_branches_are_listed_below_their_whole(world):
    """With their states."""
    group = Parallel("g", [Saga("left", [world.step("a")]), Saga("right", [Signal("go")])])
    with Mediator(Saga("s", [group])) as mediator:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1/g.left").ended)
        text = get(Monitor(mediator, authorize=acting), "/runs/o-1").text
        assert "/runs/o-1/g.left" in text
        assert get(Monitor(mediator, authorize=acting), "/runs/o-1/g.left").status == 200
