"""Daemon: has every execution that nobody drives, and somebody should, driven on; all the time, whatever fails.

It finds what it can claim: executions whose driver is gone, parked ones that are due, and those that something has come
for. What a round finds is handed to the mediator; what no registered saga can drive is left where it is, and said once.

Source: the saga daemon of Garcia-Molina & Salem, "Sagas", 1987, section 7.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final, Self

from fsm_mediator.errors import IllegalRecordError, JournalError, PayloadError
from fsm_mediator.mediator.desk import Desk
from fsm_mediator.mediator.live import Live
from fsm_mediator.retry import Retry, check_number

logger = logging.getLogger("fsm_mediator")

BACKOFF: Final = Retry(attempts=None, wait_initial=0.5, wait_max=30.0, wait_jitter=0.5)
"""How long the daemon waits after a round that the journal could not serve."""

BATCH: Final = 256
"""How many executions a round hands over at the most, so that a backlog does not fill the memory."""


class Rounds:
    """What a daemon remembers from round to round, and decides in each: whom to take up, how long to wait then.

    Args:
        desk: Where to look, by what clock.
        driven: What the mediator drives now, or is about to take up, by id.
        poll: The most seconds between two looks.
    """

    def __init__(self, desk: Desk, driven: Mapping[str, Live], poll: float) -> None:
        check_number("poll (seconds)", poll, above=True)
        self._desk = desk
        self._driven = driven
        self._poll = poll
        self._failures = 0
        self._handed: list[Live] = []
        self._refused: set[str] = set()
        self._skip: set[str] = set()

    def find(self) -> tuple[list[str], float]:
        """The executions to take up now, and the seconds to wait after that; never raises for the journal's sake."""
        try:
            self._look_after_those_handed_over()
            room = BATCH - len(self._handed)
            if room <= 0:
                return [], min(self._poll, 0.05)
            now = self._desk.clock()
            known = len(self._handed) + len(self._refused)
            claimable = self._desk.journal.claimable(now, room + known, tuple(self._skip))
            found = [id_ for id_ in claimable if id_ not in self._refused and id_ not in self._driven][:room]
            if found:
                wait = 0.0 if len(found) == room else 0.01
            else:
                wake = self._desk.journal.next_wake()
                # What is due and was not found cannot be driven here, or is: it is not looked for all the time.
                wait = self._poll if wake is None or wake <= now else min(self._poll, max(0.001, wake - now))
        except JournalError as error:
            self._failures += 1
            wait = BACKOFF.wait(self._failures, 0.5)
            logger.warning("the daemon cannot use the journal, and looks again in %.1f s: %s", wait, error)
            return [], wait
        self._failures = 0
        return found, wait

    def handed_over(self, live: Live | None) -> None:
        """The mediator has it to take up; None: somebody there is at it already."""
        if live is not None:
            self._handed.append(live)

    def _look_after_those_handed_over(self) -> None:
        """Forget those that were taken up, and remember those that never can be."""
        waiting = []
        for live in self._handed:
            if live.epoch == 0 and not live.finished:
                waiting.append(live)
            elif (fingerprint := self._desk.undrivable(live)) is not None:
                self._skip.add(fingerprint)
            elif live.epoch == 0 and isinstance(live.error, (IllegalRecordError, PayloadError)):
                self._refused.add(live.saga_id)  # it cannot be read; any other fault may pass
        self._handed = waiting


class Daemon:
    """The daemon of a `Mediator`: a thread, for as long as the ``with`` block lasts.

    Args:
        rounds: Decides.
        take_up: Has one execution taken up.
        closed: Whether the mediator was closed, and takes up no more.
    """

    def __init__(self, rounds: Rounds, take_up: Callable[[str], Live | None], closed: Callable[[], bool]) -> None:
        self._rounds = rounds
        self._take_up = take_up
        self._closed = closed
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="fsm-mediator-daemon", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take nothing up any more; what was taken up goes on."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._closed():
            try:
                found, wait = self._rounds.find()
                for saga_id in found:
                    self._rounds.handed_over(self._take_up(saga_id))
            except Exception:
                wait = BACKOFF.wait_max
                logger.exception("a round of the daemon ended with an error; the next one is in %.0f s", wait)
            self._stopped.wait(wait)
