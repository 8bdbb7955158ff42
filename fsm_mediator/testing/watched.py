"""A journal and a mediator as they are, but for this: before and after what they do, a `Replay` is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fsm_mediator.errors import LeaseLostError, MediatorError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.mediator import verbs
from fsm_mediator.mediator.blocking import Mediator
from fsm_mediator.mediator.live import Live, is_at_rest
from fsm_mediator.records import Record

if TYPE_CHECKING:
    from fsm_mediator.testing.counterexamples import Replay


class WatchedJournal(MemoryJournal):
    """A journal that encodes, and tells of each commit."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(encode=True)
        self._replay = replay

    def write(self, commit: Commit) -> Written:
        """As `Journal.write`; the commit of a branch that ends waits until that may be seen."""
        role = self._replay.role(commit.saga_id)
        if commit.records and is_at_rest(commit.records[-1].target):
            role.settles()
        mail = super().write(commit)
        if role.has_written(commit):
            mail = self.inbox(commit.saga_id)
        self._replay.changed()
        return mail


class WatchedMediator(Mediator):
    """A `Mediator` that tells when it looks at branches, when it waits, and when it leaves an execution."""

    def __init__(self, replay: Replay) -> None:
        settings: dict[str, Any] = {"clock": replay.clock, "sleep": self._pass, "chance": lambda: 0.0}
        super().__init__(replay.saga, journal=replay.journal, max_workers=1000, **settings)
        self._replay = replay
        self._sitting = threading.local()

    def drives(self, saga_id: str) -> bool:
        """Whether somebody here is at that execution."""
        return saga_id in self._live

    def take_up(self, saga_id: str) -> None:
        """Have it driven on in the background, if nobody is at it."""
        self._open()
        self._resume(saga_id)

    def tell(self, saga_id: str) -> None:
        """Something has come to its inbox: have its driver look, or become it."""
        self._open()
        self._tell(self._desk.entry(saga_id))

    def have_go_on(self, saga_id: str) -> bool:
        """Have a branch that is stuck go on in the background; False: somebody is at it."""
        self._open()
        say = verbs.say_retry(self._desk, None)
        return self._say_to_branch(saga_id, say, to_stuck_branches=say)

    def _work(self, live: Live, seat: object) -> None:
        super()._work(live, seat)
        if isinstance(live.error, MediatorError) and not isinstance(live.error, LeaseLostError):
            self._replay.role(live.saga_id).fails(live.error)

    def _write(self, commit: Commit) -> Written:
        mail = super()._write(commit)
        live = self._live.get(commit.saga_id)
        if live is not None and live.epoch and commit.records:
            self._replay.role(commit.saga_id).judge_recovery(live.execution)
        return mail

    def _attend(self, live: Live, at: float) -> Record | None:
        self._replay.role(live.saga_id).attends()
        return super()._attend(live, at)

    def _sit(self, live: Live) -> float | None:
        self._sitting.at = live.saga_id
        if live.execution.wake_at is None and self._replay.role(live.saga_id).way:
            live.called = True  # for its branches: there is more to come, and it need not wait to see it
        try:
            return super()._sit(live)
        finally:
            self._sitting.at = None

    def _pass(self, seconds: float) -> None:
        saga_id = getattr(self._sitting, "at", None)
        if saga_id is not None:  # else it waits for the journal
            self._replay.role(saga_id).sleeps()
        self._replay.pass_time(seconds)

    def _park(self, saga_id: str, until: float) -> None:
        """Nothing wakes what is parked: all executions have one clock, and the way says whose wait is over."""

    def _leave(self, live: Live) -> Outcome:
        outcome = super()._leave(live)
        self._replay.changed()
        return outcome
