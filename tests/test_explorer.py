"""The explorer: a saga played by hand, by code and by what a front end sends; no step of it is ever called."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator import (
    Choose,
    DefinitionError,
    Execution,
    Explorer,
    Happened,
    MissingExtraError,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    Signal,
    Sleep,
    Step,
    explore,
    step,
    verify,
)
from fsm_mediator.diagram import Diagram, render
from fsm_mediator.explorer.ledger import KnownEffect
from fsm_mediator.explorer.view import take, view_of
from fsm_mediator.states import ENDED


class CalledError(AssertionError):
    """A step was called, though it was only to be played."""


class Reserve(Step):
    def execute(self, order):
        raise CalledError

    def compensate(self, order):
        raise CalledError


class Charge(Step):
    timeout = 2.0
    overtake = True
    retry = Retry(attempts=2, wait_initial=0.5, wait_jitter=0)

    def execute(self, order):
        raise CalledError

    def compensate(self, order):
        raise CalledError

    def probe(self, order) -> Happened:
        raise CalledError


class Mail(Step):
    retry = Retry(attempts=1)

    def execute(self, order):
        raise CalledError


class Hang(Step):
    timeout = 1.0
    grace = 3.0

    def execute(self, order):
        raise CalledError

    def compensate(self, order):
        raise CalledError


def uncalled(order):
    """Decides, if somebody calls it."""
    raise CalledError


def checkout() -> Saga:
    """A saga with a step that can be undone, one with a probe, and one that cannot be undone."""
    return Saga("checkout", [Reserve(), Charge(), Mail()])


LOST = ("the saga begins", "reserve takes effect and returns", "charge times out, after its effect")
"""The money was taken, and nobody knows."""

SAGAS: dict[str, Callable[[], Saga]] = {
    "checkout": checkout,
    "one step": lambda: Saga("one", [Mail()]),
    "threads": lambda: Saga("threads", [Hang(), Reserve()]),
    "pivot": lambda: Saga("pivot", [Reserve(), type("Pay", (Mail,), {"pivot": True})(), type("Tell", (Mail,), {})()]),
    "waits": lambda: Saga(
        "waits",
        [
            Reserve(),
            Signal("approval", timeout=60.0),
            Sleep("rest", uncalled),
            Parallel("fulfil", [Charge(), Saga("post", [Mail()])]),
            Choose("way", {"slow": Reserve(), "fast": Mail()}, by=uncalled),
        ],
    ),
    "nested": lambda: Saga("outer", [Reserve(), Saga("inner", [Charge(), Hang()]), Mail()]),
}


def labels(play: Explorer) -> list[str]:
    """What can happen now, in words."""
    return [choice.label for choice in play.choices]


def test_play_begins_with_a_pending_saga_and_what_can_happen_to_it():
    """Whoever opens an explorer sees a saga that has not begun, and that it can begin."""
    play = explore(checkout())

    assert play.now.execution.state == "pending"
    assert labels(play) == ["the saga begins", "a cancel comes", "the deadline passes"]
    assert play.choices[0].leads_to == "execute reserve"


def test_choice_by_label_and_by_number_are_the_same():
    """In code a choice is made by what it says, or by its number."""
    by_label, by_number = explore(checkout()), explore(checkout())

    by_label.choose("the saga begins")
    by_number.choose(1)

    assert by_label.journal == by_number.journal
    assert by_number.now.execution.state == "executing.reserve"


@pytest.mark.parametrize("what", ["reserve explodes", 0, -1, 99])
def test_choice_that_is_not_there_is_refused_and_says_what_is(what):
    """A mistyped choice changes nothing, and the message lists what can happen."""
    play = explore(checkout())

    with pytest.raises(RefusedError, match=r"cannot happen in 'pending'; what can: 1\. the saga begins; 2\. a cancel"):
        play.choose(what)
    assert len(play.moments) == 1


@given(st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", SAGAS)
def test_every_choice_leads_where_it_says_and_recovery_would_find_it(name, data):
    """What a button promises is what the rules decide; the journal beside it folds into the very same state."""
    saga = SAGAS[name]()
    play = explore(saga)
    for _ in range(data.draw(st.integers(0, 14))):
        choices = play.choices
        if not choices:
            break
        choice = data.draw(st.sampled_from(choices))
        moment = play.choose(choice.label)
        assert moment.execution.state == choice.state
        assert (moment.records[0].event if moment.records else "") == choice.event
        folded = Execution.fold(saga, moment.execution.acceptance, play.journal)
        assert folded.state == moment.execution.state
        assert [record.at for record in play.journal] == sorted(record.at for record in play.journal)
    assert play.choices or play.now.execution.state in ENDED


def test_ledger_shows_what_the_saga_cannot_know():
    """A time-out after the effect: the money is gone, and the saga is in doubt."""
    reserve, charge, mail = explore(checkout(), LOST).ledger

    assert (reserve.effect, reserve.belief) == (True, KnownEffect.DONE)
    assert (charge.effect, charge.belief, charge.here) == (True, KnownEffect.DOUBT, True)
    assert (mail.effect, mail.belief, mail.undoable) == (False, KnownEffect.NOTHING, False)


def test_ledger_after_compensation_is_empty_but_for_what_is_left_over():
    """A mail cannot be unsent: it is left over; everything else was undone."""
    play = explore(checkout(), LOST)
    for label in (
        "the probe of charge returns Happened",
        "mail raises OutcomeUnknownError, after its effect",
        "compensating charge returns",
        "compensating reserve returns",
    ):
        play.choose(label)

    reserve, charge, mail = play.ledger

    assert play.outcome.state == "failed"
    assert (reserve.effect, reserve.belief, charge.effect, charge.belief) == (False, "undone", False, "undone")
    assert (mail.effect, mail.belief, mail.left_over) == (True, "in doubt", True)
    assert "left over: mail" in view_of(play)["said"]


def test_abandoned_thread_is_seen_in_the_ledger():
    """A thread that outlived its time-out is in the ledger as running, until it ends."""
    play = explore(SAGAS["threads"](), ["the saga begins", "hang outlives time-out and grace"])

    assert play.ledger[0].running
    assert labels(play) == ["the abandoned thread ends without effect", "the abandoned thread ends after its effect"]
    assert play.journal[-1].at - play.journal[-2].at == pytest.approx(4.0)

    play.choose("the abandoned thread ends after its effect")

    assert not play.ledger[0].running
    assert play.ledger[0].effect
    assert "a person resolves hang as done" in labels(play)


def test_going_back_loses_nothing_and_choosing_there_forks():
    """The slider only looks; who chooses something at an earlier moment begins another story there."""
    play = explore(checkout(), LOST)

    play.go(1)
    assert play.now.execution.state == "executing.reserve"
    assert len(play.moments) == 4
    play.go(99)
    assert play.position == 3

    play.go(1)
    play.choose("reserve rejects, without effect")

    assert [moment.label for moment in play.moments[1:]] == ["the saga begins", "reserve rejects, without effect"]
    assert play.outcome.state == "failed"


def test_restart_forgets_what_happened():
    """After a restart the saga has not begun."""
    play = explore(checkout(), LOST)

    play.restart()

    assert (play.position, len(play.moments), play.journal) == (0, 1, ())


@pytest.mark.parametrize("name", ["checkout", "waits"])
def test_path_of_a_counterexample_can_be_played(name):
    """The shortest way to a broken law, as `verify` gives it, is a path of choices."""
    violation = verify(SAGAS[name](), strict=True).violations[0]

    play = explore(violation.saga, violation.path, strict=True)

    assert play.now.label == violation.path[-1]
    assert play.outcome.state == violation.state
    assert tuple(entry.path for entry in play.ledger if entry.effect) == violation.effects


def test_time_passes_as_time_outs_and_waits_say():
    """A time-out takes as long as it says, and a wait ends when it is due."""
    play = explore(checkout(), [*LOST, "the probe of charge raises", "the wait is over"])

    asked, errored, due = play.journal[-3:]

    assert asked.at - play.journal[-4].at == pytest.approx(2.0)
    assert errored.due_at is not None
    assert due.at == pytest.approx(errored.due_at)


def test_deadline_that_passes_takes_hold():
    """Where the deadline passes between two effects, the saga gives up."""
    play = explore(checkout(), ["the saga begins", "the deadline passes"])

    assert play.outcome.state == "failed"
    assert "DeadlineExceededError" in str(play.journal[-1].error)


def test_text_of_a_play_says_where_it_stands_and_what_can_happen():
    """Without any notebook, printing an explorer is enough to go on."""
    text = str(explore(checkout(), LOST))

    assert text.startswith("saga 'checkout', moment 3 of 3: probe charge")
    assert "● charge: an effect; the saga believes: in doubt" in text
    assert "   1. the probe of charge returns Happened" in text


def test_explore_takes_only_a_saga():
    """Whoever hands it a step or a mediator is told so."""
    with pytest.raises(DefinitionError, match="explore takes a Saga"):
        explore(Mail())  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"view": "sideways"}, {"theme": "plaid"}])
def test_unknown_view_or_theme_is_a_mistake_of_the_caller(setting):
    """A view or theme that is not there is named, with those that are."""
    with pytest.raises(DefinitionError):
        explore(checkout(), **setting)


# Waits


def test_signal_comes_or_does_not():
    """A saga that waits for a signal has a choice for its coming, for its time-out, and for what does not fit."""
    play = explore(SAGAS["waits"](), ["the saga begins", "reserve takes effect and returns"])

    told = {choice.label: choice.leads_to for choice in play.choices}

    assert told["the signal approval comes; rest sleeps"] == "wait in rest"
    assert told["no signal approval comes in time"] == "compensate reserve"
    assert told["a signal with an unknown name comes"] == "wait in approval"


def test_what_a_function_decides_is_a_choice_and_the_function_is_not_called():
    """Where the saga asks a function, the person who plays says what it answers."""
    play = explore(SAGAS["waits"](), ["the saga begins", "reserve takes effect and returns"])

    assert {
        "the signal approval comes; rest sleeps": "wait in rest",
        "the signal approval comes; rest sleeps for no time": "wait in fulfil",
        "the signal approval comes; the function of rest raises": "compensate reserve",
    }.items() <= {choice.label: choice.leads_to for choice in play.choices}.items()


def test_group_is_played_branch_by_branch():
    """A group's branches succeed, fail or get stuck one by one; the ledger shows how each stands."""
    play = explore(
        SAGAS["waits"](),
        [
            "the saga begins",
            "reserve takes effect and returns",
            "the signal approval comes; rest sleeps",
            "the wait is over",
            "branch fulfil.charge succeeds",
        ],
    )
    assert play.ledger[3].branches == (("charge", "succeeded"), ("post", "running"))
    assert view_of(play)["ledger"][3]["branches"] == ["charge: succeeded", "post: running"]

    play.choose("branch fulfil.post fails")
    play.choose("the driver checks the branches of fulfil")
    assert play.now.execution.state == "compensating.fulfil"
    play.choose("the driver undoes branch fulfil.charge")
    play.choose("branch fulfil.charge fails")
    play.choose("the driver checks the branches of fulfil")

    assert play.now.execution.state == "compensating.reserve"
    assert not play.ledger[3].effect


