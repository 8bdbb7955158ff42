"""The sagas of three steps that do nothing, and the memory of one execution without a mediator."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

from fsm_mediator import Execution, Retry, Saga, step
from fsm_mediator.records import Acceptance, Begin

NO_WAIT = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0)


class RefusedOnPurposeError(Exception):
    """The error that the failing step raises."""


def nothing(payload: object) -> None:
    """Does nothing."""


def refuse(payload: object) -> None:
    """Fails."""
    raise RefusedOnPurposeError


def sagas(*, coroutines: bool) -> tuple[Saga, Saga]:
    """A saga that succeeds, and a saga whose third step fails at each of three attempts."""

    def made(function: Callable[[object], None]) -> Callable[[object], object]:
        if not coroutines:
            return function

        async def as_coroutine(payload: object) -> None:
            function(payload)

        return as_coroutine

    a = step(name="a")(made(nothing))
    a.compensation(made(nothing))
    b = step(name="b")(made(nothing))
    b.compensation(made(nothing))
    return (
        Saga("w3", [a, b, step(name="c")(made(nothing))]),
        Saga("w3_failing", [a, b, step(name="c", retry=NO_WAIT)(made(refuse))]),
    )


def bytes_of_an_execution(number: int) -> int:
    """The bytes of one of *number* executions that have begun and wait for their first step."""
    good, _ = sagas(coroutines=False)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    live = []
    for each in range(number):
        execution = Execution(good, Acceptance(f"{each:032x}", "w3", "1", good.fingerprint, None, 0.0))
        execution.feed(Begin(), 0.0)
        live.append(execution)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round((after - before) / len(live))
