"""Watching: records as they are committed, by whichever mediator, as an iterator and as server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from fsm_mediator import (
    AsyncMediator,
    DefinitionError,
    JournalError,
    Mediator,
    Saga,
    Signal,
    SQLiteJournal,
    UnknownExecutionError,
)
from fsm_mediator.sse import sse
from tests.asgi import get
from tests.drivers import World, eventually

POLL = 0.01


def saga() -> Saga:
    """Two steps, and a wait between them."""
    world = World()
    return Saga("s", [world.step("a"), Signal("go"), world.step("b")])


def drive(path: Any, saga_id: str) -> None:
    """Run an execution to its end, in a mediator of its own."""
    with Mediator(saga(), journal=path) as mediator:
        mediator.start("s", saga_id=saga_id)
        mediator.signal(saga_id, "go", 1)
        eventually(lambda: mediator.outcome(saga_id).ended)


def words(moments: Any) -> list[str]:
    """Each moment in a word."""
    return [
        each.record.event if each.record else each.outcome.state if each.outcome else "accepted" for each in moments
    ]


WHOLE = ["start", "executed", "executed", "executed", "succeeded"]


def test_records_come_as_another_mediator_commits_them(tmp_path):
    """First those that are there, then each new one; the outcome is the end."""
    path = tmp_path / "sagas.db"
    watcher = Mediator(saga(), journal=path)
    watcher.enqueue("s", saga_id="o-1")
    moments = watcher.watch("o-1", poll=POLL)
    with Mediator(saga(), journal=path) as other, other.daemon(poll=POLL):
        seen = [next(moments), next(moments)]
        assert words(seen) == WHOLE[:2]
        other.signal("o-1", "go", 1)
        seen += moments

    assert words(seen) == WHOLE
    assert seen[-1].outcome is not None
    assert seen[-1].outcome.results["go"] == 1
    watcher.close()


def test_a_watch_goes_on_where_another_ended(tmp_path):
    """By the number of the next record; a number that is not there yet is waited for."""
    drive(tmp_path / "sagas.db", "o-1")
    with Mediator(saga(), journal=tmp_path / "sagas.db") as mediator:
        assert words(mediator.watch("o-1", from_seq=3)) == WHOLE[2:]
        assert words(mediator.watch("o-1", from_seq=9)) == ["succeeded"]


def test_the_asynchronous_watch_yields_the_same(tmp_path):
    """While the loop does other things."""
    path = tmp_path / "sagas.db"

    async def watch() -> list[str]:
        async with AsyncMediator(saga(), journal=path) as mediator:
            await mediator.enqueue("s", saga_id="o-1")
            driving = asyncio.create_task(asyncio.to_thread(drive, path, "o-1"))
            seen = words([moment async for moment in mediator.watch("o-1", poll=POLL)])
            await driving
            return seen

    assert asyncio.run(watch()) == WHOLE


def test_watch_that_is_closed_ends(tmp_path):
    """The moments that are there already are not yielded any more."""
    drive(tmp_path / "sagas.db", "o-1")
    with Mediator(saga(), journal=tmp_path / "sagas.db") as mediator:
        moments = mediator.watch("o-1")
        first = next(moments)
        moments.close()

        assert words([first, *moments]) == WHOLE[:1]


def test_asynchronous_watch_that_is_closed_ends(tmp_path):
    """The moments that are there already are not yielded any more."""
    path = tmp_path / "sagas.db"
    drive(path, "o-1")

    async def watch() -> list[str]:
        async with AsyncMediator(saga(), journal=path) as mediator:
            moments = mediator.watch("o-1")
            first = await anext(moments)
            await moments.aclose()
            return words([first, *[each async for each in moments]])

    assert asyncio.run(watch()) == WHOLE[:1]


def test_many_are_watched_by_attributes_from_a_cursor(tmp_path):
    """Nothing is missed between two watches, and nothing comes twice."""
    path = tmp_path / "sagas.db"
    with Mediator(saga(), journal=path) as mediator:
        for number in range(4):
            mediator.start("s", saga_id=f"o-{number}", attributes={"tenant": number % 2})
            mediator.signal(f"o-{number}", "go", 1)
            mediator.wait(f"o-{number}", timeout=60)
        watch = mediator.watch(attributes={"tenant": 1}, poll=POLL)
        first = [next(watch) for _ in range(3)]
        again = mediator.watch(attributes={"tenant": 1}, cursor=first[-1].cursor, poll=POLL)
        rest = [next(again) for _ in range(7)]

    assert [each.saga_id for each in (*first, *rest)] == ["o-1"] * 5 + ["o-3"] * 5
    assert words((*first, *rest)) == ["accepted", *WHOLE[:4]] * 2


def test_a_watch_of_many_goes_on_with_what_comes_later(tmp_path):
    """What it has yielded does not come again."""
    path = tmp_path / "sagas.db"
    drive(path, "o-1")
    with Mediator(saga(), journal=path) as mediator:
        watch = mediator.watch(poll=POLL)
        first = [next(watch) for _ in range(5)]
        drive(path, "o-2")
        later = [next(watch) for _ in range(5)]

    assert [each.saga_id for each in (*first, *later)] == ["o-1"] * 5 + ["o-2"] * 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"from_seq": 2},
        {"saga_id": "o-1", "cursor": "1"},
        {"saga_id": "o-1", "attributes": {}},
        {"saga_id": "o-1", "from_seq": 0},
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments):
    """One execution has record numbers, many have a cursor."""
    with pytest.raises(DefinitionError):
        next(Mediator(saga(), journal=SQLiteJournal(":memory:")).watch(**arguments))


def test_what_cannot_be_watched_says_so():
    """An id that nobody has, and a journal that cannot be followed."""
    mediator = Mediator(saga())
    with pytest.raises(UnknownExecutionError):
        next(mediator.watch("nobody"))
    with pytest.raises(JournalError, match="cannot be followed"):
        next(mediator.watch())


# Server-sent events


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, each with its data."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def done(tmp_path):
    """A mediator with an execution that has ended."""
    drive(tmp_path / "sagas.db", "o-1")
    with Mediator(saga(), journal=tmp_path / "sagas.db") as mediator:
        yield mediator


def test_starlette_is_given_a_response(done):
    """The browser's last number is gone on from."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/", lambda request: sse(done, "o-1", request))])
    whole, rest = get(app, "/"), get(app, "/", headers={"last-event-id": "3"})

    assert whole.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in events(whole.text)] == ["record"] * 4 + ["outcome"]
    assert events(whole.text)[1][1]["words"] == "a is executed"
    assert [said.get("seq") for _, said in events(rest.text)] == [4, None]