# What a front end shows, and what it says


def test_view_has_a_button_for_each_choice_grouped_by_who():
    """Every choice is a button, under the heading that says from whom it comes."""
    play = explore(checkout(), ["the saga begins"])
    groups = view_of(play)["groups"]

    assert [group["title"] for group in groups] == ["The participant", "The process that drives", "From outside"]
    assert sorted(button["label"] for group in groups for button in group["choices"]) == sorted(labels(play))
    button = groups[0]["choices"][0]
    assert button == {
        "label": "reserve takes effect and returns",
        "event": "executed",
        "nature": "forward",
        "leads_to": "execute charge",
    }


def test_pressed_button_is_played():
    """What a front end sends when a button is pressed is that choice."""
    play = explore(checkout())

    take(play, {"do": "choose", "position": 0, "choice": "the saga begins"})

    assert play.now.execution.state == "executing.reserve"


def test_button_pressed_twice_is_played_once():
    """A front end that lags behind cannot make something happen twice, or at another moment."""
    play = explore(checkout(), LOST)
    button = {"do": "choose", "position": 3, "choice": "the probe of charge raises"}

    take(play, button)
    take(play, button)

    assert play.position == 4


def test_slider_steps_theme_and_restart_are_heard():
    """Everything that is not a choice can be pressed as well."""
    play = explore(checkout(), LOST)

    take(play, {"do": "go", "position": 1})
    take(play, {"do": "show", "view": "steps"})
    take(play, {"do": "show", "theme": "dark"})
    view = view_of(play)

    assert (view["position"], view["view"], view["theme"]) == (1, "steps", "dark")
    take(play, {"do": "restart"})
    assert view_of(play)["moments"] == [""]


