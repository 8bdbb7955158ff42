"""The comparison with all other libraries. The results are plain data, which `benchmarks.report` writes."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import environments
from benchmarks.conductor import NEEDED, Cell, ContestantError, Player, Samples, folder_for_files, play
from benchmarks.in_memory import bytes_of_an_execution
from benchmarks.roster import ALONE, FLOOR, OURS, ROSTER, Contestant

SIZES = (3, 10, 100)
GROWTH = (1, 2, 5, 20, 50)  # beside SIZES
WIDTHS = (1, 4, 16, 64, 256, 1024)
LIVE = 100_000
LIVE_PATIENCE = 900.0  # seconds: memory is traced while they are made

Results = dict[str, Any]


class Effort(NamedTuple):
    """How long to measure.

    Attributes:
        rounds: Repetitions of each cell.
        seconds: About how long one repetition of one cell takes.
        live: How many live executions of this library are created.
        live_seconds: The seconds for creating live executions of another library. A slow library creates fewer.
    """

    rounds: int
    seconds: float
    live: int = LIVE
    live_seconds: float = 3.0

    @property
    def few(self) -> int:
        """The number of rounds for slow or steady measurements."""
        return max(3, self.rounds // 2)


FULL = Effort(rounds=11, seconds=0.02)
QUICK = Effort(rounds=3, seconds=0.006, live=2_000, live_seconds=0.2)


def start(say: Callable[[str], None]) -> tuple[Results, dict[str, Path]]:
    """Create the environments.

    Returns the results so far, and the interpreter of each contestant that can be installed.
    """
    on = machine()  # before pip makes the machine busy
    say("environments")
    made = environments.make(list(ROSTER))
    missing = {name: reason for name, reason in made.items() if isinstance(reason, str)}
    for name, reason in missing.items():
        say(f"NOT MEASURED: {name}: {reason}")
    results: Results = {
        "taken": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": on,
        "contestants": {},
        "missing": missing,
        "samples": {},
        "defining": {},
    }
    return results, {name: python for name, python in made.items() if isinstance(python, Path)}


def machine() -> dict[str, object]:
    """The machine on which the figures were measured."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "processor": model,
        "cores": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def in_memory(results: Results, pythons: dict[str, Path], effort: Effort, say: Callable[[str], None]) -> None:
    """Measure in memory.

    The cells are W3, W10 and W100 with success and with failure, growth with the steps, many at a time, and the memory
    of live executions.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(folder_for_files())
        players = _seated(stack, results, pythons, [each for each in ROSTER if each.in_memory], folder)
        for fails in (False, True):
            for size in SIZES:
                say(f"in memory: {Cell(size, fails).label}")
                _keep(results, play(_each(players, Cell(size, fails)), rounds=effort.rounds, seconds=effort.seconds))
        say("in memory: growth with the steps")
        grown = {name: players[name] for name in (FLOOR, OURS)}
        cells = [pair for size in GROWTH for fails in (False, True) for pair in _each(grown, Cell(size, fails))]
        _keep(results, play(cells, rounds=effort.few, seconds=effort.seconds))
        say("in memory: many at a time")
        wide = {each.name: players[each.name] for each in ROSTER if each.at_once}
        cells = [pair for width in WIDTHS for pair in _each(wide, Cell(3, at_once=width))]
        _keep(results, play(cells, rounds=effort.few, seconds=effort.seconds))
        say("in memory: live executions")
        results["live"] = {
            name: _live(player, effort) for name, player in players.items() if player.about["live"] and not player.lost
        }
        results["live"][ALONE] = {"count": effort.live, "bytes": bytes_of_an_execution(effort.live)}


def durable(results: Results, pythons: dict[str, Path], effort: Effort, say: Callable[[str], None]) -> None:
    """W3 on disk, one at a time and many at a time, with each durability of each contestant."""
    contestants = [each for each in ROSTER if each.durabilities and each.name in pythons]
    for durability in ("full", "normal", "default"):
        with ExitStack() as stack:
            folder = stack.enter_context(folder_for_files())
            able = [each for each in contestants if durability in each.durabilities]
            players = _seated(stack, results, pythons, able, folder)
            for fails in (False, True):
                say(f"durable: {Cell(3, fails, durability).label}")
                cells = _each(players, Cell(3, fails, durability))
                _keep(results, play(cells, rounds=effort.rounds, seconds=effort.seconds))
            if durability != "default":
                say(f"durable: many at a time, {durability}")
                cells = [(OURS, players[OURS], Cell(3, durability=durability, at_once=width)) for width in WIDTHS]
                _keep(results, play(cells, rounds=effort.few, seconds=effort.seconds))


def imports(results: Results, pythons: dict[str, Path], effort: Effort, say: Callable[[str], None]) -> None:
    """The milliseconds that each import adds to the start of the bare interpreter."""
    say("imports")
    contestants = [each for each in ROSTER if each.imports and each.name in pythons]
    taken: dict[str, list[float]] = {each.name: [] for each in contestants}
    for number in range(effort.few + 1):
        for each in contestants:
            whole = _import_seconds(pythons[each.name], f"import {each.imports}")
            bare = _import_seconds(pythons[each.name], "pass")
            if number:  # the first one compiles
                taken[each.name].append(round((whole - bare) * 1e3, 2))
    results["import"] = taken


def _import_seconds(python: Path, code: str) -> float:
    # What is installed was compiled then; ours is as well, whatever the shell says that it is measured from.
    compiles = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, capture_output=True, cwd="/", env=compiles)  # noqa: S603 - our own
    return time.perf_counter() - started


def _seated(
    stack: ExitStack, results: Results, pythons: dict[str, Path], contestants: list[Contestant], folder: Path
) -> dict[str, Player]:
    """The processes of the contestants. All of them are stopped."""
    players = {}
    for each in contestants:
        if each.name in pythons:
            try:
                player = stack.enter_context(Player(each.name, each.module, pythons[each.name], folder))
            except ContestantError as error:
                if each.name in NEEDED:
                    raise
                results["missing"][each.name] = str(error)
                continue
            stack.callback(_note_loss, results, player)
            players[each.name] = player
            results["contestants"][each.name] = {
                "python": player.about["python"],
                "versions": player.about["versions"],
                "pinned": player.about["pinned"],
                "keeps": each.keeps,
            }
    return players


def _note_loss(results: Results, player: Player) -> None:
    """If the contestant was lost while it was measured, add the reason to the results."""
    if player.lost:
        results["missing"][player.name] = player.lost


def _each(players: dict[str, Player], cell: Cell) -> list[tuple[str, Player, Cell]]:
    return [(name, player, cell) for name, player in players.items()]


def _keep(results: Results, samples: dict[tuple[str, str], Samples]) -> None:
    for (name, label), sample in samples.items():
        results["samples"].setdefault(label, {})[name] = sample.runs
        if label in {"W3 success", "W100 success"}:
            results["defining"].setdefault(label, {})[name] = sample.defining


def _live(player: Player, effort: Effort) -> dict[str, float]:
    """Bytes for one live execution."""
    count = effort.live
    if player.name != OURS:
        few = 50
        started = time.perf_counter()
        player.ask({"do": "live", "count": few})
        each = (time.perf_counter() - started) / few
        count = max(few, min(count, int(effort.live_seconds / each) // few * few))
    return {"count": count, "bytes": round(player.ask({"do": "live", "count": count}, patience=LIVE_PATIENCE) / count)}
