"""The words about waits and groups in the steps view, and the runs of a group's branches."""

from __future__ import annotations

from collections.abc import Sequence

from fsm_mediator.definition.waits import EACH
from fsm_mediator.diagram.history import NOT_BEGUN, Run
from fsm_mediator.diagram.progress import TIMES
from fsm_mediator.diagram.text import seconds
from fsm_mediator.ids import group_of
from fsm_mediator.machine.parts import Callback, Kind, Part
from fsm_mediator.records import Record
from fsm_mediator.states import WAITING


def name_of_callback(callback: Callback | None) -> str:
    """The name of *callback* for a picture. Empty for None and for a name without information, such as ``<lambda>``."""
    name = "" if callback is None else callback.label.split(".")[-1].strip("_").removeprefix("by_")
    return "" if name.startswith("<") or name in ("compensate", "undo", "over", "by") else name


def notes_of(part: Part, branches: int, runs: Sequence[Run]) -> tuple[str, ...]:
    """The small print of a part: when its wait ends, how its branch is chosen, or how many branches it has."""
    decided = name_of_callback(part.decide)
    if part.kind is Kind.SIGNAL:
        return ("signal" if part.seconds is None else f"signal, ≤ {seconds(part.seconds)}",)
    if part.kind is Kind.SLEEP:
        until = f" {seconds(part.seconds)}" if part.seconds is not None else f", by {decided}" if decided else ""
        return (f"waits{until}",)
    if part.kind is Kind.CHOICE:
        return (f"one of {branches}{f', by {decided}' if decided else ''}",)
    if part.kind is not Kind.GROUP:
        return ()
    limit = f"{part.at_most} at a time" if part.at_most is not None else ""
    if not part.each:
        return tuple(filter(None, ("in parallel", limit)))
    count = sum(len(runs_of(part.path, EACH, run)) for run in runs if run.branches is not None)
    count = count or sum(len(record.children or ()) for run in runs for record in run.records if enters(record, part))
    return tuple(
        filter(None, (f"{TIMES} {count}" if count else f"{TIMES} each{f' of {decided}' if decided else ''}", limit))
    )


def enters(record: Record, part: Part) -> bool:
    """Whether *record* entered the group or choice *part*, and has the names of its branches."""
    return record.target == f"{WAITING}.{part.path}" and record.children is not None


def runs_of(path: str, name: str, run: Run) -> list[Run]:
    """The runs of the branch *name* in the group *path*: one run, or one for each item of a group over items."""
    known = run.branches or {}
    if name == EACH:
        return [each for key, each in known.items() if group_of(key) == path]
    return [known.get(f"{path}.{name}", NOT_BEGUN)]


def chosen_of(part: Part, runs: Sequence[Run]) -> set[str]:
    """The names of the branches with which *runs* entered the group or choice *part*."""
    records = (record for run in runs for record in run.records if enters(record, part))
    return {name for record in records for name in record.children or ()}
