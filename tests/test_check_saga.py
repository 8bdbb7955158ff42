"""check_saga: real steps under every fault; steps with a bug are caught, and what is printed leads to it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.profile_sync.changes import ProfileChange, original
from examples.profile_sync.check import QUERIES
from examples.profile_sync.lifecycle import user_lifecycle
from examples.profile_sync.services import Services
from examples.profile_sync.steps import profile_steps
from fsm_mediator import (
    DefinitionError,
    Happened,
    MediatorError,
    NotHappened,
    Retry,
    Saga,
    Step,
    StepRejectedError,
    step,
)
from fsm_mediator.testing import Fault, FaultPlan, SagaBrokenError, VirtualClock, check_saga, plans
from fsm_mediator.testing.faults import faults_of
from fsm_mediator.testing.processes import in_a_child, kill
from tests.fake_services import (
    BUGS,
    ORDER,
    FakeService,
    Forgets,
    IsNotIdempotent,
    LosesTheDoubt,
    Mail,
    NeedsItsMemory,
    Put,
    RaisesWithoutExecute,
    RemembersInItsProcess,
    ReturnsNoData,
    Sends,
    TrustsTheResult,
    shop,
)

TOLD = {
    Forgets: "- 'charge': {}",
    IsNotIdempotent: "as it is when nothing goes wrong",
    NeedsItsMemory: "as it is when nothing goes wrong",
    RemembersInItsProcess: "was lost with the process that died",
    ReturnsNoData: "the compensation of step 'charge' raised of its own accord AttributeError",
    RaisesWithoutExecute: "the compensation of step 'charge' raised of its own accord KeyError",
    TrustsTheResult: "charge: every attempt takes effect, and its answer is lost",
    LosesTheDoubt: "charge: every attempt raises, though it has taken effect",
}
"""What is told of some of the bugs."""


def test_steps_that_behave_survive_every_fault():
    """Steps that are idempotent and undo what they did pass, whatever goes wrong and wherever."""
    report = check_saga(shop(), ORDER)

    assert not report.broken
    assert report.missed == ()
    assert {case.outcome.state for case in report.cases} == {"succeeded", "failed"}
    assert str(report).startswith("saga 'checkout' survives all 73 faults\n")
    assert len(report.paths) > 20


def test_crash_ends_whoever_drives_and_another_takes_it_up():
    """A crash is one: an attempt that was under way counts as crashed, and the saga is driven on by somebody else."""
    begun = [
        "charge-crashes_before_effect_once",
        "charge-crashes_after_effect_once",
        "charge-crashes_before_record_once",
    ]

    report = check_saga(shop(), ORDER, only=[*begun, "charge-crashes_after_record_once", "charge-crashes_after_effect"])

    deaths = {case.id: case.deaths for case in report.cases}
    crashed = {
        case.id: [record.step for record in case.outcome.history if "AttemptCrashedError" in str(record.error)]
        for case in report.cases
    }
    assert deaths.pop("charge-crashes_after_effect") == 3
    assert deaths == {"no_fault": 0, **dict.fromkeys([*begun, "charge-crashes_after_record_once"], 1)}
    assert [crashed[name] for name in begun] == [["charge"]] * 3
    assert crashed["charge-crashes_after_record_once"] == ["ship"]


def test_every_pair_of_faults_on_demand():
    """A second fault strikes wherever the first one leaves it a chance."""

    def make():
        reserved, charged = FakeService(), FakeService()
        steps = [Put(reserved, "reserve"), Put(charged, "charge")]
        saga = Saga("small", steps, compensation_retry=Retry(attempts=2), retry=Retry(attempts=2))
        return saga, lambda: [reserved.held, charged.held]

    report = check_saga(make, ORDER, pairs=True)

    assert not report.broken
    doubled = [case.id for case in report.cases if len(case.plan.faults) == 2]
    assert len(doubled) == len(report.cases) - 1 - len(plans(report.saga))
    assert "charge-is_rejected+undo_reserve-crashes_after_effect_once" in doubled
    assert "charge-is_rejected+undo_charge-crashes_after_effect_once" not in doubled  # it is not compensated then


@pytest.mark.filterwarnings("ignore::fsm_mediator.DefinitionWarning")  # of one of them, that its result has no type
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_step_with_a_bug_is_caught(bug):
    """A step that forgets to undo, undoes twice, is not idempotent, trips over what never was, loses its doubt ..."""
    settings = BUGS[bug]

    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(bug, careful=bool(settings)), ORDER, **settings)

    assert TOLD.get(bug, "the world is not as it was before") in str(caught.value)
    assert 'reproduce  check_saga(..., only="' in str(caught.value)
    assert "timeline\n    0.000 s  the saga begins" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_line_to_reproduce_reproduces():
    """The case that is named by the line to reproduce it breaks in the same way, alone."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(RaisesWithoutExecute), ORDER)
    first = caught.value.report.broken[0]

    with pytest.raises(SagaBrokenError) as again:
        check_saga(shop(RaisesWithoutExecute), ORDER, only=first.id)

    assert str(again.value.report.broken[0]) == str(first)
    assert len(again.value.report.cases) == 2
    assert check_saga(shop(RaisesWithoutExecute), ORDER, only="checkout-charge-is_rejected").cases[1].outcome.failed


