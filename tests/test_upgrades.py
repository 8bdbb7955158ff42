"""Upgrades: what `compare` says of every state is what folding under the newer definition really does."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator import (
    Acceptance,
    Choose,
    Comparison,
    DefinitionChangedError,
    DefinitionError,
    Execution,
    IllegalRecordError,
    Mediator,
    MemoryJournal,
    Parallel,
    Record,
    Saga,
    Signal,
    Sleep,
    StrandedError,
    UnknownSagaError,
    Verdict,
    compare,
)
from fsm_mediator.definition.shape import PartShape
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.machine.table import Transition
from fsm_mediator.states import ENDED
from fsm_mediator.upgrades import Shape, read_shapes, written
from fsm_mediator.verifier.action import copied
from fsm_mediator.verifier.actions import ActionModel
from tests.roles import Role, made, roles

ROOT = Path(__file__).parent.parent


def verdicts(comparison):
    """The verdict of each state."""
    return {each.state: each.verdict.value for each in comparison.states}


# What it says


def test_the_same_shape_goes_on():
    """Other functions, retries and time-outs are no upgrade at all: everything goes on as it stands."""
    comparison = compare(made("a", "b"), made(Role(name="a", attempts=1), Role(name="b", timed=True), version=2))

    assert comparison.ok
    assert set(verdicts(comparison).values()) == {"same", "ended"}
    assert "every execution in flight continues" in str(comparison)
    comparison.raise_for_stranded()


def test_a_step_in_between():
    """What has passed the place of a new step must drain; what stands before it does not notice."""
    comparison = compare(made("reserve", "charge"), made("reserve", "check", "charge", version=2))

    assert verdicts(comparison) == {
        "pending": "same",
        "executing.reserve": "same",
        "retrying.reserve": "same",
        "executing.charge": "must drain",
        "retrying.charge": "must drain",
        "compensating.charge": "must drain",
        "retrying_compensation.charge": "must drain",
        "stuck.charge": "cannot",
        "compensating.reserve": "depends",
        "retrying_compensation.reserve": "depends",
        "stuck.reserve": "depends",
        "succeeded": "ended",
        "failed": "ended",
    }
    [why] = comparison["executing.charge"].reasons
    assert "'reserve' is done" in why
    assert "'execute check', which is new" in why
    assert comparison["compensating.reserve"].reasons == (f"not if {why}",)


def test_a_step_at_the_end():
    """What is under way goes on, and will meet the new step; what is undone after it had succeeded would not."""
    comparison = compare(made("a", "b"), made("a", "b", "c", version=2))

    assert comparison["executing.b"].verdict is Verdict.SAME
    assert comparison["compensating.b"].verdict is Verdict.DEPENDS
    assert "can no longer be undone" in comparison["succeeded"].reasons[0]


def test_a_step_with_another_name():
    """Without a word it is another step; with the mapping it goes on, and the reader is warned about the keys."""
    old, new = made("reserve", "charge"), made("reserve", "pay", version=2)

    assert compare(old, new)["executing.charge"].verdict is Verdict.DRAIN
    assert "no part 'charge'" in compare(old, new)["executing.charge"].reasons[0]

    renamed = compare(old, new, renamed={"charge": "pay"})
    assert renamed["executing.reserve"].verdict is Verdict.SAME
    assert renamed["executing.charge"] == attrs.evolve(
        renamed["executing.charge"], verdict=Verdict.RENAMED, becomes="executing.pay"
    )
    assert "ID:charge:execute" in renamed["executing.charge"].reasons[0]
    assert renamed.goes_on


def test_a_nested_saga_with_another_name():
    """The name of a nested saga stands for all that is in it."""
    old = made("a", "b", "c", nested=2)
    new = Saga("checkout", [old.contents[0].named("outer"), old.contents[1]], version=2)

    assert compare(old, new, renamed={"inner": "outer"})["executing.inner.b"].becomes == "executing.outer.b"
    assert compare(old, new, renamed={"inner": "outer"}).goes_on


@pytest.mark.parametrize(
    ("renamed", "says"),
    [
        ({"x": "pay"}, "has no part 'x'; it has reserve, charge"),
        ({"charge": "x"}, "has no part 'x'; it has reserve, pay"),
        ({"charge": "pay", "reserve": "pay"}, "'reserve', 'charge' would get the same path 'pay'"),
    ],
)
def test_a_mapping_that_maps_nothing(renamed, says):
    """A slip in the mapping is an error that shows what there is, not a wrong verdict."""
    with pytest.raises(DefinitionError, match=says):
        compare(made("reserve", "charge"), made("reserve", "pay", version=2), renamed=renamed)


@pytest.mark.parametrize(
    ("old", "new", "state", "why"),
    [
        (Role(name="b"), Role(name="b", compensates=False), "compensating.b", "'b' can no longer be compensated"),
        (Role(name="b", probes=True), Role(name="b"), "probing.b", "'b' no longer has a probe"),
        (Role(name="b", pivot=True), Role(name="b"), "stuck.b", "'b' is given up and waits for a person"),
        (Role(name="b"), Role(name="b", pivot=True), "compensating.b", "'b' can no longer be compensated"),
    ],
)
def test_reasons_name_the_part(old, new, state, why):
    """Whoever reads the report learns which part is in the way, and what is different about it."""
    comparison = compare(made("a", old), made("a", new, version=2))

    assert comparison[state].verdict in (Verdict.DRAIN, Verdict.CANNOT)
    assert why in " ".join(comparison[state].reasons)
    assert why.partition(":")[0] in str(comparison)


def test_stuck_is_told_apart_from_what_drains():
    """What ends by itself needs time; what waits for a person needs a person before the old code may go."""
    comparison = compare(made("a"), made("z", "a", version=2))

    assert comparison["retrying.a"].verdict is Verdict.DRAIN
    assert comparison["stuck.a"].verdict is Verdict.CANNOT


def test_states_that_the_settings_rule_out_are_taken_in_on_demand():
    """A step with one attempt is not retried today; whoever cannot be sure of yesterday asks for every state."""
    old, new = made(Role(name="a", attempts=1)), made("z", Role(name="a"), version=2)

    with pytest.raises(KeyError):
        compare(old, new)["retrying.a"]
    assert compare(old, new, every=True)["retrying.a"].verdict is Verdict.DRAIN


# The deploy that is refused


def test_a_deploy_that_strands_is_refused():
    """Today a mediator drives an execution by its own shape only: without it everything in flight is stranded."""
    old, new = made("a", "b"), made("a", "b", "c", version=2)

    comparison = compare(old, new)

    assert set(comparison.stranded) == {each.state for each in comparison.states} - ENDED
    with pytest.raises(StrandedError, match="STRANDED"):
        comparison.raise_for_stranded()


def test_a_deploy_that_keeps_the_old_version_is_not():
    """With both versions registered nothing is stranded, whatever the newer one looks like."""
    old, new = made("a", "b"), made("z", version=2)

    comparison = compare(old, [made("a", "b"), new])

    assert comparison.ok
    assert "stays registered" in str(comparison)
    assert comparison["executing.b"].verdict is Verdict.DRAIN


ASKING = made("a", Signal("ok"), "b")
LONGER = made("a", Signal("ok"), "b", "c", version=2)


@pytest.mark.parametrize(
    ("deployed", "stranded"),
    [
        ([LONGER], True),
        ([ASKING, LONGER], False),
        ([made("a", Signal("ok", timeout=60), Role(name="b", attempts=1), version=2)], False),
        ([made("a", Signal("ok"), "b", name="other")], True),
    ],
    ids=["another shape", "both", "other settings", "another saga"],
)
def test_what_is_called_stranded_is_what_a_mediator_leaves(deployed, stranded):
    """A deploy is let through exactly if a mediator of it still drives what was in flight."""
    journal = MemoryJournal()
    with Mediator(ASKING, journal=journal) as before:
        assert before.run("checkout", saga_id="x", check=False).state == "waiting.ok"

    with Mediator(*deployed, journal=journal) as mediator:
        assert compare(ASKING, deployed).ok != stranded
        if stranded:
            with pytest.raises((DefinitionChangedError, UnknownSagaError)):
                mediator.outcome("x")
        else:
            mediator.signal("x", "ok")
            assert mediator.wait("x").succeeded


def test_a_saga_that_is_gone():
    """A saga that nobody registers any more strands all that is in flight."""
    comparison = compare(made("a"), made("a", name="other"))

    assert "gone" in str(comparison)
    assert comparison["executing.a"].verdict is Verdict.DRAIN
    assert comparison["stuck.a"].verdict is Verdict.CANNOT
    with pytest.raises(StrandedError):
        comparison.raise_for_stranded()
    with pytest.raises(DefinitionError, match="compare"):
        compare(made("a"), "nothing")  # type: ignore[arg-type]  # that is the mistake


def test_a_program_can_read_it():
    """The same as JSON."""
    told = json.loads(compare(made("a", "b"), made("a", "z", "b", version=2)).to_json())

    assert told["ok"] is False
    assert told["changes"] == ["'z' is new, after 'a'"]
    assert {each["state"]: each["verdict"] for each in told["states"]}["executing.b"] == "must drain"


# The shape that is kept


def test_a_shape_that_was_written_down_compares_as_the_saga_itself(tmp_path):
    """Where the old code is gone, its shape is enough."""
    old = made(Role(name="a", attempts=1, probes=True), Role(name="p", pivot=True, timed=True), "c", nested=1)
    new = made("a", Role(name="p", pivot=True), "d", "c", version=2, nested=1)
    (tmp_path / "shapes.json").write_text(written([old, new]))

    [was, other] = read_shapes(tmp_path / "shapes.json")

    assert was == Shape.of(old)
    assert compare(was, new) == compare(old, new)
    assert compare(old, other) == compare(old, new)
    assert compare(was, old).ok
    assert set(was.machine().moves()) == set(old.machine.moves())


def every_field():
    """A saga whose shape has every field."""
    asked = Role(name="asked", probes=True, repeatable=False, timed=True, attempts=1)
    group = Parallel("g", [*made("b").contents, Saga("in", made("c").contents)])
    each = Parallel.each("each", made("item").contents[0], over=lambda order: order)
    go, after = Role(name="go", pivot=True), Signal("late", timeout=5.0)
    return made("a", asked, Signal("word"), group, each, go, after, nested=1)


def test_files_of_shapes_that_users_have_committed_are_read_for_ever():
    """The names in the file are public: they are those that were written when the format was new."""
    kept = ROOT / "tests" / "journals" / "shapes-1.json"

    [was] = read_shapes(kept)

    assert was == Shape.of(every_field())
    assert written([every_field()]) == kept.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "upgrades.md").read_text(encoding="utf-8")
    assert [name for name in PartShape.__struct_fields__ if f"`{name}`" not in page] == []


def test_a_file_of_shapes_that_cannot_be_trusted(tmp_path):
    """A missing, foreign, changed or outdated file is told as such, with the command that writes it."""
    path = tmp_path / "shapes.json"
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_shapes(path)
    for text in ("", "[]", "{}", '{"fsm_mediator_shapes": 1, "table_format": 1, "sagas": [{"parts": 3}]}'):
        path.write_text(text)
        with pytest.raises(DefinitionError, match="export-shape"):
            read_shapes(path)
    good = written([made("a", "b")])
    path.write_text(good.replace('"b"', '"c"'))
    with pytest.raises(DefinitionError, match="was changed"):
        read_shapes(path)
    path.write_text(good.replace('"table_format": 1', '"table_format": 0'))
    with pytest.raises(DefinitionError, match="tables of format 0"):
        read_shapes(path)


# Signals, sleeps, groups and choices


def shop(*more, name="fulfil", version=2, choice="pay", **options):
    """A saga that waits for branches."""
    ship = made("label", "hand", name="ship").contents
    branches = [*made("pack").contents, Saga("ship", ship), *more]
    bills = {"card": made("card").contents[0], **options}
    chosen = Choose(choice, bills, by=lambda order: "card")
    return made("reserve", Parallel(name, branches), chosen, "mail", version=version)


def test_a_branch_more():
    """Groups that were begun without the new branch must drain; those not begun will have it."""
    comparison = compare(shop(version=1), shop(*made("wrap").contents))

    assert comparison["executing.reserve"].verdict is Verdict.SAME
    assert comparison["waiting.fulfil"].verdict is Verdict.DRAIN
    assert comparison["executing.mail"].verdict is Verdict.DRAIN
    assert comparison["waiting.fulfil"].reasons == ("'fulfil' has other branches: 'wrap' is new",)
    assert {branch.saga: branch.ok for branch in comparison.branches} == {
        "checkout/fulfil.pack": True,  # its own shape is there: a mediator finds it
        "checkout/fulfil.ship": True,
        "checkout/pay.card": True,
    }


def test_a_choice_more():
    """One more to choose from is in nobody's way; one less is, for it may have been chosen."""
    [cash] = made("cash").contents

    assert compare(shop(version=1), shop(cash=cash)).goes_on
    assert compare(shop(cash=cash, version=1), shop())["executing.mail"].reasons == (
        "'pay' has other branches: 'cash' is gone",
    )


