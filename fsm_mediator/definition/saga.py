"""Saga: an immutable definition with a name, a version and parts in order. Its constructor checks and compiles it.

The branches of a group are sagas too. They are created here, together with their saga.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import GenericAlias, MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Never,
    NoReturn,
    TypeAlias,
    TypedDict,
    Unpack,
    overload,
)

import msgspec

from fsm_mediator.definition.checks import check_name
from fsm_mediator.definition.flatten import flatten, with_pivot
from fsm_mediator.definition.part_sequence import PartSequence
from fsm_mediator.definition.pickling import check_parts, shape_values, with_shape
from fsm_mediator.definition.placing import at_its_place, is_placed_as_defined, name_at
from fsm_mediator.definition.steps import Step
from fsm_mediator.definition.type_variables import Payload_contra
from fsm_mediator.definition.waits import EACH, Wait, check_payload_type
from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.machine import CompiledMachine, compile_machine, without_collection
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.machine.table import TABLE_FORMAT
from fsm_mediator.retry import Retry, check_wait
from fsm_mediator.states import is_within, path_within, split_name

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, Look, View


class Saga(PartSequence, Generic[Payload_contra]):
    """An operation with several participants: its parts, in order, and their settings for recovery.

    Any number of executions, threads and mediators can use one definition. It cannot be changed. For a type checker, a
    saga with ``payload=Order`` is a ``Saga[Order]``, and a saga without *payload* is a ``Saga[Any]``.

    Attributes:
        name: The name of the saga in journals, ids and diagrams.
        version: A text that distinguishes definitions with the same name, if they are in use at the same time.
        payload: The type of the payload, which every step gets. None if any value is allowed.
        parts: The parts in order, with nested sagas inlined and all defaults set.
        deadline: Seconds from the start within which the saga must succeed. None if there is no deadline.
        machine: The `transitions.Machine` that is run, drawn, journaled and verified.
        fingerprint: A hash of the saga's shape: the paths and kinds of the parts, the pivot, and which parts can be
            compensated, probed or repeated. Retry numbers, time-outs, functions and types are not part of the shape.
        branches: The branches of each group and choice, as sagas: by the path of the group and the name of the branch.
            A group made by `Parallel.each` has one entry, for the branches of all items.
        cancels_siblings: Only for a branch: whether the other branches of its group are cancelled if it fails.
        single: Only for a branch that is a single part: the name of this part. The result of the part is then the
            result of the branch. None otherwise.

    Args:
        name: Letters, digits, underscores and hyphens.
        parts: Steps, other sagas, groups (`Parallel`), choices (`Choose`), signals and sleeps.
        payload: The payload's type, for durable journals: an attrs class, a dataclass, a TypedDict, a msgspec Struct, a
            pydantic model, or a JSON type.
        version: Any short text or number.
        retry: The `retry` of each step that does not set its own.
        compensation_retry: The `compensation_retry` of each step that does not set its own.
        deadline: Seconds from the start. If the saga has not succeeded by then, it compensates. None for no limit.

    Raises:
        DefinitionError: The definition is wrong. The message has the mistake, its place, and how to fix it.
    """

    __slots__ = (
        *(
            "_by_path",
            "_every",
            "_warned",
            "branches",
            "cancels_siblings",
            "compensation_retry",
            "contents",
            "deadline",
        ),
        *("fingerprint", "machine", "name", "nested", "parts", "payload", "retry", "single", "version"),
    )

    version: str
    parts: tuple[Part, ...]
    machine: CompiledMachine
    fingerprint: str
    nested: bool
    branches: Mapping[str, Mapping[str, Saga]]
    single: str | None
    cancels_siblings: bool
    _every: CompiledMachine | None
    _warned: bool
    _by_path: Mapping[str, Part]

    @overload
    def __init__(
        self,
        name: str,
        parts: Iterable[Step | Saga | Wait],
        *,
        payload: type[Payload_contra],
        version: str | int = "1",
        retry: Retry | None = None,
        compensation_retry: Retry | None = None,
        deadline: float | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        parts: Iterable[Step | Saga | Wait],
        *,
        payload: Any = None,
        version: str | int = "1",
        retry: Retry | None = None,
        compensation_retry: Retry | None = None,
        deadline: float | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        parts: Iterable[Step | Saga | Wait],
        *,
        payload: Any = None,
        version: str | int = "1",
        retry: Retry | None = None,
        compensation_retry: Retry | None = None,
        deadline: float | None = None,
    ) -> None:
        check_name("a saga", name)
        if isinstance(parts, (str, bytes, Step, PartSequence, Wait)) or not isinstance(parts, Iterable):
            raise DefinitionError(f"saga {name!r}: the second argument is the list of its parts, not {parts!r}")
        contents = tuple(parts)
        for setting, value in (("retry", retry), ("compensation_retry", compensation_retry)):
            if value is not None and not isinstance(value, Retry):
                raise DefinitionError(f"saga {name!r}: {setting} must be a Retry, not {value!r}")
        if deadline is not None:
            check_wait(f"saga {name!r}: deadline", deadline, above=True)
        if not isinstance(version, (str, int)) or isinstance(version, bool) or not _is_short(str(version)):
            raise DefinitionError(f"saga {name!r}: version must be a short text or a whole number, not {version!r}")
        check_payload_type(f"saga {name!r}", payload)

        with without_collection(len(contents)):
            self._set_up(name, contents, payload, str(version), retry, compensation_retry, deadline)

    def _set_up(
        self,
        name: str,
        contents: tuple[Any, ...],
        payload: Any,
        version: str,
        retry: Retry | None,
        compensation_retry: Retry | None,
        deadline: float | None = None,
        *,
        branch: bool = False,
        forward_only: bool = False,
        single: str | None = None,
        cancels_siblings: bool = False,
    ) -> None:
        placed = tuple(flatten(name, contents, "", retry, compensation_retry))
        if branch and (pivot := next((part.path for part in placed if part.pivot), None)) is not None:
            raise DefinitionError(
                f"the pivot {pivot!r} cannot be in a branch ({name!r}): branches run at the same time, and there is "
                f"one point of no return for all. Place it before or after the group"
            )
        placed = with_pivot(name, placed, forward_only=forward_only)
        branches = {part.path: dict(_branches(name, payload, version, part)) for part in placed if part.kind in GROUPS}
        placed = tuple(_with_branches(part, branches[part.path]) if part.kind in GROUPS else part for part in placed)
        values = {
            "name": name,
            "version": version,
            "payload": payload,
            "parts": placed,
            "retry": retry,
            "compensation_retry": compensation_retry,
            "deadline": deadline,
            "machine": compile_machine(placed),
            "fingerprint": fingerprint_of(placed),
            "nested": any(part.scope for part in placed),
            "branches": MappingProxyType({path: MappingProxyType(each) for path, each in branches.items()}),
            "single": single,
            "cancels_siblings": cancels_siblings,
            "contents": contents,
            "_every": None,
            "_warned": False,
            "_by_path": {part.path: part for part in placed},
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def named(self, name: str) -> Saga[Payload_contra]:
        """A copy of the saga with another name, for example to nest the same saga twice."""
        return Saga(
            name,
            self.contents,
            payload=self.payload,
            version=self.version,
            retry=self.retry,
            compensation_retry=self.compensation_retry,
            deadline=self.deadline,
        )

    def machine_with(self, state: str) -> CompiledMachine | None:
        """The machine that has *state*: the saga's machine, or the `widest_machine`. None if neither has the state.

        An execution that was journaled under other settings may be in a state that only the `widest_machine` has.
        """
        if state in self.machine.states:
            return self.machine
        return self.widest_machine if state in self.widest_machine.states else None

    @property
    def widest_machine(self) -> CompiledMachine:
        """The machine with every possible state, including the states that the saga's settings exclude."""
        if self._every is None:
            object.__setattr__(self, "_every", compile_machine(self.parts, every=True))
        assert self._every is not None
        return self._every

    def part(self, path: str) -> Part:
        """The part at *path*.

        Raises:
            LookupError: There is no such part.
        """
        found = self._by_path.get(path)
        if found is not None:
            return found
        raise LookupError(f"saga {self.name!r} has no part {path!r}; it has {', '.join(p.path for p in self.parts)}")

    def is_first_warning(self) -> bool:
        """True at the first call, later False. Mediators use it to warn about a saga only once."""
        first = not self._warned
        object.__setattr__(self, "_warned", True)
        return first

    def diagram(self, view: View = "detail", **look: Unpack[Look]) -> Diagram:
        """The diagram of the machine: ``detail`` shows every state, ``steps`` shows one box for each step.

        *look*: attributes of `Diagram` for its appearance: theme, direction, width, hide, branches, title, legend.
        """
        from fsm_mediator.diagram import saga_diagram

        return saga_diagram(self, view, **look)

    def _repr_mimebundle_(self, **kinds: Any) -> Mapping[str, Any]:
        """The diagram of the saga's steps, for a notebook."""
        return self.diagram("steps")._repr_mimebundle_(**kinds)

    def __setattr__(self, attribute: str, value: Any) -> None:
        raise AttributeError(f"saga {self.name!r} is immutable; define another one")

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"saga {self.name!r} is immutable; define another one")

    def __copy__(self) -> Saga[Payload_contra]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Saga[Payload_contra]:
        return self  # a deep copy, as in `dataclasses.asdict`, would also copy the services of steps

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.contents:
            return with_shape, (_empty, shape_values(self))
        check_parts(self)
        settings = ("payload", "version", "retry", "compensation_retry", "deadline")
        make = functools.partial(Saga, **{name: getattr(self, name) for name in settings})
        return make, (self.name, self.contents)

    def __repr__(self) -> str:
        return f"<Saga {self.name!r} version {self.version}: {' → '.join(part.path for part in self.parts)}>"


