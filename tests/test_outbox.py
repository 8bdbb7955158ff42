"""Starts, signals and messages that are part of my own transactions, and keys that are pruned."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.orm
from click.testing import CliRunner

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, Saga, Signal, SQLiteJournal, step
from fsm_mediator.cli import commands, serving
from fsm_mediator.cli.lag import ShownLag
from fsm_mediator.errors import DefinitionError, PayloadError, RefusedError
from fsm_mediator.transactions import Pruned, outbox
from tests.shops import KINDS, Shop, shops_in
from tests.test_transactions import marked, steps_of

seen: list[Any] = []


@step
def note(order: dict[str, Any]) -> None:
    """Note that it was called."""
    seen.append(order)


ORDER = Saga("order", [note], payload=dict[str, Any])
APPROVED = Saga("approved", [Signal("approval", payload=bool)])


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens new shops, and closes them."""
    seen.clear()
    with shops_in(tmp_path) as open_:
        yield open_


def session_of(shop: Shop) -> Any:
    """A session or connection of the user's, whose transaction is open until he ends it."""
    if shop.engine is not None:
        from sqlalchemy.orm import Session

        return Session(shop.engine)
    connection = shop.connect()
    if shop.kind == "sqlite3":
        connection.isolation_level = "DEFERRED"
    else:
        connection.autocommit = False
    return connection


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


@pytest.mark.parametrize("kind", marked(KINDS))
def test_saga_starts_with_the_transaction_that_asked_for_it_or_not_at_all(kind, open_shop):
    """Committed: the daemon starts it, once. Rolled back: no trace of it."""
    shop = open_shop(kind)
    tx, journal = shop.tx, MemoryJournal()
    for saga_id, how in (("o-1", "commit"), ("o-2", "rollback")):
        session = session_of(shop)
        shop.add(session, -1)
        tx.start(session, ORDER, {"id": saga_id}, saga_id=saga_id)
        getattr(session, how)()
        session.close()
    assert shop.balance == 999
    assert tx.lag()[:2] == (1, 0)

    with Mediator(ORDER, journal=journal, relays=[tx]) as mediator, mediator.daemon(poll=0.05):
        until(lambda: tx.lag().waiting == 0)
        assert mediator.wait("o-1").succeeded

    assert seen == [{"id": "o-1"}]
    assert journal.find("o-2") is None


def test_started_twice_runs_once(open_shop):
    """A relay that dies between starting and deleting starts again: the same execution is joined."""
    shop = open_shop("sqlite3")
    session = session_of(shop)
    for _ in range(2):
        shop.tx.start(session, "order", {"id": 1}, saga_id="o-1")
    session.commit()
    session.close()

    with Mediator(ORDER) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 2
        assert mediator.wait("o-1").succeeded

    assert seen == [{"id": 1}]


@pytest.mark.parametrize("kind", marked(KINDS))
def test_attributes_of_a_start_come_with_the_transaction(kind, open_shop):
    """The saga that begins with my transaction is found by them; a wrong one is refused before anything is written."""
    shop = open_shop(kind)
    session = session_of(shop)
    with pytest.raises(PayloadError, match="attribute"):
        shop.tx.start(session, "order", {}, saga_id="o-1", attributes={"a b": 1})
    shop.tx.start(session, "order", {"id": 1}, saga_id="o-1", attributes={"tenant": "acme", "order": 17})
    shop.tx.start(session, "order", {"id": 2}, saga_id="o-2")
    session.commit()
    session.close()

    with Mediator(ORDER) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 2
        assert [each.saga_id for each in mediator.executions(attributes={"tenant": "acme", "order": 17})] == ["o-1"]


def test_start_that_an_earlier_version_wrote_has_no_attributes(open_shop):
    """A row from before there were attributes is passed on."""
    shop = open_shop("sqlite3")
    body = '{"payload":{"id":1},"deadline":null}'
    put = "INSERT INTO fsm_mediator_outbox (kind, name, key, body) VALUES ('start', 'order', 'o-1', '{}')"
    shop.execute(put.format(body))

    with Mediator(ORDER) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 1
        assert mediator.wait("o-1").succeeded

    assert seen == [{"id": 1}]


@pytest.mark.parametrize("kind", marked(("sqlite3", "psycopg")))
def test_signal_comes_with_the_transaction(kind, open_shop):
    """Approved in the user's own transaction: the saga goes on after the commit."""
    shop = open_shop(kind)

    with Mediator(APPROVED, relays=[shop.tx]) as mediator, mediator.daemon(poll=0.05):
        mediator.start("approved", None, saga_id="a-1")
        session = session_of(shop)
        shop.tx.signal(session, "a-1", "approval", True)
        session.commit()
        session.close()
        until(lambda: mediator.outcome("a-1").results == {"approval": True})


