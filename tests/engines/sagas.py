"""Random sagas for every back end: what a step does is a function of the seed, its name, the verb and the attempt."""

from __future__ import annotations

import random
import threading
from typing import Any

from fsm_mediator import (
    Choose,
    Happened,
    NotHappened,
    Outcome,
    OutcomeUnknownError,
    Parallel,
    Retry,
    RetryAfterError,
    Saga,
    Signal,
    Sleep,
    Step,
    StepRejectedError,
)

NEVER = threading.Event()
"""Nobody sets it, until the tests end: an attempt that waits for it always outlives its time-out."""


def quick(rng: random.Random, most: int = 3) -> Retry:
    """A policy without waits."""
    return Retry(attempts=rng.randint(1, most), wait_initial=0.0, wait_jitter=0.0)


class Scripted(Step):
    """A step that follows a script."""

    def __init__(self, name: str, rng: random.Random, *, pivot: bool = False, after: bool = False) -> None:
        self.name = name
        self.pivot = pivot
        self.retry = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0) if after else quick(rng)
        self.compensation_retry = quick(rng)
        self.repeatable = rng.random() > 0.25
        kinds = ["ok"] * 5 + ["value", "connection", "reject", "unknown", "later"]
        self.script = [rng.choice(kinds) for _ in range(3)]
        self.undo = [rng.choice(["ok"] * 4 + ["value"]) for _ in range(3)]
        self.answer = rng.choice(["yes", "no", "raise"])
        if rng.random() < 0.08:
            self.script[0], self.timeout, self.overtake = "hang", 0.02, True

    def act(self, what: str, context: Any) -> Any:
        message = f"{self.name} {context.attempt}"
        if what == "hang":
            NEVER.wait(600)
        if what == "value":
            raise ValueError(message)
        if what == "connection":
            raise ConnectionError(message)
        if what == "reject":
            raise StepRejectedError(message)
        if what == "unknown":
            raise OutcomeUnknownError(message)
        if what == "later":
            raise RetryAfterError(0.0)
        return {"step": self.name, "attempt": context.attempt, "seen": sorted(context.results)}

    def execute(self, payload: Any, context: Any) -> Any:
        return self.act(self.script[min(context.attempt, 3) - 1], context)


class Compensated(Scripted):
    def compensate(self, payload: Any, context: Any) -> None:
        self.act(self.undo[min(context.attempt, 3) - 1], context)


class Probed(Scripted):
    def probe(self, payload: Any, context: Any) -> Any:
        if self.answer == "raise":
            raise ValueError("it cannot tell")
        return Happened({"probed": self.name}) if self.answer == "yes" else NotHappened()


class Both(Compensated, Probed):
    pass


class Sure(Compensated):
    """A step whose compensation always succeeds, and that fails without doubt."""

    def __init__(self, name: str, rng: random.Random) -> None:
        super().__init__(name, rng)
        self.script = [rng.choice(["ok"] * 3 + ["reject"])] * 3
        self.undo = ["ok"] * 3
        self.repeatable = True
        self.timeout = None


def group_of(rng: random.Random, name: str, *, free: bool) -> Any:
    """A group or a choice; *free*: one that a schedule can change, because a failure cancels the others."""
    kind: Any = Sure if free else Compensated
    more: dict[str, Any] = {"on_failure": "cancel" if free else "settle", "at_most": rng.choice([None, 1, 2])}
    form = rng.randrange(4)
    if form == 0:
        return Choose(
            name,
            {"x": kind(f"{name}x", rng), "y": Saga(f"{name}y", [kind(f"{name}y1", rng), kind(f"{name}y2", rng)])},
            by=lambda payload: "x" if payload["n"] % 2 else "y",
        )
    if form == 1:
        return Parallel.each(name, kind(f"{name}e", rng), over=lambda payload: list(range(payload["n"])), **more)
    inner: Any = kind(f"{name}3", rng)
    if rng.random() < 0.3:
        inner = Saga(f"{name}3", [Parallel("deep", [kind("d1", rng), kind("d2", rng)], **more), kind("d3", rng)])
    return Parallel(name, [kind(f"{name}1", rng), kind(f"{name}2", rng), inner], **more)


def saga_of(seed: int, *, free: bool = False) -> tuple[Saga, dict[str, int], float | None]:
    """A saga, its payload and its deadline."""
    rng = random.Random(seed)  # noqa: S311 - what it draws is no secret
    count = rng.randint(1, 4)
    pivot = rng.choice([None, None, rng.randrange(count)])
    parts: list[Any] = []
    for number in range(count):
        kind = rng.choice([Compensated, Compensated, Compensated, Scripted, Both, Probed])
        if pivot is not None and number >= pivot:
            kind = Scripted if kind in (Compensated, Scripted) else Probed
        if free:
            parts.append(Sure(f"s{number}", rng))
        else:
            after = pivot is not None and number > pivot
            parts.append(kind(f"s{number}", rng, pivot=number == pivot, after=after))
    if free or (pivot is None and rng.random() < 0.5):
        parts.insert(rng.randrange(len(parts) + 1), group_of(rng, "g", free=free))
    if pivot is None and rng.random() < 0.15:
        parts.append(group_of(rng, "h", free=free))
    if rng.random() < 0.3:
        parts.insert(rng.randrange(len(parts) + 1), Sleep("nap", 0.01))
    if rng.random() < 0.15:
        parts.insert(rng.randrange(len(parts) + 1), Signal("never", timeout=0.02))
    deadline = rng.choice([None, None, None, 3600.0])
    if not free and pivot is None and rng.random() < 0.1:
        parts.insert(0, Signal("late"))
        deadline = 15.0
    if rng.random() < 0.2 and len(parts) > 1 and parts[0].name not in ("never", "late"):
        parts = [Saga("inner", parts[:1]), *parts[1:]]
    return Saga(f"{'free' if free else 'fixed'}{seed}", parts), {"n": rng.randint(0, 3)}, deadline


def plain(outcome: Outcome) -> list[tuple[Any, ...]]:
    """The records of an execution, but for times."""
    return [
        (
            *(record.seq, record.event, record.source, record.target, record.step, record.attempt, record.value),
            record.error and (record.error.type, record.error.message),
            *(record.in_doubt, record.due_at is not None, record.reason, record.abandoned, record.children),
        )
        for record in outcome.history
    ]


def branches_of(outcome: Outcome) -> list[str]:
    """The ids of the branches that an execution has had."""
    return [
        f"{outcome.saga_id}/{record.target.partition('.')[2]}.{name}"
        for record in outcome.history
        for name in record.children or ()
    ]
