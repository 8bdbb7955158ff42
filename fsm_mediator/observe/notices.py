"""Notices: a driver begins or stops driving an execution. Records do not show that."""

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
    """A driver begins or stops driving an execution. The time in between is a stint; every stint begins and ends.

    The method ``notice`` of each object in ``observers=`` or ``around=`` of a mediator is called with it, in the
    driving process. Its exceptions are logged, and have no other effect.

    Attributes:
        kind: A stint begins with ``claimed``, or with ``recovered`` after a driver that died or left an attempt
            unfinished. It ends with ``parked`` (released while it waits), ``settled`` (it has ended, or is stuck),
            ``released`` (the mediator closes, or could not continue) or ``lease_lost``. In the last case another driver
            has claimed it.
        saga_id: The execution.
        saga: The saga's definition.
        acceptance: The opening of the execution.
        state: The state that it is in.
        at: When, in seconds since the epoch.
        opens: Whether a caller has opened it just now, and waits for it.
        error: The error that ended the stint, if there was one.
        previous: If a stint begins: the trace context of the stint before, in any process. None: there was none.
        causes: If a stint begins: the trace contexts of the items in its inbox.
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