def _empty() -> Saga:
    return Saga.__new__(Saga)


def without_functions(saga: Saga) -> Saga:
    """A copy of *saga* without its functions. The copy can always be drawn and pickled, but it cannot be run."""
    return with_shape(_empty, shape_values(saga))  # type: ignore[no-any-return]


def _is_short(version: str) -> bool:
    return bool(version.strip()) and len(version) <= 255


def _branches(saga: str, payload: Any, version: str, group: Part) -> Iterator[tuple[str, Saga]]:
    """The branches of *group* as sagas, by name. Each saga is named after its place: ``checkout/fulfil.pack``."""
    wait = group.subject
    for name, part in wait.branches.items():
        where = name_at(saga, group, name)
        takes = payload
        if group.each:
            takes = wait.payload if wait.payload is not None else getattr(part, "payload", None)
        cancels_siblings = group.cancels_on_failure and not group.forward_only
        if isinstance(part, PartSequence):
            if part.deadline is not None:
                raise DefinitionError(f"{where!r} has a deadline; only the outermost saga can have one")
            parts, single = part.contents, None
            retry = part.retry or group.retry
            compensation_retry = part.compensation_retry or group.compensation_retry
            if isinstance(part, Saga) and is_placed_as_defined(part, group, retry, compensation_retry):
                yield name, at_its_place(part, where, takes, version, cancels_siblings=cancels_siblings)
                continue
        else:
            parts, single = (part,), part.name
            retry, compensation_retry = group.retry, group.compensation_retry
        branch = Saga.__new__(Saga)
        branch._set_up(
            *(where, parts, takes, version, retry, compensation_retry),
            branch=True,
            forward_only=group.forward_only,
            single=single,
            cancels_siblings=cancels_siblings,
        )
        yield name, branch


