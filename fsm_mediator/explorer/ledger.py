"""The ledger: for each part, its real effect and its effect according to the records.

A part is in doubt if the records do not show whether it had its effect.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import GROUPS, Kind
from fsm_mediator.records import Record
from fsm_mediator.states import COMPENSATING, RETRYING_COMPENSATION, STUCK, phase_of
from fsm_mediator.verifier.effect_ledger import EffectLedger


class KnownEffect(enum.StrEnum):
    """The state of a part's effect according to the saga's records."""

    NOTHING = "nothing yet"
    DONE = "done"
    DOUBT = "in doubt"
    NONE = "no effect"
    UNDONE = "undone"


@attrs.frozen
class Entry:
    """The entry of one part in the ledger.

    Attributes:
        path: The path of the part.
        effect: Whether the part really has an effect now.
        belief: The effect that the part has according to the saga's records.
        left_over: Whether the outcome lists the part as a leftover, because no compensation will undo its effect.
        running: Whether a thread that executes the part may still be running after the saga stopped waiting for it.
        here: Whether the current state of the saga belongs to this part.
        undoable: Whether the part can be compensated.
        waits: Whether the part is a signal or a sleep, which have no effect.
        branches: The name and the status of each branch, if the part is a group whose branches exist. Otherwise empty.
    """

    path: str
    effect: bool
    belief: KnownEffect
    left_over: bool
    running: bool
    here: bool
    undoable: bool
    waits: bool = False
    branches: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"{'●' if self.effect else '○'} {self.path}: {self.effect_in_words}"]
        lines.append(f"the saga believes: {self.belief}")
        if self.left_over:
            lines.append("left over")
        if self.running:
            lines.append("its thread may be running still")
        lines += [f"{name} is {status}" for name, status in self.branches]
        return "; ".join(lines)

    @property
    def effect_in_words(self) -> str:
        """The real effect of the part as text: ``an effect``, ``no effect`` or, for a signal or a sleep, ``a wait``."""
        if self.waits:
            return "a wait"
        return "an effect" if self.effect else "no effect"


def ledger_of(execution: Execution, ledger: EffectLedger) -> tuple[Entry, ...]:
    """The entry of each part of *execution*, in the saga's order. *ledger* has the real effects."""
    believed = beliefs(execution.history)
    left_over = execution.leftovers if execution.ended else ()
    current = execution.machine.places[execution.state].part
    return tuple(
        Entry(
            part.path,
            effect,
            believed.get(part.path, KnownEffect.NOTHING),
            part.path in left_over,
            ledger.running == number,
            current is not None and current.path == part.path,
            part.compensatable,
            part.kind in (Kind.SIGNAL, Kind.SLEEP),
            tuple(zip(execution.branches_of(part.path), ledger.branches[number], strict=True))
            if part.kind in GROUPS and ledger.branches[number]
            else (),
        )
        for number, (part, effect) in enumerate(zip(execution.saga.parts, ledger.effects, strict=True))
    )


def beliefs(records: Iterable[Record]) -> dict[str, KnownEffect]:
    """The effect of each part in *records* according to these records, by the part's path."""
    known: dict[str, KnownEffect] = {}
    for record in records:
        path = record.step
        if path is None:
            continue
        if record.event in ("executed", "settled_done"):
            known[path] = KnownEffect.DONE
        elif record.event in ("compensated", "settled_undone"):
            known[path] = KnownEffect.UNDONE
        elif record.in_doubt:
            known[path] = KnownEffect.DOUBT
        elif phase_of(record.source) not in (COMPENSATING, RETRYING_COMPENSATION, STUCK):
            known[path] = KnownEffect.NONE
    return known
