"""`verify` on what waits: signals, sleeps, choices and groups; and whether seeing a branch as a word loses anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from fsm_mediator import Choose, Mediator, Parallel, Retry, Saga, Signal, Sleep, step, verify
from fsm_mediator.errors import StepRejectedError
from fsm_mediator.execution import rules
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine import table
from fsm_mediator.records import Branch
from fsm_mediator.verifier.branches import GOING_ON
from fsm_mediator.verifier.state_space import StateSpace
from tests.product import Product

ONCE = Retry(attempts=1)


def made(name, *, compensates=True, **settings):
    """A step that is tried once."""
    one = step(name=name, **{"retry": ONCE, "compensation_retry": ONCE, **settings})(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    return one


def one_branch() -> Saga:
    """A group of one."""
    return Saga("one", [Parallel("fan", [made("x")])])


def two_branches() -> Saga:
    """One that can be undone, and one that leaves something over."""
    return Saga("two", [made("a"), Parallel("fan", [made("x"), made("y", compensates=False)])])


def saga_inside() -> Saga:
    """A branch of more than one step."""
    return Saga("inside", [made("a"), Parallel("fan", [Saga("s", [made("x"), made("y")])])])


def chosen() -> Saga:
    """A choice."""
    branches = {"x": made("x"), "y": made("y", compensates=False)}
    return Saga("chosen", [Choose("c", branches, by=lambda payload: "x"), made("z")])


def after_the_pivot() -> Saga:
    """Branches that only go forward."""
    fan = Parallel("fan", [made("x", compensates=False), made("y", compensates=False)])
    return Saga("after", [made("go", compensates=False, pivot=True), fan])


def signal_inside() -> Saga:
    """A branch that waits for somebody."""
    return Saga("signal", [made("a"), Parallel("fan", [Signal("x", timeout=1.0), made("y")])])


def group_inside() -> Saga:
    """A group in a branch, of which something cannot be undone."""
    inner = Parallel("inner", [made("y", compensates=False)])
    return Saga("nested", [Parallel("fan", [Saga("s", [made("x"), inner])]), made("z")])


def alone_inside() -> Saga:
    """A group in a branch, of which nothing can be undone."""
    return Saga("alone", [Parallel("fan", [Saga("s", [Parallel("inner", [made("y", compensates=False)])])]), made("z")])


SMALL = [
    one_branch,
    two_branches,
    saga_inside,
    chosen,
    after_the_pivot,
    signal_inside,
    group_inside,
    alone_inside,
]


def as_walked(saga: Saga) -> set[tuple[str, tuple[str, ...]]]:
    """Where the verifier finds that a saga can stand, and how its branches then do."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000, once=False)
    walk.report()
    reached = set()
    for stand, ledger in walk.nodes:
        each = (ledger.branches[model.at] for model in walk.possible.branch_models.values())
        statuses = tuple("going on" if status in GOING_ON else status for group in each for status in group)
        reached.add((stand.execution.state, statuses))
    return reached


@pytest.mark.parametrize("make", SMALL)
def test_branches_one_by_one_come_to_what_all_together_come_to(make):
    """A branch seen as one of a few words loses nothing: all executions walked together stand in the same places."""
    product = Product(make())

    assert product.wrong == set()
    assert product.reached == as_walked(make())
    assert verify(make()).ok


Patch = Callable[[pytest.MonkeyPatch], None]


def in_place_of(name: str, around: Callable[..., object]) -> Patch:
    """A fault: *around* is called in place of a function of the rules, with the original first."""
    original = getattr(rules, name)

    def patch(patches: pytest.MonkeyPatch) -> None:
        patches.setattr(rules, name, lambda *args: around(original, *args))

    return patch


def any_success_will_do(joined, data, part, branches, at):
    """A group counts as executed once all have settled and one has succeeded."""
    if all(branch.state != "running" for branch in branches) and any(b.state == "succeeded" for b in branches):
        branches = [Branch(branch.name, "succeeded") for branch in branches]
    return joined(data, part, branches, at)


def impatient(compensating, data, answer):
    """A group counts as undone though branches still go on."""
    settled = [branch for branch in getattr(answer, "branches", ()) if branch.state != "running"]
    return compensating(data, type(answer)(tuple(settled)) if hasattr(answer, "branches") else answer)


def carefree(compensating, data, answer):
    """Branches that are stuck count as undone."""
    settled = [b for b in getattr(answer, "branches", ()) if b.state != "stuck"]
    return compensating(data, type(answer)(tuple(settled)) if hasattr(answer, "branches") else answer)


def silent(compensating, data, answer):
    """The leftovers of branches are not reported."""
    decision = compensating(data, answer)
    return replace(decision, value=None) if decision is not None else None


GROUP_FAULTS = {
    "any success will do": in_place_of("_joined", any_success_will_do),
    "impatient": in_place_of("_compensating_group", impatient),
    "carefree": in_place_of("_compensating_group", carefree),
    "silent": in_place_of("_compensating_group", silent),
}


@pytest.mark.parametrize("fault", GROUP_FAULTS)
def test_fault_in_the_rules_of_groups_is_found_one_by_one_and_all_together(fault):
    """A fault in what is made of branches is found by the verifier, and by walking all executions together."""
    with pytest.MonkeyPatch.context() as patches:
        GROUP_FAULTS[fault](patches)

        assert not verify(two_branches()).ok
        assert Product(two_branches(), to_the_end=False).wrong