def _with_branches(group: Part, branches: Mapping[str, Saga]) -> Part:
    results: Any = {name: _result_type(branch) for name, branch in branches.items()}
    returns = GenericAlias(list, (results[EACH],)) if group.each else _typed_dict(group.path, results)
    compensates = any(part.calls_compensation for branch in branches.values() for part in branch.parts)
    return msgspec.structs.replace(
        group,
        group_compensates=compensates,
        returns=returns,
        shape=tuple((name, shape_of(branch.parts)) for name, branch in branches.items()),
        retry=Retry(),
        compensation_retry=Retry(),
    )


def _result_type(saga: Saga) -> Any:
    """The type of a branch's result: a TypedDict of its parts' results. For a single part, the type of its result."""
    types: dict[str, Any] = {}
    for part in saga.parts:
        inside = types
        *outer, name = part.path.split(".")
        for each in outer:
            inside = inside.setdefault(each, {})
        inside[name] = part.execute.returns if part.execute is not None else part.returns
    return types[saga.single] if saga.single is not None else _typed_dict(saga.name, types)


def _typed_dict(name: str, types: Mapping[str, Any]) -> Any:
    fields = {
        key: _typed_dict(key, type) if isinstance(type, dict) else Any if type in (NoReturn, Never) else type
        for key, type in types.items()
    }
    # Results of branches that were not chosen, or have not answered, are missing.
    return TypedDict(name, fields, total=False)  # type: ignore[operator]  # the fields are known only at run time


