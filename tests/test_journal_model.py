"""The journals, in memory and in a file, against one plain model of what they promise."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from fsm_mediator import AesGcm, JournalError, LeaseLostError, MemoryJournal, SQLiteJournal, UnknownExecutionError
from fsm_mediator.journal.finding import Filter, for_finding
from fsm_mediator.journal.following import REMOVED, is_counted, number_in
from fsm_mediator.journal.notes import ATTRIBUTES, Note, for_notes
from fsm_mediator.journal.operators import Fault, for_operators
from fsm_mediator.journal.optional import inbox_after, many_of
from fsm_mediator.journal.planning import Plan, branches_counted, planned_of
from fsm_mediator.journal.protocol import (
    NO_RECOVERIES,
    Commit,
    Definition,
    Driver,
    Forgotten,
    IdTakenError,
    InboxChangedError,
    Journal,
    Queued,
    Recoveries,
)
from fsm_mediator.journal.retention import for_retention
from fsm_mediator.records import VERBS, Acceptance, Failure, InboxItem, VerbAnswer
from fsm_mediator.states import ENDED, is_in_phase
from tests.commits import (
    Clock,
    acceptance,
    ids,
    record,
)
from tests.drivers import examples
from tests.postgres_server import server, server_clock, without_second_look

TRACE = {"traceparent": "00-1-2-01", "tracestate": 'vendor="ü"'}
"""The context of a trace that something was said in."""

LIMITS: dict[str, tuple[tuple[str, int], ...]] = {"d-1": (("x", 1), ("y", 2)), "d-2": (("x", 2),), "d-3": ()}
"""What each driver declares."""

NO_IDS = ("unknown", "half \ud800")
"""Ids that no execution has; the second cannot be stored."""


class JournalRemembers(RuleBasedStateMachine):
    """Whatever is done to it, in whatever order: a journal equals a plain model."""

    lease: float
    keeps_times = True
    counting = False
    caps = True
    declared: ClassVar[dict[str, tuple[tuple[str, int], ...]]] = LIMITS
    journal: Journal

    executions = Bundle("executions")
    targets = st.sampled_from(
        (
            *("executing.a", "retrying.a", "probing.a", "waiting.w", "compensating.a", "retrying_compensation.a"),
            *("stuck.a", "stuck_executing.a", "succeeded", "failed"),
        )
    )
    who = st.sampled_from(("d-1", "d-2", "d-3"))
    limits = st.sampled_from(("x", "x", "y"))

    @initialize()
    def begin(self) -> None:
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"remembers-{os.getpid()}-{id(self)}"  # noqa: S108
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.clock = Clock()
        self.opened()
        self.rows: dict[str, dict[str, Any]] = {}
        self.forgotten: dict[str, Forgotten] = {}
        self.beats: dict[str, float] = {}
        self.items = self.tokens = self.arrivals = self.numbered = 0
        self.posts: list[tuple[str, InboxItem, int]] = []
        self.answers: dict[str, VerbAnswer] = {}
        self.noted: list[Note] = []
        self.cursor, self.followed = "", dict[str, int]()
        self.moved, self.counted, self.numbers = "", dict[str, int](), dict[int, str]()
        self.knows: dict[str, tuple[Definition, ...]] = {}
        self.enlist("d-1", ())
        self.enlist("d-2", ())

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder)

    def opened(self) -> None:
        """Open the journal."""
        raise NotImplementedError

    @rule()
    def close(self) -> None:
        self.journal.close()

    def alive(self, who: str | None) -> bool:
        return who in self.beats and self.clock.now - self.beats[who] <= self.lease

    def attempt(self, commit: Commit) -> None:
        """Write, and hold what comes of it against what should."""
        row = self.rows.get(commit.saga_id)
        expected: type[JournalError] | None
        if commit.acceptance is not None:
            taken = row is not None or commit.saga_id in self.forgotten
            unknown = commit.held and commit.driver not in self.beats
            expected = IdTakenError if taken else LeaseLostError if unknown else None
        elif row is None:
            expected = JournalError
        elif (row["epoch"], row["driver"]) != (commit.epoch, commit.driver):
            expected = LeaseLostError
        else:
            expected = None
        if expected is None and any(child.saga_id in self.rows for child in commit.children):
            expected = IdTakenError
        if expected is not None:
            with pytest.raises(expected):
                self.journal.write(commit)
            return
        written = self.journal.write(commit)
        if commit.acceptance is not None:
            row = self.rows[commit.saga_id] = self.new(commit.acceptance)
        assert row is not None
        queues = commit.slot is not None and self.ask(row, commit)
        assert isinstance(written, Queued) == queues
        row["records"] += commit.records
        row["driver"] = commit.driver if commit.held else None
        row["wake_at"] = commit.wake_at
        if queues and commit.wake_at is None:
            row["wake_at"] = row["records"][-1].at
        row["recoveries"] = commit.recoveries or row["recoveries"]
        row["mail"] = [item for item in row["mail"] if item.number not in commit.taken]
        for child in commit.children:
            self.rows[child.saga_id] = self.new(child)
        if commit.plan is not None:
            self.apply(commit.plan, row)
        for saga_id, item in commit.posts:
            self.deliver(saga_id, item)
        self.keep_notes(commit.notes)
        self.answers.update((answer.name, answer) for answer in commit.answers)
        assert written == tuple(row["mail"])
        if commit.records or commit.token or commit.acceptance is not None:  # its answers are lost, once and twice
            assert self.journal.write(commit) == self.journal.write(commit) == written
            assert self.journal.write_all([commit]) == [written]

    def new(self, opened: Acceptance) -> dict[str, Any]:
        row = {"opened": opened, "records": [], "epoch": 1, "driver": None, "wake_at": None, "mail": [], "place": None}
        row |= {"recoveries": NO_RECOVERIES, "fault": (0, None), "planned": {}, "ended": None, "dormant": False}
        return row | {"abandoned": False, "posted": set()}

    def apply(self, plan: Plan, row: dict[str, Any]) -> None:
        """Do in the model what *plan* says."""
        later = {branch.successor for branch in plan.branches}
        row["planned"] |= {n: (branch, branch.saga_id in later) for n, branch in enumerate(plan.branches)}
        for number in range(*plan.creates) if row["ended"] is None else ():
            if number in row["planned"]:
                branch, dormant = row["planned"].pop(number)
                created = {"wake_at": math.inf, "dormant": True} if dormant else {}
                self.rows[branch.saga_id] = self.new(branch) | created
        row["ended"] = row["ended"] or plan.ends

    def ask(self, row: dict[str, Any], commit: Commit) -> bool:
        """Give the execution its place; whether it queues."""
        before, row["place"] = row["place"], None
        if not commit.slot:
            return False
        void = before is not None and before["begun"] and before["epoch"] != commit.epoch
        if commit.records or before is None or before["limit"] != commit.slot or void:
            before = None
        if before is not None and before["begun"]:
            row["place"] = before
            return False
        self.arrivals += 1
        place = before or {"number": self.arrivals, "overtaken": 0, "ignored_at": math.inf}
        place = row["place"] = place | {"limit": commit.slot, "epoch": commit.epoch, "begun": False}
        row["driver"] = commit.driver
        if commit.wake_at is not None:
            return True
        if place["ignored_at"] <= self.clock.now:
            place |= {"overtaken": 0, "ignored_at": math.inf}
        most, free, queue = self.queue(commit.slot, commit.driver)
        places = [each["place"] for each in queue if each["place"]["ignored_at"] > self.clock.now]
        earlier = [each for each in places if each["number"] < place["number"]][: max(0, free)]
        cap = 2 * most if self.caps else math.inf
        place["begun"] = len(earlier) < free and all(each["overtaken"] < cap for each in earlier)
        for each in earlier if place["begun"] else ():
            each["overtaken"] += 1
            if each["overtaken"] >= cap:
                each["ignored_at"] = min(each["ignored_at"], self.clock.now + self.lease)
        return not place["begun"]

    def queue(self, limit: str, who: str | None) -> tuple[int, int, list[dict[str, Any]]]:
        """The number of slots, those that are free, and the executions in the queue, as the driver *who* sees it."""
        living = {each for each in self.beats if each == who or self.alive(each)}
        most = min(
            (dict(self.declared.get(each, ()))[limit] for each in living if limit in dict(self.declared.get(each, ()))),
            default=1000,
        )
        counted = [
            row
            for row in self.rows.values()
            if (place := row["place"]) and (place["limit"], place["epoch"]) == (limit, row["epoch"])
            if row["driver"] in living
        ]
        queue = sorted((r for r in counted if not r["place"]["begun"]), key=lambda row: row["place"]["number"])
        return most, most - sum(row["place"]["begun"] for row in counted), queue

    def turns(self, limit: str, who: str) -> list[str]:
        """The executions of *who* in the queue for which a slot is free."""
        most, free, queue = self.queue(limit, who)
        queue = [row for row in queue if row["place"]["ignored_at"] > self.clock.now or row["driver"] == who]
        found = []
        for row in queue[: max(0, free)]:
            if row["driver"] == who:
                found.append(row["opened"].saga_id)
            if self.caps and row["place"]["overtaken"] >= 2 * most:
                break
        return found

    def keep_notes(self, notes: tuple[Note, ...]) -> None:
        """Keep the notes of a commit."""
        for note in notes:
            self.keep_note(note)

    def keep_note(self, note: Note) -> int:
        """Keep a note in the model; its number, or 0."""
        if note.saga_id is not None and note.saga_id not in self.rows:
            return 0
        self.numbered += 1
        self.noted.append(msgspec.structs.replace(note, number=self.numbered))
        return self.numbered

    @rule(
        name=st.one_of(executions, st.sampled_from((None, "unknown", "half \udce4"))),
        kind=st.sampled_from(("word", "other")),
        value=st.sampled_from((None, {"a": [1, "x"]}, "text", False)),
        step=st.sampled_from((None, "a.b")),
    )
    def note(self, name, kind, value, step):
        """Say something about an execution, or about a saga; the answer is lost, once."""
        self.tokens += 1
        saga = "s" if name is None else None
        note = Note(kind, name, saga, step, value, "ann", None if step else "why", self.clock.now)
        number = self.keep_note(note)
        for _ in range(2):
            assert for_notes(self.journal).add_note(note, token=self.tokens) == number

    @rule(name=executions, changes=st.dictionaries(st.sampled_from("xy"), st.sampled_from((1, True, "1", None))))
    def label(self, name, changes):
        """Set and remove attributes."""
        note = Note(ATTRIBUTES, name, value=changes, at=self.clock.now)
        assert for_notes(self.journal).add_note(note) == self.keep_note(note)

    def state(self, row: dict[str, Any]) -> str:
        return row["records"][-1].target if row["records"] else "pending"

    def deliver(self, saga_id: str, item: InboxItem) -> bool:
        row = self.rows.get(saga_id)
        if row is None:
            return False
        if item.kind in VERBS and (item.name in self.answers or item.name in self.verbs_in(row)):
            return True
        if self.state(row) in ENDED and not (self.state(row) == "succeeded" and item.kind in VERBS):
            return False
        self.items += 1
        row["mail"].append(msgspec.structs.replace(item, number=self.items))
        return True

    def verbs_in(self, row: dict[str, Any]) -> dict[str, int]:
        """The names and numbers of the verbs in the inbox."""
        return {item.name: item.number for item in row["mail"] if item.kind in VERBS}

    def last_seq(self, saga_id: str) -> int:
        return len(self.rows[saga_id]["records"]) if saga_id in self.rows else 0

    def commit(self, saga_id: str, targets: list[str], driver: str | None, **more) -> Commit:
        seq = self.last_seq(saga_id)
        at = self.clock.now
        opened = more.get("acceptance") or (
            self.rows[saga_id]["opened"] if saga_id in self.rows else acceptance(saga_id)
        )
        records = tuple(
            msgspec.structs.replace(
                record(saga_id, seq + n, target, at=at, carrier=None if n % 2 else {"traceparent": f"é-{n}"}),
                saga=opened.saga,
            )
            for n, target in enumerate(targets, 1)
        )
        state = targets[-1] if targets else self.state(self.rows[saga_id]) if saga_id in self.rows else "pending"
        waits = state.startswith(("retrying", "waiting"))  # parked without a record too
        held = more.pop("held") and (not targets or targets[-1] not in ENDED)
        wake_in = more.pop("wake_in")
        wake_at = at + wake_in if waits else None
        if targets and targets[-1] in ENDED and saga_id in self.rows and self.rows[saga_id]["place"]:
            more["slot"] = ""
        self.tokens += 1
        token = 0 if records else self.tokens
        return Commit(saga_id, records, driver, held=held, wake_at=wake_at, token=token, **more)

    @rule(
        target=executions,
        name=st.sampled_from("abcdef"),
        to=st.lists(targets, max_size=2),
        who=who,
        held=st.booleans(),
        saga=st.sampled_from(("s", "t")),
        noted=st.booleans(),
    )
    def open(self, name, to, who, held, saga, noted):
        opened = acceptance(name, saga=saga, fingerprint=f"f-{saga}", at=self.clock.now, carrier=TRACE)
        notes = (Note("born", name, value=1), Note("seen", "a"), Note("lost", "unknown")) if noted else ()
        commit = self.commit(name, to, who, held=held, wake_in=5.0, acceptance=opened, notes=notes)
        if name in self.rows:  # by another caller, a little later
            commit = Commit(name, (), who, held=held, acceptance=msgspec.structs.replace(opened, at=-1.0))
        self.attempt(commit)
        return name

    @rule(
        name=executions,
        to=st.lists(targets, max_size=2),
        held=st.booleans(),
        take=st.booleans(),
        wake_in=st.floats(0, 50),
        recoveries=st.sampled_from((None, None, Recoveries(3, 1), NO_RECOVERIES)),
    )
    def go_on(self, name, to, held, take, wake_in, recoveries):
        """Append as the owner."""
        row = self.rows.get(name)
        if row is None or (row["driver"] is None and held):
            return
        taken = tuple(item.number for item in row["mail"]) if take else ()
        answers = tuple(VerbAnswer(n, name, len(row["records"])) for name, n in self.verbs_in(row).items() if take)
        more = {
            "answers": answers,
            "held": held,
            "wake_in": wake_in,
            "epoch": row["epoch"],
            "taken": taken,
            "recoveries": recoveries,
        }
        self.attempt(self.commit(name, to, row["driver"], **more))

    @rule(name=executions, to=targets, who=who, epoch=st.integers(1, 3), held=st.booleans())
    def intrude(self, name, to, who, epoch, held):
        """Append as any driver, under any epoch."""
        self.attempt(self.commit(name, [to], who, held=held, wake_in=1.0, epoch=epoch))

    @rule(target=executions, name=st.sampled_from("abcdef"), who=who, limit=limits)
    def open_under_a_limit(self, name, who, limit):
        """Open with an attempt that asks for a slot; by another caller, a little later, if it exists."""
        opened = acceptance(name, saga="s", fingerprint="f-s", at=-1.0 if name in self.rows else self.clock.now)
        more = {
            "held": True,
            "wake_in": 1.0,
            "acceptance": opened,
            "slot": limit if limit in dict(self.declared.get(who, ())) else None,
        }
        self.attempt(self.commit(name, [] if name in self.rows else ["executing.a"], who, **more))
        return name

    @rule(name=executions, anew=st.booleans(), limit=limits, only_queues=st.sampled_from((False, False, True)))
    def announce_under_a_limit(self, name, anew, limit, only_queues):
        """The owner announces an attempt, or has it begin now that was announced before."""
        row = self.rows.get(name)
        if row is None or limit not in dict(self.declared.get(row["driver"], ())) or not (anew or row["records"]):
            return
        more = {"held": True, "wake_in": 1.0, "epoch": row["epoch"], "slot": limit}
        commit = self.commit(name, ["executing.a"] if anew else [], row["driver"], **more)
        self.attempt(msgspec.structs.replace(commit, wake_at=self.clock.now if only_queues else None))

    @rule(name=executions, to=targets)
    def record_an_answer(self, name, to):
        """The owner writes an answer, and gives up the slot."""
        row = self.rows.get(name)
        if row is not None and row["driver"] is not None:
            more = {"held": True, "wake_in": 1.0, "epoch": row["epoch"], "slot": ""}
            self.attempt(self.commit(name, [to], row["driver"], **more))

    @rule(name=executions, branch=st.sampled_from("xy"), other=executions)
    def branch_and_post(self, name, branch, other):
        row = self.rows.get(name)
        if row is not None and row["driver"] is not None:
            child = acceptance(f"{name}/g.{branch}", parent=name, at=self.clock.now)
            item = InboxItem("signal", "n", None, "why", self.clock.now, carrier=TRACE)
            posts = ((other, item), ("unknown", InboxItem("cancel")))
            commit = self.commit(name, ["waiting.g"], row["driver"], held=True, wake_in=3.0, epoch=row["epoch"])
            self.attempt(msgspec.structs.replace(commit, children=(child,), posts=posts))

    @rule(name=executions, size=st.integers(1, 5), at_most=st.integers(1, 5))
    def plan_branches(self, name, size, at_most):
        """The owner enters a large group; once only, as an execution does."""
        row = self.rows.get(name)
        if row is None or row["driver"] is None or f"{name}/big.0" in self.rows or row["planned"]:
            return
        ids = [f"{name}/big.{n}" for n in range(size)]
        successors = [*ids[at_most:], *[None] * at_most]
        branches = tuple(
            acceptance(saga_id, n, parent=name, at=self.clock.now, successor=successor, carrier=TRACE)
            for n, (saga_id, successor) in enumerate(zip(ids, successors, strict=False))
        )
        commit = self.commit(name, ["waiting.big"], row["driver"], held=True, wake_in=0.0, epoch=row["epoch"])
        self.attempt(msgspec.structs.replace(commit, plan=Plan(branches)))

    @rule(name=executions, batch=st.integers(1, 3), backward=st.booleans(), twice=st.booleans(), ends=st.booleans())
    def create_planned(self, name, batch, backward, twice, ends):
        """The owner creates the next branches, from one end or the other, or ends all; the same twice is the same."""
        row = self.rows.get(name)
        if row is None or row["driver"] is None or not row["planned"]:
            return
        first, end = min(row["planned"]), max(row["planned"]) + 1
        creates = (max(first, end - batch), end) if backward else (first, min(end, first + batch))
        plan = Plan(ends=Failure("ValueError", "no")) if ends else Plan(creates=creates)
        commit = self.commit(name, [], row["driver"], held=True, wake_in=0.0, epoch=row["epoch"])
        for _ in range(1 + twice):
            self.attempt(msgspec.structs.replace(commit, plan=plan))

    @rule(name=executions, has_token=st.booleans())
    def post(self, name, has_token):
        item = InboxItem("cancel", reason="enough", at=self.clock.now, carrier=TRACE if has_token else None)
        self.deliver_by_post(name, item, None, has_token, self.deliver(name, item))

    def deliver_by_post(self, name, item, clock, has_token, delivered):
        """Post, and note the token of what was accepted."""
        self.tokens += has_token
        token = self.tokens if has_token else 0
        assert self.journal.post(name, item, clock=clock, token=token) == delivered
        if delivered and has_token:
            self.posts.append((name, item, token))
            self.rows[name]["posted"].add(token)

    @precondition(lambda self: self.posts)
    @rule(which=st.integers(0, 5), timed=st.booleans())
    def post_again(self, which, timed):
        """The answer was lost: the same call comes again, however late, and changes nothing."""
        name, item, token = self.posts[-1 - which % len(self.posts)]
        if name in self.rows and token in self.rows[name]["posted"]:
            assert self.journal.post(name, item, clock=(lambda: self.clock.now) if timed else None, token=token)

    @rule(name=executions, kind=st.sampled_from(sorted(VERBS)), called=st.sampled_from("uvwxyz"))
    def post_a_verb(self, name, kind, called):
        """An operator speaks; the same again is harmless, even when it was answered."""
        item = InboxItem(kind, f"{called} to {name}", None, "because", self.clock.now, carrier=TRACE)
        assert self.journal.post(name, item) == self.deliver(name, item)

    @rule(name=executions, epoch=st.integers(1, 3), message=st.sampled_from(("no currency", "no price")))
    def note_fault(self, name, epoch, message):
        """A driver could not decode it, under this epoch."""
        fault = Fault("Order", "$.item", message)
        for_operators(self.journal).note_fault(name, epoch, fault)
        if name in self.rows:
            self.rows[name]["fault"] = epoch, fault

    @rule(name=executions, called=st.sampled_from("uvwxyz"))
    def forget_answer(self, name, called):
        for_operators(self.journal).forget_answer(f"{called} to {name}")
        self.answers.pop(f"{called} to {name}", None)

    @rule(name=executions, due_in=st.sampled_from((None, 5.0)))
    def wait_for_a_signal(self, name, due_in):
        """The owner parks it in the wait for the signal ``w``."""
        row = self.rows.get(name)
        if row is None or row["driver"] is None:
            return
        due_at = None if due_in is None else self.clock.now + due_in
        entered = record(name, self.last_seq(name) + 1, "waiting.w", at=self.clock.now, due_at=due_at)
        entered = msgspec.structs.replace(entered, saga=row["opened"].saga)
        self.attempt(Commit(name, (entered,), row["driver"], row["epoch"], held=True, wake_at=due_at))

    @rule(name=executions, signal=st.sampled_from("wv"), timed=st.booleans(), has_token=st.booleans())
    def post_a_signal(self, name, signal, timed, has_token):
        """With a clock, a signal past the end of its own wait is put nowhere."""
        item = InboxItem("signal", signal, at=self.clock.now)
        row = self.rows.get(name)
        last = row["records"][-1] if row is not None and row["records"] else None
        late = last is not None and last.target == f"waiting.{signal}" and (last.due_at or math.inf) <= self.clock.now
        delivered = False if timed and late else self.deliver(name, item)
        given = msgspec.structs.replace(item, at=0.0) if timed else item
        self.deliver_by_post(name, given, (lambda: self.clock.now) if timed else None, has_token, delivered)

    @rule(name=executions, seen=st.integers(0, 20), signal=st.sampled_from("wv"))
    def close_a_wait(self, name, seen, signal):
        """The owner closes the signal's wait by its time-out, unless the signal has come that it has not seen."""
        row = self.rows.get(name)
        if row is None or row["driver"] is None:
            return
        # No driver has seen what has not come, or leaves a verb that it has seen.
        seen = min(seen, self.items, *(number - 1 for number in self.verbs_in(row).values()))
        commit = self.commit(name, ["compensating.a"], row["driver"], held=True, wake_in=1.0, epoch=row["epoch"])
        taken = tuple(item.number for item in row["mail"] if item.number <= seen)
        commit = msgspec.structs.replace(commit, seen=seen, taken=taken, unless_mail=("signal", signal))
        if any((item.kind, item.name) == ("signal", signal) and item.number > seen for item in row["mail"]):
            with pytest.raises(InboxChangedError):
                self.journal.write(commit)
            (refused,) = self.journal.write_all([commit])
            assert isinstance(refused, InboxChangedError)
        else:
            self.attempt(commit)

    @rule(who=who, known=st.sampled_from(((), ("f-s",), ("f-s", "f-t"))))
    def enlist(self, who, known):
        definitions = tuple(Definition(each, f"shape of {each}") for each in known)
        self.journal.enlist(Driver(who, host="h", limits=self.declared.get(who, ()), definitions=definitions))
        self.beats[who] = self.clock.now
        self.knows[who] = definitions

    @rule(who=who)
    def beat(self, who):
        if who not in self.beats:
            with pytest.raises(LeaseLostError):
                self.journal.beat(who)
            return
        called = self.journal.beat(who)
        if self.clock.now - self.beats[who] >= 10.0:
            self.beats[who] = self.clock.now
        assert sorted(called) == sorted(name for name, r in self.rows.items() if r["driver"] == who and r["mail"])
        held = sorted(name for name, r in self.rows.items() if r["driver"] == who)
        assert sorted(self.journal.beat(who, everything=True)) == held

    @rule(who=who)
    def dismiss(self, who):
        self.journal.dismiss(who)
        self.beats.pop(who, None)
        self.knows.pop(who, None)
        for row in self.rows.values():
            if row["driver"] == who:
                row["driver"] = None

    @rule(name=executions, who=who)
    def claim(self, name, who):
        row = self.rows.get(name)
        if row is None:
            with pytest.raises(UnknownExecutionError):
                self.journal.claim(name, who)
        elif who not in self.beats:
            with pytest.raises(LeaseLostError):
                self.journal.claim(name, who)
        elif row["driver"] != who and self.alive(row["driver"]):
            assert self.journal.claim(name, who) is None
        else:
            self.give(name, who)
            for _ in range(3):  # the answer is lost, once and twice
                claimed = self.journal.claim(name, who)
                assert claimed is not None
                assert claimed.abandoned == row["abandoned"]
                assert msgspec.structs.replace(claimed, abandoned=False) == self.journal.find(name)

    def give(self, name, who):
        """Make *who* the owner in the model, under a new epoch; its own stays as it is."""
        row = self.rows[name]
        if row["driver"] != who:
            row["abandoned"] = row["driver"] is not None
            row["epoch"] += 1
            row["driver"] = who

    @precondition(lambda self: many_of(self.journal) is not None)
    @rule(
        begun=st.lists(st.tuples(st.sampled_from("abcdef"), targets, who, st.booleans()), max_size=3),
        later=st.sampled_from((0.0, 40.0)),
        places=st.sets(st.integers(0, 3)),
        who=who,
    )
    def claim_all(self, begun, later, places, who):
        """Claim several at once, whatever their states: each as if claimed alone; what cannot be claimed is left out.

        Some begin just before, and then their drivers may die: otherwise few would ever be claimed together.
        """
        many = many_of(self.journal)
        assert many is not None
        for name, to, owner, held in begun:
            self.open(name, [to], owner, held=held, saga="s", noted=False)
        self.time_passes(later)
        asked = [name for place, name in enumerate(self.rows) if place % 4 in places]
        asked = [*asked[:1], *NO_IDS, *asked] if places else []  # one twice, or none at all
        claimed = {
            name: row
            for name, row in self.rows.items()
            if name in asked and who in self.beats and (row["driver"] == who or not self.alive(row["driver"]))
        }
        for name in claimed:
            self.give(name, who)
        expected = {name: (row["epoch"], who, row["abandoned"]) for name, row in claimed.items()}
        for _ in range(3):  # the answer is lost, once and twice
            found = many.claim_all(asked, who)
            assert {
                name: (entry.epoch, entry.driver.id if entry.driver else None, entry.abandoned)
                for name, entry in found.items()
            } == expected
            assert found == {name: self.journal.claim(name, who) for name in claimed}

    @rule(
        who=who,
        limit=st.integers(0, 3),
        skip=st.sampled_from(((), ("f-t", "f-u"))),
        leave=st.sampled_from(((), ("a", "b", "unknown"))),
    )
    def claim_some(self, who, limit, skip, leave):
        """What can be claimed, in order: of the dead, at once, due by time, pending; each as if claimed alone."""
        if who not in self.beats:
            with pytest.raises(LeaseLostError):
                self.journal.claim_some(who, self.clock.now, limit, skip, leave)
            return
        free = [name for name in self.due(who) if name not in leave]
        free = [name for name in free if self.rows[name]["opened"].fingerprint not in skip]
        expected = sorted(free, key=self.place)[:limit]
        abandoned = [self.rows[name]["driver"] is not None for name in expected]
        claimed = self.journal.claim_some(who, self.clock.now, limit, skip, leave)
        assert [entry.saga_id for entry in claimed] == expected
        assert [entry.abandoned for entry in claimed] == abandoned
        for entry in claimed:
            self.rows[entry.saga_id]["epoch"] += 1
            self.rows[entry.saga_id]["driver"] = who
            self.rows[entry.saga_id]["abandoned"] = entry.abandoned
            assert msgspec.structs.replace(entry, abandoned=False) == self.journal.find(entry.saga_id)
            assert self.journal.claim(entry.saga_id, who) == entry  # which is how a lost answer is made up for

    def place(self, name):
        """Where an execution that can be claimed stands in the order."""
        row = self.rows[name]
        phase = self.state(row).partition(".")[0]
        if row["driver"] is not None:
            return (0, 0.0)
        if row["mail"] or phase in ("executing", "probing", "compensating"):
            return (1, 0.0)
        return (3, 0.0) if phase == "pending" else (2, row["wake_at"])

    @rule(name=executions, epoch=st.integers(1, 3))
    def release(self, name, epoch):
        self.journal.release(name, epoch)
        if name in self.rows and self.rows[name]["epoch"] == epoch:
            self.rows[name]["driver"] = None

    @rule(seconds=st.sampled_from((1.0, 11.0, 40.0)))
    def time_passes(self, seconds):
        self.clock.now += seconds

    def forget(self, before, saga):
        """Forget what was kept of executions that ended before that time."""
        for name, kept in list(self.forgotten.items()):
            if kept.ended_at < before and saga in (None, kept.saga):
                del self.forgotten[name]

    def whole(self, name):
        return [n for n in self.rows if n == name or n.startswith(f"{name}/")]

    def is_prunable(self, name, before):
        def over(name):
            row = self.rows[name]
            return self.state(row) in ENDED and row["driver"] is None and not self.verbs_in(row)

        def settled_with_the_whole(name):
            row = self.rows[name]
            return over(name) or ("/" in name and self.state(row).startswith("stuck") and row["driver"] is None)

        old = over(name) and self.rows[name]["records"][-1].at < before
        return old and all(map(settled_with_the_whole, self.whole(name)))

    def delete(self, name, *, forget_ids=False):
        whole = self.whole(name)
        if not forget_ids and "/" not in name:
            ended = self.rows[name]["records"][-1]
            self.forgotten[name] = Forgotten(ended.saga, ended.target, ended.at)
        for each in whole:
            del self.rows[each]
            self.noted = [note for note in self.noted if note.saga_id != each]
            self.followed.pop(each, None)
        return len(whole)

    @rule(name=st.sampled_from("abcdef"), end=st.sampled_from(sorted(ENDED)), forget_ids=st.booleans())
    def end_and_prune(self, name, end, forget_ids):
        """An execution ends, and is pruned a little later, if its id is free: otherwise few would ever be."""
        if name not in self.rows and name not in self.forgotten:
            opened = acceptance(name, at=self.clock.now)
            self.attempt(self.commit(name, ["executing.b", end], None, held=False, wake_in=1.0, acceptance=opened))
            if self.counting:
                self.count_moves(3)
            self.time_passes(1.0)
            if forget_ids:
                self.prune(0.0, 3, None, forget_ids=True, stopped_after=1)
            else:
                self.prune_these(0.0, {0, 1, 2, 3})

    @precondition(lambda self: self.rows)
    @rule(age=st.sampled_from((0.0, 20.0)), places=st.sets(st.integers(0, 3), min_size=1))
    def prune_these(self, age, places):
        before, deleted = self.clock.now - age, 0
        asked = [name for place, name in enumerate(self.rows) if place % 4 in places]
        for name in asked:
            is_inside = "/" in name and name.partition("/")[0] in self.rows
            if name in self.rows and not is_inside and self.is_prunable(name, before):
                deleted += self.delete(name)
        asked += ["unknown", "half \ud800"]
        assert [for_retention(self.journal).prune_these(asked, before) for _ in range(2)] == [deleted, 0]

    @precondition(lambda self: self.rows)
    @rule(
        age=st.sampled_from((0.0, 20.0)),
        limit=st.integers(1, 3),
        saga=st.sampled_from((None, "s")),
        forget_ids=st.sampled_from((True, True, False)),
        stopped_after=st.integers(1, 3),
    )
    def prune(self, age, limit, saga, forget_ids, stopped_after):
        before = self.clock.now - age

        deleted = 0
        for name in list(self.rows):
            row = self.rows.get(name)
            if row is None or ("/" in name and name.partition("/")[0] in self.rows):
                continue
            if self.is_prunable(name, before) and saga in (None, row["opened"].saga):
                if deleted and deleted + len(self.whole(name)) > limit:
                    break
                deleted += self.delete(name, forget_ids=forget_ids)
                if deleted >= limit:
                    break
        if forget_ids and self.keeps_times:
            self.forget(before, saga)
        self.tokens += 1
        chosen = {"saga": saga, "forget_ids": forget_ids, "token": self.tokens}
        pruned = [
            self.journal.prune(before, limit=min(most, limit), **chosen) for most in (stopped_after, limit, limit)
        ]
        assert pruned == [min(pruned[0], deleted), deleted, deleted]  # it goes on under its token

    @invariant()
    def equals_the_model(self) -> None:
        if not hasattr(self, "journal"):
            return
        newest_first = list(reversed(self.rows))
        entries = {entry.saga_id: entry for entry in self.journal.entries()}
        assert list(entries) == newest_first
        assert self.journal.check() == []
        for name, row in self.rows.items():
            entry = entries[name]
            assert entry.state == self.state(row)
            assert (entry.epoch, entry.seq, entry.mail) == (row["epoch"], len(row["records"]), len(row["mail"]))
            assert (entry.wake_at, entry.recoveries) == (row["wake_at"], row["recoveries"])
            planned = planned_of(self.journal, name)
            assert (planned is None) == (not row["planned"])
            of_it = [each for each in self.rows.values() if each["opened"].parent == name]
            phases = Counter(self.state(each).partition(".")[0] for each in of_it)
            assert branches_counted(self.journal, name) == phases
            if planned is not None:
                numbers = list(range(planned.first, planned.end))
                assert numbers == sorted(row["planned"])
                assert [n for n in numbers if row["planned"][n][1]] == numbers[planned.dormant - planned.first :]
                assert planned.ended == row["ended"]
            assert (entry.driver.id if entry.driver else None) == row["driver"]
            assert entry.driver_alive == self.alive(row["driver"])
            place = row["place"]
            waits = place and row["driver"] and not place["begun"] and place["epoch"] == row["epoch"]
            assert entry.queued == (place["limit"] if waits else None)
        for who, limits in self.declared.items():
            turns = [saga_id for limit, _ in limits for saga_id in self.turns(limit, who)]
            assert self.journal.turns(who) == (turns if who in self.beats else [])  # type: ignore[attr-defined]
        operators = for_operators(self.journal)
        for name, answer in self.answers.items():
            assert operators.answer(name) == answer
        assert operators.answer("never said") is None
        notes = for_notes(self.journal)
        assert notes.notes() == self.noted
        for about in ("a", "unknown"):
            assert notes.notes(about) == [note for note in self.noted if note.saga_id == about]
        words = [note for note in self.noted if note.kind == "word"]
        assert notes.notes(kind="word", limit=2) == words[:2]
        assert notes.notes(after=words[0].number if words else 0, kind="word") == words[1 if words else 0 :]
        going_on = {name: row for name, row in self.rows.items() if self.state(row) not in ENDED}
        faults = {name: row["fault"][1] for name, row in going_on.items() if row["fault"][0] == row["epoch"]}
        assert operators.faults() == faults
        known = {each.fingerprint for who, those in self.knows.items() if self.alive(who) for each in those}
        assert operators.known() == known
        assert all(operators.shape(each) == f"shape of {each}" for each in known)
        for name in "abcdef":
            its_end = self.forgotten.get(name)
            kept_of = its_end if self.keeps_times or its_end is None else Forgotten()
            assert self.journal.forgotten(name) == kept_of
        for name in [*newest_first[:2], "unknown"]:
            its = self.rows.get(name)
            assert self.journal.find(name) == entries.get(name)
            assert self.journal.records(name) == (its["records"] if its else [])
            mail = tuple(its["mail"]) if its else ()
            assert self.journal.inbox(name) == mail
            after = mail[len(mail) // 2].number if mail else 0
            later = tuple(item for item in mail if item.number > after)
            assert inbox_after(self.journal, name, after) == later
        for phase in ("stuck", "executing", "succeeded", "waiting.w"):
            chosen = [name for name in newest_first if is_in_phase(entries[name].state, phase)]
            assert ids(self.journal, phase=phase) == chosen

    @invariant()
    def reads_many_as_each_alone(self) -> None:
        many = many_of(self.journal) if hasattr(self, "journal") else None
        if many is None:
            return
        some = list(self.rows)[::2]
        asked = [*some[::-1], *NO_IDS, *some]  # some twice
        assert many.find_all(asked) == {name: self.journal.find(name) for name in some}
        begun = {name: self.rows[name]["records"] for name in some if self.rows[name]["records"]}
        assert many.records_of_all(asked) == begun
        assert (many.find_all(NO_IDS), many.records_of_all([])) == ({}, {})

    @invariant()
    def finds_what_the_model_has(self) -> None:
        if not hasattr(self, "journal"):
            return
        newest_first = list(reversed(self.rows))
        entries = {entry.saga_id: entry for entry in self.journal.entries()}
        finding = for_finding(self.journal)
        labels: dict[str, dict[str, Any]] = {}
        for note in self.noted:
            if note.kind == ATTRIBUTES and note.saga_id is not None:
                changed = {**labels.get(note.saga_id, {}), **note.value}
                labels[note.saga_id] = {key: value for key, value in changed.items() if value is not None}
        assert finding.attributes(newest_first) == {name: kept for name, kept in labels.items() if kept}
        for looked_for in (Filter(), Filter(states=("failed",)), Filter(saga="s"), Filter(attributes=(("x", 1),))):
            fits = [name for name in newest_first if looked_for.fits(entries[name], labels.get(name, {}), ())]
            assert [entry.saga_id for entry in finding.search(looked_for, limit=100)] == fits, looked_for

    def due(self, who: str | None = None) -> list[str]:
        """What can be claimed, oldest first; nobody claims its own."""
        due = []
        for name, row in self.rows.items():
            phase = self.state(row).partition(".")[0]
            if self.alive(row["driver"]) or (who is not None and row["driver"] == who):
                continue
            if phase in (*ENDED, "stuck", "stuck_executing"):
                due += [name] if self.verbs_in(row) else []
                continue
            waited = row["wake_at"] is not None and row["wake_at"] <= self.clock.now
            busy = phase in ("pending", "executing", "probing", "compensating") and not row["dormant"]
            if row["driver"] is not None or busy or waited or row["mail"]:
                due.append(name)
        return due

    @rule(limit=st.integers(1, 4))
    def follow(self, limit):
        """Read on from the cursor: everything that is there and was not read, each execution's in order."""
        if not hasattr(self.journal, "changes"):
            return
        while changes := self.journal.changes(self.cursor, limit):
            assert len(changes) <= limit
            for change in changes:
                seq = 0 if change.record is None else change.record.seq
                assert self.followed.get(change.saga_id, -1) == seq - 1
                self.followed[change.saga_id] = seq
            self.cursor = changes[-1].cursor
        for name, row in self.rows.items():
            assert self.followed[name] == len(row["records"])

    @initialize(counted=st.booleans())
    def begin_to_count(self, counted):
        """Have the moves followed after each step; a journal that nobody follows numbers none."""
        self.counting = counted

    def count_moves(self, limit):
        """Follow the moves: each execution's in order, without values, and deleted executions leave the counts."""
        if not is_counted(self.journal):
            return
        while moves := self.journal.moves(self.moved, limit):
            assert len(moves) <= limit
            for move in moves:
                self.count_move(move)
            self.moved = moves[-1].cursor
        assert self.journal.last_change() >= self.journal.decided() >= number_in(self.moved)
        assert not self.journal.is_changed(self.moved)
        assert self.counted == {name: len(row["records"]) for name, row in self.rows.items()}
        assert sorted(self.numbers.values()) == sorted(self.rows)

    def count_move(self, move):
        """Count a move, as a side store does; it is what the model has of the execution, unless that was deleted."""
        if move.seq == REMOVED:
            self.counted.pop(self.numbers.pop(move.execution, ""), None)
        elif move.saga_id:
            assert self.counted.get(move.saga_id, -1) == move.seq - 1
            self.counted[move.saga_id] = move.seq
            self.numbers[move.execution] = move.saga_id
            row = self.rows.get(move.saga_id)
            if row is not None and move.seq and row["records"][move.seq - 1 :]:
                kept = row["records"][move.seq - 1]
                told = (kept.event, kept.source, kept.target, kept.at, kept.step, kept.in_doubt)
                assert (move.event, move.source, move.target, move.at, move.step, bool(move.in_doubt)) == told
            if row is not None:
                opened = row["opened"]
                assert (move.saga, move.version, move.is_branch) == (opened.saga, opened.version, "/" in move.saga_id)

    @invariant()
    def moves_are_counted(self) -> None:
        if hasattr(self, "journal") and self.counting:
            self.count_moves(3)

    @invariant()
    def shows_drivers_what_to_do(self) -> None:
        if not hasattr(self, "journal"):
            return
        now, due = self.clock.now, self.due()
        assert self.journal.claimable(now, 100) == due
        assert self.journal.claimable(now, 2) == due[:2]
        skipping = [name for name in due if self.rows[name]["opened"].fingerprint != "f-t"]
        assert self.journal.claimable(now, 100, ("f-t", "f-u")) == skipping
        waiting = [row for row in self.rows.values() if row["driver"] is None and not row["dormant"]]
        wakes = [row["wake_at"] for row in waiting if row["wake_at"] is not None]
        assert self.journal.next_wake() == min(wakes, default=None)


class MemoryRemembers(JournalRemembers):
    """A journal in memory: its drivers are alive as long as it is."""

    lease = math.inf
    keeps_times = False
    caps = False

    def opened(self) -> None:
        self.journal = MemoryJournal()


class SQLiteRemembers(JournalRemembers):
    """A SQLite journal, dropped and reopened at any moment."""

    lease = 30.0

    @rule()
    def opened(self) -> None:
        """Drop it without a word, as a process that ends does, and open the file again."""
        path = self.folder / "sagas.db"
        self.journal = SQLiteJournal(path, durability="normal", clock=self.clock, lease=self.lease)


class SealedRemembers(SQLiteRemembers):
    """A SQLite journal with a cipher, which seals the same text differently each time."""

    cipher = AesGcm({"k": "A" * 42 + "A="})

    @rule()
    def opened(self) -> None:
        """As without one."""
        super().opened()
        self.journal.codec.cipher = self.cipher


class PostgresRemembers(JournalRemembers):
    """A PostgreSQL journal, dropped and reopened at any moment. Only the server's clock counts; the test sets it."""

    lease = 30.0
    schema = ""

    @rule()
    def opened(self) -> None:
        """Drop it without a word, and open another one on the same tables; leases alone decide."""
        if not self.schema:
            self.schema = f"model_{os.getpid()}_{id(self)}"
            server().execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self.journal = without_second_look(server().journal(self.schema, lease=self.lease, pooled=True))
        server_clock(self.schema, self.clock.now)

    @rule(seconds=st.sampled_from((1.0, 11.0, 40.0)))
    def time_passes(self, seconds):
        self.clock.now += seconds
        server_clock(self.schema, self.clock.now)

    def teardown(self) -> None:
        super().teardown()
        if self.schema:
            server().execute(f"DROP SCHEMA {self.schema} CASCADE")


MemoryRemembers.TestCase.settings = settings(max_examples=examples(40, 20), stateful_step_count=30)
SQLiteRemembers.TestCase.settings = settings(max_examples=examples(60, 25), stateful_step_count=30)
SealedRemembers.TestCase.settings = settings(max_examples=examples(40, 8), stateful_step_count=30)
PostgresRemembers.TestCase.settings = settings(max_examples=8, stateful_step_count=30)
TestMemoryRemembers = MemoryRemembers.TestCase
TestSQLiteRemembers = SQLiteRemembers.TestCase
TestSealedRemembers = SealedRemembers.TestCase
TestPostgresRemembers = PostgresRemembers.TestCase