@pytest.mark.parametrize("message", [{}, {"do": "format the disk"}, {"do": "go"}, {"do": "go", "position": "1"}])
def test_message_of_no_front_end_is_refused(message):
    """What no front end of ours sends changes nothing."""
    play = explore(checkout())

    with pytest.raises(RefusedError):
        take(play, message)
    assert len(play.moments) == 1


def test_without_graphviz_it_can_be_played_all_the_same(monkeypatch):
    """Where no picture can be drawn the view says how to get one, and the buttons are there."""

    def none(dot, kind):
        raise MissingExtraError("drawing svg", "diagrams")

    monkeypatch.setattr(render, "draw", none)

    view = view_of(explore(checkout()))

    assert view["picture"]["svg"] == ""
    assert "fsm-mediator[diagrams]" in view["picture"]["instead"]
    assert view["groups"]


def test_hostile_names_are_text_in_the_view_and_the_picture():
    """What looks like markup stays text: the front end sets texts as text, and the picture is clean XML."""
    evil = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'

    def hostile(order):
        raise CalledError

    hostile.__qualname__ = hostile.__name__ = evil
    play = explore(Saga("s", [step(name="a")(hostile)]), ["the saga begins"])
    view = view_of(play)

    assert "&lt;script&gt;" in view["picture"]["svg"]
    tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(view["picture"]["svg"]).iter()}  # noqa: S314 - our own
    assert not tags & {"script", "img", "foreignObject", "a"}


