"""A worker on Restate in a process of its own, for tests that kill it: python -m tests.engines.restate_worker."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from fsm_mediator import Parallel, Retry, Saga, Sleep, Step, step

POLICY = Retry(attempts=50, wait_initial=0.0, wait_jitter=0.0)


class Noted(Step):
    """Notes each attempt in a ledger, and takes its time."""

    retry = POLICY
    compensation_retry = POLICY

    def __init__(self, name: str, ledger: Path) -> None:
        self.name = name
        self.ledger = ledger

    def execute(self, payload: Any, context: Any) -> str:
        with self.ledger.open("a") as ledger:
            ledger.write(f"{context.saga_id} {self.name} {context.attempt}\n")
        time.sleep(payload["seconds"])
        return self.name

    def compensate(self, payload: Any, context: Any) -> None:
        """Nothing is compensated."""


def sagas(ledger: Path) -> list[Saga]:
    """One whose only step ends its process, repeatable or not, and one with branches and a wait."""

    def dies(payload: Any, context: Any) -> bool:
        with ledger.open("a") as file:
            file.write(f"{context.attempt}\n")
        if context.attempt == 1:
            os._exit(9)
        return bool(context.in_doubt)

    def crash(name: str, *, repeatable: bool) -> Saga:
        return Saga(name, [step(name="dies", retry=POLICY, repeatable=repeatable)(dies)])

    branch = Saga("b", [Noted("b1", ledger), Noted("b2", ledger)])
    whole: list[Any] = [Noted("first", ledger), Sleep("nap", 0.05), Parallel("g", [Noted("a", ledger), branch])]
    return [
        crash("repeatable", repeatable=True),
        crash("once", repeatable=False),
        Saga("whole", [*whole, Noted("last", ledger)]),
    ]


async def main(bind: str, admin: str, ledger: str) -> None:
    """Drive them until this process is ended."""
    from fsm_mediator.engines.restate import worker

    async with worker(*sagas(Path(ledger)), bind=bind, admin=admin):
        print("ready", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
