"""Counterexamples happen: what the verifier shows is what a real mediator does, fault for fault.

Each mutant's counterexamples, written out as tests, fail with the mutant in place and pass without it. And the other
way round: wherever the verifier comes, a real mediator can be led to, by the same words, with the same records.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import (
    Mediator,
    NotHappened,
    Report,
    Retry,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    Step,
    Violation,
    step,
    verify,
)
from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.commits import CommitBuilder
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.replay import violation_of
from fsm_mediator.verifier.state_space import StateSpace
from fsm_mediator.verifier.troubles import is_marked_worth_retrying
from tests.drivers import eventually
from tests.player import replay as player
from tests.player.instrumented import RecordingRuntime
from tests.player.replay import Replay, actor
from tests.player.source import playing_test
from tests.test_mutants import MUTANTS, found_with, made, report_with, sagas

pytestmark = pytest.mark.once

TWICE = Retry(attempts=2)
ONCE = Retry(attempts=1)


def run(source: str) -> None:
    """Run a counterexample's test, as pytest would."""
    names: dict[str, Any] = {}
    exec(compile(source, "counterexample", "exec"), names)  # noqa: S102 - our own, and running it is the test
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    test()


UNPLAYED = {
    "A step gets one retry too many.": "settings",
    "A step is retried without end.": "settings",
    "If a deploy lowers the number of attempts while a step in doubt waits for a retry, the doubt is lost.": "settings",
    "If a deploy lowers the number of attempts during a probe, a further attempt still follows.": "settings",
    "A probe that raises counts as the answer `NotHappened`.": "settings",
    "After an operator's retry, attempts do not count from 1 again.": "anew",
    "The wait between two attempts ends too early.": "waits",
    "The wait that `RetryAfterError` asks for is ignored.": "waits",
    "A step does not see the result of the step before it.": "results",
    "A compensation sees the latest result instead of the result of its own step.": "results",
    "A signal is deleted from the inbox when it is read, and not when it is used.": "recovery",
    "A cancel is deleted from the inbox when it is read, so a crash loses the cancel.": "recovery",
    "If two signals have the same name, the second counts.": "signal",
    "The record of a rejected step contains no error.": "error",
    "A command that does not fit the state is ignored and not refused.": "refused",
    "A sleep, and the time-out of a signal, last half as long as their settings say.": "decided",
    "When a hold is removed, the saga is cancelled.": "held",
    "A held attempt counts as an attempt that was made.": "held",
    "A group begins one branch more than `at_most`.": "at a time",
    "A planned branch that ended before it began counts as succeeded.": "planned",
    "A group waits for a planned branch that ended before it began.": "planned",
}
"""The mutants that no player shows, with the rule (or the settings) that is the cause."""

REASONS = {
    "settings": "the shortest way deploys other settings under way, and a player's saga keeps its settings; "
    "test_fewer_attempts_deployed_under_way_keep_the_doubt and its neighbour deploy them by hand",
    "anew": "the way ends with the retry, and the count is first seen in the record after it",
    "error": "a player compares effects and states; test_first_error_is_the_one_that_is_raised and its kin read errors",
    "refused": "a way ends where the command is given, and a player gives only those that a way has",
    "decided": "a player passes the time that it is asked to, as for waits",
    "waits": "a way says that a wait is over, not how long it was: a player passes the time that it is asked to",
    "results": "which results a step sees is in no record, and actors look at none",
    "recovery": "the way ends where the item has left the inbox; only a crash after that shows that it is lost",
    "signal": "the second signal crosses the first in the inbox: a player posts it past the driver",
    "at a time": "branches of a player wait until they may be seen, so that it does not count how many have begun",
    "held": "a player holds nothing; test_holds.py has mediators hold attempts and remove the holds",
    "planned": "a branch that has not begun has no records that a player could bring about; "
    "test_what_ends_without_having_begun_is_walked has a mediator end planned branches",
}
"""Why no player shows a rule broken by these mutants."""


