"""Moments: the states that an explorer has passed through, and what can happen in each. Plain data."""

from __future__ import annotations

import attrs

from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Record
from fsm_mediator.verifier.effect_ledger import EffectLedger


@attrs.frozen
class Choice:
    """Something that can happen now.

    Attributes:
        label: The action in words: ``charge times out, after its effect``. If a function of the saga decides something
            on the way, the decision is added: the function is not called, and every answer is a choice.
        who: From whom it comes: ``participant``, ``driver``, ``others`` or ``person``.
        event: The machine's event that the rules make of it; empty where the machine does not move.
        nature: The nature of that move; None where the machine does not move.
        leads_to: The state of the saga after it, in words.
        state: The state of the saga after it.
    """

    label: str
    who: str
    event: str
    nature: EdgeKind | None
    leads_to: str
    state: str


@attrs.frozen(eq=False)
class Moment:
    """The state of a play after one more thing has happened.

    Attributes:
        label: The action that happened; empty at the beginning.
        execution: The execution in this state.
        ledger: The effects that really happened, which the execution cannot see.
        records: The records that the journal has of it.
    """

    label: str
    execution: Execution
    ledger: EffectLedger
    records: tuple[Record, ...] = ()
    diagrams: dict[tuple[str, str], Diagram] = attrs.field(factory=dict, repr=False)
