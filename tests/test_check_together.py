"""check_together: executions at once that share keys or resources; races between and within steps are found."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fsm_mediator import Choose, DefinitionError, Parallel, Saga, Signal, Sleep, Step, StepRejectedError
from fsm_mediator.testing import InterferenceError, check_together
from fsm_mediator.testing.interleaving import EndlessRunError, Schedule, Scheduler, schedules


class Ship(Step):
    """The step after the one under test; it can refuse, so that the one before is compensated."""

    def __init__(self, name: str = "ship") -> None:
        self.name = name

    def execute(self, amount):
        """Nothing that others share."""


class Take(Step):
    """Takes from a stock, without a lock: looks first, and takes then."""

    def __init__(self, stock: dict[str, Any]) -> None:
        self.stock = stock

    def execute(self, amount, context):
        left = self.stock["left"]
        if left < amount:
            raise StepRejectedError("sold out")
        self.stock["left"] = left - amount
        self.stock["sold"][context.idempotency_key] = amount

    def compensate(self, amount, context):
        self.stock["left"] += self.stock["sold"].pop(context.execute_key, 0)


class TakeLocked(Take):
    """As `Take`, with a lock around what must not be divided."""

    lock = threading.Lock()

    def execute(self, amount, context):
        with self.lock:
            super().execute(amount, context)

    def compensate(self, amount, context):
        with self.lock:
            super().compensate(amount, context)


class TakeAwaiting(Take):
    """As `Take`, with an await between the look and the take."""

    async def execute(self, amount, context):
        self.stock["left"] = self.stock["left"] - amount + await asyncio.sleep(0, 0)
        self.stock["sold"][context.idempotency_key] = amount


class PutsBack(Step):
    """Its compensation puts back what it saw before, also over what another execution wrote since."""

    def __init__(self, stock: dict[str, Any]) -> None:
        self.stock = stock

    def execute(self, amount):
        before, self.stock["left"] = self.stock["left"], amount
        return before

    def compensate(self, amount, context):
        self.stock["left"] = context.result


def shop(take, left=1):
    """A function that makes a shop with one shared stock."""

    def make():
        stock = {"left": left, "sold": {}}
        return Saga("shop", [take(stock), Ship()]), lambda: stock

    return make


def interference(*arguments: Any, **settings: Any) -> str:
    """What is told of executions that interfere."""
    with pytest.raises(InterferenceError) as caught:
        check_together(*arguments, **{"most": 40, **settings})
    return str(caught.value)


def test_a_stock_that_is_sold_twice_is_found():
    """Two executions that both see the last piece both sell it; one after the other, one of them is refused."""
    told = interference(shop(Take), [1, 1])

    assert "checked-0, checked-1 succeeded, and one after the other they never do" in told
    assert "switch     checked-0 stops at test_check_together.py:" in told


def test_an_update_that_is_lost_is_found():
    """With enough for both, one of two updates is lost."""
    assert "the world is not as when only checked-0, checked-1 ran" in interference(shop(Take, 5), [1, 1])


def test_a_compensation_that_undoes_the_work_of_others_is_found():
    """No call is divided here: what the other execution did between a step and its compensation is overwritten."""
    told = interference(shop(PutsBack), [3, 4])

    assert "ended      checked-0 failed, checked-1 succeeded" in told
    assert "the world is not as when only checked-1 ran" in told
    assert "checked-1 stops at the answer of ship" in told


def test_a_coroutine_that_is_interrupted_at_its_await_is_found():
    """Another execution comes in where a coroutine awaits, also in the midst of a line."""
    assert "the world is not as when only" in interference(shop(TakeAwaiting, 5), [1, 1])


def test_steps_with_a_lock_survive():
    """A lock is waited for, and right steps are right in every interleaving."""
    report = check_together(shop(TakeLocked, 5), [1, 2], most=60)

    assert len(report.runs) == 60
    assert not report.complete
    assert "do not interfere in 60 interleavings (there are more; see most=)" in str(report)


def test_the_line_to_reproduce_reproduces():
    """The run that is named is run alone, and breaks in the same way."""
    with pytest.raises(InterferenceError) as caught:
        check_together(shop(PutsBack), [3, 4], most=40)
    name = caught.value.report.broken[0].id

    assert name in str(caught.value)
    with pytest.raises(InterferenceError) as again:
        check_together(shop(PutsBack), [3, 4], only=name)
    assert again.value.report.broken[0].problem == caught.value.report.broken[0].problem
    assert len(again.value.report.runs) == 1


@pytest.mark.parametrize(
    ("saga", "payloads", "says"),
    [
        (shop(Take), [1], "at least two payloads"),
        (shop(Take), [2, 2], "no execution succeeds alone"),
        (Saga("s", [Ship()]), [1, 1], "needs reset="),
    ],
)
def test_what_cannot_be_checked_is_refused(saga, payloads, says):
    """A check that could find nothing says so."""
    with pytest.raises(DefinitionError, match=says):
        check_together(saga, payloads, observe=dict if isinstance(saga, Saga) else None)


def test_a_saga_is_reset_between_runs():
    """A kept world is put back before each run."""
    stock: dict[str, Any] = {}

    def reset():
        stock.update(left=5, sold={})

    reset()
    report = check_together(
        Saga("shop", [TakeLocked(stock), Ship()]), [1, 1], observe=lambda: stock, reset=reset, most=20
    )

    assert len(report.runs) == 20


# Groups, signals and sleeps


class ShipAwaiting(Ship):
    """As `Ship`, as a coroutine: the saga needs `AsyncMediator`."""

    async def execute(self, amount):
        await asyncio.sleep(1.0)


def made(*parts):
    """A function that makes a saga of these parts; each is called with a new stock."""

    def make():
        stock = {"left": 5, "sold": {}}
        return Saga("shop", [part(stock) for part in parts]), lambda: stock

    return make


def pair(first, *others):
    """A group whose branches are a step, and a saga of steps."""
    return lambda stock: Parallel("both", [first(stock), Saga("deep", [each(stock) for each in others])])


PARTS = {
    "group": pair(lambda stock: Ship(name="wrap"), Take),
    "group of coroutines": pair(lambda stock: ShipAwaiting(name="wrap"), TakeAwaiting),
    "each": lambda stock: Parallel.each("all", Take(stock), over=lambda amount: [amount, amount]),
    "choice": lambda stock: Choose("way", {"here": Take(stock), "there": Ship()}, by=lambda amount: "here"),
    "step": Take,
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("last", [Ship, ShipAwaiting])
def test_a_race_between_the_branches_of_two_executions_is_found(kind, last):
    """An update is lost between steps inside branches, whichever mediator drives them."""
    told = interference(made(PARTS[kind], lambda _: last(name="last")), [1, 1])

    assert "the world is not as when only" in told
    assert "switch     checked-" in told


def test_a_race_within_one_execution_is_no_interference_of_two():
    """What the branches of one execution do to each other is not blamed on another execution."""
    told = interference(made(PARTS["each"]), [1, 1])

    assert "checked-0/all.0 stops at" in told or "checked-1/all.0 stops at" in told


def right(stock, last=Ship):
    """The parts of a saga that waits in every way, and is right."""
    parts = [pair(lambda _: last(name="wrap"), TakeLocked)(stock), Signal("paid"), Sleep("night", 8 * 3600.0)]
    inner = Saga("inner", [Signal("ok", timeout=3600.0), last(name="note")])
    return [*parts, Parallel("more", [inner, TakeLocked(stock)]), last(name="last")]


@pytest.mark.parametrize("last", [Ship, ShipAwaiting])
def test_right_sagas_that_wait_survive(last):
    """Groups, signals, of branches as well, and sleeps: whatever comes when, nothing interferes, and each one ends."""

    def make():
        stock = {"left": 9, "sold": {}}
        return Saga("shop", right(stock, last)), lambda: stock

    report = check_together(make, [1, 2], signals={"paid": True, "more.inner.ok": 1}, most=24)

    assert len(report.runs) == 24
    assert any(outcome.failed for run in report.runs for outcome in run.outcomes)
    assert any(all(outcome.succeeded for outcome in run.outcomes) for run in report.runs)


class Reserve(Step):
    """Looks before the wait for what is taken after it: right only if nothing happens meanwhile."""

    def __init__(self, stock: dict[str, Any]) -> None:
        self.stock = stock

    def execute(self, amount):
        return self.stock["left"]


class TakeReserved(TakeLocked):
    """Takes from what was there before the wait."""

    def execute(self, amount, context):
        self.stock["left"] = context.results["reserve"] - amount
        self.stock["sold"][context.idempotency_key] = amount


@pytest.mark.parametrize("wait", [Sleep("night", 8 * 3600.0), Signal("paid"), Signal("paid", timeout=60.0)])
@pytest.mark.parametrize("last", [Ship, ShipAwaiting])
def test_what_another_does_during_a_wait_is_found(wait, last):
    """While one execution sleeps or waits for its signal, another one takes what it counts on."""
    parts = (Reserve, lambda _: wait, TakeReserved, lambda _: last())
    signals = {"paid": True} if isinstance(wait, Signal) else None

    assert "the world is not as when only" in interference(made(*parts), [1, 1], signals=signals)


def test_a_signal_may_come_early():
    """Signals are sent by the search: in some schedules before their wait begins, in some after."""
    make = made(lambda _: Ship(), lambda _: Signal("paid"), TakeLocked)
    report = check_together(make, [1, 1], signals={"paid": True}, most=60)
    orders = {
        tuple(each.partition(" comes to ")[2] for each in run.switches if "the signal" in each) for run in report.runs
    }

    assert len(orders) > 1


@pytest.mark.parametrize(
    ("signals", "says"), [(None, "no execution succeeds alone"), ({"paaid": 1}, "no signal 'paaid'")]
)
def test_signals_that_are_not_given_are_told(signals, says):
    """A saga that waits for what the test does not give cannot be checked."""
    with pytest.raises(DefinitionError, match=says):
        check_together(made(Take, lambda _: Signal("paid")), [1, 1], signals=signals)


# The scheduler


def written(schedule: Schedule) -> tuple[list[str], list[tuple[int, str]]]:
    """What two functions of two switch points each write, in order, and the points that were passed."""
    scheduler, found = Scheduler(schedule), []

    def function(number):
        for at in range(2):
            scheduler.switch_point(str(at))
            found.append(f"{number}{at}")

    scheduler.run([("zero", lambda: function(0)), ("one", lambda: function(1))])
    return found, scheduler.points


def test_a_schedule_says_who_goes_on():
    """Without a switch each function runs to its end; at a switch the other one goes on."""
    assert written(Schedule(0))[0] == ["00", "01", "10", "11"]
    assert written(Schedule(1))[0] == ["10", "11", "00", "01"]
    assert written(Schedule(0, (1,)))[0] == ["00", "10", "11", "01"]
    assert written(Schedule(0, (1, 3)))[0] == ["00", "10", "01", "11"]
    assert Schedule.parse(str(Schedule(0, (1, 3)))) == Schedule(0, (1, 3))


def test_every_order_with_few_switches_is_tried():
    """All six orders of two functions with two moves each are among the schedules with at most two preemptions."""
    points: list[tuple[int, str]] = []
    orders = set()
    for schedule in schedules(lambda _: points, 2, 1000):
        order, points[:] = written(schedule)
        orders.add(tuple(order))

    assert len(orders) == 6


def test_a_run_without_end_is_ended(monkeypatch):
    """A function that waits in a loop for what never comes does not hang the check."""
    monkeypatch.setattr("fsm_mediator.testing.interleaving.ENDLESS", 50)
    scheduler = Scheduler(Schedule(0))

    def spin():
        while True:
            scheduler.switch_point("here")

    with pytest.raises(EndlessRunError):
        scheduler.run([("spins", spin), ("ends", lambda: None)])
