"""A value that the journal refuses never leaves an execution that can neither end nor be helped."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import pytest

from fsm_mediator import (
    Choose,
    DefinitionError,
    MediatorError,
    MemoryJournal,
    Parallel,
    PayloadError,
    RefusedError,
    ResultRefusedError,
    Saga,
    SagaFailedError,
    Signal,
    SQLiteJournal,
    step,
    verify,
)
from fsm_mediator.journal.codec import MAX_DEPTH, is_nested_deeper
from tests.drivers import ONCE, World

LIMIT = 2000


@pytest.fixture(params=["encoded", "sqlite"])
def limited(request, tmp_path):
    """A journal that takes 2,000 bytes a value."""
    if request.param == "encoded":
        return MemoryJournal(encode=True, max_value_bytes=LIMIT)
    return SQLiteJournal(tmp_path / "sagas.db", durability="normal", max_value_bytes=LIMIT)


def nested(levels: int, leaf: Any = 1) -> Any:
    """Lists in lists."""
    value = leaf
    for _ in range(levels):
        value = [value]
    return value


def large(world: World, name: str, size: int = 1200, **settings: Any) -> Any:
    """A step with a result of so many bytes."""
    return world.step(name, "x" * size, **settings)


# Joined results


def test_group_whose_joined_result_is_too_large_is_compensated(drive, limited):
    """Each result fits, and all together do not: the saga compensates, as for any refused result."""
    world = World()
    saga = Saga("g", [world.step("a"), Parallel("fan", [large(world, "b"), large(world, "c")])])

    with pytest.raises(SagaFailedError, match=r"2,415 bytes.*limit of 2,000") as failed:
        drive(saga, journal=limited).run("g", saga_id="s")

    assert isinstance(failed.value.__cause__, ResultRefusedError)
    assert sorted(world.calls[-3:-1]) == ["undo b", "undo c"]
    assert world.calls[-1] == "undo a"
    assert [entry.state for entry in limited.entries()] == ["failed"] * 3


def test_group_over_items_and_a_choice_are_judged_alike(drive, limited):
    """The results of many items, and a chosen saga's results with their names."""
    world = World()
    each = Saga("each", [Parallel.each("fan", large(world, "b"), over=lambda payload: [1, 2])])
    chosen = Saga(
        "chosen", [Choose("way", {"x": Saga("in", [large(world, "c"), large(world, "d")])}, by=lambda _: "x")]
    )
    mediator = drive(each, chosen, journal=limited)

    for name in ("each", "chosen"):
        outcome = mediator.run(name, check=False)
        assert outcome.failed
        assert isinstance(outcome.error, ResultRefusedError)
    assert sorted(world.calls) == sorted(["b", "b", "undo b", "undo b", "c", "d", "undo d", "undo c"])


def test_joined_result_after_the_pivot_is_for_a_person(drive, limited):
    """After the point of no return nothing is compensated: the saga is stuck, and a person states a result."""
    world = World()
    group = Parallel("fan", [large(world, "b", undo=None), large(world, "c", undo=None)])
    steps = [world.step("a", undo=None, pivot=True), group, world.step("z", undo=None)]
    mediator = drive(Saga("g", steps), journal=limited)

    assert mediator.run("g", saga_id="s", check=False).state == "stuck.fan"
    outcome = mediator.resolve("s", reason="kept elsewhere", done=True, result={"b": "here"})

    assert outcome.succeeded
    assert outcome.results["fan"] == {"b": "here"}


def test_result_that_is_joined_below_the_limit_is_accepted(drive, limited):
    """The same group with smaller results."""
    world = World()
    saga = Saga("g", [Parallel("fan", [large(world, "b", 900), large(world, "c", 900)])])

    assert set(drive(saga, journal=limited).run("g").results["fan"]) == {"b", "c"}


