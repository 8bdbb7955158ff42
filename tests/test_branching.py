"""What an execution that enters a wait waits for: until when, which branches, and what the deciding function saw."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fsm_mediator import Choose, Execution, Parallel, Retry, Saga, Signal, Sleep, step
from fsm_mediator.errors import DecisionError
from fsm_mediator.execution.branching import enter_wait
from fsm_mediator.machine.parts import Callback, Effect, Kind, Part, rest
from fsm_mediator.records import Acceptance, Begin, Raised, Returned

AT = 100.0


def made(name: str, *, compensates: bool = True, **settings: Any):
    """A step that is never called."""
    one = step(name=name, **settings)(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    return one


def opened(*parts: Any, payload: Any = None, deadline_at: float | None = None) -> Execution:
    """An execution of *parts*, before it begins."""
    saga = Saga("s", list(parts))
    return Execution(saga, Acceptance("id", "s", saga.version, saga.fingerprint, payload, 0.0, deadline_at))


def begun(
    *parts: Any, answers: tuple[Any, ...] = (), payload: Any = None, deadline_at: float | None = None
) -> Execution:
    """An execution that has begun, and was given answers."""
    execution = opened(*parts, payload=payload, deadline_at=deadline_at)
    for answer in (Begin(), *answers):
        execution.feed(answer, AT)
    return execution


def test_signal_is_waited_for_until_its_time_out():
    """The wait is journaled with its end; without a time-out it has none."""
    assert begun(Signal("word", timeout=5.0)).due_at == AT + 5.0
    assert begun(Signal("word")).due_at is None


def test_sleep_ends_after_its_seconds_or_when_its_function_says():
    """A sleep of a fixed time, and one until a moment that payload and results tell."""
    assert begun(Sleep("nap", 7.0)).due_at == AT + 7.0
    until = Sleep("nap", until=lambda payload, context: payload + context.results["a"] + 2e9)
    assert begun(made("a"), until, answers=(Returned(3.0),), payload=4.0).due_at == 2e9 + 7.0
    seen = begun(Sleep("first", 1.0), Sleep("nap", until=lambda payload: payload), payload=2e9)
    assert seen.due_at == AT + 1.0


def test_sleep_whose_subject_is_gone_still_has_its_seconds():
    """A part read from a journal alone has no subject; without seconds it is over at once."""
    execution = begun(Sleep("nap", 7.0))
    part = execution.saga.parts[0]

    assert enter_wait(execution, replace(part, subject=None), AT, None, None) == (AT + 7.0, None)
    assert enter_wait(execution, replace(part, subject=None, seconds=None), AT, None, None) == (AT, None)


def test_deciding_function_sees_the_result_whose_record_is_not_written_yet():
    """The choice is made between the answer of the step before it and that answer's record."""
    seen = []

    def by(payload, context):
        seen.append((payload, dict(context.results), context.step, context.attempt, context.saga_id, context.verb))
        return "x"

    execution = begun(made("a"), Choose("way", {"x": made("x")}, by=by), answers=(Returned("r"),), payload="p")

    assert seen == [("p", {"a": "r"}, "way", 0, "id", "decide")]
    assert execution.answered == {"a": "r"}
    assert execution.branches_of("way") == ("x",)


def test_function_that_fails_leaves_the_results_as_they_were_and_its_error():
    """What it raises is the reason why the part is given up, without doubt."""

    def by(payload):
        raise ValueError("no idea")

    execution = begun(made("a"), Choose("way", {"x": made("x")}, by=by), answers=(Returned("r"),))
    assert execution.answered == {"a": "r"}
    assert str(execution.undecided) == "no idea"
    record = execution.advance(AT)

    assert record is not None
    assert (record.event, record.in_doubt) == ("rejected", False)
    assert str(record.error) == "ValueError: no idea"


def test_result_whose_record_is_not_written_is_not_kept():
    """The function sees it; should the record be refused, the execution stands as before."""
    execution = opened(made("a"), Choose("way", {"x": made("x")}, by=lambda payload, context: context.results["a"]))
    execution.state = "waiting.way"

    assert enter_wait(execution, execution.saga.parts[1], AT, "x", execution.saga.parts[0]) == (None, ("x",))
    assert execution.answered == {}


