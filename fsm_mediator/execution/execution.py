"""Execution: one running instance of a saga. It does no I/O.

A driver reads `Execution.effect`, performs the effect, and passes the answer to `feed`. The rules decide the event.
`feed` triggers the event on the machine and returns the record. `advance` makes the moves that need no effect: at the
end of a wait, and after a cancel or the deadline. The time and the random number are arguments. A replay of the records
gives the same execution.

This folder must never contain clocks, sleeping, randomness, threads, journals, or calls of steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Self

from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga, find_signal
from fsm_mediator.error_types import DefinitionChangedError, IllegalRecordError, RefusedError
from fsm_mediator.execution import rules
from fsm_mediator.execution.branching import enter_wait
from fsm_mediator.execution.data import STEP, ExecutionData
from fsm_mediator.execution.rules import Decision
from fsm_mediator.ids import branch_id
from fsm_mediator.machine.parts import GROUPS, WAIT, Effect, Kind, Part
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    Acceptance,
    Answer,
    Branches,
    Due,
    InboxItem,
    Record,
    Signalled,
)
from fsm_mediator.states import ABANDON, COMPENSATING, FAILED, WAITING, path_of


class Execution(ExecutionData):
    """One running instance of a saga. Its attributes are in `ExecutionData`."""

    __slots__ = ()

    # Type checkers of users' code do not infer these attributes from the base class.
    state: str
    seq: int
    effect: Effect | None
    doubt: bool
    deadline_at: float | None
    signals: dict[str, InboxItem] | None
    plans: dict[str, tuple[str, ...]] | None
    branch_leftovers: dict[str, tuple[str, ...]] | None
    compensated: tuple[str, ...]
    doubtful: tuple[str, ...]
    consumed: tuple[int, ...]
    forwarded: tuple[tuple[str, InboxItem], ...]
    new_branches: tuple[Acceptance, ...]

    @classmethod
    def fold(cls, saga: Saga, acceptance: Acceptance, records: Iterable[Record]) -> Self:
        """The execution that made *records*, built by replaying them.

        Raises:
            IllegalRecordError: The saga's machine cannot have produced the records.
            DefinitionChangedError: A record names a state that the saga does not have.
        """
        execution = cls(saga, acceptance)
        for record in records:
            execution.replay(record)
        return execution

    def replay(self, record: Record) -> None:
        """Make the move that *record* describes, without a new record.

        Raises:
            IllegalRecordError: The record does not follow from the execution's state.
            DefinitionChangedError: The record names a state that the saga does not have.
        """
        where = f"saga {self.saga_id!r}, record {record.seq}"
        if record.seq != self.seq + 1 or record.source != self.state:
            raise IllegalRecordError(
                f"{where}: it leaves {record.source!r} as number {record.seq}, but the execution is in "
                f"{self.state!r} and its next record is number {self.seq + 1}",
                record.seq,
            )
        if record.event == ABANDON and record.target == FAILED and not self.ended:
            self._give_up(record)
            return
        if record.target not in self.places or not self.machine.has_transition(record.event, record.source):
            wider = self.saga.widest_machine
            if record.target not in wider.states:
                raise DefinitionChangedError(
                    f"{where} enters {record.target!r}, a state that saga {self.saga.name!r} version "
                    f"{self.saga.version} does not have. Register the definition that wrote the record"
                )
            if wider.has_transition(record.event, record.source):
                self.use_machine(wider)
        if not self.machine.has_transition(record.event, record.source):
            raise IllegalRecordError(f"{where}: {self.machine.refusal(record.event, record.source)}", record.seq)
        part = self.places[record.source].part
        self.events[record.event].move(self)
        if self.state != record.target:
            raise IllegalRecordError(
                f"{where}: {record.event!r} leads from {record.source!r} to {self.state!r}, not to {record.target!r}",
                record.seq,
            )
        self._apply(record, part)

    def feed(self, answer: Answer, at: float, chance: float = 0.0) -> Record | None:
        """Make the move for *answer*: the answer of the effect, or a command of an operator.

        Args:
            answer: The answer.
            at: The time, in seconds since the epoch.
            chance: A random number from 0 to 1, for the jitter of waits.

        Returns:
            The record. None if there is no move: for example after a crash without a running attempt, if a probe must
            be called again, or if branches are still running.

        Raises:
            RefusedError: The answer does not fit the state. The execution has not changed.
        """
        phase, part = self.places[self.state]
        decision = rules.RULES[phase](self, part, answer, at, chance)  # type: ignore[arg-type]  # the rule of pending needs no part
        if decision is None:
            return None
        event = decision.event
        if event in _RETRY:
            return self._record_retry(event, decision, at)
        if event in _DONE and decision.reason is None and (part is None or part.kind is STEP):
            return self.succeed(decision.value, at)
        return self._move(decision, at)

    def begin(self, at: float) -> Record:
        """Start the execution, as ``feed(Begin(), at)`` does."""
        return self.succeed(None, at)

    def succeed(self, value: Any, at: float) -> Record:
        """Make the move after a successful attempt, or the first move of the execution.

        It is a faster ``feed(Returned(value), at)`` and a faster ``feed(Begin(), at)``, because nearly all moves are of
        these two kinds. A test compares the result with a replay of the records.
        """
        effect, source = self.effect, self.state
        if effect is None:
            event, part, path = "start", None, None
        else:
            event, part = effect.done, effect.part
            path = part.path
        self.events[event].move(self)
        following = self.effect
        waits, attempt = False, 0
        if following is not None:
            if following.callback is not None:
                attempt = 1
            else:
                waits = True
                due_at, children = enter_wait(self, following.part, at, value, part)
        if path is not None:
            if event == "executed":
                self.answered[path] = value
            else:
                value = None
                self.compensated += (path,)
        self.seq = seq = self.seq + 1
        if not waits:
            self.due_at = None
            record = Record(self.saga_id, self.saga.name, seq, event, source, self.state, at, path, self.attempt, value)
        else:
            self.due_at = due_at
            record = Record(
                *(self.saga_id, self.saga.name, seq, event, source, self.state, at, path, self.attempt, value),
                due_at=due_at,
                children=children,
            )
            self._apply_branches(record)
        self.history.append(record)
        self.doubt: bool = False
        self.trouble = None
        self.attempt = attempt
        if self.cancel is not None or self.signals:
            self._discard_obsolete_messages()
        return record

    def advance(self, at: float) -> Record | None:
        """Make the next move that needs no effect, and return its record. None if there is no such move now.

        Call `advance` after every `feed`, and when a wait may be over. Repeat the call until it returns None.
        """
        if self.cancel is not None or self.deadline_at is not None:
            decision = rules.interrupted(self, at)
            if decision is not None:
                self.new_branches = ()
                return self._move(decision, at)
        due_at = self.due_at
        if due_at is not None and at >= due_at and self.effect is not None and self.effect.kind == WAIT:
            return self.feed(_DUE, at)
        phase, part = self.places[self.state]
        if phase == WAITING and part is not None:
            return self._advance_wait(part, at)
        if phase == COMPENSATING and part is not None and self.plans and self.plans.get(part.path) == ():
            return self.feed(Branches(()), at)  # an empty group has no branches to wait for
        return None

    def _advance_wait(self, part: Part, at: float) -> Record | None:
        if part.kind is Kind.SIGNAL and self.signals and part.path in self.signals:
            return self.feed(Signalled((item := self.signals[part.path]).value, item.actor), at)
        if part.kind in GROUPS:
            plan = self.plans.get(part.path) if self.plans else None
            if plan is not None:
                return None if plan else self.feed(Branches(()), at)
        elif part.kind is Kind.SIGNAL or self.due_at is not None:
            return self.feed(_DUE, at) if self.due_at is not None and at >= self.due_at else None
        return self._move(rules.undecided(self, part), at)

    # The inbox

    def receive(self, item: InboxItem) -> None:
        """Store an inbox item. `advance` acts on the item as soon as the state allows it."""
        if item.kind == CANCEL and self.cancellable and self.cancel is None:
            self.cancel = item
        elif item.kind == SIGNAL and self.awaits_signal(item.name) and item.name not in (self.signals or ()):
            if self.signals is None:
                self.signals = {}
            self.signals[item.name] = item  # the first signal counts
        elif item.kind != SIGNAL or not (self._forward(item) or self._is_moot(item.name)):
            self.consumed += (item.number,)

    def _is_moot(self, path: str) -> bool:
        """Whether the saga has a signal at *path* that will never be used, because the execution failed or ended.

        The item of such a signal stays in the inbox.
        """
        known = path in self.answered or path in (self.signals or ())
        return not known and not self.awaits_signal(path) and find_signal(self.saga, path) is not None

    def _forward(self, item: InboxItem) -> bool:
        """Forward a signal to its branch if the branch exists. Returns whether it exists."""
        found = find_signal(self.saga, item.name)
        if found is None or found.group is None or found.branch not in self.branches_of(found.group.path):
            return False
        branch = branch_id(self.saga_id, found.group.path, found.branch)
        self.forwarded += ((branch, replace(item, name=found.inside)),)
        return True

    def drain_consumed(self) -> tuple[int, ...]:
        """Return the numbers of the inbox items that may be deleted, and forget the numbers.

        Such an item has had its effect, or is obsolete.
        """
        if not self.consumed:
            return ()
        consumed, self.consumed = self.consumed, ()
        return consumed

    def pop_new_branches(self) -> tuple[Acceptance, ...]:
        """Return the branches that the last record creates, and forget them. The record's commit creates them."""
        branches, self.new_branches = self.new_branches, ()
        return branches

    def pop_forwarded(self) -> tuple[tuple[str, InboxItem], ...]:
        """Return the signals for branches, and forget them. The next commit posts them to the branches."""
        forwarded, self.forwarded = self.forwarded, ()
        self.consumed += tuple(item.number for _, item in forwarded)
        return forwarded

    # Moves

    def _move(self, decision: Decision, at: float) -> Record:
        """Trigger the event of *decision*, and return the record.

        Only this method, `succeed`, `_record_retry` and `replay` change the state.
        """
        event, value, due_at = decision.event, decision.value, decision.due_at
        source = self.state
        known = self.events.get(event)
        if known is None or source not in known.transitions:
            if not decision.widest:
                raise self._refusal(event)
            self.use_machine(self.saga.widest_machine)
            known = self.events[event]
        part = self.places[source].part
        known.move(self)
        effect = self.effect
        children = None
        if effect is not None and effect.part.kind is not STEP and due_at is None:
            due_at, children = enter_wait(self, effect.part, at, value if part is not None else None, part)
        record = Record(
            self.saga_id,
            self.saga.name,
            self.seq + 1,
            event,
            source,
            self.state,
            at,
            part.path if part is not None else None,
            self.attempt - decision.unbegun,
            value,
            decision.error,
            decision.in_doubt,
            due_at,
            decision.reason,
            decision.abandoned,
            children,
            decision.actor,
        )
        self._apply(record, part)
        return record

    def _record_retry(self, event: str, decision: Decision, at: float) -> Record:
        """A faster `_move` for two events: an attempt failed and a wait begins, or the wait is over.

        These are the most frequent moves after errors. The test of `succeed` also compares these moves with a replay.
        """
        source, error, doubt = self.state, decision.error, decision.in_doubt
        known = self.events.get(event)
        if known is None or source not in known.transitions:
            raise self._refusal(event)
        known.move(self)
        attempt, path = self.attempt, self.effect.part.path  # type: ignore[union-attr]  # both states have an effect
        self.seq = seq = self.seq + 1
        saga_id, name, state = self.saga_id, self.saga.name, self.state
        due_at, reason = decision.due_at, decision.reason
        record = Record(saga_id, name, seq, event, source, state, at, path, attempt, None, error, doubt, due_at, reason)
        self.history.append(record)
        self.due_at = due_at
        self.doubt = doubt
        if error is not None:
            self.trouble = error
        if event in _REPEATING:
            self.attempt = attempt + 1
        if self.cancel is not None or self.signals:
            self._discard_obsolete_messages()
        return record

    def _refusal(self, event: str) -> RefusedError:
        return RefusedError(f"saga {self.saga_id!r}: {self.machine.refusal(event, self.state)}")

    def _apply(self, record: Record, part: Part | None) -> None:
        """Update the data from a record. `feed` and `replay` both end here, so a replay cannot differ from the run."""
        self.seq = record.seq
        self.history.append(record)
        self.due_at = record.due_at
        event = record.event
        if event in _REPEATING:
            self.attempt += 1
        elif event in _SAME_PART:
            self._apply_same_part(event, record)
        else:
            path = part.path if part is not None else ""
            if event in ("executed", "settled_done"):
                self.answered[path] = record.value
            elif event == "compensated":
                self.compensated += (path,)
                if record.value:
                    leftovers = tuple(f"{path}.{left}" for left in record.value)
                    self.branch_leftovers = {**(self.branch_leftovers or {}), path: leftovers}
            elif event in ("rejected", "undo", ABANDON):
                self.failure = record.error
                if record.in_doubt:
                    self.doubtful += (path,)
            elif event == "settled_undone" and self.failure is None:
                self.failure = self.trouble
            self.doubt = False
            self.trouble = None
            self.attempt = 1 if self.effect is not None and self.effect.callback is not None else 0
        if record.children is not None:
            self._apply_branches(record)
        if self.cancel is not None or self.signals:
            self._discard_obsolete_messages()

    def _give_up(self, record: Record) -> None:
        """Move from any state to ``failed`` without compensation, because an operator has abandoned the execution."""
        part = self.places[record.source].part
        self.state, self.effect = FAILED, None
        self._apply(record, part)
        kinds = (STEP, *GROUPS)
        begun = (*self.answered, *(self.plans or ()))
        done = [each.path for each in self.saga.parts if each.kind in kinds and each.path in begun]
        self.doubtful += tuple(path for path in done if path not in (*self.doubtful, *self.compensated))

    def _apply_branches(self, record: Record) -> None:
        if record.children is not None:
            self.plans = {**(self.plans or {}), path_of(record.target): record.children}

    def _apply_same_part(self, event: str, record: Record) -> None:
        self.doubt = record.in_doubt
        if record.error is not None:
            self.trouble = record.error
        if event in ("retry", "in_doubt"):
            self.attempt = 1 if self.effect is not None and self.effect.callback is not None else 0
        if event == "retry":
            self.deadline_at = None  # the operator wants the execution to continue; the deadline would end it at once
        elif event == "in_doubt":
            self.failure = record.error

    def _discard_obsolete_messages(self) -> None:
        if self.cancel is not None and not self.cancellable:
            self.consumed += (self.cancel.number,)
            self.cancel = None
        for path in [path for path in self.signals or () if not self.awaits_signal(path)]:
            assert self.signals is not None
            item = self.signals.pop(path)
            if not self._forward(item) and not self._is_moot(path):
                self.consumed += (item.number,)


_DUE: Final = Due()

_DONE: Final = frozenset(("start", "executed", "compensated"))
"""The events of the moves that `Execution.succeed` makes."""

_REPEATING: Final = frozenset(("retry_due", "compensation_due"))
"""The events that announce another attempt at the same part."""

_RETRY: Final = _REPEATING | {"errored", "compensation_errored"}

_SAME_PART: Final = frozenset(
    ("errored", "unsure", "in_doubt", "exhausted", "compensation_errored", "compensation_exhausted", "retry")
)
"""The events, except `_REPEATING`, after which the state belongs to the same part as before the event."""
