"""View: all that a front end shows of an explorer, as plain JSON, and all that it can say in return.

A front end holds no logic: it lays out what `view_of` says, and hands back what was pressed to `take`. No HTML is made
here; texts go out as they are, and whoever shows them shows them as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fsm_mediator.diagram.picture import EDGES
from fsm_mediator.errors import MediatorError, RefusedError
from fsm_mediator.explorer.explorer import Choice, Explorer
from fsm_mediator.narration import details, in_words, place_in_words
from fsm_mediator.records import Record
from fsm_mediator.verifier.action import DRIVER, OTHERS, PARTICIPANT, PERSON

WHO: Final = {
    PARTICIPANT: "The participant",
    DRIVER: "The process that drives",
    OTHERS: "From outside",
    PERSON: "A person",
}
"""From whom something comes, as the heading above its buttons."""


def view_of(explorer: Explorer) -> dict[str, Any]:
    """What is to be shown of *explorer* now."""
    execution = explorer.now.execution
    standing = place_in_words(execution.state)
    return {
        "saga": explorer.saga.name,
        "position": explorer.position,
        "moments": [moment.label for moment in explorer.moments],
        "standing": standing,
        "said": _words(explorer, standing),
        "phase": execution.phase,
        "state": execution.state,
        "ended": execution.ended,
        "view": explorer.view,
        "theme": explorer.theme,
        "picture": _picture(explorer),
        "groups": _groups(explorer),
        "ledger": [
            {
                "path": entry.path,
                "effect": entry.effect,
                "world": entry.in_the_world,
                "belief": str(entry.belief),
                "branches": [f"{name}: {status}" for name, status in entry.branches],
                "notes": [
                    *(["left over"] if entry.left_over else []),
                    *(["its thread may be running still"] if entry.running else []),
                    *([] if entry.undoable or entry.waits else ["cannot be undone"]),
                ],
                "here": entry.here,
            }
            for entry in explorer.ledger
        ],
        "journal": [_row(record) for record in explorer.journal],
    }


def take(explorer: Explorer, message: Mapping[str, Any]) -> None:
    """Do what a front end says was pressed.

    What no longer fits (a button pressed twice, a front end that lags) changes nothing.

    Raises:
        RefusedError: The message is none that a front end sends.
    """
    match message:
        case {"do": "choose", "position": int(position), "choice": str(label)}:
            if position == explorer.position and any(choice.label == label for choice in explorer.choices):
                explorer.choose(label)
        case {"do": "go", "position": int(position)}:
            explorer.go(position)
        case {"do": "restart"}:
            explorer.restart()
        case {"do": "show", "view": str(view)}:
            explorer.show(view=view)
        case {"do": "show", "theme": str(theme)}:
            explorer.show(theme=theme)
        case _:
            raise RefusedError(f"an explorer cannot do {message!r}")


def _words(explorer: Explorer, standing: str) -> str:
    """The moment in a sentence."""
    what = explorer.now.label
    leftovers = explorer.outcome.leftovers
    now = f"Now: {standing}; left over: {', '.join(leftovers)}." if leftovers else f"Now: {standing}."
    return f"{what}. {now}" if what else now


def _picture(explorer: Explorer) -> dict[str, str]:
    diagram = explorer.diagram()
    try:
        return {"svg": diagram.to_svg(), "alt": diagram.alt, "instead": ""}
    except MediatorError as error:  # no Graphviz: the rest can be played all the same
        return {"svg": "", "alt": diagram.alt, "instead": str(error)}


def _groups(explorer: Explorer) -> list[dict[str, Any]]:
    """The choices, by from whom they come."""
    groups: dict[str, list[Choice]] = {who: [] for who in WHO}
    for choice in explorer.choices:
        groups[choice.who].append(choice)
    return [
        {"title": WHO[who], "choices": [_button(choice, explorer.now.execution.state) for choice in choices]}
        for who, choices in groups.items()
        if choices
    ]


def _button(choice: Choice, state: str) -> dict[str, str]:
    stays = choice.state == state and not choice.event
    return {
        "label": choice.label,
        "event": EDGES[choice.event][0] if choice.event else "",
        "nature": str(choice.nature or ""),
        "leads_to": "nothing is recorded" if stays else choice.leads_to,
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
