"""Saga: an immutable definition, a name, a version and parts in order; checked and compiled when it is defined.

The branches of a group are sagas of their own, made here as well, when the saga is that they belong to.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import GenericAlias, MappingProxyType
from typing import TYPE_CHECKING, Any, Never, NoReturn, TypeAlias, TypedDict

from msgspec.structs import replace

from fsm_mediator.definition.checks import (
    callback_of,
    check_name,
    check_settings,
    in_doubt_types,
    refuse_misspelt_settings,
)
from fsm_mediator.definition.steps import DEFAULT_COMPENSATION_RETRY, Step
from fsm_mediator.definition.waits import EACH, Choose, Parallel, Signal, Sleep, Wait, check_payload_type
from fsm_mediator.errors import DefinitionError, DefinitionWarning
from fsm_mediator.machine.machine import CompiledMachine, compile_machine
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.machine.table import TABLE_FORMAT
from fsm_mediator.retry import Retry, check_number

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram


class Saga:
    """An operation in which several participants take part: its parts, in order, and what they recover by.

    One definition serves any number of executions, threads and mediators; nothing in it can be changed.

    Attributes:
        name: Names the saga in journals, ids and pictures.
        version: Tells definitions of one name apart that are in use at the same time.
        payload: The type of what every step is given; None for anything.
        parts: The parts in order, nested sagas inlined, every default resolved.
        deadline: Seconds from the start within which it must have succeeded, else it compensates; None: no limit.
        machine: The `transitions.Machine` that runs, is drawn, journaled and verified.
        fingerprint: Names the saga's shape: paths and kinds of the parts, which can be compensated or probed, the pivot
            and what is repeatable. Not retry numbers, time-outs, functions and types: those may change at any time.
        branches: Of each group and choice, by its path: its branches by name, sagas of their own (of `Parallel.each`
            one, for every item).
        single: The only part of a branch that is no saga of its own, whose result is the branch's; None otherwise.

    Args:
        name: Letters, digits, underscores and hyphens.
        parts: Steps, other sagas, groups (`Parallel`), choices (`Choose`), signals and sleeps.
        payload: A type that msgspec can encode where the journal is durable: attrs, dataclass, TypedDict, Struct, JSON.
        version: Any short text or number.
        retry: For steps that set none.
        compensation_retry: For steps that set none.
        deadline: Seconds.

    Raises:
        DefinitionError: Says what is wrong, where, and how to mend it.
    """

    __slots__ = (
        *("_by_path", "_every", "_given", "branches", "compensation_retry", "deadline", "fingerprint", "machine"),
        *("name", "nested", "parts", "payload", "retry", "single", "version"),
    )

    name: str
    version: str
    payload: Any
    parts: tuple[Part, ...]
    retry: Retry | None
    compensation_retry: Retry | None
    deadline: float | None
    machine: CompiledMachine
    fingerprint: str
    nested: bool
    branches: Mapping[str, Mapping[str, Saga]]
    single: str | None
    _given: tuple[Any, ...]
    _every: CompiledMachine | None
    _by_path: Mapping[str, Part]

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
        if isinstance(parts, (str, bytes, Step, Saga, Wait)) or not isinstance(parts, Iterable):
            raise DefinitionError(f"saga {name!r}: the second argument is the list of its parts, not {parts!r}")
        given = tuple(parts)
        for setting, value in (("retry", retry), ("compensation_retry", compensation_retry)):
            if value is not None and not isinstance(value, Retry):
                raise DefinitionError(f"saga {name!r}: {setting} must be a Retry, not {value!r}")
        if deadline is not None:
            check_number(f"saga {name!r}: deadline (seconds)", deadline, above=True)
        if not isinstance(version, (str, int)) or isinstance(version, bool) or not _is_short(str(version)):
            raise DefinitionError(f"saga {name!r}: version must be a short text or a whole number, not {version!r}")
        check_payload_type(f"saga {name!r}", payload)

        self._set_up(name, given, payload, str(version), retry, compensation_retry, deadline)

    def _set_up(
        self,
        name: str,
        given: tuple[Any, ...],
        payload: Any,
        version: str,
        retry: Retry | None,
        compensation_retry: Retry | None,
        deadline: float | None = None,
        *,
        branch: bool = False,
        forward_only: bool = False,
        single: str | None = None,
    ) -> None:
        placed = tuple(_placed(name, given, "", retry, compensation_retry))
        if branch and (pivot := next((part.path for part in placed if part.pivot), None)) is not None:
            raise DefinitionError(
                f"the pivot {pivot!r} cannot be in a branch ({name!r}): branches go on at the same time, and there is "
                f"one point of no return for all. Place it before or after the group"
            )
        placed = _with_pivot(name, placed, forward_only=forward_only)
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
            "fingerprint": _fingerprint(placed),
            "nested": any(part.scope for part in placed),
            "branches": MappingProxyType({path: MappingProxyType(each) for path, each in branches.items()}),
            "single": single,
            "_given": given,
            "_every": None,
            "_by_path": {part.path: part for part in placed},
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def named(self, name: str) -> Saga:
        """The same saga under another name, to nest it twice."""
        return Saga(
            name,
            self._given,
            payload=self.payload,
            version=self.version,
            retry=self.retry,
            compensation_retry=self.compensation_retry,
            deadline=self.deadline,
        )

    def machine_with(self, state: str) -> CompiledMachine | None:
        """The machine that knows *state*: the saga's own, or the same with the states that its settings rule out.

        An execution may stand in such a state when it was journaled under other settings. None: neither knows it.
        """
        if state in self.machine.states:
            return self.machine
        if self._every is None:
            object.__setattr__(self, "_every", compile_machine(self.parts, every=True))
        assert self._every is not None
        return self._every if state in self._every.states else None

    def part(self, path: str) -> Part:
        """The part at *path*.

        Raises:
            LookupError: There is none.
        """
        found = self._by_path.get(path)
        if found is not None:
            return found
        raise LookupError(f"saga {self.name!r} has no part {path!r}; it has {', '.join(p.path for p in self.parts)}")

    def diagram(self, view: str = "detail", *, direction: str | None = None) -> Diagram:
        """The picture of the machine: ``detail`` shows every state, ``overview`` the phases, ``steps`` a box a step.

        *direction*: of the steps, ``right`` (rows, as in a text) or ``down`` (one column).
        """
        from fsm_mediator.diagram import saga_diagram

        return saga_diagram(self, view=view, direction=direction)

    def __setattr__(self, attribute: str, value: Any) -> None:
        raise AttributeError(f"saga {self.name!r} is immutable; define another one")

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"saga {self.name!r} is immutable; define another one")

    def __copy__(self) -> Saga:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Saga:
        return self  # a copy would have services of its own; `dataclasses.asdict` and settings classes copy deeply

    def __repr__(self) -> str:
        return f"<Saga {self.name!r} version {self.version}: {' → '.join(part.path for part in self.parts)}>"


def _is_short(version: str) -> bool:
    return bool(version.strip()) and len(version) <= 255


def _placed(
    where: str,
    given: tuple[Any, ...],
    scope: str,
    retry: Retry | None,
    compensation_retry: Retry | None,
) -> Iterator[Part]:
    """The parts of *given*, nested sagas inlined."""
    if not given:
        raise DefinitionError(f"saga {where!r} has no parts; give it at least one step")
    names = set()
    for number, each in enumerate(given, 1):
        if isinstance(each, type) and issubclass(each, Step):
            raise DefinitionError(
                f"saga {where!r}: part {number} is the class {each.__name__}; give an instance: {each.__name__}(...)"
            )
        if not isinstance(each, (Step, Saga, Wait)):
            mend = (
                f"decorate it: @step def {getattr(each, '__name__', '...')}(payload, context)" if callable(each) else ""
            )
            raise DefinitionError(f"saga {where!r}: part {number} is {each!r}, not a step or a saga. {mend}".rstrip())
        name = check_name(f"part {number} of saga {where!r}", getattr(each, "name", None))
        if name in names:
            raise DefinitionError(
                f"saga {where!r} has two parts named {name!r}; give one of them another name: part.named('another')"
            )
        names.add(name)
        if isinstance(each, Step):
            yield _part_of_step(where, each, scope, retry, compensation_retry)
        elif isinstance(each, Wait):
            yield _part_of_wait(each, scope, retry, compensation_retry)
        else:
            if each.deadline is not None:
                raise DefinitionError(
                    f"saga {where!r}: the nested saga {name!r} has a deadline; only the outermost saga can have one"
                )
            yield from _placed(
                f"{where}.{name}",
                each._given,
                f"{scope}{name}.",
                each.retry or retry,
                each.compensation_retry or compensation_retry,
            )


def _part_of_step(saga: str, step: Step, scope: str, retry: Retry | None, compensation_retry: Retry | None) -> Part:
    where = f"saga {saga!r}, step {step.name!r}"
    check_settings(where, step)
    refuse_misspelt_settings(where, step)
    execute = callback_of(step, "execute")
    if execute is None:
        raise DefinitionError(f"{where}: it has no execute; define execute(self, payload, context)")
    timeout = float(step.timeout) if step.timeout is not None else None
    return Part(
        path=f"{scope}{step.name}",
        kind=Kind.STEP,
        subject=step,
        scope=scope,
        execute=execute,
        compensate=callback_of(step, "compensate"),
        probe=callback_of(step, "probe"),
        # None still means "unset" here; `_with_pivot` knows on which side of the pivot the step is.
        retry=step.retry or retry,  # type: ignore[arg-type]
        compensation_retry=step.compensation_retry or compensation_retry or DEFAULT_COMPENSATION_RETRY,
        timeout=timeout,
        grace=float(step.grace) if step.grace is not None else timeout,
        overtake=step.overtake,
        pivot=step.pivot,
        repeatable=step.repeatable,
        in_doubt_on=in_doubt_types(where, step.in_doubt_on),
    )


def _part_of_wait(wait: Wait, scope: str, retry: Retry | None, compensation_retry: Retry | None) -> Part:
    path = f"{scope}{wait.name}"
    if isinstance(wait, Signal):
        seconds = None if wait.timeout is None else float(wait.timeout)
        returns = Any if wait.payload is None else wait.payload
        return Part(path=path, kind=wait.kind, subject=wait, scope=scope, seconds=seconds, returns=returns)
    if isinstance(wait, Sleep):
        seconds = wait.fixed if wait.relative else None
        return Part(path=path, kind=wait.kind, subject=wait, scope=scope, seconds=seconds, decide=wait.decide)
    assert isinstance(wait, (Parallel, Choose))
    return Part(
        path=path,
        kind=wait.kind,
        subject=wait,
        scope=scope,
        decide=wait.decide,
        branches=tuple(wait.branches),
        each=EACH in wait.branches,
        at_most=wait.at_most,
        # What the branches inherit; None means "unset", as for a step.
        retry=retry,  # type: ignore[arg-type]
        compensation_retry=compensation_retry,  # type: ignore[arg-type]
    )


def _branches(saga: str, payload: Any, version: str, group: Part) -> Iterator[tuple[str, Saga]]:
    """The branches of *group* as sagas of their own, each named after its place: ``checkout/fulfil.pack``."""
    wait = group.subject
    for name, given in wait.branches.items():
        where = f"{saga}/{group.path}" if name == EACH else f"{saga}/{group.path}.{name}"
        takes = payload
        if group.each:
            takes = wait.payload if wait.payload is not None else getattr(given, "payload", None)
        branch = Saga.__new__(Saga)
        if isinstance(given, Saga):
            if given.deadline is not None:
                raise DefinitionError(f"{where!r} has a deadline; only the outermost saga can have one")
            parts, single = given._given, None
            retry = given.retry or group.retry
            compensation_retry = given.compensation_retry or group.compensation_retry
        else:
            parts, single = (given,), given.name
            retry, compensation_retry = group.retry, group.compensation_retry
        branch._set_up(
            *(where, parts, takes, version, retry, compensation_retry),
            branch=True,
            forward_only=group.forward_only,
            single=single,
        )
        yield name, branch


def _with_branches(group: Part, branches: Mapping[str, Saga]) -> Part:
    results: Any = {name: _result_type(branch) for name, branch in branches.items()}
    returns = GenericAlias(list, (results[EACH],)) if group.each else _typed_dict(group.path, results)
    compensates = any(part.calls_compensation for branch in branches.values() for part in branch.parts)
    return replace(
        group,
        group_compensates=compensates,
        returns=returns,
        shape=tuple((name, shape_of(branch.parts)) for name, branch in branches.items()),
        retry=Retry(),
        compensation_retry=Retry(),
    )


def _result_type(saga: Saga) -> Any:
    """The type of what *saga*'s steps return, all together, or of what its single part does."""
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
    # What was not chosen, or had not answered, is not there.
    return TypedDict(name, fields, total=False)  # type: ignore[operator]  # made of what is only known here


