"""Roles: one execution that goes as it is told.

Nothing here drives anything. Whoever drives an execution comes here at each call, each wait, each record and each look
at branches, and is told what happens there; where nobody drives it, the `Replay` asks what happens next.
"""

from __future__ import annotations

import threading
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.errors import RefusedError
from fsm_mediator.journal.protocol import Commit, Recoveries
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, GROUPS, PROBE
from fsm_mediator.records import SIGNAL, Happened, InboxItem, NotHappened
from fsm_mediator.states import EXECUTING
from fsm_mediator.verifier.action import (
    CRASHED,
    DRIVER,
    DUE,
    JOIN_REFUSED,
    LOOK,
    NOTHING,
    OTHERS,
    PARTICIPANT,
    PERSON,
    POISONED,
    PROBE_POISONED,
    Action,
)
from fsm_mediator.verifier.branches import AGAIN, GOING_ON, status_of
from fsm_mediator.verifier.choices import Answer, choices
from tests.player.law_monitor import Witness

if TYPE_CHECKING:
    from tests.player.replay import Replay

LIFETIME: Final = 8e9
"""Seconds from the beginning to the deadline, where the way has one pass; longer than any sleep."""
HANGS: Final = 60.0
"""Seconds after which something is taken to hang."""

BEGINS: Final = "the saga begins"
CANCELLED: Final = "a cancel comes"
DEADLINE: Final = "the deadline passes"
SIGNALLED: Final = "the signal "
_UNKNOWN: Final = "a signal with an unknown name comes"
_CROSSED: Final = (" comes too late", " comes again")
_MADE_SURE: Final = "a person resolves"
_SAID_TO_BRANCHES: Final = {"retry": "a person retries", "undo": "a person undoes the saga"}
"""What a branch is told by whoever drives the whole, by the event that comes of it."""

_EXECUTED: Final = ((EXECUTE, "returned"), (EXECUTE, "late"), (PROBE, "happened"))
"""The calls and their answers with which a step is executed."""

_DEATHS: Final = {CRASHED: None, POISONED: Recoveries(1_000, 0), PROBE_POISONED: Recoveries(0, 1_000)}
"""The deaths of a driver, and how often it had been recovered before, if that counts."""


class Died(BaseException):
    """Not an Exception: what drives the saga ends with it, as with its process."""


