"""Limits: limit the number of a step's attempts that run at a time. Further attempts queue, in the order of arrival.

A slot is acquired before an attempt is announced in the journal. So an attempt that is only queued is never in doubt.
Everything here may be used from any thread, and several mediators of a process may share one `Limits`.

This module does not know other processes. A journal that keeps slots for all processes makes the final decision: see
`SlotJournal`. If an attempt has to queue in the journal, it frees its slot here, and waits for its turn without a slot.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from fsm_mediator import forking
from fsm_mediator.errors import DefinitionError
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Effect
from fsm_mediator.states import name_of


class Limit:
    """The slots for the attempts of one step.

    Attributes:
        name: The step's name or path.
        most: The number of attempts of the step that may run at a time.
    """

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.reset()

    def reset(self) -> None:
        """Forget all slots and queue places.

        A forked child calls this method, because they belong to the parent process.
        """
        self._lock = threading.Lock()
        self._holders: set[Slot] = set()
        self._queue: deque[Slot] = deque()

    def acquire(self, used: Slot | None = None) -> Slot:
        """Return a slot, or a place in the queue if no slot is free.

        *used* is the slot of the execution's last attempt. The next attempt keeps this slot if no other attempt queues.
        """
        slot = Slot(self)
        with self._lock:
            if used in self._holders and not self._queue:
                self._holders.remove(used)
                used.ended = True
            if len(self._holders) < self.most and not self._queue:
                self._holders.add(slot)
                slot.has_come = True
            else:
                self._queue.append(slot)
        return slot

    def wait_for_turn(self) -> Slot:
        """Return the place of an attempt that queues in the journal. When its turn has come, call `Slot.come`."""
        return Slot(self)

    def _come(self, slot: Slot) -> None:
        with self._lock:
            called = None if slot.ended else slot.call
            slot.ended = True
        if called is not None:
            called()

    def _end(self, slot: Slot) -> None:
        called: Callable[[], object] | None = None
        with self._lock:
            slot.ended = True
            if slot in self._holders:
                self._holders.remove(slot)
                if self._queue:
                    following = self._queue.popleft()
                    self._holders.add(following)
                    following.has_come = True
                    called = following.call
            elif slot in self._queue:  # otherwise the slot has ended already, or is from before a fork
                self._queue.remove(slot)
        if called is not None:
            called()

    def _on_grant(self, slot: Slot, call: Callable[[], object]) -> bool:
        with self._lock:
            if slot.has_come or slot.ended:
                return False
            slot.call = call
            return True


class Slot:
    """The slot of one attempt, or its place in the queue.

    Attributes:
        limit: The limit of the slot.
        has_come: Whether the attempt has got its slot.
        ended: Whether the attempt gave back its slot or its place.
        call: The function to call when the attempt gets its slot.
    """

    __slots__ = ("call", "ended", "has_come", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit: Limit = limit
        self.has_come: bool = False
        self.ended: bool = False
        self.call: Callable[[], object] | None = None

    def on_grant(self, call: Callable[[], object]) -> bool:
        """Call *call* once, in any thread, when the slot comes.

        Returns False, and calls nothing, if the slot has come already.
        """
        return self.limit._on_grant(self, call)

    def come(self) -> None:
        """Report that the attempt's turn in the journal has come: see `Limit.wait_for_turn`."""
        self.limit._come(self)

    def end(self) -> None:
        """Give back the slot, or the place in the queue. A second call is harmless."""
        self.limit._end(self)


class Limits:
    """The limits of a mediator: the number of attempts of each step that may run at a time.

    Args:
        most: The maximum number of attempts at a time, by a step's name (in any saga) or its path in the saga.

    Raises:
        DefinitionError: A number is not a whole number of at least 1.
    """

    def __init__(self, most: Mapping[str, int]) -> None:
        if not isinstance(most, Mapping):
            raise DefinitionError(f"limits: give a dict of step names and numbers, not {most!r}")
        for name, number in most.items():
            if not isinstance(name, str):
                raise DefinitionError(f"limits: {name!r} must be the name or the path of a step, a text")
            if type(number) is not int or number < 1:
                raise DefinitionError(f"limits: {name!r} must be a whole number of at least 1, not {number!r}")
        self._limits = {name: Limit(name, number) for name, number in most.items()}
        forking.register(self)

    @property
    def most(self) -> tuple[tuple[str, int], ...]:
        """The name of each limit, and the number of attempts that the limit allows at a time."""
        return tuple((limit.name, limit.most) for limit in self._limits.values())

    def of(self, effect: Effect) -> Limit | None:
        """The limit for an effect. None if there is no limit. Probes only ask, so they are not limited."""
        if effect.kind not in (EXECUTE, COMPENSATE):
            return None
        path = effect.part.path
        return self._limits.get(path) or self._limits.get(name_of(path))

    def reset(self) -> None:
        """Free all slots. A forked child calls this method."""
        for limit in self._limits.values():
            limit.reset()
