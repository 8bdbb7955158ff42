"""Equal branches: if branches of a group differ only in their names, only a few of them are searched.

Two branches are equal if their sagas have the same settings of the parts, the same rows in the machine's transition
table, and equal branches of groups. The rules and the laws read no other data of a saga. They never read names or the
code of functions.

Three equal branches are enough. A rule never counts branches and never reads their position. A rule only asks whether
any branch has one of certain statuses. The laws compare the leftovers of single branches. No rule asks more than three
questions at once: whether a branch runs or can be undone, whether a branch is stuck, and whether a branch has
leftovers. So one branch for each question is enough to give every possible answer of a rule. Each other branch either
has the status of one of these three branches, or ends in a status that changes no answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga
from fsm_mediator.machine.parts import Part
from fsm_mediator.states import split_state
from fsm_mediator.verifier.choices import saga_of_parts

EQUAL: Final = 3
"""The maximum number of equal branches of a group that are searched."""

_CALLS: Final = ("execute", "compensate", "probe", "decide")
"""The functions of a part. Only the presence of a function is compared."""

_SETTINGS: Final = (
    *("kind", "scope", "overtake", "pivot", "forward_only", "repeatable", "in_doubt_on", "no_effect_on", "each"),
    *(
        "at_most",
        "cancels_on_failure",
        "group_compensates",
        "retry",
        "compensation_retry",
        "timeout",
        "grace",
        "seconds",
    ),
)


class FewBranches(NamedTuple):
    """A saga with few equal branches in each group.

    Attributes:
        saga: The saga without the omitted branches. If no branch was omitted, the original saga.
        left_out: The number of omitted branches, by the group's path.
    """

    saga: Saga
    left_out: dict[str, int]

    def in_words(self) -> str:
        """A text for the report: the number of omitted branches of each group."""
        return "; ".join(
            f"{count} branches of {path} differ from others only in their names, and were not walked"
            for path, count in self.left_out.items()
        )


def with_few_branches(saga: Saga) -> FewBranches:
    """*saga* with at most `EQUAL` equal branches in each group and choice."""
    kept = {path: _kept(branches) for path, branches in saga.branches.items()}
    left_out = {path: len(saga.branches[path]) - len(names) for path, names in kept.items()}
    left_out = {path: count for path, count in left_out.items() if count}
    if not left_out:
        return FewBranches(saga, {})
    parts = (_of_branches(part, kept[part.path]) if part.path in left_out else part for part in saga.parts)
    fewer = saga_of_parts(saga, tuple(parts))
    branches = {path: {name: saga.branches[path][name] for name in names} for path, names in kept.items()}
    object.__setattr__(fewer, "branches", branches)
    return FewBranches(fewer, left_out)


def _kept(branches: Any) -> tuple[str, ...]:
    """The names of the branches to search, in their order: the first `EQUAL` branches of each set of equal branches."""
    seen: Counter[Any] = Counter()
    names = []
    for name, branch in branches.items():
        kind = likeness_of(branch)
        seen[kind] += 1
        if seen[kind] <= EQUAL:
            names.append(name)
    return tuple(names)


def _of_branches(part: Part, names: tuple[str, ...]) -> Part:
    """A copy of the group *part* that has only the branches in *names*.

    If `at_most` makes some branches of *part* wait, the copy has a lower `at_most`, so that branches wait there too.
    """
    at_most = part.at_most
    if at_most is not None and at_most >= len(names):
        at_most = None if at_most >= len(part.branches) else len(names) - 1
    return replace(part, branches=names, at_most=at_most)


def likeness_of(saga: Saga) -> Any:
    """A value that is equal for equal branches: all data of *saga* that the rules and the laws read, without names."""
    number = {part.path: str(at) for at, part in enumerate(saga.parts)}
    rows: dict[str, set[tuple[str, ...]]] = {at: set() for at in ("", *number.values())}
    for move in saga.machine.moves():
        (phase, path), (to, other) = split_state(move.source), split_state(move.target)
        rows[number.get(path, "")].add((move.event, phase, to, number.get(other, other)))
    parts = tuple(
        (
            tuple(getattr(part, setting) for setting in _SETTINGS),
            tuple(getattr(part, call) is None for call in _CALLS),
            getattr(part.subject, "relative", None),
            frozenset(Counter(map(likeness_of, saga.branches.get(part.path, {}).values())).items()),
            frozenset(rows[number[part.path]]),
        )
        for part in saga.parts
    )
    return parts, frozenset(rows[""]), saga.deadline is None, saga.cancels_siblings