class Role(Witness):
    """One execution, and what is to happen to it.

    Args:
        replay: What it is a part of.
        saga_id: The execution's id.
        saga: Its saga, of actors.
        way: What is to happen, in the words of the verifier.

    Attributes:
        way: What of it has not happened yet.
        may_settle: Whether it need not wait, once.
        is_free: Whether it never need wait: nothing more is told of the whole that it is a branch of.
        lets_go: Whether nothing more is told of it, so that its branches are free.
        has_died: Whether its driver has, and no other has taken it up.
    """

    def __init__(self, replay: Replay, saga_id: str, saga: Saga, way: tuple[str, ...] = ()) -> None:
        super().__init__(replay, saga_id, saga)
        self.way = list(way)
        self.recoveries: Recoveries | None = None  # how often it was recovered before, as the way says
        self.is_free = not self.place
        self.may_settle = self.lets_go = self.has_died = False
        self._being_undone: set[str] = set()
        self._directed = threading.RLock()  # by its driver, or who has it go on where it has none: never by both
        self._decided: list[str] = []  # what is still to be asked for
        self._decided_ahead: list[str] = []  # what was asked for before its move was followed
        self._hold = threading.Event()

    def release(self) -> None:
        """Hold nothing of it any more: neither what was left behind, nor its end."""
        self.is_free = True
        self._hold.set()

    def settles(self) -> None:
        """Its driver is about to write that it has ended, or is stuck: it waits until that may be seen."""
        self.about_to_settle = True
        self._replay.until(lambda: self.is_free or self.may_settle)
        self.about_to_settle = self.may_settle = False

    # Where its driver comes

    def called(self, verb: str, context: Context) -> Any:
        """A step, a compensation or a probe is called."""
        self._judge()
        self._count(verb, context)
        self._calling = (f"{'compensating' if verb == COMPENSATE else EXECUTING}.{context.step}", context.attempt)
        self._posts()
        move = self._next(PARTICIPANT, also=_DEATHS) or self._goes_well(verb, context.step)
        hold = self._hold
        if self._head == DEADLINE and not self._comes_to_branches(context.step, verb, move.observation):
            self.follows()
            self._replay.pass_time(2 * LIFETIME)
        observation = move.observation
        if observation in _DEATHS:
            self.recoveries = _DEATHS[observation]
            self._die()
        if observation.endswith(" late"):
            self._answer_late(context.step)
        if move.raises is not None:
            raise move.raises()
        if observation in ("timed out", "abandoned"):
            hold.wait(HANGS)
        elif observation == "late":
            self._answer_late(context.step)
        elif observation == "refused":
            return Happened(object()) if verb == PROBE else object()  # which cannot be journaled
        elif observation in ("happened", "not happened"):
            return Happened(context.step) if observation == "happened" else NotHappened()
        return f"{verb} of {context.step}"

    def _answer_late(self, path: str) -> None:
        part = self.saga.part(path)
        assert part.timeout is not None
        self._hold.wait(part.timeout * 1.5)

    def _comes_to_branches(self, path: str, verb: str, observation: str) -> bool:
        """Whether what follows of a call and its answer is that branches come into being, and it waits for these."""
        after = self._possible.parts[self._possible.index[path] + 1 :]
        if (verb, observation) not in _EXECUTED or not after or after[0].kind not in GROUPS:
            return False
        without = {one.words for one in choices(after[0]) if one.answer == [] or isinstance(one.answer, Exception)}
        return not without.intersection(self._decided)

    def decides(self, path: str) -> Any:
        """A function that decides is called."""
        every = {one.words: one for one in choices(self.saga.part(path))}
        ahead = self.way[0].split("; ")[1:] if self.way else []  # it is followed when it has been recorded
        told = next((words for words in (*self._decided, *ahead) if words in every), None)
        choice: Answer = every[told] if told is not None else next(iter(every.values()))
        if told in self._decided:
            self._decided.remove(told)
        elif told is not None:
            self._decided_ahead.append(told)
        if isinstance(choice.answer, Exception):
            raise choice.answer
        return choice.answer

    def hears(self) -> str:
        """Something comes before it begins, as the way says: what."""
        return "" if (move := self._next(OTHERS)) is None else move.label

    def sleeps(self) -> None:
        """Its driver waits for a while."""
        self._judge()
        self._posts()
        move = self._next(OTHERS, also=(CRASHED,))
        if move is not None and move.observation == CRASHED:
            self._die()
        if move is not None and move.observation == "deadline":
            self._replay.pass_time(2 * LIFETIME)

    def has_written(self, commit: Commit) -> bool:
        """What its driver knows is in the journal; whether something came to the inbox just then."""
        if not commit.records:
            return False
        event = commit.records[0].event
        head = self._head
        if head == BEGINS or (self.place and head == _SAID_TO_BRANCHES.get(event)):
            self.follows()
            self._before = self._ledger
        self._judge()
        return self._posts()

    def attends(self) -> bool:
        """Its driver is about to look at its branches: what happens before; whether their joined result is refused."""
        with self._directed:
            self._judge()
            self._bring_branches()
            while (move := self._peek()) is not None:
                if move.observation.startswith(LOOK):
                    self._take(move)
                    return move.observation == JOIN_REFUSED
                if move.who == DRIVER and self._fate(move):
                    self._undoes(move)
                    return False
                if move.observation == CRASHED:
                    self._take(move)
                    self._die()
                if move.who == PERSON and not self._fate(move):
                    return False  # it looks once more, in vain; a person speaks when nobody is at it
                if not self._befalls(move):
                    self.leave()
            self._let_branches_go()
            return False

    def _die(self) -> None:
        self._crashed = self._is_recovered = self.has_died = True
        raise Died

    # Where nobody drives it

    def goes_on(self) -> bool:
        """Make the next thing happen where nobody drives it; False: there is nothing more."""
        with self._directed:
            self._judge()
            self._bring_branches()
            move = self._peek()
            if move is None:
                self._let_branches_go()
                return False
            looks = move.observation.startswith(LOOK) or (move.who == DRIVER and self._fate(move))
            if looks:
                ahead = len(self.way)
            elif move.observation == NOTHING and not self._fate(move):
                self._ends_thread()
            elif move.observation == CRASHED:  # nobody was at it
                self._take(move)
                self._crashed = self._is_recovered = True
                self._replay.dies(self)
            elif move.who == PERSON and not self._fate(move):
                self._take(move)
                self._says(move)
            elif move.observation == DUE:
                self._take(move)
                self._replay.pass_time(until=self.execution().due_at or 0.0)
                self._replay.take_up(self)
            elif not self._befalls(move):
                self.leave()
        return self._is_looked_at(ahead) if looks else True

    def _is_looked_at(self, ahead: int) -> bool:
        """Have a driver look, which then follows the way, of which so much is still *ahead*."""
        self._replay.take_up(self)
        self._replay.until(lambda: self.about_to_settle or self._replay.is_idle(self))
        if len(self.way) == ahead:
            self.leave()
        return True

    def _says(self, move: Action) -> None:
        """A person says something to it."""
        mediator = self._replay.mediator
        if move.observation == "retry":
            self._replay.drive(lambda: mediator.retry(self.saga_id))
        elif move.observation == "undo":
            self._replay.drive(lambda: mediator.undo(self.saga_id))
        else:
            self._is_settled(move)

    def _is_settled(self, move: Action) -> None:
        """A person has made sure by hand how it is."""
        execution, done = self.execution(), move.observation == "settled_done"
        part = execution.machine.places[execution.state].part
        result: Any = None
        if done and part is not None and part.kind in GROUPS:
            result = [] if part.each else {}
        resolve = self._replay.mediator.resolve
        self._replay.drive(lambda: resolve(self.saga_id, reason="seen", done=done, result=result))

    def gets_going(self) -> bool:
        """Have it go on from where it is stuck, as its way says: somebody tries again, or has made sure how it is."""
        self._ends_thread()
        if not self._head.startswith(_MADE_SURE):
            return self._replay.has_go_on(self)
        move = self._peek()
        if move is None:
            return False
        self._take(move)
        # Whoever says so waits until it has ended, which may be seen later only.
        threading.Thread(target=self._is_settled, args=(move,), daemon=True).start()
        return self._replay.until(lambda: self.about_to_settle or status_of(self.execution()) in GOING_ON)

    def _ends_thread(self) -> None:
        """If its way says that a thread ends that was left behind, it does."""
        if self.way and (move := self._peek()) is not None and move.observation == NOTHING and not self._fate(move):
            self._take(move)
            self._end_thread()

    def _end_thread(self) -> None:
        """The thread that was left behind ends; its mediator then holds the execution no longer."""
        hold, self._hold = self._hold, threading.Event()
        hold.set()
        self._replay.until(lambda: self._replay.is_held_by_nobody(self))

    # Wherever it stands

    def _befalls(self, move: Action) -> bool:
        """Have *move* happen to it, or to its branches, from outside; False: it is not of that kind."""
        fate = self._fate(move)
        if fate:
            self._take(move)
            for place, status in fate:
                self._becomes(place, status, move)
        elif move.observation == "deadline":
            self._take(move)
            self._replay.pass_time(2 * LIFETIME)
            self._replay.take_up(self)
        elif move.who == OTHERS and move.observation != DUE:
            self._posts()
        else:
            return False
        return True

    def _posts(self) -> bool:
        """Whether something comes to the inbox now; the mediator is told as anybody would tell it."""
        posted = False
        while self._head == CANCELLED or self._head.startswith((SIGNALLED, _UNKNOWN)):
            move = self._next(OTHERS)
            if move is not None:
                self._posted(move.label)
                posted = True
        return posted

    def _posted(self, label: str) -> None:
        """Somebody says something to the execution; what comes too late is refused, as it should be."""
        mediator = self._replay.mediator
        name = label.split(" ")[2] if label.startswith(SIGNALLED) else "unknown"
        try:
            if label == CANCELLED:
                mediator.cancel(self.saga_id)
            elif not label.endswith(_CROSSED):
                mediator.signal(self.saga_id, name)
                return
        except RefusedError:
            if label != f"{SIGNALLED}{name} comes":
                return
        # It was said in time, and has crossed what was recorded meanwhile; or another branch has let time pass.
        if label != CANCELLED:
            self._replay.journal.post(self.saga_id, InboxItem(SIGNAL, name))
            self._replay.tell(self)

    # Its branches

    def _fate(self, move: Action) -> list[tuple[str, str]]:
        """The branches that stand differently after *move*, and how."""
        if move.observation == "retry" or move.observation.startswith("settled"):
            return []  # it is said to the whole
        return list(self._possible.branch_changes(self.execution(), self._seen(self._ledger), move.ledger))

    def _bring_branches(self) -> None:
        """Have its branches go on until they are about to settle, so that they can do so when the way says it."""
        for path, names in self.branches().items():
            for name in names:
                self._replay.bring(self.branch(f"{path}.{name}"))

    def _let_branches_go(self) -> None:
        self.lets_go = True
        for path, names in self.branches().items():
            for name in names:
                self.branch(f"{path}.{name}").is_free = True
        self._replay.changed()

    def _becomes(self, place: str, status: str, move: Action) -> None:
        """Have a branch come to stand so; its own way says how."""
        branch = self.branch(place)
        if status in GOING_ON:
            if not branch.gets_going():
                self.leave(move.label)
            return
        while branch.settled():
            if branch.status == status:
                return
            if not (branch.status in AGAIN and branch.way and branch.gets_going()):  # else that was not to be seen
                self.leave(f"{move.label} (and not: it is {branch.status})")
                return
        self.leave(move.label)

    def settled(self) -> bool:
        """Have it settle, and that be seen; False: it does not."""
        self._replay.bring(self)
        if not self.about_to_settle:
            return False
        self.may_settle = True
        self._replay.changed()
        return self._replay.until(lambda: self._replay.has_settled(self))

    def _undoes(self, move: Action) -> None:
        """Its driver has a branch undone: when it looks, all that can be, so that the rest need not be said."""
        every = self._possible.at(self.execution(), self._seen(self._ledger))
        self._being_undone = {one.label for one in every if one.who == DRIVER and self._fate(one)} - {move.label}
        self._take(move)

    # The way

    @property
    def _head(self) -> str:
        return self.way[0].split("; ")[0] if self.way else ""

    def _peek(self) -> Action | None:
        """The next thing on the way, if it can happen now; else the way is left."""
        while self._head in self._being_undone:
            self._being_undone.discard(self._head)
            self.follows()
        if not self.way:
            return None
        every = self._possible.at(self.execution(), self._seen(self._ledger))
        move = next((move for move in every if move.label == self._head), None)
        if move is None:
            self.leave()
        return move

    def _next(self, *who: str, also: Container[str] = ()) -> Action | None:
        """The next thing on the way, if it can happen now and comes from there; else the way is left."""
        move = self._peek()
        if move is None:
            return None
        if move.who in who or move.observation in also:
            self._take(move)
            return move
        self.leave()
        return None

    def _take(self, move: Action) -> None:
        self._happens(move)
        self.follows()

    def follows(self) -> str:
        """The next thing on the way has happened."""
        label = self.way.pop(0)
        words, *decided = label.split("; ")
        for told in decided:
            if told in self._decided_ahead:
                self._decided_ahead.remove(told)
            else:
                self._decided.append(told)
        self._replay.followed.append(f"in {self.place}: {label}" if self.place else label)
        return words

    def leave(self, label: str | None = None) -> None:
        """The mediator has gone another way: from here on all goes well."""
        if self._replay.left_for is None:
            label = label or self.way[0]
            self._replay.left_for = f"in {self.place}: {label}" if self.place else label
        self.way = []

    def _goes_well(self, verb: str, path: str) -> Action:
        labels = {
            EXECUTE: f"{path} takes effect and returns",
            COMPENSATE: f"compensating {path} returns",
            PROBE: f"the probe of {path} returns Happened",
        }
        moves = list(self._possible.at(self.execution(), self._ledger))
        truth = f"the probe of {path} returns NotHappened"
        move = next((move for move in moves if move.label in (labels[verb], truth)), None)
        if move is None:  # it was called where the machine, as the journal has it, calls nobody
            self._break(4, f"{verb} of {path} is called in {self.execution().state}")
            return Action("", lambda *_: None, self._ledger, observation="returned")
        self._happens(move)
        return move