def test_messages_of_one_key_stay_in_order_and_are_published_until_it_succeeds(open_shop, caplog):
    """One whose publishing fails holds back what has the same key, and nothing else."""
    published: list[tuple[Any, ...]] = []
    broken = {"first"}

    def publish(topic: str, payload: Any, key: str, message_id: str) -> None:
        if payload in broken:
            raise ConnectionError("the broker is down")
        published.append((topic, payload, key, message_id))

    shop = open_shop("sqlite3", publish=publish)
    session = session_of(shop)
    for key, payload in (("a", "first"), ("a", "second"), ("b", "third")):
        shop.tx.emit(session, "orders.paid", payload, key=key)
    session.commit()
    session.close()

    with Mediator(ORDER) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 1
        assert [payload for _, payload, *_ in published] == ["third"]
        broken.clear()
        assert asyncio.run(shop.tx.pass_on(mediator)) == 2

    assert [payload for _, payload, *_ in published] == ["third", "first", "second"]
    assert len({message_id for *_, message_id in published}) == 3
    assert shop.tx.lag() == (0, 0, 0.0)
    assert "outbox row 1 (message 'orders.paid') is passed on later: the broker is down" in caplog.text


@pytest.mark.postgres
def test_row_of_an_open_transaction_with_a_lower_number_is_not_overtaken(open_shop):
    """What commits late is not missed: rows above it wait until it is decided."""
    shop = open_shop("psycopg")
    early, late = session_of(shop), session_of(shop)
    shop.tx.start(early, "order", {"id": "early"}, saga_id="early")
    shop.tx.start(late, "order", {"id": "late"}, saga_id="late")
    late.commit()

    with Mediator(ORDER, max_workers=1) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 0
        early.commit()
        assert asyncio.run(shop.tx.pass_on(mediator)) == 2
        assert mediator.wait("early").succeeded
        assert mediator.wait("late").succeeded
    early.close()
    late.close()


class Broker:
    """Counts what is published; holds the first message until it is let go."""

    def __init__(self, *, hold: bool = False) -> None:
        self.published: list[Any] = []
        self.reached, self.go = threading.Event(), threading.Event()
        if not hold:
            self.go.set()

    def publish(self, topic: str, payload: Any, key: str, message_id: str) -> None:
        self.reached.set()
        assert self.go.wait(60)
        self.published.append(payload)


def emit(shop: Shop, *payloads: Any) -> None:
    """Emit messages in a transaction of the user's."""
    session = session_of(shop)
    for payload in payloads:
        shop.tx.emit(session, "orders.paid", payload, key="a")
    session.commit()
    session.close()


@pytest.mark.parametrize("kind", marked(("sqlite3", "psycopg")))
def test_two_relays_at_once_publish_each_message_once(kind, open_shop):
    """One has the lease; the other leaves the messages to it, and publishes the next ones."""
    shop, broker = open_shop(kind), Broker(hold=True)
    one, other = (Shop(kind, shop.where, make=False, publish=broker.publish).tx for _ in range(2))
    emit(shop, 1, 2)
    with Mediator(ORDER) as mediator:
        passing = threading.Thread(target=lambda: asyncio.run(one.pass_on(mediator)))
        passing.start()
        assert broker.reached.wait(60)
        assert asyncio.run(other.pass_on(mediator)) == 0
        broker.go.set()
        passing.join(60)
        assert broker.published == [1, 2]
        emit(shop, 3)
        assert asyncio.run(other.pass_on(mediator)) == 1

    assert broker.published == [1, 2, 3]


@pytest.mark.parametrize("kind", marked(("sqlite3", "psycopg")))
def test_lease_of_a_relay_that_died_ends_by_itself(kind, open_shop):
    """Until it is over nobody publishes; starts and signals do not wait for it."""
    broker = Broker()
    shop = open_shop(kind, publish=broker.publish)
    relay = "INSERT INTO fsm_mediator_outbox_relay VALUES ('messages', 'the dead', {})"
    emit(shop, 1)
    shop.execute(relay.format(time.time() + 1000))
    session = session_of(shop)
    shop.tx.start(session, ORDER, {"id": 1}, saga_id="o-1")
    session.commit()
    session.close()
    with Mediator(ORDER) as mediator:
        assert asyncio.run(shop.tx.pass_on(mediator)) == 1
        assert (mediator.wait("o-1").succeeded, broker.published) == (True, [])
        shop.execute("UPDATE fsm_mediator_outbox_relay SET until = 1000")  # a time that is long past
        assert asyncio.run(shop.tx.pass_on(mediator)) == 1

    assert broker.published == [1]


