"""Driving: the loop that drives one execution on an engine. It requests turns, applies their records, and waits.

A turn performs at most one effect, such as a call of a step, and returns the new records: see `Turns.turn`. The loop
is the same for all engines. Engines differ in how they make a turn durable, wait, send messages and start branches.
Each adapter has a subclass with the methods for these tasks. The order in which the loop calls these methods depends
only on the engine's log. So a replay makes the same calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fsm_mediator.engines.branching import NEWS, Branching
from fsm_mediator.engines.questions import awaits_signal, leftovers_of, may_decide
from fsm_mediator.engines.replay import Data, Row, Turns
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import RUNNING
from fsm_mediator.ids import branch_name
from fsm_mediator.records import RETRY
from fsm_mediator.states import FURTHER, SUCCEEDED, WAITING, is_stuck, phase_of


class Driving(Branching):
    """One execution on an engine, and the loop that drives it.

    Attributes:
        turns: The `Turns` with which the loop loads the execution and applies new records.
        rows: All records of the execution, as rows for the engine.
        numbered: The number of the last item that was put into the inbox.
        crashes: How many workers were lost since the execution's last progress, and how many in the current state.
        closing: Whether the current turn runs because a wait has timed out. A signal is then too late.
        reported: The last status that was reported to the parent of this branch, as text.
        summary: The status of this branch after its last turn.
    """

    # A type checker that reads a typed package does not infer these types from the base class.
    start: Data
    branches: dict[str, dict[str, Data]]
    execution: Execution | None
    items: list[list[Any]]
    openings: dict[str, Data]
    verbs: list[tuple[Data, Any]]
    unread: bool
    cancels: bool
    cancelled: set[str]

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns
        self.rows: list[Row] = []
        self.numbered: int = 0
        self.crashes: list[int] = [0, 0]
        self.closing: bool = False
        self.reported: str = RUNNING
        self.summary: Data = {}

    # The methods of an adapter

    async def make_turn(self, request: Data) -> Data | None:
        """Let a worker make a turn, and let the engine log the result.

        Returns:
            The result of `Turns.turn`. None if the worker was lost during the turn.
        """
        raise NotImplementedError

    async def follow(self) -> None:
        """Write all records of the execution to the journal of the `Projection`, if there is one."""
        raise NotImplementedError

    async def answer(self, asked: Any, refusal: str | None) -> None:
        """Answer a verb of an operator.

        Args:
            asked: The data that the engine needs to answer the verb.
            refusal: The reason why the verb is refused. None if it is accepted.
        """
        raise NotImplementedError

    async def renew(self) -> None:
        """Start a new log for the execution if the engine's log is too long."""

    async def finish(self) -> None:
        """Wait until all received verbs are answered."""

    # Incoming items

    def open(self, start: Data) -> None:
        """Load the execution from *start*, the input that the engine got for it."""
        self.start, self.rows = start, list(start.get("rows", ()))
        self.branches = start.get("branches", {})
        self.crashes = start.get("crashes", self.crashes)
        self.execution = self.turns.load(start["opening"], self.rows)
        for item in start.get("items", ()):
            self.put(item)

    def put(self, item: list[Any]) -> None:
        """Put *item* into the inbox, with the next number."""
        self.numbered += 1
        self.items.append([*item[:5], self.numbered, *item[6:]])
        self.unread = True

    def calls(self) -> bool:
        """Whether the next turn may call a user's function."""
        assert self.execution is not None
        effect = self.execution.effect
        return (effect is not None and effect.callback is not None) or may_decide(self.execution)

    # Turns

    async def turn(self, **request: Any) -> Data:
        """Make the next turn, apply its records, and return its result.

        If a worker is lost, or a probe must be called again, the turn is repeated.
        """
        execution = self.execution
        assert execution is not None
        before = self.crashes[1]
        while True:
            if self.items:
                request["items"] = list(self.items)
            if self.crashes[1] > before:
                request["crashes"] = list(self.crashes)
            self.unread = False
            if (done := await self.make_turn(request)) is None:  # the next turn passes the crash to the execution
                self.crashes = [self.crashes[0] + 1, self.crashes[1] + 1]
                continue
            if "asks_at" not in done:
                break
            await self.pause(lambda: False, done["asks_at"])
            before = self.crashes[1]
            del request["crashes"]
        self._fold(execution, done)
        for branch, item in done.get("forwarded", ()):
            await self.send(branch_name(branch), branch, item)
        return done

    def _fold(self, execution: Execution, done: Data) -> None:
        rows = done["rows"]
        self.turns.replay(execution, rows)
        self.rows += rows
        if rows:
            further = any(row[1] in FURTHER or phase_of(row[3]) == WAITING for row in rows)
            self.crashes = [0 if further else self.crashes[0], 0]
        if taken := done.get("taken"):
            self.items = [item for item in self.items if item[5] not in taken]
        if new := done.get("new"):
            self.openings = {opening["saga_id"]: opening for opening in new}
            self.cancels, self.cancelled = done["cancels"], set()
        self.summary = done.get("summary", self.summary)

    # The loop

    async def drive(self) -> Data:
        """Drive the execution to its end, and return its complete state."""
        execution = self.execution
        assert execution is not None
        if "verb" in self.start:
            await self.turn(verb=self.start["verb"])
        while not execution.ended:
            await self._refuse_verbs(execution)
            await self.report(execution)
            if is_stuck(execution.state):
                await self._wait_for_person(execution)
            elif execution.group:
                await self.join(execution)
            elif execution.effect is not None and execution.effect.callback is None:
                await self._wait(execution)
            else:
                await self.turn()
            await self.renew()
        await self._refuse_verbs(execution)
        await self.follow()
        await self.finish()
        return self._result(execution)

    def _result(self, execution: Execution) -> Data:
        result = {"opening": self.start["opening"], "rows": self.rows, "branches": self.branches}
        if self.start["opening"].get("parent") is not None:
            if execution.state == SUCCEEDED:
                below = {
                    path: {name: each["summary"] for name, each in of.items()} for path, of in self.branches.items()
                }
                self.summary["leftovers"] = leftovers_of(execution, below)
            result["summary"] = self.summary
        return result

    async def _wait(self, execution: Execution) -> None:
        """Wait until the execution's wait ends or an item comes to the inbox. Then make a turn."""
        until = execution.wake_at
        due = await self.pause(lambda: self.unread or bool(self.verbs), until, rests=True)
        if self.verbs and not self.unread:
            return
        self.closing = due and not self.unread
        try:
            await self.turn(**({"not_before": until} if due else {}))
        finally:
            self.closing = False

    # Operators

    async def _refuse_verbs(self, execution: Execution) -> None:
        """Refuse all waiting verbs if the execution is not stuck any more."""
        if not is_stuck(execution.state):
            refused, self.verbs = self.verbs, []
            for _, asked in refused:
                await self.answer(asked, f"execution {execution.saga_id!r} is not stuck, but is in {execution.state!r}")

    async def _wait_for_person(self, execution: Execution) -> None:
        await self.follow()
        await self.pause(lambda: bool(self.verbs) or self.unread or (self.changed and bool(execution.group)))
        if self.verbs:
            verb, asked = self.verbs.pop(0)
            if verb["kind"] == RETRY and execution.group:
                await self.retry_branches(execution, verb)
            await self.answer(asked, (await self.turn(verb=verb)).get("refusal"))
            return
        self.changed = False
        await self.turn(**({"branches": self.summaries(execution)} if execution.group else {}))

    # Messages to others

    def rests(self, execution: Execution) -> bool:
        """Whether the execution has ended, or waits for an operator or a signal."""
        if execution.ended or is_stuck(execution.state):
            return True
        if self.unread:
            return False
        if not execution.group:
            return awaits_signal(execution)
        of: Iterable[Data] = self.branches.get(self.path_of_group(), {}).values()
        going_on = [each["summary"] for each in of if each["summary"]["state"] == RUNNING]
        dormant = len(execution.group) > len(self.begun)
        return bool(going_on) and not dormant and all(each.get("rests") for each in going_on)

    async def report(self, execution: Execution) -> None:
        """Notify the parent, if this execution is a branch and its status has changed."""
        parent = self.start["opening"].get("parent")
        if parent is None or execution.ended:
            return
        summary = {**self.summary, "rests": self.rests(execution)} if self.summary else {"state": RUNNING}
        seen = f"{summary['state']} {summary.get('failing')} {summary.get('rests')}"
        if seen == self.reported or (self.reported == RUNNING and seen == f"{RUNNING} False False"):
            return
        self.reported = seen
        await self.tell(parent, NEWS, execution.saga_id, summary)