def test_a_branch_that_goes_another_way():
    """What differs within a branch concerns its own executions, and whoever may have to undo them."""
    old = made(Parallel("fulfil", [made("label", "hand", name="ship")]), "mail")
    new = made(Parallel("fulfil", [made("label", "hand", "tell", name="ship")]), "mail", version=2)

    comparison = compare(old, new)

    [ship] = comparison.branches
    assert ship["executing.hand"].verdict is Verdict.SAME
    assert "can no longer be undone" in ship["succeeded"].reasons[0]
    assert comparison["waiting.fulfil"].reasons == ("branches of 'fulfil' have other transitions: 'ship'",)
    assert "checkout/fulfil.ship: executing.hand" in comparison.stranded
    assert "branch 'checkout/fulfil.ship': 'tell' is new" in str(comparison)


def test_a_part_of_another_kind_is_another_part():
    """A sleep does not end where a signal comes, though the states are called alike; a signal does not drain."""
    old, new = made("a", Signal("b"), "c"), made("a", Sleep("b", 1), "c", version=2)

    comparison = compare(old, new)

    assert comparison["waiting.b"].verdict is Verdict.CANNOT
    assert comparison["executing.c"].verdict is Verdict.DRAIN
    assert comparison["executing.c"].reasons == ("'b' was a signal and is now a sleep",)
    assert compare(new, old)["waiting.b"].verdict is Verdict.DRAIN


