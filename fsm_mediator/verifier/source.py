"""Source: a counterexample as the text of a pytest function, with the saga spelled out. Nothing runs here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fsm_mediator.parts import Part
from fsm_mediator.retry import Retry

if TYPE_CHECKING:
    from fsm_mediator.verifier.violation import Violation

BRISK = 0.2
"""Seconds for an attempt that is to time out: of real time, for threads cannot be hurried."""

PATIENT = 60.0
"""Seconds for an attempt that is to answer in time, on however slow a machine."""


def pytest_source(violation: Violation) -> str:
    """The source of a test that goes the way of *violation* on a real mediator."""
    saga = violation.saga
    named = re.sub(r"[^\w-]", "_", saga.name)  # that of a branch tells its place: checkout/fulfil.pack
    name = re.sub(r"\W", "_", f"test_{saga.name}_keeps_law_{violation.law}")
    parts = "".join(f"{line}\n" for line in _spelled(saga.parts, "", violation.path, 12))
    path = "".join(f"        {_quoted(words)},\n" for words in violation.path)
    strict = ", strict=True" if violation.strict else ""
    retries = "Retry, " if "Retry(" in parts else ""
    return (
        f'"""Found by `verify`: the shortest way in which {saga.name} breaks law {violation.law}."""\n'
        "\n"
        f"from fsm_mediator import {retries}Saga\n"
        "from fsm_mediator.testing.counterexamples import Replay, actor\n"
        "\n"
        "\n"
        f"def {name}() -> None:\n"
        f'    """This must not be: {_docstring(violation.what)}."""\n'
        "    saga = Saga(\n"
        f"        {_quoted(named)},\n"
        "        [\n"
        f"{parts}"
        "        ],\n"
        "    )\n"
        f"    replay = Replay(saga{strict})  # a real mediator, and participants that do as they are told\n"
        "\n"
        "    replay.follow(\n"
        f"{path}"
        "    )\n"
        "\n"
        "    assert not replay.broken, replay.told()\n"
    )


def _spelled(parts: Sequence[Part], scope: str, path: Sequence[str], indent: int) -> Iterator[str]:
    """The parts in *scope*, a line each; nested sagas in more."""
    room = " " * indent

    def inner(part: Part) -> str:
        name, dot, _ = part.path[len(scope) :].partition(".")
        return name if dot else ""

    for name, group in itertools.groupby(parts, key=inner):
        within = list(group)
        if not name:
            for part in within:
                yield from _actor(part, path, room)
        else:
            yield f"{room}Saga("
            yield f"{room}    {_quoted(name)},"
            yield f"{room}    ["
            yield from _spelled(within, f"{scope}{name}.", path, indent + 8)
            yield f"{room}    ],"
            yield f"{room}),"


def _actor(part: Part, path: Sequence[str], room: str) -> Iterator[str]:
    told = [_quoted(part.path.rpartition(".")[2])]
    if part.compensate is not None:
        told.append("compensates=True")
    if part.probe is not None:
        told.append("probes=True")
    told.append(f"retry={_retry(part.retry)}")
    if part.compensatable:
        told.append(f"compensation_retry={_retry(part.compensation_retry)}")
    if part.timeout is not None:
        told += _times(part, path)
    told += [f"{setting}=True" for setting in ("pivot",) if getattr(part, setting)]
    if not part.repeatable:
        told.append("repeatable=False")
    if isinstance(Exception(), part.in_doubt_on):
        told.append("in_doubt_on=Exception")
    line = f"{room}actor({', '.join(told)}),"
    if len(line) <= 120:
        yield line
        return
    yield f"{room}actor("
    yield from (f"{room}    {each}," for each in told)
    yield f"{room}),"


def _times(part: Part, path: Sequence[str]) -> list[str]:
    """The time-out: short where the way has it pass."""
    own = [words for words in path if part.path in words]
    passes = any("times out" in words or "outlives" in words or "returns late" in words for words in own)
    told = [f"timeout={BRISK if passes else PATIENT}"]
    if passes and not any("outlives" in words for words in own):
        told.append(f"grace={PATIENT}")
    if not part.can_outlive_its_timeout:  # a coroutine would be cancelled; a plain function may be overtaken instead
        told.append("overtake=True")
    return told


def _retry(retry: Retry) -> str:
    at_once = "" if retry.wait(1) else ", wait_initial=0.0"
    on = "" if retry.covers(Exception("raised")) else ", on=KeyError"  # which is never raised here
    return f"Retry(attempts={retry.attempts}{at_once}{on})"


def _quoted(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _docstring(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', "'")
