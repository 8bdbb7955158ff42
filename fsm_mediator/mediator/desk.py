"""Desk: what `Mediator` and `AsyncMediator` have in common, which is all that neither waits nor calls a step.

It knows the registered sagas, opens executions and folds them from the journal, makes commits of records and tells the
observers. Its methods may block on the journal; who must not, calls them in a thread.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsm_mediator.definition.saga import Saga, shape_of
from fsm_mediator.errors import (
    DefinitionChangedError,
    DefinitionError,
    JournalError,
    LeaseLostError,
    MediatorError,
    PayloadError,
    RefusedError,
    ResultRefusedError,
    SagaFailedError,
    SagaIdTakenError,
    SagaNotSucceededError,
    SagaStuckError,
    SagaWaitingError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal import codec
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Journal
from fsm_mediator.machine.parts import AWAIT, EXECUTE, GROUPS, PROBE, Effect
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.live import Live, is_at_rest
from fsm_mediator.records import (
    BEGIN,
    CHILD,
    Acceptance,
    Begin,
    Crashed,
    Happened,
    InboxItem,
    Raised,
    Record,
    Returned,
)
from fsm_mediator.retry import Retry, check_number
from fsm_mediator.states import COMPENSATING, ENDED, PENDING, WAITING

if TYPE_CHECKING:
    from fsm_mediator.observe.observers import Observer

logger = logging.getLogger("fsm_mediator")

_ids = random.Random()  # noqa: S311 - unique, not secret; a generator of our own, for users seed the shared one
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)

JOURNAL_RETRY: Final = Retry(attempts=6, wait_initial=0.05, wait_max=1.0, wait_jitter=0.05)
"""How often a commit that failed is tried again before its execution is dropped, to be folded anew from the journal."""


LATER: Final = 30.0
"""Seconds after which what was driven in the background is taken up again, where it was dropped by the journal's fault.
A daemon finds it sooner."""

BRANCHES_POLL: Final = 1.0
"""The most seconds between two looks at branches that are waited for: some may be driven by other processes."""

GIVEN_KEPT: Final = 256
"""Of how many groups the results are kept in mind that their branches see."""


def left_where_it_stands(live: Live, error: MediatorError) -> float | None:
    """Say that nobody drives it any more; the seconds after which to take it up again, None: not by itself."""
    wait = LATER if type(error) is JournalError else None
    later = "" if wait is None else f", and taken up again in {wait:g} s"
    logger.error("execution %r is left where it stands%s: %s", live.saga_id, later, error)
    return wait


class Desk:
    """The registered sagas, the journal, and everything about executions that is not driving them.

    Attributes:
        journal: Where records are kept.
        clock: Tells the time, in seconds since the epoch.
        park_after: An execution in the background that waits longer than so many seconds is held by nobody meanwhile.
        observers: Whether anybody is to be told of records.
    """

    def __init__(
        self,
        sagas: Sequence[Saga],
        journal: Journal,
        observers: Iterable[Observer],
        *,
        driver: Callable[[], Driver],
        clock: Callable[[], float] | None,
        chance: Callable[[], float] | None,
        park_after: float,
        sleeps: bool,
        coroutines: bool,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        check_number("park_after (seconds)", park_after)
        self.journal = journal
        self.clock = clock or time.time
        self.chance = chance or random.random
        self.park_after = park_after
        self._limits = limits if limits is None or isinstance(limits, Limits) else Limits(limits)
        self._sleeps = sleeps
        self._coroutines = coroutines
        self._observers = tuple(observers)
        self.observers: Final = bool(self._observers)
        for observer in self._observers:
            if not callable(observer):
                raise DefinitionError(f"an observer is a callable that takes a Record, not {observer!r}")
            if isinstance(observer, type):
                raise DefinitionError(f"observer {observer!r} is a class; give an instance: {observer.__name__}(...)")
            if any(map(inspect.iscoroutinefunction, (observer, getattr(type(observer), "__call__", None)))):  # noqa: B004
                raise DefinitionError(
                    f"observer {observer!r} is a coroutine function, and observers are not awaited; make it a plain "
                    f"function that hands the record on"
                )
        self._by_name: dict[str, Saga] = {}
        self._by_version: dict[tuple[str, str], Saga] = {}
        self._branches: dict[tuple[str, ...], Saga] = {}
        self._given: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._make_driver = driver
        self.driver = driver()
        for saga in sagas:
            self.register(saga)

    def after_fork(self) -> None:
        """Become another driver: the one before lives on in the parent."""
        self.driver = self._make_driver()

    def renew_lease(self, closed: Callable[[], bool]) -> tuple[str, ...]:
        """Renew the driver's lease; which of the executions that it holds have something in their inbox.

        One that was forgotten enlists again. What it held is free by then, and what of that is driven here ends with
        its next record.

        Args:
            closed: Whether the mediator was closed, which dismisses its driver itself.

        Raises:
            JournalError: The journal cannot be written.
        """
        try:
            return self.journal.beat(self.driver.id)
        except LeaseLostError:
            if closed():
                return ()
            logger.warning(
                "the journal has forgotten this driver, having heard nothing of it for long; it enlists again"
            )
            self.journal.enlist(self.driver)
            return ()

    # Sagas

    def register(self, saga: Saga, *, latest: bool = True) -> Saga:
        """Make *saga* known; the latest of a name is the one that new executions of that name are started with.

        Raises:
            DefinitionError: Another saga of the same name and version is known, or this mediator cannot drive it.
        """
        if not isinstance(saga, Saga):
            raise DefinitionError(f"a mediator is given sagas, not {saga!r}; an operation is a Saga(name, [steps])")
        key = (saga.name, saga.version)
        known = self._by_version.get(key)
        if known is saga:
            return saga
        if known is not None:
            raise DefinitionError(
                f"two sagas are named {saga.name!r} in version {saga.version!r}; give the newer one another version"
            )
        self._check_callbacks(saga)
        self._by_version[key] = saga
        self._register_branches(saga)
        if latest:
            self._by_name[saga.name] = saga
        else:  # who runs an old definition does not change what its name stands for
            self._by_name.setdefault(saga.name, saga)
        return saga

    def _check_callbacks(self, saga: Saga) -> None:
        if not self._coroutines:
            for part in saga.parts:
                for callback in (part.execute, part.compensate, part.probe):
                    if callback is not None and callback.is_coroutine:
                        raise DefinitionError(
                            f"saga {saga.name!r}, step {part.path!r}: {callback.label} is a coroutine function, which "
                            f"Mediator cannot run; use AsyncMediator, or make it a plain function"
                        )
        if self.journal.encodes:
            codec.check_types(saga)
        for branches in saga.branches.values():
            for branch in branches.values():
                self._check_callbacks(branch)

    def _register_branches(self, saga: Saga) -> None:
        for branches in saga.branches.values():
            for branch in branches.values():
                self._branches.setdefault((branch.name, branch.fingerprint), branch)
                self._branches[branch.name, branch.version, branch.fingerprint] = branch
                self._register_branches(branch)

    def saga(self, saga: Saga | str) -> Saga:
        """The saga meant: of this name, or this one itself.

        Raises:
            UnknownSagaError: None of this name is registered.
        """
        if isinstance(saga, str):
            try:
                return self._by_name[saga]
            except KeyError:
                known = ", ".join(sorted(self._by_name)) or "none"
                raise UnknownSagaError(f"no saga is named {saga!r}; registered: {known}") from None
        return self.register(saga, latest=False)

    def saga_of(self, acceptance: Acceptance) -> Saga:
        """The definition that can drive the execution which *acceptance* opened.

        Raises:
            UnknownSagaError: No saga of its name is registered.
            DefinitionChangedError: None of those registered has its shape; the message says what differs.
        """
        if "/" in acceptance.saga:  # a branch, whose own shape is part of its parent's
            shape = acceptance.fingerprint
            branch = self._branches.get((acceptance.saga, acceptance.version, shape))
            branch = branch or self._branches.get((acceptance.saga, shape))
            if branch is not None:
                return branch
        same = self._by_version.get((acceptance.saga, acceptance.version))
        if same is not None and same.fingerprint == acceptance.fingerprint:
            return same
        named = [saga for saga in self.sagas if saga.name == acceptance.saga]
        for saga in reversed(named):
            if saga.fingerprint == acceptance.fingerprint:
                return saga
        who = f"execution {acceptance.saga_id!r} of saga {acceptance.saga!r} version {acceptance.version}"
        if not named:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise UnknownSagaError(f"{who} cannot be driven: no saga of that name is registered; registered: {known}")
        nearest = same or named[-1]
        raise DefinitionChangedError(
            f"{who} cannot be driven: its definition had fingerprint {acceptance.fingerprint}, and the registered "
            f"version {nearest.version} has {nearest.fingerprint} "
            f"({', '.join(path for path, *_ in shape_of(nearest.parts))}). "
            f"Register the definition that started it as well, under its version"
        )

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return tuple(self._by_version.values())

    # Opening and folding

    def opened(self, saga: Saga | str, payload: Any, saga_id: str | None, deadline: float | None) -> Execution:
        """A new execution, not yet journaled.

        Raises:
            PayloadError: The payload is of another type than the saga's, or cannot be journaled.
            RefusedError: The id is malformed.
        """
        definition = self._by_name.get(saga) if type(saga) is str else None
        if definition is None:
            definition = self.saga(saga)
        at = self.clock()
        if saga_id is None:
            saga_id = made_up_id(at)
        else:
            check_saga_id(saga_id)
        if deadline is None:
            deadline = definition.deadline
        else:
            check_number("deadline (seconds)", deadline, above=True)
        if self.journal.encodes:
            payload = codec.roundtrip_payload(definition, payload, self.journal.max_value_bytes)
        elif isinstance(definition.payload, type) and not is_instance(payload, definition.payload):
            raise PayloadError(
                f"saga {definition.name!r} takes a {definition.payload.__name__}, not {payload!r} "
                f"(a {type(payload).__name__})"
            )
        execution = Execution(
            definition,
            Acceptance(
                saga_id,
                definition.name,
                definition.version,
                definition.fingerprint,
                payload,
                at,
                None if deadline is None else at + deadline,
            ),
        )
        if self.journal.encodes:
            execution.settle = self._settle
        return execution

    def _settle(self, saga: Saga, payload: Any) -> Any:
        return codec.roundtrip_payload(saga, payload, self.journal.max_value_bytes)

    def entry(self, saga_id: str) -> Entry:
        """The execution of this id, as the journal lists it.

        Raises:
            UnknownExecutionError: There is none.
        """
        entry = self.journal.find(saga_id)
        if entry is None:
            raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
        return entry

    def folded(self, entry: Entry) -> Execution:
        """The execution that *entry* lists, folded from its records.

        Raises:
            UnknownExecutionError: It was pruned, or forgotten, since it was listed.
        """
        saga = self.saga_of(entry.acceptance)
        records = codec.decode_records(saga, self.journal.records(entry.saga_id))
        execution = Execution.fold(saga, codec.decode_acceptance(saga, entry.acceptance), records)
        if execution.seq < entry.seq:
            raise UnknownExecutionError(f"the journal knows execution {entry.saga_id!r} no more: it was just forgotten")
        if self.journal.encodes:
            execution.settle = self._settle
        if saga.single is not None and entry.acceptance.parent is not None:
            execution.given = self._given_by(entry.acceptance.parent, entry.saga_id)
        return execution

    def _given_by(self, parent_id: str, branch_id: str) -> Mapping[str, Any]:
        """The results that a branch's parent had when it came to the group: they do not change any more."""
        path = branch_id[len(parent_id) + 1 :].rpartition(".")[0]
        known = self._given.get((parent_id, path))
        if known is None:
            entry = self.entry(parent_id)
            saga = self.saga_of(entry.acceptance)
            parent = Execution(saga, codec.decode_acceptance(saga, entry.acceptance))
            for record in codec.decode_records(saga, self.journal.records(parent_id)):
                parent.replay(record)
                if record.children is not None and record.target.partition(".")[2] == path:
                    break
            if saga.single is not None and entry.acceptance.parent is not None:
                parent.given = self._given_by(entry.acceptance.parent, parent_id)
            known = dict(parent.results_seen_by(saga.part(path)))
            while len(self._given) >= GIVEN_KEPT:
                self._given.pop(next(iter(self._given)), None)
            self._given[parent_id, path] = known
        return known

    def is_called_by_branches(self, entry: Entry) -> bool:
        """Whether an execution that is stuck in a group is to be looked at, for a branch of it has something to say."""
        return entry.called and self.stands_in_group(entry)

    def stands_in_group(self, entry: Entry) -> bool:
        """Whether an execution stands in a group or a choice, so that its branches decide what comes next."""
        if entry.state in ENDED:
            return False
        machine = self.saga_of(entry.acceptance).machine_with(entry.state)
        part = machine.places[entry.state].part if machine is not None else None
        return part is not None and part.kind in GROUPS

    def outcome(self, saga_id: str) -> Outcome:
        """Where the execution stands, as far as it is journaled."""
        return self.folded(self.entry(saga_id)).outcome()

    def check_same(self, entry: Entry, opened: Execution) -> None:
        """Refuse to join an execution that is another operation than the one asked for.

        Raises:
            SagaIdTakenError: It is of another saga, or was given another payload.
        """
        theirs, ours = entry.acceptance, opened.acceptance
        if theirs.saga != ours.saga:
            raise SagaIdTakenError(
                f"the id {ours.saga_id!r} belongs to an execution of saga {theirs.saga!r}, not of {ours.saga!r}"
            )
        payload = theirs.payload
        if isinstance(payload, msgspec.Raw):
            try:
                payload = codec.decode_acceptance(opened.saga, theirs).payload
            except PayloadError:
                payload = ...  # it was of a type that has changed since: equal to nothing of today's
        if payload is not ours.payload and not are_equal(payload, ours.payload):
            raise SagaIdTakenError(
                f"execution {ours.saga_id!r} of saga {ours.saga!r} exists with another payload. "
                f"To start another one, give it another saga_id"
            )

    # Records

    def follows_at_once(self, live: Live) -> bool:
        """Whether what is to be done next follows from the last record alone: nearly always, an attempt, or the end.

        Else there may be more records first, or it waits, parks or queues.
        """
        execution = live.execution
        effect = execution.effect
        return not (
            (effect is not None and effect.callback is None)
            or self._limits is not None
            or live.stopping
            or live.unbegun
            or execution.is_interruptible
        )

    def has_turn(self, live: Live) -> bool:
        """Whether what is to be done next may be, as far as the limits go; else it queues."""
        effect = live.execution.effect
        limit = None if self._limits is None or effect is None else self._limits.of(effect)
        turn = live.turn
        if turn is not None and (turn.limit is not limit or turn.ended):
            turn.end()
            turn = live.turn = None
        if limit is None:
            return True
        if turn is None:
            turn = live.turn = limit.turn()
        return turn.has_come

    def commit(
        self,
        live: Live,
        records: Sequence[Record],
        *,
        opens: bool = False,
        parks: bool = False,
        queues: bool = False,
    ) -> Commit:
        """What is to be written of *records*; *queues*: the attempt that they announce has to wait for its turn."""
        execution = live.execution
        effect = execution.effect
        wake_at = None
        if effect is not None:
            attempts = effect.callback is not None and effect.kind != PROBE
            wake_at = self.clock() if attempts and (parks or queues) else execution.wake_at
        may_not_begin = live.dormant and execution.state == PENDING
        if may_not_begin:
            wake_at = math.inf
        at_work = effect is not None or execution.state == PENDING
        held = (at_work and not parks) or (bool(records) and records[-1].abandoned)
        children: tuple[Acceptance, ...] = ()
        dormant: tuple[Acceptance, ...] = ()
        if born := execution.pop_new_branches():
            later = {acceptance.successor for acceptance in born}
            children = tuple(acceptance for acceptance in born if acceptance.saga_id not in later)
            dormant = tuple(acceptance for acceptance in born if acceptance.saga_id in later)
        return Commit(
            execution.saga_id,
            tuple(records),
            self.driver.id,
            live.epoch,
            held,
            wake_at,
            not at_work
            or may_not_begin
            or (parks and effect is not None and effect.callback is None and not live.untold),
            live.seen,
            execution.take(),
            execution.acceptance if opens else None,
            children,
            dormant,
            () if execution.acceptance.parent is None else _told_to_the_family(execution, records),
        )

    def parks(self, live: Live, *, written: bool) -> bool:
        """Whether the execution is to be held by nobody while it waits; *written*: all its records are."""
        execution = live.execution
        effect = execution.effect
        if effect is None:
            # Stuck or dormant, and taken up for nothing.
            return live.stopping or live.dormant or (written and execution.seq > 0)
        if effect.callback is not None:
            return live.stopping
        if live.stopping:
            return True
        if effect.part.kind in GROUPS:
            # Branches that have just been born call who waits for them; others may have settled before, and must be
            # looked at first. Who waits in the foreground does so until they settle.
            may_park = (written or execution.has_new_branches) and not live.untold
            return may_park and (live.background or (written and live.resting))
        if effect.kind == AWAIT:
            return True
        if not live.background or self._sleeps:
            return False
        until = live.execution.wake_at
        return until is None or until - self.clock() > self.park_after

    def observe(self, live: Live, records: Iterable[Record]) -> None:
        """Tell the observers, each record in its order. One that raises is logged once for each execution."""
        for record in records if self._observers else ():
            for number, observer in enumerate(self._observers):
                try:
                    observer(record)
                except Exception:
                    if live.unobserved is None:
                        live.unobserved = set()
                    if number not in live.unobserved:
                        live.unobserved.add(number)
                        logger.exception(
                            "observer %r raised at record %s of execution %r; the saga goes on",
                            *(observer, record.seq, record.saga_id),
                        )

    def first_records(self, live: Live, at: float) -> list[Record]:
        """The records with which a driver takes an execution up, where it stands."""
        execution = live.execution
        records = []
        if live.recovered:  # what was under way counts as crashed
            live.recovered = False
            record = execution.feed(Crashed(), at, self.chance())
            if record is not None:
                records.append(record)
        if execution.state == PENDING:
            self.advanced(live, records, at)  # a cancel, or the deadline, may be there before it has begun
            if execution.state == PENDING and not live.stopping and not live.dormant:
                record = execution.feed(Begin(), at)
                assert record is not None
                records.append(record)
        return records

    def advanced(self, live: Live, records: list[Record], at: float) -> None:
        """Add to *records* those that follow with no effect in between."""
        advance = live.execution.advance
        while (record := advance(at)) is not None:
            records.append(record)

    # Effects

    def arguments(self, live: Live, effect: Effect) -> tuple[Any, ...]:
        """What the effect's callback is called with."""
        execution = live.execution
        assert effect.callback is not None
        if effect.callback.takes_context:
            return execution.acceptance.payload, execution.context(effect)
        return (execution.acceptance.payload,)

    def returned(self, effect: Effect, value: Any, *, late: bool = False) -> Returned | Raised:
        """The answer that a returned *value* is: what later steps will see of it."""
        if self.journal.encodes:
            limit = self.journal.max_value_bytes
            try:
                if effect.kind == EXECUTE:
                    value = codec.roundtrip_result(effect.part, value, limit)
                elif effect.kind == PROBE and isinstance(value, Happened):
                    value = Happened(codec.roundtrip_result(effect.part, value.result, limit))
            except ResultRefusedError as error:
                return Raised(error, late)
        return Returned(value, late)

    def told_to_who_waits(self, live: Live, *, closed: bool) -> Outcome | None:
        """The outcome that one is told who waited until nobody drove *live* any more; None: he looks himself.

        Its driver may have looked at branches before the wait began, and not have seen what has come to them since.
        """
        outcome = live.outcome
        if outcome is None or not (live.rests or closed):
            return None
        return None if not closed and self.waits_for_branches(outcome) else outcome

    @staticmethod
    def waits_for_branches(outcome: Outcome) -> bool:
        """Whether it stands in a group whose branches may be going on."""
        phase, _, path = outcome.state.partition(".")
        return phase in (WAITING, COMPENSATING) and path in outcome.saga.branches

    @property
    def settings(self) -> dict[str, Any]:
        """What makes another mediator drive as this one does, wherever it keeps its journal."""
        return {"limits": self._limits, "observers": self._observers, "park_after": self.park_after}

    def listed(self, entries: Iterable[Entry], driven: Mapping[str, Live]) -> list[Entry]:
        """*entries*, with what only this mediator knows: who waits for his turn."""
        found = []
        for entry in entries:
            live = driven.get(entry.saga_id)
            turn = None if live is None else live.turn
            queues = turn is not None and not turn.has_come
            found.append(msgspec.structs.replace(entry, queued=turn.limit.name) if turn and queues else entry)
        return found

    def parents_taken_along(self, outcomes: Iterable[Outcome]) -> list[str]:
        """The outermost executions whose branches were taken up, not they themselves, and nobody else drives them.

        What becomes of its branches drives such a one on, in the background.
        """
        taken = {outcome.saga_id for outcome in outcomes}
        outermost = {saga_id.partition("/")[0] for saga_id in taken if "/" in saga_id} - taken
        entries = (self.journal.find(saga_id) for saga_id in sorted(outermost))
        return [
            entry.saga_id
            for entry in entries
            if entry is not None  # else it has ended, and was forgotten
            if entry.driver is None or not entry.driver_alive or entry.driver.id == self.driver.id
        ]

    def undrivable(self, live: Live) -> str | None:
        """The fingerprint of what could not be taken up because no registered saga can drive it, nor others like it."""
        if live.epoch == 0 and isinstance(live.error, (UnknownSagaError, DefinitionChangedError)):
            entry = self.journal.find(live.saga_id)
            return None if entry is None else entry.acceptance.fingerprint
        return None

    @staticmethod
    def checked(outcome: Outcome, check: bool) -> Outcome:
        """*outcome*, or, where it is to be checked and is no success, the error that says so."""
        if outcome.succeeded or not check:
            return outcome
        kind: type[SagaNotSucceededError] = SagaWaitingError
        if outcome.failed:
            kind = SagaFailedError
        elif outcome.stuck:
            kind = SagaStuckError
        raise kind(outcome)


