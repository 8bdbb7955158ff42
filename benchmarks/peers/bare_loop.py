"""The floor: hand-written code without a library, with retries and compensation. No id, no state, no history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.peers.contestant import ATTEMPTS, Participant, Ready, Work, serve

Pair = tuple[Participant, Participant]


def prepare(work: Work) -> Ready:
    """A loop over the steps."""
    names = work.names
    coroutine = work.at_once > 0
    pairs = tuple(
        (
            work.executing(name, arguments=1, coroutine=coroutine),
            work.compensating(name, arguments=1, coroutine=coroutine),
        )
        for name in names
    )
    if coroutine:
        return Ready(many(pairs, work.at_once))
    return Ready(lambda: by_hand(pairs))


def by_hand(pairs: tuple[Pair, ...]) -> None:
    """Attempt each step up to three times. If a step is given up, undo the completed steps, newest first."""
    done: list[Participant] = []
    try:
        for execute, compensate in pairs:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    execute(None)
                    break
                except Exception:
                    if attempt == ATTEMPTS:
                        raise
            done.append(compensate)
    except Exception:
        for undo in reversed(done):
            undo(None)


async def by_hand_async(pairs: tuple[Pair, ...]) -> None:
    """The same with coroutines."""
    done: list[Participant] = []
    try:
        for execute, compensate in pairs:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await execute(None)
                    break
                except Exception:
                    if attempt == ATTEMPTS:
                        raise
            done.append(compensate)
    except Exception:
        for undo in reversed(done):
            await undo(None)


def many(pairs: tuple[Pair, ...], at_once: int) -> Participant:
    """Run *at_once* loops at the same time."""

    async def run() -> None:
        await asyncio.gather(*(by_hand_async(pairs) for _ in range(at_once)))

    return run


async def live(count: int) -> Sequence[object]:
    """Coroutines that wait in their first step."""
    never = asyncio.get_running_loop().create_future()

    async def waits(payload: object) -> None:
        await never

    pairs = ((waits, waits),) * 3
    tasks = [asyncio.create_task(by_hand_async(pairs)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


if __name__ == "__main__":
    serve(prepare, live=live)