def test_an_asynchronous_mediator_streams_too(tmp_path):
    """On its own event loop."""
    from starlette.requests import Request

    drive(tmp_path / "sagas.db", "o-1")

    async def read() -> bytes:
        async with AsyncMediator(saga(), journal=tmp_path / "sagas.db") as mediator:
            response = sse(mediator, "o-1", Request({"type": "http", "headers": []}))
            return b"".join([part async for part in response.body_iterator])

    assert len(events(asyncio.run(read()).decode())) == 5


@pytest.mark.once
def test_django_is_given_a_response(done):
    """A streaming one."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="for this test")  # noqa: S106
    from django.http import HttpRequest

    response = sse(done, "o-1", HttpRequest())

    assert response["content-type"] == "text/event-stream"
    assert len(events(b"".join(response.streaming_content).decode())) == 5


@pytest.mark.once
def test_flask_is_given_a_response(done):
    """Within its request, by the proxy that it hands out."""
    from flask import Flask, request

    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: sse(done, "o-1", request))

    assert len(events(app.test_client().get("/").text)) == 5


def test_a_request_of_nobody_is_refused(done):
    """The headers alone say nothing of the framework."""

    class Request:
        def __init__(self) -> None:
            self.headers: dict[str, str] = {}

    with pytest.raises(DefinitionError, match="no request of"):
        sse(done, "o-1", Request())


def test_a_stream_that_is_left_ends(done):
    """The generator is closed, and nothing goes on in a thread."""
    done.start("s", saga_id="o-2")
    before = threading.active_count()
    moments = done.watch("o-2", poll=POLL)
    next(moments)
    moments.close()

    assert threading.active_count() <= before + 1
