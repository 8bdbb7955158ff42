"""Report: the findings of `verify`, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from fsm_mediator.errors import MediatorError
from fsm_mediator.verifier.rules_table import LAWS
from fsm_mediator.verifier.violation import Violation

JSON_SCHEMA: Final = 1
"""The version of the JSON format. It changes when a key is removed or a key changes its meaning."""


class VerificationError(MediatorError):
    """A law is broken or unproved. The message shows the shortest path to each broken law.

    Attributes:
        report: The whole report.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen(kw_only=True)
class Report:
    """The findings of `verify`.

    Attributes:
        saga: The saga's name.
        version: The saga's version.
        fingerprint: The saga's fingerprint.
        nodes: The number of different situations that were reached. A situation is a state of an execution together
            with the effects that really happened.
        moves: The number of actions that led from one situation to another.
        paths: The number of paths without cycles to an end or a park. In a park, the saga waits for an operator or a
            signal.
        states: The machine's states that were reached.
        unreached: The machine's states that were not reached. If the search is complete, no outcome leads to these
            states under the current settings.
        transitions: The number of the machine's transitions that were taken.
        all_transitions: The number of all transitions of the machine.
        violations: The shortest violation of each broken law.
        broken_rules: The names in `RULES` of all broken rules.
        parks: Each cause for which the saga can stop until an operator or a signal comes, with the paths of the parts
            where it can stop for this cause.
        overtaking: The steps with ``overtake``. Law 4 does not apply to these steps.
        bounds: The bounds of the search, in words.
        complete: Whether the search covered everything within the bounds.
        strict: Whether steps could also raise after their effect without reporting doubt.
        seconds: The duration of the search, in seconds.
        branches: The reports of the branches of the saga's groups.
    """

    saga: str
    version: str
    fingerprint: str
    nodes: int
    moves: int
    paths: int
    states: tuple[str, ...]
    unreached: tuple[str, ...]
    transitions: int
    all_transitions: int
    violations: tuple[Violation, ...]
    broken_rules: tuple[str, ...] = ()
    parks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    overtaking: tuple[str, ...]
    bounds: str
    complete: bool
    strict: bool
    seconds: float
    branches: tuple[Report, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every law holds in every situation within the bounds."""
        return self.complete and not self.violations and all(branch.ok for branch in self.branches)

    @property
    def verdicts(self) -> dict[int, str]:
        """The verdict by the number of the law: ``holds``, ``broken``, or ``unproved`` if the search stopped early."""
        broken = {violation.law for violation in self.violations}
        rest = "holds" if self.complete else "unproved"
        return {law: "broken" if law in broken else rest for law in LAWS}

    def raise_for_violations(self) -> None:
        """Raise if a law is broken, or unproved because the search stopped early.

        Raises:
            VerificationError: A law is broken or unproved. The error has the shortest path to each broken law.
        """
        if not self.ok:
            raise VerificationError(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, as in `to_json`."""
        return {
            "schema": JSON_SCHEMA,
            "ok": self.ok,
            "saga": self.saga,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "nodes": self.nodes,
            "moves": self.moves,
            "paths": self.paths,
            "states": list(self.states),
            "unreached": list(self.unreached),
            "transitions": self.transitions,
            "all_transitions": self.all_transitions,
            "laws": [{"law": law, "text": LAWS[law], "verdict": verdict} for law, verdict in self.verdicts.items()],
            "broken_rules": list(self.broken_rules),
            "violations": [violation.to_dict() for violation in self.violations],
            "parks": [{"cause": cause, "parts": list(paths)} for cause, paths in self.parks],
            "overtaking": list(self.overtaking),
            "bounds": self.bounds,
            "complete": self.complete,
            "strict": self.strict,
            "seconds": self.seconds,
            "branches": [branch.to_dict() for branch in self.branches],
        }

    def to_json(self) -> str:
        """The report as JSON text. New names may be added to the format.

        The value of ``schema`` changes when a name is removed or changes its meaning.
        """
        return json.dumps(self.to_dict(), indent=2)

    def _repr_mimebundle_(self, **kinds: Any) -> Mapping[str, Any]:
        """The report for a notebook: its text and, if a law is broken, a diagram of the path to this law."""
        shown = self.violations[0].diagram("steps")._repr_mimebundle_(**kinds) if self.violations else {}
        return {**shown, "text/plain": str(self)}

    def _does_every_failure_path_end_compensated(self) -> list[str]:
        """The lines of the report that say whether every failure path ends compensated.

        Empty if a law is broken or the search stopped early.
        """
        if not self.complete or self.violations:
            return []
        if not self.parks:
            return ["every failure path ends compensated"]
        why = "every failure path ends compensated, or stops visibly until a person acts or a signal comes:"
        return [why, *(f"  {_listed(paths)}: {cause}" for cause, paths in self.parks)]

    def __str__(self) -> str:
        lines = [
            f"saga {self.saga!r} version {self.version} ({self.fingerprint})",
            f"{self.nodes:,} situations, {self.moves:,} moves, {_many(self.paths)} paths to an end or a park",
            (
                f"{len(self.states)} states reached; {self.transitions} of {self.all_transitions} transitions taken; "
                f"{self.seconds:.2f} s"
            ),
        ]
        if self.unreached:
            which = (
                "not reached with the current settings"
                if self.complete
                else "not reached because the search stopped early"
            )
            lines.append(f"{which}: {', '.join(self.unreached)}")
        wide = max(6, *map(len, self.verdicts.values()))
        lines += [f"  {verdict:<{wide}}  {law}. {LAWS[law]}" for law, verdict in self.verdicts.items()]
        lines += self._does_every_failure_path_end_compensated()
        if self.overtaking:
            lines.append(f"law 4 does not apply to steps with overtake=True: {', '.join(self.overtaking)}")
        for branch in self.branches:
            wrong = ", ".join(
                f"law {law} is {verdict}" for law, verdict in branch.verdicts.items() if verdict != "holds"
            )
            verdict = "every law holds" if branch.ok else wrong or "see the branches of this branch"
            lines.append(f"branch {branch.saga}: {branch.nodes:,} situations, {branch.moves:,} moves; {verdict}")
        lines.append(f"bounds: {self.bounds}")
        lines += [f"\n{violation}" for violation in self.violations]
        lines += [f"\n{branch}" for branch in self.branches if not branch.ok]
        return "\n".join(lines)


def _listed(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:4])
    return shown if len(paths) <= 4 else f"{shown} and {len(paths) - 4} more"


def _many(number: int) -> str:
    if number < 10**9:
        return f"{number:,}"
    power = len(str(number)) - 1  # the number of paths may be too large for a float
    return f"{number // 10 ** (power - 1) / 10:.1f}e+{power}"
