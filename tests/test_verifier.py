"""`verify` and its report: what it walks, what it counts, what it says, in words and as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_mediator import Retry, Saga, Signal, VerificationError, step, verify
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine import table
from fsm_mediator.verifier import LAWS, Report, shortening, state_space
from fsm_mediator.verifier.abstract_states import StateTable, initial_execution
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.graph import Graph
from fsm_mediator.verifier.shortening import shortened


def made(name, *, compensates=True, **settings):
    """A step that does nothing."""
    one = step(name=name, **{"retry": Retry(attempts=2), **settings})(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    return one


def chain(steps: int, attempts: int = 5) -> Saga:
    """A saga of so many steps."""
    return Saga("chain", [made(f"s{number}", retry=Retry(attempts=attempts)) for number in range(steps)])


@pytest.fixture
def broken(monkeypatch) -> Report:
    """What is found where compensation goes oldest first."""

    def oldest(parts, before):
        return next((f"compensating.{part.path}" for part in parts[:before] if part.compensatable), "failed")

    monkeypatch.setattr(table, "nearest_compensation", oldest)
    return verify(chain(3, 1))


def test_report_tells_what_was_walked():
    """The report has states, transitions, ways, verdicts, bounds, the fingerprint and the time."""
    saga = chain(3)

    report = verify(saga)

    assert report.ok
    assert report.fingerprint == saga.fingerprint
    assert set(report.states) | set(report.unreached) == set(saga.widest_machine.states)
    assert report.transitions == report.all_transitions == len(list(saga.machine.moves()))
    assert report.verdicts == dict.fromkeys(LAWS, "holds")
    assert report.paths > 1_000_000
    assert report.seconds > 0
    report.raise_for_violations()


def test_situations_grow_with_the_steps_not_with_their_square():
    """Twice the steps are twice the work: twenty steps are still a matter of a second."""
    moves = {steps: verify(chain(steps, 3)).moves for steps in (5, 10, 20)}

    assert moves[10] < 2.1 * moves[5]
    assert moves[20] < 2.1 * moves[10]


def test_situations_grow_with_the_attempts_not_with_their_square():
    """Twice the attempts are at most twice the work."""
    moves = {attempts: verify(chain(3, attempts)).moves for attempts in (5, 10, 20)}

    assert moves[20] < 2.1 * moves[10] < 4.3 * moves[5]


def test_json_keeps_its_names(broken):
    """What a program reads from the JSON stays where it is: this is its schema, number 1."""
    told = json.loads(broken.to_json())

    assert told["schema"] == 1
    assert sorted(told) == [
        *(
            "all_transitions",
            "bounds",
            "branches",
            "broken_rules",
            "complete",
            "fingerprint",
            "laws",
            "moves",
            "nodes",
            "ok",
        ),
        *(
            "overtaking",
            "parks",
            "paths",
            "saga",
            "schema",
            "seconds",
            "states",
            "strict",
            "transitions",
            "unreached",
            "version",
        ),
        "violations",
    ]
    assert told["laws"][0] == {"law": 1, "text": LAWS[1], "verdict": "holds"}
    assert told["laws"][1]["verdict"] == "broken"
    assert sorted(told["violations"][0]) == ["branches", "effects", "law", "path", "rule", "state", "text", "what"]
    assert told["violations"][0]["path"][0] == {
        "happens": "the saga begins",
        "records": [{"event": "start", "source": "pending", "target": "executing.s0"}],
    }


def test_broken_law_raises_with_the_shortest_way(broken):
    """What is raised for a broken law shows how it comes about, and what then has an effect."""
    with pytest.raises(VerificationError) as caught:
        broken.raise_for_violations()

    assert caught.value.report is broken
    assert "law 2 is broken: s0 is compensated before s1" in str(caught.value)
    assert re.search(r"^    4\. s2 raises, without effect +-> compensate s0$", str(caught.value), re.MULTILINE)
    assert "parts that have an effect at the end: s0, s1" in str(caught.value)


def test_counterexample_is_no_longer_than_need_be(broken):
    """The way that is shown is a shortest one, and its records are those of a real execution."""
    (found,) = [violation for violation in broken.violations if violation.law == 2]

    assert len(found.path) == 4
    assert [record.target for record in found.records] == [
        *("executing.s0", "executing.s1", "executing.s2"),
        "compensating.s0",
    ]
    assert found.state == "compensating.s0"


def test_counterexample_is_drawn_in_red(broken):
    """The picture of a counterexample is the machine's, with the way to the broken law in red."""
    drawn = broken.violations[0].diagram()

    dot = drawn.to_dot()

    assert "#d1121f" in dot
    assert "law 2 broken" in dot
    assert "#1d5fb8" not in dot  # the blue of the way forward


