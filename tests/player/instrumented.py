"""A journal and a runtime as they are, but for this: before and after what they do, a `Replay` is told."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fsm_mediator.errors import LeaseLostError, MediatorError, ResultRefusedError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Entry, Written
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.branches import branches_status
from fsm_mediator.mediator.commands import retry_command
from fsm_mediator.mediator.joining import command_branch
from fsm_mediator.mediator.runtime import Runtime, StepCall
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.records import Answer, Raised
from fsm_mediator.states import is_settled
from tests.player.script import Died

if TYPE_CHECKING:
    from tests.player.replay import Replay

T = TypeVar("T")


class Refusing:
    """Values as *inner* gives them back; a result that is joined from branches is refused."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def accept_result(self, _part: Any, _value: Any) -> Any:
        """Refuse it."""
        raise ResultRefusedError("the joined result is refused")


class WatchedJournal(MemoryJournal):
    """A journal that encodes, and tells of each commit."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(encode=True)
        self._replay = replay

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """As `Journal.claim`; from a driver that has died, as often as the way says."""
        entry = super().claim(saga_id, driver_id)
        role = self._replay.role(saga_id)
        recoveries, role.recoveries = role.recoveries, None
        if entry is None or recoveries is None:
            return entry
        return msgspec.structs.replace(entry, recoveries=recoveries, abandoned=True)

    def write(self, commit: Commit) -> Written:
        """As `Journal.write`; the commit of a branch that ends waits until that may be seen."""
        role = self._replay.role(commit.saga_id)
        if commit.records and is_settled(commit.records[-1].target):
            role.settles()
        mail = super().write(commit)
        if role.has_written(commit):
            mail = self.inbox(commit.saga_id)
        self._replay.changed()
        return mail


class RecordingRuntime:
    """A runtime that reports each look at branches, each wait, each write and each driver that ends.

    Attributes:
        mediator: The mediator that it belongs to.
    """

    direct = False
    mediator: WatchedMediator

    def __init__(self, inner: Runtime, replay: Replay) -> None:
        self._inner = inner
        self._replay = replay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _driven_here(self) -> ActiveExecution | None:
        here = threading.get_ident()
        return next((each for each in list(self.mediator.owned.values()) if each.driver == here), None)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """As `Runtime.in_thread`; a look at branches waits until something has happened to them."""
        if function is branches_status:
            execution = arguments[1]
            refused = self._replay.role(execution.saga_id).attends()
            if isinstance(execution.encoding, Refusing):
                execution.encoding = execution.encoding.inner
            if refused:
                execution.encoding = Refusing(execution.encoding)
        return await self._inner.in_thread(function, *arguments)

    async def call(self, call: StepCall) -> Answer:
        """As `Runtime.call`; a driver dies where its script says so, inside a step."""
        answer = await self._inner.call(call)
        if isinstance(answer, Raised) and isinstance(answer.error, Died):
            raise answer.error
        return answer

    async def write(self, commit: Commit) -> Written:
        """As `Runtime.write`; what is journaled then is compared with what the driver knows."""
        mail = await self._inner.write(commit)
        active = self.mediator.owned.get(commit.saga_id)
        if active is not None and active.epoch and commit.records:
            self._replay.role(commit.saga_id).judge_recovery(active.execution)
        return mail

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """As `Runtime.wait`; but a driver whose branches have more to tell need not wait to see it."""
        active = self._driven_here()
        if active is not None and event is active.wait.wake and self._replay.role(active.saga_id).way:
            return True
        return await self._inner.wait(event, seconds)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        active = self._driven_here()
        if active is not None and active.execution.effect is not None and active.execution.effect.callback is None:
            self._replay.role(active.saga_id).sleeps()  # else it waits for the journal
        self._replay.pass_time(seconds)

    def submit(self, work: Any, context: Any, never_ran: Callable[[], object]) -> None:
        """As `Runtime.submit`; an error that ends the driver is reported."""

        async def watched() -> None:
            await work()
            active = work.args[0] if isinstance(work, functools.partial) else None  # otherwise it drives nothing
            error = None if active is None else active.error
            if active is not None and isinstance(error, MediatorError) and not isinstance(error, LeaseLostError):
                self._replay.role(active.saga_id).fails(error)
            self._replay.changed()

        self._inner.submit(watched, context, never_ran)

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Nothing wakes what is parked: all executions have one clock, and the way says whose wait is over."""


class WatchedMediator(Mediator):
    """A `Mediator` on a `RecordingRuntime`."""

    def __init__(self, replay: Replay) -> None:
        settings: dict[str, Any] = {"clock": replay.clock, "sleep": replay.pass_time, "chance": lambda: 0.0}
        watched: Any = lambda inner: RecordingRuntime(inner, replay)  # noqa: E731
        super().__init__(replay.saga, journal=replay.journal, max_workers=1000, _runtime=watched, **settings)
        self._core.runtime.mediator = self  # type: ignore[attr-defined]

    @property
    def owned(self) -> dict[str, ActiveExecution]:
        """The executions that it drives."""
        return self._core.owned.active

    def drives(self, saga_id: str) -> bool:
        """Whether somebody here is at that execution."""
        return saga_id in self.owned

    def take_up(self, saga_id: str) -> None:
        """Have it driven on in the background, if nobody is at it."""
        run_blocking(self._core.open)
        self._core.resume(saga_id)

    def tell(self, saga_id: str) -> None:
        """Something has come to its inbox: have its driver look, or become it."""
        run_blocking(self._core.open)
        run_blocking(self._core.notify_owner, self._core.store.entry(saga_id))

    def have_go_on(self, saga_id: str) -> bool:
        """Have a branch that is stuck go on in the background; False: somebody is at it."""
        run_blocking(self._core.open)
        command = retry_command(self._core.store, None)
        return run_blocking(command_branch, self._core, saga_id, command, command)