def test_earlier_decision_that_failed_does_not_linger():
    """A later wait is not given up for the error of an earlier one."""
    execution = begun(Sleep("nap", 1.0), Signal("word"))
    execution.undecided = ValueError("old")
    execution.advance(AT + 1.0)

    assert execution.undecided is None


def test_poisoned_function_is_not_called_again():
    """A function in which drivers died again and again is taken to have failed."""
    called: list[Any] = []

    def by(payload):
        called.append(payload)
        return "x"

    execution = opened(made("a"), Choose("way", {"x": made("x")}, by=by))
    execution.feed(Begin(), AT)
    execution.poison = RuntimeError("poison")
    execution.feed(Returned(1), AT)

    assert called == []
    assert str(execution.undecided) == "poison"


def test_branches_are_created_with_the_record_each_with_its_own_id():
    """Id, saga, payload, time, deadline and parent of every branch."""
    execution = begun(Parallel("fan", [made("x"), made("y")]), payload="p", deadline_at=500.0)

    born = execution.pop_new_branches()
    sagas = execution.saga.branches["fan"]
    assert [each.saga_id for each in born] == ["id/fan.x", "id/fan.y"]
    assert [each.saga for each in born] == [sagas["x"].name, sagas["y"].name]
    assert [each.version for each in born] == [sagas["x"].version, sagas["y"].version]
    assert [each.fingerprint for each in born] == [sagas["x"].fingerprint, sagas["y"].fingerprint]
    assert [(each.payload, each.at, each.deadline_at, each.parent) for each in born] == [("p", AT, 500.0, "id")] * 2
    assert [each.successor for each in born] == [None, None]
    assert execution.pop_new_branches() == ()


def test_branches_after_the_pivot_have_no_deadline():
    """What comes after the pivot is completed, however long it takes."""
    pivot = made("go", compensates=False, pivot=True)
    fan = Parallel("fan", [made("x", compensates=False)])
    execution = begun(pivot, fan, answers=(Returned(1),), deadline_at=500.0)

    assert [each.deadline_at for each in execution.pop_new_branches()] == [None]


@pytest.mark.parametrize(("at_most", "followers"), [(1, ["y", "z", None]), (2, ["z", None, None]), (3, [None] * 3)])
def test_branch_is_followed_by_the_next_that_may_begin(at_most, followers):
    """With `at_most`, a branch that has settled lets the next one begin."""
    names = ["x", "y", "z"]
    execution = begun(Parallel("fan", [made(name) for name in names], at_most=at_most))

    expected = [None if name is None else f"id/fan.{name}" for name in followers]
    assert [each.successor for each in execution.pop_new_branches()] == expected


def test_group_over_items_has_a_branch_for_each_with_the_item_as_its_payload():
    """The branches are numbered in the order of the items."""
    each = Parallel.each("all", made("item"), over=lambda payload: payload["items"])
    execution = begun(each, payload={"items": ["m", "n"]})

    born = execution.pop_new_branches()
    assert execution.branches_of("all") == ("0", "1")
    assert [(one.saga_id, one.payload) for one in born] == [("id/all.0", "m"), ("id/all.1", "n")]


def test_group_over_items_has_them_encoded_one_by_one():
    """Each branch's payload is as its journal gives it back."""

    class Encoding:
        def payload(self, saga, value):
            return value

        def accept_payload(self, saga, item):
            return (saga.name, item)

    execution = opened(Parallel.each("all", made("item"), over=lambda payload: ["m"]))
    execution.encoding = Encoding()  # type: ignore[assignment]
    execution.feed(Begin(), AT)

    branch = next(iter(execution.saga.branches["all"].values()))
    assert [one.payload for one in execution.pop_new_branches()] == [(branch.name, "m")]


def test_choice_that_names_no_branch_is_refused_in_words():
    """The message names what was chosen, and what there is."""
    execution = begun(Choose("way", {"x": made("x"), "y": made("y")}, by=lambda payload: "z"))

    assert isinstance(execution.undecided, DecisionError)
    assert "chose 'z' for 'way'; there are x, y" in str(execution.undecided)
    assert execution.branches_of("way") == ()