def has_changed_settings(way: Sequence[str]) -> bool:
    """Whether other settings are deployed on the way."""
    return any(", which now has " in words or ", which no longer has " in words for words in way)


def leaves_unbegun(way: Sequence[str]) -> bool:
    """Whether branches end on the way without having begun."""
    return any(words.endswith("end before they begin") for words in way)


def counterexamples(*reports: Report) -> list[Violation]:
    """The shortest way to each rule that is broken, if a player can be told it; short ways first."""
    every = [violation for report in reports for each in (report, *report.branches) for violation in each.violations]
    possible = [one for one in every if one.unplayable is None and not has_changed_settings(one.path)]
    possible.sort(key=lambda one: -len(one.path))  # the shortest come last, and so stay
    return sorted({(one.law, one.rule): one for one in possible}.values(), key=lambda one: len(one.path))


def replays(violation: Violation) -> tuple[Replay, bool]:
    """The replay that the test of a counterexample makes, and whether that test passes."""
    made_by: list[Replay] = []

    class Spy(Replay):
        def __init__(self, saga: Saga, **settings: Any) -> None:
            super().__init__(saga, **settings)
            made_by.append(self)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(player, "Replay", Spy)
        try:
            run(playing_test(violation))
        except AssertionError:
            return made_by[0], False
    return made_by[0], True


def has_gone(replay: Replay, violation: Violation) -> bool:
    """Whether the mediator went the whole way, through the very records."""
    done = [(r.event, r.source, r.target, r.attempt, r.in_doubt) for r in replay.records]
    said = [(r.event, r.source, r.target, r.attempt, r.in_doubt) for r in violation.records]
    return replay.left_for is None and done[: len(said)] == said


def is_shown(what: str, violation: Violation) -> bool:
    """Whether a real mediator with the fault breaks the law, or goes the way on which it is broken; and without, not.

    A player judges what it can see: effects, records and recoveries. Where a rule is about something else, the way is
    what is shown: it leads through a move that is only possible with the fault.
    """
    with pytest.MonkeyPatch.context() as patches:
        MUTANTS[what][1](patches.setattr)
        faulty, passed = replays(violation)
        went = has_gone(faulty, violation)
    right, passes = replays(violation)
    assert passes, right.told()
    return (not passed and violation.law in faulty.broken) or (went and not has_gone(right, violation))


@pytest.mark.parametrize("what", [what for what in MUTANTS if what not in UNPLAYED][::3])  # torture: all of them
def test_a_counterexample_of_each_mutant_happens_on_a_real_mediator(what):
    """The test that is written fails, or goes the forbidden way, where the fault is; and passes where it is not."""
    names = [saga.name for saga in sagas() if saga.name in MUTANTS[what][2]]

    assert any(is_shown(what, each) for name in names for each in counterexamples(report_with(what, name)))


@pytest.mark.torture
@pytest.mark.parametrize("what", MUTANTS)
def test_every_counterexample_of_each_mutant_happens_on_a_real_mediator(what):
    """All of them, but those of one rule of a mutant that a player cannot see; and none is left out for no reason."""
    shown = [violation.rule for violation in counterexamples(*found_with(what)) if is_shown(what, violation)]

    assert bool(shown) is (what not in UNPLAYED)


def test_each_mutant_that_no_player_shows_has_a_reason():
    """What is not played is named, and why, by its rule; a mutant that is gone is not kept in the list."""
    assert UNPLAYED.keys() <= MUTANTS.keys()
    assert set(UNPLAYED.values()) == REASONS.keys()
    for what, reason in UNPLAYED.items():
        broken = {
            rule for report in found_with(what) for each in (report, *report.branches) for rule in each.broken_rules
        }
        assert reason in ("settings", "planned", *broken), what


def plain() -> Saga:
    """Steps that can be compensated, and one that cannot."""
    steps = [actor(name, compensates=name != "mail", retry=TWICE, compensation_retry=TWICE) for name in ("a", "mail")]
    return Saga("plain", [*steps, Saga("inner", [actor("b", compensates=True, compensation_retry=TWICE)])])