def test_refused_joined_result_is_verified():
    """`verify` walks it, before and after the pivot."""
    world = World()
    fan = Parallel("fan", [world.step("b"), world.step("c")])
    after = Parallel("fan", [world.step("c", undo=None)])
    for saga in (Saga("g", [world.step("a"), fan]), Saga("p", [world.step("a", undo=None, pivot=True), after])):
        report = verify(saga)
        assert report.ok, str(report)


# Values that grow, and values of the library's own


@attrs.frozen
class Padded:
    """Larger when it comes back: the default is written."""

    name: str
    padding: str = "x" * 1500


def test_value_that_is_too_large_with_its_defaults_is_refused_in_time(drive, limited):
    """A dict is taken for the annotated type. Its defaults are written as well, and count."""
    world = World()

    @step(retry=ONCE)
    def a(payload) -> Padded:
        return {"name": "y" * 1000}  # type: ignore[return-value]

    a.compensation(lambda payload: world.calls.append("undo a"))
    mediator = drive(Saga("r", [a]), Saga("p", [world.step("b")], payload=Padded), journal=limited)

    outcome = mediator.run("r", check=False)
    assert outcome.failed
    assert isinstance(outcome.error, ResultRefusedError)
    with pytest.raises(PayloadError, match="limit of 2,000"):
        mediator.run("p", {"name": "y" * 1000})
    assert world.calls == ["undo a"]


def test_leftovers_of_a_group_are_never_too_large(drive, tmp_path):
    """They are no user's value: a limit of theirs would leave the saga without an end."""
    world = World()
    names = [f"branch_with_a_long_name_{number}" for number in range(20)]
    fan = Parallel("fan", [world.step(name, undo=None) for name in names])
    saga = Saga("g", [fan, world.step("z", ValueError("no"), retry=ONCE)])
    for journal in (
        MemoryJournal(encode=True, max_value_bytes=LIMIT // 4),
        SQLiteJournal(tmp_path / "sagas.db", max_value_bytes=LIMIT // 4),
    ):
        mediator = drive(saga.named("g"), journal=journal)
        with pytest.raises(SagaFailedError):
            mediator.run("g", saga_id="s")
        assert len(mediator.outcome("s").leftovers) == len(names)


def test_branches_take_the_payload_of_a_saga_that_was_accepted_under_another_limit(drive, tmp_path):
    """The limit was lowered while an execution waited; what was accepted goes on, and so do signals for branches."""
    world = World()
    fan = Parallel("fan", [world.step("b"), Signal("ready")])
    saga = Saga("g", [Signal("go"), fan])
    roomy = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db"))
    roomy.run("g", "x" * LIMIT, saga_id="s", check=False)
    roomy.signal("s", "fan.ready.ready", "y" * LIMIT)
    roomy.close()

    narrow = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db", max_value_bytes=LIMIT))
    narrow.signal("s", "go")
    outcome = narrow.wait("s", check=False)

    assert outcome.failed  # the joined result holds the signal's value, and is judged by today's limit
    assert narrow.outcome("s/fan.b").state == "failed"
    assert world.calls == ["b", "undo b"]


# Depth


@pytest.mark.parametrize("leaf", [1, None, "[[{", '"\\'])
@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 500, 985, 990, 1000, 3000])
def test_value_nested_too_deeply_is_refused_at_the_edge(drive, limited, levels, leaf):
    """Payload, result, item and signal value: 200 levels are accepted, and one more is not, on every Python."""
    world = World()
    value = nested(levels, leaf)
    result = Saga("result", [world.step("a", value, retry=ONCE)])
    items = Saga("items", [Parallel.each("fan", world.step("b"), over=lambda payload: [value])])
    waits = Saga("waits", [Signal("go")])
    mediator = drive(result, items, waits, Saga("payload", [world.step("c")]), journal=limited)
    mediator.run("waits", saga_id="w", check=False)

    if levels > MAX_DEPTH:
        with pytest.raises(PayloadError, match=r"nested deeper than 200|more than the limit"):
            mediator.run("payload", value)
        with pytest.raises(PayloadError, match=r"nested deeper than 200|more than the limit"):
            mediator.signal("w", "go", value)
        for name in ("result", "items"):
            outcome = mediator.run(name, check=False)
            assert outcome.failed
            assert isinstance(outcome.error, MediatorError)
        assert world.calls == ["a", "undo a"]
    else:
        assert mediator.run("payload", value, saga_id="p").succeeded
        assert mediator.run("result", saga_id="r").results["a"] == value
        assert mediator.run("items").succeeded
        mediator.signal("w", "go", value)
        assert mediator.wait("w").results["go"] == value