def test_a_wait_with_another_name():
    """A group cannot be renamed under its branches; a signal can, and whoever says it must say it otherwise."""
    renamed = compare(shop(version=1), shop(name="deliver"), renamed={"fulfil": "deliver"})
    assert renamed["waiting.fulfil"].verdict is Verdict.DRAIN
    assert "contain the name" in renamed["waiting.fulfil"].reasons[0]
    assert renamed["executing.reserve"].verdict is Verdict.SAME

    old, new = made("a", Signal("b"), Sleep("c", 1)), made("a", Signal("x"), Sleep("y", 1), version=2)
    renamed = compare(old, new, renamed={"b": "x", "c": "y"})
    assert renamed["waiting.b"].becomes == "waiting.x"
    assert renamed["waiting.b"].reasons == (
        "warning: send the signal 'b' as 'x'; a signal that was sent as 'b' is ignored",
    )
    assert "'c' is now called 'y'" in renamed["waiting.c"].reasons


def test_branches_are_written_down_as_well(tmp_path):
    """The shape of a saga holds the shapes of its branches, and nothing is lost on the way."""
    old = shop(*made("wrap").contents, version=1)
    (tmp_path / "shapes.json").write_text(written([old]))

    assert read_shapes(tmp_path / "shapes.json") == (Shape.of(old),)
    assert set(Shape.of(old).machine().moves()) == set(old.machine.moves())
    branch = old.branches["fulfil"]["ship"]
    assert set(dict(Shape.of(old).parts[1].branches)["ship"].machine().moves()) == set(branch.machine.moves())


