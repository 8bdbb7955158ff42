"""Prometheus: serve the metrics of a mediator over HTTP, in the text format of Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import isawaitable
from typing import Any, Final, TypeAlias

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.off_loop import off_loop
from fsm_mediator.records import Record
from fsm_mediator.states import ENDED, PHASES, STUCK_EXECUTING

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Series: TypeAlias = Mapping[tuple[str, ...], float]


async def lags_of(mediator: Any) -> list[Any]:
    """The `Lag` of each relay of *mediator* that has a method `lag`: the numbers of waiting and refused rows."""
    lags = [await off_loop(relay.lag) for relay in mediator.settings["relays"] if hasattr(relay, "lag")]
    return [await lag if isawaitable(lag) else lag for lag in lags]


class Numbers:
    """Counts transitions of a mediator, unfinished executions in its journal, and waiting rows of its relays.

    Pass it to a mediator twice: as an observer, and as a relay of its daemon.

    Args:
        every: The number of seconds between two queries to the journal.
        clock: A function that returns the time, in seconds since the epoch.
    """

    def __init__(self, *, every: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._every = every
        self._clock = clock
        self._looked = 0.0
        self._lock = threading.Lock()
        self._moves: Counter[tuple[str, ...]] = Counter()
        self._errors = 0
        self._now: Counter[tuple[str, ...]] = Counter()
        self._oldest: dict[tuple[str, ...], float] = {}
        self._lags: dict[str, Any] = {}

    def __call__(self, record: Record) -> None:
        """Count the transition that *record* describes."""
        with self._lock:
            self._moves[record.saga, record.step or "", record.event] += 1

    async def pass_on(self, mediator: Any) -> int:
        """Query the journal and the relays of *mediator* if a query is due. Always returns 0.

        The daemon of the mediator calls this method repeatedly.
        """
        now = self._clock()
        if now < self._looked + self._every:
            return 0
        await off_loop(self.look, mediator.journal)
        self._lags = {str(number): lag for number, lag in enumerate(await lags_of(mediator))}
        self._looked = now
        return 0

    def look(self, journal: Journal) -> None:
        """Count the unfinished executions in *journal*. If the journal cannot be read, the error is counted instead."""
        now, oldest = Counter[tuple[str, ...]](), dict[tuple[str, ...], float]()
        try:
            for phase in PHASES:
                for entry in () if phase in (*ENDED, STUCK_EXECUTING) else journal.entries(phase=phase):
                    place = (entry.acceptance.saga, phase)
                    now[place] += 1
                    oldest[place] = min(entry.changed_at, oldest.get(place, entry.changed_at))
        except JournalError:
            self._errors += 1
            return
        self._now, self._oldest = now, oldest

    def text(self) -> str:
        """All metrics, in the text format of Prometheus."""
        with self._lock:
            moves = dict(self._moves)
        ages = {place: max(0.0, self._clock() - since) for place, since in self._oldest.items()}
        lines = [
            *_lines("transitions_total", "counter", "Transitions made here.", ("saga", "step", "event"), moves),
            *_lines("sagas", "gauge", "Executions that have not ended.", ("saga", "phase"), self._now),
            *_lines("oldest_seconds", "gauge", "Longest time in a state.", ("saga", "phase"), ages),
            *_lines("journal_errors_total", "counter", "Looks that the journal refused.", (), {(): self._errors}),
            *(line for name in ("waiting", "refused", "seconds") for line in self._relay_lines(name)),
        ]
        return "\n".join(lines) + "\n"

    def _relay_lines(self, name: str) -> Iterator[str]:
        """The lines of the metric for the field *name* of `Lag`."""
        what = {"waiting": "Rows to pass on.", "refused": "Rows refused for good.", "seconds": "Age of the oldest row."}
        series: _Series = {(each,): getattr(lag, name) for each, lag in self._lags.items()}
        return _lines(f"relay_{'lag_seconds' if name == 'seconds' else name}", "gauge", what[name], ("relay",), series)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[int]:
        """Serve the metrics at ``/metrics`` of this address during the ``with`` block, and yield the port.

        Port 0 means any free port.

        Raises:
            DefinitionError: The address cannot be used.
        """
        numbers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer a request of Prometheus."""
                known = self.path.partition("?")[0] == "/metrics"
                body = numbers.text().encode() if known else b"see /metrics\n"
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing, because there are many requests."""

        try:
            server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise DefinitionError(f"numbers cannot be served at {host}:{port}: {error.strerror or error}") from error
        thread = threading.Thread(target=server.serve_forever, name="fsm-mediator-metrics", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _lines(name: str, kind: str, what: str, labels: Iterable[str], series: _Series) -> Iterator[str]:
    full = f"fsm_mediator_{name}"
    yield f"# HELP {full} {what}"
    yield f"# TYPE {full} {kind}"
    for values, number in sorted(series.items()):
        pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))
        yield f"{full}{{{pairs}}} {number}" if pairs else f"{full} {number}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
