"""Groups and choices: branches that run at the same time, and one that is chosen; on every mediator and journal."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    DefinitionError,
    Mediator,
    Parallel,
    RefusedError,
    Saga,
    SagaCancelledError,
    SagaFailedError,
    SagaStuckError,
    SagaWaitingError,
    Signal,
    Sleep,
)
from tests.drivers import MORTAL, ONCE, Clock, Died, World, eventually


def test_branches_run_at_once_and_their_results_are_named(drive, journal):
    """All branches are under way at the same time; the next step sees what each returned, by its name."""
    world = World()
    seen: list[Any] = []
    saga = Saga(
        "order",
        [
            world.step("pay"),
            Parallel(
                "fulfil",
                [
                    world.step("pack", world.gate("pack")),
                    Saga("label", [world.step("weigh", world.gate("weigh")), world.step("stick")]),
                ],
            ),
            world.step("tell", lambda payload, context: seen.append(dict(context.results))),
        ],
    )
    mediator = drive(saga, journal=journal)
    mediator.start("order", "payload", saga_id="o-1")
    world.begun("pack")
    world.begun("weigh")  # while pack has not returned
    world.go("pack")
    world.go("weigh")

    assert mediator.wait("o-1").succeeded
    fulfilled = {"pack": "through pack", "label": {"weigh": "through weigh", "stick": "stick done"}}
    assert seen == [{"pay": "pay done", "fulfil": fulfilled}]
    assert set(world.keys) >= {"o-1/fulfil.pack:pack:execute", "o-1/fulfil.label:weigh:execute"}


def test_a_group_ends_without_a_word(drive, journal, caplog):
    """Nobody who joins a group, and is told of its branches while it writes its end, loses a lease that it gave up."""
    world = World()
    saga = Saga("quiet", [Parallel.each("n", world.step("one", lambda item, context: item), over=range)])
    mediator = drive(saga, journal=journal)
    for size in range(12):
        assert mediator.run("quiet", size, saga_id=f"o-{size}").succeeded
    assert "'o-" not in caplog.text


def test_what_a_group_comes_to_is_told_after_what_its_branches_did(drive, journal):
    """In a history of the whole, the parent's word on its branches comes after theirs, however quick they were."""
    world = World()
    saga = Saga("quick", [Parallel("g", [world.step("a"), world.step("b")]), world.step("z")])
    mediator = drive(saga, journal=journal)
    assert mediator.run("quick", 1, saga_id="o-1").succeeded
    joined = next(record for record in journal.records("o-1") if record.source == "waiting.g")
    assert all(journal.records(f"o-1/g.{name}")[-1].at <= joined.at for name in "ab")


def test_a_step_as_a_branch_sees_the_results_before_the_group(drive, journal):
    """A step sees the same whether it stands in a row or in a group; a saga as a branch sees only its own."""
    world = World()
    seen: dict[str, Any] = {}

    def looks(payload: Any, context: Any) -> str:
        seen[context.step] = dict(context.results)
        return "looked"

    inner = Saga("inner", [world.step("first"), world.step("second", looks)])
    saga = Saga("seeing", [world.step("pay"), Parallel("g", [world.step("single", looks), inner])])
    assert drive(saga, journal=journal).run("seeing", 1).succeeded

    assert seen == {"single": {"pay": "pay done"}, "second": {"first": "first done"}}


def test_a_branch_that_fails_has_the_others_undone(drive, journal):
    """One branch fails: the others are seen to their end and undone, then what came before, newest first."""
    world = World()
    saga = Saga(
        "order",
        [
            world.step("pay"),
            Parallel(
                "g",
                [world.step("good"), world.step("bad", ValueError("no"), retry=ONCE), world.step("kept", undo=None)],
                on_failure="settle",
            ),
        ],
    )
    with pytest.raises(SagaFailedError, match=r"succeeded: good, kept; failed: bad") as failed:
        drive(saga, journal=journal).run("order", 1, saga_id="o-1")

    assert world.calls[-2:] == ["undo good", "undo pay"]
    assert failed.value.outcome.leftovers == ("g.kept.kept",)
    assert "ValueError: no" in str(failed.value) or "no" in str(failed.value.__cause__)