# Whether it is true


@st.composite
def definitions(draw):
    """An older and a newer definition, and what was renamed: the newer is the older, changed here and there."""
    older = draw(roles(max_size=3))
    newer = list(older)
    renamed = {}
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(newer) - 1))
        kind = draw(
            st.sampled_from(["insert", "remove", "swap", "compensates", "probes", "pivot", "rename", "settings"])
        )
        if kind == "insert" and "z" not in [role.name for role in newer]:
            newer.insert(draw(st.sampled_from([at, at + 1])), Role(name="z"))
        elif kind == "remove" and len(newer) > 1:
            del newer[at]
        elif kind == "swap" and len(newer) > 1:
            newer[at], newer[at - 1] = newer[at - 1], newer[at]
        elif kind in ("compensates", "probes"):
            newer[at] = attrs.evolve(newer[at], **{kind: not getattr(newer[at], kind)})
        elif kind == "kind" and not newer[at].pivot:
            newer[at] = attrs.evolve(newer[at], kind=draw(st.sampled_from(["step", "signal", "sleep"])))
        elif kind == "pivot" and newer[at].kind == "step":
            newer = [attrs.evolve(role, pivot=i == at and not role.pivot) for i, role in enumerate(newer)]
        elif kind == "settings":
            newer[at] = attrs.evolve(newer[at], attempts=3 - newer[at].attempts, timed=not newer[at].timed)
        elif kind == "rename" and len(newer[at].name) == 1 and newer[at].name != "z":
            renamed[newer[at].name] = f"{newer[at].name}2"
            newer[at] = attrs.evolve(newer[at], name=f"{newer[at].name}2")
    told = {before: after for before, after in renamed.items() if after in [role.name for role in newer]}
    nested = draw(st.sampled_from([None, 1]))
    if nested:
        told = {}
    return made(*older, nested=nested), made(*newer, version=2, nested=nested), told