def test_relay_that_lost_its_lease_publishes_nothing_more(open_shop, monkeypatch):
    """Its batch is an old one then: another relay may have published the rest, and have ended too."""
    shop = open_shop("sqlite3")
    published = []

    def publish(topic: str, payload: Any, key: str, message_id: str) -> None:
        published.append(payload)
        shop.execute("UPDATE fsm_mediator_outbox_relay SET owner = 'another', until = 0")

    relay = Shop("sqlite3", shop.where, make=False, publish=publish).tx
    monkeypatch.setattr(outbox, "LEASE", 0.0)  # so that it is renewed before each message
    emit(shop, 1, 2)
    with Mediator(ORDER) as mediator:
        assert asyncio.run(relay.pass_on(mediator)) == 1

    assert published == [1]


def test_row_that_is_refused_is_kept_with_the_reason_and_blocks_nothing(open_shop, caplog):
    """A payload of another type, an id that is taken: logged, kept with its reason; what follows is passed on."""
    shop = open_shop("sqlite3")
    session = session_of(shop)
    shop.tx.start(session, "order", 7, saga_id="bad")
    shop.tx.signal(session, "nobody", "approval", True)
    shop.tx.start(session, "unknown here", {}, saga_id="elsewhere")
    shop.tx.start(session, "order", {"id": 1}, saga_id="good")
    session.commit()
    session.close()

    with caplog.at_level(logging.ERROR), Mediator(ORDER) as mediator:
        asyncio.run(shop.tx.pass_on(mediator))
        assert mediator.wait("good").succeeded

    assert shop.tx.lag()[:2] == (1, 2)  # another process may know that saga
    reasons = shop.execute("SELECT key, refused FROM fsm_mediator_outbox WHERE refused IS NOT NULL ORDER BY number")
    assert [key for key, _ in reasons] == ["bad", "nobody"]
    assert "knows no execution 'nobody'" in reasons[1][1]
    assert caplog.text.count("is refused") == 2


def test_asynchronous_mediator_relays_as_well(open_shop):
    """A synchronous database behind an `AsyncMediator`: its statements run beside the loop."""
    shop = open_shop("sqlite3")
    session = session_of(shop)
    shop.tx.start(session, "order", {"id": 1}, saga_id="o-1")
    session.commit()
    session.close()

    async def run() -> None:
        async with AsyncMediator(ORDER, relays=[shop.tx]) as mediator, mediator.daemon(poll=0.05):
            for _ in range(600):
                if seen:
                    break
                await asyncio.sleep(0.05)
            assert (await mediator.wait("o-1")).succeeded

    asyncio.run(run())
    assert seen == [{"id": 1}]


@pytest.mark.parametrize("kind", marked(("sqlite3", "psycopg")))
def test_keys_are_pruned_only_where_the_execution_has_ended(kind, open_shop, tmp_path):
    """Open executions and ids that the journal never knew keep their keys; a forgotten one is known to have ended."""
    shop = open_shop(kind)
    debit = steps_of(shop)
    journal = SQLiteJournal(tmp_path / "sagas.db")
    waits = Saga("waits", [debit, Signal("approval")], payload=int)

    with Mediator(Saga("pay", [debit], payload=int), waits, journal=journal) as mediator:
        mediator.run("pay", 1, saga_id="ended")
        mediator.run("pay", 1, saga_id="gone")
        mediator.run("waits", 1, saga_id="open", check=False)
        journal.prune(time.time() + 60)
        shop.execute(
            "INSERT INTO fsm_mediator_done (key, saga_id, state, fence) VALUES ('never:debit', 'never', 'done', 0)"
        )
        assert shop.tx.prune(journal, 3600) == Pruned(0, 0, 0)
        time.sleep(1.1)  # SQLite's clock has whole seconds
        assert shop.tx.prune(journal, 0) == Pruned(2, 1, 1)

    left = shop.execute("SELECT saga_id FROM fsm_mediator_done ORDER BY saga_id")
    assert [saga_id for (saga_id,) in left] == ["never", "open"]