def probed() -> Saga:
    """A step that can be asked whether it happened, and one that must not be repeated in doubt."""
    asked = actor("asked", compensates=True, probes=True, retry=TWICE, compensation_retry=TWICE)
    return Saga("probed", [asked, actor("once", compensates=True, repeatable=False, compensation_retry=TWICE)])


def pivoted() -> Saga:
    """A point of no return, and a step that must be done after it."""
    steps = [actor("a", compensates=True, retry=TWICE, compensation_retry=TWICE), actor("go", pivot=True, retry=TWICE)]
    return Saga("pivoted", [*steps, actor("after", retry=TWICE)])


def waiting() -> Saga:
    """A signal that may come early, in time, twice, too late or never, and a sleep."""
    first = actor("a", compensates=True, retry=TWICE, compensation_retry=TWICE)
    return Saga("waiting", [first, Signal("ok", timeout=5.0), Sleep("nap", 3.0), actor("z")])


def ways(saga: Saga) -> list[Violation]:
    """The shortest way to every situation that the verifier knows, with what is recorded on it.

    Those on which settings change are played by `test_fewer_attempts_deployed_under_way_keep_the_doubt`; those of
    branches that have not begun by `test_what_ends_without_having_begun_is_walked`.
    """
    walk = StateSpace(saga, strict=False, most_nodes=10**6)
    walk.explore()
    every = (walk.way(number) for number in range(1, len(walk.nodes)))
    return [played_way(walk, way) for way in every if not has_changed_settings(way) and not leaves_unbegun(way)]


def played_way(walk: StateSpace, way: Sequence[str]) -> Violation:
    """A way, with what is recorded on it, and a way for each of its branches."""
    return violation_of(walk.saga, 1, "", way, walk.possible, walk.branches)


def ways_of_every_action(saga: Saga) -> list[Violation]:
    """For each action that the verifier knows anywhere, by its words, a shortest way that ends with it."""
    walk = StateSpace(saga, strict=False, most_nodes=10**6)
    walk.explore()
    shortest: dict[str, list[str]] = {}
    for number in range(len(walk.nodes)):
        way = walk.way(number)
        for _, label, _ in walk.successors(number):
            if not has_changed_settings([*way, label]) and "comes too late" not in label and "wakes" not in label:
                shortest.setdefault(label, [*way, label])
    return [played_way(walk, way) for way in shortest.values()]


def go(way: Violation, saga: Saga) -> Replay:
    """Have a mediator go a way, which it must: to its end, through the same records, and keep every law."""
    assert way.unplayable is None
    replay = Replay(saga)

    replay.follow(*way.path, branches=way.branches)

    assert replay.left_for is None, replay.told()
    assert not replay.broken, replay.told()
    done = [(r.event, r.source, r.target, r.attempt, r.in_doubt) for r in replay.records]
    said = [(r.event, r.source, r.target, r.attempt, r.in_doubt) for r in way.records]
    assert done[: len(said)] == said, replay.told()
    return replay


@pytest.mark.parametrize("make", [plain, probed, pivoted, waiting])
def test_wherever_the_verifier_comes_a_mediator_can_come(make):
    """What is verified is what runs: every situation is reached by a real mediator, through the same records."""
    for way in ways(make()):
        go(way, make())


def troubled() -> Saga:
    """One step whose settings name errors, and whose answers may come late; a probe."""
    named: dict[str, Any] = {"in_doubt_on": (OSError,), "no_effect_on": (PermissionError, KeyError)}
    doubtful = actor("doubtful", compensates=True, retry=TWICE, compensation_retry=TWICE, **named)
    asked = actor("asked", compensates=True, probes=True, compensation_retry=TWICE, retry=Retry(attempts=2, on=is_odd))
    return Saga("troubled", [doubtful, asked])


