"""Large groups: which branches of a group a picture shows, and the words for the branches that it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.progress import StepState, became
from fsm_mediator.errors import DefinitionError, SiblingFailedError

MOST_BRANCHES: Final = 12
"""The default of the maximum number of branches that a picture shows for each group and each choice."""

ALL: Final = "all"
"""The setting for all branches, in a file or on the command line."""

REST: Final = "…"
"""The name, in ids, of the branches that are left out. No branch can have this name."""

MOST_NAMES: Final = 24
"""The maximum number of characters of `ranges` in a box. Its tooltip has room for `MOST_IN_TOOLTIP` characters."""

MOST_IN_TOOLTIP: Final = 400

T = TypeVar("T")

_SPECIAL_FIRST: Final = (
    StepState.STUCK,
    StepState.FAILED,
    StepState.IN_DOUBT,
    StepState.WAITING,
    StepState.RUNNING,
    StepState.COMPENSATED,
    StepState.DONE,
    StepState.UNKNOWN,
    StepState.NEVER,
)
"""The states of branches. If a picture cannot show all branches, it prefers branches whose state is earlier here."""


def check_branches(most: object) -> int | None:
    """Return *most* if it can be the maximum number of branches in a picture.

    Raises:
        DefinitionError: *most* is neither None nor a whole number from 1.
    """
    if most is None:
        return None
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise DefinitionError(f"branches={most!r} is not a number of branches to draw: at least 1, or None for all")
    return most


def branches_of(setting: object) -> int | None:
    """The attribute `Diagram.branches` for a setting in a file or on the command line: a number, or ``all``.

    Raises:
        DefinitionError: *setting* is neither a positive number nor ``all``.
    """
    if setting == ALL:
        return None
    if isinstance(setting, str) and setting.isdecimal():
        return check_branches(int(setting))
    if setting is None or isinstance(setting, str):
        raise DefinitionError(f"branches: {setting!r} is not a number of branches to draw: at least 1, or {ALL!r}")
    return check_branches(setting)


def folded(branches: Sequence[T], most: int | None, rank: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The branches that a picture shows, and the branches that it leaves out, both in their order.

    Args:
        branches: All branches of a group.
        most: The maximum number of branches to show. None for no limit.
        rank: The rank of a branch. Branches with a low rank are shown before branches with a high rank.
    """
    if most is None or len(branches) <= most:
        return list(branches), []
    shown = set(sorted(range(len(branches)), key=lambda number: rank(branches[number]))[:most])
    return [branches[number] for number in sorted(shown)], [
        branch for number, branch in enumerate(branches) if number not in shown
    ]


def rank_of_state(state: StepState) -> int:
    """The rank of a branch in *state*, for `folded`."""
    return _SPECIAL_FIRST.index(state)


def rank_of(run: Run) -> int:
    """The rank of the branch with the run *run*, for `folded`. It is the same in all frames of an animation.

    A branch that was ended because another branch failed has a high rank, because the other branch is the cause.
    """
    run = run.end or run
    state = became(run)
    if state is StepState.FAILED and any(
        record.error is not None and record.error.type.endswith(SiblingFailedError.__name__) for record in run.records
    ):
        state = StepState.COMPENSATED if len(run.records) > 1 else StepState.NEVER
    return rank_of_state(state)


def rest_title(count: int) -> str:
    """The title of the box that stands for *count* branches."""
    return f"{count:,} more"


def rest_tooltip(group: str, names: Sequence[str], left_out: Collection[str]) -> str:
    """The tooltip of the box that stands for the branches *left_out* of a group. *names* has all names of the group."""
    count = f"{len(left_out):,} of {len(names):,} branches"
    return (
        f"{group}: {count} are not drawn: {ranges(names, left_out, MOST_IN_TOOLTIP)}\nbranches=None draws all branches"
    )


def ranges(names: Sequence[str], left_out: Collection[str], most: int = MOST_NAMES) -> str:
    """The names *left_out* as ranges: ``b4, b12 … b99``. *names* has all names in their order.

    If the text would have more than *most* characters, it is one range, from the first to the last name that is left
    out.
    """
    pieces: list[list[str]] = []
    before = False
    for name in names:
        here = name in left_out
        if here and before:
            pieces[-1].append(name)
        elif here:
            pieces.append([name])
        before = here
    exact = ", ".join(", ".join(each) if len(each) < 3 else f"{each[0]} … {each[-1]}" for each in pieces)
    return exact if len(exact) <= most or len(left_out) < 3 else f"{pieces[0][0]} … {pieces[-1][-1]}"
