"""Counterexamples, played on a real mediator: participants that do as they are told, and a ledger the laws are held to.

What `Violation.to_pytest` writes stands on this. A `Replay` is told a way in the words of the verifier. Whenever the
mediator calls a participant, waits or rests, the next thing on that way happens, if it can happen there; once it
cannot, the mediator has gone another way, and from then on all goes well. Wherever it goes, the laws are held against
what the journal has and what really has an effect.

Only what is said in words is made to happen here; what follows of it, mediator, journal and machine decide.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from fsm_mediator.errors import (
    DefinitionError,
    MediatorError,
    OutcomeUnknownError,
    RefusedError,
    RetryAfterError,
    StepRejectedError,
)
from fsm_mediator.execution import Execution
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.machine import EXECUTING, SUCCEEDED
from fsm_mediator.mediator.blocking import Mediator
from fsm_mediator.moves import CRASHED, DRIVER, DUE, OTHERS, PARTICIPANT, PERSON, Move, Moves
from fsm_mediator.parts import COMPENSATE, EXECUTE, GROUPS, Kind
from fsm_mediator.records import CANCEL, SIGNAL, Acceptance, Happened, InboxItem, NotHappened, Record
from fsm_mediator.saga import Saga
from fsm_mediator.steps import Context, Step
from fsm_mediator.verifier.laws import LAWS, Laws
from fsm_mediator.words import timeline

SAGA_ID: Final = "replayed"
LIFETIME: Final = 1e9
"""Seconds from the beginning to the deadline, where the way has one pass."""
HANGS: Final = 60.0
"""Seconds after which something is taken to hang."""

_CANCEL: Final = "a cancel comes"
_DEADLINE: Final = "the deadline passes"
_BEGINS: Final = "the saga begins"
_SIGNAL: Final = "the signal "
_UNKNOWN: Final = "a signal comes that nobody knows"

_TROUBLE: Final[dict[str, Callable[[], Exception]]] = {
    "raised": lambda: Exception("raised"),
    "raised again": lambda: RetryAfterError(0.0),
    "rejected": lambda: StepRejectedError("rejected"),
    "unknown": lambda: OutcomeUnknownError("who knows"),
}


class Died(BaseException):
    """Not an Exception: what drives the saga ends with it, as with its process."""


class Actor(Step):
    """A step that does what the way says."""

    replay: Replay

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        for setting, value in settings.items():
            setattr(self, setting, value)


def actor(name: str, *, compensates: bool = False, probes: bool = False, **settings: Any) -> Actor:
    """A step that does what a `Replay` is told.

    Args:
        name: Its name.
        compensates: Whether it has a `compensate`.
        probes: Whether it has a `probe`.
        **settings: As the attributes of `Step`.
    """
    verbs = [EXECUTE, *([COMPENSATE] if compensates else []), *(["probe"] if probes else [])]
    return type("Cast", (Actor,), {verb: _called(verb) for verb in verbs})(name, settings)  # type: ignore[no-any-return]


def decided(payload: Any) -> NoReturn:
    """Stands for a function that decides; the verifier does not call it, but tries every answer.

    Raises:
        AssertionError: It was called.
    """
    raise AssertionError(f"the verifier calls nothing; it was called with {payload!r}")


def _called(verb: str) -> Callable[..., Any]:
    def call(self: Actor, payload: Any, context: Context) -> Any:  # noqa: ARG001 - as a step is called
        return self.replay._called(verb, context)

    return call


class Replay:
    """A way, gone on a real `Mediator` with a journal that encodes; and the laws, held to what came of it.

    Args:
        saga: A saga of `actor` steps.
        strict: Whether the way was found with ``verify(saga, strict=True)``.

    Attributes:
        broken: The laws that were broken on the way, and what was wrong.
        followed: What happened as the way says.
        left_for: What should have happened where the mediator went another way; None: it went the whole way.
    """

    def __init__(self, saga: Saga, *, strict: bool = False) -> None:
        for part in saga.parts:
            if part.kind in GROUPS or part.decide is not None:
                raise DefinitionError(f"a Replay plays no groups and no decisions; {part.path!r} is one")
            if part.kind is Kind.STEP:
                if not isinstance(part.subject, Actor):
                    raise DefinitionError(f"a Replay plays sagas of actors; {part.path!r} is {part.subject!r}")
                part.subject.replay = self
        self.saga = saga
        self.broken: dict[int, str] = {}
        self.followed: list[str] = []
        self.left_for: str | None = None
        self._possible = Moves(saga, strict=strict)
        self._laws = Laws(saga, self._possible.families)
        self._journal = _Journal(self)
        self._acceptance = Acceptance(SAGA_ID, saga.name, saga.version, saga.fingerprint, None, 0.0)
        self._way: list[str] = []
        self._now = 0.0
        self._before = self._ghost = self._possible.nothing
        self._judged = 0
        self._crashed = self._died = False
        self._calls: dict[tuple[str, str], int] = {}
        self._calling: tuple[str, int] | None = None
        self._hold = threading.Event()
        self._parks = any(part.kind is Kind.SIGNAL for part in saga.parts)
        self._mediators: list[Mediator] = []

    def follow(self, *way: str) -> None:
        """Have happen what *way* says, in the words of the verifier, and then let all go well, until it rests."""
        self._way = list(way)
        try:
            self._open()
            while self._goes_on():
                self._judge()
        finally:
            self._hold.set()
            for mediator in self._mediators:
                mediator.close(grace=0.0)

    @property
    def records(self) -> list[Record]:
        """What the journal has of it."""
        return self._journal.records(SAGA_ID)

    def told(self) -> str:
        """What came of it, in words."""
        lines = [f"law {law} is broken ({LAWS[law]}): {what}" for law, what in sorted(self.broken.items())]
        lines += ["what happened:", *(f"  {number:3}. {words}" for number, words in enumerate(self.followed, 1))]
        if self.left_for is not None:
            lines.append(f"the mediator went another way; it should have been: {self.left_for}")
        each = zip(self.saga.parts, self._ghost.effects, strict=True)
        lines.append(
            f"what really has an effect: {', '.join(part.path for part, effect in each if effect) or 'nothing'}"
        )
        return "\n".join([*lines, "the journal:", timeline(self.records)])

    # Driving

    def _mediator(self) -> Mediator:
        mediator = Mediator(
            self.saga, journal=self._journal, clock=lambda: self._now, sleep=self._sleep, chance=lambda: 0.0
        )
        self._mediators.append(mediator)
        return mediator

    def _open(self) -> None:
        mediator = self._mediator()
        deadline = LIFETIME if _DEADLINE in self._way else None
        if self._way and self._way[0] == _BEGINS:
            self._drive(lambda: mediator.run(self.saga, saga_id=SAGA_ID, deadline=deadline, check=False))
            return
        # Something comes before it begins: it is accepted, as by a process that then dies.
        opening = Acceptance(SAGA_ID, self.saga.name, self.saga.version, self.saga.fingerprint, None, 0.0, deadline)
        self._journal.write(Commit(SAGA_ID, (), held=False, acceptance=opening))
        while self._way and (self._way[0] in (_CANCEL, _DEADLINE) or self._way[0].startswith(_SIGNAL)):
            label = self._follows()
            if label == _DEADLINE:
                self._now += 2 * LIFETIME
            else:
                kind, name = (CANCEL, "") if label == _CANCEL else (SIGNAL, label.split(" ")[2])
                self._journal.post(SAGA_ID, InboxItem(kind, name))
                if kind == SIGNAL:
                    self._before = self._ghost = self._ghost.with_(self._possible.index[name], effect=True)
        self._drive(mediator.recover)

    def _drive(self, call: Callable[[], object]) -> None:
        try:
            call()
            if self._parks and not self._died:  # something may have come just as it was parked
                self._mediators[-1].wait(SAGA_ID, timeout=HANGS, check=False)
        except Died:
            pass
        except MediatorError as error:
            self._break(1, f"the mediator itself is refused what it does: {error}")

    def _goes_on(self) -> bool:
        """Make the next thing happen where nobody drives; False: there is nothing more."""
        self._judge()
        if self._died:
            self._died = False
            mediator = self._mediator()  # another process
            self._drive(mediator.recover)
            return True
        move = self._next(PERSON, OTHERS, PARTICIPANT, DRIVER)
        if move is None:
            return False
        if move.said == "nothing":
            self._let_go()
        elif move.said == CRASHED:  # nobody was at it
            self._crashed = True
            self._mediator()
        elif move.who == OTHERS:
            self._comes(move, self._mediators[-1])
        else:
            self._says(move)
        return True

    def _comes(self, move: Move, mediator: Mediator) -> None:
        """Something comes to an execution that is parked."""
        if move.said == DUE:
            self._now = max(self._now, self._execution().due_at or 0.0)
            self._drive(mediator.recover)
        elif move.said == "deadline":
            self._now += 2 * LIFETIME
            self._drive(mediator.recover)
        else:
            self._posted(move.label)
            self._drive(lambda: None)

    def _posted(self, label: str) -> None:
        """Somebody says something to the execution; what comes too late is refused, as it should be."""
        mediator = self._mediators[-1]
        try:
            if label == _CANCEL:
                mediator.cancel(SAGA_ID)
            else:
                mediator.signal(SAGA_ID, label.split(" ")[2] if label.startswith(_SIGNAL) else "unknown")
        except RefusedError:
            pass

    def _says(self, move: Move) -> None:
        mediator = self._mediators[-1]
        state = self._execution().state
        if move.said == "retry":
            self._calls = {key: calls for key, calls in self._calls.items() if key[0] != state.partition(".")[2]}
            self._drive(lambda: mediator.retry(SAGA_ID))
        elif move.said == "undo":
            self._drive(lambda: mediator.undo(SAGA_ID))
        else:
            done = move.said == "settled done"
            self._drive(lambda: mediator.resolve(SAGA_ID, reason="seen", done=done))

    def _let_go(self) -> None:
        """The thread that was left behind ends; its mediator then holds the execution no longer."""
        hold, self._hold = self._hold, threading.Event()
        hold.set()
        until = time.monotonic() + HANGS
        while time.monotonic() < until:
            entry = self._journal.find(SAGA_ID)
            if entry is None or entry.driver is None:
                return
            time.sleep(0.001)  # its thread is about to say so

    def _sleep(self, seconds: float) -> None:
        """What the mediator calls to wait."""
        self._judge()
        self._posts()
        move = self._next(OTHERS, also=CRASHED)
        if move is not None and move.said == CRASHED:
            self._die()
        if move is not None and move.said == "deadline":
            self._now += 2 * LIFETIME
        self._now += seconds

    def _die(self) -> None:
        self._crashed = self._died = True
        raise Died

    # What participants do

    def _called(self, verb: str, context: Context) -> Any:
        self._judge()
        self._count(verb, context)
        self._calling = (f"{'compensating' if verb == COMPENSATE else EXECUTING}.{context.step}", context.attempt)
        self._posts()
        move = self._next(PARTICIPANT, also=CRASHED) or self._goes_well(verb, context.step)
        hold = self._hold
        if self._way and self._way[0] == _DEADLINE:
            self._follows()
            self._now += 2 * LIFETIME
        said = move.said
        if said == CRASHED:
            self._die()
        if (trouble := _TROUBLE.get(said)) is not None:
            raise trouble()
        if said in ("timed out", "abandoned"):
            hold.wait(HANGS)
        elif said == "late":
            part = self.saga.part(context.step)
            assert part.timeout is not None
            hold.wait(part.timeout * 1.5)
        elif said == "refused":
            return object()  # which cannot be journaled
        elif said in ("happened", "not happened"):
            return Happened(context.step) if said == "happened" else NotHappened()
        return f"{verb} of {context.step}"

    def _goes_well(self, verb: str, path: str) -> Move:
        labels = {
            EXECUTE: f"{path} takes effect and returns",
            COMPENSATE: f"compensating {path} returns",
            "probe": f"the probe of {path}: it happened",
        }
        moves = list(self._possible.at(self._execution(), self._ghost))
        truth = f"the probe of {path}: it did not happen"
        move = next((move for move in moves if move.label in (labels[verb], truth)), None)
        if move is None:  # it was called where the machine, as the journal has it, calls nobody
            self._break(4, f"{verb} of {path} is called in {self._execution().state}")
            return Move("", lambda *_: None, self._ghost, said="returned")
        self._before, self._ghost = self._ghost, move.ghost
        return move

    def _count(self, verb: str, context: Context) -> None:
        if verb == "probe":
            return
        key = (context.step, verb)
        self._calls[key] = calls = self._calls.get(key, 0) + 1
        part = self.saga.part(context.step)
        policy = part.retry if verb == EXECUTE else part.compensation_retry
        if policy.attempts is not None and calls > policy.attempts:
            self._break(1, f"{verb} of {context.step} is called {calls} times, which has {policy.attempts} attempts")

    # The way

    def _next(self, *who: str, also: str | None = None) -> Move | None:
        """The next thing on the way, if it can happen now and comes from there; else the way is left."""
        if not self._way:
            return None
        for move in self._possible.at(self._execution(), self._ghost):
            if move.label == self._way[0] and (move.who in who or move.said == also):
                self._follows()
                self._before, self._ghost = self._ghost, move.ghost
                return move
        self.left_for = self._way[0]
        self._way = []
        return None

    def _follows(self) -> str:
        label = self._way.pop(0)
        self.followed.append(label)
        return label

    def _written(self, commit: Commit, mail: Written) -> Written:
        """What the journal answers to a commit: something may have come to the inbox just then."""
        if commit.records and self._way and self._way[0] == _BEGINS:
            self._follows()
        if commit.records and self._posts():
            return self._journal.inbox(SAGA_ID)
        return mail

    def _posts(self) -> bool:
        """Whether something comes to the inbox now; the mediator is told as anybody would tell it."""
        posted = False
        while self._way and (self._way[0] == _CANCEL or self._way[0].startswith((_SIGNAL, _UNKNOWN))):
            move = self._next(OTHERS)
            if move is not None:
                self._posted(move.label)
                posted = True
        return posted

    # Judging

    def _execution(self) -> Execution:
        return Execution.fold(self.saga, self._acceptance, self.records)

    def _judge(self) -> None:
        """Hold the laws against what the journal has got since the last time."""
        records = self.records
        new = records[self._judged :]
        if not new:
            return
        self._judged = len(records)
        if self._calling is not None and new[0].source == self._calling[0] and new[0].attempt != self._calling[1]:
            self._break(5, f"attempt {self._calling[1]} in {new[0].source} is recorded as attempt {new[0].attempt}")
        self._calling = None
        try:
            execution = self._execution()
        except MediatorError as error:
            self._break(5, f"its records cannot be folded: {error}")
            return
        for law, what in self._laws.broken_by(self._laws.passage(execution, new), self._before, self._ghost):
            self._break(law, what)
        self._before = self._ghost
        if execution.state == SUCCEEDED:
            self._calls.clear()

    def _break(self, law: int, what: str) -> None:
        self.broken.setdefault(5 if self._crashed else law, what)


class _Journal(MemoryJournal):
    """A journal that encodes, and tells the replay of each commit."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(encode=True)
        self._replay = replay

    def write(self, commit: Commit) -> Written:
        """As `Journal.write`."""
        return self._replay._written(commit, super().write(commit))
