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
        label: What happens, in words: ``charge times out, after its effect``; and what is decided on the way, where a
            function of the saga decides: it is not called, every answer is a choice.
        who: From whom it comes: ``participant``, ``driver``, ``others`` or ``person``.
        event: The machine's event that the rules make of it; empty where the machine does not move.
        nature: What sort of move that is; None where the machine does not move.
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
        label: What happened; empty at the beginning.
        execution: The execution in this state.
        ledger: What has really taken effect, which the execution cannot see.
        records: The records that the journal has of it.
    """

    label: str
    execution: Execution
    ledger: EffectLedger
    records: tuple[Record, ...] = ()
    diagrams: dict[tuple[str, str], Diagram] = attrs.field(factory=dict, repr=False)
