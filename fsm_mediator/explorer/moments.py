"""Plain data of the explorer: a `Moment` is a state of the played saga, and a `Choice` is an action that can follow."""

from __future__ import annotations

import attrs

from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Record
from fsm_mediator.verifier.effect_ledger import EffectLedger


@attrs.frozen
class Choice:
    """An action that can happen at the shown moment.

    Attributes:
        label: The action in words, such as ``charge times out, after its effect``. If the saga has a function that
            decides at this point, the function is not called. There is one choice for each answer of the function, and
            the label contains the answer.
        who: The origin of the action: ``participant`` (the code of a step), ``driver``, ``others`` (writers to the
            inbox, and the clock) or ``person`` (an operator).
        event: The event that the action causes in the machine. Empty if the action causes no transition.
        nature: The kind of the transition's edge in a diagram. None if the action causes no transition.
        leads_to: The state of the saga after the action, in words.
        state: The name of the saga's state after the action.
    """

    label: str
    who: str
    event: str
    nature: EdgeKind | None
    leads_to: str
    state: str


@attrs.frozen(eq=False)
class Moment:
    """The state of a played saga after an action, or at the beginning.

    Attributes:
        label: The label of the action. Empty at the beginning.
        execution: The execution in this state.
        ledger: The effects that really happened. The execution cannot see them.
        records: The records that the action added to the journal.
        diagrams: The diagrams of this moment that have been made, by view and theme.
    """

    label: str
    execution: Execution
    ledger: EffectLedger
    records: tuple[Record, ...] = ()
    diagrams: dict[tuple[str, str], Diagram] = attrs.field(factory=dict, repr=False)
