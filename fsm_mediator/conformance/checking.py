"""conforms: replays what was recorded through the machine that runs, by the fold that recovery uses.

What decides is `Execution.replay` alone, so that a trace conforms exactly if a mediator could fold it. On top of it
only what a record says of itself is held against where it stands: its step, and its attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
import msgspec

from fsm_mediator.conformance.branches import Families
from fsm_mediator.conformance.reading import Reading, Source, Told, Trace, again, traces
from fsm_mediator.conformance.report import Conformance, IllegalMove, Unchecked
from fsm_mediator.definition.saga import Saga, family
from fsm_mediator.errors import DefinitionChangedError, DefinitionError, IllegalRecordError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.narration import in_words
from fsm_mediator.records import Acceptance
from fsm_mediator.states import EVENTS, EXECUTING


def conforms(
    records: Source, saga: Saga | Iterable[Saga], *, progress: Callable[[], object] | None = None
) -> Conformance:
    """Check that the machine of *saga* can have made every move that *records* tell of.

    ::

        conforms(outcome.history, checkout).raise_for_violations()
        print(conforms(SQLiteJournal("sagas.db", read_only=True), [checkout, checkout_v1]))

    Args:
        records: A journal; records of one execution or of many; what ``fsm-mediator export`` wrote, or a log with
            lines of `LoggingObserver` (a path, or the lines); dicts with at least ``event``, ``source`` and
            ``target``.
        saga: The saga, or several: other sagas, and other versions. Each execution is judged by the one of its name
            and, where it tells one, of its fingerprint; the branches of a group by those of the sagas given.
        progress: Called after each execution.

    Returns:
        The report. What does not conform is in it; `Conformance.raise_for_violations` raises for it.

    Raises:
        JournalError: What is given cannot be read.
    """
    sagas = tuple(saga) if isinstance(saga, Iterable) else (saga,)
    if not sagas or not all(isinstance(each, Saga) for each in sagas):
        raise DefinitionError(f"conforms() is given what was recorded and a saga, or several, not {saga!r}")
    sagas = tuple(member for each in sagas for member in family(each))
    reading, groups = Reading({each.name for each in sagas}), Families()
    executions = moves = 0
    violations: list[IllegalMove] = []
    unchecked: list[Unchecked] = []
    for trace in traces(records, reading):
        able, why = _able(sagas, trace)
        if why is not None:
            unchecked.append(Unchecked(trace.saga_id, trace.saga, trace.version, trace.fingerprint, why))
        else:
            executions += 1
            legal, violation, judge = _furthest(able, trace)
            moves += legal
            if violation is not None:
                violations.append(violation)
            else:
                groups.note(trace, judge)
        if progress is not None:
            progress()
    for claim, why in groups.broken(lambda saga_id: again(records, saga_id)):
        violations.append(_illegal(claim.saga, claim.saga_id, claim.position, why, claim.before, claim.told))
    return Conformance(executions, moves, tuple(violations), tuple(unchecked), reading.ignored)


def _able(sagas: Sequence[Saga], trace: Trace) -> tuple[list[Saga], str | None]:
    """The sagas that can judge *trace*, or why none can."""
    named = [saga for saga in sagas if not trace.saga or saga.name == trace.saga]
    if not named:
        return [], f"no saga is named {trace.saga!r}; there are {', '.join(sorted({saga.name for saga in sagas}))}"
    if trace.fingerprint is None:
        return named, None
    same = [saga for saga in named if saga.fingerprint == trace.fingerprint]
    if not same:
        known = ", ".join(f"version {saga.version} ({saga.fingerprint})" for saga in named)
        return [], (
            f"it was started by saga {trace.saga!r} version {trace.version} ({trace.fingerprint}), and there is only "
            f"{known}. Give the definition that started it as well"
        )
    return sorted(same, key=lambda saga: saga.version != trace.version)[:1], None


def _furthest(sagas: Sequence[Saga], trace: Trace) -> tuple[int, IllegalMove | None, Saga]:
    """How many moves are legal and the first that is not, by the saga that gets furthest; and that."""
    best: tuple[int, IllegalMove | None, Saga] = (-1, None, sagas[0])
    for saga in sagas:
        legal, violation = _checked(saga, trace)
        if violation is None:
            return legal, None, saga
        if legal > best[0]:
            best = legal, violation, saga
    return best


def _checked(saga: Saga, trace: Trace) -> tuple[int, IllegalMove | None]:
    version, fingerprint = trace.version or saga.version, trace.fingerprint or saga.fingerprint
    acceptance = Acceptance(trace.saga_id, saga.name, version, fingerprint, None, 0.0, None, trace.parent)
    execution = Execution(saga, acceptance)
    for position, told in enumerate(trace.moves, 1):
        stood = execution.state
        why = told.broken or _odd(told, execution)
        if why is None:
            try:
                # No move depends on a value; that of a compensated group is what its branches left over, still encoded.
                execution.replay(msgspec.structs.replace(told.record, value=None))
            except IllegalRecordError as error:
                why = _trimmed(str(error))
            except DefinitionChangedError:
                why = f"this saga has no state {told.record.target!r}"
        if why is not None:
            before = trace.moves[position - 2] if position > 1 else None
            return position - 1, _illegal(saga, trace.saga_id, position, why, before, told, stood)
    if trace.state is not None and trace.state != execution.state:
        why = f"it is said to stand in {trace.state!r}, and its moves lead to {execution.state!r}"
        count = len(trace.moves)
        last = trace.moves[-1] if trace.moves else None
        found = _illegal(saga, trace.saga_id, count + 1, why, last, None, execution.state)
        return count, attrs.evolve(found, line=trace.line)
    return len(trace.moves), None


def _odd(told: Told, execution: Execution) -> str | None:
    """What a record says of itself that does not fit where the execution stands."""
    record = told.record
    if record.seq > execution.seq + 1:
        return f"number {execution.seq + 1} is missing before it"
    if record.seq <= execution.seq:
        return f"there was a number {record.seq} before it; number {execution.seq + 1} comes here"
    if record.source != execution.state:
        return None  # the fold says it better
    phase, part = execution.machine.places[execution.state]
    if "step" in told.fields and record.step != (part.path if part is not None else None):
        return f"it names the step {record.step!r}, and {record.source!r} belongs to {part.path if part else 'none'!r}"
    if "attempt" in told.fields and record.attempt != execution.attempt:
        # An attempt that was announced and then not begun, for a cancel or the deadline came first, is taken back.
        taken_back = phase == EXECUTING and record.attempt == execution.attempt - 1
        if not (taken_back and record.event in ("rejected", "in_doubt", "exhausted")):
            return f"it is told as attempt {record.attempt}, and attempt {execution.attempt} was under way"
    return None


def _illegal(
    saga: Saga, saga_id: str, position: int, why: str, before: Told | None, told: Told | None, stood: str | None = None
) -> IllegalMove:
    """The violation that *told* is (None: the end of the moves), which comes after *before*."""
    where = stood or (told.record.source if told is not None else "")
    if told is None:
        found = "the end of its moves"
    elif told.broken:
        found = "something that is no move"
    else:
        record = told.record
        found = f"number {record.seq}: {record.event!r} from {record.source!r} to {record.target!r}"
    return IllegalMove(
        saga_id,
        f"saga {saga.name!r} version {saga.version}",
        position,
        where,
        found,
        why,
        tuple(_expected(saga, where)) if told is not None else (f"that it stands in {where}",),
        in_words(before.record) if before is not None else None,
        told.line if told is not None else None,
    )


def _expected(saga: Saga, state: str) -> Iterator[str]:
    """Every move from *state*; last those that today's settings rule out, for the fold takes them too."""
    today = set(saga.machine.moves())
    possible = [move for move in compile_machine(saga.parts, every=True).moves() if move.source == state]
    for move in sorted(possible, key=lambda move: (move not in today, list(EVENTS).index(move.event))):
        yield f"{move.event} -> {move.target}{'' if move in today else ', under other settings than today'}"


def _trimmed(message: str) -> str:
    """The fold's message without where it stands, which the report tells by itself."""
    head, colon, rest = message.partition(": ")
    return rest if colon and head.startswith("saga ") and ", record " in head else message
