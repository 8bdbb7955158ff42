"""The benchmarks measure what they say, and the pages tell what was measured. Nothing here is timed."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    conductor,
    durable,
    environments,
    floors,
    floors_in_memory,
    guard,
    in_memory,
    marks,
    report,
    sizes,
    sizes_plot,
)
from benchmarks.conductor import Cell, ContestantError, Player, WrongWorkError, play, the_work
from benchmarks.plot import svg
from benchmarks.roster import FLOOR, OURS, ROSTER, Contestant
from fsm_mediator import Mediator

pytestmark = pytest.mark.once

KEPT = json.loads(report.KEPT.read_text())
ENDINGS = ("success", "failure")
OWN = [each for each in ROSTER if each.own]


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_pages_tell_the_results_that_are_kept(page: Path) -> None:
    """The tables of the docs and the README are those of the kept run, not of an older one, nor typed by hand."""
    assert page.read_text() == report.rendered(page.read_text(), KEPT)
    assert "<!-- bench:" in page.read_text()


def test_plots_show_the_results_that_are_kept() -> None:
    """The pictures in the docs are those of the kept run."""
    assert report.PLOT.read_text() == svg(KEPT)
    assert report.SIZES_PLOT.read_text() == sizes_plot.svg(KEPT)


def test_every_contestant_was_measured_or_is_named_as_missing() -> None:
    """Nobody is left out of the comparison in silence."""
    told = report.machine(KEPT)

    assert {each.name for each in ROSTER} == set(KEPT["contestants"]) | set(KEPT["missing"])
    assert all(f"**Not measured: {name}**" in told for name in KEPT["missing"])


@pytest.mark.parametrize("contestant", [each for each in ROSTER if not each.own], ids=lambda each: each.module)
def test_each_environment_is_pinned_exactly(contestant: Contestant) -> None:
    """Whoever repeats the run compares the same versions, down to the last dependency."""
    pins = environments.requirements(contestant).read_text().splitlines()

    assert pins
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_contestant_that_cannot_be_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks for a Python which nobody has is reported, and does not stop the others."""
    futuristic = Contestant("futuristic", "futuristic", "", "", python=(3, environments.LATEST_PYTHON))
    monkeypatch.setattr(environments, "requirements", lambda contestant: report.KEPT)

    made = environments.make([OWN[0], futuristic])

    assert made[OWN[0].name] == Path(sys.executable)
    assert made["futuristic"] == "it asks for Python 3.20 or later, and none was found on this machine"


@pytest.mark.parametrize("contestant", OWN, ids=lambda each: each.module)
def test_ours_and_the_floors_do_the_work_that_is_timed(contestant: Contestant, tmp_path: Path) -> None:
    """What this library and the loops are timed with is the whole work, compensations newest first."""
    cells = [Cell(3), Cell(10, fails=True)] if contestant.in_memory else []
    cells += [Cell(3, fails=True, durability=durability) for durability in contestant.durabilities]
    cells += [Cell(3, fails=True, at_once=2)] if contestant.at_once else []

    with Player(contestant.name, contestant.module, Path(sys.executable), tmp_path) as player:
        for cell in cells:
            player.check(cell)
        assert player.time(cells[0], 1).wall > 0


def test_the_floors_do_the_work_that_is_timed(tmp_path: Path) -> None:
    """What we are compared with where all else is taken away: whole executions, rows in their order, every move."""
    statements = floors.Statements(tmp_path / "statements.db", "normal")
    assert statements.one() > 0
    statements.close()  # looks at what was written

    sharing = floors.Sharing(tmp_path / "sharing.db", "normal")
    assert durable.in_threads(sharing, 8, 4) > 0
    with contextlib.closing(sqlite3.connect(tmp_path / "sharing.db")) as connection:
        kept = connection.execute("select saga_id, group_concat(seq, '') from records group by saga_id").fetchall()
    sharing.close()
    assert sorted(kept) == [(f"{number:032x}", "1234") for number in range(8)]

    _, failing = in_memory.sagas(coroutines=False)
    with Mediator(failing) as mediator:
        outcome = mediator.run("w3_failing", check=False)
    moves = [(record.event, record.target, record.attempt) for record in floors_in_memory.executed(failing).history]
    assert moves == [(record.event, record.target, record.attempt) for record in outcome.history]


