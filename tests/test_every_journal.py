"""What every journal does alike: lists, deletes, posts, claims and refuses, each in a table of cases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsm_mediator import JournalError, LeaseLostError
from fsm_mediator.journal.lines import plain
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.protocol import (
    Commit,
    Definition,
    Driver,
    Forgotten,
    IdTakenError,
    InboxChangedError,
    Queued,
    Recoveries,
)
from fsm_mediator.records import Failure, InboxItem
from tests.commits import DRIVER, OTHER, acceptance, ending, found, going_on, ids, opening, record, seen, taken
from tests.drivers import JOURNALS, MARKS, journal
from tests.test_verbs import dead_driver

__all__ = ["journal"]


@pytest.fixture
def kept(journal: Any) -> Any:
    """A journal with two drivers."""
    journal.enlist(DRIVER)
    journal.enlist(OTHER)
    return journal


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "5 4 3 2 1 0"),
        ({"phase": "stuck"}, "2 1 0"),
        ({"phase": "stuck_executing"}, "1"),
        ({"phase": "stuck.a"}, "0"),
        ({"phase": "stuck", "saga": "s", "limit": 1}, "1"),
        ({"phase": "waiting"}, "5 4"),
        ({"phase": "succeeded", "parent": "p"}, "3"),
        ({"phase": "succeeded", "parent": "q"}, ""),
        ({"parent": "p"}, "5 3 1"),
        ({"parent": "p", "limit": 2}, "5 3"),
        ({"parent": "p", "saga": "t"}, "5"),
        ({"saga": "t"}, "5 4 2"),
        ({"saga": "t", "before": 3.0}, "4 2"),
        ({"before": 1.0}, ""),
        ({"before": 1.5}, "3 2 1 0"),
        ({"before": 2.0, "phase": "stuck"}, "2 1 0"),
        ({"before": math.inf, "limit": 3}, "5 4 3"),
        ({"limit": 0}, ""),
        ({"phase": "waiting", "limit": 0}, ""),
        ({"phase": "no such"}, ""),
        ({"saga": "no such"}, ""),
    ],
    ids=str,
)
def test_list_takes_every_choice_at_once(kept, chosen, expected):
    """Phase or state, saga, parent, age and number: newest first."""
    targets = [("stuck.a", "s"), ("stuck_executing.a", "s"), ("stuck.b", "t"), ("succeeded", "s")]
    targets += [("waiting.w", "t"), ("waiting.w", "t")]
    for number, (target, saga) in enumerate(targets):
        opened = {"saga": saga, "parent": "p" if number % 2 else None}
        records = ("executing.a", target) if number == 4 else ("executing.a", "executing.b", target)
        kept.write(opening(f"{number}", *(records if number > 3 else (target,)), held=False, opened=opened))
    assert ids(kept, **chosen) == expected.split()


def family(kept: Any, root: str, *branches: str, at: float = 1.0, root_state: str = "succeeded", **opened: Any) -> None:
    """An execution that has ended, with branches in these states."""
    children = tuple(acceptance(f"{root}/g.{number}", parent=root) for number in range(len(branches)))
    kept.write(opening(root, "waiting.g", held=False, children=children, opened=opened))
    for child, state in zip(children, branches, strict=True):
        epoch = taken(kept, child.saga_id, "d-1").epoch
        last = record(child.saga_id, 1, state, at=at)
        kept.write(Commit(child.saga_id, (last,), "d-1", epoch=epoch, held=False, wake_at=5000.0))
    epoch = taken(kept, root, "d-1").epoch
    kept.write(Commit(root, (record(root, 2, root_state, at=at),), "d-1", epoch=epoch, held=False))


@pytest.mark.parametrize("how", ["prune", "prune_these"])
def test_whole_is_deleted_once_none_of_it_can_change(kept, how):
    """A stuck branch of an ended execution can change only if it moves, has an owner, or has a verb."""
    family(kept, "ended", "succeeded", "failed")
    family(kept, "stuck", "stuck.a", "stuck_executing.b")
    family(kept, "moves", "succeeded", "retrying.a")
    family(kept, "pending", "succeeded", "pending")
    family(kept, "late", "succeeded", at=7.0)
    family(kept, "owned")
    family(kept, "verb")
    family(kept, "running", root_state="executing.a")
    assert kept.claim("owned", "d-2") is not None
    assert kept.post("verb", InboxItem("undo", "v-1"))

    def delete(before: float) -> int:
        roots = [saga_id for saga_id in ids(kept) if "/" not in saga_id] + ["unknown", "half \ud800"]
        return int(kept.prune(before) if how == "prune" else kept.prune_these(roots, before))

    assert delete(1.0) == 0
    assert delete(7.0) == 6
    assert delete(7.5) == 2
    assert {saga_id.partition("/")[0] for saga_id in ids(kept)} == {"moves", "pending", "owned", "verb", "running"}
    for saga_id in ("ended", "stuck", "late"):
        assert kept.forgotten(saga_id) is not None
        with pytest.raises(IdTakenError, match="or is forgotten"):
            kept.write(opening(saga_id, "executing.a"))
    assert kept.forgotten("ended/g.0") is None
    assert kept.forgotten("moves") is None
    assert kept.records("ended") == []


@pytest.mark.parametrize(
    ("settings", "deleted", "left"),
    [
        ({}, 7, ""),
        ({"limit": 0}, 0, "a b c"),
        ({"limit": 1}, 3, "b c"),
        ({"limit": 4}, 3, "b c"),
        ({"limit": 5}, 5, "c"),
        ({"limit": 6}, 5, "c"),
        ({"limit": 7}, 7, ""),
        ({"saga": "s"}, 5, "b"),
        ({"saga": "t", "limit": 1}, 2, "a c"),
        ({"saga": "u"}, 0, "a b c"),
    ],
    ids=str,
)
def test_pruning_stops_before_it_deletes_more_than_the_limit(kept, settings, deleted, left):
    """The first whole is deleted however large it is; a later one only if it fits."""
    family(kept, "a", "succeeded", "succeeded")
    family(kept, "b", "succeeded", saga="t")
    family(kept, "c", "failed")

    assert kept.prune(100.0, token=7, **settings) == deleted

    assert sorted(saga_id for saga_id in ids(kept) if "/" not in saga_id) == left.split()
    assert kept.prune(100.0, token=7, **settings) == deleted  # a repetition deletes no more


def test_pruning_goes_on_where_the_call_of_its_token_stopped(kept):
    """A call that is repeated with its token deletes at most its limit in all. Another token counts from zero."""
    for number in range(5):
        kept.write(opening(f"{number}", "failed", held=False))
    assert [kept.prune(9.0, limit=limit, token=token) for limit, token in ((2, 1), (2, 1), (3, 1), (1, 2), (9, 0))] == [
        *(2, 2, 3, 1, 1),
    ]


def test_forgotten_ids_are_forgotten_on_demand(kept):
    """Those that ended before the time, of one saga or of all; a file tells what became of the others."""
    for saga_id, saga in (("a", "s"), ("b", "t")):
        kept.write(opening(saga_id, "failed", held=False, opened={"saga": saga}))
    assert kept.prune(9.0) == 2
    row = kept.forgotten("b")
    assert row in (Forgotten(), Forgotten("t", "failed", 1.0))
    if row != Forgotten():
        assert kept.prune(1.0, forget_ids=True) == kept.prune(9.0, saga="s", forget_ids=True) == 0
        assert (kept.forgotten("a"), kept.forgotten("b")) == (None, row)
        assert kept.prune(9.0, forget_ids=True) == 0
        assert kept.forgotten("b") is None
        kept.write(opening("b", "executing.a"))


def test_post_of_a_commit_reaches_what_can_still_take_it(kept):
    """An open execution, the execution itself, a branch that the commit opens; not what has ended, nor a stranger."""
    kept.write(opening("x", "executing.a"))
    kept.write(opening("y", "executing.a"))
    kept.write(opening("over", "failed", held=False))
    children, dormant = (acceptance("x/g.a", parent="x"),), (acceptance("x/g.b", parent="x"),)
    names = ("x", "y", "over", "unknown", "x/g.a", "x/g.b", "y")
    posts = tuple((saga_id, InboxItem("signal", f"s-{number}", number)) for number, saga_id in enumerate(names))

    written = kept.write(Commit("x", (), "d-1", children=children, dormant=dormant, posts=posts, token=3))

    assert [item.name for item in written] == ["s-0"]
    inboxes = {saga_id: [(item.name, plain(item.value)) for item in kept.inbox(saga_id)] for saga_id in names}
    assert inboxes == {
        "x": [("s-0", 0)],
        "y": [("s-1", 1), ("s-6", 6)],
        "over": [],
        "unknown": [],
        "x/g.a": [("s-4", 4)],
        "x/g.b": [("s-5", 5)],
    }
    assert sorted(kept.claimable(0.0, 9)) == ["x/g.a", "x/g.b"]
    assert sorted(kept.beat("d-1")) == ["x", "y"]


def test_dormant_branch_is_claimed_once_it_has_an_item(kept):
    """It has no time until then, and does not count as due."""
    kept.write(opening("x", "waiting.g", dormant=(acceptance("x/g.a", parent="x"),)))
    assert (kept.claimable(1e12, 9), kept.next_wake(), found(kept, "x/g.a").wake_at) == ([], None, math.inf)
    assert kept.count_branches("x") == {"pending": 1}
    assert kept.post("x/g.a", InboxItem("begin"))
    assert kept.claimable(0.0, 9) == ["x/g.a"]


def test_notes_of_a_commit_are_about_what_exists(kept):
    """About its execution, a branch that it opens, another one, or a saga; one about a stranger is left out."""
    kept.write(opening("other", "executing.a"))
    about: tuple[Any, ...] = ("x", "x/g.a", "other", None, "unknown")
    notes = tuple(Note("seen", saga_id, value=number) for number, saga_id in enumerate(about))
    kept.write(opening("x", "executing.a", children=(acceptance("x/g.a", parent="x"),), notes=notes))
    assert [(note.saga_id, note.value) for note in kept.notes()] == [("x", 0), ("x/g.a", 1), ("other", 2), (None, 3)]


@pytest.mark.parametrize(
    ("commit", "error"),
    [
        (going_on("unknown", 2), JournalError),
        (going_on("x", 2, epoch=2), LeaseLostError),
        (going_on("x", 2, driver="d-2"), LeaseLostError),
        (going_on("x", 2, driver=None), LeaseLostError),
        (going_on("x", 3), LeaseLostError),
        (going_on("x", 2, children=(acceptance("y"),)), IdTakenError),
        (going_on("x", 2, dormant=(acceptance("y"),)), IdTakenError),
        (opening("x", "executing.a", payload="another"), IdTakenError),
        (going_on("x", 2, unless_mail=("signal", "paid")), InboxChangedError),
        (going_on("free", 1, driver="d-1"), LeaseLostError),
    ],
    ids=[
        *("unknown", "another epoch", "another driver", "no driver", "a gap", "a child's id", "a dormant child's id"),
        *("its own id", "an unread item", "not owned"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_refused_commit_changes_nothing(kept, commit, error, together):
    """Alone or with others, which are written."""
    kept.write(opening("x", "executing.a"))
    kept.write(opening("y", "executing.a"))
    kept.write(opening("free", driver=None))
    kept.post("x", InboxItem("signal", "paid"))
    before = [found(kept, saga_id) for saga_id in ("x", "y", "free")]
    refused = msgspec.structs.replace(commit, posts=(("y", InboxItem("cancel")),), notes=(Note("seen", "y"),), token=9)
    if together:
        result, written = kept.write_all([refused, opening("z", "executing.a")])
        assert written == ()
    else:
        with pytest.raises(JournalError) as caught:
            kept.write(refused)
        result = caught.value
    assert type(result) is error
    assert "othing was written" in str(result)
    assert [found(kept, saga_id) for saga_id in ("x", "y", "free")] == before
    assert (kept.notes(), kept.inbox("y")) == ([], ())
    assert (kept.find("z") is not None) is together


def test_commit_that_is_written_again_changes_nothing_more(kept):
    """An opening, a record, an end, a commit without records: each repetition has the result of the first."""
    kept.write(opening("other", "executing.a"))
    kept.post("other", InboxItem("cancel"))
    posts = (("x", InboxItem("signal", "paid")),)
    commits = [
        opening("x", "executing.a", children=(acceptance("x/g.a", parent="x"),), posts=posts),
        going_on("x", 2, posts=posts, notes=(Note("seen", "x"),)),
        Commit("x", (), "d-1", wake_at=7.0, posts=posts, token=5),
        going_on("x", 3, "waiting.w", held=False),
    ]
    for commit in commits:
        results = [kept.write(commit) for _ in range(3)]
        assert results[0] == results[1] == results[2]
        ((again,),) = [kept.write_all([commit])]
        assert again == results[0]
    assert len(kept.inbox("x")) == 3
    assert len(kept.notes()) == 1
    assert seen(kept, "x") == [(1, "executing.a"), (2, "executing.b"), (3, "waiting.w")]
    with pytest.raises(JournalError):
        kept.write(going_on("x", 2, value="another"))
    with pytest.raises(JournalError):
        kept.write(Commit("x", (), "d-1", wake_at=8.0, token=6))


@pytest.mark.parametrize("held", [True, False])
def test_same_record_with_another_owner_is_no_repetition(kept, held):
    """Two commits with the same record differ if only one of them releases the execution."""
    kept.write(opening("x", "executing.a"))
    commit = going_on("x", 2, "waiting.w", held=held)
    kept.write(commit)
    with pytest.raises(LeaseLostError):
        kept.write(msgspec.structs.replace(commit, held=not held))
    assert (found(kept, "x").driver is not None) is held
    assert kept.write(commit) == ()


def test_taken_items_are_gone_and_the_others_stay(kept):
    """In their order; an item of another execution cannot be taken."""
    for saga_id in ("x", "y"):
        kept.write(opening(saga_id, "executing.a"))
        for name in ("a", "b", "c"):
            kept.post(saga_id, InboxItem("signal", name))
    numbers = {item.name: item.number for item in kept.inbox("x")}
    stranger = kept.inbox("y")[0].number

    left = kept.write(going_on("x", 2, taken=(numbers["b"], stranger, 999)))

    assert [item.name for item in left] == [item.name for item in kept.inbox("x")] == ["a", "c"]
    assert len(kept.inbox("y")) == 3
    assert found(kept, "x").mail == 2
    assert kept.write(going_on("x", 3, "waiting.w", held=False, taken=(numbers["a"], numbers["c"]))) == ()
    assert (found(kept, "x").mail, kept.claimable(1e12, 9)) == (0, [])


def test_claim_is_given_again_to_its_owner_and_to_nobody_else(kept):
    """Under the same epoch; a release under an old epoch frees nothing."""
    kept.write(opening("x", "executing.a"))
    assert kept.claim("x", "d-2") is None
    first = kept.claim("x", "d-1")
    assert (first.epoch, first.abandoned, first.driver.id, first.driver_alive) == (1, False, "d-1", True)
    kept.release("x", 2)
    assert found(kept, "x").driver is not None
    kept.release("x", 1)
    assert (found(kept, "x").driver, found(kept, "x").epoch) == (None, 1)
    second = [kept.claim("x", "d-2") for _ in range(2)]
    assert [(each.epoch, each.driver.id, each.abandoned) for each in second] == [(2, "d-2", False)] * 2
    assert kept.claim("x", "d-1") is None
    kept.dismiss("d-2")
    assert found(kept, "x").driver is None
    assert taken(kept, "x", "d-1").epoch == 3


MANY = [pytest.param(name, marks=MARKS.get(name, ())) for name in ("sqlite", "postgres")]
"""The journals that claim many executions together."""

CLAIMED = {
    "free": (2, False),
    "pending": (2, False),
    "called": (2, False),
    "own": (1, False),
    "taken": (2, True),
    "left": (2, True),
    "ended": (2, False),
    "stuck": (2, False),
}
"""The executions of `fill` that ``d-1`` can claim: the epoch of its claim, and whether a dead driver was the owner."""


@pytest.fixture(params=MANY)
def twins(request: Any, tmp_path: Path) -> Iterator[Any]:
    """Two journals with the same executions."""
    made = []
    for name in ("together", "alone"):
        (tmp_path / name).mkdir()
        made.append(JOURNALS[request.param](tmp_path / name))
    gone = dead_driver()
    for each in made:
        fill(each, gone)
    yield made
    for each in made:
        each.close()


def fill(kept: Any, gone: Driver) -> None:
    """Executions in all states that matter for a claim."""
    for driver in (DRIVER, OTHER, gone):
        kept.enlist(driver)
    kept.write(opening("free", "executing.a", held=False))
    kept.write(opening("pending", driver=None, held=False))
    kept.write(opening("called", "waiting.w", held=False))
    kept.post("called", InboxItem("cancel"))
    kept.write(opening("own", "executing.a", "executing.b"))
    kept.write(opening("theirs", "executing.a", driver=OTHER.id))
    for name in ("taken", "left"):
        kept.write(opening(name, "executing.a", driver=gone.id, recoveries=Recoveries(2, 1)))
    taken(kept, "taken", "d-1")
    kept.write(opening("ended", "succeeded", held=False))
    kept.write(opening("stuck", "stuck.a", held=False))


@pytest.mark.parametrize(
    "asked",
    [
        [],
        ["unknown"],
        ["theirs"],
        ["left"],
        ["half a \ud800", "left", "own"],
        ["stuck", "unknown", *CLAIMED, "theirs", "half a \ud800", "left", "free"],
    ],
    ids=["none", "unknown", "of another", "of a dead driver", "few", "all"],
)
def test_many_executions_are_claimed_as_each_alone(twins, asked):
    """Those of a living driver and unknown ones are left out; a repetition claims nothing more."""
    together, alone = twins
    claims = {name: alone.claim(name, "d-1") for name in dict.fromkeys(asked) if name in (*CLAIMED, "theirs")}

    claimed = [together.claim_all(asked, "d-1") for _ in range(2)]

    assert claimed == [{name: entry for name, entry in claims.items() if entry is not None}] * 2
    shown = {name: (entry.epoch, entry.abandoned) for name, entry in claimed[0].items()}
    assert shown == {name: CLAIMED[name] for name in asked if name in CLAIMED}
    assert list(together.entries()) == list(alone.entries())
    owned = [each.beat("d-1", everything=True) for each in twins]
    assert sorted(owned[0]) == sorted(owned[1]) == sorted({*claimed[0], "own", "taken"})
    assert together.claimable(1e12, 99) == alone.claimable(1e12, 99)


def test_driver_that_nobody_enlisted_claims_none_of_many(twins):
    """Where a single claim would raise an error, nothing is claimed."""
    together, alone = twins

    assert together.claim_all(list(CLAIMED), "nobody") == {}

    assert list(together.entries()) == list(alone.entries())


def test_many_executions_are_found_and_read_as_each_alone(twins):
    """Unknown ones are left out, and so are those without records, where only records are read."""
    kept, _ = twins
    names = ["theirs", "unknown", *CLAIMED, "half a \ud800", "own"]

    assert kept.find_all(names) == {name: found(kept, name) for name in (*CLAIMED, "theirs")}
    begun = [name for name in (*CLAIMED, "theirs") if name != "pending"]
    assert kept.records_of_all(names) == {name: kept.records(name) for name in begun}
    assert (list(kept.find_all(["own"])), list(kept.records_of_all(["own"]))) == (["own"], ["own"])
    assert [each.seq for each in kept.records_of_all(["own", "free"])["own"]] == [1, 2]
    for nothing in ([], ["unknown"], ["half a \ud800"]):
        assert (kept.find_all(nothing), kept.records_of_all(nothing)) == ({}, {})


def test_new_attempt_does_not_queue_behind_the_old_place_of_its_execution(kept):
    """An execution queues, and then announces another attempt: if a slot is free, this attempt begins."""
    kept.enlist(Driver("d-1", limits=(("billing", 1),)))
    kept.write(opening("x", "executing.a", slot="billing", wake_at=5.0))
    kept.write(opening("y", "executing.a", slot="billing", wake_at=5.0))
    assert found(kept, "x").queued == "billing"

    assert isinstance(kept.write(going_on("x", 2, slot="billing")), Queued)  # behind the other execution
    kept.write(ending("y", 2, slot=""))
    assert not isinstance(kept.write(going_on("x", 3, slot="billing")), Queued)

    assert found(kept, "x").queued is None


def test_undone_execution_ends_a_second_time(kept):
    """A verb wakes what has succeeded; the row has ended again only after the undo, and its answer is kept."""
    kept.write(opening("x", "executing.a"))
    kept.write(ending("x", 2))
    assert kept.claimable(1e12, 9) == []
    assert not kept.post("x", InboxItem("signal", "paid"))
    assert kept.post("x", InboxItem("undo", "v-1", at=3.0))
    assert kept.claimable(0.0, 9) == ["x"]
    claimed = taken(kept, "x", "d-2")
    undo = record("x", 3, "compensating.a", "succeeded")
    kept.write(Commit("x", (undo,), "d-2", epoch=claimed.epoch, taken=(kept.inbox("x")[0].number,)))
    assert kept.prune(1e12) == 0
    kept.write(going_on("x", 4, "failed", driver="d-2", epoch=claimed.epoch, held=False))
    assert (kept.claimable(1e12, 9), found(kept, "x").changed_at) == ([], 4.0)
    assert not kept.post("x", InboxItem("undo", "v-2"))
    assert kept.prune(4.0) == 0
    assert kept.prune(4.5) == 1


def test_definitions_and_faults_are_known_as_long_as_they_count(kept):
    """Of enlisted drivers, whose last enlistment counts; a fault counts for its epoch, until the execution ends."""
    definitions = (Definition("f-1", "{1}"), Definition("f-2", "{2}"))
    kept.enlist(Driver("d-3", definitions=definitions))
    assert kept.known() == {"f-1", "f-2"}
    assert [kept.shape(each) for each in ("f-1", "f-2", "f-3")] == ["{1}", "{2}", None]
    kept.enlist(Driver("d-3", definitions=(Definition("f-2", "{changed}"),)))
    assert (kept.known(), kept.shape("f-2"), kept.shape("f-1")) == ({"f-2"}, "{2}", "{1}")
    assert [kept.is_driver_alive(each) for each in ("d-3", "nobody")] == [True, False]
    kept.dismiss("d-3")
    assert (kept.known(), kept.is_driver_alive("d-3")) == (frozenset(), False)

    for saga_id in ("x", "y"):
        kept.write(opening(saga_id, "executing.a"))
        kept.note_fault(saga_id, 1, Fault("Order", "$.n", "no number"))
    kept.note_fault("unknown", 1, Fault("Order", "$.n", "no number"))
    kept.note_fault("y", 1, Fault("Order", "$.m", "no number either"))
    assert kept.faults() == {"x": Fault("Order", "$.n", "no number"), "y": Fault("Order", "$.m", "no number either")}
    kept.release("x", 1)
    taken(kept, "x", "d-2")
    kept.write(ending("y", 2))
    assert kept.faults() == {}


def test_planned_branches_of_a_commit_that_ends_them_are_never_created(kept):
    """Neither a later batch nor a repeated batch creates them. Branches that exist stay."""
    branches = tuple(acceptance(f"x/g.{number}", number, parent="x") for number in range(4))
    kept.write(opening("x", "waiting.g", plan=Plan(branches)))
    for token, creates in enumerate(((0, 1), (0, 1), (3, 3), (2, 1)), 1):
        kept.write(Commit("x", (), "d-1", token=token, plan=Plan(creates=creates)))
        assert ids(kept, parent="x") == ["x/g.0"]
    kept.write(Commit("x", (), "d-1", token=8, plan=Plan(ends=Failure("Cancelled", "enough"))))
    kept.write(Commit("x", (), "d-1", token=9, plan=Plan(creates=(1, 4))))
    assert ids(kept, parent="x") == ["x/g.0"]
    assert kept.planned("x").ended == Failure("Cancelled", "enough")
    assert plain(found(kept, "x/g.0").acceptance.payload) == 0
    assert kept.claimable(0.0, 9) == ["x/g.0"]