def _with_pivot(saga: str, parts: tuple[Part, ...], *, forward_only: bool) -> tuple[Part, ...]:
    """The parts with the defaults that depend on which side of the pivot they are; of *forward_only*: after it."""
    pivots = [index for index, part in enumerate(parts) if part.pivot]
    if len(pivots) > 1:
        names = ", ".join(repr(parts[index].path) for index in pivots)
        raise DefinitionError(f"saga {saga!r} has more than one pivot: {names}; a saga has one point of no return")
    at = -1 if forward_only else pivots[0] if pivots else len(parts)
    if pivots and parts[at].compensate is not None:
        raise DefinitionError(
            f"saga {saga!r}: the pivot {parts[at].path!r} has a compensate, which could never run: "
            f"after the pivot there is no way back. Remove the compensate, or pivot=True"
        )
    for part in parts[at + 1 :]:
        if part.compensate is not None:
            warnings.warn(
                f"saga {saga!r}: {part.path!r} comes after the pivot{f' {parts[at].path!r}' if pivots else ''}; "
                f"its compensate is never called",
                DefinitionWarning,
                stacklevel=_users_level(),
            )
    return tuple(
        replace(
            part,
            forward_only=index > at,
            # A group keeps what its branches inherit: each of their steps knows its own default.
            retry=part.retry if part.kind in GROUPS else _retry_of(part, after_pivot=index > at),
        )
        for index, part in enumerate(parts)
    )


