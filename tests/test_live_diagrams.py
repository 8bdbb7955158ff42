"""Pictures that move: the widget's state follows an execution, whichever mediator drives it."""

from __future__ import annotations

import operator
import sys
from typing import Any

import pytest

from fsm_mediator import DefinitionError, Mediator, MissingExtraError, Parallel, Saga, Signal
from fsm_mediator.execution.outcome import Outcome
from tests.drivers import PATIENCE, World, eventually

POLL = 0.005


def trip() -> Saga:
    """Two steps, and a wait between them."""
    world = World()
    return Saga("trip", [world.step("a"), Signal("go"), world.step("b")])


def states_of(widget: Any) -> list[str]:
    """The states that the widget shows, from now on, each once."""
    seen = [widget.shown["state"]]

    def keep(change: Any) -> None:
        if change["new"]["state"] != seen[-1]:
            seen.append(change["new"]["state"])

    widget.observe(keep, names="shown")
    return seen


def in_notebook(shown: Any) -> dict[str, Any]:
    """The bundle that IPython sends to a front end, by media type."""
    from IPython.core.formatters import DisplayFormatter

    return dict(DisplayFormatter().format(shown)[0])


in_marimo = operator.methodcaller("_display_")
"""The object that marimo shows."""


def send(widget: Any, message: str) -> None:
    """Send the widget a message, as a page does."""
    operator.methodcaller("_handle_custom_msg", {"do": message}, [])(widget)


def shows(widget: Any, state: str) -> None:
    """Wait until the widget shows the execution in this state."""
    eventually(lambda: widget.shown["state"] == state)


@pytest.fixture
def live():
    """Makes widgets, and closes them at the end."""
    made: list[Any] = []

    def make(shown: Any, *arguments: Any, **settings: Any) -> Any:
        made.append(shown.live(*arguments, **settings))
        return made[-1]

    yield make
    for widget in made:
        widget.close()
        assert widget.join(PATIENCE)


def test_the_picture_moves_with_the_execution_and_ends_with_its_outcome(drive, journal, live):
    """The state, the marked node and the words of the widget change, and the thread ends with the execution."""
    mediator = drive(trip(), journal=journal)
    mediator.enqueue("trip", saga_id="t-1")
    widget = live(mediator.watch("t-1", poll=POLL))
    seen = states_of(widget)
    first = widget.shown["svg"]
    with Mediator(trip(), journal=journal) as other, other.daemon(poll=POLL):
        shows(widget, "waiting.go")
        assert widget.shown["motion"] == "moving"
        assert "wait in go" in widget.shown["words"]
        other.signal("t-1", "go", 1)
        assert widget.join(PATIENCE)

    assert seen[0] == "pending"
    assert [state for state in seen if state in ("waiting.go", "succeeded")] == ["waiting.go", "succeeded"]
    assert widget.shown["motion"] == "ended"
    assert widget.shown["svg"] not in ("", first)
    assert widget.shown["svg"] == mediator.diagram("t-1").to_svg()


def test_the_diagram_of_a_mediator_moves_as_it_looks(live):
    """`mediator.diagram(id).live()` keeps the view and the theme."""
    with Mediator(trip()) as mediator:
        mediator.start("trip", saga_id="t-1")
        diagram = mediator.diagram("t-1", "steps").with_(theme="dark")
        widget = live(diagram, poll=POLL)
        mediator.signal("t-1", "go", 1)
        assert widget.join(PATIENCE)

        assert widget.shown["svg"] == mediator.diagram("t-1", "steps").with_(theme="dark").to_svg()


def test_a_branch_moves_the_picture_of_its_parent(live):
    """The parent has no record while its branches move; the picture shows them all the same."""
    saga = Saga("both", [Parallel("pair", [Saga("left", [Signal("x"), Signal("y")]), World().step("right")])])
    with Mediator(saga) as mediator:
        mediator.start("both", saga_id="b-1")
        eventually(lambda: mediator.outcome("b-1/pair.left").state == "waiting.x")
        widget = live(mediator.watch("b-1", poll=POLL))
        before, state = widget.shown["svg"], widget.shown["state"]
        mediator.signal("b-1", "pair.left.x", 1)
        eventually(lambda: mediator.outcome("b-1/pair.left").state == "waiting.y")

        eventually(lambda: widget.shown["svg"] == mediator.diagram("b-1").to_svg() != before)
        assert widget.shown["state"] == state
        assert mediator.outcome("b-1").state == state


def test_a_closed_widget_looks_no_more(live):
    """Its thread has ended, and what happens later is not shown."""
    with Mediator(trip()) as mediator:
        mediator.start("trip", saga_id="t-1")
        widget = live(mediator.watch("t-1", poll=POLL))
        shows(widget, "waiting.go")
        widget.close()
        assert widget.join(PATIENCE)
        mediator.signal("t-1", "go", 1)
        mediator.wait("t-1")

        assert widget.shown["state"] == "waiting.go"


