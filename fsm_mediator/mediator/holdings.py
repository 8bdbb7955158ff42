"""Holdings: the book of all that a driver holds, and the one place that takes executions up and lets go of them.

The rule everything rests on: who wants to claim, drive or release an execution first puts a `Live` into
`Holdings.live`, and whoever finds another one there leaves it alone. So nothing is released under somebody's hands,
and what this driver holds though no `Live` of it is there was left by an interrupt, and is free to be taken up.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable

from fsm_mediator.errors import AlreadyDrivenError, JournalError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import Effect
from fsm_mediator.mediator.desk import Desk
from fsm_mediator.mediator.live import Live, is_at_rest
from fsm_mediator.mediator.threads import ThreadedAttempt
from fsm_mediator.narration import safe_repr
from fsm_mediator.records import LATE, Failure, InboxItem
from fsm_mediator.states import COMPENSATING, EXECUTING, PENDING

logger = logging.getLogger("fsm_mediator")


class LeftBehind:
    """A thread that outlived its attempt: while it lives, nobody may overtake it.

    Attributes:
        attempt: The thread's call.
        effect: What it was to do.
        watched: Whether somebody takes note of its answer.
    """

    __slots__ = ("attempt", "effect", "watched")

    def __init__(self, attempt: ThreadedAttempt, effect: Effect) -> None:
        self.attempt = attempt
        self.effect = effect
        self.watched = False


class Holdings:
    """What one driver holds.

    Attributes:
        live: The executions that it drives, or is about to take up, by id.
        left_behind: Those that it holds because a thread of theirs cannot be ended, by id.
        unreleased: Those that it could not release yet.
        emptied: Called, if set, whenever the last one has gone.
        call: Tells the mediator, from any thread, that something has come to an execution's inbox.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._driver_id = desk.driver.id
        self.live: dict[str, Live] = {}
        self.left_behind: dict[str, LeftBehind] = {}
        self.unreleased: set[str] = set()
        self.emptied: Callable[[], None] | None = None
        self.call: Callable[[str], object] | None = None
        _here[self._driver_id] = self

    def __len__(self) -> int:
        return len(self.live) + len(self.left_behind)

    def branch_of(self, saga_id: str) -> Live | None:
        """One of the branches of an execution, or of theirs, that are driven here; None: there is none."""
        within = f"{saga_id}/"
        return next((live for live in list(self.live.values()) if live.saga_id.startswith(within)), None)

    def finish(self, live: Live, outcome: Outcome | None = None, error: BaseException | None = None) -> None:
        """Nobody drives *live* any more; those who wait for it are told."""
        live.outcome = outcome
        live.error = error
        live.finished = True
        saga_id = live.saga_id
        if live.turn is not None:
            self.end_turn(live)
        if self.live.get(saga_id) is live:
            del self.live[saga_id]
        if live.done is not None:
            live.done.set()
        if self.left_behind and (left := self.left_behind.get(saga_id)) is not None and not left.watched:
            left.watched = True  # only now: what it answers is noted after what the driver has to say
            left.attempt.then(lambda _: self._note_late_answer(saga_id, left))
        if self.emptied is not None and not self:
            self.emptied()

    def drop(self, live: Live, error: BaseException | None = None, *, outcome: Outcome | None = None) -> None:
        """Leave *live* to whoever takes it up; harmless if that, or `finish`, was done before."""
        if self.live.get(live.saga_id) is live:
            if live.epoch and live.saga_id not in self.left_behind:
                self.release(live.saga_id)
            self.finish(live, outcome, error)

    def release(self, saga_id: str) -> None:
        """Hold it no longer, as far as the journal says that it is this driver who holds it."""
        try:
            entry = self._journal.find(saga_id)
            if entry is not None and entry.driver is not None and entry.driver.id == self._driver_id:
                self._journal.release(saga_id, entry.epoch)
        except JournalError as error:
            logger.warning("execution %r could not be released yet: %s", saga_id, error)
            self.unreleased.add(saga_id)
        else:
            self.unreleased.discard(saga_id)

    def release_again(self) -> None:
        """Try to release what could not be released before."""
        for saga_id in list(self.unreleased):
            live = Live(saga_id)
            if self.live.setdefault(saga_id, live) is live:
                self.release(saga_id)
                self.finish(live)
            else:
                self.unreleased.discard(saga_id)  # somebody has taken it up again

    def take_up(self, live: Live, *, for_a_verb: bool = False) -> bool:
        """Claim and fold the execution that *live* was put into `live` for.

        Returns:
            False: somebody holds it; or it has ended or is stuck, and this is not for the sake of a verb.

        Raises:
            AlreadyDrivenError: A thread of an abandoned attempt still runs.
            UnknownExecutionError: There is no such execution.
            DefinitionChangedError, UnknownSagaError: It is left where it is, for no registered saga can drive it.
        """
        saga_id = live.saga_id
        self.refuse_to_overtake(saga_id)
        entry = self._desk.entry(saga_id)
        self._desk.saga_of(entry.acceptance)
        if is_at_rest(entry.state) and not for_a_verb and not self._desk.is_called_by_branches(entry):
            return False
        try:
            claimed = self._claimed(saga_id)
            if claimed is None:
                if entry.driver is not None:
                    call_driver(entry.driver.id, saga_id)  # whatever it was to be taken up for, its driver is to see
                return False
            live.execution = self._desk.folded(claimed)
            live.epoch = claimed.epoch
            if is_at_rest(claimed.state) and not for_a_verb and not self._desk.is_called_by_branches(claimed):
                self.release(saga_id)
                return False
            # What was only announced was in nobody's hands: it begins now, and nothing about it is in doubt.
            live.unbegun = claimed.wake_at is not None and live.execution.phase in (EXECUTING, COMPENSATING)
            live.recovered = not live.unbegun
            live.dormant = claimed.state == PENDING and claimed.wake_at == math.inf  # unless it was told to begin
            live.called = False  # first: what comes from now on is looked for again
            live.note(self._journal.inbox(saga_id))
        except BaseException:
            self.release(saga_id)
            raise
        return True

    def _claimed(self, saga_id: str) -> Entry | None:
        claimed = self._journal.claim(saga_id, self._driver_id)
        if claimed is None:
            entry = self._journal.find(saga_id)
            if entry is not None and entry.driver is not None and entry.driver.id == self._driver_id:
                # Ours, and driven by nobody: it could not be released, or an interrupt hit between two lines.
                self._journal.release(saga_id, entry.epoch)
                claimed = self._journal.claim(saga_id, self._driver_id)
        return claimed

    # Threads that cannot be ended

    def leave_behind(self, live: Live, attempt: ThreadedAttempt, effect: Effect) -> None:
        """Hold the execution for as long as the thread of *attempt* lives, even when *live* is finished."""
        self.left_behind[live.saga_id] = LeftBehind(attempt, effect)

    def end_turn(self, live: Live) -> None:
        """The attempt is over, and another may have its slot; a thread that was left behind keeps it while it lives."""
        turn, live.turn = live.turn, None
        if turn is None:
            return
        left = self.left_behind.get(live.saga_id)
        if left is None:
            turn.end()
        else:
            left.attempt.then(lambda _: turn.end())

    def refuse_to_overtake(self, saga_id: str) -> None:
        """Refuse to take up an execution one of whose threads still runs.

        Raises:
            AlreadyDrivenError: It does.
        """
        while (left := self.left_behind.get(saga_id)) is not None:
            if left.attempt.answered and left.watched:
                time.sleep(0.001)  # its answer is just being noted, in its thread
                continue
            raise AlreadyDrivenError(
                f"execution {saga_id!r}: the abandoned attempt's thread is still running, and must not be overtaken; "
                f"wait until it has ended, or end this process"
            )

    def _note_late_answer(self, saga_id: str, left: LeftBehind) -> None:
        attempt, effect = left.attempt, left.effect
        try:
            error = attempt.error
            told = f"returned {safe_repr(attempt.value, 1000)}" if error is None else f"raised {Failure.of(error)}"
            note = f"the abandoned attempt to {effect.kind} {effect.part.path!r} {told[:1000]}"
            logger.warning("execution %r: %s", saga_id, note)
            self._journal.post(saga_id, InboxItem(LATE, effect.part.path, None, note, self._desk.clock()))
        except JournalError as fault:
            logger.warning("execution %r: its late answer could not be journaled: %s", saga_id, fault)
        finally:
            self.release(saga_id)
            if self.left_behind.get(saga_id) is left:
                del self.left_behind[saga_id]
            if self.emptied is not None and not self:
                self.emptied()


_here: weakref.WeakValueDictionary[str, Holdings] = weakref.WeakValueDictionary()
"""What the drivers of this process hold, by driver."""


def call_driver(driver_id: str, saga_id: str) -> None:
    """Something came to an execution's inbox: tell its driver at once, if it is another one in this process.

    One in another process notices when it beats, or writes its next record.
    """
    holdings = _here.get(driver_id)
    if holdings is not None and holdings.call is not None and saga_id in holdings.live:
        holdings.call(saga_id)