def test_unfinished_walk_proves_nothing():
    """A walk that was given up says so, in every law's verdict, and raises as a broken law does."""
    report = verify(chain(3), most_nodes=50)

    assert not report.ok
    assert set(report.verdicts.values()) == {"unproved"}
    assert "STOPPED after 50 situations" in str(report)
    with pytest.raises(VerificationError):
        report.raise_for_violations()


def test_step_that_may_be_overtaken_is_named():
    """Law 4 is not claimed for a step that said it may be overtaken, and the report says so."""
    report = verify(Saga("s", [made("quick", timeout=1.0, overtake=True), made("other")]))

    assert report.overtaking == ("quick",)
    assert "law 4 does not apply to steps with overtake=True: quick" in str(report)


def test_strict_finds_a_step_that_should_have_said_so():
    """A step that raises after its effect without saying so is outside the rules; `strict` shows what it would do."""
    assert verify(chain(2)).ok

    report = verify(chain(2), strict=True)

    assert {violation.law for violation in report.violations} >= {2}
    assert "after its effect and without reporting doubt" in str(report)


def test_no_history_is_kept_in_what_was_walked():
    """Memory grows with the situations, not with how long the ways to them are."""
    from fsm_mediator.verifier.state_space import StateSpace

    walk = StateSpace(chain(6), strict=False, most_nodes=10**6)
    walk.explore()

    assert max(len(stand.execution.history) for stand, _ in walk.nodes) == 0


def test_what_can_happen_has_a_name_of_its_own_everywhere():
    """A way is told by words alone: at no place do two things that can happen bear the same."""
    asked = made("asked", timeout=1.0)
    asked.probing(lambda payload: None)
    saga = Saga("s", [made("a", timeout=1.0), asked, made("go", compensates=False, pivot=True)])
    possible = ActionModel(saga, strict=True)
    todo, seen = [(initial_execution(saga), possible.nothing)], set()
    for execution, ledger in todo:
        labels = [move.label for move in possible.at(execution, ledger)]
        assert len(labels) == len(set(labels))
        for move in possible.at(execution, ledger):
            other = Execution.fold(saga, execution.acceptance, execution.history)
            move.act(other, 0.0)
            if (other.state, move.ledger) not in seen:
                seen.add((other.state, move.ledger))
                todo.append((other, move.ledger))
    assert len(seen) > 50


def kinds_of_steps(steps: int) -> Saga:
    """Steps whose settings differ: attempts, waits, time-outs, compensations, probes."""
    parts = []
    for number in range(steps):
        retry = Retry(attempts=(1, 3, 7)[number % 3], wait_initial=0.1 + number / 1000)
        timeout = 1.0 + number if number % 5 == 0 else None
        parts.append(made(f"s{number}", compensates=number % 4 > 0, retry=retry, timeout=timeout))
        if number % 7 == 0:
            parts[-1].probing(lambda payload: None)
    return Saga("kinds", parts)


def test_long_saga_is_walked_as_a_few_of_each_kind_of_step():
    """A thousand steps are walked as few are; the report has every state, and says what was left out."""
    few, many = verify(chain(50, 2)), verify(chain(1000, 2))

    assert many.ok
    assert many.nodes == few.nodes
    assert "996 steps have the same settings and transitions as others" in many.bounds
    assert set(many.states) | set(many.unreached) == set(chain(1000, 2).widest_machine.states)
    assert many.transitions == many.all_transitions


