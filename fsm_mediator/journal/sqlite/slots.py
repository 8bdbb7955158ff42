"""SlotJudge: decides which attempts get a slot of a limit in a SQLite journal. See `SlotJournal`.

The other attempts queue. Usually a slot is free and the queue is empty; one query shows this. Otherwise more queries
find the dead drivers, whose slots and places in the queue do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Cursor
from typing import Any, Final, NamedTuple, TypeAlias

from fsm_mediator.journal.optional import OVERTAKEN
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.sqlite import sql

_Read: TypeAlias = Callable[[str, Sequence[Any]], list[Row]]

_LAST: Final = 1 << 62


class Place(NamedTuple):
    """The place of an attempt that asked for a slot.

    Attributes:
        number: The position in the order of arrival. None if the attempt arrives now.
        begins: Whether the attempt has a slot.
    """

    number: int | None
    begins: bool


class _Free(NamedTuple):
    """The free slots of a limit.

    Attributes:
        most: The number of all slots of the limit.
        free: The number of its free slots.
        prompt: The numbers of the drivers that renewed their leases in time, as JSON. Only their places in the queue
            count.
        now: The time, in seconds since the epoch.
    """

    most: int
    free: int
    prompt: str
    now: float


class SlotJudge:
    """Decides about slots, in a transaction or for a query.

    Args:
        is_alive: Returns whether the driver with this number and row is alive.
        clock: Returns the time, in seconds since the epoch.
        patience: The number of seconds for which a slot is kept free for an attempt that was overtaken often. If the
            attempt's driver does not ask for the slot in this time, the attempt is ignored until its driver asks again.
    """

    def __init__(
        self, is_alive: Callable[[int, Sequence[Any]], bool], clock: Callable[[], float], patience: float
    ) -> None:
        self._is_alive = is_alive
        self._clock = clock
        self._patience = patience

    def ask(self, cursor: Cursor, commit: Commit, execution: int | None, own: int | None) -> Place:
        """Decide whether an attempt gets a slot or is queued. Returns the attempt's place.

        Args:
            cursor: A cursor in a transaction.
            commit: The commit that announces the attempt and names the limit.
            execution: The number of the execution. None if the commit opens it.
            own: The number of the driver that writes *commit*.
        """
        name, number = commit.slot, None
        if execution is not None and not commit.records:
            found = cursor.execute(sql.SLOT_OF, (execution, name, commit.epoch)).fetchone()
            if found is not None:
                number, begun = found
                if begun:
                    return Place(number, begins=True)
        if commit.wake_at is not None:
            return Place(number, begins=False)
        if cursor.execute(sql.HAS_ROOM, (name, name, execution, name, name)).fetchone()[0]:
            return Place(number, begins=True)

        def read(query: str, parameters: Sequence[Any]) -> list[Row]:
            return cursor.execute(query, parameters).fetchall()

        room = self._room(read, name, own, execution)
        if number is not None:
            cursor.execute(sql.NOTICE, (number, room.now))
        earlier = self._queue(read, name, room, _LAST if number is None else number, None, execution)
        cap = OVERTAKEN * room.most
        begins = len(earlier) < room.free and all(overtaken < cap for *_, overtaken in earlier)
        if begins and earlier:
            passed = sql.as_json(each for each, *_ in earlier)
            cursor.execute(sql.OVERTAKE, (cap, room.now + self._patience, passed))
        return Place(number, begins)

    def turns(self, read: _Read, name: str, own: int) -> list[str]:
        """The ids of the queued executions of the driver *own* for which the limit *name* has a free slot."""
        room = self._room(read, name, own, None)
        found = []
        for _, saga_id, driver, overtaken in self._queue(read, name, room, _LAST, own, None):
            if driver == own:
                found.append(saga_id)
            if overtaken >= OVERTAKEN * room.most:
                break
        return found

    def _queue(
        self, read: _Read, name: str | None, room: _Free, before: int, own: int | None, execution: int | None
    ) -> list[Row]:
        """The first queued attempts with a number below *before*, at most as many as there are free slots.

        An attempt whose driver did not ask for a free slot in time is left out, unless the driver is *own*. The place
        that *execution* has is left out too, because its new attempt replaces the old one.
        """
        parameters = (name, room.prompt, before, execution, room.now, own, room.free)
        return read(sql.QUEUE, parameters) if room.free > 0 else []

    def _room(self, read: _Read, name: str | None, own: int | None, execution: int | None) -> _Free:
        now, most = self._clock(), _LAST
        alive, prompt = [], []
        for number, allowed, *row in read(sql.DECLARED, (name,)):
            if number == own or self._is_alive(number, row):
                alive.append(number)
                most = min(most, allowed)
                last_beat, lease, *_ = row
                if number == own or now - last_beat <= lease:
                    prompt.append(number)
        ((begun,),) = read(sql.BEGUN, (name, sql.as_json(alive), execution))
        return _Free(most, most - begun, sql.as_json(prompt), now)


def note(cursor: Cursor, commit: Commit, execution: int, place: Place) -> None:
    """Store the place of the attempt that *commit* announces."""
    if place.number is None:
        cursor.execute(sql.ARRIVE, (execution, commit.slot, commit.epoch, place.begins))
    else:
        now = commit.epoch, place.begins
        cursor.execute(sql.KEEP_PLACE, (*now, place.number, *now))
