"""Membership: enlists a driver in the journal, and renews its lease."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from fsm_mediator.errors import JournalError, LeaseLostError
from fsm_mediator.journal.protocol import Definition, Driver, Journal
from fsm_mediator.mediator.ownership import look_for_turns

HURRY: Final = 10
"""The factor by which heartbeats are more frequent while executions wait for slots that other processes may free."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Membership:
    """The registration of one driver in the journal.

    A thread renews the driver's lease, even while a step blocks the event loop.

    Args:
        journal: The journal.
        driver: The driver.
        definitions: Returns the definitions that the driver knows.

    Attributes:
        opened: Whether the driver is enlisted with its present definitions.
        closed: Whether the driver must not be enlisted any more.
    """

    opened: bool
    closed: bool

    def __init__(self, journal: Journal, driver: Driver, definitions: Callable[[], tuple[Definition, ...]]) -> None:
        self.opened = self.closed = self._changed = False
        self._journal = journal
        self._driver = driver
        self._definitions = definitions
        self._lock = threading.Lock()
        self._enlisted = False
        self._stopped = threading.Event()

    def enlist(self, heartbeat: weakref.WeakMethod[Callable[[], bool]]) -> None:
        """Enlist the driver, and call *heartbeat* regularly from now on. Does nothing if the driver is enlisted."""
        with self._lock:
            if self.closed:
                return
            enlisted = self._enlisted
            if not enlisted or self._changed:
                self._enlist()
            self._enlisted = True
            if not enlisted and self._journal.heartbeat is not None:
                arguments = (heartbeat, self._stopped, self._journal.heartbeat)
                threading.Thread(target=_beat, args=arguments, name="fsm-mediator-heartbeat", daemon=True).start()
            self.opened = not self._changed

    def _enlist(self) -> None:
        self._changed = False  # set first: a saga that is registered later is another change
        self._journal.enlist(replace(self._driver, definitions=self._definitions()))

    def note_change(self) -> None:
        """Note that the driver now knows other definitions. It is enlisted again before its next use or heartbeat."""
        self._changed, self.opened = True, False

    def renew_lease(self) -> tuple[str, ...]:
        """Renew the lease. Returns the ids of the driver's executions with inbox items: see `Journal.beat`.

        If the journal deleted the driver, enlist the driver again.

        A deleted driver owns no executions. If it still drives an execution, the journal refuses the next record of the
        execution.
        """
        with self._lock:
            if self._changed and self._enlisted:
                self._enlist()
        try:
            return self._journal.beat(self._driver.id)
        except LeaseLostError:
            with self._lock:
                if self._enlisted:
                    logger.warning(
                        "the journal has forgotten this driver, having heard nothing of it for long; it enlists again"
                    )
                    self._enlist()
            return ()

    def suspend(self) -> None:
        """Stop the heartbeat until the driver is enlisted again."""
        self.opened = self._enlisted = False
        self._stopped.set()
        self._stopped = threading.Event()

    def close(self) -> None:
        """Prevent the driver from being enlisted again. A driver that is enlisted stays enlisted."""
        self.closed, self.opened = True, False

    def end(self) -> None:
        """Dismiss the driver, after its last execution is released."""
        with self._lock:
            enlisted, self._enlisted = self._enlisted, False
            self._stopped.set()
        if enlisted:
            try:
                self._journal.dismiss(self._driver.id)
            except JournalError as error:
                logger.warning("the driver is closed, but the journal could not be updated: %s", error)
            look_for_turns()  # the limits of the driver do not count any more


def _beat(heartbeat: weakref.WeakMethod[Callable[[], bool]], stopped: threading.Event, seconds: float) -> None:
    wait = seconds
    while not stopped.wait(wait):
        call = heartbeat()
        if call is None:
            return
        wait = seconds / HURRY if call() else seconds
        del call