def is_odd(error: Exception) -> bool:
    """What a predicate says that does what the way says."""
    return is_marked_worth_retrying(error)


def slow() -> Saga:
    """A step whose answers may come after its time-out, within the grace."""
    return Saga(
        "slow", [actor("late", compensates=True, retry=TWICE, compensation_retry=ONCE, timeout=0.1, grace=30.0)]
    )


@pytest.mark.parametrize("make", [troubled, slow])
def test_every_action_of_the_verifier_happens_on_a_mediator(make):
    """Each exception that settings name, each group of exceptions, each late answer leads where the verifier says."""
    for way in ways_of_every_action(make()):
        if "outlives" not in "".join(way.path):
            go(way, make())


def played(patch: Callable[[pytest.MonkeyPatch], None]) -> list[Replay]:
    """The verifier's ways, gone by a mediator with a fault of its own: those with a crash."""
    saga = Saga("s", [actor("a", compensates=True, retry=TWICE, compensation_retry=TWICE)])
    replays = []
    with pytest.MonkeyPatch.context() as patches:
        patch(patches)
        for way in ways(saga):
            if any("dies" in label for label in way.path):
                replays.append(Replay(saga))
                replays[-1].follow(*way.path)
    return replays


def test_effect_before_its_record_is_caught():
    """A mediator that begins an effect before its record is durable is caught: nobody could recover that effect."""

    def write_later(patches):
        write = RecordingRuntime.write
        every: dict[RecordingRuntime, list[Any]] = {}

        async def late(self, commit):
            kept = every.setdefault(self, [])
            kept.append(commit)
            return await write(self, kept.pop(0)) if len(kept) > 1 else ()

        patches.setattr(RecordingRuntime, "write", late)

    assert any("is called in pending" in replay.broken.get(4, "") for replay in played(write_later))


def test_crash_that_is_forgotten_is_caught():
    """A recovery that does not count what was under way as an attempt goes another way than what was verified."""

    def forget(patches):
        records = CommitBuilder.resume_records

        def carefree(self, live, at):
            live.recovered = False
            return records(self, live, at)

        patches.setattr(CommitBuilder, "resume_records", carefree)

    assert not any(replay.left_for for replay in played(lambda patches: None))
    assert any(replay.left_for for replay in played(forget))


def counterexample() -> Violation:
    """A long one, of a saga with everything in it."""
    asked = made("asked", timeout=1.0, repeatable=False, retry=Retry(attempts=3, on=KeyError), in_doubt_on=(OSError,))
    asked.probing(lambda payload: None)
    inner = Saga("inner", [asked, Saga("deep", [made("x"), made("y", compensates=False)])])
    saga = Saga("all", [made("a", retry=Retry(wait_initial=0.0)), inner, made("go", compensates=False, pivot=True)])
    way = ["the saga begins", "a raises, without effect", "a takes effect and returns"]
    return violation_of(saga, 2, 'it failed "somehow"', way, ActionModel(saga))


