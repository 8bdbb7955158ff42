"""Statistics about a saga's executions, which are read from a journal or a JSON file and drawn on the saga's steps."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, Unpack

import attrs
import msgspec

from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.diagram import Diagram, Look
from fsm_mediator.diagram.picture import STEPS, View
from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.factory import open_for_reading, open_journal
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.statistics.machines import MachineStatistics, Period, StepStatistics
from fsm_mediator.statistics.showing import Show, definitions_in, numbers_of, rounded

FORMAT: Final = 1
"""The version number of the JSON file's format."""

MOST_NAMED: Final = 20
"""The maximum number of unreadable executions whose ids are stored. `Unreadable.count` counts all of them."""


class Unreadable(msgspec.Struct, frozen=True):
    """The executions that are not counted because their records cannot be read.

    Attributes:
        count: The number of these executions.
        named: The id of each of the first `MOST_NAMED` of these executions, with the reason.
    """

    count: int = 0
    named: dict[str, str] = {}


class _File(msgspec.Struct, kw_only=True):
    """The content of the JSON that `Statistics.to_json` writes."""

    format: int = FORMAT
    saga: str
    version: str
    since: float | None
    until: float | None
    unreadable: Unreadable
    undrivable: int = 0
    machines: dict[str, MachineStatistics]