def test_careful_steps_survive_strictly():
    """Steps that say of whatever they raise that it leaves them in doubt survive an exception after the effect."""
    assert check_saga(shop(careful=True), ORDER, strict=True).cases


class PayError(Exception):
    """The one error of a client, for all that can go wrong."""


class RightCharge(Put):
    """A right step: it names the error of its client."""

    in_doubt_on = (PayError, ConnectionError, TimeoutError)


def test_strict_is_fair_to_steps_that_name_the_errors_of_their_service():
    """A step that says which errors leave it in doubt is not made to raise one that its service never raises."""
    assert not check_saga(shop(RightCharge, careful=False), ORDER, only="charge-answer_lost_after_effect").broken
    names = {fault.id for fault in faults_of(shop(RightCharge)()[0], strict=True)}

    assert "charge-raises_after_effect" not in names
    assert "reserve-raises_after_effect" in names


def test_strict_raises_the_errors_that_the_user_names():
    """The errors of a service are raised after the effect, by class or by object, where the user says so."""
    named: dict[str, list[Any]] = {"charge": [PayError, OSError(5, "input or output")]}
    assert not check_saga(shop(RightCharge), ORDER, strict={"charge": [PayError]}).broken

    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(RightCharge), ORDER, strict=named)

    [broken] = caught.value.report.broken
    assert broken.id == "charge-raises_OSError_after_effect"
    assert "fault      charge: every attempt raises OSError, though it has taken effect (3 attempts)" in str(broken)
    with pytest.raises(SagaBrokenError):
        check_saga(shop(RightCharge), ORDER, strict=named, only=broken.id)
    with pytest.raises(SagaBrokenError):
        check_saga(shop(), ORDER, strict=[PayError])


@pytest.mark.parametrize(
    ("strict", "says"), [({"pay": [ValueError]}, "no step 'pay'"), ([KeyboardInterrupt], "names exceptions")]
)
def test_strict_refuses_what_is_no_error_of_a_step(strict, says):
    """A slip in the names of errors or steps would try nothing."""
    with pytest.raises(DefinitionError, match=says):
        check_saga(shop(), ORDER, strict=strict)


def test_the_report_names_the_faults_that_struck():
    """Of several faults those that struck come first, with their attempts; one that was never met is named as such."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(TrustsTheResult), ORDER, only="charge-answer_lost_after_effect+ship-is_rejected")

    told = str(caught.value)
    assert "fault      charge: every attempt takes effect, and its answer is lost (3 attempts)" in told
    assert "fault      none: the run never came to this: ship: every attempt is refused for good" in told


def test_a_fault_that_strikes_once_is_told_as_such_whatever_its_name():
    """A driver dies once: a name without `_once` means the same fault."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(RemembersInItsProcess), ORDER, only="charge-crashes_before_record")

    assert "charge: the first attempt has answered, and its driver dies before" in str(caught.value)


