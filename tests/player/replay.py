"""Counterexamples, played on a real mediator: participants that do as they are told, and a ledger the laws are held to.

What `Violation.to_pytest` writes stands on this. A `Replay` is told a way in the words of the verifier. Whenever the
mediator calls a participant, waits, looks at branches or rests, the next thing on that way happens, if it can happen
there; once it cannot, the mediator has gone another way, and from then on all goes well. Wherever it goes, the laws are
held against what the journal has and what really has an effect.

The branches of groups are executions of their own, driven like any other, each with a way of its own. Each goes on
until it is about to end, and then waits until that may be seen, which the way of the whole says.

Only what is said in words is made to happen here; what follows of it, mediator, journal and machine decide.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context, Step
from fsm_mediator.errors import DefinitionError, MediatorError
from fsm_mediator.journal.protocol import Commit, Entry
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, GROUPS, PROBE, Kind, Part
from fsm_mediator.narration import timeline
from fsm_mediator.records import CANCEL, SIGNAL, Acceptance, InboxItem, Record
from fsm_mediator.states import PENDING, is_settled
from fsm_mediator.verifier.rules_table import LAWS
from tests.player.instrumented import WatchedJournal, WatchedMediator
from tests.player.script import BEGINS, CANCELLED, DEADLINE, HANGS, LIFETIME, SIGNALLED, Died, Role

SAGA_ID = "replayed"


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
    verbs = [EXECUTE, *([COMPENSATE] if compensates else []), *([PROBE] if probes else [])]
    return type("Cast", (Actor,), {verb: _called(verb) for verb in verbs})(name, settings)  # type: ignore[no-any-return]


def _called(verb: str) -> Callable[..., Any]:
    def call(self: Actor, payload: Any, context: Context) -> Any:
        return self.replay.role(context.saga_id).called(verb, context)

    return call


class Decision:
    """A function that decides what the way says."""

    replay: Replay

    def __call__(self, payload: Any, context: Context) -> Any:
        """What was decided."""
        return self.replay.role(context.saga_id).decides(context.step)


def decided() -> Decision:
    """A function that decides (``by``, ``over``, ``seconds``, ``until``) what a `Replay` is told."""
    return Decision()


class Replay:
    """A way, gone on a real `Mediator` with a journal that encodes; and the laws, held to what came of it.

    Args:
        saga: A saga of `actor` steps, and of `decided` decisions.
        strict: Whether the way was found with ``verify(saga, strict=True)``.

    Attributes:
        saga: The saga.
        strict: As given.
        broken: The laws that were broken on the way, and what was wrong.
        followed: What happened as the way says.
        left_for: What should have happened where the mediator went another way; None: it went the whole way.
        journal: Where it is recorded.

    Raises:
        DefinitionError: A step, or a function that decides, is a real one.
    """

    def __init__(self, saga: Saga, *, strict: bool = False) -> None:
        for part in _parts_of(saga):
            played: Any = part.subject if part.kind is Kind.STEP else part.decide and part.decide.function
            if not isinstance(played, (Actor, Decision, type(None))):
                what = "actors" if part.kind is Kind.STEP else "decisions that are `decided()`"
                raise DefinitionError(f"a Replay plays sagas of {what}; {part.path!r} is {played!r}")
            if played is not None:
                played.replay = self
        self.saga = saga
        self.strict = strict
        self.broken: dict[int, str] = {}
        self.followed: list[str] = []
        self.left_for: str | None = None
        self.journal = WatchedJournal(self)
        self._branches: Mapping[str, Sequence[str]] = {}
        self._now = 0.0
        self._roles: dict[str, Role] = {}
        self._lock = threading.RLock()
        self._change = threading.Condition()
        self._mediators: list[WatchedMediator] = []

    def follow(self, *way: str, branches: Mapping[str, Sequence[str]] | None = None) -> None:
        """Have happen what *way* says, in the words of the verifier, and then let all go well, until it rests.

        Args:
            way: What happens to the saga.
            branches: What happens to branches of its groups until they end, by their places, ``fan.x``, and to branches
                of these, ``fan.x/deep.y``. Those that are not told go well.
        """
        self._branches = branches or {}
        self._roles = {SAGA_ID: Role(self, SAGA_ID, self.saga, way)}
        root = self.role(SAGA_ID)
        try:
            self._open(root)
            self.bring(root)
            if not self.until(lambda: all(self.is_idle(role) for role in self._played())):
                self.broken.setdefault(1, "it hangs")
            root.judge_the_end()
        finally:
            for role in list(self._roles.values()):
                role.release()
            self.changed()
            for mediator in self._mediators:
                mediator.close(grace=0.0)

    @property
    def records(self) -> list[Record]:
        """What the journal has of it."""
        return self.journal.records(SAGA_ID)

    def told(self) -> str:
        """What came of it, in words."""
        lines = [f"law {law} is broken ({LAWS[law]}): {what}" for law, what in sorted(self.broken.items())]
        lines += ["what happened:", *(f"  {number:3}. {words}" for number, words in enumerate(self.followed, 1))]
        if self.left_for is not None:
            lines.append(f"the mediator went another way; it should have been: {self.left_for}")
        roles = sorted(self._roles.values(), key=lambda role: role.saga_id)
        effects = [f"{role.place}.{path}" if role.place else path for role in roles for path in role.effects]
        lines.append(f"what really has an effect: {', '.join(effects) or 'nothing'}")
        for role in roles:
            lines += [f"the journal of {role.place}:" if role.place else "the journal:", timeline(role.records)]
        return "\n".join(lines)

    # What its roles need

    def role(self, saga_id: str) -> Role:
        """The execution of this id."""
        with self._lock:
            role = self._roles.get(saga_id)
            if role is None:
                parent_id, _, place = saga_id.rpartition("/")
                way = tuple(self._branches.get(saga_id.partition("/")[2], ()))
                parent = self.role(parent_id)
                role = self._roles[saga_id] = Role(self, saga_id, parent.saga_of(place), way)
                role.is_free = parent.lets_go
            return role

    @property
    def mediator(self) -> WatchedMediator:
        """The one that is there now."""
        return self._mediators[-1]

    def clock(self) -> float:
        """The time."""
        return self._now

    def pass_time(self, seconds: float = 0.0, *, until: float = -math.inf) -> None:
        """Let *seconds* pass, and be it *until* then."""
        with self._lock:
            self._now = max(self._now + seconds, until)

    def changed(self) -> None:
        """Something may be so now that `until` waits for."""
        with self._change:
            self._change.notify_all()

    def until(self, holds: Callable[[], bool]) -> bool:
        """Wait until that *holds*; False: that takes so long that it is taken to hang."""
        end = time.monotonic() + HANGS
        while not holds():
            if time.monotonic() > end:
                return False
            with self._change:
                self._change.wait(0.002)  # what is not told is seen by looking again
        return True

    def is_idle(self, role: Role) -> bool:
        """Whether nobody drives it, and nobody is about to."""
        entry = self.journal.find(role.saga_id)
        if entry is None or any(mediator.drives(role.saga_id) for mediator in self._mediators):
            return False
        if is_settled(entry.state) or _is_dormant(entry) or role.has_died or role.is_left:
            return True
        is_about_to_begin = entry.state == PENDING and entry.driver is None
        return not is_about_to_begin and not entry.called

    def is_held_by_nobody(self, role: Role) -> bool:
        """Whether no driver holds it, not even for a thread that cannot be ended."""
        entry = self.journal.find(role.saga_id)
        return entry is None or entry.driver is None

    def has_settled(self, role: Role) -> bool:
        """Whether it has ended or is stuck, and nobody is at it any more."""
        entry = self.journal.find(role.saga_id)
        return entry is not None and is_settled(entry.state) and self.is_idle(role)

    def bring(self, role: Role) -> None:
        """Have it go its way, whoever drives it, until it is about to settle, or nothing is left to be told."""
        while self.until(lambda: role.about_to_settle or self.is_idle(role)):
            entry = self.journal.find(role.saga_id)
            if role.has_died:
                role.has_died = False
                self.dies(role)
            elif role.about_to_settle or entry is None or _is_dormant(entry):
                return
            elif role.place and is_settled(entry.state):
                return  # what is said to it then, is said by who drives the whole
            elif not role.goes_on():
                return
        self.broken.setdefault(1, f"nothing goes on in {role.execution().state}, though it is being driven")

    def dies(self, role: Role) -> None:
        """Its driver has died: another process takes it up."""
        self._open_office()
        self.take_up(role)

    def take_up(self, role: Role) -> None:
        """Have it taken up, if nobody is at it."""
        if not self.saga.branches:  # else others would be taken up as well, and waited for
            self.drive(self.mediator.recover)
        self.mediator.take_up(role.saga_id)

    def tell(self, role: Role) -> None:
        """Something has come to its inbox."""
        self.mediator.tell(role.saga_id)

    def has_go_on(self, branch: Role) -> bool:
        """Have a branch that is stuck go on; False: it does not."""
        done: list[bool] = []
        self.drive(lambda: done.append(self.mediator.have_go_on(branch.saga_id)))
        return done == [True]

    def drive(self, call: Callable[[], object]) -> None:
        """Have a mediator do something, as whoever uses it would."""
        try:
            call()
        except Died:
            pass
        except SystemExit:  # of a step that ended in its midst, in the caller's own thread: the execution is released
            self.mediator.take_up(SAGA_ID)
        except MediatorError as error:
            self.broken.setdefault(1, f"the mediator itself is refused what it does: {error}")

    # Beginning

    def _open_office(self) -> None:
        self._mediators.append(WatchedMediator(self))

    def _open(self, root: Role) -> None:
        self._open_office()
        deadline = LIFETIME if DEADLINE in root.way else None
        if root.way and root.way[0].split("; ")[0] == BEGINS:
            self.mediator.start(self.saga, saga_id=SAGA_ID, deadline=deadline)
            return
        # Something comes before it begins: it is accepted, as by a process that then dies.
        saga = self.saga
        opening = Acceptance(SAGA_ID, saga.name, saga.version, saga.fingerprint, None, 0.0, deadline)
        self.journal.write(Commit(SAGA_ID, (), held=False, acceptance=opening))
        while root.way and (root.way[0] in (CANCELLED, DEADLINE) or root.way[0].startswith(SIGNALLED)):
            label = root.hears()
            if label == DEADLINE:
                self.pass_time(2 * LIFETIME)
            elif label == CANCELLED:
                self.journal.post(SAGA_ID, InboxItem(CANCEL))
            elif label:  # else the way is left: what it says next cannot happen
                self.journal.post(SAGA_ID, InboxItem(SIGNAL, label.split(" ")[2]))
        self.take_up(root)

    def _played(self) -> list[Role]:
        return [self.role(entry.saga_id) for entry in self.journal.entries()]


def _parts_of(saga: Saga) -> Iterator[Part]:
    """Its parts, and those of its branches."""
    for part in saga.parts:
        yield part
        if part.kind in GROUPS:
            for branch in saga.branches[part.path].values():
                yield from _parts_of(branch)


def _is_dormant(entry: Entry) -> bool:
    """Whether it begins when another has settled."""
    return entry.state == PENDING and entry.wake_at == math.inf and not entry.called
