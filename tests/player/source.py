"""Source: a counterexample as the text of a pytest function, with the saga spelled out. Nothing runs here."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.retry import Retry

if TYPE_CHECKING:
    from fsm_mediator.verifier.violation import Violation

BRISK = 0.2
"""Seconds for an attempt that is to time out: of real time, for threads cannot be hurried."""

PIVOT = "pivot_of_the_whole"
"""The name of what stands for all that a whole did up to its pivot, before one of its branches."""

BEGINS = "the saga begins"
"""What happens first, in the words of the verifier."""

PATIENT = 60.0
"""Seconds for an attempt that is to answer in time, on however slow a machine."""


def playing_test(violation: Violation) -> str:
    """The source of a test that goes the way of *violation* on a real mediator.

    Where a branch has no way of its own that leads there, the way is only told in the test, which has it found again.
    """
    saga = violation.saga
    named = re.sub(r"[^\w-]", "_", saga.name)  # that of a branch tells its place: checkout/fulfil.pack
    name = re.sub(r"\W", "_", f"test_{saga.name}_keeps_law_{violation.law}")
    told = [*violation.path, *(words for way in violation.branches.values() for words in way)]
    parts = "".join(f"{line}\n" for line in _spelled(saga, saga.parts, "", told, 12))
    if _is_forward_only(saga):
        parts = f'            actor("{PIVOT}", pivot=True),  # it is a branch that comes after it\n{parts}'
    played = violation.unplayable is None
    strict = "strict=True" if violation.strict else ""
    words = [word for word in ("Choose", "Parallel", "Retry", "Saga", "Signal", "Sleep") if f"{word}(" in parts]
    words += [word for word in ("Parallel",) if f"{word}.each(" in parts and word not in words]
    imported = sorted({*words, "Saga"}) + ([] if played else ["verify"])
    actors = ["Replay"] * played + ["actor"] + ["decided"] * ("decided()" in parts)
    return (
        f'"""Found by `verify`: the shortest way in which {saga.name} breaks law {violation.law}."""\n'
        "\n"
        f"from fsm_mediator import {', '.join(imported)}\n"
        f"from tests.player.replay import {', '.join(actors)}\n"
        "\n"
        "\n"
        f"def {name}() -> None:\n"
        f'    """This must not happen: {_docstring(violation.what)}."""\n'
        "    saga = Saga(\n"
        f"        {_quoted(named)},\n"
        "        [\n"
        f"{parts}"
        "        ],\n"
        "    )\n"
        f"{_played(violation, strict) if played else _found_again(violation, strict)}"
    )


def _played(violation: Violation, strict: str) -> str:
    at = len(violation.path) - violation.around
    straight, round_ = violation.path[:at], violation.path[at:]
    lines = [
        f"{_quoted(words)}," for words in (_past_the_pivot(straight) if _is_forward_only(violation.saga) else straight)
    ]
    if round_:
        lines += ["*[", *(f"    {_quoted(words)}," for words in round_)]
        lines += [f"]  # and so on, for ever; {_times_round(violation)} times are once more than there are attempts"]
        lines += [f"* {_times_round(violation)},"]
    if violation.branches:
        lines += ["branches={", *(f"    {line}" for line in _ways(violation)), "},"]
    path = "".join(f"        {line}\n" for line in lines)
    settings = f", {strict}" if strict else ""
    return (
        f"    replay = Replay(saga{settings})  # a real mediator, and participants that do as they are told\n"
        "\n"
        "    replay.follow(\n"
        f"{path}"
        "    )\n"
        "\n"
        "    assert not replay.broken, replay.told()\n"
    )


def _is_forward_only(saga: Saga) -> bool:
    """Whether it is the branch of a group that comes after a pivot, which it has none of itself."""
    return saga.parts[0].forward_only


def _past_the_pivot(way: Sequence[str]) -> Iterator[str]:
    """The same way, of a saga that has a pivot before."""
    for words in way:
        label, semicolon, decided = words.partition("; ")
        if label == BEGINS:
            yield label
            yield f"{PIVOT} takes effect and returns{semicolon}{decided}"
        else:
            yield words


def _times_round(violation: Violation) -> int:
    """How often round is too often: once more than any policy has attempts of what is called there."""
    attempts = [1]
    for words in violation.path[len(violation.path) - violation.around :]:
        name = words.removeprefix("compensating ")
        for part in violation.saga.parts:
            policy = part.compensation_retry if name != words else part.retry
            if part.path == name.split(" ")[0] and policy.attempts is not None:
                attempts.append(policy.attempts)
    return 1 + max(attempts)


def _ways(violation: Violation) -> Iterator[str]:
    """What happens to each branch, as a dictionary spells it."""
    for place, way in violation.branches.items():
        line = f"{_quoted(place)}: [{', '.join(map(_quoted, way))}],"
        if len(line) <= 108:
            yield line
        else:
            yield f"{_quoted(place)}: ["
            yield from (f"    {_quoted(words)}," for words in way)
            yield "],"


def _found_again(violation: Violation, strict: str) -> str:
    path = "".join(f"    # {number:3}. {words}\n" for number, words in enumerate(violation.path, 1))
    settings = f", {strict}" if strict else ""
    why = textwrap.wrap(f"It cannot be played: {violation.unplayable}.", 112)
    told = "".join(f"    # {line}\n" for line in why)
    return f"{told}    # The path that was found:\n{path}    verify(saga{settings}).raise_for_violations()\n"


def _spelled(saga: Saga, parts: Sequence[Part], scope: str, path: Sequence[str], indent: int) -> Iterator[str]:
    """The *parts* of *saga* in *scope*, a line each; nested sagas and groups in more."""
    room = " " * indent

    def inner(part: Part) -> str:
        name, dot, _ = part.path[len(scope) :].partition(".")
        return name if dot else ""

    for name, group in itertools.groupby(parts, key=inner):
        within = list(group)
        if not name:
            for part in within:
                yield from _part(saga, part, path, indent)
        else:
            yield f"{room}Saga("
            yield f"{room}    {_quoted(name)},"
            yield f"{room}    ["
            yield from _spelled(saga, within, f"{scope}{name}.", path, indent + 8)
            yield f"{room}    ],"
            yield f"{room}),"


def _part(saga: Saga, part: Part, path: Sequence[str], indent: int) -> Iterator[str]:
    room, name = " " * indent, _quoted(part.path.rpartition(".")[2])
    if part.kind is Kind.STEP:
        yield from _actor(part, path, room)
    elif part.kind is Kind.SIGNAL:
        yield f"{room}Signal({name}{'' if part.seconds is None else f', timeout={part.seconds}'}),"
    elif part.kind is Kind.SLEEP:
        told = "decided()" if part.decide is not None else part.subject.fixed
        yield f"{room}Sleep({name}, {'' if part.subject.relative else 'until='}{told}),"
    else:
        yield from _group(saga, part, path, indent)


def _group(saga: Saga, part: Part, path: Sequence[str], indent: int) -> Iterator[str]:
    room, name = " " * indent, _quoted(part.path.rpartition(".")[2])
    branches = saga.branches[part.path]
    brackets = "{}" if part.kind is Kind.CHOICE else "[]"
    yield f"{room}{'Choose(' if part.kind is Kind.CHOICE else 'Parallel.each(' if part.each else 'Parallel('}"
    yield f"{room}    {name},"
    if not part.each:
        yield f"{room}    {brackets[0]}"
    for key, branch in branches.items():
        inside = indent + (4 if part.each else 8)
        named = f"{_quoted(key)}: " if part.kind is Kind.CHOICE else ""
        lines = list(_branch(key, branch, path, inside, before=len(named)))
        yield f"{' ' * inside}{named}{lines[0].strip()}"
        yield from lines[1:]
    if not part.each:
        yield f"{room}    {brackets[1]},"
    if part.decide is not None:
        yield f"{room}    {'by' if part.kind is Kind.CHOICE else 'over'}=decided(),"
    yield f"{room}),"


def _branch(key: str, branch: Saga, path: Sequence[str], indent: int, *, before: int) -> Iterator[str]:
    """A branch: its only part, or a saga; *before*: how much room is taken by its name."""
    if branch.single is not None and branch.parts[0].kind is Kind.STEP:
        yield from _actor(branch.parts[0], path, " " * indent, before=before)
        return
    if branch.single is not None:
        yield from _spelled(branch, branch.parts, "", path, indent)
        return
    room = " " * indent
    yield f"{room}Saga("
    yield f"{room}    {_quoted(key if key != EACH else 'each')},"
    yield f"{room}    ["
    yield from _spelled(branch, branch.parts, "", path, indent + 8)
    yield f"{room}    ],"
    yield f"{room}),"


def _actor(part: Part, path: Sequence[str], room: str, *, before: int = 0) -> Iterator[str]:
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
    if before + len(line) <= 120:
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
    return textwrap.shorten(words.replace("\\", "\\\\").replace('"', "'"), 86, placeholder=" ...")