def test_saga_without_a_way_to_reset_is_undone_after_each_success():
    """A saga that can be undone needs no reset: the kit undoes what succeeded, and sees that it is gone."""
    saga, observe = shop()()

    report = check_saga(saga, ORDER, observe=lambda: {name: len(held) for name, held in observe().items()})

    assert not report.broken
    assert observe() == {"reserve": {}, "charge": {}, "ship": {}}


def test_reset_puts_the_world_back():
    """A world that is kept can be reset, and is, before each run but the first."""
    shelf = FakeService()
    resets = []

    def reset():
        resets.append(1)
        shelf.held.clear()

    report = check_saga(Saga("mail", [Mail(shelf)]), ORDER, observe=lambda: shelf.held, reset=reset)

    assert len(resets) == len(report.cases) - 1


def test_world_that_cannot_be_put_back_is_told_at_once():
    """A saga with a pivot cannot be undone after it has succeeded: the error says what to pass instead."""
    shelf = FakeService()

    with pytest.raises(DefinitionError, match="pass reset="):
        check_saga(Saga("mail", [Mail(shelf)]), ORDER, observe=lambda: shelf.held)


def test_what_is_left_over_is_excused_by_step():
    """What a step without compensation did is no fault of the saga: it is among the leftovers."""

    class Notify(Step):
        def __init__(self, sent):
            self.sent = sent

        def execute(self, order, context):
            self.sent[context.idempotency_key] = 1

    def make():
        sent: dict[str, int] = {}
        shelf = FakeService()
        return Saga("told", [Notify(sent), Put(shelf)]), lambda: {"notify": sent, "put": shelf.held}

    def unexcused():
        saga, observe = make()
        return saga, lambda: list(observe().values())

    assert not check_saga(make, ORDER).broken
    with pytest.raises(SagaBrokenError, match="what notify did cannot be undone: leave it out"):
        check_saga(unexcused, ORDER)


def test_observer_that_sees_nothing_is_refused():
    """A look at the world that never changes would let every saga pass, and so is refused."""
    saga, _ = shop()()

    with pytest.raises(DefinitionError, match="returns the same value before and after"):
        check_saga(saga, ORDER, observe=lambda: 1)
    with pytest.raises(DefinitionError, match="does not equal its own copy"):
        check_saga(saga, ORDER, observe=lambda: [object()])


def test_the_same_object_seen_twice_is_not_taken_for_no_change():
    """What is observed is copied at once: a dictionary that the service goes on changing is no excuse."""
    with pytest.raises(SagaBrokenError):
        check_saga(shop(Forgets), ORDER, only="ship-is_rejected")


