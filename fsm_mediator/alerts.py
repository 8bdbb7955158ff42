"""Alerts: send a message to a webhook if an execution needs a person, or if the journal cannot be used."""

from __future__ import annotations

import json
import logging
import shlex
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.acknowledging import acknowledgement_of
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.narration import span
from fsm_mediator.off_loop import off_loop
from fsm_mediator.records import Record
from fsm_mediator.retry import check_number
from fsm_mediator.states import STUCK

MOST: Final = 100
"""The maximum number of alerts of each kind that one check sends."""

SEND_TIMEOUT: Final = 10.0
"""The number of seconds within which a webhook must answer."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Alert(msgspec.Struct, frozen=True):
    """A problem that needs a person. An alert never has a payload, a result or the message of an error.

    Attributes:
        kind: ``stuck``, ``retrying``, ``undriven`` or ``journal``.
        text: A sentence that describes the problem.
        next: A command line that the person can run next.
        saga_id: The id of the execution. None if the alert is about the journal.
        saga: The name of the execution's saga.
        state: The state of the execution.
        since: When the problem began, in seconds since the epoch.
    """

    kind: str
    text: str
    next: str
    saga_id: str | None = None
    saga: str | None = None
    state: str | None = None
    since: float | None = None


Send: TypeAlias = Callable[[Sequence[Alert]], object]


class Alerts:
    """Sends alerts. Pass it to a mediator twice: as an observer, and as a relay of its daemon.

    ::

        alerts = Alerts("https://hooks.example.com/sagas")
        Mediator(checkout, journal="sagas.db", observers=[alerts], relays=[alerts])

    For each problem, an alert is sent once. After `Mediator.acknowledge`, no alert is sent for the execution until its
    state changes. An alert that could not be sent is sent at the next check.

    Args:
        to: The URL of a webhook, or a function that takes the alerts. A webhook gets JSON with ``text``, which chat
            systems show, and ``alerts``.
        stuck_for: The number of seconds after which a stuck execution is reported.
        undriven_for: An execution is reported if a driver could have claimed it for this number of seconds, and no
            living driver has claimed it.
        attempts: The number of consecutive failed attempts of a step after which the execution is reported. Only
            attempts of the mediator that has these alerts as an observer are counted.
        every: The number of seconds between two checks of the journal.
        clock: A function that returns the time, in seconds since the epoch.

    Raises:
        DefinitionError: An argument cannot be used.
    """

    def __init__(
        self,
        to: str | Send,
        *,
        stuck_for: float = 600.0,
        undriven_for: float = 300.0,
        attempts: int = 5,
        every: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not callable(to) and not (isinstance(to, str) and to.startswith(("http://", "https://"))):
            raise DefinitionError(
                f"alerts must go to a function, or to a webhook URL that begins with http:// or https://, not to {to!r}"
            )
        for name, number in (("stuck_for", stuck_for), ("undriven_for", undriven_for), ("every", every)):
            check_number(f"alerts: {name} (seconds)", number)
        check_number("alerts: attempts", attempts, above=True)
        self._send: Send = to if callable(to) else _Webhook(to)
        self._stuck_for = stuck_for
        self._undriven_for = undriven_for
        self._attempts = attempts
        self._every = every
        self._clock = clock
        self._next = 0.0
        self._retried: dict[str, Record] = {}
        self._sent: set[tuple[str, str | None, float | None]] = set()

    def __call__(self, record: Record) -> None:
        """Store *record* if its step has failed too often. If the execution makes progress, drop the stored record.

        The alert is sent by a later check, because an observer must not wait for a webhook.
        """
        if record.error is not None and record.event in ("errored", "compensation_errored"):
            if record.attempt >= self._attempts:
                self._retried.setdefault(record.saga_id, record)
        elif record.event not in ("retry_due", "compensation_due"):
            self._retried.pop(record.saga_id, None)

    async def pass_on(self, mediator: Any) -> int:
        """Check the mediator's journal if a check is due. Returns the number of alerts that were sent.

        The daemon of the mediator calls this method repeatedly.
        """
        now = self._clock()
        if now < self._next:
            return 0
        self._next = now + self._every
        sent: int = await off_loop(self.look, mediator.journal)
        return sent

    def look(self, journal: Journal) -> int:
        """Check *journal*, and send the alerts that were not sent before. Returns the number of sent alerts."""
        try:
            found = [*self._stuck(journal), *self._undriven(journal), *self._retrying()]
            keys = {_key(alert): alert for alert in found}
            unsent = [alert for key, alert in keys.items() if key not in self._sent]
            new = [alert for alert in unsent if not _is_acknowledged(journal, alert)]
        except JournalError as error:
            broken = Alert("journal", f"the journal cannot be used: {type(error).__name__}", "fsm-mediator check")
            keys = {_key(broken): broken}
            new = [alert for key, alert in keys.items() if key not in self._sent]
        self._sent &= keys.keys()
        if not new:
            self._sent |= keys.keys()  # acknowledged alerts are not checked again
            return 0
        try:
            self._send(new)
        except Exception as error:
            logger.warning("%d alerts could not be sent, and are sent again: %s", len(new), error)
            return 0
        self._sent |= keys.keys()
        return len(new)

    def _stuck(self, journal: Journal) -> Iterator[Alert]:
        now = self._clock()
        for entry in journal.entries(phase=STUCK, before=now - self._stuck_for, limit=MOST):
            text = f"{entry.saga_id} has been stuck for {span(now - entry.changed_at)}"
            yield _about(entry, "stuck", text, "retry")

    def _undriven(self, journal: Journal) -> Iterator[Alert]:
        now, look = self._clock(), Drivability(journal)
        before = now - self._undriven_for
        due = (journal.find(saga_id) for saga_id in journal.claimable(before, 10 * MOST))
        late = (each for each in due if each is not None and max(each.changed_at, each.wake_at or 0.0) <= before)
        for entry in islice(late, MOST):
            why = "a driver could not decode it" if entry.saga_id in look.faults else look.why_not(entry)
            text = f"nobody drives {entry.saga_id}: {why or 'no living driver has claimed it'}"
            yield _about(entry, "undriven", text, "show")

    def _retrying(self) -> Iterator[Alert]:
        for record in list(self._retried.values())[:MOST]:
            kind = record.error.type if record.error is not None else ""
            text = f"{record.step} of {record.saga_id} has failed {record.attempt} times, last with {kind}"
            command = shlex.join(["fsm-mediator", "show", record.saga_id])
            yield Alert("retrying", text, command, record.saga_id, record.saga, record.target, record.at)


def _key(alert: Alert) -> tuple[str, str | None, float | None]:
    return alert.kind, alert.saga_id, alert.since


def _is_acknowledged(journal: Journal, alert: Alert) -> bool:
    return alert.saga_id is not None and acknowledgement_of(journal, alert.saga_id) is not None


def _about(entry: Entry, kind: str, text: str, verb: str) -> Alert:
    command = shlex.join(["fsm-mediator", verb, entry.saga_id])
    return Alert(kind, text, command, entry.saga_id, entry.acceptance.saga, entry.state, entry.changed_at)


class _Webhook:
    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, alerts: Sequence[Alert]) -> None:
        text = "\n".join(f"{alert.text}. Next: {alert.next}" for alert in alerts)
        body = json.dumps({"text": text, "alerts": [msgspec.structs.asdict(alert) for alert in alerts]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - the URL's scheme was checked
        with urllib.request.urlopen(request, timeout=SEND_TIMEOUT) as answer:  # noqa: S310
            answer.read()
