"""Asks the contestants, in turn: each in a process of its own, all but the one that is being timed standing still.

Repetitions are interleaved, so that a machine that slows down slows all alike. A contestant is timed only after it has
shown, with participants that take notes, that it does the work: the steps in order, three attempts at the failing one,
and the compensations newest first.
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
    """A contestant did something else than the work, and is not timed."""


class ContestantError(RuntimeError):
    """A contestant died, or gave no answer."""


class Cell(NamedTuple):
    """One thing to be measured of one contestant.

    Attributes:
        steps: How many steps the saga has.
        fails: Whether its last step fails.
        durability: None for in memory.
        at_once: How many are under way on asyncio; 0 is plain calls.
    """

    steps: int
    fails: bool = False
    durability: str | None = None
    at_once: int = 0

    @property
    def label(self) -> str:
        """How results name it."""
        parts = [f"W{self.steps}", "failure" if self.fails else "success"]
        if self.durability:
            parts.append(self.durability)
        if self.at_once:
            parts.append(f"{self.at_once} at once")
        return " ".join(parts)

    @property
    def work(self) -> dict[str, object]:
        """As the contestant is told."""
        return self._asdict()


class Taken(NamedTuple):
    """Seconds for one saga, on the wall and of the processor, and the processor's for defining it."""

    wall: float
    processor: float
    prepared: float


class Player:
    """A contestant's process.

    Attributes:
        about: Its interpreter and the versions it is measured with.
        lost: Why it is measured no further: it died, gave no answer, or did other work.
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
        """One question, one answer; before and after it the process stands still.

        Raises:
            ContestantError: It died, or gave no answer in time.
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
        """Refuse to time what does not do the work.

        Raises:
            WrongWorkError: It did something else.
        """
        expected = the_work(cell)
        did: list[str] = self.ask({"do": "check", "work": cell.work})
        # Many at a time are mixed with each other: there, what counts is that each thing was done once for each.
        right = Counter(did) == Counter(expected * cell.at_once) if cell.at_once > 1 else did == expected
        if not right:
            raise WrongWorkError(f"{self.name}, {cell.label}: did {did}, not {expected}")

    def time(self, cell: Cell, runs: int, warm: int = 2) -> Taken:
        """What one saga takes, and defining it."""
        answer = self.ask({"do": "time", "work": cell.work, "runs": runs, "warm": warm})
        sagas = runs * max(1, cell.at_once)
        return Taken(answer["wall"] / sagas, answer["processor"] / sagas, answer["prepared"])

    def close(self) -> None:
        """Hang up, and see it end."""
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
        """Stop or continue, where the system has such signals."""
        number = getattr(signal, name, None)
        if number is not None:
            self._process.send_signal(number)


def the_work(cell: Cell) -> list[str]:
    """What is to be done, in order."""
    names = [f"s{number}" for number in range(1, cell.steps + 1)]
    if not cell.fails:
        return names
    return [*names[:-1], *[names[-1]] * ATTEMPTS, *(f"undo {name}" for name in reversed(names[:-1]))]


@contextmanager
def folder_for_files() -> Iterator[Path]:
    """A folder on the disk that this project is on: files in memory would cost nothing to sync."""
    folder = Path(tempfile.mkdtemp(dir=ROOT / "benchmarks", prefix=".files-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Samples(NamedTuple):
    """Microseconds, one a round: for one saga, and for defining it.

    In memory nobody waits for anything, and the processor's time tells the same as the clock on the wall without what
    other programs take in between; on disk it is the clock, since waiting for the disk is what costs.
    """

    runs: list[float]
    defining: list[float]


def play(pairs: Iterable[tuple[str, Player, Cell]], *, rounds: int, seconds: float) -> dict[tuple[str, str], Samples]:
    """Time every (row, player, cell), in turn, so many rounds.

    Args:
        pairs: What is to be timed, with the name of its row.
        rounds: Repetitions.
        seconds: About how long one repetition of one cell takes; at least one run.
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
    """How many runs take about so many seconds."""
    each = (taken.wall if cell.durability else taken.processor) * max(1, cell.at_once)
    return max(1, min(MOST_RUNS, int(seconds / max(each, 1e-7))))