def test_a_thousand_differing_steps_are_walked_as_few_of_each_kind():
    """Settings that differ in numbers of seconds, or in attempts above three, do not make a kind of their own."""
    few, many = shortened(kinds_of_steps(500)), shortened(kinds_of_steps(1000))

    assert few is not None
    assert many is not None
    assert len(few.saga.parts) < 40
    assert len(many.saga.parts) < 40
    assert "3 attempts were walked in place of up to 10" in many.in_words()


def test_differing_steps_have_the_states_and_the_parks_of_the_whole(monkeypatch):
    """What is said of a step that was not walked is what is found where it is walked."""
    few = verify(kinds_of_steps(36))
    monkeypatch.setattr(shortening, "WHOLE", 40)
    whole = verify(kinds_of_steps(36))

    assert whole.ok
    assert few.ok
    assert few.nodes < whole.nodes / 2
    assert few.states == whole.states
    assert few.unreached == whole.unreached
    assert few.transitions == whole.transitions
    assert few.parks == whole.parks


def test_steps_alike_on_the_way_back_are_walked_there_as_a_few():
    """Steps that differ on the way forward alone are compensated as one of them is; the report says so."""
    parts = [
        made(f"s{number}", retry=Retry(attempts=number % 3 + 1), repeatable=number % 2 > 0) for number in range(30)
    ]

    shorter = shortened(Saga("s", parts))

    assert shorter is not None
    assert 0 < len(shorter.saga.parts) - len(shorter.passed) <= 4
    assert "compensated like other steps" in shorter.in_words()


def test_equal_records_are_judged_once(monkeypatch):
    """Twenty errors that lead to one record are one judgement: that is most of the time that a search takes."""
    calls: list[str] = []

    def counted(name):
        method = getattr(StateTable, name)

        def call(*args):
            calls.append(name)
            return method(*args)

        monkeypatch.setattr(StateTable, name, call)

    counted("_led")
    counted("_found")

    assert verify(Saga("s", [made("a"), made("b", timeout=1.0)])).ok
    assert calls.count("_led") < 0.7 * calls.count("_found")


@st.composite
def steps_with_exceptions(draw: st.DrawFn) -> Saga:
    """Two steps whose settings name exceptions."""
    parts = []
    for number in range(2):
        on = draw(st.sampled_from((OSError, Exception, lambda error: True)))
        chosen: dict[str, Any] = {
            "retry": Retry(attempts=draw(st.integers(1, 3)), on=on),
            "compensation_retry": Retry(attempts=2, on=draw(st.sampled_from((OSError, Exception)))),
            "in_doubt_on": draw(st.sampled_from(((OSError,), (ConnectionError, TimeoutError), ()))),
            "no_effect_on": draw(st.sampled_from(((ConnectionRefusedError,), ()))),
            "timeout": draw(st.sampled_from((None, 1.0))),
            "repeatable": draw(st.booleans()),
        }
        parts.append(made(f"s{number}", compensates=draw(st.booleans()), **chosen))
        if draw(st.booleans()):
            parts[-1].probing(lambda payload: None)
    return Saga("drawn", parts)


def walked_with_equal_errors_as_one(saga: Saga, tried: list[str]) -> Report:
    """The report of a walk that tries one of several exceptions that mean the same to a state."""

    class Sharing(StateTable):
        def __init__(self, saga, possible, laws, **_):
            super().__init__(saga, possible, laws, errors_alike=True)

        def _found(self, position, move):
            tried.append(move.observation)
            return super()._found(position, move)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_space, "StateTable", Sharing)
        return verify(saga)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps_with_exceptions())
def test_exceptions_that_mean_the_same_are_one_in_a_long_saga(saga):
    """A walk that shares what equal exceptions lead to finds what the full walk finds, move for move."""
    shared, full = walked_with_equal_errors_as_one(saga, []), verify(saga)

    assert attrs.evolve(shared, seconds=0.0) == attrs.evolve(full, seconds=0.0)


