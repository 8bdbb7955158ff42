"""Make and split the ids of executions. No other module splits ids.

A branch's id is ``parent/group.branch``: the id of the execution that waits for the branch, the path of the group, and
the branch's own name. An id from a user contains neither ``/`` nor ``:``. The name of a branch contains no dot.
"""

from __future__ import annotations

from collections.abc import Iterator


def branch_id(parent: str, group: str, branch: str) -> str:
    """The id of *branch* of the group at path *group*, in the execution *parent*."""
    return f"{parent}/{group}.{branch}"


def is_branch(saga_id: str) -> bool:
    """Whether *saga_id* is the id of a branch."""
    return "/" in saga_id


def root_of(saga_id: str) -> str:
    """The id of the outermost execution that contains *saga_id*. This is *saga_id* itself if it is not a branch."""
    return saga_id.partition("/")[0]


def depth_of(saga_id: str) -> int:
    """The number of groups in which a branch is nested. 0 if *saga_id* is not a branch."""
    return saga_id.count("/")


def parent_of(saga_id: str) -> str:
    """The id of the execution that waits for the branch *saga_id*. Empty if *saga_id* is not a branch."""
    return saga_id.rpartition("/")[0]


def ancestors(saga_id: str) -> Iterator[tuple[str, str]]:
    """Yield the ids of a branch and its parent, then of the parent and its parent, and so on up to the root."""
    while parent := parent_of(saga_id):
        yield saga_id, parent
        saga_id = parent


def place_of(saga_id: str) -> str:
    """The name of a branch in its parent: ``group.branch``. *saga_id* itself if it is not a branch."""
    return saga_id.rpartition("/")[2]


def group_of(saga_id: str) -> str:
    """The path of the group to which a branch belongs.

    Args:
        saga_id: The branch's id, or its place in its parent: ``group.branch``.
    """
    return saga_id.rpartition("/")[2].rpartition(".")[0]


def branch_name(saga_id: str) -> str:
    """The name of a branch in its group."""
    return saga_id.rpartition(".")[2]


def is_inside(saga_id: str, ancestor: str) -> bool:
    """Whether *saga_id* is a branch of *ancestor*, or of one of its branches."""
    return saga_id.startswith(f"{ancestor}/")
