"""The journal's protocol: every state of a small model is searched, and each of its steps replayed on real journals."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from fsm_mediator import JournalError, MemoryJournal, SQLiteJournal, UnknownExecutionError
from fsm_mediator.journal.optional import claim_some, many_of
from fsm_mediator.journal.protocol import Commit, Driver, IdTakenError, Journal, new_token
from fsm_mediator.records import InboxItem
from tests import protocol_model as model
from tests.commits import Clock, acceptance, record
from tests.protocol_model import DRIVERS, NAMES, Belief, State, Step

EVERY = int(os.environ.get("PROTOCOL_EVERY", "0"))
"""1: replay the steps from every state, which takes some minutes. By default those from some of the states."""

PAGE = Path(__file__).parent.parent / "docs" / "journal.md"


@pytest.fixture(scope="module")
def graph() -> model.Graph:
    """Every state of the model."""
    return model.explored()


def test_every_state_keeps_the_invariants(graph):
    """Whoever is robbed, restarted or left without an answer, in whatever order: the invariants hold."""
    assert len(graph) > 4_000
    assert [(name, model.path_to(graph, state)) for state in graph for name in model.broken(state)] == []
    assert model.traps(graph) == set()


def without(*names: str) -> Callable[[State], Iterator[Step]]:
    """The steps of the model without those of some kinds."""
    return lambda state: (step for step in model.steps(state) if step[0][0] not in names)


def unfenced(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that looks at the number of the record alone."""
    yield from model.steps(state)
    for driver in DRIVERS:
        belief = state.beliefs[driver]
        if belief is not None and len(state.writers) == belief.seq and not state.ended:
            yield (
                ("append", driver),
                "done",
                replace(state, writers=(*state.writers, (driver, belief.epoch, state.owner, state.epoch))),
            )


