"""Transfer money, kill the workers at random moments, and count the money: ``python -m examples.bank [KILLS [SEED]]``.

Exits with 0 if no money was lost or made and no transfer happened twice, with 1 otherwise.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from examples.bank import ACCOUNTS, Banks, Transfer, problems_of
from fsm_mediator.cli.embedded import EmbeddedServer
from fsm_mediator.states import ENDED

ORDERS_A_KILL = 3
MOST_LEFT = 20
"""How many transfers may be unended at the next kill. Without this limit, a slow machine would never finish them."""
PATIENCE = 300.0
"""The seconds that the workers have to finish the transfers."""


def work(banks: Banks) -> None:
    """Drive transfers until this process is killed."""
    with banks.mediator() as mediator, mediator.daemon(poll=0.05):
        while True:
            time.sleep(1)


def worker(banks: Banks) -> BaseProcess:
    """Start a worker: a fork, which has imported everything and works at once."""
    process = multiprocessing.get_context("fork").Process(target=work, args=(banks,), daemon=True)
    process.start()
    return process


def order_some(banks: Banks, luck: random.Random, ordered: set[str], count: int) -> None:
    """Order transfers in random directions; one order in eight is rolled back."""
    for _ in range(count):
        saga_id = f"t-{len(ordered):05}-{luck.randrange(10**6):06}"
        transfer = Transfer(luck.randint(1, ACCOUNTS), luck.randint(1, ACCOUNTS), luck.randint(1, 400))
        fails = luck.random() < 1 / 8
        banks.order(saga_id, luck.choice(["southward", "northward"]), transfer, fails=fails)
        if not fails:
            ordered.add(saga_id)


def wait_until_few_are_left(banks: Banks, ordered: set[str], few: int) -> None:
    """Wait until at most *few* transfers have not ended, but for at most `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with banks.mediator() as mediator:  # closed before the next fork copies it
            states = {entry.saga_id: entry.state for entry in mediator.executions()}
        if sum(states.get(saga_id) not in ENDED for saga_id in ordered) <= few:
            return
        time.sleep(0.1)


def transfer_and_kill(banks: Banks, kills: int, luck: random.Random) -> set[str]:
    """Order transfers, kill two workers in turn, and let the last workers finish. Returns the ids of the transfers."""
    ordered: set[str] = set()
    workers = [worker(banks), worker(banks)]
    try:
        for number in range(kills):
            order_some(banks, luck, ordered, ORDERS_A_KILL)
            time.sleep(luck.uniform(0.02, 0.25))
            workers[number % 2].kill()
            workers[number % 2].join()
            workers[number % 2] = worker(banks)
            wait_until_few_are_left(banks, ordered, MOST_LEFT)
        wait_until_few_are_left(banks, ordered, 0)
    finally:
        for each in workers:
            each.kill()
            each.join()
    return ordered


def report(banks: Banks, ordered: set[str], kills: int) -> list[str]:
    """Print the results of the transfers. Returns the broken promises, in words."""
    with banks.mediator() as mediator:
        entries = list(mediator.executions())
        crashed = sum(
            record.error is not None and "AttemptCrashedError" in record.error.type
            for entry in entries
            for record in mediator.journal.records(entry.saga_id)
        )
    states = {entry.saga_id: entry.state for entry in entries}
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items()))
    print(f"{kills} kills; {len(entries)} transfers: {counts}; {crashed} attempts ended by a kill")
    problems = problems_of(ordered, states, [banks.north.rows(), banks.south.rows()])
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print("no money was lost or made, and no transfer happened twice")
    return problems


def main(kills: int = 20, seed: int | None = None) -> int:
    """Run the demonstration. Returns the exit code."""
    luck = random.Random(seed)  # noqa: S311 - no secret
    with EmbeddedServer() as server, tempfile.TemporaryDirectory(prefix="fsm-bank-") as folder:
        banks = Banks.at(server.url, Path(folder))
        banks.north.open()
        banks.south.open()
        return 1 if report(banks, transfer_and_kill(banks, kills, luck), kills) else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
