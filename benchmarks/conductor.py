"""Measures the contestants in turn.

Each contestant has its own process, and all processes except the measured one are stopped.

Repetitions are interleaved, so a slow phase of the machine affects all contestants alike. Before a contestant is timed,
it must show with participants that record their calls that it does the work: the steps in order, three attempts of the
failing step, and the compensations newest first.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.roster import DURABLE_FLOOR, FLOOR, OURS

ROOT = Path(__file__).parent.parent
PATIENCE = 120.0  # seconds for one answer
HANG_UP = 5.0  # seconds for one to end
ATTEMPTS = 3
MOST_RUNS = 20_000
NEEDED = (FLOOR, DURABLE_FLOOR, OURS)  # without these there is nothing to compare with


class WrongWorkError(AssertionError):
    """A contestant did not do the work, so it is not timed."""


class ContestantError(RuntimeError):
    """A contestant died, or gave no answer."""


class Cell(NamedTuple):
    """One measurement of one contestant.

    Attributes:
        steps: The number of steps of the saga.
        fails: Whether the last step fails.
        durability: None for a run in memory.
        at_once: The number of sagas that run at the same time on asyncio. 0 means plain calls.
    """

    steps: int
    fails: bool = False
    durability: str | None = None
    at_once: int = 0

    @property
    def label(self) -> str:
        """The name of this cell in the results."""
        parts = [f"W{self.steps}", "failure" if self.fails else "success"]
        if self.durability:
            parts.append(self.durability)
        if self.at_once:
            parts.append(f"{self.at_once} at once")
        return " ".join(parts)

    @property
    def work(self) -> dict[str, object]:
        """The description of this cell for a contestant."""
        return self._asdict()


class Taken(NamedTuple):
    """The seconds for one saga.

    They are the wall-clock time, the processor time, and the processor time for the definition of the saga.
    """

    wall: float
    processor: float
    prepared: float


class Player:
    """The process of a contestant.

    Attributes:
        about: Its interpreter, and the versions of the measured packages.
        lost: Why it is no longer measured: it died, gave no answer, or did other work.
    """

    lost: str | None = None

    def __init__(self, name: str, module: str, python: Path, folder: Path) -> None:
        self.name = name
        self._log = folder / f"{module}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own script
                [python, "-m", f"benchmarks.peers.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
                text=True,
            )
        self.about: dict[str, Any] = self.ask({"do": "about"})

    def ask(self, question: dict[str, object], *, patience: float = PATIENCE) -> Any:
        """Send one question, and return the answer. The process is stopped before and after.

        Raises:
            ContestantError: The contestant died, or did not answer in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], patience)[0]:
                raise ContestantError(f"{self.name}: no answer to {question} within {patience:.0f} s")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            last = self._log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise ContestantError(f"{self.name}: died at {question}: {last[0]}")
        self._signal("SIGSTOP")
        return json.loads(answer)

    def check(self, cell: Cell) -> None:
        """Check that the contestant does the work.

        Raises:
            WrongWorkError: The contestant did something else.
        """
        expected = the_work(cell)
        did: list[str] = self.ask({"do": "check", "work": cell.work})
        # Many at a time are mixed with each other: there, what counts is that each thing was done once for each.
        right = Counter(did) == Counter(expected * cell.at_once) if cell.at_once > 1 else did == expected
        if not right:
            raise WrongWorkError(f"{self.name}, {cell.label}: did {did}, not {expected}")

    def time(self, cell: Cell, runs: int, warm: int = 2) -> Taken:
        """The time for one saga, and for its definition."""
        answer = self.ask({"do": "time", "work": cell.work, "runs": runs, "warm": warm})
        sagas = runs * max(1, cell.at_once)
        return Taken(answer["wall"] / sagas, answer["processor"] / sagas, answer["prepared"])

    def close(self) -> None:
        """Close the connection, and wait for the end of the process."""
        self._signal("SIGCONT")
        with suppress(OSError, subprocess.TimeoutExpired):  # it may have a hundred thousand tasks to cancel
            self._process.communicate(timeout=HANG_UP)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, name: str) -> None:
        """Stop or continue the process, if the system has such signals."""
        number = getattr(signal, name, None)
        if number is not None:
            self._process.send_signal(number)


def the_work(cell: Cell) -> list[str]:
    """The calls that the work consists of, in order."""
    names = [f"s{number}" for number in range(1, cell.steps + 1)]
    if not cell.fails:
        return names
    return [*names[:-1], *[names[-1]] * ATTEMPTS, *(f"undo {name}" for name in reversed(names[:-1]))]


@contextmanager
def folder_for_files() -> Iterator[Path]:
    """A folder on the disk of this project. Syncing files in memory would cost nothing."""
    folder = Path(tempfile.mkdtemp(dir=ROOT / "benchmarks", prefix=".files-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Samples(NamedTuple):
    """The microseconds of each round, for one saga and for its definition.

    In memory no contestant waits, so processor time is measured: it does not include the time of other programs. On
    disk wall-clock time is measured, because waiting for the disk is the cost.
    """

    runs: list[float]
    defining: list[float]


def play(pairs: Iterable[tuple[str, Player, Cell]], *, rounds: int, seconds: float) -> dict[tuple[str, str], Samples]:
    """Time every (row, player, cell) in turn, for *rounds* rounds.

    Args:
        pairs: What to time, with the name of its row.
        rounds: The number of repetitions.
        seconds: About how long one repetition of one cell takes. At least one run is made.
    """
    pairs = list(pairs)
    counts: dict[tuple[str, str], int] = {}
    samples = {(row, cell.label): Samples([], []) for row, _, cell in pairs}

    def calibrate(row: str, player: Player, cell: Cell) -> None:
        player.check(cell)
        few = _runs(player.time(cell, 1), cell, seconds / 10)
        counts[row, cell.label] = _runs(player.time(cell, few), cell, seconds)

    def sample(row: str, player: Player, cell: Cell) -> None:
        taken = player.time(cell, counts[row, cell.label], warm=1)
        runs, defining = samples[row, cell.label]
        runs.append(round((taken.wall if cell.durability else taken.processor) * 1e6, 4))
        defining.append(round(taken.prepared * 1e6, 1))

    for act in (calibrate, *[sample] * rounds):
        for row, player, cell in pairs:
            if player.lost:
                continue
            try:
                act(row, player, cell)
            except (ContestantError, WrongWorkError) as error:
                if row in NEEDED:
                    raise
                player.lost = str(error)
                samples = {key: kept for key, kept in samples.items() if key[0] != row}
    return samples


def _runs(taken: Taken, cell: Cell, seconds: float) -> int:
    """The number of runs that take about *seconds* seconds."""
    each = (taken.wall if cell.durability else taken.processor) * max(1, cell.at_once)
    return max(1, min(MOST_RUNS, int(seconds / max(each, 1e-7))))
