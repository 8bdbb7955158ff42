"""Claiming: claims and loads many executions together, which costs much less than to claim and load each of them alone.

This works only if the journal is a `ManyJournal`. If an execution cannot be claimed or loaded here, its epoch is still
0. The execution is then claimed and loaded by `OwnedExecutions.claim`, which also raises the reason: no registered saga
can drive it, for example, or the journal failed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fsm_mediator.journal.optional import ManyJournal, many_of
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.mediator.active import UNREAD, ActiveExecution
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.ownership import OwnedExecutions
from fsm_mediator.records import Record
from fsm_mediator.states import is_settled

logger: logging.Logger = logging.getLogger("fsm_mediator")


def claim_all(owned: OwnedExecutions, reserved: Sequence[ActiveExecution]) -> None:
    """Claim executions in one transaction, and load them. Each of *reserved* must be in `OwnedExecutions.active`."""
    many = many_of(owned.journal)
    if many is None:
        return
    by_id = {active.saga_id: active for active in reserved if active.saga_id not in owned.abandoned}
    try:
        wanted = [saga_id for saga_id, entry in many.find_all(list(by_id)).items() if _can_claim(owned, entry)]
        for saga_id, claimed in many.claim_all(wanted, owned.driver_id).items():
            by_id[saga_id].claimed = claimed
    except Exception as error:  # a user's journal may raise any error
        logger.debug("executions could not be claimed together, so each is claimed alone", exc_info=error)
    except BaseException:
        owned.claims_in_doubt = True  # for the heartbeat, in case that another interrupt comes now
        for saga_id in by_id:
            owned.release(saga_id)
        raise
    _load_all(owned, many, reserved)


def take_up(core: Core, claimed: Sequence[Entry]) -> list[ActiveExecution | None]:
    """Load claimed executions, and drive them in the background. Any thread may call this function.

    Returns:
        For each of *claimed* the execution. None if this mediator already drives the execution: then the claim is
        released.
    """
    found: list[ActiveExecution | None] = []
    for entry in claimed:
        active = ActiveExecution(entry.saga_id, background=True)
        active.claimed = entry
        if core.try_reserve(active):
            found.append(active)
        else:
            core.owned.give_back(entry)
            found.append(None)
    reserved = [active for active in found if active is not None]
    if (many := many_of(core.journal)) is not None:
        _load_all(core.owned, many, reserved)
    tokens = [(active, core.give_up_driving(active, None)) for active in reserved]

    def drive_all() -> None:
        for active, token in tokens:
            core.continue_driving(active, token)

    core.runtime.post(drive_all)  # once, because each post wakes the event loop
    return found


def _can_claim(owned: OwnedExecutions, entry: Entry) -> bool:
    is_own = entry.driver is not None and entry.driver.id == owned.driver_id
    return not is_own and not is_settled(entry.state) and owned.store.registry.can_drive(entry.acceptance)


def _load_all(owned: OwnedExecutions, many: ManyJournal, reserved: Sequence[ActiveExecution]) -> None:
    claims = [(active, active.claimed) for active in reserved if active.claimed is not None]
    begun = [active.saga_id for active, claimed in claims if claimed.seq]
    try:
        found = many.records_of_all(begun) if begun else {}
    except Exception as error:
        logger.debug("records could not be read together, so those of each execution are read alone", exc_info=error)
        return
    for active, claimed in claims:
        records = found.get(active.saga_id) if claimed.seq else []
        if records is not None:
            _load(owned, active, claimed, records)


def _load(owned: OwnedExecutions, active: ActiveExecution, claimed: Entry, records: list[Record]) -> None:
    try:
        if not owned.load(active, claimed, records=records):
            active.epoch = 0
    except Exception as error:
        logger.debug("execution %r could not be loaded, and is loaded again", active.saga_id, exc_info=error)
        active.epoch, active.claimed, active.inbox = 0, claimed, UNREAD
        active.called = True  # *claimed* does not know the items that came later, which `load` may not have read
