"""The operator's pages of large journals: counts from the side store, lists in pages, old executions from archives."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import pytest

from fsm_mediator import Mediator, OutcomeUnknownError, Saga, Signal, SQLiteJournal
from fsm_mediator.journal.archive import Archive
from fsm_mediator.statistics.side_store import side_store_of
from fsm_mediator.ui import Monitor
from fsm_mediator.ui.live import digest_of
from fsm_mediator.ui.reading import Reader
from tests.asgi import get
from tests.commits import DRIVER, opening
from tests.drivers import ONCE, World
from tests.postgres_server import server
from tests.test_monitor import acting, order

PLACES = ("/", "/machines", "/machines/order/1")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def mediator(request, tmp_path):
    """An order that waits, one that was cancelled, and executions of which the definition is not known here."""
    if request.param == "sqlite":
        journal: Any = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    else:
        journal = server().journal()
    with closing(journal), Mediator(order(World()), journal=journal) as made:
        made.run("order", saga_id="waiting", check=False)
        made.run("order", saga_id="cancelled", check=False)
        made.cancel("cancelled", "the customer called", actor="anna")
        made.wait("cancelled", check=False)
        journal.enlist(DRIVER)
        for number in range(3):
            opened = {"saga": "order", "version": "0"}
            journal.write(opening(f"old-{number}", "executing.a", "succeeded", held=False, opened=opened))
        journal.write(opening("other", "executing.a", opened={"saga": "unheard"}))
        yield made


def refresh(mediator: Mediator) -> None:
    """Fill the side store of the mediator's journal."""
    store = side_store_of(mediator.journal)
    assert store is not None
    store.refresh()


def text_of(monitor: Any, place: str) -> str:
    """The page at *place*, which must be there."""
    answer = get(monitor, place)
    assert answer.status == 200, answer.text
    return answer.text


@pytest.mark.parametrize("with_store", [False, True])
def test_versions_that_are_not_registered_are_counted(mediator, with_store):
    """Now and Machines tell all executions of the journal, those of an earlier version of a known saga included."""
    if with_store:
        refresh(mediator)
    counts, _ = Reader(mediator.journal, mediator.sagas, str).counts()
    assert counts == {
        ("order", "1"): {"waiting.approve": 1, "failed": 1},
        ("order", "0"): {"succeeded": 3},
        ("unheard", "1"): {"executing.a": 1},
    }
    page = text_of(Monitor(mediator, authorize=acting), "/machines")
    assert re.search(r'<th scope="row">order</th><td>0</td><td>3</td><td>not known here</td>', page)
    assert "<small>version 0</small>" in text_of(Monitor(mediator, authorize=acting), "/")


def test_counts_come_from_the_side_store_which_says_how_old_it_is(mediator, monkeypatch):
    """With a side store no page counts the journal; what is missing there is said, and no event is sent for its age."""
    plain = [text_of(Monitor(mediator, authorize=acting), place) for place in PLACES]
    assert all("side store" not in page for page in plain)
    refresh(mediator)
    with monkeypatch.context() as patched:
        patched.setattr(type(mediator.journal), "count", None)
        patched.setattr("fsm_mediator.ui.reading.Statistics.read", None)
        stored = [text_of(Monitor(mediator, authorize=acting), place) for place in PLACES]
    assert "looked up in the side store now" in stored[0]
    assert "looked up in the side store now" in stored[2]
    assert [digest_of(page) for page in stored] == [digest_of(page) for page in plain]
    mediator.run("order", saga_id="later", check=False)
    late = text_of(Monitor(mediator, authorize=acting), "/")
    assert "which lacks the changes of the last" in late


def test_audit_goes_on_to_the_oldest_execution(mediator, monkeypatch):
    """The audit is a page of executions at a time, each below the last one; a link leads on to the first of all."""
    monkeypatch.setattr("fsm_mediator.ui.auditing.AUDITED", 2)
    monitor = Monitor(mediator, authorize=acting)
    place, seen = "/audit", []
    while True:
        page = text_of(monitor, place)
        seen.append("the customer called" in page)
        more = re.search(r'href="/audit\?([^"]+)"', page)
        if more is None:
            break
        assert "No person has said anything to these executions" in page or seen[-1]
        place = f"/audit?{more[1]}"
    assert seen == [False, False, True, False]


def test_batch_is_counted_and_not_listed_before_it_is_confirmed(mediator, monkeypatch):
    """The page of a batch reads as many executions as it names, and counts the rest."""
    monkeypatch.setattr("fsm_mediator.ui.batches.PREVIEWED", 2)
    monitor = Monitor(mediator, authorize=acting)
    page = text_of(monitor, "/bulk?verb=again&saga=order&version=0")
    assert "3 executions fit" in page
    assert "Confirm: again 3" in page
    assert "and 1 more" in page
    assert "old-2" in page
    assert "old-0" not in page
    monkeypatch.setattr("fsm_mediator.ui.batches.MOST", 2)
    monkeypatch.setattr("fsm_mediator.ui.pages.MOST", 2)
    assert "More than 2 executions fit" in text_of(monitor, "/bulk?verb=again&saga=order&version=0")
    assert get(monitor, "/bulk?verb=again").status == 400


# Archives


