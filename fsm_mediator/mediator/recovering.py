"""Recovering: the functions behind `Mediator.recover`, which claims the executions that need a driver and have none.

Executions are claimed in batches, in one transaction each. The crashes of a batch are journaled in one transaction too.
A batch has only as many executions as the workers can begin to drive within a short time. If they do not, the rest of
the batch is released, because another process may have free workers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from fsm_mediator.errors import JournalError, MediatorClosedError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.mediator.active import UNREAD, ActiveExecution
from fsm_mediator.mediator.claiming import claim_all
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.notifications import report
from fsm_mediator.mediator.requests import wait
from fsm_mediator.mediator.runtime import Event
from fsm_mediator.records import Record
from fsm_mediator.states import EXECUTING, RETRYING

logger: logging.Logger = logging.getLogger("fsm_mediator")

LISTED: Final = 1000
"""The number of claimable executions that are listed at a time."""

UNDER_WAY: Final = 1000
"""The number of executions that one recovery drives at a time. When there are so many, half of them must be finished
before the next batch is claimed."""

AT_ONCE: Final = 128
"""The maximum number of executions in a batch."""

QUICK: Final = 0.25
"""Seconds. If workers begin to drive half of a batch within this time, the next batch has twice as many executions.
Otherwise the rest of the batch is released, and each of its executions is claimed when a worker is free."""


async def recover(core: ExecutionDriver) -> list[Outcome]:
    """Claim and drive every unfinished execution without a living driver: see `Mediator.recover`."""
    await core.open()
    await core.runtime.in_thread(core.owned.retry_releases)
    outcomes = await Recovery(core).all_outcomes()
    along = await core.runtime.in_thread(core.store.roots_of, outcomes, core.driver.id)
    waited = [
        await wait(core, outcome.saga_id, None, False) if core.store.waits_for_branches(outcome) else outcome
        for outcome in outcomes
    ]
    return waited + [await wait(core, saga_id, None, False) for saga_id in along]


class Recovery:
    """One call of `recover`.

    Attributes:
        running: The executions that are under way.
        outcomes: The outcomes of the others, by id.
    """

    def __init__(self, core: ExecutionDriver) -> None:
        self._core = core
        self._seen: dict[str, None] = {}  # each is claimed only once, because it may be claimable again at once
        self._skip: set[str] = set()
        self.running: list[ActiveExecution] = []
        self.outcomes: dict[str, Outcome] = {}
        self._at_once = max(1, core.runtime.free_workers())

    async def all_outcomes(self) -> list[Outcome]:
        """Drive all claimable executions. Returns their outcomes, in the order in which the executions were listed."""
        core, limit = self._core, LISTED
        while True:
            found = await core.runtime.in_thread(core.journal.claimable, core.clock(), limit, tuple(self._skip))
            new = [saga_id for saga_id in found if saga_id not in self._seen]
            if new:
                self._seen.update(dict.fromkeys(new))
                with contextlib.suppress(MediatorClosedError):  # closing has released the executions of the batch
                    await self._drive_all(new)
            elif len(found) >= limit:
                limit += LISTED  # all of these were seen before, so that there may be others after them
            elif self.running:
                await self.wait_until_left(0)
            else:
                return [self.outcomes[saga_id] for saga_id in self._seen if saga_id in self.outcomes]

    async def _drive_all(self, saga_ids: Sequence[str]) -> None:
        """Claim executions batch by batch, and drive them in the background."""
        core, done = self._core, 0
        while done < len(saga_ids):
            batch = saga_ids[done : done + self._at_once]
            done += len(batch)
            claimed, begun = await core.runtime.uncancellable(self._claim, batch)
            if await core.runtime.wait(begun, QUICK):
                self._at_once = min(self._at_once * 2, AT_ONCE)
            else:
                self._at_once = max(self._at_once // 2, 1)
                await core.runtime.uncancellable(self.give_back, claimed)
                await core.runtime.wait(begun, None)
            if len(self.running) >= UNDER_WAY:
                await self.wait_until_left(UNDER_WAY // 2)

    async def _claim(self, saga_ids: Sequence[str]) -> tuple[list[ActiveExecution], Event]:
        """Claim executions, and let workers drive them.

        Returns:
            The executions that a worker must drive now, and an event that is set when workers drive half of them.
        """
        core = self._core
        asked = [ActiveExecution(saga_id, background=True) for saga_id in saga_ids]
        begun = core.runtime.event()

        async def note() -> None:
            begun.set()

        try:
            reserved = [active for active in asked if core.try_reserve(active)]
            await core.runtime.in_thread(claim_all, core.owned, reserved)
            left = await journal_crashes(core, reserved)
            half = len(left) // 2
            for active in left[:half]:
                core.submit(active)
            core.runtime.submit(note, None, begun.set)
            for active in left[half:]:
                core.submit(active)
        except BaseException as error:
            for active in asked:
                core.release_if_unstarted(active, error)
            raise
        self.running += reserved
        return left, begun

    async def give_back(self, claimed: Sequence[ActiveExecution]) -> None:
        """Release the executions that no worker drives yet. Each is claimed again when a worker is free.

        An execution whose driver died stays claimed, because its next owner could not see that its driver died.
        """
        core = self._core
        for active in claimed:
            orphaned = active.orphaned if active.claimed is None else active.claimed.abandoned
            if active.wait.until is not None:
                continue  # a worker has driven it, and it waits for a timer or a slot
            if (active.epoch or active.claimed) and not orphaned and core.try_take(active):
                try:
                    await core.runtime.in_thread(core.owned.release, active.saga_id)
                    active.epoch, active.claimed, active.inbox = 0, None, UNREAD
                    core.submit(active)
                except BaseException as error:
                    core.owned.release_and_finish(active, error)
                    raise

    async def wait_until_left(self, most: int) -> None:
        """Wait until at most *most* executions are under way. Keep the outcomes of the others."""
        core, running = self._core, self.running
        # The newest first: when it is finished, most of the others are finished too, and need no wait.
        for active in reversed(running[: max(0, len(running) - most)]):
            if not active.finished:
                await core.is_finished(active, None)
        finished: list[ActiveExecution] = []
        self.running = []
        for active in running:  # each is asked only once, because it may finish at this moment
            (finished if active.finished else self.running).append(active)
        for active in finished:
            if active.outcome is not None:
                self.outcomes[active.saga_id] = active.outcome
            elif active.error is not None:
                fingerprint = await core.runtime.in_thread(core.store.missing_definition, active)
                self._skip.update(() if fingerprint is None else (fingerprint,))


async def journal_crashes(core: ExecutionDriver, claimed: Sequence[ActiveExecution]) -> list[ActiveExecution]:
    """Journal the crashes of executions in one transaction, if each of them then waits for its next attempt.

    Only `drive` may announce an attempt, because an announced attempt is in doubt if this process dies.

    Returns:
        The other executions. A worker must drive them.
    """
    crashed: list[tuple[ActiveExecution, list[Record]]] = []
    left: list[ActiveExecution] = []
    alike = core.direct and not core.runtime.sleeps
    at = core.clock()
    for active in claimed:
        if alike and active.epoch and _will_wait(active, core.park_after):
            records = core.commits.resume_records(active, at)
            if active.execution.phase == RETRYING:
                crashed.append((active, records))
                continue
            active.epoch = 0  # it is claimed again, because the journal does not have these records
        left.append(active)
    if not crashed:
        return left
    commits = [core.commits.commit(active, records) for active, records in crashed]
    try:
        results = await core.runtime.in_thread(core.journal.write_all, commits)
    except JournalError as error:
        results = [error] * len(crashed)
    for (active, records), written in zip(crashed, results, strict=True):
        if isinstance(written, JournalError):
            logger.debug("execution %r: its crash could not be journaled yet", active.saga_id, exc_info=written)
            active.epoch = 0
            left.append(active)
            continue
        active.recorded = active.recoveries
        active.called = active.called or bool(written)
        report(core.observers, active, records)
        core.suspend_or_submit(active)
    return left


def _will_wait(active: ActiveExecution, park_after: float) -> bool:
    """Whether a crashed execution will surely wait for its next attempt, at most *park_after* seconds.

    The rules decide this again. If they decide otherwise, no harm is done.
    """
    execution = active.execution
    effect = execution.effect
    if effect is None or execution.phase != EXECUTING or not active.recovered or active.inbox is not UNREAD:
        return False
    policy, attempt = effect.part.retry, execution.attempt
    return (
        effect.part.repeatable
        and effect.part.probe is None
        and not (active.called or active.stopping or execution.decides_next)
        and policy.allows(attempt)
        and policy.wait(attempt) > 0
        and policy.wait(attempt, 1.0) <= park_after
    )
