"""Shape: the structure behind a saga's fingerprint, as data, for a comparison without the code.

A shape has everything that the machine's table depends on, and nothing else: no functions, no retry numbers, no types.
A file of shapes is JSON, written by ``fsm-mediator export-shape``; ``docs/upgrades.md`` describes its format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from fsm_mediator.definition.pickling import with_shape
from fsm_mediator.definition.saga import Saga, shape_of
from fsm_mediator.machine.machine import CompiledMachine, compile_machine
from fsm_mediator.machine.parts import GROUPS, Callback, Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.states import is_within

_COPIED: Final = (
    *("path", "kind", "compensatable", "calls_compensation", "pivot", "forward_only", "repeatable", "each"),
)
"""The fields that a part and its shape have in common."""


class PartShape(msgspec.Struct, frozen=True):
    """One part of a saga, as far as the machine's table depends on it.

    Attributes:
        path: Its name, after the names of the sagas it is nested in.
        kind: Its kind.
        compensatable: Whether the saga compensates it.
        calls_compensation: Whether compensating it calls any compensation; a group may have none.
        probed: Whether it has a probe.
        pivot: Whether it is the go/no-go step.
        forward_only: Whether it comes after the pivot.
        repeatable: Whether an attempt in doubt may be repeated.
        retried: Whether it has more than one attempt; this and the next three are settings, no part of the fingerprint.
        compensation_retried: Whether its compensation has more than one attempt.
        outlives: Whether a thread of it may be left running after its time-out.
        can_be_given_up: Whether waiting for it can come to nothing after the pivot.
        each: Whether a group has one branch for each item.
        branches: The name and the parts of each branch, if it is a group or a choice.
    """

    path: str
    kind: Kind = Kind.STEP
    compensatable: bool = False
    calls_compensation: bool = False
    probed: bool = False
    pivot: bool = False
    forward_only: bool = False
    repeatable: bool = True
    retried: bool = True
    compensation_retried: bool = True
    outlives: bool = False
    can_be_given_up: bool = False
    each: bool = False
    branches: tuple[tuple[str, Shape], ...] = ()

    def part(self) -> Part:
        """A part of this shape, to compile a machine; it cannot be executed."""
        return Part(
            path=self.path,
            kind=self.kind,
            execute=_NOTHING if self.kind is Kind.STEP else None,
            compensate=_NOTHING if self.calls_compensation and self.kind is Kind.STEP else None,
            probe=_NOTHING if self.probed else None,
            retry=Retry(attempts=2 if self.retried else 1),
            compensation_retry=Retry(attempts=2 if self.compensation_retried else 1),
            timeout=1.0 if self.outlives else None,
            seconds=1.0 if self.can_be_given_up and self.kind is Kind.SIGNAL else None,
            decide=_NOTHING if self.can_be_given_up and self.kind is Kind.SLEEP else None,
            pivot=self.pivot,
            forward_only=self.forward_only,
            repeatable=self.repeatable,
            each=self.each,
            branches=tuple(name for name, _ in self.branches),
            group_compensates=self.calls_compensation and self.kind in GROUPS,
            shape=tuple((name, shape_of(branch.without_functions())) for name, branch in self.branches) or None,
        )


class Shape(msgspec.Struct, frozen=True):
    """The shape of one version of a saga.

    Attributes:
        saga: The saga's name.
        version: Its version.
        fingerprint: Its fingerprint.
        parts: Its parts, in order.
    """

    saga: str
    version: str
    fingerprint: str
    parts: tuple[PartShape, ...]

    @classmethod
    def of(cls, saga: Saga) -> Self:
        """The shape of *saga*."""
        return cls(
            saga.name,
            saga.version,
            saga.fingerprint,
            tuple(
                PartShape(
                    **{name: getattr(part, name) for name in _COPIED},
                    probed=part.probe is not None,
                    retried=part.retry.attempts != 1,
                    compensation_retried=part.compensation_retry.attempts != 1,
                    outlives=part.can_outlive_its_timeout,
                    can_be_given_up=(part.seconds if part.kind is Kind.SIGNAL else part.decide) is not None,
                    branches=tuple((name, cls.of(branch)) for name, branch in saga.branches.get(part.path, {}).items()),
                )
                for part in saga.parts
            ),
        )

    def to_json(self) -> str:
        """The shape as a JSON text."""
        return json.dumps(shape_as_data(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The shape that `to_json` wrote."""
        content = json.loads(text)
        return cls(content["saga"], content["version"], content["fingerprint"], shape_from_data(content).parts)

    def saga_without_functions(self) -> Saga:
        """A saga of this shape, which can be looked at and cannot be run."""
        return with_shape(lambda: Saga.__new__(Saga), self._values())  # type: ignore[no-any-return]

    def _values(self) -> dict[str, Any]:
        settings = {"name": self.saga, "version": self.version, "deadline": None, "fingerprint": self.fingerprint}
        nested = any("." in part.path for part in self.parts)
        branches = {
            part.path: {name: branch._values() for name, branch in part.branches}
            for part in self.parts
            if part.branches
        }
        more = {"single": None, "cancels_siblings": False, "nested": nested}
        return {**settings, **more, "parts": self.without_functions(), "branches": branches}

    def machine(self, *, every: bool = False) -> CompiledMachine:
        """Its machine: with *every* state that any settings allow, or only with those of the present settings."""
        return compile_machine(self.without_functions(), every=every)

    def without_functions(self) -> tuple[Part, ...]:
        """Parts of this shape, to compile a machine; they cannot be executed."""
        return tuple(part.part() for part in self.parts)

    def part(self, path: str) -> PartShape | None:
        """The part at *path*; None: there is none."""
        return next((part for part in self.parts if part.path == path), None)

    def paths_under(self, path: str) -> list[str]:
        """The paths of the part at *path*, or of the parts of the nested saga there."""
        return [part.path for part in self.parts if part.path == path or is_within(part.path, path)]

    def __str__(self) -> str:
        return f"saga {self.saga!r} version {self.version} ({self.fingerprint})"


_DEFAULTS: Final = dict(zip(PartShape.__struct_fields__[1:], PartShape.__struct_defaults__, strict=True))
_NOTHING: Final = Callback(lambda: None, takes_context=False, is_coroutine=False, label="nothing")


def shape_as_data(shape: Shape) -> dict[str, Any]:
    """The shape as plain data for JSON. A part's fields with their defaults are left out."""
    parts: list[dict[str, Any]] = []
    for part in shape.parts:
        fields = ((name, getattr(part, name)) for name in part.__struct_fields__)
        parts.append({name: value for name, value in fields if name == "path" or value != _DEFAULTS[name]})
        if part.branches:
            parts[-1]["branches"] = {name: shape_as_data(branch) for name, branch in part.branches}
    return {"saga": shape.saga, "version": shape.version, "fingerprint": shape.fingerprint, "parts": parts}


def shape_from_data(content: Mapping[str, Any]) -> Shape:
    """The shape that `shape_as_data` returned."""
    parts = []
    for each in content["parts"]:
        branches = tuple((name, shape_from_data(branch)) for name, branch in each.get("branches", {}).items())
        parts.append(PartShape(**{**each, "kind": Kind(each.get("kind", "step")), "branches": branches}))
    return Shape(str(content["saga"]), str(content["version"]), str(content["fingerprint"]), tuple(parts))
