"""Counterexamples of groups, choices and decisions happen too: each branch goes a way of its own, in the real thing."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_mediator import Choose, Parallel, Report, Retry, Saga, Signal, Sleep, VerificationError, Violation, verify
from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator import branches
from fsm_mediator.verifier.branch_traces import cheapest_trace
from fsm_mediator.verifier.branches import FORWARD, Status
from fsm_mediator.verifier.state_space import StateSpace
from tests.drivers import examples
from tests.player.replay import Replay, actor, decided
from tests.player.source import playing_test
from tests.test_counterexamples import TWICE, go, has_changed_settings, run, ways
from tests.test_mutants import MUTANTS

pytestmark = pytest.mark.once

ONCE = Retry(attempts=1)


def acting(name: str, *, compensates: bool = True, **settings: Any) -> Any:
    """A step that is tried once."""
    return actor(name, compensates=compensates, retry=ONCE, compensation_retry=ONCE, **settings)


SETTLE: Any = {"on_failure": "settle"}
"""The verifier lets a branch go on after the driver has seen another fail, as one under way does; here all do."""


def fanned() -> Saga:
    """One branch that can be undone, and one that leaves something over."""
    return Saga(
        "fanned", [acting("a"), Parallel("fan", [acting("x"), acting("y", compensates=False)], **SETTLE), acting("z")]
    )


def chosen() -> Saga:
    """A choice."""
    branches = {"x": acting("x"), "y": acting("y", compensates=False)}
    return Saga("chosen", [Choose("c", branches, by=decided()), acting("z")])


def each() -> Saga:
    """A group over items."""
    return Saga("each", [acting("a"), Parallel.each("e", acting("i"), over=decided(), **SETTLE), acting("z")])


def onward() -> Saga:
    """Branches that only go forward."""
    fan = Parallel("fan", [acting("x", compensates=False), acting("y", compensates=False)])
    return Saga("onward", [acting("go", compensates=False, pivot=True), fan])


def waiting() -> Saga:
    """Branches that wait: for somebody, and for a moment that is told."""
    both = [Signal("x", timeout=1.0), Sleep("till", until=decided())]
    return Saga("waiting", [acting("a"), Parallel("fan", both, **SETTLE)])


def nested() -> Saga:
    """A group in a branch of a group, in a nested saga."""
    inner = Saga("inner", [acting("u"), Parallel("deep", [acting("v")], **SETTLE)])
    return Saga("nested", [Saga("in", [acting("a"), Parallel("fan", [acting("x"), inner], **SETTLE)])])


def timed() -> Saga:
    """A branch whose thread may be left behind."""
    return Saga("timed", [acting("a"), Parallel("fan", [acting("x", timeout=1.0)])])


def deep() -> Saga:
    """What cannot be undone, in a group in a branch of a group; and a step that may refuse after it."""
    note, mail = (acting(name, compensates=False) for name in ("note", "mail"))
    inner = Saga("inner", [note, Parallel("deep", [mail])])
    return Saga("deep", [Parallel("fan", [inner]), acting("z")])


def test_leftovers_of_a_group_in_a_branch_are_held_to_the_law(monkeypatch):
    """A mail sent by a branch of a branch is a leftover of the whole; a mediator that forgets it is found."""
    way = next(way for way in ways(deep()) if any(words.startswith("z raises") for words in way.path))

    assert replay_of(way).records[-1].target == "failed"

    forgetful = lambda store, execution: [part.path for part in execution.saga.parts if part.kind == "step"]  # noqa: E731
    monkeypatch.setattr(branches, "_uncompensatable_steps", forgetful)

    assert "fan.inner.deep.mail.mail is not among its leftovers" in replay_of(way).broken[2]


def replay_of(way: Violation) -> Replay:
    """The way, gone by a mediator."""
    replay = Replay(deep())
    replay.follow(*way.path, branches=way.branches)
    return replay


SAGAS = [fanned, chosen, each, onward, waiting, nested]


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.torture)], ids=["a sixth", "all"])
@pytest.mark.parametrize("make", SAGAS)
def test_wherever_the_verifier_comes_with_branches_a_mediator_can_come(make, stride):
    """However branches come to stand, and whenever that is seen: a real mediator comes there, by the same records."""
    for way in ways(make())[::stride]:
        go(way, make())


def every(report: Report) -> Iterator[Violation]:
    """The broken laws of a saga, and of its branches."""
    yield from report.violations
    for branch in report.branches:
        yield from every(branch)


@functools.cache
def found_in(what: str, make: Callable[[], Saga]) -> list[Violation]:
    """What the verifier finds in a saga with a mutant in place."""
    return found(what, make())


def found(what: str, saga: Saga) -> list[Violation]:
    """What the verifier finds with a mutant in place."""
    with pytest.MonkeyPatch.context() as patches:
        MUTANTS[what][1](patches.setattr)
        return list(every(verify(saga, most_nodes=3000)))


UNPLAYED = {("Doubt is forgotten from one attempt to the next.", "recovery")}
"""Mutants and rules that a player cannot see broken: it compares effects, and the doubt that is lost changes none."""

OF_GROUPS = [what for what, (_, _, on) in MUTANTS.items() if on == ("fanned",)]
OF_ALL = [
    "Compensation begins with the oldest step.",
    "Doubt is forgotten from one attempt to the next.",
    "Leftovers are not reported.",
    "If a part after the pivot is given up, the saga compensates and does not get stuck.",
    "A crash during a compensation counts as a completed compensation.",
    "The saga continues although a thread still runs after its time-out and its grace.",
]
"""Mutants of steps, which break branches, or sagas with them."""


EVERY = [(make, what) for make in (*SAGAS, timed) for what in (*OF_GROUPS, *OF_ALL)]


@pytest.mark.parametrize(
    ("make", "what"),
    [each if at % 4 == 0 else pytest.param(*each, marks=pytest.mark.torture) for at, each in enumerate(EVERY)],
)
def test_each_counterexample_with_branches_is_reproduced_by_the_test_it_writes(what, make):
    """The test fails on the real mediator where the fault is, showing a law that it breaks, and passes where it is not.

    Where a branch breaks a law itself, anything was taken to become of it: what no way of its own leads to is not
    played, and the test says so; that of the branch is.
    """
    violations = found_in(what, make)
    names = {violation.saga.name for violation in violations}
    laws = "|".join(sorted({str(violation.law) for violation in violations}))
    for violation in violations:
        if (what, violation.rule) in UNPLAYED or has_changed_settings(violation.path):
            continue  # a player's saga keeps its settings
        test, law = playing_test(violation), rf"law ({laws}) is broken"
        if violation.unplayable is not None:
            assert any(name.startswith(f"{violation.saga.name}/") for name in names)
            assert "It cannot be played: no path was found" in test
        with pytest.MonkeyPatch.context() as patches:
            MUTANTS[what][1](patches.setattr)
            with pytest.raises(AssertionError if violation.unplayable is None else VerificationError, match=law):
                run(test)
        run(test)


def test_every_mutant_of_groups_is_played_on_every_kind_of_group():
    """None of the above passes for want of a counterexample: each such fault breaks a law of most such sagas."""
    for what in OF_GROUPS:
        broken = [make.__name__ for make in SAGAS if any(one.unplayable is None for one in found_in(what, make))]
        assert len(broken) >= 2, what


# Any saga


Plan = tuple[Any, ...]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """A small saga with a group or a choice; its branches may be sagas, groups and choices as well."""
    names = (f"p{number}" for number in range(100))

    def leaf(*, pivot: bool = False) -> Plan:
        settings = {"retry": draw(st.sampled_from([ONCE, ONCE, TWICE])), "repeatable": draw(st.integers(0, 4)) > 0}
        probes = draw(st.integers(0, 4)) == 0
        return ("step", next(names), {"compensates": draw(st.booleans()) and not pivot, "probes": probes, **settings})

    def part(depth: int) -> Plan:
        inside = ["saga", "group", "each", "choice"] if depth else []
        kind = draw(st.sampled_from(["step", "step", "signal", "forever", "sleep", "nap", *inside]))
        return leaf() if kind == "step" else group(kind, depth) if kind in inside else (kind, next(names))

    def group(kind: str, depth: int) -> Plan:
        size = 1 if kind == "each" else draw(st.integers(1, 2))
        return (kind, next(names), [part(depth - 1) for _ in range(size)])

    first = draw(st.sampled_from([[], ["step"], ["pivot"]]))
    before = [("pivot", *leaf(pivot=True)[1:]) if kind == "pivot" else leaf() for kind in first]
    return [*before, group(draw(st.sampled_from(["group", "each", "choice"])), 2), *([leaf()] * draw(st.booleans()))]


def built(plan: Plan) -> Any:
    """The part that is planned."""
    kind, name, *rest = plan
    if kind in ("step", "pivot"):
        return actor(name, compensation_retry=ONCE, pivot=kind == "pivot", **rest[0])
    if kind in ("signal", "forever"):
        return Signal(name, timeout=1.0 if kind == "signal" else None)
    if kind in ("sleep", "nap"):
        return Sleep(name, 1.0 if kind == "sleep" else decided())
    inside = [built(each) for each in rest[0]]
    if kind == "saga":
        return Saga(name, inside)
    if kind == "each":
        return Parallel.each(name, inside[0], over=decided(), **SETTLE)
    return (
        Choose(name, {part.name: part for part in inside}, by=decided())
        if kind == "choice"
        else Parallel(name, inside, **SETTLE)
    )


@pytest.mark.filterwarnings("ignore::fsm_mediator.DefinitionWarning")
@settings(max_examples=examples(12, 5), deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), st.randoms(use_true_random=False))
def test_every_ending_of_any_branch_has_a_way_that_ends_so(plan, chance):
    """Whatever branches are made of: of each way they can end there is one, and a mediator goes it, with the whole."""

    def make() -> Saga:
        return Saga("any", [built(part) for part in plan])

    walk = StateSpace(make(), strict=False, most_nodes=10_000)
    walk.explore()
    for path, model in walk.possible.branch_models.items():
        for name, child in model.known.items():
            branch = walk.branches[path][name]
            for status in child.forward:
                assert cheapest_trace(branch, [status]) is not None
            for status in child.backward if child.undoable else ():
                assert cheapest_trace(branch, [Status.SUCCEEDED, Status.UNDOING, status]) is not None
    # To the whole, a branch can end in any way however it came to stand: of a choice, one branch can be stuck
    # being undone and the other leave something over. Such a way has no run; each of its words has one, as seen above.
    every_way = [way for way in ways(make()) if "no path was found" not in (way.unplayable or "")]
    for way in chance.sample(every_way, min(15, len(every_way))):
        go(way, make())


ENDINGS: dict[str, tuple[Callable[[], Any], bool]] = {
    Status.SUCCEEDED: (lambda: acting("b"), False),
    Status.FAILED: (lambda: acting("b"), False),
    Status.LEFT: (lambda: acting("b", compensates=False), False),
    Status.STUCK: (lambda: acting("b", compensates=False), True),
    Status.STUCK_UNDOING: (lambda: acting("b"), False),
}
"""Of each way in which a branch can end: a branch that can, and whether it has to come after the pivot for that."""


@pytest.mark.parametrize("status", sorted(FORWARD))
def test_a_branch_ends_as_it_is_told(status):
    """The real branch stands as the word says by which the whole knows it."""
    branch, is_forward_only = ENDINGS[status]
    parts = [acting("go", compensates=False, pivot=True)] if is_forward_only else []
    saga = Saga("s", [*parts, Parallel("fan", [branch()])])
    ending = next(way for way in ways(saga) if way.path[-1].startswith("branch fan.b ") and way_ends(way, status))

    replay = go(ending, Saga("s", [*parts, Parallel("fan", [branch()])]))

    assert replay.role("replayed/fan.b").status == status


def way_ends(way: Violation, status: str) -> bool:
    """Whether its last word is that a branch comes to stand so."""
    words = {
        Status.SUCCEEDED: "succeeds",
        Status.FAILED: "fails",
        Status.LEFT: "fails, with leftovers",
        Status.STUCK: "gets stuck",
        Status.STUCK_UNDOING: "gets stuck in compensation",
    }
    return way.path[-1] == f"branch fan.b {words[status]}"


# What is written


def counterexamples() -> list[Violation]:
    """One with branches, one with decisions, one that goes round, one that is not played."""
    late = next(what for what in MUTANTS if "late signal resets" in what)
    signal = Saga("s", [acting("a"), Signal("word"), actor("b", retry=TWICE)])
    any_will_do = next(what for what in OF_GROUPS if "one branch has succeeded" in what)
    silent = "Leftovers are not reported."
    return [
        *found(any_will_do, nested()),
        *found(any_will_do, each()),
        *found(late, signal),
        *(one for one in found(silent, chosen()) if one.unplayable is not None),
        *found("If a part after the pivot is given up, the saga compensates and does not get stuck.", onward()),
    ]


def test_written_tests_with_branches_are_in_good_style(tmp_path):
    """What is written can be put among one's tests as it is: it is formatted, and its linter has nothing to say."""
    for number, violation in enumerate(counterexamples()):
        (tmp_path / f"test_found_{number}.py").write_text(playing_test(violation), encoding="utf-8")
    config = str(Path(__file__).parent.parent / "pyproject.toml")

    for command in (["format", "--diff"], ["check", "--extend-ignore", "INP001"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, str(tmp_path)],
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_written_test_tells_the_ways_of_the_branches():
    """Who reads the test sees what each branch does, beside what that is to the whole."""
    [what] = [what for what in OF_GROUPS if "one branch has succeeded" in what]
    [violation] = [one for one in found(what, fanned()) if one.law == 3]

    test = playing_test(violation)

    assert '        "branch fan.x fails",\n' in test
    assert '            "fan.x": ["the saga begins", "x raises, without effect"],\n' in test


def test_what_goes_round_for_ever_is_gone_round_until_no_policy_allows_it():
    """A law that is broken by going round shows in the real run: it makes more attempts than there are."""
    [what] = [what for what in MUTANTS if "late signal resets" in what]
    saga = Saga("s", [acting("a"), Signal("word"), actor("b", retry=TWICE)])
    [violation] = [each for each in found(what, saga) if each.around > 1]

    assert violation.around == 3
    assert "then again from 4., forever" in str(violation)
    assert "        * 3,\n" in playing_test(violation)


def test_replay_takes_decisions_only_that_are_told():
    """A real function would decide as it likes, and so is refused."""
    with pytest.raises(DefinitionError, match=r"decisions that are `decided\(\)`; 'c' is"):
        Replay(Saga("s", [Choose("c", {"x": acting("x")}, by=lambda payload: "x")]))
    with pytest.raises(DefinitionError, match="'b' is"):
        Replay(Saga("s", [Parallel("fan", [Signal("b"), Saga("s", [real("b")])])]))


def real(name: str) -> Any:
    """A step that does something of its own."""
    from tests.test_mutants import made

    return made(name)


def test_replay_with_a_branch_that_cannot_end_as_told_says_so():
    """What the way says of a branch is not made up: if the branch cannot end so, the way is left there."""
    replay = Replay(fanned())

    replay.follow(
        "the saga begins",
        "a takes effect and returns",
        "branch fan.x fails",
        branches={"fan.x": ["the saga begins", "x takes effect and returns"]},
    )

    assert replay.left_for == "branch fan.x fails (and not: it is succeeded)"
    assert replay.records[-1].target == "succeeded"
    assert "the journal of fan.x:" in replay.told()
    assert not replay.broken