def test_leftovers_of_a_group_in_a_branch_are_expected(monkeypatch):
    """`verify` knows what a branch leaves over by its own groups: where that is forgotten, a rule is broken."""
    GROUP_FAULTS["silent"](monkeypatch)

    assert "leftovers" in verify(alone_inside()).broken_rules


def test_group_over_no_items_is_compensated():
    """What the verifier found first: a group over no items, in a saga that fails after it, was compensated for ever."""
    fails = step(name="fails", retry=ONCE)(refuse)
    saga = Saga("each", [made("a"), Parallel.each("e", made("x"), over=lambda payload: []), fails])

    outcome = Mediator(saga).run("each", check=False)

    assert outcome.failed
    assert outcome.compensated == ("e", "a")


def refuse(payload):
    """Refuse it."""
    raise StepRejectedError("no")


def test_alike_branches_are_walked_as_one_is():
    """Ten branches that are alike do not take the time of all their orders: which of them fails makes no difference."""
    few, many = (verify(Saga("s", [Parallel("fan", [made(f"x{i}") for i in range(n)])])) for n in (3, 8))

    assert few.ok
    assert many.ok
    assert many.nodes < 30 * few.nodes


def test_group_in_a_group_of_which_nothing_can_be_undone_keeps_every_law():
    """A branch that waits for a group can get stuck on its way back; a person has it go on, and it ends."""
    inner = Parallel("inner", [made("mail", compensates=False)])

    report = verify(Saga("s", [made("a"), Parallel("fan", [inner])]))

    assert report.ok, str(report)


def test_report_has_every_branch():
    """A branch is a saga of its own, verified by itself, and the report has it."""
    inner = Saga("inner", [made("u"), Parallel("deep", [made("v")])])

    report = verify(Saga("outer", [Parallel("fan", [made("x"), inner])]))

    assert [branch.saga for branch in report.branches] == ["outer/fan.x", "outer/fan.inner"]
    assert [branch.saga for branch in report.branches[1].branches] == ["outer/fan.inner/deep.v"]
    assert "branch outer/fan.x: " in str(report)
    assert report.to_dict()["branches"][1]["branches"][0]["ok"] is True


def test_broken_branch_breaks_the_whole(monkeypatch):
    """A law that only a branch breaks is in the report of the whole, with the way to it."""

    def oldest(parts, before):
        return next((f"compensating.{part.path}" for part in parts[:before] if part.compensatable), "failed")

    monkeypatch.setattr(table, "nearest_compensation", oldest)
    inner = Saga("inner", [made("u"), made("v"), made("w")])

    report = verify(Saga("outer", [Parallel("fan", [inner])]))

    assert not report.ok
    assert not report.violations
    assert "branch outer/fan.inner: " in str(report)
    assert "law 2 is broken: u is compensated before v" in str(report)


def signals() -> Saga:
    """Two signals, one that is waited for without end."""
    between = made("b").with_(retry=Retry(attempts=2))
    return Saga("signals", [made("a"), Signal("early", timeout=5.0), between, Signal("late"), made("c")])


def labels(saga: Saga) -> set[str]:
    """Everything that happens on any shortest way."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000)
    walk.explore()
    return {label for _, label in walk.came}


def test_signals_come_early_late_or_not_at_all():
    """A signal may come before it is waited for, while it is, or not in time; each way keeps every law."""
    report = verify(signals())

    assert report.ok
    assert not report.unreached
    assert report.transitions == report.all_transitions
    assert labels(signals()) >= {"the signal early comes", "the signal late comes", "no signal early comes in time"}


def test_signal_that_comes_twice_or_too_late_changes_nothing(monkeypatch):
    """Signals that repeat, or come too late, are heard on the walk: one that did harm would be found."""
    receive = Execution.receive

    def harmed(self, item):
        receive(self, item)
        if item.kind == "signal" and item.name in self.answered:
            self.attempt = min(self.attempt, 1)  # attempts begin anew, again and again

    monkeypatch.setattr(Execution, "receive", harmed)

    report = verify(signals())

    assert {violation.law for violation in report.violations} >= {1}
    assert "although nothing asks for it" in str(report)


def test_waiting_without_end_is_a_park():
    """A saga that waits for somebody without a time-out is not lost: it stands visibly waiting."""
    assert verify(Saga("s", [Signal("ok"), made("a")])).ok


def test_every_decision_is_tried():
    """What decides a choice, a sleep or items is never called: each answer is tried, and that it fails as well."""

    def never(payload):
        raise AssertionError("the walk calls nothing")

    saga = Saga(
        "decides",
        [
            made("a"),
            Sleep("nap", never),
            Sleep("till", until=never),
            Choose("c", {"x": made("x"), "y": made("y")}, by=never),
            Parallel.each("e", made("i"), over=never),
        ],
    )

    report = verify(saga)
    walk = StateSpace(saga, strict=False, most_nodes=100_000)
    walk.explore()
    every = (led for stand, _ in walk.nodes for led in stand.led.values())
    seen = "".join(one.decided for led in every if not isinstance(led, str) for one in led)

    assert report.ok
    assert "groups over items have at most 2" in report.bounds
    for answer in ("nap sleeps for no time", "c chooses x", "c chooses y", "the function of c raises"):
        assert answer in seen
    for answer in ("e has 0 items", "e has 1 item", "e has 2 items", "the function of e raises"):
        assert answer in seen
