"""Notices: a driver takes an execution up, or leaves it. Records do not say that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.records import Acceptance

CLAIMED: Final = "claimed"
RECOVERED: Final = "recovered"
PARKED: Final = "parked"
SETTLED: Final = "settled"
RELEASED: Final = "released"
LEASE_LOST: Final = "lease_lost"


class Notice(msgspec.Struct, frozen=True, eq=False):
    """A driver takes up an execution, or leaves it. In between lies one stint; every stint begins and ends.

    Anything in ``observers=`` or ``around=`` of a mediator that has a method ``notice`` is called with each, in the
    process that drives. What it raises is logged, and harms nothing.

    Attributes:
        kind: A stint begins with ``claimed``, or with ``recovered`` where the driver before has died or left an attempt
            in its midst. It ends with ``parked`` (released while it waits), ``settled`` (it has ended, or is stuck),
            ``released`` (the mediator closes, or could not go on) or ``lease_lost`` (another driver has claimed it
            meanwhile).
        saga_id: The execution.
        saga: The saga's definition.
        acceptance: The acceptance of the execution.
        state: The state that it is in.
        at: When, in seconds since the epoch.
        opens: Whether a caller has opened it just now, and waits for it.
        error: Why it was left, where an error is why.
        previous: The context of the trace of the stint before, in any process, if a stint begins. None: of none.
        causes: The contexts of the traces of the items in its inbox, if a stint begins.
    """

    kind: str
    saga_id: str
    saga: Saga
    acceptance: Acceptance
    state: str
    at: float
    opens: bool = False
    error: BaseException | None = None
    previous: Mapping[str, str] | None = None
    causes: tuple[Mapping[str, str], ...] = ()

    @property
    def begins(self) -> bool:
        """Whether a stint begins with it."""
        return self.kind in (CLAIMED, RECOVERED)
