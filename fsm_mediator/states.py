"""The names of states and events, and functions that query a state. This module imports nothing of the library.

A state is ``phase`` or ``phase.path``. The path names the part to which the state belongs. It contains dots if the part
is in a nested saga (``executing.shipping.pack``). Only this module splits states and paths.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = "pending"
EXECUTING: Final = "executing"
RETRYING: Final = "retrying"
PROBING: Final = "probing"
WAITING: Final = "waiting"
COMPENSATING: Final = "compensating"
RETRYING_COMPENSATION: Final = "retrying_compensation"
STUCK: Final = "stuck"
STUCK_EXECUTING: Final = "stuck_executing"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"

PHASES: Final = (
    *(PENDING, EXECUTING, RETRYING, PROBING, WAITING),
    *(COMPENSATING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, SUCCEEDED, FAILED),
)
ENDED: Final = frozenset({SUCCEEDED, FAILED})
STUCK_PHASES: Final = frozenset({STUCK, STUCK_EXECUTING})

UNDRIVABLE: Final = "undrivable"
"""A value for filters by state. It selects the executions, in any state, that no living driver can drive."""

ABANDON: Final = "abandon"
"""The event with which a person closes an execution that no driver can drive. No machine has this event."""

FURTHER: Final = frozenset(("executed", "compensated", "settled_done", "settled_undone", "retry", "undo"))
"""The events after which crashes are counted from 0 again: the execution has made progress, or a person has decided."""

EVENTS: Final[dict[str, str]] = {
    "start": "begins a pending execution",
    "executed": "completes a part that is being executed, probed or waited for",
    "errored": "ends an attempt after which another follows, in executing or probing",
    "unsure": "asks the probe about an attempt in doubt, in executing, where the step has a probe",
    "retry_due": "begins the next attempt, in retrying",
    "rejected": "gives a part up that had no effect, up to the pivot",
    "in_doubt": "gives a part up that may have had an effect, before the pivot, where it can be compensated",
    "exhausted": "gives a part up for a person to see to: the pivot, what follows it, or a call that cannot be ended",
    "compensated": "completes a compensation that is under way",
    "compensation_errored": "ends an attempt to compensate after which another follows",
    "compensation_due": "begins the next attempt to compensate, in retrying_compensation",
    "compensation_exhausted": "gives a compensation up for a person to look at, in compensating",
    "retry": "tries a stuck part again",
    "settled_undone": "takes a person's word that a stuck part has no effect; not after the pivot",
    "settled_done": "takes a person's word that a part stuck in execution has its effect",
    "undo": "compensates a saga that has succeeded; not with a pivot, nor with nothing to compensate",
}
"""Every event of the machines, with a description of its effect."""


def split_state(state: str) -> tuple[str, str]:
    """The phase and the path of *state*. The path is empty for ``pending``, ``succeeded`` and ``failed``."""
    phase, _, path = state.partition(".")
    return phase, path


def phase_of(state: str) -> str:
    """The phase of *state*, which is its first word: ``compensating`` for ``compensating.charge``."""
    return state.partition(".")[0]


def path_of(state: str) -> str:
    """The path of the part to which *state* belongs. Empty for ``pending``, ``succeeded`` and ``failed``."""
    return state.partition(".")[2]


def is_ended(state: str) -> bool:
    """Whether *state* is ``succeeded`` or ``failed``."""
    return state in ENDED


def is_stuck(state: str) -> bool:
    """Whether an execution in *state* waits for a person."""
    return state.partition(".")[0] in STUCK_PHASES


def is_settled(state: str) -> bool:
    """Whether *state* is an end state or a stuck state. Only the command of a person can change such a state."""
    return state in ENDED or state.partition(".")[0] in STUCK_PHASES


def split_name(path: str) -> tuple[str, str]:
    """The first name of a path, and the rest of the path. The rest may be empty."""
    name, _, rest = path.partition(".")
    return name, rest


def name_of(path: str) -> str:
    """The name of the part at *path*, without the names of the nested sagas that contain it."""
    return path.rpartition(".")[2]


def names_of(path: str) -> tuple[str, ...]:
    """The names of the nested sagas that contain the part at *path*, outermost first, and then the part's own name."""
    return tuple(path.split("."))


def outer_path(path: str) -> str:
    """The path of the nested saga that contains the part at *path*. Empty if the part is not nested."""
    return path.rpartition(".")[0]


def scopes_of(path: str) -> tuple[str, ...]:
    """The paths of the nested sagas that contain the part at *path*, outermost first: ``a``, ``a.b`` for ``a.b.c``.

    *path* can also be a `Part.scope`, which ends with a dot: ``a.b.``.
    """
    if "." not in path:
        return ()
    names = path.split(".")[:-1]
    return tuple(".".join(names[: depth + 1]) for depth in range(len(names)))


def is_within(path: str, outer: str) -> bool:
    """Whether *path* leads into the group or nested saga at path *outer*."""
    return path.startswith(f"{outer}.")


def path_within(path: str, outer: str) -> str:
    """The rest of *path*, as seen from inside the group or nested saga at path *outer*."""
    return path[len(outer) + 1 :]


def is_in_phase(state: str, phase: str) -> bool:
    """Whether *phase*, a phase or a whole state, matches *state*. ``stuck`` also matches ``stuck_executing``."""
    own = phase_of(state)
    return phase in (state, own) or (phase == STUCK and own == STUCK_EXECUTING)