@pytest.mark.parametrize(
    "did",
    [
        ["s1", "s2", "s3", "s3", "s3", "undo s1", "undo s2"],
        ["s1", "s2", "s3", "undo s2", "undo s1"],
        ["s1", "s2", "s3", "s3", "s3", "undo s2"],
    ],
    ids=["oldest first", "one attempt", "one compensation forgotten"],
)
def test_contestant_that_does_other_work_is_not_timed(did: list[str]) -> None:
    """A contestant that skips a part of the work cannot win by it."""

    class Cheat(Player):
        def __init__(self) -> None:
            self.name = "cheat"

        def ask(self, question: dict[str, object], *, patience: float = 0.0) -> Any:
            return did

    with pytest.raises(WrongWorkError, match="cheat, W3 failure: did"):
        Cheat().check(Cell(3, fails=True))
    assert the_work(Cell(3, fails=True)) == ["s1", "s2", "s3", "s3", "s3", "undo s2", "undo s1"]


def test_peer_that_dies_on_the_way_is_missing_with_the_reason_and_stops_nobody() -> None:
    """An hour's run is not lost to one contestant: the others are measured, and the report says why one is not."""

    class Steady(Player):
        def __init__(self, name: str, dies_after: int = 1_000) -> None:
            self.name = name
            self.left = dies_after

        def ask(self, question: dict[str, object], *, patience: float = 0.0) -> Any:
            self.left -= 1
            if self.left < 0:
                raise ContestantError(f"{self.name}: died")
            return the_work(Cell(3)) if question["do"] == "check" else {"wall": 1.0, "processor": 1.0, "prepared": 0.0}

    loop, mortal = Steady(FLOOR), Steady("mortal", dies_after=4)

    samples = play([(FLOOR, loop, Cell(3)), ("mortal", mortal, Cell(3))], rounds=3, seconds=0.1)

    assert set(samples) == {(FLOOR, "W3 success")}
    assert len(samples[FLOOR, "W3 success"].runs) == 3
    assert mortal.lost == "mortal: died"
    with pytest.raises(ContestantError, match=f"{FLOOR}: died"):
        play([(FLOOR, Steady(FLOOR, dies_after=2), Cell(3))], rounds=3, seconds=0.1)


