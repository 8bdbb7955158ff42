"""The report of `conforms`, for people and for programs. Nothing is judged here."""

from __future__ import annotations

import json
from itertools import islice
from typing import Final

import attrs

from fsm_mediator.errors import MediatorError

SHOWN: Final = 20
"""The number of illegal moves that ``str`` describes in full."""


class ConformanceError(MediatorError):
    """The records do not conform, or no saga can judge some of them.

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
        saga_id: The execution.
        saga: The saga and its version, as it was judged.
        position: The number of the move in its execution, from 1; where the end is wrong, one more than the last.
        state: The state of the execution before it.
        found: The move, in words.
        why: The reason why it is illegal.
        expected: The moves that are legal there: event and target, in words.
        after: The move before it, in words; None: it is the first.
        line: The number of its line; None where the source has no lines.
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
    """An execution that none of the sagas can judge.

    Attributes:
        saga_id: The execution.
        saga: The name of its saga.
        version: The saga's version; None: unknown.
        fingerprint: The saga's fingerprint; None: unknown.
        why: The reason why no saga can judge it.
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
        executions: The number of executions that were checked.
        moves: The number of their legal moves.
        violations: For each execution that does not conform, its first illegal move.
        unchecked: The executions that no saga can judge.
        ignored: The number of lines of a log without a move.
        damage: The faults that the journal's own check found, in words.
    """

    executions: int
    moves: int
    violations: tuple[IllegalMove, ...]
    unchecked: tuple[Unchecked, ...]
    ignored: int = 0
    damage: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every execution could be judged, and conforms, and the journal is not damaged."""
        return not self.violations and not self.unchecked and not self.damage

    def raise_for_violations(self) -> None:
        """Raise if an execution does not conform, or could not be judged, or the journal is damaged.

        Raises:
            ConformanceError: Names each such execution, and its first illegal move.
        """
        if not self.ok:
            raise ConformanceError(self)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps({"ok": self.ok, **attrs.asdict(self)}, indent=2)

    def __str__(self) -> str:
        lines = [f"{_counted(self.executions, 'execution')} checked, {_counted(self.moves, 'legal move')}"]
        if self.ignored:
            lines[0] += f"; {_counted(self.ignored, 'line')} that tell of no move passed over"
        if self.ok:
            lines.append("all of them conform: the machine can have made every move")
        lines += [f"the journal is damaged: {fault}" for fault in self.damage]
        lines += [f"\n{violation}" for violation in self.violations[:SHOWN]]
        if len(self.violations) > SHOWN:
            more = ", ".join(repr(each.saga_id) for each in islice(self.violations, SHOWN, 3 * SHOWN))
            dots = ", ..." if len(self.violations) > 3 * SHOWN else ""
            lines.append(f"\nand {len(self.violations) - SHOWN:,} executions more: {more}{dots}")
        if self.unchecked:
            lines.append("")
        by_reason: dict[str, list[str]] = {}
        for each in self.unchecked:
            by_reason.setdefault(each.why, []).append(repr(each.saga_id))
        for why, ids in by_reason.items():
            some = f"{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
            lines.append(f"not checked: {_counted(len(ids), 'execution')} ({some}): {why}")
        return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
