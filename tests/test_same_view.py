"""Every attempt sees payload, results and signal values as journaled, with and without a crash."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fsm_mediator import Choose, MemoryJournal, Parallel, Retry, Saga, SagaIdTakenError, Signal, step
from fsm_mediator.journal import codec
from fsm_mediator.testing import SagaBrokenError, check_saga
from tests.drivers import MORTAL, Died

TWICE = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)


@pytest.fixture(params=["encoded", "sqlite"])
def encoding(request, tmp_path):
    """A journal that encodes."""
    from fsm_mediator import SQLiteJournal

    return MemoryJournal(encode=True) if request.param == "encoded" else SQLiteJournal(tmp_path / "x.db")


class Changing:
    """Steps that change all that they are given, and write down what they saw."""

    def __init__(self, *, dies: str = "") -> None:
        self.saw: list[tuple[str, Any]] = []
        self.dies = dies

    def step(self, name: str, **settings: Any) -> Any:
        """One of them."""

        def sees(verb: str, payload: Any, context: Any) -> None:
            results = {each: list(context.results[each]) for each in context.results}
            result = None if context.result is None else list(context.result)
            self.saw.append((f"{verb} {name}", (list(payload["items"]), results, result)))
            payload["items"].append(name)
            for each in context.results:
                context.results[each].append(name)
            if context.result is not None:
                context.result.append("changed")
            if self.dies == name:
                self.dies = ""
                raise Died

        @step(name=name, **settings)
        def execute(payload, context):
            sees("execute", payload, context)
            return [name]

        @execute.compensation
        def undo(payload, context):
            sees("compensate", payload, context)

        return execute


def ran(drive: Any, journal: Any, *, dies: str = "") -> list[tuple[str, Any]]:
    """What the steps of a saga that fails at its end see, whichever of them dies once."""
    changing = Changing(dies=dies)

    @step(retry=Retry(attempts=1))
    def fails(payload):
        raise ValueError("no")

    saga = Saga("s", [changing.step("a"), Signal("word"), changing.step("b", retry=TWICE), fails])
    with_signal = drive(saga, journal=journal, **MORTAL)
    with_signal.run("s", {"items": []}, saga_id="o-1", check=False)
    for _ in range(2):
        try:
            if with_signal.outcome("o-1").state == "waiting.word":
                with_signal.signal("o-1", "word", ["said"])
            assert drive(saga, journal=journal, **MORTAL).run("s", {"items": []}, saga_id="o-1", check=False).failed
        except Died:
            continue
    return changing.saw


def test_attempts_see_what_is_journaled(drive, encoding):
    """Whatever a step does to its payload, a result or a signal's value: no other attempt sees it."""
    word = ["said"]

    saw = dict(ran(drive, encoding))

    assert saw == {
        "execute a": ([], {}, None),
        "execute b": ([], {"a": ["a"], "word": word}, None),
        "compensate b": ([], {"a": ["a"], "word": word, "b": ["b"]}, ["b"]),
        "compensate a": ([], {"a": ["a"], "word": word, "b": ["b"]}, ["a"]),
    }


def test_view_is_the_same_after_a_crash(drive, encoding):
    """A driver that dies changes nothing in what the next attempts see."""
    saw = ran(drive, encoding, dies="b")

    assert len(saw) == 5
    assert saw[1] == saw[2]
    assert saw[3] == ("compensate b", ([], {"a": ["a"], "word": ["said"], "b": ["b"]}, ["b"]))


def test_functions_that_decide_see_it_too(drive, encoding):
    """What a decision does to its payload is seen by nobody, and it sees what no step changed."""
    changing = Changing()
    saw: list[Any] = []

    def over(payload, context):
        saw.append((list(payload["items"]), list(context.results["a"])))
        payload["items"].append("over")
        return [{"items": [n]} for n in range(2)]

    def by(payload):
        saw.append(list(payload["items"]))
        return "x"

    each = Parallel.each("each", changing.step("b"), over=over)
    saga = Saga("s", [changing.step("a"), each, Choose("c", {"x": changing.step("x")}, by=by)])

    assert drive(saga, journal=encoding).run("s", {"items": []}).succeeded

    assert saw == [([], ["a"]), []]
    assert sorted(seen for name, seen in changing.saw if name == "execute b") == [
        ([0], {"a": ["a"]}, None),
        ([1], {"a": ["a"]}, None),
    ]


def test_results_nobody_looks_at_are_not_decoded(drive, encoding, monkeypatch):
    """A result is decoded when a step asks for it, once an attempt. Results without a reader are not decoded."""
    decoded: list[str] = []
    result = codec.Codec.result

    def counted(self: Any, part: Any, value: Any) -> Any:
        decoded.append(part.path)
        return result(self, part, value)

    monkeypatch.setattr(codec.Codec, "result", counted)

    @step
    def one(payload):
        return [1]

    @step
    def two(payload, context):
        assert "one" in context.results
        assert len(context.results) == 1
        return list(context.results)

    @step
    def three(payload, context):
        assert context.results["one"] is context.results["one"]
        with pytest.raises(KeyError):
            context.results["four"]

    assert drive(Saga("s", [one, two, three]), journal=encoding).run("s").succeeded

    assert decoded == ["one"]


def test_results_of_a_nested_saga_are_its_own(drive, encoding):
    """In a nested saga a step sees that saga's results; outside, they are under its name."""
    saw: list[Any] = []

    def named(name: str) -> Any:
        def sees(payload, context):
            saw.append(dict(context.results))
            return name

        return step(name=name)(sees)

    inner = Saga("inner", [named("x"), named("y")])
    drive(Saga("s", [named("a"), inner, named("z")]), journal=encoding).run("s")

    assert saw == [{}, {}, {"x": "x"}, {"a": "a", "inner": {"x": "x", "y": "y"}}]
    assert msgspec.json.encode(saw[-1])


def test_second_start_in_memory_is_compared_with_what_was_given(drive):
    """A step changed its payload: the same id with the same payload again joins, with another it is refused."""

    @step
    def changes(order):
        order["total"] = 10

    mediator = drive(Saga("s", [changes]), journal=MemoryJournal())
    mediator.run("s", {"cents": 5}, saga_id="o-1")

    assert mediator.run("s", {"cents": 5}, saga_id="o-1").succeeded
    with pytest.raises(SagaIdTakenError):
        mediator.run("s", {"cents": 5, "total": 10}, saga_id="o-1")


def test_check_saga_reports_a_step_that_changes_its_payload():
    """An easy slip: the total is written into the order, and the next step finds none."""
    ledger: list[Any] = []

    @step
    def price(order, context):
        order["total"] = order["cents"] * 2

    @step
    def charge(order, context):
        ledger.append((context.execute_key, order.get("total")))

    saga = Saga("s", [price, charge])

    with pytest.raises(SagaBrokenError, match="execute of 'price' changes its payload in place") as broken:
        check_saga(saga, {"cents": 5}, observe=lambda: list(ledger), reset=ledger.clear)

    assert "return the value as the step's result" in str(broken.value)
