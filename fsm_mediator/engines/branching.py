"""Branching: starts, cancels and undoes the branches of an execution's groups, on any engine.

A branch is a separate execution on the engine. It notifies its parent when it starts to compensate, is stuck or rests.
An execution *rests* when it has ended, is stuck or waits for a signal, or when all its running branches rest. A branch
that ends returns its complete state to the engine. So the branch can be started again to be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fsm_mediator.engines.replay import Data
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import RUNNING
from fsm_mediator.ids import branch_id, branch_name
from fsm_mediator.records import CANCEL, UNDO
from fsm_mediator.states import COMPENSATING, FAILED, STUCK, SUCCEEDED, WAITING, is_settled

POST: Final = "post"
NEWS: Final = "news"
COMMAND: Final = "command"
"""The kinds of messages between executions.

`POST`: an item for the inbox of the receiver. `NEWS`: the status of a branch, for its parent. `COMMAND`: a verb, for a
branch.
"""


class Branching:
    """The data about the branches of an execution's groups, and the methods that start, cancel and undo them.

    Attributes:
        execution: The execution, replayed from its records. None before it is loaded.
        start: The input that the engine got when the execution started.
        items: The items in the inbox.
        unread: Whether the inbox has an item that was not passed to a turn yet.
        verbs: The verbs without an answer yet, each with the data that the engine needs to answer the verb.
        branches: The known state of each branch, by the path of its group and by its name.
        openings: The opening (`Turns.opening`) of each branch of the current group, by the id of the branch.
        cancels: Whether a failed branch of the current group cancels the other branches.
        begun: The names of the branches of the current group that have begun.
        going_on: The names of the branches of the current group that have not ended.
        posted: For branches that have not begun, the items for their inboxes, by the id of the branch.
        cancelled: The names of the branches of the current group to which a cancel was sent.
        changed: Whether a branch has changed since the last check.
    """

    inherited: tuple[str, ...] = ()
    """The keys of *start* that are also in the input of each branch."""

    def __init__(self) -> None:
        self.execution: Execution | None = None
        self.start: Data = {}
        self.items: list[list[Any]] = []
        self.unread = False
        self.verbs: list[tuple[Data, Any]] = []
        self.branches: dict[str, dict[str, Data]] = {}
        self.openings: dict[str, Data] = {}
        self.cancels = False
        self.begun: set[str] = set()
        self.going_on: set[str] = set()
        self.posted: dict[str, list[list[Any]]] = {}
        self.cancelled: set[str] = set()
        self.changed: bool = False

    # The methods of an adapter

    async def now(self) -> float:
        """The time, in seconds since the epoch. A replay of the engine's log returns the same time."""
        raise NotImplementedError

    async def pause(self, holds: Callable[[], bool], until: float | None = None, *, rests: bool = False) -> bool:
        """Wait until *holds* returns True or the time *until* is reached.

        Args:
            holds: A function that returns whether the wait is over.
            until: A time, in seconds since the epoch. None to wait without limit.
            rests: Whether to update the journal of the `Projection` before the wait, if the wait is long.

        Returns:
            Whether the time *until* was reached.
        """
        raise NotImplementedError

    def begin_branch(self, path: str, name: str, start: Data) -> None:
        """Let the engine start a branch. When the branch ends, the adapter calls `branch_ended` or `branch_lost`."""
        raise NotImplementedError

    async def tell(self, saga_id: str, what: str, *words: Any) -> None:
        """Send a message to another execution. If that execution has ended, nothing happens.

        Args:
            saga_id: The id of the other execution.
            what: The kind of message: `POST`, `NEWS` or `COMMAND`.
            *words: The content of the message.
        """
        raise NotImplementedError

    # The loop

    async def turn(self, **request: Any) -> Data:
        """Make the next turn, apply its records, and return its result. *request*: as for `Turns.turn`."""
        raise NotImplementedError

    async def report(self, execution: Execution) -> None:
        """Send the status of this execution to its parent, if this execution is a branch."""
        raise NotImplementedError

    async def join(self, execution: Execution) -> None:
        """Start or undo the branches of the current group. Then make a turn, or wait.

        If all branches have settled, or the inbox has an unread item, make a turn. If there is no turn or it makes no
        record, wait until a branch changes, an item comes to the inbox, or an operator sends a verb.
        """
        part = execution.machine.places[execution.state].part
        assert part is not None
        path = part.path
        if execution.phase == WAITING and path not in self.branches:
            self._begin_branches(execution, path)
        elif execution.phase == COMPENSATING:
            self._undo_branches(execution, path)
        await self._cancel_branches(execution, path, cancellable=not part.forward_only)
        of = self.branches[path]
        if self.unread or not any(each["summary"]["state"] == RUNNING for each in of.values()):
            self.changed = False
            if (await self.turn(branches=self.summaries(execution)))["rows"]:
                return
        await self.report(execution)
        await self.pause(lambda: self.changed or self.unread or bool(self.verbs))
        self.changed = False

    def _begin_branches(self, execution: Execution, path: str) -> None:
        ids = {name: branch_id(execution.saga_id, path, name) for name in execution.group}
        self.begun, self.going_on = set(), set()
        self.branches[path] = {name: {"summary": {"state": RUNNING}} for name in ids}
        later = {opening.get("successor") for opening in self.openings.values()}
        for name, saga_id in ids.items():
            if saga_id not in later:
                self._begin(path, name, {"opening": self.openings[saga_id], "items": self.posted.pop(saga_id, [])})

    def _undo_branches(self, execution: Execution, path: str) -> None:
        for name, kept in self.branches.get(path, {}).items():
            if kept["summary"].get("undoable") and kept["summary"]["state"] == SUCCEEDED:
                kept["summary"] = {"state": RUNNING}
                reason = f"{execution.saga_id!r} compensates its group"
                known = {each: kept[each] for each in ("opening", "rows", "branches")}
                self._begin(path, name, {**known, "verb": {"kind": UNDO, "reason": reason, "whole": True}})

    def _begin(self, path: str, name: str, start: Data) -> None:
        self.begun.add(name)
        self.going_on.add(name)
        self.begin_branch(path, name, {**{each: self.start[each] for each in self.inherited}, **start})

    def branch_ended(self, path: str, name: str, kept: Data) -> None:
        """Store *kept*, the result of a branch that has ended. It is the complete state of the branch."""
        self.going_on.discard(name)
        self.branches[path][name] = kept
        self.note(path, name, kept["summary"])

    def branch_lost(self, path: str, name: str, start: Data, why: object) -> None:
        """Store that a branch is stuck, because the engine has no result for the branch.

        *why* is the reason: an operator has ended the branch on the engine, or another workflow uses the branch's id.
        """
        error = ["fsm_mediator.errors.JournalError", f"its execution was ended from outside: {why}", ""]
        self.branch_ended(path, name, {**start, "summary": {"state": STUCK, "error": error}})

    def note(self, path: str, name: str, summary: Data) -> None:
        """Store *summary*, the status of a branch. If the branch has settled, start its successor, if it has one.

        The successor is the branch that waits for this branch to settle, because of the group's ``at_most``. It does
        not start if the branch failed and its failure cancels the other branches.
        """
        self.changed = True
        self.branches[path][name]["summary"] = summary
        successor = self.openings.get(branch_id(self.start["opening"]["saga_id"], path, name), {}).get("successor")
        if is_settled(summary["state"]) and successor is not None and not (summary["state"] == FAILED and self.cancels):
            following = branch_name(successor)
            if following not in self.begun:
                start = {"opening": self.openings[successor], "items": self.posted.pop(successor, [])}
                self._begin(path, following, start)

    def path_of_group(self) -> str:
        """The path of the current part. Empty if the current state has no part."""
        assert self.execution is not None
        part = self.execution.machine.places[self.execution.state].part
        return part.path if part is not None else ""

    async def _cancel_branches(self, execution: Execution, path: str, *, cancellable: bool) -> None:
        """Cancel the running branches, if a cancel has come or a branch has failed."""
        if execution.phase != WAITING or not cancellable:
            return
        summaries = {name: each["summary"] for name, each in self.branches[path].items()}
        failed = next((name for name, each in summaries.items() if each.get("failing")), None) if self.cancels else None
        if any(item[0] == CANCEL for item in self.items):
            reason = f"{execution.saga_id!r}, whose branch it is, was cancelled"
            cancel: list[Any] = [CANCEL, "", None, reason]
        elif failed is not None:
            cancel = [CANCEL, failed, None, f"branch {failed} failed"]
        else:
            return
        others = [name for name, each in summaries.items() if each["state"] == RUNNING and name not in self.cancelled]
        if others:
            cancel += [await self.now(), 0]
            self.cancelled.update(others)
            for name in others:
                await self.send(name, branch_id(execution.saga_id, path, name), cancel, begins=True)

    async def send(self, name: str, saga_id: str, item: list[Any], *, begins: bool = False) -> None:
        """Put *item* into the inbox of the branch *name*, whose id is *saga_id*.

        If the branch has not begun, it gets the item when it starts. With *begins*, the branch starts now.
        """
        if name in self.begun or saga_id not in self.openings:
            await self.tell(saga_id, POST, item)
            return
        self.posted.setdefault(saga_id, []).append(item)
        if begins:
            start = {"opening": self.openings[saga_id], "items": self.posted.pop(saga_id)}
            self._begin(self.path_of_group(), name, start)

    def summaries(self, execution: Execution) -> list[Data]:
        """The status of each branch of the current group, for the key ``branches`` of a turn's request.

        A status is the branch's summary and two more keys: ``name``, and ``undo``: whether the branch must be undone.
        """
        of = self.branches.get(self.path_of_group(), {})
        undone = execution.phase == COMPENSATING
        found = []
        for name in execution.group:
            summary = of[name]["summary"]
            found.append({**summary, "name": name, "undo": undone and bool(summary.get("undoable"))})
        return found

    async def retry_branches(self, execution: Execution, verb: Data) -> None:
        """Send *verb* to the stuck branches, because a retry of an execution also retries its branches."""
        path = execution.machine.places[execution.state].part.path  # type: ignore[union-attr]  # it is in a group
        for name, kept in self.branches.get(path, {}).items():
            if kept["summary"]["state"] == STUCK and name in self.going_on:
                kept["summary"] = {"state": RUNNING}
                await self.tell(branch_id(execution.saga_id, path, name), COMMAND, verb)
