"""AsyncMediator: drives sagas of coroutine functions (and plain ones, in threads) on an event loop.

One task at a time drives an execution, and it belongs to the mediator: whoever awaits `run` may be cancelled without
harm to the saga. The journal, where it may block, is called in threads; what the tasks of one turn of the loop write
shares a commit.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import math
import os
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import (
    AlreadyDrivenError,
    JournalError,
    LeaseLostError,
    MediatorClosedError,
    MediatorError,
    OutcomeUnknownError,
    RefusedError,
    StillRunningError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Entry, IdTakenError, Journal, Written
from fsm_mediator.machine.parts import PROBE, Effect
from fsm_mediator.mediator import families, verbs
from fsm_mediator.mediator.asking import check_asked, check_left, check_listing, check_settings
from fsm_mediator.mediator.async_daemon import AsyncDaemon
from fsm_mediator.mediator.daemon import Rounds
from fsm_mediator.mediator.desk import BRANCHES_POLL, JOURNAL_RETRY, Desk, left_where_it_stands
from fsm_mediator.mediator.holdings import Holdings, call_driver
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.live import Live, is_at_rest, rests
from fsm_mediator.mediator.threads import ThreadedAttempt, without_own_frame
from fsm_mediator.mediator.wakings import Wakings
from fsm_mediator.observe.observers import Observer
from fsm_mediator.records import Abandoned, Answer, Raised, Record, Returned, TimedOut
from fsm_mediator.states import ENDED

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram

logger = logging.getLogger("fsm_mediator")
T = TypeVar("T")

JOURNAL_THREADS: Final = 8
"""The most threads that call the journal: what they have to write shares a commit, as in a recovery of thousands."""

TURN: Final = 64
"""So many runs may end without waiting for anything before the event loop has its turn."""


class AsyncMediator:
    """Drives executions of sagas whose steps are coroutine functions, or plain functions, which run in threads.

    As `Mediator`, awaited. It belongs to the event loop that it is first used on, and is used from that loop's thread
    only; when that loop was closed (`asyncio.run` has ended) it can be used on another. Cancelling a task that awaits
    `run` only detaches it: the saga goes on; `cancel` alone cancels.

    Args:
        *sagas: The sagas it can drive. Of several versions of one name, the last is the one that is started by name.
        journal: Where records are kept: a path or URL of a SQLite file, a `Journal`, or None for memory. One that is
            handed over ready is not closed by `close`.
        observers: Called with each `Record` after its commit, on the loop's thread.
        max_workers: The most threads that run plain functions at a time.
        park_after: An execution in the background that waits longer than so many seconds is held by nobody meanwhile.
        limits: At most so many attempts at a time, by the step's name or path: ``{"billing": 10}``. Who comes later
            queues, first come first served. A `Limits` can be shared by several mediators of a process.
        close_grace: Seconds that `close` waits for attempts under way.
        clock: Tells the time in seconds since the epoch.
        sleep: Waits so many seconds, awaited; when it returns the wait counts as over, and nothing is ever parked. By
            default a wait can be interrupted by a cancel.
        chance: Draws a number from 0 to 1 for the jitter of waits.

    Raises:
        DefinitionError: Two sagas have the same name and version, or a setting is wrong.
    """

    def __init__(
        self,
        *sagas: Saga,
        journal: Journal | str | os.PathLike[str] | None = None,
        observers: Iterable[Observer] = (),
        max_workers: int = 8,
        park_after: float = 60.0,
        limits: Limits | Mapping[str, int] | None = None,
        close_grace: float = 30.0,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        functions = {"clock": clock, "sleep": sleep, "chance": chance}
        check_settings(max_workers=max_workers, close_grace=close_grace, observers=observers, **functions)
        self._owns_journal = journal is None or isinstance(journal, (str, os.PathLike))
        self._desk = Desk(
            sagas,
            open_journal(journal),
            observers,
            driver=this_driver,
            clock=clock,
            chance=chance,
            park_after=park_after,
            limits=limits,
            sleeps=sleep is not None,
            coroutines=True,
        )
        self._journal = self._desk.journal
        self._blocks = not isinstance(self._journal, MemoryJournal)
        # Limits are kept where attempts are announced, which is in no place of its own in memory.
        plain = type(self._journal) is MemoryJournal and not self._journal.encodes and limits is None
        plain = plain and type(self) is AsyncMediator  # the testing kit's performs and writes otherwise
        self._in_memory: Any = self._journal if plain else None
        self._clock = self._desk.clock
        self._chance = self._desk.chance
        self._sleep = sleep
        self._max_workers = int(max_workers)
        self._close_grace = close_grace
        self._closed = False
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        self._holdings = Holdings(self._desk)
        self._holdings.call = functools.partial(_call, weakref.ref(self))
        self._live = self._holdings.live
        self._wakings = Wakings(self._alarm, self._clock, self._resume)
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._patience: float | None = None
        self._at_once = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin_on_a_loop()

    def _begin_on_a_loop(self) -> None:
        self._opened = False
        self._opening: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(self._max_workers)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alarms: set[asyncio.TimerHandle] = set()
        self._pending_writes: list[tuple[Commit, asyncio.Future[Written]]] = []
        self._flushing = False

    def _after_fork(self) -> None:
        self._desk.after_fork()
        self._begin_anew()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        self._refuse_if_closed()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)
        if not self._opened:
            if self._opening is None or self._opening.done():
                self._opening = self._spawn(self._enlist())
            await self._shielded(self._opening)
            self._refuse_if_closed()  # which may have been done while we waited

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MediatorClosedError("this mediator is closed; make another one")

    async def _enlist(self) -> None:
        await self._off(self._journal.enlist, self._desk.driver)
        if self._journal.heartbeat is not None:
            self._spawn(self._beat(self._journal.heartbeat))
        self._opened = not self._closed

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to *loop*; if there was another one, it is gone, and its tasks with it: what they held is free."""
        if self._loop is not None and not self._loop.is_closed():
            raise RefusedError("an AsyncMediator belongs to one event loop; make another one for this loop")
        for live in list(self._live.values()):
            live.done = live.wake = None  # nobody waits there any more
            attempt = live.attempt
            if attempt is not None and not attempt.revoke() and live.execution.effect is not None:
                self._holdings.leave_behind(live, attempt, live.execution.effect)
            self._holdings.drop(live)
        self._begin_on_a_loop()
        self._loop = loop
        self._wakings.set_anew()

    def register(self, saga: Saga) -> None:
        """Make another saga known.

        Raises:
            DefinitionError: Another one of its name and version is known.
        """
        self._desk.register(saga)

    @property
    def journal(self) -> Journal:
        """Where records are kept."""
        return self._journal

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return self._desk.sagas

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes another mediator drive as this one does: its ``limits``, ``observers`` and ``park_after``."""
        return self._desk.settings

    # Running

    async def run(
        self,
        saga: Saga | str,
        payload: Any = None,
        *,
        saga_id: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        check: bool = True,
    ) -> Outcome:
        """Run a saga to its end, through retries and sleeps. A return means that it succeeded.

        Arguments and errors are those of `Mediator.run`. Cancelling the task that awaits this only detaches it.
        """
        if not self._opened or asyncio.get_running_loop() is not self._loop:
            await self._open()
        execution = self._desk.opened(saga, payload, saga_id, deadline)
        if timeout is not None:
            check_left("timeout (seconds)", timeout)
            await self._whole(self._begin(execution))
            return await self.wait(execution.saga_id, timeout=timeout, check=check)
        saga_id = execution.saga_id
        live = Live(saga_id, execution)
        if self._live.setdefault(saga_id, live) is live:
            try:
                outcome = await self._driven(
                    live, self._drive_in_memory(live) if self._in_memory else self._drive(live, opens=True)
                )
            except IdTakenError:
                outcome = None
            if outcome is not None:
                if outcome.state == "succeeded":
                    return outcome
                try:
                    return self._checked(live, outcome, check)
                finally:
                    del live, outcome, execution  # as in `Mediator._drive_in_memory`
        if await self._was_opened(execution):
            return await self.wait(saga_id, check=check)
        return await self.run(saga, payload, saga_id=saga_id, deadline=deadline, check=check)

    async def start(
        self, saga: Saga | str, payload: Any = None, *, saga_id: str | None = None, deadline: float | None = None
    ) -> str:
        """Accept a saga durably, drive it in the background, and return its id at once.

        Arguments and errors are those of `Mediator.start`.
        """
        await self._open()
        execution = self._desk.opened(saga, payload, saga_id, deadline)
        await self._whole(self._begin(execution))
        return execution.saga_id

    async def wait(self, saga_id: str, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """Wait until an execution ends, is stuck or parked; as `Mediator.wait`.

        Raises:
            SagaFailedError: It failed, and is compensated.
            SagaStuckError: It waits for a person.
            SagaWaitingError: It is parked: it waits for a signal, or for branches that all rest.
            StillRunningError: *timeout* seconds have passed.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id)
        if timeout is not None:
            check_left("timeout (seconds)", timeout)
        try:
            async with asyncio.timeout(timeout) as patience:
                return await self._joined(saga_id, check)
        except TimeoutError:
            if not patience.expired() or timeout is None:
                raise
            entry = await self._off(self._desk.entry, saga_id)
            if is_at_rest(entry.state):  # it came there while we looked
                return self._desk.checked(await self._off(self._desk.outcome, saga_id), check)
            raise StillRunningError(saga_id, entry.state, timeout) from None

    async def _joined(self, saga_id: str, check: bool) -> Outcome:
        """The outcome, once it is at rest: driven by a task of ours if by nobody else."""
        await self._open()
        pause = 0.002
        while True:
            live = self._live.get(saga_id)
            if live is not None:
                if live.driver is asyncio.current_task():
                    raise RefusedError(f"a step of execution {saga_id!r} waits for that execution, which waits for it")
                await self._done_event(live).wait()
                told = self._desk.told_to_who_waits(live, closed=self._closed)
                if told is not None:
                    return self._checked(live, told, check)
                continue  # what its driver could not do, a task of ours tries
            entry = await self._off(self._desk.entry, saga_id)
            elsewhere = entry.driver_alive and entry.driver is not None and entry.driver.id != self._desk.driver.id
            if not elsewhere or is_at_rest(entry.state):
                outcome = await self._off(families.parked_outcome, self._desk, entry)
                if outcome is not None:
                    return self._desk.checked(outcome, check)
            if self._closed:
                raise self._closed_error(saga_id, entry.state)
            if not elsewhere and saga_id not in self._holdings.left_behind:
                live = Live(saga_id)
                if self._reserves(live):
                    outcome = await self._driven(live, self._taken_up(live))
                    if outcome is not None and live.rests:
                        return self._checked(live, outcome, check)
                    if live.epoch:
                        continue
            # Driven by another process, or a thread that was left behind: look again, less and less often.
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    async def _driven(self, live: Live, work: Coroutine[Any, Any, Outcome | None]) -> Outcome | None:
        """Have *live* driven by a task; what came of it. If its caller is cancelled, it goes on in the background."""
        assert self._loop is not None
        task = _begun_at_once(self._loop, work)
        try:
            if task.done():
                self._driver_ended(live, None, task)
                self._at_once += 1
                if self._at_once % TURN == 0:
                    await asyncio.sleep(0)
            else:
                # As asyncio.shield, which takes two futures for it, and another turn of the loop.
                ended: asyncio.Future[None] = self._loop.create_future()
                self._watch(live, task, ended)
                await ended
            return task.result()
        except asyncio.CancelledError:
            if not task.cancelled():
                live.background = True
                task.add_done_callback(functools.partial(self._see_off, live))
                raise
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            return None  # it was that task alone that was cancelled: by close, or by a step
        finally:
            del live, task, work  # as in `Mediator._drive_in_memory`

    async def _taken_up(self, live: Live) -> Outcome | None:
        try:
            if not await self._off(self._holdings.take_up, live):
                self._holdings.finish(live)
                return None
            return await self._drive(live)
        except BaseException as error:
            self._holdings.drop(live, error)
            raise

    async def _begin(self, execution: Execution) -> None:
        """Journal a new execution as pending, held by this driver, and have a task drive it."""
        saga_id = execution.saga_id
        live = Live(saga_id, execution, background=True)
        while self._live.setdefault(saga_id, live) is not live:
            if await self._was_opened(execution):
                return
        try:
            if self._closed:
                raise self._closed_error(saga_id, execution.state)
            await self._write(self._desk.commit(live, (), opens=True))
        except IdTakenError as error:
            self._holdings.finish(live, error=error)
            if await self._was_opened(execution):
                entry = await self._off(self._desk.entry, saga_id)
                if not is_at_rest(entry.state):
                    self._resume(saga_id)
        except BaseException as error:
            self._holdings.drop(live, error)
            raise
        else:
            self._have_driven(live, self._work(live))

    async def _was_opened(self, execution: Execution) -> bool:
        """Whether the execution that has the id of this one is in the journal; as `Mediator._was_opened`."""
        saga_id, pause = execution.saga_id, 0.001
        while (entry := await self._off(self._journal.find, saga_id)) is None:
            live = self._live.get(saga_id)
            if live is None:
                entry = await self._off(self._journal.find, saga_id)
                break
            await _within(self._done_event(live), pause)  # it is about to be written, or refused
            pause = min(pause * 1.5, 0.25)
        if entry is not None:
            self._desk.check_same(entry, execution)
        return entry is not None

    def _checked(self, live: Live, outcome: Outcome, check: bool) -> Outcome:
        """*outcome*, or the error that says that it is no success."""
        if check and not live.rests and self._closed:
            raise self._closed_error(live.saga_id, outcome.state)
        return self._desk.checked(outcome, check)

    def _closed_error(self, saga_id: str, state: str) -> MediatorClosedError:
        return MediatorClosedError(
            f"this mediator was closed while execution {saga_id!r} stood in {state!r}; it goes on when it is "
            f"recovered, or when its id is run again"
        )

    # Tasks and threads

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._tasks.discard)
        return task

    def _have_driven(self, live: Live, work: Coroutine[Any, Any, Any]) -> None:
        """Have *live* driven in the background."""
        assert self._loop is not None
        self._watch(live, self._loop.create_task(work))

    def _watch(self, live: Live, task: asyncio.Task[Any], ended: asyncio.Future[None] | None = None) -> None:
        """See *task*, which drives *live*, to its end; if it is cancelled before it has begun, *live* is dropped."""
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._driver_ended, live, ended))

    def _driver_ended(self, live: Live, ended: asyncio.Future[None] | None, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not live.finished:
            self._holdings.drop(live)
        if ended is not None and not ended.done():
            ended.set_result(None)

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Await *work*, which is done to its end even if who awaits it is cancelled."""
        return await self._shielded(self._spawn(work))

    async def _shielded(self, task: asyncio.Task[T]) -> T:
        """What *task* of ours comes to; it goes on even if who awaits it is cancelled."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                self._refuse_if_closed()  # that is who has cancelled it, and nobody has cancelled our caller
            raise

    async def _off(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what may block on the journal, in a thread if this journal does."""
        if not self._blocks:
            return function(*arguments)
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(JOURNAL_THREADS, "fsm-mediator-journal")
        assert self._loop is not None
        return await self._loop.run_in_executor(self._executor, functools.partial(function, *arguments))

    # Driving

    async def _work(self, live: Live) -> None:
        """Drive in the background, until it ends or parks."""
        try:
            await (self._drive(live) if live.epoch else self._taken_up(live))
        except MediatorError as error:
            self._leave_it_there(live, error)
        except (KeyboardInterrupt, SystemExit):
            logger.exception("execution %r is left where it stands", live.saga_id)
            raise  # they end the event loop, whoever raises them
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("execution %r is left where it stands", live.saga_id)

    def _leave_it_there(self, live: Live, error: MediatorError) -> None:
        again = left_where_it_stands(live, error)
        if again is not None and not self._closed:
            self._wakings.add(self._clock() + again, live.saga_id)

    def _see_off(self, live: Live, task: asyncio.Task[Any]) -> None:
        """Nobody waits for this task any more, so that its error is said here."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, MediatorError):
            self._leave_it_there(live, error)
        elif error is not None:
            logger.error("execution %r is left where it stands: %r", live.saga_id, error)

    async def _drive(  # noqa: C901 - one loop, read as a whole
        self, live: Live, records: list[Record] | None = None, *, opens: bool = False
    ) -> Outcome | None:
        """Drive an execution from where it stands; as `Mediator._drive`, awaited."""
        desk, execution = self._desk, live.execution
        try:
            live.driver = asyncio.current_task()
            if live.called:
                await self._look(live)
            at = self._clock()
            if records is None:
                records = desk.first_records(live, at)
            while True:
                written = parks = queues = False
                if not records or not desk.follows_at_once(live):
                    desk.advanced(live, records, at)
                    if not records and execution.group:
                        at = self._clock()  # its branches may have settled since
                        record = await self._attend(live, at)
                        if record is not None:
                            at = record.at
                            records = [record]
                            continue
                    written = not records
                    parks = desk.parks(live, written=written)
                    queues = not parks and not desk.has_turn(live)
                if records or parks or queues is not live.unbegun:
                    commit = desk.commit(live, records, opens=opens, parks=parks, queues=queues)
                    mail = await self._write(commit)
                    opens, live.unbegun = False, queues
                    if desk.observers:
                        desk.observe(live, records)
                    records = []
                    if commit.children or commit.posts:
                        self._spread(commit)
                    if mail and live.note(mail):
                        if commit.held and execution.effect is not None:
                            continue
                        live.called = True  # it is ours no more
                effect = execution.effect
                if effect is None or parks:
                    return self._leave(live)
                if effect.callback is None:
                    if not written and execution.group:
                        continue  # its branches first: they may have settled already
                    at = await self._sit(live)
                elif queues:
                    await self._queue_for_turn(live)
                    at = self._clock()
                else:
                    answer = await self._perform(live, effect)
                    if live.turn is not None:
                        self._holdings.end_turn(live)
                    at = self._clock()
                    record = execution.feed(answer, at, 0.0 if type(answer) is Returned else self._chance())
                    if record is not None:
                        records = [record]
        except LeaseLostError as error:
            self._holdings.drop(live, error)
            if opens:
                raise
            logger.warning("execution %r: %s", execution.saga_id, error)
            return None
        except IdTakenError as error:
            self._holdings.finish(live, error=error)
            raise
        except BaseException as error:
            self._holdings.drop(live, error)  # here and now, though it may block: our task may be being ended
            raise
        finally:  # as in `Mediator._drive_in_memory`
            live = execution = records = record = answer = commit = None  # type: ignore[assignment]

    async def _drive_in_memory(self, live: Live) -> Outcome | None:  # noqa: C901 - one loop, read as a whole
        """As `_drive`, of a new execution in memory; as `Mediator._drive_in_memory`, awaited.

        Plain functions are left to `_drive`, for they run in threads.
        """
        execution, observe = live.execution, self._desk.observers
        row, ended, unwritten = None, False, None
        answer: Answer | None = None
        try:
            live.driver = asyncio.current_task()
            me = self._desk.driver.id
            row = self._in_memory.open_shared(execution.acceptance, me, execution.history)
            if row is None:
                raise IdTakenError(f"an execution {live.saga_id!r} exists; nothing was written")
            at = self._clock()
            record: Any = None
            if execution.deadline_at is None:
                record = execution.begin(at)
            while record is not None and record.children is None:
                if observe:
                    self._desk.observe(live, (record,))
                if live.called or live.stopping or row.mail:
                    break
                effect = execution.effect
                if effect is None:
                    row.driver = None
                    ended = True
                    break
                callback = effect.callback
                if callback is None:
                    record = execution.advance(at)  # a wait of no time
                elif effect.part.timeout is not None or effect.kind == PROBE or not callback.is_coroutine:
                    break
                else:
                    answer = None
                    try:
                        if callback.takes_context:
                            value = await callback.function(execution.acceptance.payload, execution.context(effect))
                        else:
                            value = await callback.function(execution.acceptance.payload)
                    except asyncio.CancelledError:
                        answer = _cancelled_from_inside(effect)
                    except Exception as error:
                        answer = Raised(without_own_frame(error))
                    at = self._clock()
                    if row.driver != me:
                        raise self._in_memory.lost(live.saga_id)
                    if answer is not None:
                        record = execution.feed(answer, at, self._chance())
                    else:
                        record = execution.succeed(value, at)
            if not ended:
                row.wake_at = execution.wake_at
                self._in_memory.unshare(row)
                # Branches come into being in the commit of the record that tells of them.
                unwritten = [record] if record is not None and record.children is not None else None
        except IdTakenError as error:
            self._holdings.finish(live, error=error)
            raise
        except LeaseLostError as error:
            self._holdings.drop(live, error)
            if row is None:
                raise
            logger.warning("execution %r: %s", execution.saga_id, error)
            return None
        except BaseException as error:
            self._holdings.drop(live, error)  # here and now, though it may block: our task may be being ended
            raise
        try:
            if ended:
                return self._leave(live)
            live.called = live.called or bool(row.mail)
            return await self._drive(live, unwritten)
        finally:
            answer = None  # as in `Mediator._drive_in_memory`
            del live, execution, row, record, unwritten

    def _leave(self, live: Live) -> Outcome:
        """Note where an execution stands that has ended, rests or is parked, and see to what wakes it."""
        execution = live.execution
        outcome = execution.outcome()
        ended = outcome.state in ENDED
        live.rests = ended or rests(execution, mail=live.called, resting=live.resting)
        self._holdings.finish(live, outcome)
        if not ended and not live.stopping:
            if live.called:  # also where it is stuck: a branch of it may have been settled meanwhile
                self._resume(live.saga_id)
            elif execution.effect is not None and (until := execution.wake_at) is not None:
                self._wakings.add(until, live.saga_id)
        parent = execution.acceptance.parent
        if parent is not None and parent in self._live:
            self._call(parent)  # whoever waits there for a branch of his must know when it only waits itself
        return outcome

    def _alarm(self, until: float, call: Callable[[], object]) -> None:
        assert self._loop is not None

        def ring() -> None:
            self._alarms.discard(handle)
            if until > self._clock():  # the loop's clock and ours need not run alike
                self._alarm(until, call)
            else:
                call()

        handle = self._loop.call_later(min(max(0.0, until - self._clock()), 60.0), ring)
        self._alarms.add(handle)

    async def _write(self, commit: Commit) -> Written:
        """Have the journal make *commit* durable; the very same again if it cannot at first."""
        attempt = 1
        while True:
            try:
                if not self._blocks:
                    return self._journal.write(commit)
                return await self._in_next_flush(commit)
            except (LeaseLostError, IdTakenError):
                raise
            except JournalError as error:
                if not JOURNAL_RETRY.allows(attempt):
                    raise
                logger.warning("execution %r: %s; trying again", commit.saga_id, error)
                await (self._sleep or asyncio.sleep)(JOURNAL_RETRY.wait(attempt, self._chance()))
                attempt += 1

    def _in_next_flush(self, commit: Commit) -> asyncio.Future[Written]:
        """Have *commit* written with all others that come meanwhile."""
        assert self._loop is not None
        written: asyncio.Future[Written] = self._loop.create_future()
        self._pending_writes.append((commit, written))
        if not self._flushing:
            self._flushing = True
            self._spawn(self._flush())
        return written

    async def _flush(self) -> None:
        """Write what has gathered, in one commit, until there is nothing more: one flush at a time."""
        batch: list[tuple[Commit, asyncio.Future[Written]]] = []
        try:
            while self._pending_writes:
                batch, self._pending_writes = self._pending_writes, []
                commits = [commit for commit, _ in batch]
                results: list[Written | JournalError]
                try:
                    results = await self._off(self._journal.write_all, commits)
                except Exception as error:  # whatever it is: those who wait must not do so for ever
                    logger.debug("a flush failed", exc_info=True)
                    results = [JournalError(f"{error}") for _ in commits]
                for (_, written), result in zip(batch, results, strict=True):
                    if written.done():
                        continue
                    if isinstance(result, JournalError):
                        written.set_exception(result)
                    else:
                        written.set_result(result)
        except BaseException:
            for _, written in (*batch, *self._pending_writes):
                written.cancel()  # we are being ended, and so are they
            self._pending_writes.clear()
            raise
        finally:
            self._flushing = False

    # Branches

    async def _attend(self, live: Live, at: float) -> Record | None:
        """See to the branches of the group that an execution stands in; as `Mediator._attend`, awaited."""
        execution = live.execution
        family = await self._off(families.look, self._desk, execution)
        at = self._clock()  # now, for what the look has found had happened by now
        live.resting = family.resting
        if not live.background:
            for saga_id in family.idle:
                self._resume(saga_id)  # whoever drove it had to leave it, and nobody else is waiting for it
        if execution.cancelled:
            if live.told is None:
                live.told = set()
            for saga_id in family.going_on:
                if saga_id not in live.told:
                    live.told.add(saga_id)
                    live.resting = False
                    if await self._off(self._journal.post, saga_id, families.cancel_for(execution, at)):
                        self._call(saga_id)
        live.untold = False
        for saga_id in family.undo:
            say = verbs.say_undo(self._desk, f"{execution.saga_id!r} compensates its group")
            if not await self._whole(self._say_to_branch(saga_id, say)):
                live.untold = True
        return execution.feed(family.branches, at)

    async def _say_to_stuck_branches(self, live: Live, say: verbs.Verb | None) -> None:
        """A person means the whole: what is said to who is stuck in a group goes to the branches that are."""
        if say is not None and live.execution.group:
            for saga_id in (await self._off(families.look, self._desk, live.execution)).stuck:
                await self._say_to_branch(saga_id, say, to_stuck_branches=say)

    async def _has_left(self, saga_id: str) -> bool:
        """Wait for whoever is just about to leave an execution; False: somebody here is at it, and stays."""
        other = self._live.get(saga_id)
        if other is None:
            return True
        if not other.is_leaving or other.driver is asyncio.current_task():
            return False
        return await self._done_event(other).wait()

    async def _say_to_branch(
        self, saga_id: str, say: verbs.Verb, *, to_stuck_branches: verbs.Verb | None = None
    ) -> bool:
        """Say it durably, and have a task drive the branch on; False: somebody is at it, or this mediator is closed."""
        live = Live(saga_id, background=True)
        while not self._reserves(live):
            if self._closed or not await self._has_left(saga_id):
                return False
        try:
            if not await self._off(functools.partial(self._holdings.take_up, live, for_a_verb=True)):
                self._holdings.finish(live)
                return False
            await self._say_to_stuck_branches(live, to_stuck_branches)
            record = say(live.execution, live.late)
            assert record is not None
            live.recovered = False
            commit = self._desk.commit(live, [record])
            await self._write(commit)
            self._desk.observe(live, [record])
            self._spread(commit)
        except BaseException as error:
            self._holdings.drop(live, error)
            raise
        self._have_driven(live, self._work(live))
        return True

    def _spread(self, commit: Commit) -> None:
        """Have those taken up that came into being with *commit*, or were told something in it."""
        for child in commit.children:
            self._resume(child.saga_id)
        for saga_id, _ in commit.posts:
            self._call(saga_id)

    # Waiting

    async def _sit(self, live: Live) -> float:
        """Wait until the execution is due, something came to its inbox, or a branch may have settled; the time then."""
        until = live.execution.wake_at
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # a step has swallowed it; we have nothing that must not be interrupted
        if until is None:
            if self._closed and self._holdings.branch_of(live.saga_id) is None:
                live.stopping = True
            if not live.called and not live.stopping:
                await self._sit_here(live, None, BRANCHES_POLL)
            if live.called:
                await self._look(live)
            return self._clock()
        at = self._clock()
        wait = until - at
        if self._patience is not None and until > self._patience:
            live.stopping = True
        if wait > 0 and not live.called and not live.stopping:
            if self._sleep is not None:
                await self._sleep(wait)
                at = max(self._clock(), until)
            else:
                await self._sit_here(live, until, wait)
                at = self._clock()
        if live.called:
            await self._look(live)
        return at

    async def _sit_here(self, live: Live, until: float | None, wait: float) -> None:
        assert self._loop is not None
        if live.wake is None:
            live.wake = asyncio.Event()
        live.until = until
        handle = self._loop.call_later(min(wait, 60.0), live.wake.set)  # in slices: our clock may be set
        try:
            await live.wake.wait()
        finally:
            handle.cancel()
            live.until = None
        live.wake.clear()

    async def _queue_for_turn(self, live: Live) -> None:
        """Wait for the turn of an attempt, or for something to come to the inbox."""
        turn, loop = live.turn, self._loop
        assert turn is not None
        assert loop is not None
        wake = live.wake = live.wake or asyncio.Event()

        def come() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody queues there any more
                loop.call_soon_threadsafe(wake.set)

        if turn.then(come) and not live.called and not live.stopping:
            live.until = math.inf
            try:
                await wake.wait()
            finally:
                live.until = None
        wake.clear()
        if live.called:
            await self._look(live)

    async def _look(self, live: Live) -> None:
        live.called = False  # first: what comes while we look is looked for again
        live.note(await self._off(self._journal.inbox, live.saga_id))

    def _call(self, saga_id: str) -> None:
        """Something came to an execution's inbox: have its driver look, or become it."""
        live = self._live.get(saga_id)
        if live is None:
            self._resume(saga_id)
            return
        live.called = True
        if live.wake is not None:
            live.wake.set()

    def _call_from_elsewhere(self, saga_id: str) -> None:
        """As `_call`, for another mediator, in whatever thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing waits there any more
                self._loop.call_soon_threadsafe(self._call, saga_id)

    def _resume(self, saga_id: str) -> Live | None:
        """Have a task take the execution up; None: one is at it, or the mediator is closed."""
        live = Live(saga_id, background=True)
        if not self._reserves(live):
            return None
        self._have_driven(live, self._work(live))
        return live

    def _reserves(self, live: Live) -> bool:
        """Whether nobody here was at this execution, so that it is the caller's to take up now."""
        return not self._closed and self._live.setdefault(live.saga_id, live) is live

    def _done_event(self, live: Live) -> asyncio.Event:
        if live.done is None:
            live.done = asyncio.Event()
            if live.finished:
                live.done.set()
        done: asyncio.Event = live.done
        return done

    # Effects

    async def _perform(self, live: Live, effect: Effect) -> Answer:
        callback = effect.callback
        assert callback is not None
        if not callback.is_coroutine:
            return await self._perform_in_a_thread(live, effect)
        arguments = self._desk.arguments(live, effect)
        if effect.part.timeout is not None:
            return await self._awaited(effect, callback.function(*arguments))
        try:
            value = await callback.function(*arguments)
        except asyncio.CancelledError:
            return _cancelled_from_inside(effect)
        except Exception as error:
            del live  # as in `Mediator._drive_in_memory`
            return Raised(without_own_frame(error))
        return self._desk.returned(effect, value)

    async def _awaited(self, effect: Effect, awaitable: Awaitable[Any]) -> Answer:
        """What comes of *awaitable* within the time-out, if the step has one. It is cancelled then, and awaited."""
        seconds = effect.part.timeout
        patience = asyncio.timeout(seconds)
        try:
            async with patience:
                value = await awaitable
        except TimeoutError as error:
            if patience.expired() and seconds is not None:
                return TimedOut(seconds)
            return Raised(without_own_frame(error))
        except asyncio.CancelledError:
            return _cancelled_from_inside(effect)
        except Exception as error:
            return Raised(without_own_frame(error), patience.expired())
        return self._desk.returned(effect, value, late=patience.expired())

    async def _perform_in_a_thread(self, live: Live, effect: Effect) -> Answer:
        part, callback = effect.part, effect.callback
        assert callback is not None
        assert self._loop is not None
        loop, ended = self._loop, asyncio.Event()
        name = f"fsm-mediator {live.saga_id} {effect.kind} {part.path}"

        def tell(_: ThreadedAttempt) -> None:
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                logger.info("%s answered after its event loop was closed", name)

        async with self._slots:
            attempt = ThreadedAttempt(callback.function, self._desk.arguments(live, effect), name)
            attempt.then(tell)
            live.attempt = attempt
            try:
                late, given_up = await self._answered(live, effect, attempt, ended)
            except RuntimeError as error:
                if attempt.revoke() and not attempt.answered:
                    return Raised(error)  # no more threads: it was not called, and may be later
                raise
            finally:
                live.attempt = None
        if given_up is not None:
            return given_up
        fault = attempt.error
        if fault is None:
            if asyncio.iscoroutine(attempt.value):  # a lambda, or a wrapper of a coroutine function
                return await self._awaited(effect, attempt.value)
            return self._desk.returned(effect, attempt.value, late=late)
        if isinstance(fault, asyncio.CancelledError):
            return Raised(OutcomeUnknownError(f"{callback.label} was cancelled from inside"))
        if isinstance(fault, Exception):
            return Raised(fault, late)
        raise fault

    async def _answered(
        self, live: Live, effect: Effect, attempt: ThreadedAttempt, ended: asyncio.Event
    ) -> tuple[bool, Answer | None]:
        """Whether it answered late; and if it did not at all, what that is."""
        part = effect.part
        may_be_overtaken = part.overtake or effect.kind == PROBE
        try:
            attempt.start()
            if await _within(ended, part.timeout):
                return False, None
            assert part.timeout is not None
            if may_be_overtaken:
                return False, TimedOut(part.timeout)
            grace = part.grace if part.grace is not None else part.timeout
            if await _within(ended, grace):
                return True, None
            self._holdings.leave_behind(live, attempt, effect)
            return True, Abandoned(part.timeout + grace)
        except BaseException:
            if not attempt.revoke() and not may_be_overtaken:
                self._holdings.leave_behind(
                    live, attempt, effect
                )  # the loop is being shut down: nobody may overtake it
            raise

    # Looking, and the verbs of the operator

    async def outcome(self, saga_id: str) -> Outcome:
        """Where an execution stands, as far as it is journaled; as `Mediator.outcome`."""
        check_asked(saga_id)
        await self._open()
        return await self._off(self._desk.outcome, saga_id)

    async def diagram(self, saga_id: str, view: str = "detail") -> Diagram:
        """The picture of an execution's way through the machine; as `Mediator.diagram`."""
        check_asked(saga_id)
        from fsm_mediator.mediator.pictured import diagram_of  # loaded by those who look

        await self._open()
        return await self._off(diagram_of, self._desk, saga_id, view)

    async def executions(
        self, *, state: str | None = None, saga: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """The executions in the journal, newest first; as `Mediator.executions`."""
        check_listing(state, saga, limit)
        await self._open()
        entries = await self._off(lambda: list(self._journal.entries(phase=state, saga=saga, limit=limit)))
        return self._desk.listed(entries, self._live)

    async def cancel(self, saga_id: str, reason: str | None = None) -> None:
        """Have an execution end its attempts and compensate, wherever it is driven; as `Mediator.cancel`."""
        check_asked(saga_id, reason)
        await self._open()
        await self._tell(await self._off(verbs.post_cancel, self._desk, saga_id, reason))

    async def _tell(self, entry: Entry) -> None:
        """Something was posted: have its driver look, or become it."""
        if entry.saga_id in self._live or entry.driver is None or not entry.driver_alive:
            self._call(entry.saga_id)
        else:
            await self._off(call_driver, entry.driver.id, entry.saga_id)

    async def retry(self, saga_id: str, reason: str | None = None) -> Outcome:
        """Try the part that an execution is stuck in again, and drive it on; as `Mediator.retry`."""
        check_asked(saga_id, reason)
        say = verbs.say_retry(self._desk, reason)
        return await self._say(saga_id, say, to_stuck_branches=say)

    async def signal(self, saga_id: str, name: str, value: Any = None) -> None:
        """Say to an execution what it waits for, or will; as `Mediator.signal`."""
        check_asked(saga_id)
        await self._open()
        await self._tell(await self._off(verbs.post_signal, self._desk, saga_id, name, value))

    async def resolve(self, saga_id: str, *, reason: str, done: bool | None = None, result: Any = None) -> Outcome:
        """Settle by hand the part that an execution is stuck in, and drive it on; as `Mediator.resolve`."""
        check_asked(saga_id)
        return await self._say(saga_id, verbs.say_resolve(self._desk, reason, done, result))

    async def undo(self, saga_id: str, reason: str | None = None) -> Outcome:
        """Compensate an execution that has succeeded, newest first; as `Mediator.undo`."""
        check_asked(saga_id, reason)
        verbs.refuse_branch(saga_id)
        return await self._say(saga_id, verbs.say_undo(self._desk, reason))

    async def _say(self, saga_id: str, say: verbs.Verb, *, to_stuck_branches: verbs.Verb | None = None) -> Outcome:
        await self._open()
        live = Live(saga_id)
        while not self._reserves(live):
            if not await self._has_left(saga_id):
                raise AlreadyDrivenError(
                    f"execution {saga_id!r} is being driven by this mediator; wait until it is stuck or has ended"
                )
            await self._open()
        outcome = await self._driven(live, self._said(live, say, to_stuck_branches))
        return outcome if outcome is not None else await self._off(self._desk.outcome, saga_id)

    async def _said(self, live: Live, say: verbs.Verb, to_stuck_branches: verbs.Verb | None) -> Outcome | None:
        try:
            if not await self._off(functools.partial(self._holdings.take_up, for_a_verb=True), live):
                holder = (await self._off(self._desk.entry, live.saga_id)).driver
                raise AlreadyDrivenError(
                    f"execution {live.saga_id!r} is being driven by {holder or 'somebody'}; wait until it is stuck or "
                    f"has ended"
                )
            await self._say_to_stuck_branches(live, to_stuck_branches)
            record = say(live.execution, live.late)
            assert record is not None
            live.recovered = False
            return await self._drive(live, [record])
        except BaseException as error:
            self._holdings.drop(live, error)
            raise

    async def recover(self) -> list[Outcome]:
        """Take up every unfinished execution whose driver is gone; as `Mediator.recover`."""
        await self._open()
        await self._off(self._holdings.release_again)
        outcomes: list[Outcome] = []
        seen: set[str] = set()
        skip: set[str] = set()
        while True:
            found = await self._off(self._journal.claimable, self._clock(), 1000 + len(seen), tuple(skip))
            lives = [self._resume(saga_id) for saga_id in found if saga_id not in seen]
            if not lives:
                along = await self._off(self._desk.parents_taken_along, outcomes)
                waited = [await self._with_branches(outcome) for outcome in outcomes]
                return waited + [await self.wait(saga_id, check=False) for saga_id in along]
            seen.update(found)  # once each: what comes back at once would come back for ever
            for live in lives:
                if live is not None:
                    await self._done_event(live).wait()
                    if live.outcome is not None:
                        outcomes.append(live.outcome)
                    elif (fingerprint := await self._off(self._desk.undrivable, live)) is not None:
                        skip.add(fingerprint)

    async def _with_branches(self, outcome: Outcome) -> Outcome:
        """*outcome*, or the one after it, where it waits for branches that have been taken up as well."""
        if not self._desk.waits_for_branches(outcome):
            return outcome
        return await self.wait(outcome.saga_id, check=False)

    def daemon(self, *, poll: float = 1.0) -> AsyncDaemon:
        """An async context manager: while it lasts, whatever nobody drives and somebody should is taken up.

        It recovers what crashed, wakes what is due, and goes on when the journal cannot be used for a while.

        Args:
            poll: The most seconds between two looks at the journal.
        """
        rounds = Rounds(self._desk, self._live, poll)

        async def find() -> tuple[list[str], float]:
            await self._open()
            return await self._off(rounds.find)

        return AsyncDaemon(rounds, find, self._resume, lambda: self._closed)

    # Closing

    async def _beat(self, seconds: float) -> None:
        """Renew the lease, and notice what other processes put into the inboxes of what this driver holds."""
        while True:
            await asyncio.sleep(seconds)
            try:
                for saga_id in await self._off(self._desk.renew_lease, lambda: self._closed):
                    if saga_id in self._live:
                        self._call(saga_id)
                await self._off(self._holdings.release_again)
            except JournalError as error:
                logger.warning("the lease could not be renewed: %s", error)
            except Exception:  # of a journal that is not ours, say: whoever beats must not end
                logger.exception("the lease could not be renewed")

    async def close(self, grace: float | None = None) -> None:
        """Take no new work, let what is under way go on for a while, then release the rest; as `Mediator.close`."""
        if grace is not None:
            check_left("grace (seconds)", grace)
        if self._closed:
            return
        seconds = self._close_grace if grace is None else grace
        loop, was_used = asyncio.get_running_loop(), self._loop is not None
        if self._loop is not loop:
            self._move_to(loop)
        self._opened = False
        self._patience = self._clock() + seconds
        self._closed = True
        try:
            await self._wait_for_the_rest(loop.time() + seconds, self._patience)
        finally:  # being cancelled ends the patience
            await self._let_go()
            if was_used:
                self._holdings.emptied = self._say_goodbye
                if self._holdings:
                    held = ", ".join([*self._live, *self._holdings.left_behind])
                    logger.warning("closed while attempts are under way, released when they have ended: %s", held)
                else:
                    await self._off(self._say_goodbye)
            if self._owns_journal:
                await self._off(self._journal.close)
            if self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None

    async def _wait_for_the_rest(self, until: float, patience: float) -> None:
        assert self._loop is not None or not self._live
        own, loop = asyncio.current_task(), asyncio.get_running_loop()
        for live in list(self._live.values()):
            if live.until is not None and live.until > patience:
                self._stop(live)
        for live in list(self._live.values()):
            if live.driver is not own:  # else a step of it closes us
                await _within(self._done_event(live), max(0.0, until - loop.time()))

    async def _let_go(self) -> None:
        own, until = asyncio.current_task(), asyncio.get_running_loop().time() + 1.0
        for live in list(self._live.values()):
            self._stop(live)
        for live in list(self._live.values()):
            if live.wake is not None:  # its task is just leaving
                await _within(self._done_event(live), max(0.0, until - asyncio.get_running_loop().time()))
        for handle in self._alarms:
            handle.cancel()
        rest = {task for task in self._tasks if task is not own}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=1.0)  # one that swallows the cancellation is waited for no longer

    def _stop(self, live: Live) -> None:
        """Have its task leave it after the next record."""
        live.stopping = True
        if live.wake is not None:
            live.wake.set()

    def _say_goodbye(self) -> None:
        """The last one is released: be no driver any more."""
        try:
            self._journal.dismiss(self._desk.driver.id)
        except JournalError as error:
            logger.warning("closed, but the journal could not be told: %s", error)


def _cancelled_from_inside(effect: Effect) -> Raised:
    """The answer to a `CancelledError` that is the step's own; one that is meant for our task goes on.

    Raises:
        asyncio.CancelledError: The loop is being shut down: leave it as a crash would.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise  # noqa: PLE0704 - it is only called while one is handled
    assert effect.callback is not None
    return Raised(OutcomeUnknownError(f"{effect.callback.label} was cancelled from inside"))


def _begun_at_once(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for *work*, which its maker is about to await: where Python can, it has run to its first wait by now."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


def _call(mediator: weakref.ref[AsyncMediator], saga_id: str) -> None:
    called = mediator()
    if called is not None:
        called._call_from_elsewhere(saga_id)


async def _within(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether *event* is set within so many seconds."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds) as patience:
            await event.wait()
    except TimeoutError:
        if not patience.expired():
            raise
        return event.is_set()
    return True


_all: weakref.WeakSet[AsyncMediator] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for mediator in list(_all):
        mediator._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
