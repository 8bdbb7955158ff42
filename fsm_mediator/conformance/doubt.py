"""Doubt: checks the field ``in_doubt`` of each record: whether a step without an answer may have had its effect.

After an attempt in doubt, the step stays in doubt during further attempts. The doubt ends when the step answers, when
its probe finds out whether the effect happened, or when an operator settles the step.
"""

from __future__ import annotations

from typing import Final

from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import GROUPS, Part
from fsm_mediator.records import Record
from fsm_mediator.states import PROBING

_EITHER: Final = frozenset({True, False})
_YES: Final = frozenset({True})
_NO: Final = frozenset({False})

_ANSWERED: Final = frozenset({"start", "executed", "compensated", "settled_done", "settled_undone", "undo"})
"""The events after which nothing is in doubt."""

_UNCHANGED: Final = frozenset(
    {"retry_due", "compensation_errored", "compensation_due", "compensation_exhausted", "retry"}
)
"""The events that neither begin nor end a doubt."""


def doubt_mismatch(record: Record, execution: Execution) -> str | None:
    """The reason why the value of ``in_doubt`` in *record* is wrong. None if it is correct.

    *record*: the next record of *execution*.
    """
    phase, part = execution.machine.places[execution.state]
    if record.in_doubt in _possible(record.event, phase, part, known=execution.doubt):
        return None
    if not record.in_doubt and execution.doubt:
        return "an earlier attempt left the step in doubt, and this record drops the doubt, though nothing has ended it"
    if not record.in_doubt:
        return f"{record.event!r} needs a step in doubt, and this record says that the step has no effect"
    if record.event in _UNCHANGED:
        return "it says that the step is in doubt, and no attempt left it so"
    return f"{record.event!r} does not leave a step in doubt that can be compensated, or is the pivot"


def _possible(event: str, phase: str, part: Part | None, *, known: bool) -> frozenset[bool]:
    """The values of ``in_doubt`` that a record of *event* may have.

    *phase* and *part*: the phase and the part of the state before the event. *known*: whether the part was in doubt
    before the event.
    """
    if event in _ANSWERED or part is None:
        return _NO
    if event in ("in_doubt", "unsure"):
        return _YES
    if event in _UNCHANGED:
        # A group has no attempts in doubt. Only the steps of its branches have attempts.
        return _EITHER if part.kind in GROUPS else frozenset({known})
    possible = _YES if known and phase != PROBING else _EITHER
    if event == "exhausted" and not part.forward_only:
        return possible & _YES
    if event == "rejected" and (part.compensatable or part.pivot):
        return possible & _NO
    return possible