@pytest.mark.parametrize("name", SAGAS)
def test_view_is_plain_json_to_the_end_of_a_run(name):
    """Whatever a front end is sent can be sent, at every moment."""
    play = explore(SAGAS[name]())

    for _ in range(12):
        assert json.loads(json.dumps(view_of(play)))["position"] == play.position
        if not play.choices:
            break
        play.choose(1)


# In a notebook


def in_notebook(shown) -> dict[str, str]:
    """The bundle that IPython sends to a front end, by media type."""
    from IPython.core.formatters import DisplayFormatter  # takes a third of a second

    bundle, _ = DisplayFormatter().format(shown)
    return dict(bundle)


def test_bundle_holds_the_widget_and_a_still_picture():
    """A front end with widgets shows the buttons, another one the picture, a terminal the text."""
    bundle = in_notebook(explore(checkout(), LOST))

    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/svg+xml", "text/html", "text/plain"}
    assert "probe charge" in bundle["text/plain"]


def test_without_anywidget_the_bundle_is_the_picture(monkeypatch):
    """Without the extra a notebook still shows where the saga stands; who asks for buttons is told what to install."""
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "fsm_mediator.explorer.widget", raising=False)
    play = explore(checkout())

    assert set(in_notebook(play)) == {"image/svg+xml", "text/html", "text/plain"}
    with pytest.raises(MissingExtraError, match=r"fsm-mediator\[notebook\]"):
        _ = play.widget


def test_marimo_is_given_the_widget_or_the_picture(monkeypatch):
    """In marimo is shown what `_display_` returns: the widget, or without the extra the picture."""
    play = explore(checkout())
    show_in_marimo = operator.methodcaller("_display_")

    assert show_in_marimo(play) is play.widget

    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "fsm_mediator.explorer.widget", raising=False)
    assert isinstance(show_in_marimo(explore(checkout())), Diagram)


def test_widget_follows_the_play_and_its_buttons_play():
    """The widget shows what code chooses, and code sees what was pressed."""
    play = explore(checkout())
    widget = play.widget

    play.choose("the saga begins")
    assert widget.view == view_of(play)

    widget._handle_custom_msg({"do": "choose", "position": 1, "choice": "reserve rejects, without effect"}, [])
    assert play.outcome.state == "failed"
    assert widget.view["standing"] == "failed"
    assert play.widget is widget


def test_front_end_is_sent_nothing_from_elsewhere():
    """The module that the front end runs asks no other address for anything."""
    play = explore(checkout())

    state = play.widget.get_state()
    sent = f"{state['_esm']}{state['_css']}"

    assert not [word for word in ("http://", "https://", "//cdn", "import ", "@import", "url(") if word in sent]


def test_package_brings_no_notebook_along():
    """Importing the package, and playing a saga by code, imports neither IPython nor anywidget."""
    code = (
        "import sys, fsm_mediator\n"
        "assert 'fsm_mediator.explorer' not in sys.modules\n"
        "play = fsm_mediator.explore(fsm_mediator.Saga('s', [fsm_mediator.step(lambda order: None, name='a')]))\n"
        "play.choose(1); str(play)\n"
        "print(sorted({'IPython', 'anywidget', 'ipywidgets', 'traitlets'} & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_moment_is_a_plain_value():
    """A moment can be looked at: what happened, what was recorded, what is in the ledger."""
    moment = explore(checkout(), LOST).now

    assert {field.name for field in attrs.fields(type(moment))} >= {"label", "execution", "ledger", "records"}
    assert moment.records[0].event == "unsure"
