"""The view: the data for a front end of the explorer, as plain JSON, and the messages from the front end.

A front end has no logic. It shows the result of `view_of`, and sends each pressed button as a message to `take`. This
module makes no HTML. Its texts are not escaped, so the front end must show them as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.live import drawing_of
from fsm_mediator.diagram.picture import EDGES, View, check_view
from fsm_mediator.diagram.themes import ThemeName, check_theme
from fsm_mediator.errors import RefusedError
from fsm_mediator.explorer.ledger import Entry, ledger_of
from fsm_mediator.explorer.moments import Choice, Moment
from fsm_mediator.narration import details, in_words, place_in_words
from fsm_mediator.records import Record
from fsm_mediator.verifier.action import DRIVER, OTHERS, PARTICIPANT, PERSON

WHO: Final = {
    PARTICIPANT: "The participant",
    DRIVER: "The process that drives",
    OTHERS: "From outside",
    PERSON: "A person",
}
"""For each origin of actions (see `Choice.who`), the heading above the buttons of its choices."""


class Play(Protocol):
    """The methods and attributes of an `Explorer` that a front end needs."""

    saga: Saga
    moments: list[Moment]
    position: int
    view: View
    theme: ThemeName

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The actions that can happen at the shown moment."""

    def diagram(self) -> Diagram:
        """The diagram of the saga's execution at the shown moment."""

    def choose(self, what: int | str) -> Moment:
        """Let the action with this number or label happen at the shown moment, and return the moment after it."""

    def go(self, position: int) -> None:
        """Show the moment with this index."""

    def restart(self) -> None:
        """Go back to the beginning, and drop all later moments."""

    def show(self, *, view: View | None = None, theme: ThemeName | None = None) -> None:
        """Show the diagram in another view or theme."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* after every change of the shown moment, of the view or of the theme."""


def view_of(play: Play) -> dict[str, Any]:
    """The data that a front end shows for the shown moment. The result can be written as JSON."""
    moment = play.moments[play.position]
    execution = moment.execution
    return {
        "saga": play.saga.name,
        "position": play.position,
        "moments": [each.label for each in play.moments],
        "standing": place_in_words(execution.state),
        "said": _sentence(moment),
        "phase": execution.phase,
        "state": execution.state,
        "ended": execution.ended,
        "view": play.view,
        "theme": play.theme,
        "picture": drawing_of(play.diagram()),
        "groups": _groups(play.choices, execution.state),
        "ledger": list(map(_entry, ledger_of(execution, moment.ledger))),
        "journal": list(map(_row, execution.history)),
    }


def take(play: Play, message: Mapping[str, Any]) -> None:
    """Change the explorer as the message of a front end requests.

    A choice changes nothing if the explorer has left the moment at which the button was shown. This happens if a person
    presses a button twice, or if a front end is slow.

    Raises:
        RefusedError: The message is malformed.
    """
    match message:
        case {"do": "choose", "position": int(position), "choice": str(label)}:
            if position == play.position and any(choice.label == label for choice in play.choices):
                play.choose(label)
        case {"do": "go", "position": int(position)}:
            play.go(position)
        case {"do": "restart"}:
            play.restart()
        case {"do": "show", "view": str(view)}:
            play.show(view=check_view(view))
        case {"do": "show", "theme": str(theme)}:
            play.show(theme=check_theme(theme))
        case _:
            raise RefusedError(f"an explorer cannot do {message!r}")


def _sentence(moment: Moment) -> str:
    """One or two sentences: the action before the moment, and the state of the saga with its leftovers."""
    leftovers = moment.execution.outcome().leftovers
    now = f"Now: {place_in_words(moment.execution.state)}"
    now += f"; left over: {', '.join(leftovers)}." if leftovers else "."
    return f"{moment.label}. {now}" if moment.label else now


def _groups(choices: tuple[Choice, ...], state: str) -> list[dict[str, Any]]:
    """The buttons for *choices*, grouped by the origin of the action. *state* is the state of the shown moment."""
    groups = {title: [_button(each, state) for each in choices if each.who == who] for who, title in WHO.items()}
    return [{"title": title, "choices": buttons} for title, buttons in groups.items() if buttons]


def _button(choice: Choice, state: str) -> dict[str, str]:
    stays = choice.state == state and not choice.event
    return {
        "label": choice.label,
        "event": EDGES[choice.event][0] if choice.event else "",
        "nature": str(choice.nature or ""),
        "leads_to": "nothing is recorded" if stays else choice.leads_to,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    notes = {
        "left over": entry.left_over,
        "its thread may be running still": entry.running,
        "cannot be undone": not (entry.undoable or entry.waits),
    }
    return {
        "path": entry.path,
        "effect": entry.effect,
        "world": entry.effect_in_words,
        "belief": str(entry.belief),
        "branches": [f"{name}: {status}" for name, status in entry.branches],
        "notes": [note for note, applies in notes.items() if applies],
        "here": entry.here,
    }


def _row(record: Record) -> dict[str, Any]:
    return {
        "seq": record.seq,
        "at": f"{record.at:.2f} s",
        "event": record.event,
        "what": in_words(record),
        "target": place_in_words(record.target),
        "details": details(record),
    }
