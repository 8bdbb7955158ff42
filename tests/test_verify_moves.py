"""Each thing that can happen to an execution is a move of `verify`; settings that change under way lose nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from fsm_mediator import Choose, Mediator, Parallel, Retry, Saga, Signal, Sleep, SQLiteJournal, step, verify
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Acceptance, Begin, Returned
from fsm_mediator.verifier.state_space import StateSpace
from tests.drivers import eventually

TWICE = Retry(attempts=2)


def made(name: str, *, probes: bool = False, compensates: bool = True, **settings: Any) -> Any:
    """A step that does nothing."""
    one = step(name=name, **({"retry": TWICE, "compensation_retry": TWICE} | settings))(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    if probes:
        one.probing(lambda payload: None)
    return one


def everything() -> Saga:
    """A saga with every kind of part."""
    is_worth = Retry(attempts=2, on=lambda error: True)
    fan = Parallel("fan", [made("x"), Saga("y", [made("z")])])
    return Saga(
        "everything",
        [
            made("a", retry=is_worth, in_doubt_on=(OSError,), no_effect_on=(PermissionError,)),
            made("slow", timeout=1.0),
            made("asked", probes=True),
            made("timed", probes=True, timeout=1.0),
            made("overtaken", timeout=1.0, overtake=True),
            Sleep("nap", lambda payload: 1.0),
            Choose("choice", {"left": made("l"), "right": made("r")}, by=lambda payload: "left"),
            Parallel.each("each", made("i"), over=lambda payload: []),
            fan,
            Signal("word", timeout=1.0),
            made("go", pivot=True, compensates=False),
            Signal("later"),
        ],
    )


def moves_by_state(saga: Saga) -> dict[str, tuple[bool, str]]:
    """The words of the moves from each state of *saga*, in one text, and whether something is under way there."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000)
    walk.explore()
    found: dict[str, tuple[bool, str]] = {}
    for number, (position, _) in enumerate(walk.nodes):
        _, before = found.get(position.execution.state, (False, ""))
        words = "\n".join(label for _, label, _ in walk.successors(number))
        found[position.execution.state] = position.execution.effect is not None, f"{before}\n{words}"
    return found


