"""The report of `conforms`, for people and for programs."""

from __future__ import annotations

import json
from itertools import islice
from typing import Final

import attrs

from fsm_mediator.errors import MediatorError

SHOWN: Final = 20
"""The number of illegal moves that the text of a report describes in full."""


class ConformanceError(MediatorError):
    """Some records do not conform, or could not be checked, or the journal is damaged.

    Attributes:
        report: The whole report.
    """

    def __init__(self, report: Conformance) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen
class IllegalMove:
    """The first move of an execution that its saga's machine does not have.

    Attributes:
        saga_id: The id of the execution.
        saga: The saga and the version against which the execution was checked.
        position: The number of the move in its execution, from 1. If the state at the end is wrong, the number after
            the last move.
        state: The state of the execution before the move.
        found: The move, in words.
        why: The reason why the move is illegal.
        expected: The legal moves in this state, in words: event and target.
        after: The previous move, in words. None if there is no previous move.
        line: The line number of the move. None if the source has no lines.
    """

    saga_id: str
    saga: str
    position: int
    state: str
    found: str
    why: str
    expected: tuple[str, ...]
    after: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line is not None else ""
        return "\n".join(
            (
                f"execution {self.saga_id!r} of {self.saga}: move {self.position}{line} is illegal",
                f"  state      {self.state}" + (f", since {self.after}" if self.after else ""),
                f"  found      {self.found}",
                f"  but        {self.why}",
                f"  expected   {self.expected[0] if self.expected else 'nothing more: it has ended'}",
                *(f"             {each}" for each in self.expected[1:]),
            )
        )


@attrs.frozen
class Unchecked:
    """An execution that none of the sagas can check.

    Attributes:
        saga_id: The id of the execution.
        saga: The name of the execution's saga.
        version: The saga's version. None if it is unknown.
        fingerprint: The saga's fingerprint. None if it is unknown.
        why: The reason why no saga can check the execution.
    """

    saga_id: str
    saga: str
    version: str | None
    fingerprint: str | None
    why: str


@attrs.frozen
class Conformance:
    """The report of `conforms`.

    Attributes:
        executions: The number of checked executions.
        moves: The number of legal moves in these executions.
        violations: The first illegal move of each execution that does not conform.
        unchecked: The executions that no saga can check.
        ignored: The number of lines of the log that have no move.
        damage: The problems that the journal's own check found, in words.
    """

    executions: int
    moves: int
    violations: tuple[IllegalMove, ...]
    unchecked: tuple[Unchecked, ...]
    ignored: int = 0
    damage: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every execution was checked and conforms, and the journal is not damaged."""
        return not self.violations and not self.unchecked and not self.damage

    def raise_for_violations(self) -> None:
        """Raise if an execution does not conform or could not be checked, or if the journal is damaged.

        Raises:
            ConformanceError: The message has these executions, each with its first illegal move or the reason why it
                could not be checked.
        """
        if not self.ok:
            raise ConformanceError(self)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps({"ok": self.ok, **attrs.asdict(self)}, indent=2)

    def __str__(self) -> str:
        lines = [f"{_counted(self.executions, 'execution')} checked, {_counted(self.moves, 'legal move')}"]
        if self.ignored:
            lines[0] += f"; {_counted(self.ignored, 'line')} without a move skipped"
        if self.ok:
            lines.append("all executions conform: the machine allows every move")
        lines += [f"the journal is damaged: {fault}" for fault in self.damage]
        lines += [f"\n{violation}" for violation in self.violations[:SHOWN]]
        if len(self.violations) > SHOWN:
            more = ", ".join(repr(each.saga_id) for each in islice(self.violations, SHOWN, 3 * SHOWN))
            dots = ", ..." if len(self.violations) > 3 * SHOWN else ""
            lines.append(f"\nand {len(self.violations) - SHOWN:,} more executions: {more}{dots}")
        if self.unchecked:
            lines.append("")
        by_reason: dict[str, list[str]] = {}
        for each in self.unchecked:
            by_reason.setdefault(each.why, []).append(repr(each.saga_id))
        for why, ids in by_reason.items():
            some = f"{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
            lines.append(f"{_counted(len(ids), 'execution')} unchecked ({some}): {why}")
        return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