def unnumbered(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that looks at the driver, and not at the epoch that it claimed under."""
    for action, answer, after in model.steps(state):
        if action == ("append_late", state.owner):
            writer = state.owner, state.epoch - 1, state.owner, state.epoch
            yield action, "done", replace(after, writers=(*state.writers, writer))
        else:
            yield action, answer, after


def doubling(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that knows no tokens: what is posted again comes again."""
    for action, answer, after in model.steps(state):
        doubles = action[0] == "post_again" and not state.ended
        yield action, answer, replace(after, mail=(*state.mail, state.posted)) if doubles else after


def doubting(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that counts a repeated `prune` anew."""
    for action, answer, after in model.steps(state):
        yield action, answer, replace(after, told=after.told + state.told) if action[0] == "prune_again" else after


def stealing(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that gives a repeated claim to any driver, under the epoch that it has."""
    yield from model.steps(state)
    for driver in DRIVERS:
        if state.owner not in (None, driver) and state.alive[driver] and not state.ended and not state.pruned:
            yield (
                ("claim_again", driver),
                "done",
                state.believing(driver, Belief(state.epoch, len(state.writers), state.mail)),
            )
            belief = state.beliefs[driver]
            if belief is not None and belief.epoch == state.epoch and len(state.writers) == belief.seq:
                writer = driver, belief.epoch, state.owner, state.epoch
                yield ("append", driver), "done", replace(state, writers=(*state.writers, writer))


def repeating(state: State) -> Iterator[Step]:
    """The steps of the model, with a journal that takes a repeated commit again."""
    for action, answer, after in model.steps(state):
        if answer == "fenced" and state.owner == action[1]:
            yield action, "done", replace(after, writers=(*state.writers, (*(action[1], state.epoch) * 2,)))
        yield action, answer, after


@pytest.mark.parametrize(
    ("possible", "breaks"),
    [
        (unfenced, "one writer"),
        (unnumbered, "one writer"),
        (stealing, "one writer"),
        (repeating, "no gap, no fork"),
        (doubling, "each item once"),
        (doubting, "counted once"),
        (without("look", "claim_again", "claim_all_again"), "never abandoned"),
    ],
)
def test_the_search_finds_a_protocol_that_is_wrong(possible, breaks):
    """Without the epoch, with a call that counts twice, or without a look after a lost answer an invariant breaks."""
    found: set[str] = set()
    graph: model.Graph = {State(): (None, None)}
    todo = [State()]
    while todo and breaks not in found and breaks != "never abandoned":
        state = todo.pop()
        found.update(model.broken(state))
        for step in possible(state) if len(state.writers) <= model.RECORDS else ():
            if step[2] not in graph:
                graph[step[2]] = step, state
                todo.append(step[2])
    if breaks == "never abandoned" and model.traps(model.explored(possible), possible):
        found.add(breaks)

    assert breaks in found


def test_the_page_names_the_invariants():
    """What holds is written where users look for it."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert [name for name, words in NAMES.items() if f"**{name}**: {words}" not in page] == []


class Replay:
    """One path of the model, on a real journal.

    Args:
        journal: The journal; it may hold the executions of other replays.
        number: Tells the ids of this replay from those of others.
    """

    def __init__(self, journal: Journal, number: int) -> None:
        self.journal = journal
        self.saga_id = f"x-{number}"
        self.drivers = [Driver(f"d-{number}-{each}") for each in DRIVERS]
        self.items: list[int] = []
        self.token, self.pruning = 0, new_token()
        for driver in self.drivers:
            journal.enlist(driver)

    def answer(self, action: model.Action, belief: Belief | None) -> str:
        """Do what *action* says, and say what the journal answered."""
        verb, number = action
        driver, saga_id, journal = self.drivers[number], self.saga_id, self.journal
        if verb.endswith("_late"):
            entry = journal.find(saga_id)
            belief = Belief(1, 1) if entry is None else Belief(entry.epoch - 1, entry.seq)
        verb = verb.removesuffix("_lost").removesuffix("_again").removesuffix("_late")
        if verb == "enlist":
            journal.enlist(driver)
        elif verb == "dismiss":
            journal.dismiss(driver.id)
        elif verb == "post":
            self.token = self.token if action[0] == "post_again" else new_token()
            if not journal.post(saga_id, InboxItem("signal", "s"), token=self.token):
                return "refused"
            self.items += [item.number for item in journal.inbox(saga_id) if item.number not in self.items]
        elif verb == "prune":
            return str(journal.prune(math.inf, saga=saga_id, token=self.pruning))
        elif verb in ("claim", "claim_all", "claim_some"):
            return self._claimed(verb, driver.id)
        elif verb == "look":
            entry = journal.find(saga_id)
            return "own" if entry is not None and entry.driver == driver else "not own"
        elif verb == "release":
            assert belief is not None
            journal.release(saga_id, belief.epoch)
        elif verb != "restart":
            return self._written(verb, driver.id, belief)
        return "done"

    def _claimed(self, verb: str, driver_id: str) -> str:
        journal, saga_id = self.journal, self.saga_id
        if verb == "claim":
            try:
                return "held" if journal.claim(saga_id, driver_id) is None else "done"
            except UnknownExecutionError:
                return "unknown"
        if verb == "claim_all":
            many = many_of(journal)
            if many is not None:
                return "done" if many.claim_all(["unknown", saga_id], driver_id) else "none"
            alone = self._claimed("claim", driver_id)
            return alone if alone == "done" else "none"
        others = [entry.saga_id for entry in journal.entries() if entry.saga_id != saga_id]
        return "done" if claim_some(journal, driver_id, 1e9, 1, (), others) else "none"

    def _written(self, verb: str, driver_id: str, belief: Belief | None) -> str:
        epoch, seq, mail = belief or Belief(1, 0)
        last = record(self.saga_id, seq + 1, "succeeded" if verb == "end" else "executing.a")
        taken = tuple(self.items[item - 1] for item in mail)
        commit = Commit(
            *(self.saga_id, (last,), driver_id, epoch),
            held=verb != "end",
            seen=max(taken, default=0),
            taken=taken,
            acceptance=acceptance(self.saga_id, saga=self.saga_id) if verb == "open" else None,
        )
        try:
            self.journal.write(commit)
        except IdTakenError:
            return "taken"
        except JournalError:  # it is another's, or was deleted
            return "fenced"
        return "done"

    def seen(self) -> object:
        """What the journal shows of the execution."""
        entry = self.journal.find(self.saga_id)
        if entry is None:
            return None
        owner = None if entry.driver is None or not entry.driver_alive else self.drivers.index(entry.driver)
        mail = [self.items.index(item.number) + 1 for item in self.journal.inbox(self.saga_id)]
        records = [each.seq for each in self.journal.records(self.saga_id)]
        claimable = self.saga_id in self.journal.claimable(1e9, 10**9)
        return entry.epoch, owner, records, entry.state, mail, claimable


def expected(state: State) -> object:
    """What a journal shows in *state*."""
    if not state.epoch or state.pruned:
        return None
    count = len(state.writers)
    where = "succeeded" if state.ended else "executing.a"
    return state.epoch, state.owner, list(range(1, count + 1)), where, list(state.mail), state.is_free


def is_repeated(state: State, action: model.Action) -> bool:
    """Whether *action* repeats the last commit of its driver: it may be answered as before, and changes nothing."""
    verb, driver = action[:2]
    belief, last = state.beliefs[driver], state.writers[-1:]
    if state.pruned:
        return False
    if verb == "open" and belief is None:  # the answer to its own open was lost
        return state.owner == driver and state.epoch == 1 and last[0][:2] == (driver, 1) and len(state.writers) == 1
    if belief is None or verb not in ("append", "end") or len(state.writers) != belief.seq + 1:
        return False
    return state.epoch == belief.epoch and last[0][:2] == (driver, belief.epoch)


def replayed(graph: model.Graph, journal: Journal, states: list[State]) -> int:
    """Replay every step from each of *states*, after the shortest path to it. Returns how many steps that were."""
    count = 0
    for state in states:
        way = model.path_to(graph, state)
        for step in model.steps(state):
            count += 1
            replay, now = Replay(journal, count), State()
            for action, answer, after in [*way, step]:
                found = replay.answer(action, now.beliefs[action[1]])
                assert found == answer or (found == "done" and is_repeated(now, action)), (way, action, found)
                assert replay.seen() == expected(after), (way, action)
                now = after
    return count


def test_the_memory_journal_takes_every_step_of_the_model(graph):
    """The model is the protocol of the journal in memory, step by step, wherever it branches."""
    states = list(graph)[:: EVERY or 11]

    assert sum(replayed(graph, MemoryJournal(), [state]) for state in states) > 2_000


def test_the_sqlite_journal_takes_every_step_of_the_model(graph):
    """The model is the protocol of the SQLite journal as well."""
    count = 0
    for state in list(graph)[:: EVERY or 97]:
        with closing(SQLiteJournal(":memory:", clock=Clock())) as journal:
            count += replayed(graph, journal, [state])

    assert count > 200
