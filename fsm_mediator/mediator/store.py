"""ExecutionStore: loads executions from the journal, makes new executions, and checks repeated starts.

Its methods may block on the journal.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import (
    DefinitionChangedError,
    IllegalRecordError,
    JournalError,
    MediatorError,
    PayloadError,
    SagaFailedError,
    SagaIdTakenError,
    SagaNotSucceededError,
    SagaStuckError,
    SagaWaitingError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.execution.data import IMMUTABLE, Around
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.ids import group_of, is_branch, root_of
from fsm_mediator.journal.codec import are_equal
from fsm_mediator.journal.operators import Drivability, Fault, for_operators, has_operators, next_moves
from fsm_mediator.journal.optional import forgotten_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.machine.parts import GROUPS
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.registry import SagaRegistry
from fsm_mediator.mediator.validation import check_saga_id, is_instance
from fsm_mediator.records import VERBS, Acceptance, Record
from fsm_mediator.retry import check_wait
from fsm_mediator.states import COMPENSATING, ENDED, WAITING, is_settled, path_of, split_state

logger: logging.Logger = logging.getLogger("fsm_mediator")

_ids = random.Random()  # noqa: S311 - unique, not secret; a separate generator, because users seed the shared one
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)

PARENT_RESULTS_KEPT: Final = 256
"""The maximum number of groups for which the parent's results are cached. Branches read these results."""


def _copied(payload: Any) -> Any:
    """A deep copy of a payload. UNSET if the payload cannot be copied."""
    try:
        return copy.deepcopy(payload)
    except Exception:  # such as a lock or a connection; the payload is then compared without a copy
        return msgspec.UNSET