def test_contestant_that_does_not_hang_up_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant that hangs at its end costs the run a moment, not its results."""
    monkeypatch.setattr(conductor, "HANG_UP", 0.05)
    hangs = object.__new__(Player)
    hangs._process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    hangs.close()

    assert hangs._process.returncode == -signal.SIGKILL


SIZES = {
    "samples": {f"W{size} {ending}": {FLOOR: [size], OURS: [7 * size]} for size in (1, 10) for ending in ENDINGS},
    "figures": {
        **{f"ended {size}{whose}": 80.0 for size in (10, 100, 1000) for whose in ("", ": the loop")},
        "nested": 1.25,
        "full, 256 threads: fsm_mediator": 7.0,
        "failure": 13.04,
        "failure: an execution that is kept": 9.0,
    },
}


def test_cost_against_size_has_its_slope() -> None:
    """What is in proportion to the size has slope 1, and what does not depend on it has slope 0."""
    found = {curve.name: (panel.must, round(curve.slope, 6)) for panel in sizes.panels(SIZES) for curve in panel.curves}

    assert found == {
        "succeeds": (1, 1.0),
        "fails": (1, 1.0),
        "a loop, succeeds": (1, 1.0),
        "a saga": (0, 0.0),
        "a loop": (0, 0.0),
    }
    assert sizes_plot.svg(SIZES).count("<polyline") == len(found)


def test_goals_tell_which_are_missed() -> None:
    """A reader sees at once what costs more than we want, as the figure is shown; what was not measured is left out."""
    told = report.goals(SIZES)

    assert "| 3 nested sagas of 3 steps, against 9 steps in a row |  | **1.25 times** | at most 1.1 times |" in told
    assert "| 9.00 times | 13.0 times | at most 13 times |" in told
    assert "| 7.00 times | at least 7 times |" in told
    assert "PostgreSQL" not in told
    assert "pinned" not in report.goals(SIZES, short=True)


def test_what_is_plotted_or_compared_with_a_goal_is_measured() -> None:
    """No goal is left out because its figure has another name: a whole run has each of them."""
    assert {mark.ours for mark in marks.MARKS} <= set(marks.all_figures(KEPT))
    assert len(sizes.panels(KEPT)) == 5


def test_guard_fails_when_the_library_got_slower() -> None:
    """A change that costs a third more instructions does not pass unseen, and is told what to do."""
    kept = {"python": "3.11", "instructions": {"W3 success": 20.0, "W100 success": 18.0}}

    assert guard.verdict("instructions", {"W3 success": 20.5, "W100 success": 18.0}, kept, "3.11")[1]
    said, well = guard.verdict("instructions", {"W3 success": 26.0, "W100 success": 18.0}, kept, "3.11")

    assert not well
    assert re.search(r"W3 success +26\.00 +kept +20\.00 +SLOWER", said)
    assert "benchmarks.guard --record" in said


def test_guard_fails_when_something_was_not_measured() -> None:
    """A count that is missing is not taken for a good one."""
    kept = {"python": "3.11", "instructions": {"W3 success": 20.0}}

    said, well = guard.verdict("instructions", {}, kept, "3.11")

    assert not well
    assert "was not measured" in said


def test_guard_says_that_another_python_is_judged_more_widely() -> None:
    """On another interpreter only a gross regression can be told, and the guard says so."""
    kept = {"python": "3.11", "instructions": {"W3 success": 20.0}}

    said, well = guard.verdict("instructions", {"W3 success": 30.0}, kept, "3.13")

    assert well
    assert "this is Python 3.13: the bound is wider" in said
    assert not guard.verdict("instructions", {"W3 success": 40.0}, kept, "3.13")[1]


def test_guard_without_valgrind_says_so_and_still_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where instructions cannot be counted, times are compared; the guard neither passes in silence nor gives up."""
    kept = json.loads(guard.KEPT.read_text())["processor time"]
    monkeypatch.setattr("sys.argv", ["guard"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(guard, "processor_time", lambda: {label: 4 * ratio for label, ratio in kept.items()})

    assert guard.main() == 1
    told = capsys.readouterr().out
    assert "valgrind is not installed" in told
    assert "SLOWER" in told


def test_report_warns_when_the_machine_was_busy() -> None:
    """Figures that other programs have disturbed do not pass for quiet ones."""
    quiet = {**KEPT, "machine": {**KEPT["machine"], "load": 0.3}}
    busy = {**KEPT, "machine": {**KEPT["machine"], "load": 7.5}}

    assert "busy" not in report.machine(quiet)
    assert "The machine was busy with other work (load 7.5)" in report.machine(busy)


def test_our_own_row_stands_out() -> None:
    """Readers find this library in each table at a glance."""
    assert f"| **{OURS}** |" in report.in_memory(KEPT, "success")


def test_every_section_that_can_be_told_stands_in_a_page() -> None:
    """What one run finds out is shown: no part of it is measured and then left out of the docs."""
    shown = {name for page in report.PAGES for name in re.findall(r"<!-- bench:([a-z-]+) -->", page.read_text())}

    assert shown == set(report.SECTIONS)
