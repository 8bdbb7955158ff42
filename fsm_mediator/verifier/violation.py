"""Violation: a broken law and the shortest path to it, as a timeline, a diagram or a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.narration import place_in_words
from fsm_mediator.records import Record
from fsm_mediator.states import PENDING
from fsm_mediator.verifier.rules_table import LAWS

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, View


@attrs.frozen(kw_only=True)
class Violation:
    """A broken law and the shortest path to it.

    Attributes:
        law: The number of the law.
        what: The problem at the end of the path, in words.
        rule: The name of the broken rule in `RULES`.
        saga: The saga that breaks the law.
        path: A text for each action, in order.
        recorded: For each action of *path*, the records that it made. Some actions make no records.
        effects: The paths of the parts that have an effect at the end.
        strict: Whether steps could raise after their effect without reporting doubt.
        branches: For each branch that the path mentions, a path of this branch that reaches the same statuses. The
            keys are ``group.branch`` and ``group.branch/group.branch``.
        unplayable: The reason why *branches* lacks the path of a branch. None if it has a path for each branch.
        around: The number of actions at the end of the path that repeat endlessly. 0 if there is no endless cycle.
    """

    law: int
    what: str
    saga: Saga = attrs.field(repr=False)
    path: tuple[str, ...]
    recorded: tuple[tuple[Record, ...], ...] = attrs.field(repr=False)
    effects: tuple[str, ...]
    strict: bool = False
    rule: str = ""
    branches: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, repr=False)
    unplayable: str | None = attrs.field(default=None, repr=False)
    around: int = attrs.field(default=0, repr=False)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of the whole path."""
        return tuple(record for records in self.recorded for record in records)

    @property
    def state(self) -> str:
        """The state of the saga at the end of the path."""
        records = self.records
        return records[-1].target if records else PENDING

    def timeline(self) -> str:
        """The path as text: one line for each action, with the states that the saga reaches."""
        wide = min(max((len(words) for words in self.path), default=0), 72)
        lines = []
        for number, (words, records) in enumerate(zip(self.path, self.recorded, strict=True), 1):
            led = " -> ".join(place_in_words(record.target) for record in records)
            lines.append(f"  {number:3}. {words:<{wide}}  {'-> ' + led if led else '(no record)'}")
        if self.around:
            lines.append(f"       then again from {len(lines) - self.around + 1}., forever")
        return "\n".join(lines)

    def diagram(self, view: View = "detail") -> Diagram:
        """The diagram of the machine, with the path to the broken law in red."""
        from fsm_mediator.diagram import Diagram
        from fsm_mediator.diagram.history import Run

        run = Run(saga_id=f"law {self.law} broken", state=self.state, records=self.records)
        return Diagram(self.saga, run, view=view, theme="red")

    def to_pytest(self) -> str:
        """The source of a pytest function that verifies the saga again, and fails while a law is broken.

        Its comments show the path to the broken law. If a loaded module has the saga under a public name, the test
        imports the saga from that module. Otherwise the test has a function for you to fill in.
        """
        from fsm_mediator.verifier.pytest_source import pytest_source

        return pytest_source(self.saga, self.law, self.what, self.path, strict=self.strict)

    def to_dict(self) -> dict[str, Any]:
        """The violation as plain data."""
        steps = zip(self.path, self.recorded, strict=True)
        return {
            "law": self.law,
            "text": LAWS[self.law],
            "what": self.what,
            "rule": self.rule,
            "path": [
                {
                    "happens": words,
                    "records": [
                        {"event": record.event, "source": record.source, "target": record.target} for record in records
                    ],
                }
                for words, records in steps
            ],
            "state": self.state,
            "effects": list(self.effects),
            "branches": {place: list(way) for place, way in self.branches.items()},
        }

    def __str__(self) -> str:
        there = ", ".join(self.effects) or "nothing"
        return (
            f"law {self.law} is broken: {self.what}\nthe shortest path to it:\n{self.timeline()}\n"
            f"       parts that have an effect at the end: {there}"
        )