def test_several_branches_that_fail_are_an_exception_group(drive):
    """Who caused it is not a matter of chance: all errors are there."""
    world = World()
    fails = [world.step(name, ValueError(name), retry=ONCE) for name in ("a", "b")]

    with pytest.raises(SagaFailedError) as failed:
        drive(Saga("both", [Parallel("g", fails, on_failure="settle")])).run("both", 1)

    cause = failed.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert sorted(str(error) for error in cause.exceptions) == ["a", "b"]


def stuck_in_a_branch(world: World, undo: Any) -> Saga:
    """A saga one branch of which fails once the other is under way, which cannot be undone at first."""

    def no(*_: Any) -> None:
        eventually(lambda: "good" in world.calls)  # else it is cancelled before it begins
        raise ValueError("no")

    return Saga(
        "stuck",
        [
            world.step("pay"),
            Parallel(
                "g",
                [
                    world.step("good", undo=[RuntimeError("jammed"), undo], compensation_retry=ONCE),
                    world.step("bad", no, retry=ONCE),
                ],
            ),
        ],
    )


@pytest.mark.parametrize("whom", ["o-1", "o-1/g.good"])
def test_retry_of_either_goes_on(drive, journal, whom):
    """A branch that is stuck makes the whole stuck, visibly; retrying the branch or the whole mends both."""
    world = World()
    mediator = drive(stuck_in_a_branch(world, "undone"), journal=journal)
    with pytest.raises(SagaStuckError, match=r"stuck: good; failed: bad"):
        mediator.run("stuck", 1, saga_id="o-1")
    assert {entry.saga_id for entry in mediator.executions(state="stuck")} == {"o-1", "o-1/g.good"}

    mediator.retry(whom)

    eventually(lambda: journal.find("o-1").state == "failed")
    assert journal.find("o-1/g.good").state == "failed"
    assert world.calls.count("undo good") == 2
    assert world.calls[-1] == "undo pay"


@pytest.mark.parametrize("whom", ["o-1", "o-1/g.good"])
def test_resolve_of_either_goes_on(drive, journal, whom):
    """A person who has undone it by hand says so of the branch, or of the whole group."""
    world = World()
    mediator = drive(stuck_in_a_branch(world, RuntimeError("jammed")), journal=journal)
    mediator.run("stuck", 1, saga_id="o-1", check=False)

    mediator.resolve(whom, reason="undone by hand", done=False)

    eventually(lambda: journal.find("o-1").state == "failed")
    assert world.calls[-1] == "undo pay"


def test_the_whole_is_undone_with_its_branches(drive, journal):
    """Days later a person undoes a finished saga: its branches are compensated too, and so is what was chosen."""
    world = World()
    saga = Saga(
        "whole",
        [
            world.step("a"),
            Parallel("g", [world.step("b"), Saga("in", [world.step("c"), world.step("d")])]),
            Choose("way", {"air": world.step("fly"), "sea": world.step("sail")}, by=lambda payload: payload),
        ],
    )
    mediator = drive(saga, journal=journal)
    assert mediator.run("whole", "sea", saga_id="o-1").results["way"] == {"sea": "sail done"}
    world.calls.clear()

    with pytest.raises(RefusedError, match=r"is a branch of 'o-1', and cannot be undone by itself"):
        mediator.undo("o-1/g.b")
    outcome = mediator.undo("o-1", "sent back")

    assert outcome.failed
    assert world.calls[0] == "undo sail"
    assert world.calls[-1] == "undo a"
    assert sorted(world.calls) == ["undo a", "undo b", "undo c", "undo d", "undo sail"]
    assert world.calls.index("undo d") < world.calls.index("undo c")


def test_each_has_a_branch_for_every_item(drive, journal):
    """Over data: one branch for every item, in order, equal ones too; none is fine."""
    world = World()
    took: list[Any] = []
    notify = world.step("notify", lambda item, context: (took.append(item), item * 2)[1])  # type: ignore[func-returns-value]
    saga = Saga(
        "all", [world.step("a"), Parallel.each("n", notify, over=lambda payload, context: payload), world.step("z")]
    )
    mediator = drive(saga, journal=journal)

    assert mediator.run("all", [3, 1, 3], saga_id="three").results["n"] == [6, 2, 6]
    assert sorted(took) == [1, 3, 3]
    assert mediator.run("all", [], saga_id="none").results["n"] == []
    assert mediator.undo("none").failed


