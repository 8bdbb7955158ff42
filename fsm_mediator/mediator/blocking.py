"""Mediator: drives sagas of plain functions, in the caller's thread or in threads of its own.

One thread at a time drives an execution: it performs the effect, feeds what came of it, has the journal make the
records durable, tells the observers, and asks for the next effect.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import math
import os
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import (
    AlreadyDrivenError,
    JournalError,
    LeaseLostError,
    MediatorClosedError,
    MediatorError,
    RefusedError,
    StepRejectedError,
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
from fsm_mediator.mediator.asking import check_asked, check_left, check_listing, check_settings, check_sleep_is_plain
from fsm_mediator.mediator.desk import BRANCHES_POLL, JOURNAL_RETRY, Desk, left_where_it_stands
from fsm_mediator.mediator.holdings import Holdings, call_driver
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.live import Live, is_at_rest, rests
from fsm_mediator.mediator.threads import Alarms, ThreadedAttempt, Workers, without_own_frame
from fsm_mediator.mediator.wakings import Wakings
from fsm_mediator.observe.observers import Observer
from fsm_mediator.records import Abandoned, Answer, Raised, Record, Returned, TimedOut
from fsm_mediator.states import ENDED

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram
    from fsm_mediator.mediator.daemon import Daemon

logger = logging.getLogger("fsm_mediator")


class Mediator:
    """Drives executions of sagas whose steps are plain functions.

    It opens on first use, and anew after a fork; any number of threads may use it at once. Closing it (or leaving its
    ``with`` block) takes no new work, waits for what is under way up to *close_grace* seconds, and releases the rest
    for whoever recovers it.

    Args:
        *sagas: The sagas it can drive. Of several versions of one name, the last is the one that is started by name.
        journal: Where records are kept: a path or URL of a SQLite file, a `Journal`, or None for memory. One that is
            handed over ready is not closed by `close`.
        observers: Called with each `Record` after its commit.
        max_workers: The most threads that drive executions in the background.
        park_after: An execution in the background that waits longer than so many seconds is held by nobody meanwhile.
        limits: At most so many attempts at a time, by the step's name or path: ``{"billing": 10}``. Who comes later
            queues, first come first served. A `Limits` can be shared by several mediators of a process.
        close_grace: Seconds that `close` waits for attempts under way.
        clock: Tells the time in seconds since the epoch.
        sleep: Waits so many seconds; when it returns the wait counts as over, and nothing is ever parked. By default a
            wait can be interrupted by a cancel.
        chance: Draws a number from 0 to 1 for the jitter of waits.

    Raises:
        DefinitionError: A saga cannot be driven by this mediator, or two have the same name and version.
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
        sleep: Callable[[float], None] | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        functions = {"clock": clock, "sleep": sleep, "chance": chance}
        check_settings(max_workers=max_workers, close_grace=close_grace, observers=observers, **functions)
        check_sleep_is_plain(sleep)
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
            coroutines=False,
        )
        self._journal = self._desk.journal
        self._clock = self._desk.clock
        self._chance = self._desk.chance
        # Limits are kept where attempts are announced, which is in no place of its own in memory.
        plain = type(self._journal) is MemoryJournal and not self._journal.encodes and limits is None
        plain = plain and type(self) is Mediator  # the testing kit's performs and writes otherwise
        self._in_memory: Any = self._journal if plain else None
        self._sleep = sleep
        self._max_workers = int(max_workers)
        self._close_grace = close_grace
        self._closed = False
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        self._opened = False
        self._patience: float | None = None
        self._lock = threading.Lock()
        self._holdings = Holdings(self._desk)
        self._holdings.call = functools.partial(_call, weakref.ref(self))
        self._live = self._holdings.live
        self._workers = Workers(self._max_workers, "fsm-mediator")
        self._alarms = Alarms(self._clock, "fsm-mediator-alarms")
        self._wakings = Wakings(self._alarms.at, self._clock, self._resume)
        self._beating = threading.Event()

    def _after_fork(self) -> None:
        self._desk.after_fork()
        self._begin_anew()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        with self._lock:
            if self._closed:
                raise MediatorClosedError("this mediator is closed; make another one")
            if not self._opened:
                self._journal.enlist(self._desk.driver)
                if self._journal.heartbeat is not None:
                    beat = (weakref.ref(self), self._beating, self._journal.heartbeat)
                    threading.Thread(target=_beat, args=beat, name="fsm-mediator-beat", daemon=True).start()
                self._opened = True

    def register(self, saga: Saga) -> None:
        """Make another saga known.

        Raises:
            DefinitionError: Another one of its name and version is known, or it has coroutine steps.
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

    def run(
        self,
        saga: Saga | str,
        payload: Any = None,
        *,
        saga_id: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        check: bool = True,
    ) -> Outcome:
        """Run a saga to its end in the caller's thread, through retries and sleeps. A return means it succeeded.

        Starting an id twice is idempotent: the second call joins the execution, wherever it is driven.

        Args:
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution; if not given, a UUID that begins with the time (version 7), in hexadecimal.
            timeout: Seconds to wait for the end; the saga then goes on in the background.
            deadline: Seconds from now within which it must have succeeded, else it compensates.
            check: False: return the outcome whatever it is.

        Raises:
            SagaFailedError: It failed, and is compensated.
            SagaStuckError: It waits for a person.
            SagaWaitingError: It is parked.
            StillRunningError: *timeout* has passed.
            PayloadError: The payload is refused; nothing was started.
            SagaIdTakenError: The id belongs to another saga or was given another payload.
            JournalError: The journal cannot be written. The saga goes on from where it stood when the id is run again.
            MediatorClosedError: The mediator is, or was meanwhile, closed.
        """
        if not self._opened:
            self._open()
        execution = self._desk.opened(saga, payload, saga_id, deadline)
        if timeout is not None:
            check_left("timeout (seconds)", timeout)
            self._begin(execution)
            return self.wait(execution.saga_id, timeout=timeout, check=check)
        saga_id = execution.saga_id
        live = Live(saga_id, execution)
        outcome: Outcome | None = None
        try:
            if self._live.setdefault(saga_id, live) is live:
                if self._closed:
                    raise self._closed_error(saga_id, execution.state)
                outcome = self._drive_in_memory(live) if self._in_memory else self._drive(live, opens=True)
        except IdTakenError:
            pass
        except BaseException as error:
            self._holdings.drop(live, error)  # an interrupt may have hit where nobody else takes care
            raise
        if outcome is not None:
            if outcome.state == "succeeded":
                return outcome
            try:
                return self._checked(live, outcome, check)
            finally:
                del live, outcome, execution  # as in `_drive_in_memory`
        if self._was_opened(execution):
            return self.wait(saga_id, check=check)
        return self.run(saga, payload, saga_id=saga_id, deadline=deadline, check=check)

    def start(
        self, saga: Saga | str, payload: Any = None, *, saga_id: str | None = None, deadline: float | None = None
    ) -> str:
        """Accept a saga durably, drive it in the background, and return its id at once.

        Raises:
            PayloadError: The payload is refused; nothing was started.
            SagaIdTakenError: The id belongs to another saga or was given another payload.
        """
        self._open()
        execution = self._desk.opened(saga, payload, saga_id, deadline)
        self._begin(execution)
        return execution.saga_id

    def wait(self, saga_id: str, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """Wait until an execution ends, is stuck or parked; as `run` if it was started elsewhere.

        Retries and sleeps are waited for. Parked is what waits for a signal, or for branches that all rest and wait for
        one or for a person: that may never come, and is not waited for.

        Args:
            saga_id: The execution.
            timeout: Seconds to wait at the most; the execution goes on.
            check: False: return the outcome whatever it is. True: only if it succeeded, else raise as `run` does.

        Raises:
            SagaFailedError: It failed, and is compensated.
            SagaStuckError: It waits for a person.
            SagaWaitingError: It is parked.
            StillRunningError: *timeout* seconds have passed.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id)
        if timeout is not None:
            check_left("timeout (seconds)", timeout)
        self._open()
        until = None if timeout is None else time.monotonic() + timeout
        pause = 0.002
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            live = self._live.get(saga_id)
            if live is not None:
                if live.driver == threading.get_ident():
                    raise RefusedError(f"a step of execution {saga_id!r} waits for that execution, which waits for it")
                if self._is_finished(live, left):
                    told = self._desk.told_to_who_waits(live, closed=self._closed)
                    if told is not None:
                        return self._checked(live, told, check)
                    if left is not None and type(live.error) is JournalError:
                        raise live.error  # else: what its driver could not do, this thread tries itself
                    continue
            else:
                entry = self._desk.entry(saga_id)
                outcome, pause = self._looked_at(entry, left, pause)
                if outcome is not None:
                    return self._desk.checked(outcome, check)
            if left == 0.0:
                assert timeout is not None
                raise StillRunningError(saga_id, self._desk.entry(saga_id).state, timeout)

    def _looked_at(self, entry: Entry, left: float | None, pause: float) -> tuple[Outcome | None, float]:
        """What can be done about an execution that was driven by nobody here a moment ago: its outcome, if it rests.

        It is driven on by this thread, or by a worker if there is no time for that, or waited for. Returns as well how
        long to wait next time.
        """
        saga_id = entry.saga_id
        left_behind = self._holdings.left_behind.get(saga_id)
        elsewhere = entry.driver_alive and entry.driver is not None and entry.driver.id != self._desk.driver.id
        if not elsewhere or is_at_rest(entry.state):
            outcome = families.parked_outcome(self._desk, entry)
            if outcome is not None:
                return outcome, pause
        if self._closed:
            raise self._closed_error(saga_id, entry.state)
        if left_behind is not None:
            with self._workers.blocked():
                if not left_behind.attempt.wait(left):
                    return None, pause
            pause = 0.001  # its answer is just being noted
        elif not elsewhere and left is None:
            live = Live(saga_id)
            outcome = self._taken_up(live)
            if outcome is not None or live.epoch:
                return outcome, pause
        elif (branch := None if elsewhere else self._branch_of(entry)) is not None:
            self._is_finished(branch, BRANCHES_POLL if left is None else min(left, BRANCHES_POLL))
            return None, pause
        elif (
            not elsewhere
            and (entry.wake_at is None or entry.mail or entry.wake_at <= self._clock())
            and self._resume(saga_id) is not None
            and not self._desk.stands_in_group(entry)  # which parks again at once, until a branch has settled
        ):
            return None, pause
        # Somebody else drives it, or it is parked: look again, less and less often.
        with self._workers.blocked():
            time.sleep(pause if left is None else min(pause, left))
        return None, min(pause * 1.5, 0.25)

    def _branch_of(self, entry: Entry) -> Live | None:
        """One of the branches that a parked execution waits for, if some are driven here and none has said a word."""
        if entry.called or not self._desk.stands_in_group(entry):
            return None
        return self._holdings.branch_of(entry.saga_id)

    def _taken_up(self, live: Live) -> Outcome | None:
        """Take up and drive, in this thread; None: that was not to be."""
        try:
            if not self._reserves(live):
                return None
            if not self._holdings.take_up(live):
                self._holdings.finish(live)
                return None
            outcome = self._drive(live)
        except BaseException as error:
            self._holdings.drop(live, error)
            raise
        return outcome if live.rests else None

    def _begin(self, execution: Execution) -> None:
        """Journal a new execution as pending, held by this driver, and have a worker drive it."""
        saga_id = execution.saga_id
        live = Live(saga_id, execution, background=True)
        live.context = contextvars.copy_context()
        try:
            while self._live.setdefault(saga_id, live) is not live:
                if self._was_opened(execution):
                    return
            if self._closed:
                raise self._closed_error(saga_id, execution.state)
            self._write(self._desk.commit(live, (), opens=True))
            self._queue(live)
        except IdTakenError as error:
            self._holdings.finish(live, error=error)
            if self._was_opened(execution) and not is_at_rest(self._desk.entry(saga_id).state):
                self._resume(saga_id)
        except BaseException as error:
            self._drop_unless_worked(live, error)
            raise

    def _was_opened(self, execution: Execution) -> bool:
        """Whether the execution that has the id of this one is in the journal; False: its opening failed.

        Raises:
            SagaIdTakenError: It is another operation than this one.
        """
        pause = 0.001
        while (entry := self._journal.find(execution.saga_id)) is None:
            live = self._live.get(execution.saga_id)
            if live is None:
                entry = self._journal.find(execution.saga_id)
                break
            self._is_finished(live, pause)  # it is about to be written, or refused
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

    # Driving

    def _work(self, live: Live, seat: object) -> None:
        """A worker's job: drive, until it ends, parks, or waits for its alarm."""
        if not self._takes_seat(live, seat):
            return
        try:
            if live.epoch or self._holdings.take_up(live):
                self._drive(live)
            else:
                self._holdings.finish(live)
        except MediatorError as error:
            again = left_where_it_stands(live, error)
            self._holdings.drop(live, error)  # last: who waits for it finds it said
            if again is not None and not self._closed:
                self._wakings.add(self._clock() + again, live.saga_id)
        except BaseException as error:
            logger.exception("execution %r is left where it stands", live.saga_id)
            self._holdings.drop(live, error)

    def _drive(  # noqa: C901 - one loop, read as a whole
        self, live: Live, records: list[Record] | None = None, *, opens: bool = False
    ) -> Outcome | None:
        """Drive an execution from where it stands; *records*, if given, are made but not yet written.

        Returns:
            Where it stood when it was left; None if it goes on elsewhere: on an alarm, or under another driver.

        Raises:
            BaseException: Whatever a step raised that is no `Exception`, after the execution was released in a state
                from which it can be driven on; or a `JournalError` if the journal cannot be written.
        """
        desk, execution = self._desk, live.execution
        try:
            live.driver = threading.get_ident()
            if live.called:
                self._look(live)
            at = self._clock()
            if records is None:
                records = desk.first_records(live, at)
            while True:
                written = parks = queues = False
                if not records or not desk.follows_at_once(live):
                    desk.advanced(live, records, at)
                    if not records and execution.group:
                        at = self._clock()  # its branches may have settled since
                        record = self._attend(live, at)
                        if record is not None:
                            at = record.at
                            records = [record]
                            continue
                    written = not records
                    parks = desk.parks(live, written=written)
                    queues = not parks and not desk.has_turn(live)
                if records or parks or queues is not live.unbegun:
                    commit = desk.commit(live, records, opens=opens, parks=parks, queues=queues)
                    mail = self._write(commit)
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
                    now = self._sit(live)
                    if now is None:
                        return None
                    at = now
                elif queues:
                    if not self._queues_here(live):
                        return None
                    at = self._clock()
                else:
                    answer = self._perform(live, effect)
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
            self._holdings.drop(live, error)
            raise
        finally:  # as in `_drive_in_memory`
            live = execution = records = record = answer = commit = None  # type: ignore[assignment]

    def _drive_in_memory(self, live: Live) -> Outcome | None:  # noqa: C901 - one loop, read as a whole
        """As `_drive`, of a new execution in memory, for as long as all that happens is that steps are attempted.

        Each record is journaled by being made, for the journal's list of them is the execution's own. What is out of
        the usual (something in the inbox, a wait, a time-out, a deadline, closing) is left to `_drive`.
        """
        execution, observe = live.execution, self._desk.observers
        row, ended, unwritten = None, False, None
        try:
            live.driver = threading.get_ident()
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
                elif effect.part.timeout is not None or effect.kind == PROBE:
                    break
                else:
                    try:
                        if callback.takes_context:
                            value = callback.function(execution.acceptance.payload, execution.context(effect))
                        else:
                            value = callback.function(execution.acceptance.payload)
                    except Exception as error:
                        at = self._clock()
                        if row.driver != me:
                            raise self._in_memory.lost(live.saga_id) from None
                        record = execution.feed(Raised(without_own_frame(error)), at, self._chance())
                    else:
                        at = self._clock()
                        if row.driver != me:
                            raise self._in_memory.lost(live.saga_id)
                        if type(value) is types.CoroutineType:
                            record = execution.feed(_unawaited(effect, value), at, self._chance())
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
            self._holdings.drop(live, error)
            raise
        try:
            if ended:
                return self._leave(live)
            live.called = live.called or bool(row.mail)
            return self._drive(live, unwritten)
        finally:
            # The error of a step keeps the frames that it came through, this one too: it must not keep, in turn, all
            # that the run knew, the error included. Such circles are what the garbage collector is slow with.
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
                self._park(live.saga_id, until)
        parent = execution.acceptance.parent
        if parent is not None and parent in self._live:
            self._call(parent)  # whoever waits there for a branch of his must know when it only waits itself
        return outcome

    def _park(self, saga_id: str, until: float) -> None:
        self._wakings.add(until, saga_id)

    def _write(self, commit: Commit) -> Written:
        """Have the journal make *commit* durable; the very same again if it cannot at first."""
        attempt = 1
        while True:
            try:
                return self._journal.write(commit)
            except (LeaseLostError, IdTakenError):
                raise
            except JournalError as error:
                if not JOURNAL_RETRY.allows(attempt):
                    raise
                logger.warning("execution %r: %s; trying again", commit.saga_id, error)
                (self._sleep or time.sleep)(JOURNAL_RETRY.wait(attempt, self._chance()))
                attempt += 1

    # Branches

    def _attend(self, live: Live, at: float) -> Record | None:
        """See to the branches of the group that an execution stands in; its record, once there is one to be made."""
        execution = live.execution
        family = families.look(self._desk, execution)
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
                    if self._journal.post(saga_id, families.cancel_for(execution, at)):
                        self._call(saga_id)
        live.untold = False
        for saga_id in family.undo:
            say = verbs.say_undo(self._desk, f"{execution.saga_id!r} compensates its group")
            if not self._say_to_branch(saga_id, say):
                live.untold = True
        return execution.feed(family.branches, at)

    def _say_to_stuck_branches(self, live: Live, say: verbs.Verb | None) -> None:
        """A person means the whole: what is said to who is stuck in a group goes to the branches that are."""
        if say is not None and live.execution.group:
            for saga_id in families.look(self._desk, live.execution).stuck:
                self._say_to_branch(saga_id, say, to_stuck_branches=say)

    def _has_left(self, saga_id: str) -> bool:
        """Wait for whoever is just about to leave an execution; False: somebody here is at it, and stays."""
        other = self._live.get(saga_id)
        if other is None:
            return True
        if not other.is_leaving or other.driver == threading.get_ident():
            return False
        return self._is_finished(other, None)

    def _say_to_branch(self, saga_id: str, say: verbs.Verb, *, to_stuck_branches: verbs.Verb | None = None) -> bool:
        """Say it durably, and have a worker drive the branch on; False: somebody is at it, or this one is closed."""
        live = Live(saga_id, background=True)
        try:
            while not self._reserves(live):
                if self._closed or not self._has_left(saga_id):
                    return False
            if not self._holdings.take_up(live, for_a_verb=True):
                self._holdings.finish(live)
                return False
            self._say_to_stuck_branches(live, to_stuck_branches)
            record = say(live.execution, live.late)
            assert record is not None
            live.recovered = False
            commit = self._desk.commit(live, [record])
            self._write(commit)
            self._desk.observe(live, [record])
            self._spread(commit)
            self._queue(live)
        except BaseException as error:
            self._drop_unless_worked(live, error)
            raise
        return True

    def _spread(self, commit: Commit) -> None:
        """Have those taken up that came into being with *commit*, or were told something in it."""
        for child in commit.children:
            self._resume(child.saga_id)
        for saga_id, _ in commit.posts:
            self._call(saga_id)

    # Waiting

    def _sit(self, live: Live) -> float | None:
        """Wait until the execution is due, something came to its inbox, or a branch may have settled.

        Returns:
            The time then; None: nobody sits here any more, an alarm will have it driven on.
        """
        until = live.execution.wake_at
        if until is None:
            if self._closed and self._holdings.branch_of(live.saga_id) is None:
                live.stopping = True
            if not live.called and not live.stopping:
                self._sit_here(live, None, BRANCHES_POLL)
            if live.called:
                self._look(live)
            return self._clock()
        at = self._clock()
        wait = until - at
        if self._patience is not None and until > self._patience:
            live.stopping = True
        if wait > 0 and not live.called and not live.stopping:
            if self._sleep is not None:
                self._sleep(wait)
                at = max(self._clock(), until)
            elif live.background:
                self._leave_to_an_alarm(live, until)
                return None
            else:
                self._sit_here(live, until, wait)
                at = self._clock()
        if live.called:
            self._look(live)
        return at

    def _sit_here(self, live: Live, until: float | None, wait: float) -> None:
        with self._lock:
            if live.wake is None:
                live.wake = threading.Event()
        live.until = until
        if not live.called and not live.stopping:  # who sets these looks for `wake` after that
            with self._workers.blocked():
                live.wake.wait(min(wait, 60.0))  # in slices, for the system's clock may be set meanwhile
        live.until = None
        live.wake.clear()

    def _leave_to_an_alarm(self, live: Live, until: float) -> None:
        live.driver = None
        seat = object()
        with self._lock:
            live.until = until
            live.seat = seat
            live.alarm = self._alarms.at(until, functools.partial(self._wake, live, seat))
        if live.called or live.stopping or self._closed:  # that came while nobody was seen to sit
            self._wake(live, seat)

    def _queues_here(self, live: Live) -> bool:
        """Wait for the turn of an attempt; False: nobody waits here, a worker goes on with it when it has come."""
        turn = live.turn
        assert turn is not None
        if not live.background:
            with self._lock:
                wake = live.wake = live.wake or threading.Event()
            if turn.then(wake.set) and not live.called and not live.stopping:
                with self._workers.blocked():
                    wake.wait()
            wake.clear()
            if live.called:
                self._look(live)
            return True
        live.driver = None
        seat = object()
        with self._lock:
            live.until, live.seat = math.inf, seat
        if not turn.then(functools.partial(self._wake, live, seat)) or live.called or live.stopping or self._closed:
            self._wake(live, seat)
        return False

    def _look(self, live: Live) -> None:
        live.called = False  # first: what comes while we look is looked for again
        live.note(self._journal.inbox(live.saga_id))

    def _takes_seat(self, live: Live, seat: object = None) -> bool:
        """Whether nobody is at *live* (since it was given this *seat*), so that it is the caller's now."""
        with self._lock:
            if live.seat is None or (seat is not None and live.seat is not seat):
                return False
            live.seat = live.until = None
            live.driver = threading.get_ident()
            alarm, live.alarm = live.alarm, None
        if alarm is not None:
            alarm.cancel()
        return True

    def _queue(self, live: Live) -> None:
        """Have a worker drive it."""
        live.driver = None
        live.seat = seat = object()
        if not self._workers.submit(functools.partial(self._work, live, seat), live.context) and self._takes_seat(live):
            self._holdings.drop(live)  # closed

    def _drop_unless_worked(self, live: Live, error: BaseException) -> None:
        """An interrupt hit while it was handed to a worker: if that has not begun with it, nobody will."""
        if self._takes_seat(live) or live.driver is None:
            self._holdings.drop(live, error)

    def _wake(self, live: Live, seat: object = None) -> None:
        """Have an execution that waits in the background driven on, once."""
        if self._takes_seat(live, seat):
            self._queue(live)

    def _call(self, saga_id: str) -> None:
        """Something came to an execution's inbox: have its driver look, or become it."""
        while True:
            live = self._live.get(saga_id)
            if live is None:
                self._resume(saga_id)
                return
            live.called = True
            self._rouse(live)
            if not live.finished:
                return

    def _rouse(self, live: Live) -> None:
        with self._lock:
            wake, waits = live.wake, live.until is not None
        if wake is not None:
            wake.set()
        if waits:
            self._wake(live)

    def _resume(self, saga_id: str) -> Live | None:
        """Have a worker take the execution up; None: somebody here is at it, or the mediator is closed."""
        live = Live(saga_id, background=True)
        try:
            if not self._reserves(live):
                return None
            self._queue(live)
        except BaseException as error:
            self._drop_unless_worked(live, error)
            raise
        return live

    def _reserves(self, live: Live) -> bool:
        """Whether nobody here was at this execution, so that it is the caller's to take up now."""
        if self._live.setdefault(live.saga_id, live) is not live:
            return False
        if self._closed:
            self._holdings.finish(live)
            return False
        return True

    def _is_finished(self, live: Live, seconds: float | None) -> bool:
        """Wait until nobody drives *live* any more; False: so many seconds have passed."""
        done = self._done_event(live)
        if done.is_set():
            return True
        with self._workers.blocked():
            return done.wait(seconds)

    def _done_event(self, live: Live) -> threading.Event:
        with self._lock:
            if live.done is None:
                live.done = threading.Event()
        if live.finished:  # it may have finished before it could see that somebody waits
            live.done.set()
        done: threading.Event = live.done
        return done

    # Effects

    def _perform(self, live: Live, effect: Effect) -> Answer:
        callback = effect.callback
        assert callback is not None
        if effect.part.timeout is not None:
            return self._perform_in_time(live, effect)
        try:
            value = callback.function(*self._desk.arguments(live, effect))
        except Exception as error:
            del live  # as in `_drive_in_memory`
            return Raised(without_own_frame(error))
        if type(value) is types.CoroutineType:
            return _unawaited(effect, value)
        return self._desk.returned(effect, value)

    def _perform_in_time(self, live: Live, effect: Effect) -> Answer:
        part, callback = effect.part, effect.callback
        assert callback is not None
        assert part.timeout is not None
        name = f"fsm-mediator {live.saga_id} {effect.kind} {part.path}"
        attempt = ThreadedAttempt(callback.function, self._desk.arguments(live, effect), name)
        seconds, late = part.timeout, False
        may_be_overtaken = part.overtake or effect.kind == PROBE
        try:
            attempt.start()
            if not attempt.wait(seconds):
                if may_be_overtaken:
                    return TimedOut(seconds)
                grace = part.grace if part.grace is not None else part.timeout
                seconds, late = seconds + grace, True
                if not attempt.wait(grace):
                    self._holdings.leave_behind(live, attempt, effect)
                    return Abandoned(seconds)
        except BaseException as error:
            if attempt.revoke():
                if isinstance(error, RuntimeError):
                    return Raised(error)  # no more threads: it was not called, and may be later
            elif not may_be_overtaken:
                self._holdings.leave_behind(live, attempt, effect)  # Ctrl-C while we waited: nobody may overtake it
            raise
        fault = attempt.error
        if fault is None:
            if type(attempt.value) is types.CoroutineType:
                return _unawaited(effect, attempt.value)
            return self._desk.returned(effect, attempt.value, late=late)
        if isinstance(fault, Exception):
            return Raised(fault, late)
        raise fault

    # Looking, and the verbs of the operator

    def outcome(self, saga_id: str) -> Outcome:
        """Where an execution stands, as far as it is journaled.

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id)
        self._open()
        return self._desk.outcome(saga_id)

    def diagram(self, saga_id: str, view: str = "detail") -> Diagram:
        """The picture of the machine with an execution's way through it, as far as it is journaled.

        Of a saga with groups or choices also the branches' machines, each with its own execution's way.

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id)
        from fsm_mediator.mediator.pictured import diagram_of  # loaded by those who look

        self._open()
        return diagram_of(self._desk, saga_id, view)

    def executions(self, *, state: str | None = None, saga: str | None = None, limit: int | None = None) -> list[Entry]:
        """The executions in the journal, newest first.

        Args:
            state: Only those in this state, or in this phase: ``stuck`` or ``stuck.charge``.
            saga: Only those of the saga of this name.
            limit: At most so many.
        """
        check_listing(state, saga, limit)
        self._open()
        return self._desk.listed(self._journal.entries(phase=state, saga=saga, limit=limit), self._live)

    def cancel(self, saga_id: str, reason: str | None = None) -> None:
        """Have an execution end its attempts and compensate, wherever it is driven.

        An attempt under way is waited for; should it complete the pivot or the last part, that counts.

        Raises:
            RefusedError: It has ended, is compensating already, is stuck, or is past its pivot.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id, reason)
        self._open()
        self._tell(verbs.post_cancel(self._desk, saga_id, reason))

    def _tell(self, entry: Entry) -> None:
        """Something was posted: have its driver look, or become it."""
        if entry.saga_id in self._live or entry.driver is None or not entry.driver_alive:
            self._call(entry.saga_id)
        else:
            call_driver(entry.driver.id, entry.saga_id)

    def retry(self, saga_id: str, reason: str | None = None) -> Outcome:
        """Try the part that an execution is stuck in again, and drive it on; attempts count anew.

        Returns:
            Where it stands then, succeeded or not.

        Raises:
            RefusedError: It is not stuck, or somebody drives it.
        """
        check_asked(saga_id, reason)
        say = verbs.say_retry(self._desk, reason)
        return self._say(saga_id, say, to_stuck_branches=say)

    def signal(self, saga_id: str, name: str, value: Any = None) -> None:
        """Say to an execution what it waits for, or will: it goes on with *value* as the signal's result.

        The first value counts. The same again is harmless, and what comes before it is waited for is kept.

        Args:
            saga_id: The execution.
            name: The signal; in a nested saga ``inner.signal``, in a branch ``group.branch.signal``.
            value: Of the signal's `payload` type.

        Raises:
            RefusedError: There is no such signal, it is not awaited any more, or came with another value.
            PayloadError: The value is of another type, or cannot be journaled.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_asked(saga_id)
        self._open()
        self._tell(verbs.post_signal(self._desk, saga_id, name, value))

    def resolve(self, saga_id: str, *, reason: str, done: bool | None = None, result: Any = None) -> Outcome:
        """Settle by hand the part that an execution is stuck in, and drive it on.

        Args:
            saga_id: The execution.
            reason: How you made sure; journaled.
            done: True: the step has its effect, *result* is its result. False: it has none. May be left out where only
                one of the two is possible.
            result: What the step would have returned.

        Raises:
            RefusedError: It is not stuck, somebody drives it, or *done* does not fit.
        """
        check_asked(saga_id)
        return self._say(saga_id, verbs.say_resolve(self._desk, reason, done, result))

    def undo(self, saga_id: str, reason: str | None = None) -> Outcome:
        """Compensate an execution that has succeeded, newest first; it ends ``failed`` with a `SagaUndoneError`.

        Raises:
            RefusedError: It has not succeeded, has a pivot, has nothing to compensate, or is a branch.
        """
        check_asked(saga_id, reason)
        verbs.refuse_branch(saga_id)
        return self._say(saga_id, verbs.say_undo(self._desk, reason))

    def _say(self, saga_id: str, say: verbs.Verb, *, to_stuck_branches: verbs.Verb | None = None) -> Outcome:
        self._open()
        live = Live(saga_id)
        try:
            while not self._reserves(live):
                if not self._has_left(saga_id):
                    raise AlreadyDrivenError(
                        f"execution {saga_id!r} is being driven by this mediator; wait until it is stuck or has ended"
                    )
                self._open()
            if not self._holdings.take_up(live, for_a_verb=True):
                holder = self._desk.entry(saga_id).driver
                raise AlreadyDrivenError(
                    f"execution {saga_id!r} is being driven by {holder or 'somebody'}; wait until it is stuck or has "
                    f"ended"
                )
            self._say_to_stuck_branches(live, to_stuck_branches)
            record = say(live.execution, live.late)
            assert record is not None
            live.recovered = False
            outcome = self._drive(live, [record])
        except BaseException as error:
            self._holdings.drop(live, error)
            raise
        return outcome if outcome is not None else self._desk.outcome(saga_id)

    def recover(self) -> list[Outcome]:
        """Take up every unfinished execution whose driver is gone, drive it on, and wait until all are at rest.

        Those whose branches are taken up are waited for as well.

        Those that no registered saga can drive are left as they are and logged, with the reason.

        Returns:
            The outcome of each one taken up.
        """
        self._open()
        self._holdings.release_again()
        outcomes: list[Outcome] = []
        seen: set[str] = set()
        skip: set[str] = set()
        while True:
            found = self._journal.claimable(self._clock(), 1000 + len(seen), tuple(skip))
            lives = [self._resume(saga_id) for saga_id in found if saga_id not in seen]
            if not lives:
                along = self._desk.parents_taken_along(outcomes)
                waited = [self._with_branches(outcome) for outcome in outcomes]
                return waited + [self.wait(saga_id, check=False) for saga_id in along]
            seen.update(found)  # once each: what comes back at once would come back for ever
            for live in lives:
                if live is not None:
                    self._is_finished(live, None)
                    if live.outcome is not None:
                        outcomes.append(live.outcome)
                    elif (fingerprint := self._desk.undrivable(live)) is not None:
                        skip.add(fingerprint)

    def _with_branches(self, outcome: Outcome) -> Outcome:
        """*outcome*, or the one after it, where it waits for branches that have been taken up as well."""
        return self.wait(outcome.saga_id, check=False) if self._desk.waits_for_branches(outcome) else outcome

    def daemon(self, *, poll: float = 1.0) -> Daemon:
        """A context manager: while it lasts, whatever nobody drives and somebody should is taken up and driven on.

        It recovers what crashed, wakes what is due, and goes on when the journal cannot be used for a while.

        Args:
            poll: The most seconds between two looks at the journal.
        """
        from fsm_mediator.mediator.daemon import Daemon, Rounds  # loaded by those who have one

        self._open()
        return Daemon(Rounds(self._desk, self._live, poll), self._resume, lambda: self._closed)

    # Closing

    def _beat_once(self) -> None:
        """Renew the lease, and notice what other processes put into the inboxes of what this driver holds."""
        try:
            for saga_id in self._desk.renew_lease(lambda: self._closed):
                if saga_id in self._live:
                    self._call(saga_id)
            self._holdings.release_again()
        except JournalError as error:
            logger.warning("the lease could not be renewed: %s", error)
        except Exception:  # of a journal that is not ours, say: whoever beats must not end
            logger.exception("the lease could not be renewed")

    def close(self, grace: float | None = None) -> None:
        """Take no new work, let what is under way go on for a while, then release the rest; again is harmless.

        What was started ends if it can within the grace. What waits for longer than that is released at once, and what
        is in the midst of an attempt by then is released once that has ended, or recovered if this process ends first.
        Whoever waits in `run` for something that was released gets a `MediatorClosedError`.

        Args:
            grace: Seconds; by default *close_grace*.
        """
        if grace is not None:
            check_left("grace (seconds)", grace)
        seconds = self._close_grace if grace is None else grace
        with self._lock:
            if self._closed:
                return
            opened, self._opened = self._opened, False
            self._patience = self._clock() + seconds
            self._closed = True
        until = time.monotonic() + seconds
        try:
            self._wait_for_the_rest(until, self._patience)
        finally:  # Ctrl-C ends the patience
            self._let_go()
            if opened:
                self._holdings.emptied = self._say_goodbye
                if self._holdings:
                    held = ", ".join([*self._live, *self._holdings.left_behind])
                    logger.warning("closed while attempts are under way, released when they have ended: %s", held)
                else:
                    self._say_goodbye()
            if self._owns_journal:
                self._journal.close()

    def _wait_for_the_rest(self, until: float, patience: float) -> None:
        for live in list(self._live.values()):
            due = live.until
            if due is not None and due > patience:
                self._stop(live)
        for live in list(self._live.values()):
            if live.driver != threading.get_ident():  # else a step of it closes us
                self._done_event(live).wait(max(0.0, until - time.monotonic()))

    def _let_go(self) -> None:
        until = time.monotonic() + 1.0
        for live in list(self._live.values()):
            self._stop(live)
        for live in list(self._live.values()):
            if live.wake is not None:  # its thread is just leaving
                self._done_event(live).wait(max(0.0, until - time.monotonic()))
        self._alarms.stop()
        self._workers.stop()
        for live in list(self._live.values()):  # what was queued or set in the meantime
            self._stop(live)

    def _stop(self, live: Live) -> None:
        """Have whoever is at it leave it after the next record; if nobody is, leave it here and now."""
        live.stopping = True
        with self._lock:
            wake = live.wake
        if wake is not None:
            wake.set()
        if self._takes_seat(live):
            self._holdings.drop(live, outcome=live.execution.outcome() if live.epoch else None)

    def _say_goodbye(self) -> None:
        """The last one is released: be no driver any more."""
        self._beating.set()
        try:
            self._journal.dismiss(self._desk.driver.id)
        except JournalError as error:
            logger.warning("closed, but the journal could not be told: %s", error)


def _call(mediator: weakref.ref[Mediator], saga_id: str) -> None:
    called = mediator()
    if called is not None:
        called._call(saga_id)


def _beat(mediator: weakref.ref[Mediator], stop: threading.Event, seconds: float) -> None:
    """Beat for as long as the mediator exists: one that nobody closed must not be kept by its own thread."""
    while not stop.wait(seconds):
        beating = mediator()
        if beating is None:
            return
        beating._beat_once()
        del beating


def _unawaited(effect: Effect, value: Any) -> Raised:
    value.close()
    assert effect.callback is not None
    return Raised(
        StepRejectedError(
            f"{effect.callback.label} returned a coroutine, which Mediator cannot await; nothing was done. "
            f"Use AsyncMediator, or make it a plain function"
        )
    )


_all: weakref.WeakSet[Mediator] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for mediator in list(_all):
        mediator._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
