"""Membership: a driver is made known to the journal, and its lease renewed."""

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
"""How many times as often the heartbeat comes while executions wait for slots that other processes may free."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Membership:
    """One driver, as the journal knows it.

    A thread renews its lease, even while a step blocks the event loop.

    Args:
        journal: The journal.
        driver: The driver.
        definitions: Returns what the driver knows.

    Attributes:
        opened: Whether the driver can be used at once.
        closed: Whether it is not to be enlisted any more.
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
        """Be known to the journal, and have *heartbeat* called from now on; harmless if it is."""
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
        self._changed = False  # first: a saga that is registered from now on is another change
        self._journal.enlist(replace(self._driver, definitions=self._definitions()))

    def note_change(self) -> None:
        """The driver knows other definitions now: enlist it again before it is used, or at the next heartbeat."""
        self._changed, self.opened = True, False

    def renew_lease(self) -> tuple[str, ...]:
        """Renew the lease, and return what `Journal.beat` does; a driver that was forgotten enlists again.

        Executions that it owned are free by then. If they are still driven here, that ends with their next record.
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
        """Stop the heartbeat, until the driver is enlisted again."""
        self.opened = self._enlisted = False
        self._stopped.set()
        self._stopped = threading.Event()

    def close(self) -> None:
        """Enlist the driver no more; it stays enlisted if it is."""
        self.closed, self.opened = True, False

    def end(self) -> None:
        """The last execution is released: be no driver any more."""
        with self._lock:
            enlisted, self._enlisted = self._enlisted, False
            self._stopped.set()
        if enlisted:
            try:
                self._journal.dismiss(self._driver.id)
            except JournalError as error:
                logger.warning("closed, but the journal could not be told: %s", error)
            look_for_turns()  # its limits do not count any more


def _beat(heartbeat: weakref.WeakMethod[Callable[[], bool]], stopped: threading.Event, seconds: float) -> None:
    wait = seconds
    while not stopped.wait(wait):
        call = heartbeat()
        if call is None:
            return
        wait = seconds / HURRY if call() else seconds
        del call
