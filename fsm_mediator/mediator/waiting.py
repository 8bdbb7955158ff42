"""WaitingDriver: waits for a time, an item in the inbox, branches or a slot."""

from __future__ import annotations

import functools
import math
from typing import Final

from fsm_mediator.journal.protocol import Commit, Queued, Written
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.ownership import look_for_turns

BRANCHES_POLL: Final = 1.0
"""The maximum number of seconds between two checks of a group's branches. Other processes may drive some of them."""


def longer(pause: float) -> float:
    """The seconds to wait before the next query to the journal. *pause* is the wait before the last query."""
    return min(pause * 1.5, 0.25)


class WaitingDriver(Core):
    """A `Core` that can wait for its executions."""

    async def _wait_until_due(self, active: ActiveExecution, until: float | None) -> float | None:
        """Wait until the execution is due at *until*, an item came to its inbox, or a branch may have settled.

        Returns:
            The time after the wait, in seconds since the epoch. None if the driver has released the execution, and a
            timer will resume it.
        """
        self.runtime.check_cancelled()
        if until is None:
            if self.closed and self.owned.any_branch_of(active.saga_id) is None:
                active.stopping = True
            if not active.called and not active.stopping:
                await self._block(active, None, BRANCHES_POLL)
        else:
            at = self.clock()
            wait = self._left(active, until, at)
            if self.patience is not None and until > self.patience:
                active.stopping = True
            if wait > 0 and not active.called and not active.stopping:
                if self.runtime.sleeps:
                    await self.runtime.sleep(wait)
                    at = max(self.clock(), until)
                elif active.background and self.runtime.suspends:
                    self._suspend(active, until, wait)
                    return None
                else:
                    await self._block(active, until, wait)
                    at = self.clock()
            if at < until and self._left(active, until, at) <= 0:
                active.elapsed = at = until
            if active.called:
                await self.read_inbox(active)
            return at
        if active.called:
            await self.read_inbox(active)
        return self.clock()

    def _left(self, active: ActiveExecution, until: float, at: float) -> float:
        """The seconds until *until*, by the system clock or by the monotonic clock: the smaller number.

        The result is never longer than the whole wait, counted from the last record to *until*.
        """
        if until <= active.elapsed:
            return 0.0
        if self.runtime.sleeps:  # the user's sleep may take no time
            return until - at
        wait, history, now = active.wait, active.execution.history, self.runtime.monotonic()
        if wait.due != until:
            entered = history[-1].at if history else active.execution.acceptance.at
            wait.due, wait.ends = until, now + min(until - at, max(0.0, until - entered))
        return min(until - at, wait.ends - now)

    async def _block(self, active: ActiveExecution, until: float | None, wait: float) -> None:
        wake = self.wake_event(active)
        active.wait.until = until
        try:
            if not active.called and not active.stopping:  # code that sets these flags then sets the event
                await self.runtime.wait(wake, min(wait, 60.0))  # in slices: the system clock may be set meanwhile
        finally:
            active.wait.until = None
        wake.clear()

    def _suspend(self, active: ActiveExecution, until: float, wait: float) -> None:
        """Stop driving an execution in the background, and set a timer that resumes it."""
        token = self.give_up_driving(active, until)
        with self.lock:
            if active.wait.token is token:
                at = self.clock() + wait
                active.wait.timer = self.runtime.at(at, functools.partial(self.continue_driving, active, token))
        if active.called or active.stopping or self.closed:  # set before the token: no other code resumes it
            self.continue_driving(active, token)

    def suspend_or_submit(self, active: ActiveExecution) -> None:
        """Set the timer of an execution in the background that waits. If its wait is over, let a worker drive it.

        On an event loop a task waits for the execution, and releases it when the loop ends.
        """
        until = active.execution.wake_at if self.runtime.suspends else None
        wait = 0.0 if until is None else self._left(active, until, self.clock())
        if until is not None and wait > 0:
            self._suspend(active, until, wait)
        else:
            self.submit(active)

    async def _note_slots(self, active: ActiveExecution, commit: Commit, mail: Written) -> bool:
        """Free the slot of the last attempt, after *commit* was written. Returns whether the next attempt is queued."""
        queues = active.unbegun
        if commit.slot is not None:
            active.listed = bool(commit.slot)
        if active.used is not None and self.owned.free_slot(active):
            await self.runtime.in_thread(look_for_turns)
        if type(mail) is Queued and not queues:
            await self.runtime.in_thread(self.owned.wait_for_turn, active)
            return True
        return queues

    async def _wait_for_slot(self, active: ActiveExecution) -> bool:
        """Wait for the slot of an attempt. False if the driver stops here, and a free slot resumes the execution."""
        slot = active.slot
        assert slot is not None
        if active.background and self.runtime.suspends:
            token = self.give_up_driving(active, math.inf)
            granted = not slot.on_grant(functools.partial(self.continue_driving, active, token))
            if granted or active.called or active.stopping or self.closed:
                self.continue_driving(active, token)
            return False
        wake = self.wake_event(active)
        active.wait.until = math.inf
        try:
            if slot.on_grant(wake.set) and not active.called and not active.stopping:
                await self.runtime.wait(wake, None)
        finally:
            active.wait.until = None
        wake.clear()
        if active.called:
            await self.read_inbox(active)
        return True