def test_chosen_branch_is_the_only_one_created():
    """The others do not exist."""
    execution = begun(Choose("way", {"x": made("x"), "y": made("y")}, by=lambda payload: "y"))

    assert [each.saga_id for each in execution.pop_new_branches()] == ["id/way.y"]


def test_retried_group_keeps_its_branches_and_asks_nobody_again():
    """A group that is entered again has the branches of the first time; its function is not called."""
    called = []

    def over(payload):
        called.append(payload)
        return ["m"]

    execution = begun(Parallel.each("all", made("item"), over=over))
    execution.pop_new_branches()

    assert enter_wait(execution, execution.saga.parts[0], AT, None, execution.saga.parts[0]) == (None, ("0",))
    assert len(called) == 1
    assert execution.pop_new_branches() == ()


def test_group_that_is_entered_to_be_compensated_waits_for_nothing_new():
    """On the way back its branches exist."""
    execution = begun(made("a"), made("b"), answers=(Returned(1), Raised(ValueError("v"))))
    execution.state = "compensating.a"

    assert enter_wait(execution, execution.saga.parts[0], AT, None, None) == (None, None)


CALL = Callback(print, takes_context=False, is_coroutine=False, label="a.execute")


@pytest.mark.parametrize(
    ("settings", "compensatable", "calls"),
    [
        ({"compensate": CALL}, True, True),
        ({}, False, False),
        ({"compensate": CALL, "pivot": True}, False, False),
        ({"compensate": CALL, "forward_only": True}, False, False),
        ({"kind": Kind.GROUP}, True, False),
        ({"kind": Kind.CHOICE}, True, False),
        ({"kind": Kind.GROUP, "group_compensates": True}, True, True),
        ({"kind": Kind.GROUP, "group_compensates": True, "forward_only": True}, False, False),
        ({"kind": Kind.SIGNAL}, False, False),
    ],
)
def test_part_knows_whether_it_is_compensated(settings, compensatable, calls):
    """Before the pivot, and where it has a compensation or branches."""
    part = Part(path="a", **settings)

    assert (part.compensatable, part.calls_compensation) == (compensatable, calls)


@pytest.mark.parametrize(
    ("settings", "outlives", "outlives_back"),
    [
        ({"execute": CALL, "timeout": 1.0}, True, False),
        ({"execute": CALL, "compensate": CALL, "timeout": 1.0}, True, True),
        ({"execute": CALL, "compensate": CALL}, False, False),
        ({"execute": CALL, "timeout": 1.0, "overtake": True}, False, False),
        ({"timeout": 1.0}, False, False),
    ],
)
def test_part_knows_whether_a_call_may_outlive_its_time_out(settings, outlives, outlives_back):
    """Where there is a time-out, a call to outlive it, and no leave to overtake."""
    part = Part(path="a", **settings)

    assert (part.can_outlive_its_timeout, part.compensation_can_outlive_its_timeout) == (outlives, outlives_back)


def test_usual_settings_of_a_part():
    """A part is a plain step that may be repeated, and nothing more."""
    part = Part(path="a")

    assert (part.kind, part.scope, part.repeatable) == (Kind.STEP, "", True)
    others = ("overtake", "pivot", "forward_only", "each", "cancels_on_failure", "group_compensates")
    assert [getattr(part, name) for name in others] == [False] * 6
    assert (part.branches, part.in_doubt_on, part.no_effect_on, part.retry) == ((), (), (), Retry())
    assert (part.returns, CALL.returns, CALL.takes) == (Any, Any, Any)
    assert [kind.value for kind in Kind] == ["step", "signal", "sleep", "group", "choice"]


def test_effect_says_what_it_calls_and_whether_that_is_simple():
    """A call with a time-out, and a probe, are not done when they return."""
    effect = Effect("execute", Part(path="a", execute=CALL), CALL)

    assert (repr(effect), repr(Effect("wait", Part(path="nap")))) == ("<execute a.execute>", "<wait nap>")
    assert repr(rest) == "<rest>"
    assert [repr(begun(each).effect) for each in (Signal("ok"), Sleep("nap", 1.0))] == ["<await ok>", "<wait nap>"]
    assert effect.is_simple
    assert not Effect("probe", Part(path="a"), CALL).is_simple
    assert not Effect("execute", Part(path="a", timeout=1.0), CALL).is_simple
