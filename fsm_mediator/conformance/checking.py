"""conforms: replays records through the machine that runs, by the fold that recovery uses.

`Execution.replay` decides about the moves, so that every trace that conforms can be folded by a mediator. Besides, the
step, the attempt, the doubt and the branches that a record names are compared with the state of the execution.
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
    """Check that the machine of *saga* can have made every move in *records*.

    ::

        conforms(outcome.history, checkout).raise_for_violations()
        print(conforms(SQLiteJournal("sagas.db", read_only=True), [checkout, checkout_v1]))

    Args:
        records: A journal; records of one execution or of many; what ``fsm-mediator export`` wrote, or a log with
            lines of `LoggingObserver` (a path, or the lines); dicts with at least ``event``, ``source`` and
            ``target``.
        saga: The saga, or several: other sagas, and other versions. Each execution is judged by the saga of its name
            and, where the records name one, of its fingerprint; the branches of a group by the sagas of its branches.
        progress: Called after each execution.

    Returns:
        The report, with every violation; `Conformance.raise_for_violations` raises for them.

    Raises:
        JournalError: *records* cannot be read.
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
            # Without a fingerprint the best match is the saga by which most moves are legal.
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
    """The sagas that can judge *trace*, or why none can."""
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
    """The number of legal moves by *saga*, and the first illegal one."""
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
                # No move depends on a value; the value of a compensated group is still encoded.
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
    why = f"it is said to be in {trace.state!r}, and its moves lead to {state!r}"
    return count, attrs.evolve(_illegal(saga, trace.saga_id, count + 1, why, before, None, state), line=trace.line)


def _mismatch(entry: LogEntry, execution: Execution) -> str | None:
    """The field of a record, besides its move, that does not fit the state of the execution, in words."""
    record = entry.record
    if record.seq > execution.seq + 1:
        return f"number {execution.seq + 1} is missing before it"
    if record.seq <= execution.seq:
        return f"there was a number {record.seq} before it; number {execution.seq + 1} comes here"
    if record.source != execution.state:
        return None  # the message of the fold says more
    phase, part = execution.machine.places[execution.state]
    if "step" in entry.fields and record.step != (part.path if part is not None else None):
        return f"it names the step {record.step!r}, and {record.source!r} belongs to {part.path if part else 'none'!r}"
    if record.event == ABANDON:
        return None  # without the definition the number of the attempt is unknown
    if "attempt" in entry.fields and record.attempt != execution.attempt:
        # An attempt that was announced, and not begun because of a cancel or the deadline, is taken back.
        taken_back = phase == EXECUTING and record.attempt == execution.attempt - 1
        if not (taken_back and record.event in ("rejected", "in_doubt", "exhausted")):
            return f"it is told as attempt {record.attempt}, and attempt {execution.attempt} was under way"
    return None


def _illegal(
    saga: Saga, saga_id: str, position: int, why: str, before: LogEntry | None, entry: LogEntry | None, state: str
) -> IllegalMove:
    """The violation at *entry*, which comes after *before* in *state*; None: at the end of the moves."""
    expected: Iterable[str] = _expected(saga, state)
    if entry is None:
        found, expected = "the end of its moves", [f"that it is in {state}"]
    elif entry.broken:
        found = "something that is no move"
    else:
        record = entry.record
        found = f"number {record.seq}: {record.event!r} from {record.source!r} to {record.target!r}"
    return IllegalMove(
        *(saga_id, f"saga {saga.name!r} version {saga.version}", position, state, found, why, tuple(expected)),
        after=in_words(before.record) if before is not None else None,
        line=entry.line if entry is not None else None,
    )


def _expected(saga: Saga, state: str) -> Iterator[str]:
    """Every move from *state*; last the moves that only other settings allow, which the fold accepts too."""
    today = set(saga.machine.moves())
    possible = [move for move in compile_machine(saga.parts, every=True).moves() if move.source == state]
    for move in sorted(possible, key=lambda move: (move not in today, list(EVENTS).index(move.event))):
        yield f"{move.event} -> {move.target}{'' if move in today else ', under other settings than today'}"


def _trimmed(message: str) -> str:
    """The message of the fold without its place, which the report names."""
    head, colon, rest = message.partition(": ")
    return rest if colon and head.startswith("saga ") and ", record " in head else message
