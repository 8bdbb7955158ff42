"""Notices: a notice reports that a driver begins or stops driving an execution. No record reports this."""

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
    """A driver begins or stops driving an execution. The time in between is called a stint.

    An object in ``observers=`` or ``around=`` of a mediator receives notices if it has a method ``notice(notice)``. The
    driving process calls this method. Exceptions of the method are logged, and have no other effect.

    Attributes:
        kind: A stint begins with ``claimed``. It begins with ``recovered`` if the previous driver died or left an
            attempt unfinished. A stint ends with ``parked`` if the execution waits without a driver. It ends with
            ``settled`` if the execution has ended or is stuck. It ends with ``released`` if the mediator closes or
            cannot continue, and with ``lease_lost`` if another driver has claimed the execution.
        saga_id: The id of the execution.
        saga: The saga's definition.
        acceptance: The data with which the execution was accepted, such as its payload.
        state: The state of the execution at the time of the notice.
        at: The time of the notice, in seconds since the epoch.
        opens: Whether a caller has just started the execution and waits for it.
        error: The error that ended the stint. None if there was no error.
        previous: At the beginning of a stint, the trace context of the previous stint, in any process. None if no trace
            context was journaled.
        causes: At the beginning of a stint, the trace contexts of the items in the execution's inbox. Empty otherwise.
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
        """Whether the driver begins to drive the execution. If False, the driver stops."""
        return self.kind in (CLAIMED, RECOVERED)
