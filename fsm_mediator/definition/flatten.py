"""Flattening: makes the parts of a saga from a user's definition.

It inlines nested sagas, and sets the defaults that depend on the pivot.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from fsm_mediator.definition.checks import callback_of, check_name, check_settings, doubt_types
from fsm_mediator.definition.part_sequence import PartSequence
from fsm_mediator.definition.steps import DEFAULT_COMPENSATION_RETRY, Step
from fsm_mediator.definition.waits import EACH, Choose, Parallel, Signal, Sleep, Wait
from fsm_mediator.error_types import DefinitionError, DefinitionWarning
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.retry import Retry

_FOLDER: Final = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load


def flatten(
    where: str,
    contents: tuple[Any, ...],
    scope: str,
    retry: Retry | None,
    compensation_retry: Retry | None,
) -> Iterator[Part]:
    """The parts of *contents*, with nested sagas inlined.

    Args:
        where: The name of the saga, for messages.
        contents: The parts as the user wrote them.
        scope: The prefix of the paths: the names of the enclosing nested sagas, each followed by a dot.
        retry: The `retry` of each step that does not set its own.
        compensation_retry: The `compensation_retry` of each step that does not set its own.

    Raises:
        DefinitionError: A part is wrong, or two parts have the same name.
    """
    if not contents:
        raise DefinitionError(f"saga {where!r} has no parts; give it at least one step")
    names = set()
    for number, each in enumerate(contents, 1):
        if isinstance(each, type) and issubclass(each, Step):
            raise DefinitionError(
                f"saga {where!r}: part {number} is the class {each.__name__}; give an instance: {each.__name__}(...)"
            )
        if not isinstance(each, (Step, PartSequence, Wait)):
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
            yield from flatten(
                f"{where}.{name}",
                each.contents,
                f"{scope}{name}.",
                each.retry or retry,
                each.compensation_retry or compensation_retry,
            )


def _part_of_step(saga: str, step: Step, scope: str, retry: Retry | None, compensation_retry: Retry | None) -> Part:
    where = f"saga {saga!r}, step {step.name!r}"
    check_settings(where, step)
    execute = callback_of(step, "execute")
    if execute is None:
        raise DefinitionError(f"{where}: it has no execute; define execute(self, payload, context)")
    in_doubt_on, no_effect_on = doubt_types(where, step.in_doubt_on, step.no_effect_on)
    timeout = float(step.timeout) if step.timeout is not None else None
    return Part(
        path=f"{scope}{step.name}",
        kind=Kind.STEP,
        subject=step,
        scope=scope,
        execute=execute,
        compensate=callback_of(step, "compensate"),
        probe=callback_of(step, "probe"),
        # None still means "unset" here. `with_pivot` knows on which side of the pivot the step is.
        retry=step.retry or retry,  # type: ignore[arg-type]
        compensation_retry=step.compensation_retry or compensation_retry or DEFAULT_COMPENSATION_RETRY,
        timeout=timeout,
        grace=float(step.grace) if step.grace is not None else timeout,
        overtake=step.overtake,
        pivot=step.pivot,
        repeatable=step.repeatable,
        in_doubt_on=in_doubt_on,
        no_effect_on=no_effect_on,
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
        cancels_on_failure=isinstance(wait, Parallel) and wait.on_failure == "cancel",
        # The branches inherit these two settings. None means "unset", as for a step.
        retry=retry,  # type: ignore[arg-type]
        compensation_retry=compensation_retry,  # type: ignore[arg-type]
    )


def with_pivot(saga: str, parts: tuple[Part, ...], *, forward_only: bool) -> tuple[Part, ...]:
    """*parts* with the defaults that depend on the pivot. With *forward_only*, all parts are after the pivot.

    Raises:
        DefinitionError: There is more than one pivot, or the pivot has a compensation.
    """
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
                stacklevel=users_level(),
            )
    return tuple(
        replace(
            part,
            forward_only=index > at,
            # A group keeps the settings that its branches inherit. Each step of a branch has its own default.
            retry=part.retry if part.kind in GROUPS else _retry_of(part, after_pivot=index > at),
        )
        for index, part in enumerate(parts)
    )


def _retry_of(part: Part, *, after_pivot: bool) -> Retry:
    return part.retry or (Retry(attempts=None) if after_pivot else Retry())  # type: ignore[truthy-bool]


def users_level() -> int:
    """The ``stacklevel`` for a warning in the calling function, so that the warning shows the user's line of code."""
    level, frame = 0, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_FOLDER) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level + 1