@pytest.fixture
def archive(mediator, tmp_path):
    """An archive of two files, in which executions are that the journal has no more."""
    kept = Archive(tmp_path / "archive")
    kept.add(mediator.journal, [mediator.journal.find("cancelled")])
    kept.add(mediator.journal, [mediator.journal.find("old-0"), mediator.journal.find("old-1")])
    mediator.journal.prune(9e12, forget_ids=True)
    return kept.folder


def test_archived_executions_are_shown_as_others_are(mediator, archive):
    """The archive is listed file by file; an execution of it has its picture and timeline, and takes no verb."""
    monitor = Monitor(mediator, authorize=acting, archive=archive)
    listed, place = "", "/archive"
    while place:
        listed += (page := text_of(monitor, place))
        more = re.search(r'href="/(archive\?[^"]+)"', page)
        place = f"/{more[1]}" if more else ""
    for saga_id in ("cancelled", "old-0", "old-1"):
        assert f'href="/archive/{saga_id}"' in listed
    assert get(monitor, "/runs/cancelled").status == 404
    for place in ("/archive/cancelled", "/archive?id=cancelled"):
        page = text_of(monitor, place)
        assert "the customer called" in page
        assert 'id="machine"' in page
        assert 'action="/do/' not in page
    assert "start the monitor with" in text_of(monitor, "/archive/old-0")  # its version is not known here
    assert get(monitor, "/archive/nobody").status == 404


def test_archive_is_shown_only_where_there_is_one(mediator, archive, tmp_path):
    """Without `archive=` there is no page of it, and no link to one; a file that cannot be read is named."""
    monitor = Monitor(mediator, authorize=acting)
    assert get(monitor, "/archive").status == 404
    assert 'href="/archive"' not in text_of(monitor, "/")
    with_archive = Monitor(mediator, authorize=acting, archive=archive)
    assert 'href="/archive"' in text_of(with_archive, "/")
    (archive / "z.jsonl.gz").write_bytes(b"{}")
    answer = get(with_archive, "/archive")
    assert answer.status == 503
    assert "z.jsonl.gz" in answer.text
    empty = Monitor(mediator, authorize=acting, archive=tmp_path / "nowhere")
    assert "no execution yet" in text_of(empty, "/archive")


# Versions, and links


def test_pictures_of_two_versions_have_their_own_counts(tmp_path):
    """Beside each other on the page, each version's machine has the executions of that version alone."""
    versions = [Saga("order", [World().step("charge"), Signal("approve")], version=each) for each in "12"]
    with Mediator(*versions, journal=tmp_path / "sagas.db") as mediator:
        for number, saga in enumerate([versions[0], versions[0], versions[1], versions[1], versions[1]]):
            mediator.run(saga, saga_id=f"o-{number}", check=False)
        page = text_of(Monitor(mediator, authorize=acting), "/")
    articles = {each[0]: each for each in page.split("<small>version ")[1:] if "phases" in each}
    assert sorted(articles) == ["1", "2"]
    for version, count in (("1", 2), ("2", 3)):
        assert f"{count} now" in articles[version]
        assert f"{count} executions" in articles[version]
        assert f"/runs?saga=order&amp;version={version}&amp;state=waiting" in articles[version]


def test_rest_of_a_long_list_is_linked_with_its_filter(tmp_path, monkeypatch):
    """Of more than eight in trouble the others are a click away; a list that was cut off says so."""
    stuck = Saga("t", [World().step("a", *[OutcomeUnknownError("no")] * 9, pivot=True, undo=None, retry=ONCE)])
    with Mediator(stuck, journal=tmp_path / "sagas.db", park_after=0.0) as mediator:
        for number in range(9):
            mediator.run(stuck, saga_id=f"t-{number}", check=False)
        monkeypatch.setattr("fsm_mediator.ui.reading.LOOKED_AT", 9)
        monkeypatch.setattr("fsm_mediator.ui.pages.LOOKED_AT", 9)
        monitor = Monitor(mediator, authorize=acting)
        page = text_of(monitor, "/")
        assert "9 or more" in page
        assert 'href="/stuck">1 more' in page
        assert "The newest 9 are grouped here" in text_of(monitor, "/stuck")
        assert "9 executions fit" in text_of(monitor, "/bulk?verb=retry&state=stuck,retrying")


def test_list_is_filtered_by_the_time_of_the_state(mediator):
    """As by `executions(since=, until=)`: so long ago, or a date; what is no time is refused with an example."""
    monitor = Monitor(mediator, authorize=acting)

    def listed(query: str) -> set[str]:
        return set(re.findall(r'href="/runs/([\w-]+)"', text_of(monitor, f"/runs?{query}")))

    assert listed("since=2000-01-01") == {"waiting", "cancelled"}
    assert listed("until=2000-01-01T10:00") == {"old-0", "old-1", "old-2", "other"}
    assert listed("since=1h&state=failed,succeeded") == {"cancelled"}
    assert listed("since=2000-01-01T00:00%2B02:00&until=1h") == set()
    refused = get(monitor, "/runs?since=yesterday")
    assert refused.status == 400
    assert "2h or 7d ago" in refused.text
    assert "verb=again&amp;saga=order&amp;since=1h" in text_of(monitor, "/runs?saga=order&since=1h")