def test_a_branch_whose_turn_has_not_come_does_not_begin_for_a_signal(drive, journal):
    """The signal is kept until the branch comes to it; a daemon that finds it does not begin the branch either."""
    world = World()
    second = Saga("second", [world.step("b"), Signal("ok"), world.step("c")])
    saga = Saga("s", [Parallel("g", [world.step("a", world.gate("gate")), second], at_most=1)])
    mediator = drive(saga, journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun("gate")

    mediator.signal("o-1", "g.second.ok", "early")
    eventually(lambda: journal.claimable(time.time(), 9) == [] and journal.find("o-1/g.second").driver is None)
    entry = journal.find("o-1/g.second")
    assert (entry.state, entry.wake_at, entry.mail) == ("pending", math.inf, 1)
    assert mediator.recover() == []
    assert world.calls == ["a"]

    world.go("gate")
    outcome = mediator.wait("o-1")
    assert world.calls == ["a", "b", "c"]
    assert outcome.results["g"]["second"]["ok"] == "early"


def test_a_branch_whose_turn_has_not_come_is_cancelled_with_the_whole(drive, journal):
    """It need not begin to be told; a signal that came before changes nothing about that."""
    world = World()
    second = Saga("second", [world.step("b"), Signal("ok")])
    saga = Saga("s", [Parallel("g", [world.step("a", world.gate("gate")), second], at_most=1)])
    mediator = drive(saga, journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun("gate")
    mediator.signal("o-1", "g.second.ok", "early")
    mediator.cancel("o-1")
    eventually(lambda: journal.find("o-1/g.second").state == "failed")
    world.go("gate")
    assert mediator.wait("o-1", check=False).failed
    assert world.calls == ["a", "undo a"]


def test_at_most_so_many_go_on_at_a_time(drive, journal):
    """A limit is a limit: never more branches at a time than it says, and all get their turn."""
    world = World()
    going, most = [0], [0]

    def goes(item: Any, context: Any) -> Any:
        going[0] += 1
        most[0] = max(most[0], going[0])
        going[0] -= 1
        return item

    saga = Saga("few", [Parallel.each("n", world.step("one", goes), over=range, at_most=2)])
    outcome = drive(saga, journal=journal).run("few", 9, saga_id="o-1")

    assert outcome.results["n"] == list(range(9))
    assert most[0] <= 2
    assert [journal.find(f"o-1/n.{n}").acceptance.successor for n in (0, 6, 7)] == ["o-1/n.2", "o-1/n.8", None]


def test_a_thousand_branches(drive):
    """A thousand items are a thousand branches."""
    world = World()
    saga = Saga("many", [Parallel.each("n", world.step("one", lambda item, context: item), over=range)])
    assert drive(saga).run("many", 1000).results["n"] == list(range(1000))


def test_groups_in_groups_do_not_block_a_pool_of_one(drive, journal):
    """Who waits for branches holds no thread: with one worker, groups three deep still end."""
    world = World()
    deep = Parallel(
        "outer", [Parallel("middle", [Parallel("inner", [world.step("a"), world.step("b")]), world.step("c")])]
    )
    mediator = drive(Saga("deep", [deep]), journal=journal, max_workers=1)
    mediator.start("deep", 1, saga_id="o-1")

    outcome = mediator.wait("o-1")
    assert outcome.results == {
        "outer": {"middle": {"inner": {"a": "a done", "b": "b done"}, "c": "c done"}},
    }


def test_cancel_reaches_the_branches_and_waits_for_them(drive, journal):
    """A cancel is told to the branches; an attempt under way is waited for; then all of it is undone."""
    world = World()
    waiting = Saga("waiting", [world.step("b"), Signal("never")])
    saga = Saga("cancelled", [world.step("a"), Parallel("g", [waiting, world.step("slow", world.gate())])])
    mediator = drive(saga, journal=journal)
    mediator.start("cancelled", 1, saga_id="o-1")
    world.begun()
    eventually(lambda: journal.find("o-1/g.waiting").state == "waiting.never")

    mediator.cancel("o-1", "changed my mind")
    eventually(lambda: journal.find("o-1/g.waiting").state == "failed")
    assert journal.find("o-1").state == "waiting.g"
    world.go()

    outcome = mediator.wait("o-1", check=False)
    assert outcome.failed
    assert isinstance(outcome.error, SagaCancelledError)
    assert str(outcome.error) == "changed my mind"
    assert world.calls[-1] == "undo a"
    assert {"undo b", "undo slow"} <= set(world.calls)


def test_deadline_ends_the_branches(drive, journal):
    """The deadline of the whole is the deadline of its branches."""
    world, clock = World(), Clock()
    saga = Saga(
        "late", [world.step("a"), Parallel("g", [Saga("w", [world.step("b"), Signal("never")]), world.step("c")])]
    )
    mediator = drive(saga, journal=journal, clock=clock)
    assert mediator.run("late", 1, saga_id="o-1", deadline=60, check=False).state == "waiting.g"
    clock.now += 61

    mediator.recover()

    eventually(lambda: journal.find("o-1").state == "failed")
    outcome = mediator.outcome("o-1")
    assert "deadline" in str(outcome.error)
    assert sorted(world.calls) == ["a", "b", "c", "undo a", "undo b", "undo c"]


def test_run_says_that_a_branch_waits_for_a_signal(drive, journal):
    """A saga whose branches all wait for people is parked, and says so; the signal is addressed through the group."""
    world = World()
    saga = Saga("asks", [Parallel("g", [Saga("ask", [Signal("yes")]), Signal("also"), world.step("b")])])
    mediator = drive(saga, journal=journal)
    with pytest.raises(SagaWaitingError, match=r"parked in 'waiting\.g'"):
        mediator.run("asks", 1, saga_id="o-1")

    mediator.signal("o-1", "g.ask.yes", "aye")
    mediator.signal("o-1", "g.also", "me too")

    assert mediator.wait("o-1").results["g"] == {"ask": {"yes": "aye"}, "also": "me too", "b": "b done"}


def test_run_sits_through_a_sleep_in_a_branch(drive):
    """A branch that only sleeps goes on by itself, and so does the run that waits for it."""
    world, clock = World(), Clock()
    saga = Saga("naps", [Parallel("g", [Saga("w", [Sleep("nap", 60), world.step("b")]), world.step("c")])])
    assert drive(saga, clock=clock, sleep=clock.sleep).run("naps", 1).succeeded
    assert clock.slept == [60.0]


def test_after_the_pivot_branches_only_go_forward(drive, journal):
    """After the point of no return a branch is tried until a person says otherwise; the whole is stuck with it."""
    world = World()
    saga = Saga(
        "onward",
        [
            world.step("pay", undo=None, pivot=True),
            Parallel(
                "g", [world.step("b", undo=None), world.step("c", ValueError("no"), "mended", undo=None, retry=ONCE)]
            ),
        ],
    )
    mediator = drive(saga, journal=journal)
    outcome = mediator.run("onward", 1, saga_id="o-1", check=False)
    assert (outcome.state, journal.find("o-1/g.c").state) == ("stuck.g", "stuck.c")
    with pytest.raises(RefusedError, match=r"past its pivot|is stuck"):
        mediator.cancel("o-1/g.c")

    outcome = mediator.retry("o-1")

    assert outcome.succeeded
    assert outcome.results["g"] == {"b": "b done", "c": "mended"}
    assert world.calls.count("b") == 1


def test_a_group_is_settled_as_done_with_its_results(drive, journal):
    """Who settles a whole group says what its branches would have returned; the steps after it see that."""
    world = World()
    c = world.step("c", ValueError("no"), undo=None, retry=ONCE)
    saga = Saga("settled", [world.step("pay", undo=None, pivot=True), Parallel("g", [world.step("b", undo=None), c])])
    mediator = drive(saga, journal=journal)
    assert mediator.run("settled", 1, saga_id="o-1", check=False).state == "stuck.g"

    with pytest.raises(RefusedError, match="as the result, pass what its branches would have returned, a dict"):
        mediator.resolve("o-1", reason="by hand", done=True)
    outcome = mediator.resolve("o-1", reason="by hand", done=True, result={"b": "b done", "c": "by hand"})

    assert outcome.succeeded
    assert outcome.results["g"]["c"] == "by hand"

    mediator.close()
    assert journal.prune(1e12) == 3  # the branch that is stuck for ever as well


def test_a_stuck_branch_is_not_pruned_while_the_whole_waits_for_it(drive, journal):
    """Somebody has to see to it, however old it is."""
    world = World()
    saga = Saga(
        "s", [world.step("pay", undo=None, pivot=True), Parallel("g", [world.step("c", ValueError("no"), undo=None)])]
    )
    mediator = drive(saga, journal=journal)
    assert mediator.run("s", 1, saga_id="o-1", check=False).state == "stuck.g"
    mediator.close()
    assert journal.prune(1e12) == 0


def test_what_a_choice_cannot_make_out_compensates(drive, journal):
    """A function that names no branch, or raises, fails its part with its own name; nothing hangs."""
    world = World()
    saga = Saga("choosy", [world.step("a"), Choose("way", {"air": world.step("fly")}, by=lambda payload: payload)])
    mediator = drive(saga, journal=journal)

    outcome = mediator.run("choosy", "rail", check=False)

    assert outcome.failed
    assert "chose 'rail' for 'way'; there are air" in str(outcome.error)
    assert world.calls == ["a", "undo a"]


def test_items_that_cannot_be_journaled_compensate(drive, journal):
    """An item that no journal can hold fails the group before any branch is there."""
    world = World()
    saga = Saga("odd", [world.step("a"), Parallel.each("n", world.step("b"), over=lambda payload: [object()])])
    outcome = drive(saga, journal=journal).run("odd", 1, check=False)
    if journal.encodes:
        assert outcome.failed
        assert "cannot be journaled" in str(outcome.error)
        assert world.calls == ["a", "undo a"]
    else:
        assert outcome.succeeded


@pytest.mark.parametrize("nonsense", ["ada", b"bob", None, 5])
def test_group_over_no_items_but_nonsense_compensates(drive, journal, nonsense):
    """A single address in place of a list is no group over its letters: the group fails, and says by which function."""
    world = World()

    def addresses(payload):
        return nonsense

    saga = Saga("odd", [world.step("a"), Parallel.each("n", world.step("b"), over=addresses)])

    outcome = drive(saga, journal=journal).run("odd", 1, check=False)

    assert outcome.failed
    assert f"addresses returned {nonsense!r} as items of 'n'; it must return a list of them" in str(outcome.error)
    assert world.calls == ["a", "undo a"]


def test_a_crash_takes_up_branches_and_parent_where_they_were(drive, journal):
    """Whoever recovers finds the branches, drives each on, and the whole ends as if nothing had happened."""
    world = World()
    dies = Saga("dies", [world.step("b"), world.step("c", Died(), "c done")])
    saga = Saga("crashed", [world.step("a"), Parallel("g", [dies, world.step("d")]), world.step("z")])
    first = Mediator(saga, journal=journal, close_grace=0.0, **MORTAL)
    first.start("crashed", 1, saga_id="o-1")
    eventually(lambda: world.calls.count("c") and journal.find("o-1/g.d").state == "succeeded")
    eventually(lambda: journal.find("o-1/g.dies").driver is None)
    first.close()
    eventually(lambda: journal.find("o-1").driver is None)  # it may have been looking at its branches just then

    outcomes = drive(saga, journal=journal).recover()

    assert {outcome.saga_id for outcome in outcomes} >= {"o-1/g.dies"}
    eventually(lambda: journal.find("o-1").state == "succeeded")
    assert world.calls.count("a") == world.calls.count("b") == world.calls.count("d") == world.calls.count("z") == 1


def test_who_is_closed_before_the_branches_are_told_to_undo_leaves_nobody_behind(drive, journal):
    """A process that ends in the midst of a group's compensation leaves it so that whoever recovers tells the rest."""
    world = World()
    branches = [world.step("b"), world.step("c", ValueError("no"), retry=ONCE)]
    saga = Saga("left", [world.step("a"), Parallel("g", branches, on_failure="settle")])

    def closes(record: Any) -> None:
        if record.target == "compensating.g":
            if drive.is_async:
                asyncio.get_running_loop().create_task(mediator.inner.close(0.0))
            else:
                mediator.close(0.0)

    mediator = drive(saga, journal=journal, observers=[closes])
    mediator.start("left", 1, saga_id="o-1")
    eventually(lambda: journal.find("o-1").state == "compensating.g" and journal.find("o-1").driver is None)

    drive(saga, journal=journal).recover()

    eventually(lambda: journal.find("o-1").state == "failed")
    assert world.calls[-2:] == ["undo b", "undo a"]


def test_recover_waits_for_those_whose_branches_it_takes_up(drive, journal):
    """When recover returns, what its branches have set in motion is at rest as well, not cut off half-way."""
    world, clock = World(), Clock()
    saga = Saga("along", [world.step("a"), Parallel("g", [Signal("s", timeout=60), world.step("b")]), world.step("c")])
    first = drive(saga, journal=journal, clock=clock)
    first.run("along", 1, saga_id="o-1", check=False)
    first.close()
    clock.now += 61

    second = drive(saga, journal=journal, clock=clock)
    outcomes = second.recover()

    assert {outcome.saga_id: outcome.state for outcome in outcomes} == {"o-1/g.s": "failed", "o-1": "failed"}
    assert world.calls[-2:] == ["undo b", "undo a"]


def test_old_branches_are_pruned_with_their_family(drive, journal):
    """What has ended goes together."""
    world, clock = World(), Clock()
    mediator = drive(Saga("s", [Parallel("g", [world.step("a"), world.step("b")])]), journal=journal, clock=clock)
    mediator.run("s", 1, saga_id="o-1")
    mediator.close()
    assert journal.prune(clock.now + 1) == 3
    assert list(journal.entries()) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w: Parallel("g", []), "has no branches"),
        (lambda w: Parallel("g", [w.step("a"), w.step("a")]), "two branches named 'a'"),
        (lambda w: Parallel("g", [len]), "is not a part"),  # type: ignore[list-item]
        (lambda w: Parallel("g", w.step("a")), "the list of its branches"),
        (lambda w: Parallel("g", [w.step("a")], at_most=0), "at_most must be a whole number of at least 1"),
        (lambda w: Choose("c", [w.step("a")], by=len), "as a dict, by name"),  # type: ignore[arg-type]
        (lambda w: Choose("c", {"a b": w.step("a")}, by=len), "cannot be the name of a branch"),  # type: ignore[arg-type]
        (lambda w: Choose("c", {"a": w.step("a")}, by="a"), "by must be a function"),  # type: ignore[arg-type]
        (lambda w: Saga("s", [Parallel("g", [w.step("a", undo=None, pivot=True)])]), "cannot be in a branch"),
        (lambda w: Saga("s", [Parallel("g", [Saga("i", [w.step("a")], deadline=3)])]), "has a deadline"),
    ],
)
def test_mistakes_are_said_when_defined(make, said):
    """Whatever is wrong with a group, I am told when I define it."""
    with pytest.raises(DefinitionError) as caught:
        make(World())
    assert said in str(caught.value)


def test_coroutines_decide_nothing():
    """What decides only looks; a coroutine function would be one that does something."""

    async def by(payload: Any) -> str:
        return "a"

    with pytest.raises(DefinitionError, match=r"by is a coroutine function"):
        Choose("c", {"a": World().step("a")}, by=by)  # type: ignore[arg-type]


def test_branches_are_part_of_the_shape():
    """Another branch is another shape: executions under way are not driven by a definition that lacks theirs."""
    world = World()
    one = Saga("s", [Parallel("g", [world.step("a"), world.step("b")])])
    two = Saga("s", [Parallel("g", [world.step("a"), world.step("c")])])
    same = Saga("s", [Parallel("g", [world.step("a"), world.step("b")], at_most=1)])
    assert one.fingerprint != two.fingerprint
    assert one.fingerprint == same.fingerprint