def _told_to_the_family(execution: Execution, records: Sequence[Record]) -> tuple[tuple[str, InboxItem], ...]:
    """What a branch that has settled tells its parent, and the one that may begin after it."""
    if not records or not is_at_rest(records[-1].target):
        return ()
    mine, last = execution.acceptance, records[-1]
    assert mine.parent is not None
    news = (mine.parent, InboxItem(CHILD, mine.saga_id.rpartition(".")[2], last.target, at=last.at))
    return (news,) if mine.successor is None else (news, (mine.successor, InboxItem(BEGIN, at=last.at)))


_RANDOM: Final = (1 << 80) - 1 ^ 0xF << 76 ^ 0b11 << 62
_VERSION_7: Final = 0x7 << 76 | 0b10 << 62
_begun = (-1, 0)
"""The millisecond in which an id was last made up, and what the ids of that millisecond have in common."""


def made_up_id(at: float) -> str:
    """A new id that begins with the time: a UUID of version 7 (RFC 9562) in hexadecimal.

    What is opened at about the same time lies side by side in a journal's index by id. Were all of it random, each of
    many executions that are opened in one commit would have another page written.
    """
    global _begun  # noqa: PLW0603 - two threads that race for it only work it out twice
    millisecond = int(at * 1000)
    begun, beginning = _begun
    if begun != millisecond:
        beginning = (millisecond & 0xFFFF_FFFF_FFFF) << 80 | _VERSION_7
        _begun = millisecond, beginning
    number = beginning | _ids.getrandbits(80) & _RANDOM
    return number.to_bytes(16, "big").hex()


def are_equal(payload: Any, other: Any) -> bool:
    """Whether two payloads are; what cannot be compared is taken for another."""
    try:
        return bool(payload == other)
    except Exception:  # such as an array's
        return False


def is_instance(value: Any, type: type) -> bool:
    """Whether *value* is one of *type*, as far as that can be asked."""
    try:
        return isinstance(value, type) or (type is float and isinstance(value, int))
    except TypeError:  # a TypedDict or a protocol, which cannot be asked: nothing is encoded, so nothing is lost
        return True


def check_saga_id(saga_id: Any) -> None:
    """Refuse an id that a journal, a group or a shell could not tell from another.

    Raises:
        RefusedError: Says which characters are reserved.
    """
    if (
        not isinstance(saga_id, str)
        or not 0 < len(saga_id) <= 255
        or "/" in saga_id
        or ":" in saga_id
        or not saga_id.isprintable()
        or saga_id != saga_id.strip()
    ):
        raise RefusedError(
            f"{saga_id!r} cannot be a saga_id: it must be a text of 1 to 255 printable characters, without '/' and ':' "
            f"(which mark the children of a group and the parts of a key) and without space around it"
        )
