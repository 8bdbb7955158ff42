"""A laboratory in which processes die: sagas run in forked children that end themselves with SIGKILL at a given point.

Run as ``python -m tests.crash.laboratory``: it reads one scenario a line (JSON), performs it, and answers in one line.
It is a process of its own, with one thread, so that forking is safe and costs milliseconds.

The points are counted in each child: before and after every write to the journal, and before, inside (after the effect,
before the answer) and after every effect. The participants keep their ledger in a file that the library cannot see.
They change in place whatever they are given; and some of them kill their process themselves, each time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import psycopg

import fsm_mediator
from fsm_mediator import (
    Context,
    Happened,
    Mediator,
    NotHappened,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    Step,
    StepRejectedError,
)
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.testing.processes import in_a_child, kill

SAGA_ID = "s"
NO_WAIT = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0)
ENDLESS = Retry(attempts=None, wait_initial=0.0, wait_jitter=0.0)
MAX_RECOVERIES = 5
MOST_DEATHS = 60
"""After so many deaths of its drivers a saga is taken to kill them for ever."""
PAYLOAD = {"order": 1, "seen": []}


class StepPlan(TypedDict):
    """One step: what its calls do, one after another; the last goes for all that follow.

    Those next to each other with the same *group* are its branches; one at a time, if it is called ``queue``. What
    *waits* is no step: ``signal``, ``timed`` (a signal with a short time-out), ``never`` (one that nobody sends),
    ``sleep``.
    """

    name: str
    compensates: bool
    pivot: bool
    probes: bool
    deadly_probe: bool
    endless: bool
    execute: list[str]
    compensate: list[str]
    group: str
    waits: str


class Scenario(TypedDict):
    """What to do: the steps, and at which of its points each child in turn is to die; the URL of another journal."""

    steps: list[StepPlan]
    kills: list[int]
    journal: NotRequired[str]


class Answer(TypedDict):
    """What came of it."""

    state: str
    ledger: list[list[str]]
    events: list[str]
    leftovers: list[str]
    timed_out: list[str]
    deaths: int
    points: int
    problem: str


class Death:
    """Ends this process at the n-th point, with the signal that no process can catch."""

    def __init__(self, at: int | None, count: Path) -> None:
        self.at = at
        self.passed = 0
        self._count = count

    def point(self) -> None:
        """Pass a point, or die at it."""
        self.passed += 1
        if self.passed == self.at:
            kill()

    def survived(self) -> None:
        """Leave word of how many points there were."""
        self._count.write_text(str(self.passed))


class Ledger:
    """The participants' own book: lines in a file, appended so that the death of the process loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *words: str) -> None:
        """Append a line."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, (json.dumps(words) + "\n").encode())
        os.close(file)

    def lines(self) -> list[list[str]]:
        """All lines so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def calls(self, verb: str, name: str) -> int:
        """How often the step was called so far, in whatever process."""
        return sum(line[:3] == ["call", verb, name] for line in self.lines())


class ScriptedStep(Step):
    """Does what its plan says, writes down every call and every effect, and passes points on the way."""

    retry = NO_WAIT
    compensation_retry = NO_WAIT

    def __init__(self, plan: StepPlan, ledger: Ledger, death: Death) -> None:
        self.name = plan["name"]
        self.pivot = plan["pivot"]
        self.retry = ENDLESS if plan["endless"] else NO_WAIT
        self.plan = plan
        self.ledger = ledger
        self.death = death
        if plan["compensates"]:
            self.compensate = self._compensate
        if plan["probes"]:
            self.probe = self._probe

    def execute(self, payload: Any, context: Context) -> dict[str, Any]:
        """As planned."""
        self._look("execute", payload, context)
        return self._do("execute", context.idempotency_key)

    def _compensate(self, payload: Any, context: Context) -> dict[str, Any]:
        self._look("compensate", payload, context)
        return self._do("compensate", context.execute_key)

    def _look(self, verb: str, payload: Any, context: Context) -> None:
        """Write down what it sees, and change all of it in place."""
        results = dict(context.results)
        self.ledger.add("saw", verb, self.name, json.dumps([payload, results]))
        payload["order"] += 1
        payload["seen"].append(self.name)
        for result in results.values():
            if isinstance(result, dict):
                result["done"] = f"changed by {self.name}"

    def _probe(self, payload: Any, context: Context) -> Happened | NotHappened:
        key = context.execute_key
        self.ledger.add("call", "probe", self.name, key)
        if self.plan["deadly_probe"]:
            kill()
        happened = ["effect", "execute", self.name, key] in self.ledger.lines()
        return Happened({"done": self.name}) if happened else NotHappened()

    def _do(self, verb: str, key: str) -> dict[str, Any]:
        script = self.plan["execute" if verb == "execute" else "compensate"] or ["returns"]
        number = self.ledger.calls(verb, self.name)
        act = script[min(number, len(script) - 1)]
        self.ledger.add("call", verb, self.name, key)
        self.death.point()
        if act == "kills":
            kill()
        if act == "raises":
            raise ValueError(f"{verb} {self.name} fails")
        if act == "rejects":
            raise StepRejectedError(f"{verb} {self.name} is refused")
        if act != "doubt_without_effect":
            self.ledger.add("effect", verb, self.name, key)
        self.death.point()
        if act.startswith("doubt"):
            raise ConnectionError(f"{verb} {self.name}: the answer is lost")
        return {"done": self.name}