def opened(saga):
    """An execution that has not begun."""
    return Execution(saga, Acceptance("x", saga.name, saga.version, saga.fingerprint, None, 0.0))


def as_new(record, renamed):
    """The record with the names of the newer definition."""

    def state(told):
        phase, dot, path = told.partition(".")
        return f"{phase}{dot}{renamed.get(path, path)}"

    return msgspec.structs.replace(record, source=state(record.source), target=state(record.target))


def goes_on(execution, old, record, renamed):
    """Whether the fold takes the record, and the part it then stands in is of the kind that it was in *old*."""
    try:
        execution.replay(as_new(record, renamed))
    except (IllegalRecordError, DefinitionChangedError):
        return False
    part = execution.machine.places[execution.state].part
    path = record.target.partition(".")[2]
    return part is None or part.kind is old.part(path).kind


def folds(old, new, renamed, *, every):
    """For every state of the older definition: whether histories that lead there fold under the newer, and do not.

    Both machines are deterministic, so that walking all pairs of (where the old one stands, where the new one does)
    by the real fold covers every history there is.
    """
    machine = compile_machine(old.parts, every=True) if every else old.machine
    onward: dict[str, list[Transition]] = {}
    for move in machine.moves():
        onward.setdefault(move.source, []).append(move)
    found: dict[str, set[bool]] = {"pending": {True}}
    todo: list[tuple[Execution, Execution | None]] = [(opened(old), opened(new))]
    seen: set[tuple[str, str | None]] = {("pending", "pending")}
    while todo:
        before, other = todo.pop()
        for move in onward.get(before.state, ()):
            execution, newer = copied(before), copied(other) if other is not None else None
            record = Record("x", old.name, execution.seq + 1, move.event, move.source, move.target, 0.0)
            execution.replay(record)
            if newer is not None and not goes_on(newer, old, record, renamed):
                newer = None
            found.setdefault(execution.state, set()).add(newer is not None)
            pair = (execution.state, newer.state if newer is not None else None)
            if pair not in seen:
                seen.add(pair)
                todo.append((execution, newer))
    return found


