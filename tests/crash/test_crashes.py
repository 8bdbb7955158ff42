"""A process may die at any point: every effect of a failed saga is compensated, none lost, none done twice blindly.

Small sagas exhaustively here; `make torture` searches through larger ones, and through deaths in recovery itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.crash.laboratory import Answer, Scenario, StepPlan
from tests.crash.laws import broken_laws
from tests.postgres_server import server

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds after which a scenario is taken to hang."""


class Laboratory:
    """The laboratory's process, spoken to line by line."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.laboratory"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def perform(self, scenario: Scenario) -> Answer:
        """Have a scenario performed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(scenario) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            pytest.fail(f"no answer within {PATIENCE} s: {json.dumps(scenario)}")
        answer: Answer = json.loads(self._process.stdout.readline())
        assert not answer["problem"], f"{scenario}\n{answer['problem']}"
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    """One laboratory for the tests of this file."""
    made = Laboratory()
    yield made
    made.close()


def plan(
    name: str, *execute: str, compensate: tuple[str, ...] = (), group: str = "", waits: str = "", **traits: bool
) -> StepPlan:
    """A step's plan; it compensates unless told otherwise."""
    return {
        "name": name,
        "compensates": traits.get("compensates", True),
        "pivot": traits.get("pivot", False),
        "probes": traits.get("probes", False) or traits.get("deadly_probe", False),
        "deadly_probe": traits.get("deadly_probe", False),
        "endless": traits.get("endless", False),
        "execute": list(execute),
        "compensate": list(compensate),
        "group": group,
        "waits": waits,
    }


SMALL = {
    "succeeds": [plan("a"), plan("b"), plan("c")],
    "fails_at_the_end": [plan("a"), plan("b"), plan("c", "rejects")],
    "fails_after_retries": [plan("a"), plan("b", "raises")],
    "is_in_doubt_then_succeeds": [plan("a"), plan("b", "doubt", "returns")],
    "stays_in_doubt": [plan("a"), plan("b", "doubt")],
    "in_doubt_without_effect": [plan("a"), plan("b", "doubt_without_effect")],
    "cannot_undo_everything": [plan("a", compensates=False), plan("b", "doubt", compensates=False)],
    "compensation_needs_retries": [plan("a", compensate=("raises", "returns")), plan("b", "rejects")],
    "compensation_gets_stuck": [plan("a", compensate=("raises",)), plan("b", "rejects")],
    "past_the_pivot": [
        plan("a"),
        plan("b", compensates=False, pivot=True),
        plan("c", "raises", "raises", "returns", compensates=False),
    ],
    "pivot_in_doubt_asks_its_probe": [
        plan("a"),
        plan("b", "doubt", compensates=False, pivot=True, probes=True),
        plan("c", compensates=False),
    ],
    "waits_for_a_signal": [plan("a"), plan("ok", waits="signal"), plan("b")],
    "signal_then_fails": [plan("a"), plan("nap", waits="sleep"), plan("ok", waits="signal"), plan("b", "rejects")],
    "group_succeeds": [plan("a"), plan("b", group="g"), plan("c", group="g"), plan("d")],
    "group_fails": [plan("a"), plan("b", group="g"), plan("c", "rejects", group="g")],
    "fails_after_a_group": [
        plan("b", group="g", compensate=("raises", "returns")),
        plan("ok", waits="signal", group="g"),
        plan("c", "rejects"),
    ],
    "signal_against_its_timeout": [plan("a"), plan("ok", waits="timed"), plan("b")],
    "branch_fails_beside_a_wait": [plan("a"), plan("b", "rejects", group="g"), plan("ok", waits="never", group="g")],
    "queue_fails": [plan("a"), plan("b", "rejects", group="queue"), plan("c", group="queue")],
    "kills_its_process": [plan("a"), plan("b", "kills")],
    "kills_its_process_for_ever": [plan("a"), plan("b", "kills", endless=True)],
    "probe_kills_its_process": [plan("a"), plan("b", "doubt", deadly_probe=True), plan("c")],
    "probe": [plan("a", "doubt", probes=True), plan("b", "doubt_without_effect", probes=True), plan("c", "rejects")],
}


def check(scenario: Scenario, answer: Answer) -> None:
    """Fail with everything there is to know."""
    broken = broken_laws(scenario, answer)
    assert not broken, "\n".join([*broken, json.dumps(scenario), json.dumps(answer, indent=1)])


@pytest.mark.parametrize("name", SMALL)
def test_killed_at_every_other_point(name: str, laboratory: Laboratory) -> None:
    """Killed before or after any journal write, before, inside or after any effect: the saga ends as it should."""
    kill_at_points(name, laboratory, 1 + len(name) % 2, 2)


@pytest.mark.torture
def test_killed_at_every_point(laboratory: Laboratory, torture_seconds: float) -> None:
    """The same at every point, of as many sagas as there is time for."""
    until = time.monotonic() + torture_seconds
    for name in random.sample(sorted(SMALL), len(SMALL)):
        if time.monotonic() < until:
            kill_at_points(name, laboratory, 1, 1)


@pytest.mark.parametrize("name", ["fails_at_the_end", "group_fails", "waits_for_a_signal"])
def test_killed_at_some_points_on_postgres(name: str, laboratory: Laboratory) -> None:
    """The same on PostgreSQL, also within a transaction: one point in twelve, drawn by POSTGRES_SEED."""
    seed = zlib.crc32(f"{os.environ.get('POSTGRES_SEED', '')}{name}".encode())
    kill_at_points(name, laboratory, 1 + seed % 12, 12, journal=server().url())