def fingerprint_of(parts: tuple[Part, ...]) -> str:
    """The fingerprint of a saga with these parts: a hash of their `shape_of`."""
    import hashlib  # imported here, because it loads OpenSSL, which is slow

    return hashlib.sha256(repr((TABLE_FORMAT, shape_of(parts))).encode()).hexdigest()[:16]


Shape: TypeAlias = "tuple[tuple[Any, ...], ...]"


def shape_of(parts: tuple[Part, ...]) -> Shape:
    """The data from which a fingerprint is computed.

    For each part, the data are its path and kind, and whether it can be compensated, has a probe, is the pivot, and is
    repeatable. For a group, the data also include the name and the shape of each branch.
    """
    return tuple(
        (part.path, part.kind.value, part.compensatable, part.probe is not None, part.pivot, part.repeatable)
        + ((part.shape,) if part.kind in GROUPS else ())
        for part in parts
    )


def check_is_saga(where: str, saga: object) -> None:
    """Check that *saga* is a `Saga`. *where*: the function with the argument, for the message.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    if not isinstance(saga, Saga):
        raise DefinitionError(f"{where} takes a saga, not {saga!r}")


class SignalPlace(msgspec.Struct, frozen=True):
    """The place of a signal.

    Attributes:
        part: The signal.
        group: The group or choice that contains the signal. None if the signal is not in a branch.
        branch: The name of the branch that contains the signal. Empty if the signal is not in a branch.
        inside: The path of the signal in the branch. Empty if the signal is not in a branch.
    """

    part: Part
    group: Part | None = None
    branch: str = ""
    inside: str = ""


def find_signal(saga: Saga, path: str) -> SignalPlace | None:
    """The signal at *path* in *saga*, or at ``GROUP.BRANCH.SIGNAL`` in a branch. None if there is no such signal."""
    for part in saga.parts:
        if part.kind is Kind.SIGNAL and part.path == path:
            return SignalPlace(part)
        if part.kind in GROUPS and is_within(path, part.path):
            name, inside = split_name(path_within(path, part.path))
            branch = saga.branches[part.path].get(EACH if part.each and name.isascii() and name.isdigit() else name)
            if branch is not None and name != EACH:
                inside = inside or branch.single or ""
                found = find_signal(branch, inside)
                if found is not None:
                    return SignalPlace(found.part, part, name, inside)
    return None


def signal_names(saga: Saga) -> Iterator[str]:
    """The path of every signal. In a branch: ``GROUP.BRANCH.SIGNAL``, with 0 as the name of an item's branch."""
    for part in saga.parts:
        if part.kind is Kind.SIGNAL:
            yield part.path
        for name, branch in saga.branches.get(part.path, {}).items():
            for inside in signal_names(branch):
                where = f"{part.path}.{'0' if name == EACH else name}"
                yield where if inside == branch.single else f"{where}.{inside}"


def all_definitions(saga: Saga) -> Iterator[Saga]:
    """*saga* and, recursively, the sagas of its branches: the definitions of all executions of one run."""
    yield saga
    for branches in saga.branches.values():
        for branch in branches.values():
            yield from all_definitions(branch)
