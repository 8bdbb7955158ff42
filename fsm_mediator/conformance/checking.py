"""conforms: replays records on the saga's machine, with the same code that recovery uses.

`Execution.replay` decides whether a move is legal. So a mediator can recover every execution that conforms. The module
also compares each record with the state of the execution: the step, the attempt, ``in_doubt`` and the branches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import attrs
import msgspec

from fsm_mediator.conformance.branches import BranchConsistency, branches_mismatch
from fsm_mediator.conformance.doubt import doubt_mismatch
from fsm_mediator.conformance.reading import LogEntry, Reader, Source, Trace, reread
from fsm_mediator.conformance.report import Conformance, IllegalMove, Unchecked
from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.errors import DefinitionChangedError, DefinitionError, IllegalRecordError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.journal.protocol import is_journal
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.narration import in_words
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ABANDON, EVENTS, EXECUTING


def conforms(
    records: Source, saga: Saga | Iterable[Saga], *, progress: Callable[[], object] | None = None
) -> Conformance:
    """Check that every move in *records* is a legal move of the machine of *saga*.

    ::

        conforms(outcome.history, checkout).raise_for_violations()
        print(conforms(SQLiteJournal("sagas.db", read_only=True), [checkout, checkout_v1]))

    Args:
        records: One of: a journal; the records of one or more executions; a file of ``fsm-mediator export`` or a log
            with lines of `LoggingObserver`, as a path or as lines; dicts with at least ``event``, ``source`` and
            ``target``.
        saga: One saga, or several sagas and versions. An execution is checked against the saga with its name. If the
            records have a fingerprint, the saga's fingerprint must be the same. The branches of a group are checked
            against the sagas of the branches.
        progress: A function that is called after each execution.

    Returns:
        The report with all violations. Call `Conformance.raise_for_violations` to raise an error for them.

    Raises:
        JournalError: *records* cannot be read.
        DefinitionError: *saga* is not a saga.
    """
    sagas = tuple(saga) if isinstance(saga, Iterable) else (saga,)
    if not sagas or not all(isinstance(each, Saga) for each in sagas):
        raise DefinitionError(f"conforms() takes records and a saga, or several sagas, not {saga!r}")
    sagas = tuple(member for each in sagas for member in all_definitions(each))
    reader, branches = Reader({each.name for each in sagas}), BranchConsistency()
    executions = moves = 0
    violations: list[IllegalMove] = []
    unchecked: list[Unchecked] = []
    damage = tuple(records.check()) if is_journal(records) and hasattr(records, "check") else ()
    for trace in reader.traces(records):
        candidates, why = _candidates(sagas, trace)
        if candidates:
            # Without a fingerprint, the best match is the saga with the most legal moves.
            results = [(*_check(each, trace), each) for each in candidates]
            legal, violation, judge = max(results, key=lambda result: (result[1] is None, result[0]))
            executions += 1
            moves += legal
            if violation is not None:
                violations.append(violation)
            else:
                branches.note(trace, judge)
        else:
            unchecked.append(Unchecked(trace.saga_id, trace.saga, trace.version, trace.fingerprint, why))
        if progress is not None:
            progress()
    for claim, why in branches.contradictions(partial(reread, records)):
        state = claim.entry.record.source
        violations.append(_illegal(claim.saga, claim.saga_id, claim.position, why, claim.before, claim.entry, state))
    return Conformance(executions, moves, tuple(violations), tuple(unchecked), reader.ignored, damage)


def _candidates(sagas: Sequence[Saga], trace: Trace) -> tuple[list[Saga], str]:
    """The sagas against which *trace* can be checked, and the reason if there are no such sagas."""
    named = [saga for saga in sagas if not trace.saga or saga.name == trace.saga]
    if not named:
        return [], f"no saga is named {trace.saga!r}; there are {', '.join(sorted({saga.name for saga in sagas}))}"
    if trace.fingerprint is None:
        return named, ""
    same = [saga for saga in named if saga.fingerprint == trace.fingerprint]
    known = ", ".join(f"version {saga.version} ({saga.fingerprint})" for saga in named)
    return sorted(same, key=lambda saga: saga.version != trace.version)[:1], (
        f"it was started by saga {trace.saga!r} version {trace.version} ({trace.fingerprint}), and there is only "
        f"{known}. Give the definition that started it as well"
    )


def _check(saga: Saga, trace: Trace) -> tuple[int, IllegalMove | None]:
    """The number of moves of *trace* before its first illegal move in *saga*, and this illegal move or None."""
    version, fingerprint = trace.version or saga.version, trace.fingerprint or saga.fingerprint
    acceptance = Acceptance(trace.saga_id, saga.name, version, fingerprint, None, 0.0, None, trace.parent)
    execution = Execution(saga, acceptance)
    before: LogEntry | None = None
    knows_doubt = all("in_doubt" in entry.fields for entry in trace.moves)
    for position, entry in enumerate(trace.moves, 1):
        state = execution.state
        why = entry.broken or _mismatch(entry, execution)
        if why is None:
            claimed = doubt_mismatch(entry.record, execution) if knows_doubt else None
            try:
                # The value is left out: no move depends on it, and a compensated group's value is still encoded here.
                execution.replay(msgspec.structs.replace(entry.record, value=None))
            except IllegalRecordError as error:
                why = _trimmed(str(error))
            except DefinitionChangedError:
                why = f"this saga has no state {entry.record.target!r}"
            else:
                why = claimed or branches_mismatch(entry.record, execution)
        if why is not None:
            return position - 1, _illegal(saga, trace.saga_id, position, why, before, entry, state)
        before = entry
    count, state = len(trace.moves), execution.state
    if trace.state is None or trace.state == state:
        return count, None
    why = f"it is said to be in {trace.state!r}, but its moves lead to {state!r}"
    return count, attrs.evolve(_illegal(saga, trace.saga_id, count + 1, why, before, None, state), line=trace.line)


def _mismatch(entry: LogEntry, execution: Execution) -> str | None:
    """A text about the first field of *entry* that does not fit the state of *execution*. None if all fields fit.

    This function does not check whether the move is legal.
    """
    record = entry.record
    if record.seq > execution.seq + 1:
        return f"number {execution.seq + 1} is missing before it"
    if record.seq <= execution.seq:
        return f"there was a number {record.seq} before it; its number must be {execution.seq + 1}"
    if record.source != execution.state:
        return None  # the error message of the replay is more detailed
    phase, part = execution.machine.places[execution.state]
    if "step" in entry.fields and record.step != (part.path if part is not None else None):
        return f"it names the step {record.step!r}, and {record.source!r} belongs to {part.path if part else 'none'!r}"
    if record.event == ABANDON:
        return None  # an execution can be abandoned without its definition, and then the attempt's number is unknown
    if "attempt" in entry.fields and record.attempt != execution.attempt:
        # If a cancel or the deadline stops an announced attempt before it begins, the attempt is not counted.
        taken_back = phase == EXECUTING and record.attempt == execution.attempt - 1
        if not (taken_back and record.event in ("rejected", "in_doubt", "exhausted")):
            return f"it is told as attempt {record.attempt}, and attempt {execution.attempt} was under way"
    return None


def _illegal(
    saga: Saga, saga_id: str, position: int, why: str, before: LogEntry | None, entry: LogEntry | None, state: str
) -> IllegalMove:
    """The violation at *entry*, in *state*, after the move *before*.

    *entry* is None if every move is legal, but the moves lead to a wrong state.
    """
    expected: Iterable[str] = _expected(saga, state)
    if entry is None:
        found, expected = "the end of its moves", [f"that it is in {state}"]
    elif entry.broken:
        found = "an entry that is not a move"
    else:
        record = entry.record
        found = f"number {record.seq}: {record.event!r} from {record.source!r} to {record.target!r}"
    return IllegalMove(
        *(saga_id, f"saga {saga.name!r} version {saga.version}", position, state, found, why, tuple(expected)),
        after=in_words(before.record) if before is not None else None,
        line=entry.line if entry is not None else None,
    )


def _expected(saga: Saga, state: str) -> Iterator[str]:
    """A text for each legal move from *state*. Moves that are legal only under other settings come last."""
    today = set(saga.machine.moves())
    possible = [move for move in compile_machine(saga.parts, every=True).moves() if move.source == state]
    for move in sorted(possible, key=lambda move: (move not in today, list(EVENTS).index(move.event))):
        yield f"{move.event} -> {move.target}{'' if move in today else ', under other settings than today'}"


def _trimmed(message: str) -> str:
    """The error message of a replay without its beginning, which names the saga and the record."""
    head, colon, rest = message.partition(": ")
    return rest if colon and head.startswith("saga ") and ", record " in head else message
