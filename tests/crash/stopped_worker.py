"""A worker on another machine, as it seems, that is stopped: ``python -m tests.crash.stopped_worker URL SCHEMA KIND``.

It says ``begun`` in each step, goes on with all steps at a word on its standard input, and says what is refused.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from fsm_mediator import AsyncMediator, LeaseLostError, Mediator, Saga, step
from fsm_mediator.journal import liveness
from fsm_mediator.journal.postgres import PostgresJournal

SAGAS = 3
GO = threading.Event()


def wait_for_the_word() -> None:
    """Let the steps go on."""
    sys.stdin.readline()
    GO.set()


def say(*words: Any) -> None:
    """Say it to the test, a line at a time whatever the thread."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@step(name="charge")
def charge(payload: str) -> str:
    """Wait for the word."""
    say("begun", payload)
    GO.wait()
    return "charged by the stopped one"


SAGA = Saga("shop", [charge, step(name="ship")(lambda payload: say("shipped", payload))])


class Telling:
    """A journal that says what it was asked to write, and what it refused."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, commit: Any) -> Any:
        """As `Journal.write`."""
        try:
            written = self.inner.write(commit)
        except LeaseLostError:
            say("refused", commit.saga_id)
            raise
        say("written", commit.saga_id)
        return written

    def write_all(self, commits: Any) -> Any:
        """As `Journal.write_all`."""
        results = self.inner.write_all(commits)
        for commit, result in zip(commits, results, strict=True):
            say("refused" if isinstance(result, LeaseLostError) else "written", commit.saga_id)
        return results


def main() -> None:
    """Start the sagas, and close once they are over."""
    url, schema, kind = sys.argv[1:]
    liveness.boot_id = lambda: "another boot"  # type: ignore[assignment]
    threading.Thread(target=wait_for_the_word, daemon=True).start()
    journal: Any = Telling(PostgresJournal(url, schema=schema))
    if kind == "async":
        asyncio.run(wait_async(journal))
    else:
        with Mediator(SAGA, journal=journal) as mediator:
            for number in range(SAGAS):
                mediator.start("shop", f"o-{number}", saga_id=f"o-{number}")
            for number in range(SAGAS):
                say("outcome", mediator.wait(f"o-{number}").results["charge"])
    say("closed")


async def wait_async(journal: Any) -> None:
    """As `main`, with the other mediator."""
    async with AsyncMediator(SAGA, journal=journal) as mediator:
        for number in range(SAGAS):
            await mediator.start("shop", f"o-{number}", saga_id=f"o-{number}")
        for number in range(SAGAS):
            say("outcome", (await mediator.wait(f"o-{number}")).results["charge"])


if __name__ == "__main__":
    main()
