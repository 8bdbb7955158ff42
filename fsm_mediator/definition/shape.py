"""Shape: the structure of a saga as data. Shapes can be compared without the code of the saga.

A shape has all properties that determine the machine's table. It has no functions, no retry numbers and no types. The
command ``fsm-mediator export-shape`` writes shapes to a JSON file. ``docs/upgrades.md`` describes the format.
"""

from __future__ import annotations

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
"""The names of the fields that a `Part` and its `PartShape` have in common."""


class PartShape(msgspec.Struct, frozen=True):
    """The properties of one part of a saga that determine the machine's table.

    Attributes:
        path: The path of the part: the names of the nested sagas that contain it, and its own name, joined by dots.
        kind: The kind of the part.
        compensatable: Whether the saga compensates the part.
        calls_compensation: Whether the compensation of the part calls a function. False for a group of branches without
            compensations.
        probed: Whether the part has a probe.
        pivot: Whether the part is the go/no-go step.
        forward_only: Whether the part comes after the pivot.
        repeatable: Whether an attempt in doubt may be repeated.
        retried: Whether the part may have several attempts. This property and the next three are settings. They are not
            part of the fingerprint.
        compensation_retried: Whether the compensation may have several attempts.
        outlives: Whether the saga can get stuck because a call of the part still runs after its timeout and grace.
        can_be_given_up: Whether a wait can fail: a signal with a timeout, or a part with a deciding function.
        each: Whether a group has one branch for each item.
        branches: The name and the shape of each branch of a group or a choice. Empty for other parts.
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
        """A part with this shape, to compile a machine. The part cannot be executed."""
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
        version: The saga's version.
        fingerprint: The saga's fingerprint.
        parts: The shapes of the saga's parts, in order.
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
        try:
            return msgspec.json.encode(shape_as_data(self)).decode()
        except UnicodeEncodeError:  # the version holds half a character (a lone surrogate)
            import json  # slow to load, and rarely needed

            return json.dumps(shape_as_data(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The shape from a text that `to_json` returned."""
        import json  # loaded when it is used

        content = json.loads(text)
        return cls(content["saga"], content["version"], content["fingerprint"], shape_from_data(content).parts)

    def saga_without_functions(self) -> Saga:
        """A saga with this shape, which can be drawn, but not run."""
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
        """The machine of this shape. With *every*, it also has the states that the current settings exclude."""
        return compile_machine(self.without_functions(), every=every)

    def without_functions(self) -> tuple[Part, ...]:
        """Parts with this shape, to compile a machine. The parts cannot be executed."""
        return tuple(part.part() for part in self.parts)

    def part(self, path: str) -> PartShape | None:
        """The part at *path*. None if there is no such part."""
        return next((part for part in self.parts if part.path == path), None)

    def paths_under(self, path: str) -> list[str]:
        """The paths of the parts at *path*: the path of one part, or the paths of all parts of a nested saga."""
        return [part.path for part in self.parts if part.path == path or is_within(part.path, path)]

    def __str__(self) -> str:
        return f"saga {self.saga!r} version {self.version} ({self.fingerprint})"


_DEFAULTS: Final = dict(zip(PartShape.__struct_fields__[1:], PartShape.__struct_defaults__, strict=True))
_NOTHING: Final = Callback(lambda: None, takes_context=False, is_coroutine=False, label="nothing")


def shape_as_data(shape: Shape) -> dict[str, Any]:
    """The shape as plain data for JSON. Fields of a part with their default value are omitted."""
    parts: list[dict[str, Any]] = []
    for part in shape.parts:
        fields = ((name, getattr(part, name)) for name in part.__struct_fields__)
        parts.append({name: value for name, value in fields if name == "path" or value != _DEFAULTS[name]})
        if part.branches:
            parts[-1]["branches"] = {name: shape_as_data(branch) for name, branch in part.branches}
    return {"saga": shape.saga, "version": shape.version, "fingerprint": shape.fingerprint, "parts": parts}


def shape_from_data(content: Mapping[str, Any]) -> Shape:
    """The shape from data that `shape_as_data` returned."""
    parts = []
    for each in content["parts"]:
        branches = tuple((name, shape_from_data(branch)) for name, branch in each.get("branches", {}).items())
        parts.append(PartShape(**{**each, "kind": Kind(each.get("kind", "step")), "branches": branches}))
    return Shape(str(content["saga"]), str(content["version"]), str(content["fingerprint"]), tuple(parts))