def test_written_test_is_in_good_style(tmp_path):
    """What is written can be put among one's tests as it is: it is formatted, and its linter has nothing to say."""
    path = tmp_path / "test_found.py"
    path.write_text(playing_test(counterexample()), encoding="utf-8")
    config = str(Path(__file__).parent.parent / "pyproject.toml")

    for command in (["format", "--check"], ["check", "--extend-ignore", "INP001"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, str(path)],
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout + path.read_text(encoding="utf-8")


def test_written_test_runs_under_pytest(tmp_path):
    """Pytest runs the file, and it passes where the law is kept."""
    path = tmp_path / "test_found.py"
    path.write_text(playing_test(counterexample()), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        check=False,
        text=True,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_spelled_out_saga_has_the_shape_of_the_one_that_was_verified():
    """The test is about the same machine: the saga that it spells out has the same fingerprint."""
    violation = counterexample()

    assert replays(violation)[0].saga.fingerprint == violation.saga.fingerprint


def test_replay_says_where_the_mediator_went_another_way():
    """A way that cannot be gone is left where it cannot, and all goes well from there."""
    replay = Replay(plain())

    replay.follow("the saga begins", "a takes effect and returns", "a takes effect and returns")

    assert replay.left_for == "a takes effect and returns"
    assert replay.records[-1].target == "succeeded"
    assert "the mediator went another way; it should have been: a takes effect and returns" in replay.told()


def test_replay_takes_actors_only():
    """Real steps would not do what the way says, and so are refused."""
    with pytest.raises(DefinitionError, match="'b' is"):
        Replay(Saga("s", [actor("a"), made("b")]))


def test_timed_out_and_abandoned_attempts_are_played_in_real_threads():
    """What outlives its time-out does so in a thread, and the saga goes on when it has ended and a person says so."""
    replay = Replay(
        Saga(
            "s",
            [actor("a", compensates=True, timeout=0.1, grace=0.0), actor("b", timeout=0.1, overtake=True, retry=TWICE)],
        )
    )

    replay.follow(
        "the saga begins",
        "a outlives time-out and grace",
        "the abandoned thread ends after its effect",
        "a person retries",
        "a takes effect and returns",
        "b times out, after its effect",
        "the wait is over",
        "b rejects, without effect",
        "compensating a returns",
    )

    assert replay.left_for is None, replay.told()
    assert not replay.broken, replay.told()
    assert replay.records[-1].target == "failed"
    assert not verify(replay.saga).violations


@pytest.mark.parametrize("attempts", [1, 2])
def test_fewer_attempts_deployed_under_way_keep_the_doubt(tmp_path, attempts):
    """A step waits in doubt for its third attempt, and the next deployment allows fewer: it is compensated itself."""
    calls: list[str] = []
    late = 0.0

    def deployed(allowed: int) -> Mediator:
        retry = Retry(attempts=allowed, wait_initial=600.0, wait_max=600.0, wait_jitter=0.0)

        @step(name="pay", retry=retry)
        def pay(payload):
            calls.append("pay")
            raise ConnectionError("the answer is lost")

        @pay.compensation
        def refund(payload):
            calls.append("refund")

        journal = SQLiteJournal(tmp_path / "sagas.db")
        return Mediator(Saga("shop", [pay]), journal=journal, clock=lambda: time.time() + late)

    with deployed(3) as mediator:
        mediator.start("shop", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").state == "retrying.pay")
    late = 601.0
    if attempts == 2:
        with deployed(3) as mediator:
            mediator.recover()
            eventually(lambda: calls == ["pay", "pay"])
        late = 2400.0
    with deployed(attempts) as mediator:
        mediator.recover()
        assert mediator.wait("o-1", check=False).failed

    assert calls == ["pay"] * attempts + ["refund"]


def test_fewer_attempts_deployed_while_a_probe_is_asked_end_the_attempts(tmp_path):
    """The probe of an attempt that was to be repeated answers after the next deployment allows no other attempt."""
    calls: list[str] = []

    def deployed(allowed: int, *, dies: bool) -> Mediator:
        class Pay(Step):
            name = "pay"
            retry = Retry(attempts=allowed, wait_initial=0.01, wait_jitter=0.0)
            repeatable = False

            def execute(self, payload: Any) -> None:
                calls.append("pay")
                raise ConnectionError("the answer is lost")

            def probe(self, payload: Any) -> NotHappened:
                calls.append("probe")
                if dies:
                    raise KeyboardInterrupt
                return NotHappened()

        return Mediator(Saga("shop", [Pay()]), journal=SQLiteJournal(tmp_path / "sagas.db"))

    with deployed(2, dies=True) as mediator, pytest.raises(KeyboardInterrupt):
        mediator.run("shop", saga_id="o-1")
    with deployed(1, dies=False) as mediator:
        assert mediator.outcome("o-1").state == "probing.pay"
        mediator.recover()
        assert mediator.wait("o-1", check=False).failed

    assert calls == ["pay", "probe", "probe"]