@pytest.mark.postgres
@pytest.mark.parametrize("name", SMALL)
def test_killed_at_every_other_point_on_postgres(name: str, laboratory: Laboratory) -> None:
    """All small sagas, killed at every other point."""
    kill_at_points(name, laboratory, 1 + len(name) % 2, 2, journal=server().url())


@pytest.mark.torture
def test_killed_at_every_point_on_postgres(laboratory: Laboratory, torture_seconds: float) -> None:
    """At every point, of as many sagas as there is time for."""
    until = time.monotonic() + torture_seconds
    for name in random.sample(sorted(SMALL), len(SMALL)):
        if time.monotonic() < until:
            kill_at_points(name, laboratory, 1, 1, journal=server().url())


def kill_at_points(name: str, laboratory: Laboratory, first: int, stride: int, **where: str) -> None:
    """Kill it at these points, each time a new run."""
    whole = laboratory.perform(planned(name, [], **where))
    check(planned(name, [], **where), whole)
    survived = 0
    points = itertools.count(first, stride)
    for kill_at in itertools.islice(points, 4) if whole["deaths"] else points:  # what kills itself has no last point
        scenario = planned(name, [kill_at], **where)
        answer = laboratory.perform(scenario)
        check(scenario, answer)
        if not answer["deaths"] and not whole["deaths"]:
            if kill_at > whole["points"]:
                break
            survived += 1
    # Branches run in threads: how often the whole looks at them, and so how many writes there are, is not always alike.
    assert survived <= (whole["points"] // 8 if "group" in name or "branch" in name else 0)


def planned(name: str, kills: list[int], **where: str) -> Scenario:
    """The scenario of a small saga; *where* has the URL of its journal."""
    scenario: Scenario = {"steps": SMALL[name], "kills": kills}
    return {**scenario, "journal": where["journal"]} if where else scenario


def test_killed_again_in_recovery(laboratory: Laboratory) -> None:
    """Killed, and killed again while it recovers, at every sixth pair of points of a saga."""
    steps = SMALL["fails_at_the_end"][1:]
    whole = laboratory.perform({"steps": steps, "kills": []})
    for first in range(1, whole["points"] + 1, 3):
        for second in itertools.count(1, 2):
            scenario: Scenario = {"steps": steps, "kills": [first, second]}
            answer = laboratory.perform(scenario)
            check(scenario, answer)
            if answer["deaths"] < 2:
                break


@pytest.mark.parametrize("name", ["fails_at_the_end", "is_in_doubt_then_succeeds"])
def test_answered_attempts_are_not_repeated(name: str, laboratory: Laboratory) -> None:
    """What was answered and journaled is never done again; only the attempt under way at the death is repeated."""
    whole = laboratory.perform({"steps": SMALL[name], "kills": []})
    for kill_at in range(1, whole["points"] + 1):
        answer = laboratory.perform({"steps": SMALL[name], "kills": [kill_at]})
        for verb in ("execute", "compensate"):
            for step in SMALL[name]:
                planned = sum(line[:3] == ["call", verb, step["name"]] for line in whole["ledger"])
                called = sum(line[:3] == ["call", verb, step["name"]] for line in answer["ledger"])
                assert called <= planned + 1, (kill_at, verb, step["name"], answer)
        executed, planned = (
            sum(line[:2] == ["call", "execute"] for line in each["ledger"]) for each in (answer, whole)
        )
        assert executed - planned <= 1, (kill_at, answer)


acts = st.sampled_from(["returns", "returns", "raises", "rejects", "doubt", "doubt_without_effect", "kills"])


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Larger sagas, and up to three deaths."""
    number = draw(st.integers(1, 6))
    pivot = draw(st.none() | st.integers(0, number - 1))
    steps = []
    for index in range(number):
        compensates = draw(st.booleans()) and index != pivot and (pivot is None or index < pivot)
        forward = pivot is not None and index > pivot
        if index != pivot and draw(st.integers(0, 5)) == 0:
            steps.append(plan(f"s{index}", waits=draw(st.sampled_from(["signal", "timed", "sleep"]))))
            continue
        execute = [*draw(st.lists(acts, max_size=3)), *(["returns"] if forward else [])]
        steps.append(
            plan(
                f"s{index}",
                *execute,
                compensate=tuple(draw(st.lists(st.sampled_from(["returns", "raises", "doubt"]), max_size=3))),
                compensates=compensates,
                pivot=index == pivot,
                probes=draw(st.booleans()),
                deadly_probe=draw(st.integers(0, 7)) == 0,
                # The last act is repeated: what is retried without limit must end by itself, or by killing.
                endless=draw(st.integers(0, 3)) == 0 and (execute or [""])[-1] in ("", "returns", "rejects", "kills"),
            )
        )
    return {"steps": steps, "kills": draw(st.lists(st.integers(1, 40), max_size=3))}


@pytest.mark.torture
def test_killed_anywhere_in_larger_sagas(laboratory: Laboratory, torture_seconds: float) -> None:
    """Random sagas of up to six steps and waits, killed up to three times, also while they recover; some by a step."""
    until = time.monotonic() + torture_seconds

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(scenarios())
    def search(scenario: Scenario) -> None:
        if time.monotonic() < until:
            check(scenario, laboratory.perform(scenario))

    while time.monotonic() < until:
        search()