class ExecutionStore:
    """Makes new executions, and loads existing executions from the journal.

    Args:
        registry: The sagas.
        journal: The journal.
        clock: Returns the time, in seconds since the epoch.

    Attributes:
        around_decision: Adds the user's context managers to a deciding function. None if there are no context managers.
        carrier: Returns the caller's trace context, for a new execution. None if traces are not used.
    """

    def __init__(self, registry: SagaRegistry, journal: Journal, clock: Callable[[], float]) -> None:
        self.registry = registry
        self.journal = journal
        self.clock = clock
        self.around_decision: Around | None = None
        self.carrier: Callable[[], dict[str, str] | None] | None = None
        self._encoding = journal.codec if journal.encodes else None
        self._operators = for_operators(journal) if has_operators(journal) else None
        self._noted: dict[str, tuple[int, Fault]] = {}
        if self._operators is not None:
            registry.stored_shape = self._operators.shape
        self._parent_results_cache: dict[tuple[str, str], Callable[[], Mapping[str, Any]]] = {}

    def carried(self) -> dict[str, str] | None:
        """The caller's trace context. None if the caller is in no trace, or if traces are not used."""
        return None if self.carrier is None else self.carrier()

    def new_execution(self, saga: Saga | str, payload: Any, saga_id: str | None, deadline: float | None) -> Execution:
        """A new execution that is not journaled yet.

        Raises:
            PayloadError: The payload does not have the type that the saga declares, or cannot be journaled.
            RefusedError: The id is malformed.
        """
        definition = self.registry.by_name.get(saga) if type(saga) is str else None
        if definition is None:
            definition = self.registry.saga(saga)
        at = self.clock()
        original: Any = msgspec.UNSET
        if saga_id is None:
            saga_id = uuid7_hex(at)
        else:
            check_saga_id(saga_id)
            if not self.journal.encodes and payload.__class__ not in IMMUTABLE:
                original = _copied(payload)
        if deadline is None:
            deadline = definition.deadline
        else:
            check_wait("deadline", deadline, above=True)
        if self.journal.encodes:
            payload = self.journal.codec.accept_payload(definition, payload)
        elif isinstance(definition.payload, type) and not is_instance(payload, definition.payload):
            raise PayloadError(
                f"saga {definition.name!r} takes a {definition.payload.__name__}, not {safe_repr(payload)} "
                f"(a {type(payload).__name__})"
            )
        execution = Execution(
            definition,
            Acceptance(
                saga_id,
                definition.name,
                definition.version,
                definition.fingerprint,
                payload,
                at,
                None if deadline is None else at + deadline,
                original=original,
                carrier=None if self.carrier is None else self.carrier(),
            ),
        )
        execution.encoding, execution.around = self._encoding, self.around_decision
        return execution

    def entry(self, saga_id: str) -> Entry:
        """The journal's entry of the execution with this id.

        Raises:
            UnknownExecutionError: There is no such execution.
        """
        entry = self.journal.find(saga_id)
        if entry is None:
            forgotten = self._forgotten(saga_id)
            raise UnknownExecutionError(forgotten or f"the journal knows no execution {saga_id!r}")
        return entry

    def _forgotten(self, saga_id: str) -> str | None:
        """A text that says how a deleted execution ended. None if it was not deleted, or if no row is kept for it."""
        known = forgotten_of(self.journal, saga_id)
        if known is None:
            return None
        saga = "" if known.saga is None else f" of saga {known.saga!r}"
        state = "" if known.state is None else f" ({known.state})"
        return f"execution {saga_id!r}{saga}{state} has ended, and its history is forgotten"

    def check_not_forgotten(self, saga_id: str) -> None:
        """Refuse to start an execution under the id of a deleted execution.

        Raises:
            SagaIdTakenError: The execution with this id has ended, and was deleted.
        """
        forgotten = self._forgotten(saga_id)
        if forgotten is not None:
            raise SagaIdTakenError(f"{forgotten}. To start another one, give it another saga_id")

    def load_execution(self, entry: Entry, records: list[Record] | None = None) -> Execution:
        """The execution of *entry*, built from its *records*. If they are not given, they are read from the journal.

        Raises:
            UnknownExecutionError: The execution was deleted since it was listed.
            UnknownSagaError, DefinitionChangedError: No registered saga can drive the execution.
            PayloadError, IllegalRecordError: The execution cannot be decoded. The fault is noted in the journal.
        """
        saga = self.registry.saga_of(entry.acceptance)
        try:
            if records is None:
                records = self.journal.records(entry.saga_id) if entry.seq else []
            acceptance = self.journal.codec.decode_acceptance(saga, entry.acceptance)
            execution = Execution.fold(saga, acceptance, self.journal.codec.decode_records(saga, records))
        except (PayloadError, IllegalRecordError) as error:
            self.note_fault(entry, error)
            if error.args and isinstance(error.args[0], str):
                error.args = (f"{error.args[0]}. {next_moves(entry.saga_id)}",)
            raise
        if execution.seq < entry.seq:
            raise UnknownExecutionError(f"the journal no longer knows execution {entry.saga_id!r}: it was just deleted")
        execution.encoding, execution.around = self._encoding, self.around_decision
        if saga.single is not None and entry.acceptance.parent is not None:
            execution.parent_results = self._parent_results(entry.acceptance.parent, entry.saga_id)
        return execution

    def note_fault(self, entry: Entry, error: MediatorError) -> None:
        """Note in the journal that this process cannot decode an execution, and why."""
        noted = entry.epoch, Fault.of(error)
        if self._operators is None or entry.state in ENDED or self._noted.get(entry.saga_id) == noted:
            return
        try:
            self._operators.note_fault(entry.saga_id, *noted)
            self._noted[entry.saga_id] = noted
        except JournalError as fault:
            logger.warning(
                "execution %r cannot be decoded, and no note of it could be written: %s", entry.saga_id, fault
            )

    def is_known_elsewhere(self, entry: Entry) -> bool:
        """Whether no registered saga can drive an execution, but another living driver knows its definition."""
        if self._operators is None or self.registry.can_drive(entry.acceptance):
            return False
        return entry.acceptance.fingerprint in self._operators.known()

    def _parent_results(self, parent_id: str, branch_id: str) -> Callable[[], Mapping[str, Any]]:
        """A function that returns the results that a branch's parent had when the parent entered the group.

        These results do not change any more.
        """
        path = group_of(branch_id)
        known = self._parent_results_cache.get((parent_id, path))
        if known is None:
            entry = self.entry(parent_id)
            saga = self.registry.saga_of(entry.acceptance)
            parent = Execution(saga, self.journal.codec.decode_acceptance(saga, entry.acceptance))
            for record in self.journal.codec.decode_records(saga, self.journal.records(parent_id)):
                parent.replay(record)
                if record.children is not None and path_of(record.target) == path:
                    break
            if saga.single is not None and entry.acceptance.parent is not None:
                parent.parent_results = self._parent_results(entry.acceptance.parent, parent_id)
            parent.encoding = self._encoding
            known = functools.partial(parent.results_seen_by, saga.part(path))
            while len(self._parent_results_cache) >= PARENT_RESULTS_KEPT:
                self._parent_results_cache.pop(next(iter(self._parent_results_cache)), None)
            self._parent_results_cache[parent_id, path] = known
        return known

    def has_news(self, entry: Entry) -> bool:
        """Whether the inbox has news for an execution that waits for branches, or a verb for a settled execution."""
        return entry.called and (self.waits_in_group(entry) or self.has_verbs(entry))

    def has_verbs(self, entry: Entry) -> bool:
        """Whether an execution is stuck or has ended, and its inbox has a verb."""
        return (
            entry.called
            and is_settled(entry.state)
            and any(item.kind in VERBS for item in self.journal.inbox(entry.saga_id))
        )

    def waits_in_group(self, entry: Entry) -> bool:
        """Whether an execution waits for a group or a choice, so that its branches decide the next event."""
        if entry.state in ENDED:
            return False
        machine = self.registry.saga_of(entry.acceptance).machine_with(entry.state)
        part = machine.places[entry.state].part if machine is not None else None
        return part is not None and part.kind in GROUPS

    def outcome(self, saga_id: str) -> Outcome:
        """The outcome of an execution so far, computed from its records in the journal."""
        return self.load_execution(self.entry(saga_id)).outcome()

    def check_same(self, theirs: Acceptance, opened: Execution) -> None:
        """Refuse to join an existing execution if its saga or its payload differs from the caller's.

        Raises:
            SagaIdTakenError: The execution has another saga or another payload.
        """
        ours = opened.acceptance
        if theirs.saga != ours.saga:
            raise SagaIdTakenError(
                f"the id {ours.saga_id!r} belongs to an execution of saga {theirs.saga!r}, not of {ours.saga!r}"
            )
        payload = theirs.payload if theirs.original is msgspec.UNSET else theirs.original
        if isinstance(payload, msgspec.Raw):
            try:
                payload = self.journal.codec.decode_acceptance(opened.saga, theirs).payload
            except PayloadError:
                payload = ...  # the type of the stored payload has changed: it equals no new payload
        if theirs.payload is not ours.payload and not are_equal(payload, ours.payload):
            raise SagaIdTakenError(
                f"execution {ours.saga_id!r} of saga {ours.saga!r} exists with another payload. "
                f"To start another one, give it another saga_id"
            )

    @staticmethod
    def waits_for_branches(outcome: Outcome) -> bool:
        """Whether the execution waits for a group, so that some of its branches may be running."""
        phase, path = split_state(outcome.state)
        return phase in (WAITING, COMPENSATING) and path in outcome.saga.branches

    def outcome_for_waiter(self, active: ActiveExecution, *, closed: bool) -> Outcome | None:
        """The outcome for a caller that has waited for *active*. None if the caller must read the journal.

        The caller must read the journal, for example, if the execution waits for branches: the driver may have checked
        the branches before the wait began, and may have missed later items.
        """
        outcome = active.outcome
        if outcome is None or not (active.rests or closed):
            return None
        return None if not closed and self.waits_for_branches(outcome) else outcome

    def roots_of(self, outcomes: Iterable[Outcome], driver_id: str) -> list[str]:
        """The ids of the outermost parents (the roots) of the branches in *outcomes*.

        Roots that are in *outcomes* themselves, or that another living driver owns, are left out.

        A root continues in the background when its branch settles.
        """
        claimed = {outcome.saga_id for outcome in outcomes}
        roots = {root_of(saga_id) for saga_id in claimed if is_branch(saga_id)} - claimed
        entries = (self.journal.find(saga_id) for saga_id in sorted(roots))
        return [
            entry.saga_id
            for entry in entries
            if entry is not None  # otherwise the root has ended, and was deleted
            if entry.driver is None or not entry.driver_alive or entry.driver.id == driver_id
        ]

    def missing_definition(self, active: ActiveExecution) -> str | None:
        """The fingerprint of the definition of *active*, if no registered saga can drive it. Otherwise None.

        The result is also None if a registered saga with another name has that fingerprint. That saga can drive the
        execution.
        """
        if active.epoch == 0 and isinstance(active.error, (UnknownSagaError, DefinitionChangedError)):
            entry = self.journal.find(active.saga_id)
            if entry is not None and not self.registry.knows(entry.acceptance.fingerprint):
                return entry.acceptance.fingerprint
        return None


