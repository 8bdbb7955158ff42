"""Shape: the structure behind a saga's fingerprint, as data, for a comparison without the code.

A shape has everything that the machine's table depends on, and nothing else: no functions, no retry numbers, no types.
A file of shapes is JSON, written by ``fsm-mediator export-shape``; ``docs/upgrades.md`` describes its format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs

from fsm_mediator.definition.pickling import with_shape
from fsm_mediator.definition.saga import Saga, fingerprint_of, shape_of
from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.machine import CompiledMachine, compile_machine
from fsm_mediator.machine.parts import GROUPS, Callback, Kind, Part
from fsm_mediator.machine.table import TABLE_FORMAT
from fsm_mediator.retry import Retry
from fsm_mediator.states import is_within

FORMAT: Final = 1
"""The number of the file's format."""

_COPIED: Final = (
    *("path", "kind", "compensatable", "calls_compensation", "pivot", "forward_only", "repeatable", "each"),
)
"""The fields that a part and its shape have in common."""


@attrs.frozen
class PartShape:
    """One part of a saga, as far as the machine's table depends on it.

    Attributes:
        path: Its name, after the names of the sagas it is nested in.
        kind: What sort of part it is.
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
        branches: Of a group or a choice: the name and the parts of each branch.
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
            shape=tuple((name, shape_of(branch._parts())) for name, branch in self.branches) or None,
        )


@attrs.frozen
class Shape:
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
        return json.dumps(_to_json(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The shape that `to_json` wrote."""
        content = json.loads(text)
        return cls(content["saga"], content["version"], content["fingerprint"], _from_json(content).parts)

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
        return {**settings, **more, "parts": self._parts(), "branches": branches}

    def machine(self, *, every: bool = False) -> CompiledMachine:
        """Its machine: with *every* state that any settings allow, or only with those of the present settings."""
        return compile_machine(self._parts(), every=every)

    def _parts(self) -> tuple[Part, ...]:
        return tuple(part.part() for part in self.parts)

    def part(self, path: str) -> PartShape | None:
        """The part at *path*; None: there is none."""
        return next((part for part in self.parts if part.path == path), None)

    def paths_under(self, path: str) -> list[str]:
        """The paths of the part at *path*, or of the parts of the nested saga there."""
        return [part.path for part in self.parts if part.path == path or is_within(part.path, path)]

    def __str__(self) -> str:
        return f"saga {self.saga!r} version {self.version} ({self.fingerprint})"


_NOTHING: Final = Callback(lambda: None, takes_context=False, is_coroutine=False, label="nothing")


def dump_shapes(sagas: Iterable[Saga | Shape]) -> str:
    """The text of a file with the shapes of *sagas*."""
    shapes = [_to_json(saga if isinstance(saga, Shape) else Shape.of(saga)) for saga in sagas]
    return json.dumps({"fsm_mediator_shapes": FORMAT, "table_format": TABLE_FORMAT, "sagas": shapes}, indent=2)


def _to_json(shape: Shape) -> dict[str, Any]:
    parts = []
    for part in shape.parts:
        parts.append(attrs.asdict(part, recurse=False, filter=lambda field, value: value != field.default))
        if part.branches:
            parts[-1]["branches"] = {name: _to_json(branch) for name, branch in part.branches}
    return {"saga": shape.saga, "version": shape.version, "fingerprint": shape.fingerprint, "parts": parts}


def read_shapes(path: Path | str) -> tuple[Shape, ...]:
    """The shapes in a file that ``fsm-mediator export-shape`` wrote.

    Raises:
        DefinitionError: It cannot be read, has no shapes, was changed, or has another format than this version.
    """
    path = Path(path)
    advice = "Write it anew, with the code that it is of: fsm-mediator export-shape APP -o FILE"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        formats = content["fsm_mediator_shapes"], content["table_format"]
        shapes = tuple(map(_from_json, content["sagas"])) if formats == (FORMAT, TABLE_FORMAT) else ()
    except OSError as error:
        raise DefinitionError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:  # its repr is the whole file
        raise DefinitionError(f"{path} holds no shapes of sagas, nor text: {error.reason}. {advice}") from error
    except RecursionError as error:
        raise DefinitionError(f"{path} holds no shapes of sagas: it is nested too deep. {advice}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DefinitionError(f"{path} holds no shapes of sagas ({error!r}). {advice}") from error
    if formats != (FORMAT, TABLE_FORMAT):
        raise DefinitionError(
            f"{path} has format {formats[0]} and tables of format {formats[1]}; this version compares format {FORMAT} "
            f"and {TABLE_FORMAT}. Executions of another table's format are driven by no newer code: let them end first"
        )
    for shape in shapes:
        if fingerprint_of(shape._parts()) != shape.fingerprint:
            raise DefinitionError(f"{path}: {shape} does not have that fingerprint: the file was changed. {advice}")
    return shapes


def _from_json(content: Mapping[str, Any]) -> Shape:
    parts = []
    for each in content["parts"]:
        branches = tuple((name, _from_json(branch)) for name, branch in each.get("branches", {}).items())
        parts.append(PartShape(**{**each, "kind": Kind(each.get("kind", "step")), "branches": branches}))
    return Shape(str(content["saga"]), str(content["version"]), str(content["fingerprint"]), tuple(parts))
