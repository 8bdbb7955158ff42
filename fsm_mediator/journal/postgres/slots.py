"""Slots: decides which attempts get a slot of a limit in a PostgreSQL journal, and which queue. See `SlotJournal`.

A transaction that asks for a slot holds the limit's advisory lock until it ends, so that two transactions never
decide at the same time. Usually a slot is free and the queue is empty; one query shows this. Otherwise more is read:
the drivers that declare the limit, the attempts with a slot, and the first attempts in the queue.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fsm_mediator.journal.optional import OVERTAKEN
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.journal.postgres.schema import lock_class
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.rows import Row

_MANY: Final = 1 << 62


class SlotRules(NamedTuple):
    """The data that a decision about slots needs, besides the tables.

    Attributes:
        schema: The schema of the journal's tables.
        is_gone: Returns whether the driver with this row of `sql.DRIVERS` is dead.
        patience: The number of seconds for which a slot is kept free for an attempt that was overtaken often. If the
            attempt's driver does not ask for the slot in this time, the attempt is ignored until its driver asks again.
    """

    schema: str
    is_gone: Callable[[Row], bool]
    patience: float


class _Place(msgspec.Struct):
    """An attempt that has a slot or is queued for a slot. The fields are the columns of `sql.QUEUE`.

    Attributes:
        number: The position in the order of arrival.
    """

    number: float
    saga_id: str
    driver: str | None
    epoch: int
    begun: bool
    overtaken: int
    is_ignored: bool


class Limit:
    """One limit, as it is during a transaction or a query.

    Args:
        session: The session that reads the limit.
        name: The name of the limit.
        rules: The data for decisions about slots.
        declared: The drivers that declare the limit: rows of `sql.DECLARED` without the name.
        own: The ids of the drivers that ask for slots now, and therefore are alive.
        more: The number of attempts that the caller may add to the queue. If 0, the caller only reads the queue. The
            queue then includes all places of the drivers in *own*, even places that other drivers ignore.
    """

    def __init__(
        self, session: Session, name: str, rules: SlotRules, declared: Sequence[Row], own: set[str], more: int = 0
    ) -> None:
        alive = [row for row in declared if row[6] in own or not rules.is_gone(row[1:])]
        self.most: int = min((row[0] for row in alive), default=_MANY)
        prompt = [row[6] for row in alive if row[6] in own or row[2] <= row[3]]
        begun = session.execute(sql.BEGUN, (name, [row[6] for row in alive]))
        queued = session.execute(sql.QUEUE, (name, prompt, [] if more else [*own], self.most + more))
        self.begun: set[Any] = {row[1] for row in begun}
        self.queue: list[_Place] = [_Place(*row) for row in queued]

    def leave(self, saga_id: str) -> None:
        """Free the slot of an execution in this limit, or remove the execution from the queue."""
        self.begun.discard(saga_id)
        self.queue = [place for place in self.queue if place.saga_id != saga_id]

    def first(self, before: float = _MANY) -> list[_Place]:
        """The first queued attempts with a number below *before*, at most as many as there are free slots."""
        free = max(0, self.most - len(self.begun))
        return [place for place in self.queue if place.number < before][:free]

    def give(self, mine: _Place) -> list[_Place]:
        """Give *mine* a slot if one is free for it, otherwise queue it. Returns the attempts overtaken by *mine*."""
        earlier = self.first(mine.number)
        mine.begun = len(earlier) < self.most - len(self.begun) and not any(map(self.is_patient_no_more, earlier))
        if not mine.begun:
            self.queue = sorted([*self.queue, mine], key=lambda place: place.number)
            return []
        self.begun.add(mine.saga_id)
        for place in earlier:
            place.overtaken += 1
        return earlier

    def is_patient_no_more(self, place: _Place) -> bool:
        """Whether a queued attempt was overtaken so often that no further attempt may overtake it."""
        return place.overtaken >= OVERTAKEN * self.most


class SlotJudge:
    """Decides which commits of one transaction get the slots that they ask for, and has the SQL to store the decisions.

    Args:
        session: A session in the transaction. The transaction holds the locks of all rows that it will change.
        asks: The commits that ask for a slot.
        rules: The data for decisions about slots.
    """

    def __init__(self, session: Session, asks: Sequence[Commit], rules: SlotRules) -> None:
        self._session = session
        self._rules = rules
        self._limits: dict[str, Limit] = {}
        self._kept: dict[tuple[str, str], _Place] = {}
        self._arrived: dict[str, tuple[str, _Place]] = {}
        self._changed: dict[str, tuple[Limit, _Place]] = {}
        self._last = float(_MANY)
        if asks:
            self._load(asks)

    def _load(self, asks: Sequence[Commit]) -> None:
        execute = self._session.execute
        asked = Counter(str(commit.slot) for commit in asks)
        only_queue = {commit.slot for commit in asks if commit.wake_at is not None}
        keys = sorted({zlib.crc32(name.encode()) - (1 << 31) for name in asked})
        with self._session.pipeline():
            execute(sql.LOCK_LIMITS, (lock_class(f"{self._rules.schema}.limits"), keys))
            found = execute(sql.WITH_ROOM, (list(asked), list(asked.values())))
        crowded = sorted(set(asked) - ({name for (name,) in found} - only_queue))
        if not crowded:
            return
        declared = _declared(self._session, crowded, self._rules)
        for name in crowded:
            own = [commit for commit in asks if commit.slot == name]
            drivers = {commit.driver for commit in own if commit.driver is not None}
            self._limits[name] = Limit(self._session, name, self._rules, declared[name], drivers, len(own))
            for row in execute(sql.PLACES_OF, (name, [commit.saga_id for commit in own if not commit.records])):
                self._kept[name, row[1]] = _Place(*row)

    def ask(self, commit: Commit) -> bool:
        """Give an attempt a slot, or a place in the queue. Returns True if the attempt is queued."""
        saga_id, name = commit.saga_id, str(commit.slot)
        place = self._kept.pop((name, saga_id), None)
        if place is not None and place.begun and place.epoch == commit.epoch:
            return False
        for each in self._limits.values():
            each.leave(saga_id)
        arrives = place is None or place.begun
        if place is None or arrives:
            self._last += 1.0
            place = _Place(self._last, saga_id, commit.driver, commit.epoch, False, 0, False)
            self._arrived[saga_id] = name, place
        place.epoch = commit.epoch
        limit = self._limits.get(name)
        if limit is None:
            place.begun = True
            return False
        if not arrives:
            self._changed[saga_id] = limit, place
        if commit.wake_at is not None:
            limit.queue = sorted([*limit.queue, place], key=lambda each: each.number)
            return True
        if place.is_ignored:
            place.overtaken, place.is_ignored = 0, False
        for passed in limit.give(place):
            self._changed[passed.saga_id] = limit, passed
        return not place.begun

    def give_up(self, saga_id: str) -> None:
        """Free the slot of an execution, or remove it from the queue."""
        for limit in self._limits.values():
            limit.leave(saga_id)

    def is_queued(self, commit: Commit) -> bool:
        """Whether a commit that was already written left its attempt in the queue."""
        places = self._session.execute(sql.PLACES_OF, (commit.slot, [commit.saga_id])).fetchall()
        return any(not place.begun for place in (_Place(*row) for row in places))

    def statements(self) -> list[tuple[str, list[Any]]]:
        """The statements, with parameters, that write the decisions.

        They are executed after the executions are written.
        """
        arrived = [(saga_id, name, place.epoch, place.begun) for saga_id, (name, place) in self._arrived.items()]
        changed = [
            (saga_id, its.epoch, its.begun, its.overtaken, OVERTAKEN * limit.most, self._rules.patience)
            for saga_id, (limit, its) in self._changed.items()
        ]
        return [
            (statement, in_columns(rows))
            for statement, rows in ((sql.ARRIVE, arrived), (sql.CHANGE_PLACES, changed))
            if rows
        ]


def _declared(session: Session, names: Sequence[str], rules: SlotRules) -> dict[str, list[Row]]:
    """The drivers that declare each limit, by the limit's name, as rows of `sql.DECLARED` without the name."""
    declared: dict[str, list[Row]] = {name: [] for name in names}
    for name, *row in session.execute(sql.DECLARED, (lock_class(rules.schema), [*names])) if names else ():
        declared[name].append(tuple(row))
    return declared


def in_columns(rows: Iterable[Row]) -> list[list[Any]]:
    """The columns of *rows*, each as a list, for use as parameters of ``unnest``."""
    return [list(column) for column in zip(*rows, strict=True)]


def turns(session: Session, driver_id: str, rules: SlotRules) -> list[str]:
    """The ids of a driver's queued executions for which a slot is free: see `SlotJournal.turns`."""
    names = [name for (name,) in session.execute(sql.LIMITS_OF, (driver_id,))]
    declared = _declared(session, names, rules)
    found = []
    for name in names:
        limit = Limit(session, name, rules, declared[name], {driver_id})
        for place in limit.first():
            if place.driver == driver_id:
                found.append(place.saga_id)
            if limit.is_patient_no_more(place):
                break
    return found