def test_undoing_a_succeeded_saga_compensates_though_its_key_was_pruned(open_shop):
    """A pruned key is no reason to keep the money: the saga knows that the step took effect."""
    shop = open_shop("sqlite3")
    debit = steps_of(shop)
    with Mediator(Saga("pay", [debit], payload=int)) as mediator:
        mediator.run("pay", 100, saga_id="p-1")
        shop.execute("DELETE FROM fsm_mediator_done")
        assert mediator.undo("p-1", reason="returned").compensated == ("debit",)

    assert shop.balance == 1000


def test_mistakes_with_relays_are_refused(open_shop):
    """What is no relay, a malformed id, a payload that is no data: each where it is given."""
    shop = open_shop("sqlite3")
    with pytest.raises(DefinitionError, match="relays is a list of Transactions"):
        Mediator(ORDER, relays=[print])  # type: ignore[list-item]
    session = session_of(shop)
    with pytest.raises(RefusedError):
        shop.tx.start(session, ORDER, {}, saga_id="")
    with pytest.raises(PayloadError):
        shop.tx.start(session, ORDER, object(), saga_id="o-1")
    session.close()
    with pytest.raises(DefinitionError, match="older_than"):
        shop.tx.prune(MemoryJournal(), -1)


def test_page_says_what_holds(tmp_path, monkeypatch):
    """The code of docs/exactly_once.md runs: a debit, its compensation, and a start in the caller's transaction."""
    page = (Path(__file__).parent.parent / "docs" / "exactly_once.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile("\n".join(blocks), "exactly_once.md", "exec"), names)  # noqa: S102
    shop = Shop("sqlite3", str(tmp_path / "shop.db"))
    session = sqlalchemy.orm.Session(names["engine"])
    order = types.SimpleNamespace(id=7, amount=100)
    monkeypatch.setattr(session, "add", lambda _: None)
    names["place_order"](session, order, None)
    session.commit()
    session.close()

    with Mediator(names["payment"], relays=[names["tx"]]) as mediator, mediator.daemon(poll=0.05):
        until(lambda: shop.balance == 900)
        assert mediator.undo("order-7").compensated == ("debit",)

    assert shop.balance == 1000
    names["engine"].dispose()


def test_saga_is_started_in_the_version_that_its_name_means(open_shop):
    """Of two versions that a mediator knows, the relay starts the one that `start` by name would."""
    shop = open_shop("sqlite3")
    session = session_of(shop)
    shop.tx.start(session, "order", {"id": 1}, saga_id="o-1")
    session.commit()
    session.close()

    with Mediator(ORDER, Saga("order", [note, note.named("again")], payload=dict[str, Any], version=2)) as mediator:
        asyncio.run(shop.tx.pass_on(mediator))
        assert mediator.wait("o-1").saga.version == "2"


def test_serve_says_what_waits_in_the_outbox_and_when_nothing_does_any_more(open_shop, capfd):
    """One line when a row has waited for long, none while that stays so, and one when it has gone."""
    shop = open_shop("sqlite3")
    now = [1000.0]
    lags = [outbox.Lag(2, 0, 3.0), outbox.Lag(2, 0, 12.0), outbox.Lag(5, 0, 22.0), outbox.Lag(0, 1, 0.0)]
    relay = types.SimpleNamespace(lag=lambda: lags.pop(0) if lags else shop.tx.lag())
    shown = ShownLag(clock=lambda: now[0])
    mediator = types.SimpleNamespace(settings={"relays": [relay, shown]})

    lines = []
    for _ in range(5):
        asyncio.run(shown.pass_on(mediator))
        asyncio.run(shown.pass_on(mediator))  # too soon
        lines.append(capfd.readouterr().err.strip())
        now[0] += 10.0

    assert lines == [
        "",
        "outbox 0: 2 waiting, the oldest for 12 s",
        "",
        "outbox 0: 1 refused: see the column refused",
        "outbox 0: nothing is late",
    ]


def test_serve_has_a_relay_that_shows_the_lag(monkeypatch, tmp_path):
    """Whatever the app has: the daemon of `serve` is given it beside the app's own relays."""
    served = []
    monkeypatch.setattr(serving, "run_daemon", lambda app, journal: served.append(app.settings["relays"]))
    arguments = ["serve", "--app", "tests.cli_waits_app:approved", "--journal", str(tmp_path / "sagas.db")]

    assert CliRunner().invoke(commands.cli, arguments, catch_exceptions=False).exit_code == 0
    assert [type(each) for each in served[0]] == [ShownLag]
