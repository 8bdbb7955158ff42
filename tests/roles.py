"""Sagas of steps that do nothing, told by what matters for their machine."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from fsm_mediator import Retry, Saga, Signal, Sleep, step
from fsm_mediator.definition.waits import Wait


@attrs.frozen(kw_only=True)
class Role:
    """One part of a definition, as far as its shape and its settings go; a signal and a sleep have none."""

    name: str
    kind: str = "step"
    compensates: bool = True
    probes: bool = False
    pivot: bool = False
    repeatable: bool = True
    attempts: int = 2
    timed: bool = False


def made(*roles, version=1, name="checkout", nested=None):
    """A saga of these roles (or names); *nested* of them, from the front, within a saga named ``inner``."""
    steps: list[Any] = []
    compensates = True
    for role in roles:
        if isinstance(role, (Saga, Wait)):
            steps.append(role)
            continue
        role = Role(name=role) if isinstance(role, str) else role  # noqa: PLW2901 - a name is short for a role
        if role.kind != "step":
            steps.append(Signal(role.name) if role.kind == "signal" else Sleep(role.name, 0))
            continue
        made_step = step(
            name=role.name,
            pivot=role.pivot,
            repeatable=role.repeatable,
            retry=Retry(attempts=role.attempts, wait_initial=0.0, wait_jitter=0.0),
            timeout=1.0 if role.timed else None,
        )(lambda order: None)
        compensates = compensates and not role.pivot  # after the pivot there is no way back
        if role.compensates and compensates:
            made_step.compensation(lambda order: None)
        if role.probes:
            made_step.probing(lambda order: None)
        steps.append(made_step)
    if nested:
        steps = [Saga("inner", steps[:nested]), *steps[nested:]]
    return Saga(name, steps, version=version)


@st.composite
def roles(draw, max_size=4):
    """The roles of a saga: any settings that matter for the machine; now and then a signal or a sleep."""
    pivot = draw(st.sampled_from([None, None, 0, 1, 2]))
    return [
        Role(
            name=name,
            kind="step" if number == pivot else draw(st.sampled_from(["step"] * 5 + ["signal", "sleep"])),
            compensates=draw(st.booleans()),
            probes=draw(st.sampled_from([False, False, True])),
            pivot=number == pivot,
            repeatable=draw(st.sampled_from([True, True, False])),
            attempts=draw(st.sampled_from([1, 2])),
            timed=draw(st.booleans()),
        )
        for number, name in enumerate("abcd"[: draw(st.integers(1, max_size))])
    ]