class DyingJournal:
    """A journal with a crash point before and after every write."""

    def __init__(self, inner: Any, death: Death) -> None:
        self.inner = inner
        self.death = death

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, commit: Any) -> Any:
        """Write, and pass two points."""
        self.death.point()
        written = self.inner.write(commit)
        self.death.point()
        return written


def journal_of(scenario: Scenario, folder: Path) -> Any:
    """The scenario's journal, with nothing in it the first time; on PostgreSQL, in a schema of its own."""
    if "journal" in scenario:
        return PostgresJournal(scenario["journal"], schema=f"crash_{folder.name}")
    return SQLiteJournal(folder / "sagas.db")


def forget(scenario: Scenario, folder: Path) -> None:
    """Drop the schema of a scenario on PostgreSQL."""
    if "journal" in scenario:
        with psycopg.connect(scenario["journal"], autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA crash_{folder.name} CASCADE".encode())


def die_between_statements(death: Death) -> None:
    """Have this process pass a point within each transaction of several statements, before each that follows."""
    execute = Session.execute

    def dying(self: Session, *arguments: Any) -> Any:
        if self.connection.info.transaction_status.name != "IDLE":
            death.point()
        return execute(self, *arguments)

    Session.execute = dying  # type: ignore[assignment, method-assign]


def saga_of(steps: Sequence[StepPlan], ledger: Ledger, death: Death) -> Saga:
    """The saga that the plans describe."""
    parts: list[Any] = []
    for group, plans in itertools.groupby(steps, key=lambda plan: plan["group"]):
        made = [part_of(plan, ledger, death) for plan in plans]
        parts += [Parallel(group, made, at_most=1 if group == "queue" else None)] if group else made
    return Saga("crashing", parts)


def part_of(plan: StepPlan, ledger: Ledger, death: Death) -> Any:
    """The part that a plan describes."""
    if plan["waits"] in ("signal", "timed", "never"):
        return Signal(plan["name"], payload=int, timeout=0.15 if plan["waits"] == "timed" else None)
    return Sleep(plan["name"], 0.0) if plan["waits"] else ScriptedStep(plan, ledger, death)


def child(scenario: Scenario, folder: Path, kill_at: int | None) -> None:
    """Start the saga, or take it up, and drive it on; dies on the way if it is to."""
    death = Death(kill_at, folder / "points")
    journal: Any = DyingJournal(journal_of(scenario, folder), death)
    if "journal" in scenario:
        die_between_statements(death)
    ledger = Ledger(folder / "ledger")
    mediator = Mediator(saga_of(scenario["steps"], ledger, death), journal=journal, max_recoveries=MAX_RECOVERIES)
    mediator.recover()
    outcome = mediator.run("crashing", copy.deepcopy(PAYLOAD), saga_id=SAGA_ID, check=False)
    while outcome.state.startswith("waiting"):
        # What has come already is harmless to say again.
        for plan in scenario["steps"]:
            if plan["waits"] in ("signal", "timed"):
                name = f"{plan['group']}.{plan['name']}" if plan["group"] else plan["name"]
                with contextlib.suppress(RefusedError):  # it does not wait for it, or not any more
                    mediator.signal(SAGA_ID, name, 7)
                    ledger.add("accepted", "signal", plan["name"], "")
                    death.point()
        outcome = mediator.wait(SAGA_ID, check=False)
    mediator.close()
    death.survived()


def perform(scenario: Scenario) -> Answer:
    """Run a scenario: children die one after another, the last one survives."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deaths = 0
        for kill_at in scenario["kills"]:
            deaths += in_a_child(functools.partial(child, scenario, folder, kill_at))
        while in_a_child(functools.partial(child, scenario, folder, None)):  # it kills its drivers by itself
            deaths += 1
            if deaths > MOST_DEATHS:
                return {"problem": f"its drivers die for ever: {deaths} so far"}  # type: ignore[typeddict-item]
        death = Death(None, folder / "unused")
        ledger = Ledger(folder / "ledger")
        saga = saga_of(scenario["steps"], ledger, death)
        with contextlib.closing(journal_of(scenario, folder)) as journal, Mediator(saga, journal=journal) as mediator:
            outcome = mediator.outcome(SAGA_ID)
            assert journal.check() == []
        forget(scenario, folder)
        return {
            "state": outcome.state,
            "ledger": ledger.lines(),
            "events": [f"{record.event} {record.step or ''}".strip() for record in outcome.history],
            "leftovers": list(outcome.leftovers),
            "timed_out": [
                f"{record.event} {record.step}"
                for record in outcome.history
                if record.error is not None and "SignalTimedOutError" in record.error.type
            ],
            "deaths": deaths,
            "points": int((folder / "points").read_text()),
            "problem": "",
        }


def main() -> None:
    """Scenarios in, answers out, a line each."""
    assert fsm_mediator.__file__
    for line in sys.stdin:
        try:
            answer = perform(json.loads(line))
        except BaseException:
            answer = {"problem": traceback.format_exc()}  # type: ignore[typeddict-item]
        print(json.dumps(answer), flush=True)  # noqa: T201 - it is how it answers


if __name__ == "__main__":
    main()
