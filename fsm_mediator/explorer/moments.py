"""Moments: the states that an explorer has passed through, and the choices in each state, as plain data."""

from __future__ import annotations

import attrs

from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Record
from fsm_mediator.verifier.effect_ledger import EffectLedger


@attrs.frozen
class Choice:
    """An action that can happen now.

    Attributes:
        label: The action in words, such as ``charge times out, after its effect``. If a deciding function of the saga
            would be called, the label also has its answer. The function is not called; each answer is a choice.
        who: The origin of the action: ``participant``, ``driver``, ``others`` or ``person``.
        event: The event that the action causes in the machine. Empty if the action causes no transition.
        nature: The kind of the transition. None if the action causes no transition.
        leads_to: The state of the saga after the action, in words.
        state: The state of the saga after the action.
    """

    label: str
    who: str
    event: str
    nature: EdgeKind | None
    leads_to: str
    state: str


@attrs.frozen(eq=False)
class Moment:
    """The state of a played saga after an action.

    Attributes:
        label: The label of the action; empty at the beginning.
        execution: The execution in this state.
        ledger: The effects that really happened. The execution cannot see them.
        records: The records of the execution in the journal.
    """

    label: str
    execution: Execution
    ledger: EffectLedger
    records: tuple[Record, ...] = ()
    diagrams: dict[tuple[str, str], Diagram] = attrs.field(factory=dict, repr=False)
