"""The report of `compare`, for people and programs. A deploy script can use it to refuse a deploy."""

from __future__ import annotations

import enum
import json
import re
import textwrap
from collections.abc import Iterable
from typing import Final

import attrs

from fsm_mediator.errors import MediatorError

WIDTH: Final = 120
"""The maximum number of columns of a report."""


class Verdict(enum.StrEnum):
    """Whether an execution in a state of the old definition can continue under the new definition.

    - ``same``: every history that leads to the state is a possible history of the new machine.
    - ``renamed``: as ``same``, after the renamed parts have their new names.
    - ``depends``: only some histories that lead to the state are possible in the new machine.
    - ``must drain``: no history that leads to the state is possible in the new machine. The execution ends by itself
      under the old definition.
    - ``cannot``: no history that leads to the state is possible in the new machine. The execution does not end by
      itself, because it waits for an operator or a signal.
    - ``ended``: the execution has ended.
    """

    SAME = "same"
    RENAMED = "renamed"
    DEPENDS = "depends"
    DRAIN = "must drain"
    CANNOT = "cannot"
    ENDED = "ended"


GOES_ON = frozenset((Verdict.SAME, Verdict.RENAMED, Verdict.ENDED))


class StrandedError(MediatorError):
    """After a deploy, no mediator could drive some executions.

    Attributes:
        comparisons: The comparisons of the definitions of these executions.
    """

    def __init__(self, comparisons: Iterable[Comparison]) -> None:
        self.comparisons: tuple[Comparison, ...] = tuple(comparisons)
        super().__init__("\n\n".join(map(str, self.comparisons)))


@attrs.frozen
class StateVerdict:
    """The verdict for the executions in one state of the old definition.

    Attributes:
        state: The state.
        verdict: The `Verdict`: whether the executions in this state can continue.
        becomes: The name of the state in the new definition. None if the executions cannot continue.
        reasons: The reasons for the verdict, or warnings, in words.
    """

    state: str
    verdict: Verdict
    becomes: str | None = None
    reasons: tuple[str, ...] = ()


@attrs.frozen
class Comparison:
    """The verdicts for the executions of an older definition under a newer definition.

    Attributes:
        saga: The saga's name.
        old: A text with the version and the fingerprint of the older definition.
        new: A text with the version and the fingerprint of the newer definition. None if there is no newer definition.
        kept: Whether the new code also has a definition of the old shape. That definition drives the old executions.
        changes: The differences, in words.
        states: The verdict for every state of the older definition.
        branches: The comparison of each branch of a group, because branches are separate executions.
    """

    saga: str
    old: str
    new: str | None
    kept: bool
    changes: tuple[str, ...]
    states: tuple[StateVerdict, ...]
    branches: tuple[Comparison, ...] = ()

    def __getitem__(self, state: str) -> StateVerdict:
        for each in self.states:
            if each.state == state:
                return each
        raise KeyError(state)

    @property
    def goes_on(self) -> bool:
        """Whether the history of every execution that has not ended is a possible history of the new machine."""
        return all(each.verdict in GOES_ON for each in self.states) and all(each.goes_on for each in self.branches)

    @property
    def stranded(self) -> tuple[str, ...]:
        """The states of executions that no mediator can drive after the deploy.

        A mediator drives an execution only with a definition of the same fingerprint. So the result is empty if the new
        code also has the old definition (`kept`). Otherwise it has all states except the ended states. The states of a
        branch begin with the name of the branch's saga.
        """
        if self.kept:
            return ()
        own = tuple(each.state for each in self.states if each.verdict is not Verdict.ENDED)
        return (*own, *(f"{branch.saga}: {state}" for branch in self.branches for state in branch.stranded))

    @property
    def ok(self) -> bool:
        """Whether mediators can drive all executions after the deploy: `stranded` is empty."""
        return not self.stranded

    def raise_for_stranded(self) -> None:
        """Raise if the deploy would leave executions that no mediator can drive.

        Raises:
            StrandedError: The message has the states of these executions and a remedy.
        """
        if not self.ok:
            raise StrandedError([self])

    def as_dict(self) -> dict[str, object]:
        """The comparison as JSON types."""
        return {
            "saga": self.saga,
            "old": self.old,
            "new": self.new,
            "ok": self.ok,
            "kept": self.kept,
            "goes_on": self.goes_on,
            "changes": list(self.changes),
            "states": [{**attrs.asdict(each), "verdict": each.verdict.value} for each in self.states],
            "stranded": list(self.stranded),
            "branches": [branch.as_dict() for branch in self.branches],
        }

    def to_json(self) -> str:
        """The comparison as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        lines = [f"saga {self.saga!r}: {self.old} -> {self.new or 'gone'}"]
        lines += [f"  {change}" for change in self.changes]
        lines += textwrap.wrap(self._advice(), WIDTH)
        if self.changes and self.new is not None:
            lines.append("verdict for the executions in each state, by their history alone:")
            lines += _table(self.states)
            for branch in self.branches:
                if branch.changes:
                    lines.append(f"  each execution of branch {branch.saga!r}:")
                    lines += [f"  {line}" for line in _table(branch.states)]
                else:
                    lines.append(f"  each execution of branch {branch.saga!r} has the same shape")
        return "\n".join(lines)

    def _advice(self) -> str:
        if self.kept:
            if not self.changes:
                return "the same shape: every execution in flight continues"
            return "the old shape stays registered beside the new shape: executions in flight end under the old shape"
        where = "beside the new definition" if self.new is not None else "still"
        return (
            f"STRANDED: a mediator drives an execution only with a definition of the shape that started it, and the "
            f"new code has no such definition. Register the old definition {where}, under its own version, until its "
            f"executions have ended"
        )


def _table(states: Iterable[StateVerdict]) -> list[str]:
    groups: dict[tuple[Verdict, tuple[str, ...]], list[str]] = {}
    for each in states:
        name = each.state if each.becomes in (None, each.state) else f"{each.state} -> {each.becomes}"
        groups.setdefault((each.verdict, each.reasons), []).append(name)
    lines = []
    for (verdict, reasons), names in sorted(groups.items(), key=lambda group: list(Verdict).index(group[0][0])):
        lines += _wrapped(f"  {verdict.value:<11} ", ", ".join(names))
        for reason in reasons:
            lines += _wrapped(f"{'':<16}", reason, hanging=2)
    return lines


def _wrapped(before: str, text: str, hanging: int = 0) -> list[str]:
    after = " " * (len(before) + hanging)
    kept = re.sub(r"'[^']*'| -> ", lambda found: found[0].replace(" ", "\xa0"), text)  # keep quotes on one line
    lines = textwrap.wrap(
        kept, WIDTH, initial_indent=before, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in lines]
