"""An unreliable network in front of a service, with faults drawn from a seed.

Each fault is drawn by (service, operation, user, attempt), and not from one shared stream: the order of threads does
not change which requests fail.
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

RequestFault = Literal["none", "down", "late", "lost"]
"""What happens to a request: it never arrives, arrives late, or its answer is lost."""


class ServiceDownError(Exception):
    """The service did not receive the request: it had no effect."""


class RefusedError(Exception):
    """The service refused the request: it had no effect, and a retry is useless."""


@attrs.define(kw_only=True)
class Faults:
    """How often requests fail, and with which seed. By default none fails.

    Attributes:
        seed: The same seed gives the same faults.
        down: Share of attempts that fail without an effect.
        lost: Share of attempts that have an effect, but whose answer is lost.
        late: Share of attempts that seem lost, and reach the service only when `deliver_late` is called.
        outage: Share of (service, operation, user) whose first `outage_calls` attempts all fail in one of these ways.
        outage_calls: How many attempts fail in an outage.
        refused: Share of (service, user) that the service refuses, for example because of a declined card.
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
    _late_requests: list[Callable[[], object]] = attrs.field(factory=list, init=False, repr=False)

    def deliver(self, service: str, operation: str, user_id: int, request: Callable[[], T]) -> T:
        """Delivers *request* to the service and returns its answer, unless a fault is drawn.

        Raises:
            ServiceDownError: The request never arrived.
            ConnectionError: The answer is missing: the request had its effect, or will have it later.
        """
        with self._lock:
            self._attempts[service, operation, user_id] += 1
            attempt = self._attempts[service, operation, user_id]
        if self.latency:
            time.sleep(self.latency)
        fault = self.draw(service, operation, user_id, attempt)
        if fault == "down":
            raise ServiceDownError(f"{service} is down")
        if fault == "late":
            with self._lock:
                self._late_requests.append(request)
            raise ConnectionError(f"{service} did not answer {operation} in time")
        answer = request()
        if fault == "lost":
            raise ConnectionError(f"the answer of {service} to {operation} was lost")
        return answer

    def draw(self, service: str, operation: str, user_id: int, attempt: int) -> RequestFault:
        """The fault of one attempt (from 1)."""
        path = f"{self.seed}/{service}/{operation}/{user_id}"
        outage = _random(path)
        if outage.random() < self.outage and attempt <= self.outage_calls:
            kinds: tuple[RequestFault, ...] = ("down", "late", "lost")
            return outage.choice(kinds)
        number = _random(f"{path}/{attempt}").random()
        if number < self.down:
            return "down"
        if number < self.down + self.late:
            return "late"
        if number < self.down + self.late + self.lost:
            return "lost"
        return "none"

    def refuses(self, service: str, user_id: int) -> bool:
        """Whether the service refuses this user, at every attempt."""
        return _random(f"{self.seed}/{service}/refused/{user_id}").random() < self.refused

    def deliver_late(self) -> Counter[str]:
        """Delivers all late requests now. Returns their number by result (``answered``, ``refused``)."""
        with self._lock:
            requests, self._late_requests = self._late_requests, []
        results: Counter[str] = Counter()
        for request in requests:
            try:
                request()
            except RefusedError:
                results["refused"] += 1
            else:
                results["answered"] += 1
        return results


def _random(path: str) -> Random:
    # A text seed gives the same numbers in every process, unlike `hash()`.
    return Random(path)  # noqa: S311  (a demo, not a secret)