def with_drivability(journal: Journal, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield *entries*. The entry of an undrivable execution has the reason in `Entry.undrivable`."""
    look = Drivability(journal)
    for entry in entries:
        why = look.why_not(entry)
        yield entry if why is None else msgspec.structs.replace(entry, undrivable=why)


def with_queue_info(entries: Iterable[Entry], driven: Mapping[str, ActiveExecution]) -> list[Entry]:
    """Return *entries*. If an execution in *driven* is queued on a limit, its `Entry.queued` has the limit's name."""
    found = []
    for entry in entries:
        active = driven.get(entry.saga_id)
        slot = None if active is None else active.slot
        queues = slot is not None and not slot.has_come
        found.append(msgspec.structs.replace(entry, queued=slot.limit.name) if slot and queues else entry)
    return found


def raise_unless_succeeded(outcome: Outcome, check: bool) -> Outcome:
    """Return *outcome*. If *check* is True and the outcome is not a success, raise the outcome's error instead."""
    if outcome.succeeded or not check:
        return outcome
    kind: type[SagaNotSucceededError] = SagaWaitingError
    if outcome.failed:
        kind = SagaFailedError
    elif outcome.stuck:
        kind = SagaStuckError
    raise kind(outcome)


_RANDOM: Final = (1 << 80) - 1 ^ 0xF << 76 ^ 0b11 << 62
_VERSION_7: Final = 0x7 << 76 | 0b10 << 62
_begun = (math.inf, 0.0, 0)
"""The millisecond of the last new id: its start and end, in seconds, and the first bits of all ids made in it."""


def uuid7_hex(at: float) -> str:
    """A new id that begins with the time *at* (seconds since the epoch): a UUID of version 7 (RFC 9562) in hexadecimal.

    Executions that are opened at about the same time are neighbours in a journal's index by id. With random ids, a
    commit that opens many executions would write another page of the index for each of them.
    """
    global _begun  # noqa: PLW0603 - if two threads assign it at the same time, either value is right
    begins, ends, beginning = _begun
    if not begins <= at < ends:
        millisecond = int(at * 1000)
        beginning = (millisecond & 0xFFFF_FFFF_FFFF) << 80 | _VERSION_7
        _begun = millisecond / 1000, (millisecond + 1) / 1000, beginning
    number = beginning | _ids.getrandbits(80) & _RANDOM
    return number.to_bytes(16, "big").hex()