def test_payload_that_fails_by_itself_is_refused():
    """A check begins with a run that succeeds; one that cannot is a mistake in the check, not in the saga."""
    with pytest.raises(DefinitionError, match="does not succeed with this payload even without faults") as error:
        check_saga(shop(), {"amout": 7})

    assert isinstance(error.value.__cause__, KeyError)


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no_observe": (lambda: check_saga(shop()()[0], ORDER), "pass observe=, a function"),
    "observe_twice": (lambda: check_saga(shop(), ORDER, observe=dict), "or, alone, a function that returns"),
    "no_saga": (lambda: check_saga(lambda: 3, ORDER), "must return a pair"),
    "no_fault": (lambda: check_saga(shop(), ORDER, only="charge-explodes"), "there is no fault 'explodes'"),
    "no_step": (lambda: check_saga(shop(), ORDER, only="chrage-is_rejected"), "its parts are charge, reserve, ship"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_call_says_what_is_wanted(mistake):
    """Whoever calls it wrongly is told what it takes."""
    call, told = MISTAKES[mistake]

    with pytest.raises(DefinitionError, match=told):
        call()


class ProbedPut(Put):
    """A step that can tell whether it took effect."""

    timeout = 5.0

    def probe(self, order, context):
        return Happened({"shelf": "put"}) if context.execute_key in self.shelf.held else NotHappened()


def test_probes_time_outs_pivots_and_deadlines_survive():
    """Faults strike probes too; steps with time-outs, a pivot and what follows it, and a deadline, are all covered."""

    def make():
        shelves = [FakeService() for _ in range(4)]
        steps: list[Any] = [
            ProbedPut(shelves[0], "asked"),
            Put(shelves[1], "quick").with_(timeout=1.0, grace=2.0),
            Mail(shelves[2]),
            Sends(shelves[3]),
        ]
        return Saga("long", steps, deadline=60.0), lambda: [shelf.held for shelf in shelves]

    report = check_saga(make, ORDER)

    assert not report.broken
    assert report.missed == ()
    states = {record.target.partition(".")[0] for case in report.cases for record in case.outcome.history}
    assert states >= {"probing", "stuck", "stuck_executing", "compensating", "retrying_compensation"}
    assert "quick-overdue_meanwhile_once" in {case.id for case in report.cases}


def test_coroutines_survive_on_the_async_mediator():
    """Sagas of coroutines are driven by `AsyncMediator`; observe may be a coroutine function as well."""

    class Slow(Put):
        async def execute(self, order, context):
            await asyncio.sleep(0)
            return super().execute(order, context)

        async def compensate(self, order, context):
            await asyncio.sleep(0)
            super().compensate(order, context)

    class Forgetful(Slow):
        async def compensate(self, order, context):
            await asyncio.sleep(0)

    def makes(kind):
        async def make():
            shelf, other = FakeService(), FakeService()

            async def observe():
                await asyncio.sleep(0)
                return shelf.held, other.held

            return Saga("slow", [kind(shelf, "slow").with_(timeout=2.0), Put(other)]), observe

        return make

    assert not check_saga(makes(Slow), ORDER).broken
    with pytest.raises(SagaBrokenError):
        check_saga(makes(Forgetful), ORDER)


def test_check_within_a_running_loop_is_refused():
    """A check of coroutines brings its own event loop, and says so where one is running."""

    class Slow(Put):
        async def execute(self, order, context):
            return super().execute(order, context)

    async def main():
        check_saga(shop(Slow), ORDER)

    with pytest.raises(DefinitionError, match="call the check from plain code"):
        asyncio.run(main())


def test_nested_steps_are_named_by_their_path():
    """Faults of a nested saga's steps are named by path."""

    def make():
        shelf = FakeService()
        return Saga("outer", [Saga("inner", [Put(shelf)]), Put(shelf, "last")]), lambda: shelf.held

    ids = {case.id for case in check_saga(make, ORDER).cases}

    assert {"inner.put-is_rejected", "undo_inner.put-crashes_after_effect_once"} <= ids


def test_names_tell_the_fault_in_words():
    """A plan's name is what a person types, its text what a person reads."""
    plan = FaultPlan((Fault("charge", "times_out_after_effect", once=True),))

    assert plan.id == "charge-times_out_after_effect_once"
    assert str(plan) == "charge: the first attempt takes effect, and gives no answer in time"
    assert FaultPlan().id == "no_fault"


def test_example_survives_every_fault(tmp_path: Path):
    """The steps of the example's four real services, each with its database, survive every fault."""
    services = Services.at(tmp_path)
    services.enroll([original(1)])
    saga = user_lifecycle(profile_steps(services), ProfileChange)
    change = ProfileChange(user_id=1, email="ada@example.org", plan="pro", seats=3, display_name="Ada")
    before = tables_of(tmp_path)

    report = check_saga(saga, change, observe=lambda: tables_of(tmp_path))

    assert not report.broken
    assert report.missed == ()
    assert tables_of(tmp_path) == before
    services.close()


KILLS = [f"billing-killed_{where}_once" for where in ("before_effect", "after_effect", "before_record", "after_record")]


@pytest.mark.parametrize("kills", [KILLS, pytest.param("all", marks=pytest.mark.torture)], ids=["some", "all"])
def test_example_survives_that_its_process_is_killed(tmp_path: Path, kills):
    """A real process is killed in the midst of the example's saga; another one takes it up from the journal."""
    services = Services.at(tmp_path)
    services.enroll([original(1)])
    saga = user_lifecycle(profile_steps(services), ProfileChange)
    change = ProfileChange(user_id=1, email="ada@example.org", plan="pro", seats=3, display_name="Ada")

    def observe():
        services.close()  # nothing of SQLite may be held open across a fork
        return tables_of(tmp_path)

    report = check_saga(saga, change, observe=observe, kill=True, only=None if kills == "all" else kills)

    assert not report.broken
    assert report.missed == ()
    killed = [case for case in report.cases if "-killed_" in case.id]
    assert len(killed) == (32 if kills == "all" else 4)
    assert {case.deaths for case in killed} == {1}


def test_kill_of_a_world_in_memory_is_refused():
    """What lives in the memory of the process that is killed cannot be looked at afterwards."""
    with pytest.raises(DefinitionError, match="needs a world that outlives a process"):
        check_saga(shop(), ORDER, kill=True, only="charge-killed_after_effect_once")


def test_child_that_ends_by_itself_is_told(capfd):
    """A child process that fails instead of being killed is an error, which says where to look."""

    def work():
        raise ValueError("broken")

    with pytest.raises(MediatorError, match="ended by itself with status"):
        in_a_child(work)

    assert "ValueError: broken" in capfd.readouterr().err
    assert in_a_child(kill) is True
    assert in_a_child(lambda: None) is False


def tables_of(folder: Path) -> dict[str, Any]:
    """What each service keeps, read from its tables as the example's own check reads them."""
    found: dict[str, Any] = {}
    for service, query in QUERIES.items():
        path = folder / f"{service}.db"
        if not path.exists():
            found[service] = []
            continue
        with contextlib.closing(sqlite3.connect(path)) as database:
            found[service] = database.execute(query).fetchall()
    return found


def test_clock_stands_still_but_for_waiting():
    """Only waiting moves the clock, and it moves it at once."""
    clock = VirtualClock(10.0)

    clock.sleep(3600.0)
    asyncio.run(clock.sleep_async(0.5))
    clock.advance(1.0)

    assert clock() == clock.now == 3611.5
    assert clock.slept == [3600.0, 0.5]


def test_drivers_overtaken_on_purpose_are_not_heard_of(caplog):
    """A check that is passed writes no warnings into the log: whoever sees one would look for trouble that is none."""

    def made():
        shelf = FakeService()
        return Saga("s", [Put(shelf)]), lambda: dict(shelf.held)

    check_saga(made, ORDER)

    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_fault_that_the_retry_should_absorb_must_end_as_without_faults():
    """A step that refuses its own repetition is compensated, and never succeeds after a crash: it is reported."""

    def world():
        accounts: dict[str, str] = {}

        @step
        def open_account(order):
            if order["name"] in accounts:
                raise StepRejectedError("the name is taken")
            accounts[order["name"]] = "open"

        @open_account.compensation
        def close_account(order):
            accounts.pop(order["name"], None)

        return Saga("s", [open_account]), lambda: dict(accounts)

    with pytest.raises(SagaBrokenError, match=r"within the Retry of 'open_account'.* safe to repeat") as broken:
        check_saga(world, {"name": "Ada"})

    absorbed = {case.id for case in broken.value.report.broken}
    assert absorbed == {
        "open_account-answer_lost_after_effect_once",
        "open_account-times_out_after_effect_once",
        "open_account-crashes_after_effect_once",
        "open_account-crashes_before_record_once",
    }


def test_fault_beyond_the_retry_may_compensate():
    """One attempt, a step that is not repeatable, an error that `Retry(on=...)` does not cover: failing is right."""

    def world():
        done: dict[str, int] = {}

        def made(name, **settings):
            @step(name=name, **settings)
            def execute(order, context):
                done[context.idempotency_key] = 1

            @execute.compensation
            def undo(order, context):
                done.pop(context.execute_key, None)

            return execute

        once = made("once", retry=Retry(attempts=1))
        picky = made("picky", retry=Retry(on=KeyError))
        fragile = made("fragile", repeatable=False)
        return Saga("s", [once, picky, fragile]), lambda: dict(done)

    assert not check_saga(world, {}).broken