def test_joined_result_nested_too_deeply_is_compensated(drive, limited):
    """The group's own levels count."""
    world = World()
    fan = Parallel("fan", [world.step("b", nested(MAX_DEPTH))])

    outcome = drive(Saga("g", [fan]), journal=limited).run("g", check=False)

    assert outcome.failed
    assert "nested deeper than 200" in str(outcome.error)
    assert world.calls == ["b", "undo b"]


@pytest.mark.parametrize(
    ("json", "levels"),
    [
        (b"1", 0),
        (b'"[[[["', 0),
        (b'["\\"[[[", []]', 2),
        (b'{"[":{"{":[]}}', 3),
        (b'["\\\\",["]"]]', 2),
        (b"[[],[[]],{}]", 3),
    ],
)
def test_depth_is_counted_outside_of_texts(json, levels):
    """Brackets in a text, and escaped quotes, do not count."""
    padded = b"[" + json + b",[]" * 300 + b"]"
    levels = max(levels, 1) + 1
    assert not is_nested_deeper(padded, levels)
    assert is_nested_deeper(padded, levels - 1)


# Refusals


class Unspeakable:
    """Nothing can be said about it."""

    def __repr__(self) -> str:
        raise RecursionError("maximum recursion depth exceeded")

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


HUGE = 10 ** (sys.get_int_max_str_digits() + 1)


@pytest.mark.parametrize("value", [nested(3000), HUGE, Unspeakable()], ids=["deep", "huge", "unspeakable"])
def test_refusals_can_be_worded_whatever_the_value(drive, journal, value):
    """A refusal names the value. If that cannot be shown, it says so, and no error of another kind leaves."""
    world = World()
    decided = [
        Saga("sleeps", [Parallel.each("fan", world.step("a"), over=lambda payload: value)]),
        Saga("chooses", [Choose("way", {"x": world.step("b")}, by=lambda payload: value)]),
    ]
    waits = Saga("waits", [Signal("go", payload=str)])
    mediator = drive(Saga("typed", [world.step("c")], payload=str), waits, *decided, journal=journal)
    mediator.run("waits", saga_id="w", check=False)

    with pytest.raises(PayloadError):
        mediator.run("typed", value)
    with pytest.raises((PayloadError, RefusedError)):
        mediator.signal("w", "go", value)
    with pytest.raises(MediatorError):
        mediator.resolve("w", reason=value)
    for saga in decided:
        outcome = mediator.run(saga, check=False)
        assert outcome.failed or outcome.succeeded
        assert str(outcome.error)
    with pytest.raises(MediatorError):
        mediator.run("typed", "x", saga_id=value)
    with pytest.raises(DefinitionError):
        Saga("s", [world.step("a")], payload=value)


def test_another_value_of_a_signal_is_refused_whatever_it_is(drive):
    """In memory a value is kept as it is; naming the first one must not fail."""
    mediator = drive(Saga("waits", [Signal("one"), Signal("two")]), journal=MemoryJournal())
    mediator.run("waits", saga_id="w", check=False)
    mediator.signal("w", "two", HUGE)

    with pytest.raises(RefusedError, match="has come with another value"):
        mediator.signal("w", "two", 1)