def test_equal_exceptions_are_tried_once_in_each_state():
    """In the second attempt and in doubt, a refusal and an error that is not repeated are no longer tried apart."""
    tried: list[str] = []
    patient = Retry(attempts=3, on=(OSError, ValueError, KeyError))
    saga = Saga("s", [made("a", retry=patient), made("b", timeout=1.0, retry=patient)])
    shared = walked_with_equal_errors_as_one(saga, tried)

    assert shared.moves == verify(saga).moves
    assert tried.count("raised ValueError") <= tried.count("raised OSError")
    assert tried.count("raised KeyError") < tried.count("rejected")


def test_late_error_of_a_compensation_is_held_to_its_own_policy():
    """A step that retries on `OSError` alone breaks no law, whatever its compensation is retried on."""
    assert verify(Saga("s", [made("a", timeout=1.0, retry=Retry(attempts=2, on=OSError))])).ok


def test_small_sagas_are_walked_whole():
    """In sagas of up to twenty parts nothing is left out."""
    assert shortened(chain(20)) is None


def test_waits_and_the_steps_beside_them_are_walked():
    """Signals, groups and the pivot are of a kind of their own, and so are the steps before and after them."""
    parts = [made(f"s{number}") for number in range(60)]
    parts[30:30] = [Signal("ok")]

    shorter = shortened(Saga("s", parts))

    assert shorter is not None
    assert {"s29", "ok", "s30"} <= {part.path for part in shorter.saga.parts}
    assert len(shorter.saga.parts) < 10


@pytest.mark.usefixtures("broken")
def test_law_broken_by_a_long_saga_is_shown_on_the_whole_of_it():
    """Where a law is broken, the counterexample is a path of the machine that runs, with every step of it."""
    saga = chain(45, 1)

    (found,) = [violation for violation in verify(saga).violations if violation.law == 2]

    assert found.saga is saga
    assert all(record.target in saga.machine.states for record in found.records)
    assert [record.seq for record in found.records] == list(range(1, len(found.records) + 1))


def test_search_that_is_given_up_lists_what_it_did_not_reach():
    """The bound on time and memory is mine, and the report names the states behind it."""
    counted: list[int] = []

    report = verify(chain(20), most_nodes=300, progress=counted.append)

    assert "not reached because the search stopped early" in str(report)
    assert "executing.s19" in report.unreached
    assert 0 < sum(counted) <= report.nodes


def test_report_answers_whether_every_failure_path_ends_compensated():
    """It does, or it stops at parts that the report lists, each with the fault that it takes."""
    go = made("go", compensates=False, pivot=True)
    saga = Saga("s", [made("slow", timeout=1.0), Signal("ok"), go, made("after", compensates=False)])

    report = verify(saga)
    parks = dict(report.parks)

    assert parks["its compensation is given up, or a branch of it cannot be undone"] == ("slow",)
    assert parks["its call outlives time-out and grace"] == ("slow",)
    assert parks["its call outlives a time-out that a new version adds"] == ("go", "after")
    assert parks["every driver dies in it"] == ("slow", "go", "after")
    assert parks["it is the pivot, and is given up in doubt"] == ("go",)
    assert parks["it comes after the pivot, and is given up"] == ("after",)
    assert parks["it waits for its signal, without a time-out"] == ("ok",)
    assert "every failure path ends compensated, or stops visibly" in str(report)
    assert "  go: it is the pivot, and is given up in doubt" in str(report)


def test_graph_counts_ways_and_finds_cycles():
    """Ways are counted through every branch; an edge that may go round is not counted, and no cycle."""
    graph = Graph()
    for _ in range(4):
        graph.add()
    for source, target in ((0, 1), (0, 2), (1, 3), (2, 3), (2, 3)):
        graph.add_edge(source, target, cut=False)
    graph.add_edge(3, 0, cut=True)

    assert graph.ways() == 3
    assert graph.cycle() == []
    assert graph.first_dead_end([3]) is None
    assert graph.first_dead_end([1]) is None  # by way of the cut edge

    graph.add_edge(3, 1, cut=False)

    assert graph.cycle() == [1, 3]
    assert graph.first_dead_end([]) == 0