@settings(max_examples=100)
@given(definitions(), st.booleans())
def test_compare_is_true(given_definitions, every):
    """It says that a state goes on exactly where every history that leads there folds, "depends" where some do."""
    old, new, renamed = given_definitions
    comparison = compare(old, new, renamed=renamed, every=every)
    found = folds(old, new, renamed, every=every)

    assert set(found) == {each.state for each in comparison.states}
    for each in comparison.states:
        ways = found[each.state]
        if each.verdict is Verdict.ENDED:
            assert (each.becomes is not None) == (ways == {True}), each
        elif each.verdict is Verdict.DEPENDS:
            assert ways == {True, False}, each
        else:
            assert ways == {each.verdict in (Verdict.SAME, Verdict.RENAMED)}, each
        assert bool(each.reasons) == (each.verdict is Verdict.RENAMED or False in ways), each


@settings(max_examples=60)
@given(definitions(), st.randoms(use_true_random=False))
def test_compare_is_true_of_what_really_happens(given_definitions, random):
    """Whatever happens to an execution of the older definition: at every stop of its way, the verdict is kept."""
    old, new, renamed = given_definitions
    comparison = compare(old, new, renamed=renamed, every=True)  # also of what is reached by poison alone
    for record, newer in wandered(old, new, renamed, random):
        verdict = comparison[record.target].verdict
        if verdict in (Verdict.SAME, Verdict.RENAMED):
            assert newer is not None
            assert newer.state == comparison[record.target].becomes
        elif verdict in (Verdict.DRAIN, Verdict.CANNOT):
            assert newer is None


def wandered(old, new, renamed, random: Random):
    """Every record of a random way through the older definition, with the newer execution, where it could follow."""
    moves = ActionModel(old)
    execution, ledger, newer = opened(old), moves.nothing, opened(new)
    for _ in range(30):
        able = list(moves.at(execution, ledger))
        if not able:
            break
        move = random.choice(able)
        before = len(execution.history)
        move.act(execution, 0.0)
        while execution.advance(0.0) is not None:
            pass
        ledger = move.ledger
        for record in execution.history[before:]:
            if newer is not None and not goes_on(newer, old, record, renamed):
                newer = None
            yield record, newer


def test_what_goes_on_ends_under_the_newer_definition():
    """An execution that stands before a new step, folded under the new definition, executes it and succeeds."""
    old, new = made("a", "b"), made("a", "b", "c", version=2)
    assert compare(old, new)["executing.b"].verdict is Verdict.SAME
    execution = opened(new)
    for record in [r for r in history(old) if r.seq <= 2]:
        execution.replay(record)

    moves = ActionModel(new)
    while not execution.ended:
        label = "takes effect and returns"
        move = next(move for move in moves.at(execution, moves.nothing) if move.label.endswith(label))
        move.act(execution, 0.0)

    assert execution.state == "succeeded"
    assert [record.step for record in execution.history] == [None, "a", "b", "c"]


def history(saga):
    """The records of a run in which all goes well."""
    return Mediator(saga).run(saga, None).history


def test_the_comparison_is_public():
    """What `compare` returns can be named in annotations."""
    assert isinstance(compare(made("a"), made("a")), Comparison)


def test_the_page_shows_what_it_says():
    """The output in the documentation is the output."""
    page = (Path(__file__).parent.parent / "docs" / "upgrades.md").read_text(encoding="utf-8")

    assert str(compare(made("reserve", "charge"), made("reserve", "check", "charge", version=2))) in page