def _retry_of(part: Part, *, after_pivot: bool) -> Retry:
    return part.retry or (Retry(attempts=None) if after_pivot else Retry())  # type: ignore[truthy-bool]


def _users_level() -> int:
    """The ``stacklevel`` with which the function that calls this warns about the user's line, not one of this file."""
    level, frame = 0, sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level + 1


def _fingerprint(parts: tuple[Part, ...]) -> str:
    import hashlib  # OpenSSL comes with it, and takes its time to load

    return hashlib.sha256(repr((TABLE_FORMAT, shape_of(parts))).encode()).hexdigest()[:16]


Shape: TypeAlias = "tuple[tuple[Any, ...], ...]"


def shape_of(parts: tuple[Part, ...]) -> Shape:
    """What a fingerprint is made of: of each part path, kind, whether it is compensated, probed, the pivot, repeatable.

    Of a group also its branches: what each is called, and the shape of it.
    """
    return tuple(
        (part.path, part.kind.value, part.compensatable, part.probe is not None, part.pivot, part.repeatable)
        + ((part.shape,) if part.kind in GROUPS else ())
        for part in parts
    )


def check_is_saga(where: str, saga: object) -> None:
    """Refuse what is no saga.

    Raises:
        DefinitionError: It is none.
    """
    if not isinstance(saga, Saga):
        raise DefinitionError(f"{where} is given a saga, not {saga!r}")


def family(saga: Saga) -> Iterator[Saga]:
    """*saga*, the branches of its groups and choices, and theirs: every definition whose executions it brings about."""
    yield saga
    for branches in saga.branches.values():
        for branch in branches.values():
            yield from family(branch)
