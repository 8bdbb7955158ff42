"""Ledger: what has really happened to each part, beside what the saga believes; side by side, so that doubt is seen."""

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
    """What a saga believes of a part."""

    NOTHING = "nothing yet"
    DONE = "done"
    DOUBT = "in doubt"
    NONE = "no effect"
    UNDONE = "undone"


@attrs.frozen
class Entry:
    """One part in the ledger.

    Attributes:
        path: The part.
        effect: Whether it really has an effect now.
        belief: What the saga believes of it.
        left_over: Whether no compensation will undo it: the outcome lists it.
        running: Whether a thread of it, long given up, may be running still.
        here: Whether the saga stands in this part.
        undoable: Whether it can be compensated.
        waits: Whether it is a signal or a sleep, which have no effect.
        branches: How its branches stand, by name, where it is a group whose branches are there.
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
        told = [f"{'●' if self.effect else '○'} {self.path}: {self.in_the_world}"]
        told.append(f"the saga believes: {self.belief}")
        if self.left_over:
            told.append("left over")
        if self.running:
            told.append("its thread may be running still")
        told += [f"{name} is {status}" for name, status in self.branches]
        return "; ".join(told)

    @property
    def in_the_world(self) -> str:
        """What is true, in words."""
        if self.waits:
            return "a wait"
        return "an effect" if self.effect else "no effect"


def ledger_of(execution: Execution, ledger: EffectLedger) -> tuple[Entry, ...]:
    """The ledger of *execution*, given what really happened."""
    believed = beliefs(execution.history)
    left_over = execution.leftovers if execution.ended else ()
    stands_in = execution.machine.places[execution.state].part
    return tuple(
        Entry(
            part.path,
            effect,
            believed.get(part.path, KnownEffect.NOTHING),
            part.path in left_over,
            ledger.running == number,
            stands_in is not None and stands_in.path == part.path,
            part.compensatable,
            part.kind in (Kind.SIGNAL, Kind.SLEEP),
            tuple(zip(execution.branches_of(part.path), ledger.branches[number], strict=True))
            if part.kind in GROUPS and ledger.branches[number]
            else (),
        )
        for number, (part, effect) in enumerate(zip(execution.saga.parts, ledger.effects, strict=True))
    )


def beliefs(records: Iterable[Record]) -> dict[str, KnownEffect]:
    """What a saga believes of each of its parts, as far as its records tell."""
    told: dict[str, KnownEffect] = {}
    for record in records:
        path = record.step
        if path is None:
            continue
        if record.event in ("executed", "settled_done"):
            told[path] = KnownEffect.DONE
        elif record.event in ("compensated", "settled_undone"):
            told[path] = KnownEffect.UNDONE
        elif record.in_doubt:
            told[path] = KnownEffect.DOUBT
        elif phase_of(record.source) not in (COMPENSATING, RETRYING_COMPENSATION, STUCK):
            told[path] = KnownEffect.NONE
    return told
