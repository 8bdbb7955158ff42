"""SCXML: a saga's machine as a W3C state chart, for tools that read state charts.

The chart contains only the rows of the machine's table. It is flat: a ``<state>`` for each state, and a
``<transition>`` for each move. It shows the possible sequences of events and the states after them. It does not show
the rules that decide the next event. These rules are in ``execution``. The effects of states are attributes in the XML
namespace of this library, which other tools ignore.

Source: State Chart XML (SCXML), W3C Recommendation, 2015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import quoteattr

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Effect
from fsm_mediator.machine.table import Transition
from fsm_mediator.states import EVENTS, PENDING

NAMESPACE: Final = "urn:fsm-mediator:saga"
"""The namespace of the attributes ``phase``, ``part`` and ``effect``."""


def to_scxml(saga: Saga) -> str:
    """The machine of *saga* as an SCXML document.

    A state without a move is a ``<final>``. If an event has no move in a state, this library refuses the event, and an
    SCXML interpreter ignores the event. In both cases the state does not change.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    check_is_saga("to_scxml()", saga)
    return "\n".join(_lines(saga)) + "\n"


def _lines(saga: Saga) -> Iterator[str]:
    machine = saga.machine
    name = re.sub(r"[^\w.-]", ".", saga.name)  # a branch's name has a slash
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<scxml xmlns="http://www.w3.org/2005/07/scxml" xmlns:saga="{NAMESPACE}" version="1.0" datamodel="null"'
        f' name={quoteattr(name)} initial="{PENDING}"'
        f" saga:version={quoteattr(saga.version)} saga:fingerprint={quoteattr(saga.fingerprint)}>"
    )
    onward: dict[str, list[Transition]] = {name: [] for name in machine.states}
    for move in machine.moves():
        onward[move.source].append(move)
    for state, moves in onward.items():
        tag = "state" if moves else "final"
        opening = f"  <{tag} id={quoteattr(state)}{_words(machine, state)}"
        if not moves:
            yield f"{opening}/>"
            continue
        yield f"{opening}>"
        for move in sorted(moves, key=lambda move: list(EVENTS).index(move.event)):
            yield f"    <transition event={quoteattr(move.event)} target={quoteattr(move.target)}/>"
        yield f"  </{tag}>"
    yield "</scxml>"


def _words(machine: CompiledMachine, state: str) -> str:
    phase, part = machine.places[state]
    attributes = f" saga:phase={quoteattr(phase)}"
    if part is not None:
        attributes += f" saga:part={quoteattr(part.path)}"
    for callback in machine.states[state].on_enter:
        if isinstance(callback, Effect):
            attributes += f" saga:effect={quoteattr(callback.kind)}"
    return attributes
