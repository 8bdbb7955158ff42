"""Turns: the interface of this library for the adapters of all engines.

A turn performs at most one effect, applies the rules to its answer, and makes all moves that follow without an effect.
It returns the new records as rows, and the engine logs the rows. When the engine replays its log, `Turns.replay`
applies the rows and makes no decision again. So only turns read retry policies and call deciding functions, and the log
needs no pickled exceptions.

For each execution, an adapter stores the opening (the data with which the execution was accepted), the rows and the
inbox. It reads `Execution.effect`. If the effect is a wait, the adapter waits. Otherwise it lets the engine log the
result of `Turns.turn`. All data for the engine is plain JSON data, with values as JSON texts.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.definition.saga import Saga, find_signal, signal_names
from fsm_mediator.engines.questions import may_decide
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DecisionError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.execution.rules import MOST_CRASHES, RUNNING
from fsm_mediator.journal.attention import is_too_late
from fsm_mediator.journal.codec import MAX_BYTES, Codec, are_equal, result_type
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.plain import Types
from fsm_mediator.journal.rows import failure_row, items_of, record_of, record_rows
from fsm_mediator.machine.parts import Effect
from fsm_mediator.mediator.commands import refuse_branch, resolve_command, why_not_cancellable
from fsm_mediator.mediator.commits import arguments_of, encoded_answer
from fsm_mediator.mediator.loop import LoopRuntime
from fsm_mediator.mediator.registry import SagaRegistry
from fsm_mediator.mediator.runtime import StepCall
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import (
    CANCEL,
    RESOLVE,
    RETRY,
    SIGNAL,
    UNDO,
    Acceptance,
    Answer,
    Begin,
    Branch,
    Branches,
    Crashed,
    Failure,
    InboxItem,
    OperatorRetry,
    OperatorUndo,
    Record,
    Returned,
)
from fsm_mediator.states import PENDING, STUCK, STUCK_PHASES, SUCCEEDED, phase_of

Data: TypeAlias = dict[str, Any]
"""A JSON object as plain data, for an engine to store."""

Row: TypeAlias = list[Any]
"""A record as an engine stores it: seq, event, source, target, at, and the other fields as a JSON text."""


class Turns:
    """The sagas that an engine's worker can drive, and the turns of their executions.

    Args:
        sagas: The sagas.
        max_value_bytes: The maximum size of one payload, result or signal value as JSON, in bytes.
        types: Hooks for types that msgspec does not know, as for a journal.
        max_workers: The maximum number of plain functions (no coroutines) that run at the same time, in threads.
        max_recoveries: The number of crashes without progress after which an execution is stuck.
        clock: A function that returns the time, in seconds since the epoch.
        chance: A function that returns a random number from 0 to 1, for the jitter of waits.

    Raises:
        DefinitionError: Two sagas have the same name and version, or a type cannot be decoded.
    """

    def __init__(
        self,
        *sagas: Saga,
        max_value_bytes: int = MAX_BYTES,
        types: Types | None = None,
        max_workers: int = 16,
        max_recoveries: int = 50,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        journal = MemoryJournal(encode=True, max_value_bytes=max_value_bytes, types=types)
        self.codec: Codec = journal.codec
        self.clock = clock
        self.registry: SagaRegistry = SagaRegistry(sagas, codec=self.codec, coroutines=True)
        self.store: ExecutionStore = ExecutionStore(self.registry, journal, clock)
        self._chance = chance
        self._max_recoveries = max_recoveries
        self._runtime = LoopRuntime(journal, max_workers, clock)

    # The opening of an execution

    def opening(self, saga: Saga | str, payload: Any, saga_id: str | None, deadline: float | None = None) -> Data:
        """The opening of a new execution: the data with which it was accepted, for the engine to store.

        Args:
            saga: The saga or its name.
            payload: The payload, which every step gets.
            saga_id: The id of the execution. If None, a new id is made.
            deadline: Seconds from now. If the execution has not succeeded by then, it compensates.

        Raises:
            PayloadError: The payload is refused.
            RefusedError: The id is malformed.
            UnknownSagaError: No saga of this name is registered.
        """
        return self._opening_of(self.store.new_execution(saga, payload, saga_id, deadline).acceptance)

    def _opening_of(self, acceptance: Acceptance) -> Data:
        payload = self.codec.json(acceptance.payload, "the payload").decode()
        return {**_fields(acceptance), "payload": payload}

    def begun(self, opening: Mapping[str, Any]) -> list[Row]:
        """The first rows of a new execution, before its first step. Logging them with the opening saves a turn.

        The list is empty if the first part is a wait, because only a turn can enter a wait.
        """
        execution = self.load(opening)
        if may_decide(execution):
            return []
        execution.begin(execution.acceptance.at)
        return [list(row) for row in record_rows(execution.history, execution.saga_id, self.codec)]

    def acceptance(self, opening: Mapping[str, Any]) -> Acceptance:
        """*opening* as an `Acceptance`: how the execution was accepted. The payload is `msgspec.Raw`."""
        fields: Data = {name: opening.get(name) for name in _ACCEPTANCE_FIELDS}
        return Acceptance(**fields, payload=msgspec.Raw(opening["payload"].encode()))

    def check_same(self, opening: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        """Check that the existing execution *known* is the same operation as *opening*.

        Raises:
            SagaIdTakenError: *known* has another saga or another payload.
        """
        self.store.check_same(self.acceptance(known), self.load(opening))

    # Folding

    def load(self, opening: Mapping[str, Any], rows: Iterable[Row] = ()) -> Execution:
        """The execution with this opening and these rows.

        Raises:
            UnknownSagaError, DefinitionChangedError: No registered saga can drive the execution.
            PayloadError, IllegalRecordError: The opening or the rows cannot be decoded.
        """
        acceptance = self.acceptance(opening)
        saga = self.registry.saga_of(acceptance)
        execution = Execution(saga, self.codec.decode_acceptance(saga, acceptance))
        execution.encoding = self.codec
        if opening.get("seen") is not None:
            execution.parent_results = self._results_seen(opening["seen"])
        self.replay(execution, rows)
        return execution

    def replay(self, execution: Execution, rows: Iterable[Row]) -> None:
        """Apply *rows* to the execution: make their moves without new decisions and without new records."""
        records = self.records(_fields(execution.acceptance), rows)
        for record in self.codec.decode_records(execution.saga, records):
            execution.replay(record)

    def records(self, opening: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[Record]:
        """*rows* as records, with their values as `msgspec.Raw`."""
        return (record_of(tuple(row), opening["saga_id"], opening["saga"], self.codec.cipher) for row in rows)

    def outcome(self, opening: Mapping[str, Any], rows: Iterable[Row]) -> Outcome:
        """The `Outcome` of the execution with this opening and these rows."""
        return self.load(opening, rows).outcome()

    def _seen_by_branches(self, execution: Execution, path: str) -> Data:
        """The results of *execution* that the branches of its group at *path* can read, as JSON texts.

        The data also has the id, saga, version and fingerprint of *execution*, so that a branch can decode the results.
        """
        results = {
            each: self.codec.json(value, f"the result of {each!r}").decode()
            for each, value in execution.answered.items()
        }
        own = {name: getattr(execution.acceptance, name) for name in ("saga_id", "saga", "version", "fingerprint")}
        return {**own, "path": path, "results": results}

    def _results_seen(self, seen: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
        acceptance = Acceptance(seen["saga_id"], seen["saga"], seen["version"], seen["fingerprint"], None, 0.0)
        parent = Execution(saga := self.registry.saga_of(acceptance), acceptance)
        parent.encoding = self.codec
        for path, json in seen["results"].items():
            what = f"the result of {path!r}"
            parent.answered[path] = self.codec.decode(json.encode(), result_type(saga.part(path)), what)
        if seen.get("seen") is not None:
            parent.parent_results = self._results_seen(seen["seen"])
        return functools.partial(parent.results_seen_by, saga.part(seen["path"]))

    # The inbox

    def item(
        self, kind: str, name: str = "", value: Any = None, reason: str | None = None, actor: str | None = None
    ) -> list[Any]:
        """A new inbox item with the current time. The adapter must set the item's number, at index 5."""
        json = None if value is None else self.codec.json(value, f"the value of {kind} {name!r}").decode()
        return [kind, name, json, reason, self.clock(), 0, actor]

    def receive(self, execution: Execution, items: Iterable[list[Any]]) -> None:
        """Decode the inbox *items*, and pass them to the execution with `Execution.receive`."""
        for item in self._items(execution, items):
            execution.receive(item)

    def _items(self, execution: Execution, items: Iterable[list[Any]]) -> tuple[InboxItem, ...]:
        rows = (
            (number, kind, name, value, reason, *(actor or (None,)), None, at)
            for kind, name, value, reason, at, number, *actor in items  # an item of an earlier version has no actor
        )
        return self.codec.decode_items(execution.saga, items_of(rows, execution.saga_id, None))

    def check_item(self, execution: Execution, items: Iterable[list[Any]], item: list[Any]) -> bool:
        """Whether a cancel or a signal for the inbox is new. False if the same signal has already arrived.

        Args:
            execution: The execution.
            items: The items in the inbox of the execution.
            item: The cancel or signal.

        Raises:
            RefusedError: The cancel is too late, the signal is not expected, or it arrived earlier with another value.
        """
        if item[0] == CANCEL:
            if (why := why_not_cancellable(execution.saga, execution.state)) is not None:
                raise RefusedError(f"execution {execution.saga_id!r} cannot be cancelled: {why}")
            return True
        (signal,) = self._items(execution, [item])
        where = f"signal {signal.name!r} of execution {execution.saga_id!r}"
        if (found := find_signal(execution.saga, signal.name)) is None:
            raise RefusedError(
                f"{where}: saga {execution.saga.name!r} has no such signal; it has "
                f"{', '.join(signal_names(execution.saga)) or 'none'}"
            )
        earlier = self._items(execution, items)
        first = [each.value for each in earlier if (each.kind, each.name) == (SIGNAL, signal.name)]
        if signal.name in execution.answered:
            first.insert(0, execution.answered[signal.name])
        elif not (
            execution.awaits_signal(signal.name) or (found.group is not None and found.branch in execution.group)
        ) or is_too_late(signal, execution.state, execution.due_at):
            raise RefusedError(f"{where} is not awaited: the execution is in {execution.state!r}")
        if first and not are_equal(first[0], signal.value):
            raise RefusedError(f"{where} has come with another value, and the first one counts: {safe_repr(first[0])}")
        return not first

    def signal(self, opening: Mapping[str, Any], name: str, value: Any, actor: str | None = None) -> list[Any]:
        """An inbox item for a signal, after a check of the value.

        Raises:
            RefusedError: The saga has no such signal.
            PayloadError: The value does not have the signal's type.
        """
        found = find_signal(self.registry.saga_of(self.acceptance(opening)), name)
        checked = value if found is None else self.codec.accept_signal(found.part, value)
        return self.item(SIGNAL, name, checked, actor=actor)

    # A turn

    async def turn(self, opening: Mapping[str, Any], rows: Iterable[Row], request: Mapping[str, Any]) -> Data:
        """Perform the next effect or verb, and make all moves that follow without an effect.

        Args:
            opening: The opening of the execution.
            rows: The execution's records.
            request: The adapter's data for the turn. Each key is optional. ``items``: the inbox. ``verb``: an
                operator's command. ``branches``: the statuses of the branches. ``crashes``: the numbers of lost workers
                since the last progress and in this state. ``not_before``: the earliest time of the turn.

        Returns:
            ``rows``: the new records, as rows. And these keys, if they have a value:

            - ``new``: the openings of branches. A branch starts at once if it is not the ``successor`` of another.
            - ``cancels``: whether a failed branch cancels the other branches.
            - ``taken``: the numbers of the processed items.
            - ``forwarded``: the items for branches, each with the id of the branch.
            - ``summary``: the status of this execution for its parent, if it is a branch.
            - ``asks_at``: the time at which the same turn must be made again, because a probe crashed.
            - ``refusal``: the reason why a verb is refused.

        Raises:
            UnknownSagaError, DefinitionChangedError, PayloadError, IllegalRecordError: The execution cannot be loaded
                here. No function was called.
        """
        return await self.turn_of(self.load(opening, rows), opening, request)

    async def turn_of(self, execution: Execution, opening: Mapping[str, Any], request: Mapping[str, Any]) -> Data:
        """Perform the next effect or verb of *execution*, as `turn` does after it has loaded the execution."""
        self._runtime.bind()
        self.receive(execution, request.get("items", ()))
        before, done = execution.seq, Data()
        if "verb" in request:
            try:
                self.feed_verb(execution, request["verb"])
            except RefusedError as refusal:
                return {"rows": [], "refusal": str(refusal)}
        else:
            await self._go_on(execution, request, done)
        at = self._now(request)
        while execution.advance(at) is not None:
            pass
        made = execution.history[before:]
        done["rows"] = [list(row) for row in record_rows(made, execution.saga_id, self.codec)]
        if new := execution.pop_new_branches():
            part = execution.machine.places[execution.state].part
            assert part is not None
            done["cancels"] = part.cancels_on_failure and not part.forward_only
            done["new"] = list(self._openings(execution, new, part.path, opening))
        if forwarded := execution.pop_forwarded():
            done["forwarded"] = [[branch, self._item_of(item)] for branch, item in forwarded]
        if taken := execution.drain_consumed():
            done["taken"] = list(taken)
        if opening.get("parent") is not None:
            done["summary"] = self._summary(execution)
        return done

    def _now(self, request: Mapping[str, Any]) -> float:
        return max(self.clock(), request.get("not_before") or 0.0)

    async def _go_on(self, execution: Execution, request: Mapping[str, Any], done: Data) -> None:
        at, crashes = self._now(request), request.get("crashes")
        if crashes is not None and crashes[1] >= MOST_CRASHES:
            execution.poison = DecisionError(
                f"what comes next was never decided: its worker ended {crashes[1]} times while the function was called"
            )
        if "branches" in request:
            execution.feed(self._branches(request["branches"]), at)
        elif execution.advance(at) is None:
            effect = execution.effect
            if execution.state == PENDING:
                execution.feed(Begin(), at)
            elif effect is not None and effect.callback is not None:
                if crashes is None:
                    answer = await self._call(execution, effect)
                else:
                    answer = Crashed(crashes[1], too_often=crashes[0] > self._max_recoveries)
                at = self.clock()
                record = execution.feed(answer, at, 0.0 if type(answer) is Returned else self._chance())
                if record is None and crashes is not None:
                    done["asks_at"] = at + effect.part.retry.wait(crashes[1], self._chance())

    async def _call(self, execution: Execution, effect: Effect) -> Answer:
        call = StepCall(execution.saga_id, effect, arguments_of(execution, effect))
        answer = await self._runtime.call(call)
        return encoded_answer(self.codec, effect, answer) if type(answer) is Returned else answer

    def _openings(
        self, execution: Execution, new: Iterable[Acceptance], path: str, opening: Mapping[str, Any]
    ) -> Iterator[Data]:
        seen: Data | None = None
        for acceptance in new:
            data = self._opening_of(acceptance)
            if self.registry.saga_of(acceptance).single is not None:
                if seen is None:
                    seen = self._seen_by_branches(execution, path)
                    if opening.get("seen") is not None:
                        seen["seen"] = opening["seen"]
                data["seen"] = seen
            yield data

    def _item_of(self, item: InboxItem) -> list[Any]:
        value = None if item.value is None else self.codec.json(item.value, f"the value of {item.name!r}").decode()
        return [item.kind, item.name, value, item.reason, item.at, 0, item.actor]

    # Branches

    def _summary(self, execution: Execution) -> Data:
        """The status of *execution* for its parent, if it is a branch: the key ``summary`` of a turn's result."""
        state, outcome = execution.state, execution.outcome()
        if state == SUCCEEDED:
            saga, results = execution.saga, execution.results
            result = dict(results) if saga.single is None else results[saga.single]
            json = self.codec.json(result, f"the result of branch {execution.saga_id!r}").decode()
            return {"state": state, "result": json, "undoable": saga.machine.has_transition("undo", SUCCEEDED)}
        stuck = phase_of(state) in STUCK_PHASES
        summary: Data = {"state": state if execution.ended else STUCK if stuck else RUNNING}
        summary["failing"] = execution.failure is not None
        if summary["state"] != RUNNING:
            summary["leftovers"] = list(outcome.leftovers)
            if outcome.error is not None:
                summary["error"] = list(failure_row(Failure.of(outcome.error)))
        return summary

    def _branches(self, summaries: Iterable[Mapping[str, Any]]) -> Branches:
        return Branches(
            tuple(
                Branch(
                    each["name"],
                    each["state"],
                    None if each.get("result") is None else msgspec.json.decode(each["result"]),
                    None if each.get("error") is None else Failure(*each["error"]).raised(),
                    bool(each.get("undo")),
                    tuple(each.get("leftovers", ())),
                )
                for each in summaries
            )
        )

    # Verbs

    def feed_verb(self, execution: Execution, verb: Mapping[str, Any]) -> Record | None:
        """Feed an operator's verb to the execution, and return the record.

        The keys of a verb are ``kind``, ``reason``, ``actor``, ``done``, ``result`` and ``whole``. ``whole`` is True if
        the verb comes from the parent of a branch.

        Raises:
            RefusedError: The verb does not fit the state of the execution. The execution has not changed.
        """
        reason, actor = verb.get("reason"), verb.get("actor")
        if verb["kind"] == RETRY:
            return execution.feed(OperatorRetry(reason, actor), self.clock())
        if verb["kind"] == UNDO:
            if not verb.get("whole"):
                refuse_branch(execution.saga_id)
            return execution.feed(OperatorUndo(reason, actor), self.clock())
        assert verb["kind"] == RESOLVE
        result = None if verb.get("result") is None else msgspec.json.decode(verb["result"])
        return resolve_command(self.store, reason or "", verb.get("done"), result, actor)(execution, None)

    def check_verb(self, opening: Mapping[str, Any], rows: Iterable[Row], verb: Mapping[str, Any]) -> None:
        """Check that a verb fits the state of the execution.

        Raises:
            RefusedError: The verb does not fit.
        """
        self.feed_verb(self.load(opening, rows), verb)


_ACCEPTANCE_FIELDS: Final = tuple(
    name for name in Acceptance.__struct_fields__ if name not in ("payload", "original", "notes")
)


def _fields(acceptance: Acceptance) -> Data:
    return {name: value for name in _ACCEPTANCE_FIELDS if (value := getattr(acceptance, name)) is not None}
