"""The unreliable network in front of a service: what goes wrong is drawn from a seed.

It knows requests only as callables. Everything is drawn per (service, operation, user, attempt), never from one
shared stream, so that the order of threads does not change what happens to whom.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Literal, TypeVar

import attrs

T = TypeVar("T")

Fate = Literal["fine", "down", "late", "lost"]


class ServiceDownError(Exception):
    """The service did not take the request: nothing has happened."""


class RefusedError(Exception):
    """The service took the request and said no: nothing has happened, and asking again is useless."""


@attrs.define(kw_only=True)
class Faults:
    """What goes wrong, how often, and by which seed. By default nothing does.

    Attributes:
        seed: The same seed is the same fate for everybody.
        down: Share of attempts that fail before anything has happened.
        lost: Share of attempts that happen, but whose answer is lost.
        late: Share of attempts that seem lost and reach the service only later, by `deliver_late`.
        outage: Share of (service, operation, user) whose first `outage_calls` attempts all fail in one of these ways.
        refused: Share of (service, user) whom the service refuses, say for a declined card.
        latency: Seconds that every attempt takes.
    """

    seed: int = 0
    down: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    outage: float = 0.0
    outage_calls: int = 5
    refused: float = 0.0
    latency: float = 0.0

    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _attempts: Counter[tuple[str, str, int]] = attrs.field(factory=Counter, init=False, repr=False)
    _underway: list[Callable[[], object]] = attrs.field(factory=list, init=False, repr=False)

    def deliver(self, service: str, operation: str, user_id: int, request: Callable[[], T]) -> T:
        """Carries *request* to the service and its answer back, unless something goes wrong.

        Raises:
            ServiceDownError: It never arrived.
            ConnectionError: No answer came: it happened, or it will, or both can be.
        """
        with self._lock:
            self._attempts[service, operation, user_id] += 1
            attempt = self._attempts[service, operation, user_id]
        if self.latency:
            time.sleep(self.latency)
        fate = self.fate(service, operation, user_id, attempt)
        if fate == "down":
            raise ServiceDownError(f"{service} is down")
        if fate == "late":
            with self._lock:
                self._underway.append(request)
            raise ConnectionError(f"{service} did not answer {operation} in time")
        answer = request()
        if fate == "lost":
            raise ConnectionError(f"the answer of {service} to {operation} was lost")
        return answer

    def fate(self, service: str, operation: str, user_id: int, attempt: int) -> Fate:
        """What becomes of one attempt (from 1)."""
        path = f"{self.seed}/{service}/{operation}/{user_id}"
        outage = _dice(path)
        if outage.random() < self.outage and attempt <= self.outage_calls:
            kinds: tuple[Fate, ...] = ("down", "late", "lost")
            return outage.choice(kinds)
        draw = _dice(f"{path}/{attempt}").random()
        if draw < self.down:
            return "down"
        if draw < self.down + self.late:
            return "late"
        if draw < self.down + self.late + self.lost:
            return "lost"
        return "fine"

    def refuses(self, service: str, user_id: int) -> bool:
        """Whether the service says no to this user, whenever and however often it is asked."""
        return _dice(f"{self.seed}/{service}/refused/{user_id}").random() < self.refused

    def deliver_late(self) -> Counter[str]:
        """Lets all late requests arrive now; counts what became of them (``answered``, ``refused``)."""
        with self._lock:
            underway, self._underway = self._underway, []
        arrived: Counter[str] = Counter()
        for request in underway:
            try:
                request()
            except RefusedError:
                arrived["refused"] += 1
            else:
                arrived["answered"] += 1
        return arrived


def _dice(path: str) -> Random:
    # A seed that is text is hashed the same way in every process, unlike `hash()`.
    return Random(path)  # noqa: S311  (a game, not a secret)