def moves_of(saga: Saga) -> set[str]:
    """The words of every move of *saga* and of its branches, decisions included."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000)
    walk.explore()
    own = {label for number in range(len(walk.nodes)) for _, label, _ in walk.successors(number)}
    branches = [branch for found in saga.branches.values() for branch in found.values()]
    return own.union(*(moves_of(branch) for branch in branches))


MOVES = [
    # what an attempt comes to
    "a raises OSError, without effect",
    "a raises OSError, after its effect",
    "a raises PermissionError, without effect",
    "a raises OSError, and Retry.on answers no, after its effect",
    "a raises, and Retry.on answers no, without effect",
    "a raises a group of errors, and one leaves doubt, after its effect",
    "a raises a group of refusals, without effect",
    "a raises a group of a refusal and an error, without effect",
    "a rejects, without effect",
    "a raises RetryAfterError, without effect",
    "a raises OutcomeUnknownError, after its effect",
    "a exits during its call, after its effect",
    "a takes effect and returns a value that is refused",
    "slow outlives time-out and grace",
    "slow takes effect and returns late",
    "overtaken times out, without effect",
    "overtaken times out, after its effect",
    "the abandoned thread ends without effect",
    "the abandoned thread ends after its effect",
    "a exits during its call, without effect",
    "a raises OutcomeUnknownError, without effect",
    "compensating a rejects, without undoing the effect",
    "compensating slow rejects late, without undoing the effect",
    "compensating overtaken times out, after undoing the effect",
    "slow rejects late, without effect",
    "slow raises late, without effect",
    "compensating slow returns late",
    "compensating slow raises late, after undoing the effect",
    "compensating a exits during its call, without undoing the effect",
    # a probe
    "overtaken takes effect and returns; nap sleeps",
    "the probe of asked returns Happened",
    "the probe of asked returns NotHappened",
    "the probe of asked returns neither Happened nor NotHappened",
    "the probe of asked raises",
    "the probe of asked exits during its call",
    "the probe of asked kills its driver in every attempt",
    "the probe of asked rejects",
    "the probe of asked returns Happened with a result that is refused",
    "the probe of timed times out",
    "the probe of timed outlives time-out and grace",
    # deaths
    "the driver dies before the effect",
    "the driver dies after the effect of a",
    "every driver dies at execute a, after the effect",
    "every driver dies at compensate a, before the effect",
    "the driver dies after compensating a",
    # waking
    "the wait is over",
    "a driver wakes before the wait is over",
    "a driver wakes long after the wait is over",
    "no signal word comes in time",
    # decisions
    "timed takes effect and returns",
    "overtaken takes effect and returns; the function of nap raises",
    "the wait is over; choice chooses right",
    "the driver checks the branches of choice; each has 0 items",
    # groups, and a group that fails fast
    "branch fan.x fails",
    "branch fan.x gets stuck",
    "branch fan.x gets stuck in compensation",
    "a person retries branch fan.x, which was stuck",
    "the driver undoes branch fan.x",
    "the planned branches of each from 1 on end before they begin",
    "the joined result of fan is refused",
    "a cancel comes, because another branch failed",
    # the inbox and the clock
    "a cancel comes",
    "a cancel comes too late",
    "the deadline passes",
    "the signal word comes",
    "the signal word comes again",
    "the signal word comes too late",
    "a signal with an unknown name comes",
    # settings that change under way
    "a raises, without effect, at a, which now has only one attempt",
    "the wait is over, at a, which now has only one attempt",
    "the wait is over, at a, which now has one more attempt",
    "a raises, without effect, at a, which now has one more attempt",
    "the probe of asked returns NotHappened, at asked, which now has only one attempt",
    "the probe of asked raises, at asked, which now has only one attempt",
    "compensating a raises, without undoing the effect, at a, which now has only one attempt",
    "a outlives time-out and grace, at a, which now has a time-out",
    "compensating a outlives time-out and grace, at a, which now has a time-out",
    "a person retries, at slow, which no longer has a time-out",
    "no signal word comes in time, at word, which no longer has a time-out",
    "go takes effect and returns, at later, which now has a time-out",
    "no signal later comes in time",
    # a person
    "a person retries",
    "a person resolves slow as done",
    "a person resolves slow as not done",
    "a person undoes the saga",
]


@pytest.fixture(scope="module")
def moves() -> set[str]:
    """Every move of the saga with everything."""
    return moves_of(everything())


@pytest.mark.parametrize("words", MOVES)
def test_what_can_happen_is_a_move(words, moves):
    """Whatever can happen to an execution, by the words of a counterexample, `verify` makes happen."""
    assert words in moves


def test_whatever_comes_from_outside_comes_in_every_state():
    """A driver dies wherever something is under way; a cancel, the deadline and each signal come wherever it stands."""
    for state, (is_under_way, words) in moves_by_state(everything()).items():
        assert ("the driver dies" in words) is is_under_way, state
        assert "a cancel comes" in words, state
        assert "the deadline passes" in words, state
        assert all(f"the signal {path} comes" in words for path in ("word", "later")), state


def test_saga_with_everything_keeps_every_law():
    """With all of these moves together every law holds."""
    verify(everything()).raise_for_violations()


def grouped(on_failure: Any) -> Saga:
    """A group that fails fast, or settles."""
    fan = Parallel("fan", [made("x"), made("y", compensates=False)], on_failure=on_failure)
    return Saga("grouped", [made("a"), fan, made("z")])


def test_failing_fast_and_settling_are_walked_as_one():
    """Whether the other branches are cancelled may change under way: both are walked in every situation."""
    fast, settles = (verify(grouped(on_failure)).to_dict() for on_failure in ("cancel", "settle"))

    assert {**fast, "seconds": 0, "branches": []} == {**settles, "seconds": 0, "branches": []}
    assert [branch["nodes"] for branch in fast["branches"]] == [branch["nodes"] for branch in settles["branches"]]


def test_signal_without_a_timeout_by_now_still_ends_its_wait(tmp_path):
    """After the pivot a wait was to end; the next deployment sets no time-out. A person is asked when it has ended."""
    late = 0.0

    def deployed(timeout: float | None) -> Mediator:
        saga = Saga("s", [made("go", pivot=True, compensates=False), Signal("word", timeout=timeout)])
        return Mediator(saga, journal=SQLiteJournal(tmp_path / "sagas.db"), clock=lambda: time.time() + late)

    with deployed(500.0) as mediator:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").state == "waiting.word")
    late = 501.0
    with deployed(None) as mediator:
        mediator.recover()
        eventually(lambda: mediator.outcome("o-1").state == "stuck.word")

        assert mediator.resolve("o-1", reason="it was said on the phone", done=True, result=1).succeeded


def test_decision_that_is_not_asked_for_by_now_is_given_up():
    """After the pivot a sleep could not be decided, and its driver died; the next deployment decides nothing there."""
    until: Any = lambda payload: 1 / 0  # noqa: E731
    undecided = Saga("s", [made("go", pivot=True, compensates=False), Sleep("nap", until)])
    fixed = Saga("s", [made("go", pivot=True, compensates=False), Sleep("nap", 1.0)])
    running = Execution(undecided, Acceptance("o-1", "s", "1", undecided.fingerprint, None, 0.0))
    running.feed(Begin(), 0.0)
    running.feed(Returned(), 0.0)
    assert running.state == "waiting.nap"

    recovered = Execution.fold(fixed, running.acceptance, running.history)
    recovered.advance(0.0)

    assert recovered.state == "stuck.nap"


def test_call_that_outlived_its_timeout_is_retried_by_a_deployment_without_one(tmp_path):
    """A call outlives time-out and grace; the next deployment has no time-out, and a person can still try again."""
    may_end = threading.Event()
    calls: list[str] = []

    def deployed(timeout: float | None) -> Mediator:
        @step(name="slow", retry=Retry(attempts=1), timeout=timeout, grace=0.0 if timeout else None)
        def slow(payload: Any) -> None:
            calls.append("slow")
            if timeout:
                may_end.wait()

        slow.compensation(lambda payload: None)
        return Mediator(Saga("s", [slow]), journal=SQLiteJournal(tmp_path / "sagas.db"), close_grace=0.0)

    with deployed(0.05) as mediator:
        assert mediator.run("s", saga_id="o-1", check=False).state == "stuck_executing.slow"
        may_end.set()
        eventually(lambda: mediator.executions(state="stuck")[0].driver is None)
    with deployed(None) as mediator:
        assert mediator.retry("o-1", "it has no time-out any more").succeeded

    assert calls == ["slow", "slow"]