@attrs.frozen(eq=False, repr=False)
class Statistics:
    """Statistics about a saga's executions: the durations and failures of its steps, and the current states.

    ::

        stats = Statistics.read(checkout, "sagas.db", since=time.time() - 7 * 86400)
        stats.steps["charge"].p95
        stats.diagram("p95")

    Attributes:
        saga: The definition whose steps are drawn with the statistics.
        version: The version of the counted executions.
        since: Only records from this time on are counted, in seconds since the epoch. None to begin with the first
            record.
        until: Only records before this time are counted. None to include the last record.
        machines: The counts of the executions of the saga and of the sagas of its branches, by the saga's name.
        unreadable: The executions that were left out because their records cannot be read.
        undrivable: The number of executions, of any version, that no living driver could drive when they were read.
    """

    saga: Saga
    version: str
    since: float | None = attrs.field(default=None, kw_only=True)
    until: float | None = attrs.field(default=None, kw_only=True)
    machines: Mapping[str, MachineStatistics] = attrs.field(kw_only=True)
    unreadable: Unreadable = attrs.field(default=Unreadable(), kw_only=True)
    undrivable: int = attrs.field(default=0, kw_only=True)

    @classmethod
    def read(
        cls,
        saga: Saga,
        journal: Journal | str | os.PathLike[str],
        *,
        since: float | None = None,
        until: float | None = None,
        progress: Callable[[], object] | None = None,
    ) -> Self:
        """Count the executions of this version of *saga*, and their branches, in a journal.

        The journal is read page by page, so it may have any size. An execution that cannot be read is counted in
        `unreadable`.

        Args:
            saga: The definition.
            journal: The journal, or its path or URL.
            since: Only records from this time on are counted, in seconds since the epoch. None to begin with the first.
            until: Only records before this time are counted. The states of executions are always the current states.
            progress: A function that is called after each execution.

        Raises:
            DefinitionError: *since* or *until* is not a number, or *until* is not after *since*.
            JournalError: The journal cannot be opened or listed.
        """
        for time in (since, until):
            if time is not None and (isinstance(time, bool) or not isinstance(time, (int, float)) or math.isnan(time)):
                raise DefinitionError(
                    f"{time!r} is not a time: give seconds since the epoch; for a datetime, use its .timestamp()"
                )
        if since is not None and until is not None and until <= since:
            raise DefinitionError(f"the period since {since!r} until {until!r} is empty; until must be later")
        period = Period(-math.inf if since is None else since, math.inf if until is None else until)
        machines: dict[str, MachineStatistics] = {}
        lost, undrivable, named = 0, 0, {}
        with _opened(journal) as opened:
            look = Drivability(opened)
            for definition in all_definitions(saga):
                machine = machines.setdefault(definition.name, MachineStatistics())
                for entry in opened.entries(saga=definition.name):
                    undrivable += look.is_undrivable(entry)
                    if entry.acceptance.version != definition.version:
                        continue
                    try:
                        _count(opened, entry, machine, period)
                    except JournalError as error:
                        lost += 1
                        if lost <= MOST_NAMED:
                            named[entry.saga_id] = str(error)
                    if progress is not None:
                        progress()
        unreadable = Unreadable(lost, named)
        counts: dict[str, Any] = {"machines": machines, "unreadable": unreadable, "undrivable": undrivable}
        return cls(saga, saga.version, since=since, until=until, **counts)

    @classmethod
    def from_json(cls, saga: Saga, source: str | bytes | Path) -> Self:
        """Read statistics that `to_json` has written.

        Args:
            saga: The definition whose steps are drawn with the statistics. It may have another version than the counted
                executions.
            source: The JSON text, or the `Path` of a file with it.

        Raises:
            DefinitionError: The file cannot be read, or it does not have statistics of this saga.
        """
        where = str(source) if isinstance(source, Path) else "the text"
        try:
            text = source.read_bytes() if isinstance(source, Path) else source
            file = msgspec.json.decode(text, type=_File)
        except OSError as error:
            raise DefinitionError(f"{where} cannot be read: {error.strerror or error}") from error
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise DefinitionError(
                f"{where} holds no statistics ({error}); `fsm-mediator stats` and Statistics.to_json write them"
            ) from error
        if (file.saga, file.format) != (saga.name, FORMAT):
            raise DefinitionError(
                f"{where} holds statistics of saga {file.saga!r} in format {file.format}, not of {saga.name!r} in "
                f"format {FORMAT}; write them again with `fsm-mediator stats`"
            )
        return cls(
            saga,
            file.version,
            since=file.since,
            until=file.until,
            machines=file.machines,
            unreadable=file.unreadable,
            undrivable=file.undrivable,
        )

    def to_json(self) -> str:
        """The statistics as JSON, for a build that has no journal. The JSON has no payloads, results or errors."""
        file = _File(
            saga=self.saga.name,
            version=self.version,
            since=self.since,
            until=self.until,
            unreadable=self.unreadable,
            undrivable=self.undrivable,
            machines=dict(self.machines),
        )
        return json.dumps(msgspec.to_builtins(file, str_keys=True), sort_keys=True, separators=(",", ":")) + "\n"

    @property
    def steps(self) -> dict[str, StepStatistics]:
        """The statistics of each step, wait and group, by its id in pictures: ``charge``, ``fulfil.pack/weigh``."""
        nothing = MachineStatistics()
        return {
            prefix + part.path: self.machines.get(definition.name, nothing).step(part.path)
            for prefix, definition in definitions_in(self.saga)
            for part in definition.parts
        }

    def diagram(
        self, show: Show = "p95", *, view: View = STEPS, beside: Statistics | None = None, **look: Unpack[Look]
    ) -> Diagram:
        """A diagram of the saga's steps with their statistics. A line is wider if more executions followed it.

        A step whose value comes from fewer than 20 samples has no colour.

        Args:
            show: The statistic on each step. ``p50`` and ``p95`` are percentiles of its durations. ``failures`` is the
                share of failures, with the number of retries. ``now`` is the number of executions in the step.
            view: ``steps``, or ``detail`` for every state and the number of times that each transition was made.
            beside: Statistics of another period or version. They are drawn to the right of the steps view with the same
                colours. If both pictures are too wide together, the second is drawn below.
            look: Other attributes of `Diagram`, such as the theme.

        Raises:
            DefinitionError: *show* or *view* has an unknown value.
        """
        other = None if beside is None else beside.diagram(show)
        numbers = numbers_of(self.saga, self.machines, show, tuple(self._about()))
        return Diagram(self.saga, view=view, numbers=numbers, beside=other, **look)

    def _about(self) -> Iterator[str]:
        """Yield the lines below the title of a picture: version, number of executions, durations and period."""
        whole = self.machines.get(self.saga.name, MachineStatistics())
        p50, p95 = whole.runs.percentile(50), whole.runs.percentile(95)
        yield f"version {self.version} · {whole.executions:,} executions"
        if p50 is not None and p95 is not None:
            yield f"from acceptance to end: {rounded(p50)} (p50), {rounded(p95)} (p95)"
        if self.since is not None or self.until is not None:
            ends = zip(("from", "to"), (self.since, self.until), strict=True)
            yield " ".join(f"{word} {_day(time)}" for word, time in ends if time is not None) + " UTC"
        if self.unreadable.count:
            yield f"{self.unreadable.count:,} cannot be read and are left out: {', '.join(self.unreadable.named)}"

    def _repr_mimebundle_(self, **kinds: Any) -> Mapping[str, Any]:
        """The MIME bundle for a notebook: the diagram of the 95th percentiles, and a line of text."""
        return {**self.diagram()._repr_mimebundle_(**kinds), "text/plain": repr(self)}

    def __repr__(self) -> str:
        whole = self.machines.get(self.saga.name, MachineStatistics())
        return f"<Statistics of saga {self.saga.name!r} version {self.version}: {whole.executions:,} executions>"


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


@contextmanager
def _opened(journal: Journal | str | os.PathLike[str]) -> Iterator[Journal]:
    """Yield *journal*. If it is a path or a URL, it is opened for reading, and closed at the end of the block."""
    if not isinstance(journal, (str, os.PathLike)):
        yield open_journal(journal)
        return
    with closing(open_for_reading(journal)) as opened:
        yield opened


def _count(journal: Journal, entry: Entry, machine: MachineStatistics, period: Period) -> None:
    """Add one execution to *machine*, the counts of its machine. Only the records in *period* are counted.

    Raises:
        JournalError: The records of the execution cannot be read.
    """
    machine.place(entry, period)
    accepted_at = entry.acceptance.at
    if entry.seq and period.meets(accepted_at, entry.changed_at):
        # Records that were written after *entry* was read are left out, because they lead to another state.
        machine.add(accepted_at, journal.records(entry.saga_id)[: entry.seq], period)