def test_a_widget_whose_comm_is_closed_looks_no_more(live):
    """Marimo closes only the comm when a cell runs again."""
    with Mediator(trip()) as mediator:
        mediator.start("trip", saga_id="t-1")
        widget = live(mediator.watch("t-1", poll=POLL))
        widget.comm.close()

        assert widget.join(PATIENCE)


def test_a_widget_that_no_page_shows_pauses_until_one_does(live):
    """When the last page leaves, the thread ends; the next page sees what happened meanwhile."""
    with Mediator(trip()) as mediator:
        mediator.start("trip", saga_id="t-1")
        widget = live(mediator.watch("t-1", poll=POLL))
        for message in ("open", "open", "leave"):
            send(widget, message)
        assert not widget.join(0)
        send(widget, "leave")
        assert widget.join(0)
        assert widget.shown["motion"] == "paused"
        mediator.signal("t-1", "go", 1)
        mediator.wait("t-1")
        assert widget.shown["state"] == "waiting.go"

        send(widget, "open")
        assert widget.join(PATIENCE)
        assert (widget.shown["state"], widget.shown["motion"]) == ("succeeded", "ended")


def test_the_reason_is_shown_if_the_execution_cannot_be_read_any_more(live):
    """A mediator that was closed, for example."""
    mediator = Mediator(trip())
    mediator.start("trip", saga_id="t-1")
    widget = live(mediator.watch("t-1", poll=POLL))
    mediator.close()
    assert widget.join(PATIENCE)

    assert widget.shown["motion"] == "stopped"
    assert "MediatorClosedError: this mediator is closed" in widget.shown["words"]


def test_an_outcome_is_live_by_its_mediator(live):
    """An outcome does not know its mediator. The outcome of an ended execution needs no mediator: its picture stays."""
    with Mediator(trip()) as mediator:
        mediator.start("trip", saga_id="t-1")
        outcome: Outcome = eventually(
            lambda: (found := mediator.outcome("t-1")).state == "waiting.go" and found,
        )
        with pytest.raises(
            DefinitionError, match=r"outcome\.diagram\(\)\.live\(mediator\), or mediator\.watch\('t-1'\)"
        ):
            outcome.diagram().live()
        widget = live(outcome.diagram("steps"), mediator, poll=POLL)
        mediator.signal("t-1", "go", 1)
        assert widget.join(PATIENCE)
        still = live(mediator.outcome("t-1").diagram())

    assert (widget.shown["state"], widget.shown["motion"]) == ("succeeded", "ended")
    assert (still.shown["state"], still.shown["motion"]) == ("succeeded", "ended")
    assert still.join(0)


def test_only_the_picture_of_one_execution_moves():
    """Not that of a machine, and not a watch of many, which a notebook shows as text."""
    with Mediator(trip()) as mediator:
        with pytest.raises(DefinitionError, match="the picture of a machine"):
            trip().diagram().live(mediator)
        mediator.enqueue("trip", saga_id="t-1")
        with pytest.raises(DefinitionError, match=r"takes the mediator that reads 't-1', not 'sagas\.db'"):
            mediator.outcome("t-1").diagram().live("sagas.db")
    watch = Mediator(trip()).watch()
    with pytest.raises(DefinitionError, match="watch one execution by its id"):
        watch.live()
    assert in_notebook(watch) == {"text/plain": "<Watch of many executions>"}
    assert in_marimo(watch) == "<Watch of many executions>"


def test_a_notebook_shows_a_watch_as_the_widget_and_a_still_picture(live):
    """The widget, a picture for front ends without widgets, and a text. marimo takes the widget itself."""
    with Mediator(trip()) as mediator:
        mediator.enqueue("trip", saga_id="t-1")
        watch = mediator.watch("t-1")
        shown = in_notebook(watch)
        in_marimo(watch).close()

        kinds = {"application/vnd.jupyter.widget-view+json", "image/svg+xml", "text/html", "text/plain"}
        assert set(shown) == kinds
        assert set(in_notebook(live(mediator.diagram("t-1")))) == kinds


def test_without_anywidget_it_says_what_to_install(monkeypatch):
    """The call raises; a watch that a notebook shows is a text."""
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "fsm_mediator.diagram.live_widget", raising=False)
    with Mediator(trip()) as mediator:
        mediator.enqueue("trip", saga_id="t-1")
        install = r"pip install 'fsm-mediator\[notebook\]'"
        with pytest.raises(MissingExtraError, match=install):
            mediator.diagram("t-1").live()
        text = in_notebook(mediator.watch("t-1"))["text/plain"]
        assert "fsm-mediator[notebook]" in text
        assert in_marimo(mediator.watch("t-1")) == text


def test_a_closed_watch_yields_no_more():
    """Also if its iterator waits in another thread."""
    from concurrent.futures import ThreadPoolExecutor

    with Mediator(trip()) as mediator, ThreadPoolExecutor() as threads:
        mediator.start("trip", saga_id="t-1")
        watch = mediator.watch("t-1", poll=PATIENCE)
        assert [getattr(next(watch).record, "event", None) for _ in range(2)] == ["start", "executed"]
        rest = threads.submit(list, watch)
        watch.close()

        assert rest.result(PATIENCE) == []
        assert list(watch) == []
