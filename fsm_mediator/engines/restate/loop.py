"""The workflow that drives an execution on Restate. The loop itself is in `fsm_mediator.engines.driving`.

Each turn is a Restate `run`. The result of a turn is in Restate's journal before it is applied. Messages from other
executions are numbered promises, so that a replay reads them in the same order.

**Lost turns.** Restate's journal does not show whether a `run` has begun. Therefore each `run` also announces the next
turn: its result has the id of the process that made it. Only this process may begin the next turn, and it knows whether
the turn has begun. Any other process first lets Restate log that a turn was lost. This counts as a crash. After a wait
or a long turn, Restate may have moved the execution to another process without a crash. In this case an additional
`run` without a turn announces the next turn.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
import restate
from restate import RestateDurableFuture, RunOptions, TerminalError, WorkflowContext, WorkflowSharedContext
from restate.serde import JsonSerde

from fsm_mediator.engines.branching import COMMAND, NEWS, POST
from fsm_mediator.engines.driving import Driving
from fsm_mediator.engines.projection import Projection
from fsm_mediator.engines.replay import Data, Turns
from fsm_mediator.engines.restate.attempts import Attempts
from fsm_mediator.errors import JournalError, MediatorError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import branch_name, group_of
from fsm_mediator.states import is_ended

SAGA: Final = "fsm_mediator"
UNDONE: Final = "fsm_mediator_undo"
"""The names of the two services on Restate. `SAGA` drives executions, and `UNDONE` undoes succeeded executions.

In both services, the key of a workflow is the saga_id.
"""

SAY: Final = "say"
ALREADY: Final = "promise was already completed"
"""The message of Restate's error if a promise is completed twice."""

JSON: Final[JsonSerde[Any]] = JsonSerde()
LOGGED: Final[RunOptions[Any]] = RunOptions(serde=JSON)


def promise(context: WorkflowContext | WorkflowSharedContext, name: str, number: int) -> Any:
    """The execution's promise *name* (``message`` or ``answer``) with this number."""
    return context.promise(f"{name}-{number}", serde=JSON)


class SagaRun(Driving):
    """One execution, in the handler of its workflow.

    Attributes:
        context: The context of Restate.
        service: The service in which the workflow runs: `SAGA` or `UNDONE`.
        invocation: The id of this run of the workflow.
        heard: How many messages the execution has received.
        asked: The items that people sent and that await acceptance or refusal, by the number of their message.
        announced: Whether Restate's journal already names the process that may begin the next turn.
        fresh: Whether this process is the named process.
    """

    inherited: tuple[str, ...] = ("follow",)
    announced: bool
    fresh: bool

    def __init__(
        self,
        turns: Turns,
        context: WorkflowContext,
        service: str,
        attempts: Attempts,
        projection: Projection | None,
    ) -> None:
        super().__init__(turns)
        self.context = context
        self.service = service
        self.invocation: Any = context.request().id
        self.heard: int = 0
        self.asked: dict[int, list[Any]] = {}
        self.announced = self.fresh = False
        self._attempts = attempts
        self._projection = projection
        self._logged = 0
        self._message: RestateDurableFuture[Data] = promise(context, "message", 0).value()
        self._futures: dict[str, tuple[str, Data, RestateDurableFuture[bytes]]] = {}
        self._services: dict[str, str] = {}
        self._timers: dict[float, RestateDurableFuture[None]] = {}
        self._standing: Data = {"items": [], "rests": False}

    async def run(self, start: Data) -> Data:
        """Drive the execution to its end, and return its complete state. *start* is the input of the workflow."""
        begun = {"opening": start["opening"], "invocation": self.invocation, "rows": start.get("rows", [])}
        self.context.set("opening", begun, JSON)
        self.open(start)
        return await self.drive()

    def _keep_rows(self, rows: list[Any]) -> None:
        """Store *rows*, the records of a turn, for `standing`.

        Without a projection, the records of the last turn are not stored, because the workflow's result has them.
        """
        if rows and (self.start.get("follow") or not is_ended(rows[-1][3])):
            self.context.set(f"rows-{len(self.rows):06}", rows, JSON)

    def _keep_standing(self) -> None:
        """Store what the handler `standing` returns besides the records: the inbox, and the result of `rests`."""
        assert self.execution is not None
        standing = {"items": list(self.items), "rests": self.rests(self.execution)}
        if standing != self._standing:
            self._standing = standing
            self.context.set("standing", standing, JSON)

    # Restate's log

    async def _any(self, *futures: RestateDurableFuture[Any]) -> RestateDurableFuture[Any] | None:
        """Wait for one of *futures*, and return it.

        If a message or the end of a branch comes first, the method processes it and returns None.
        """
        branches = {name: future for name, (_, _, future) in self._futures.items()}
        completed, _ = await restate.wait_completed(*futures, self._message, *branches.values())
        for future in futures:
            if future in completed:
                return future
        if self._message in completed:
            self._hear(await self._message)
            return None
        name = next(name for name, future in branches.items() if future in completed)
        path, start, future = self._futures.pop(name)
        try:
            kept = msgspec.json.decode(await future)
        except TerminalError as error:
            self.branch_lost(path, name, start, error.message)
        else:
            self.branch_ended(path, name, kept)
        return None

    async def _log(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Let Restate log the result of *make*, and return the result. Messages that arrive meanwhile are processed."""
        future = self.context.run_typed(name, make, LOGGED)
        while await self._any(future) is None:
            if not self.closing:
                await self._judge()
        return await future

    # Turns

    async def make_turn(self, request: Data) -> Data | None:
        """Make a turn in a Restate `run`, and return its result. None if a worker was lost during the turn."""
        await self._judge()
        self._keep_standing()
        done = await self._made(request)
        while done.get("not_begun"):
            self.announced = False
            done = await self._made(request)
        if done.get("lost"):
            return None
        self.announced = not done.pop("apart", False)
        self._keep_rows(done["rows"])
        return done

    async def _made(self, request: Data) -> Data:
        calls = self.calls()
        if calls and not self.announced:
            announcement = await self._log("announce", self._attempts.announce)
            self.announced, self.fresh = True, announcement["by"] == self._attempts.id
        self._logged += 1
        number = self._logged
        assert self.execution is not None
        make = functools.partial(self._turn, request, number, lost=calls and not self.fresh)
        done: Data = await self._log(self.execution.state, make)
        self._attempts.forget(self.invocation, number)
        self.fresh = done.pop("by", None) == self._attempts.id
        return done

    async def _turn(self, request: Data, number: int, *, lost: bool) -> Data:
        if lost and not self._attempts.knows(self.invocation, number):
            return {"lost": True, "by": self._attempts.id}
        opening, rows = self.start["opening"], list(self.rows)

        async def turn() -> Data:
            if self._projection is not None:
                await self._projection.keep_up(self.turns, opening, rows)
            return await self.turns.turn(opening, rows, request)

        return await self._attempts.once(self.invocation, number, turn)

    async def follow(self) -> None:
        """Write all records of the execution to the journal of the `Projection`, if there is one."""
        if self.start.get("follow"):
            await self._log("follow", self._follow)
            self.announced = False

    async def _follow(self) -> None:
        if self._projection is None:
            raise JournalError("this worker was given no projection=, which the execution's follow=True asks for")
        await self._projection.follow_apart(self.turns, self.start["opening"], list(self.rows))

    # Time

    async def now(self) -> float:
        """The current time, in seconds since the epoch. A replay returns the same time again."""
        return await self.context.time()

    async def pause(self, holds: Callable[[], bool], until: float | None = None, *, rests: bool = False) -> bool:
        """Wait until *holds* returns True or the time *until* is reached. Returns whether the time was reached."""
        await self._judge()
        if not holds() and rests and self._is_long(until):
            await self.follow()
        while not holds():
            self.announced = False
            self._keep_standing()
            if await self._any(*self._timer(until)) is not None:
                return True
            await self._judge()
        return False

    def _is_long(self, until: float | None) -> bool:
        since = self.rows[-1][4] if self.rows else self.start["opening"]["at"]
        return until is None or until - since > 1.0

    def _timer(self, until: float | None) -> list[RestateDurableFuture[None]]:
        if until is None:
            return []
        if until not in self._timers:
            left = max(0.0, until - time.time()) + 0.001  # Restate counts whole milliseconds
            self._timers = {until: self.context.sleep(timedelta(seconds=left))}
        return [self._timers[until]]

    # Messages

    def _hear(self, message: Data) -> None:
        number, what, words = self.heard, message["what"], message["words"]
        self.heard += 1
        self._message = promise(self.context, "message", self.heard).value()
        self.context.set("heard", self.heard, JSON)
        if what == POST:
            self.put(*words)
        elif what == NEWS:
            saga_id, summary = words
            group, name = group_of(saga_id), branch_name(saga_id)
            if self._futures.get(name, ("",))[0] == group:  # otherwise the branch has ended
                self.note(group, name, summary)
        elif what == COMMAND:
            self.verbs.append((*words, None))
        elif "item" in words[0]:
            self.asked[number] = words[0]["item"]
        else:
            self.verbs.append((*words, number))

    async def _judge(self) -> None:
        """Accept or refuse the items that people sent, in the order of their messages."""
        while self.asked:
            number = min(self.asked)
            item = self.asked.pop(number)
            future = self.context.run_typed("judge", functools.partial(self._judged, item), LOGGED)
            judged: Data = await future
            if judged["news"]:
                self.put(item)
            await self.answer(number, judged["refusal"])

    async def _judged(self, item: list[Any]) -> Data:
        assert self.execution is not None
        try:
            return {"news": self.turns.check_item(self.execution, self.items, item), "refusal": None}
        except MediatorError as refusal:
            return {"news": False, "refusal": str(refusal)}

    async def answer(self, asked: int | None, refusal: str | None) -> None:
        """Complete the promise for which the handler of the verb waits. *asked*: the number of the verb's message."""
        if asked is not None:
            self._keep_standing()
            await promise(self.context, "answer", asked).resolve({"refusal": refusal})

    async def tell(self, saga_id: str, what: str, *words: Any) -> None:
        """Store a message for another execution, by a call of its workflow's handler."""
        service: str = self._services.get(saga_id) or self.start["of"]
        message = msgspec.json.encode({"what": what, "words": words})
        await self.context.generic_call(service, "tell", message, key=saga_id)

    async def finish(self) -> None:
        """Accept or refuse all received items."""
        await self._judge()

    # Branches

    def begin_branch(self, path: str, name: str, start: Data) -> None:
        """Start another workflow for the branch."""
        saga_id = start["opening"]["saga_id"]
        service = self._services[saga_id] = UNDONE if "verb" in start else SAGA
        begun = msgspec.json.encode({**start, "of": self.service})
        self._futures[name] = (path, start, self.context.generic_call(service, "run", begun, key=saga_id))

    async def report(self, execution: Execution) -> None:
        """Notify the parent, if this execution is a branch and its status has changed.

        After a message to the parent, a separate `run` must announce which process may begin the next turn.
        """
        before = self.reported
        await super().report(execution)
        if self.reported != before:
            self.announced = False


async def tell(context: WorkflowSharedContext, message: Data) -> int:
    """Store a message for the execution exactly once, even if a worker is lost. Returns the number of the message."""
    mine = context.request().id
    number: int = await context.get("heard", JSON) or 0
    while True:
        try:
            await promise(context, "message", number).resolve({**message, "id": mine})
        except TerminalError as error:
            if error.message != ALREADY:
                raise
            if (await promise(context, "message", number).peek())["id"] == mine:
                return number
            number += 1
        else:
            return number


async def say(context: WorkflowSharedContext, words: Data) -> Data:
    """Send a cancel, a signal or a verb to the execution, and return the answer.

    The value of ``refusal`` in the answer is None if the execution accepts.
    """
    number = await tell(context, {"what": SAY, "words": [words]})
    answer = promise(context, "answer", number)
    begun = await context.get("opening", JSON)
    if begun is None:
        return dict(await answer.value())
    ended = context.attach_invocation(begun["invocation"], JSON)
    await restate.wait_completed(answer.value(), ended)
    if (answered := await answer.peek()) is not None:
        return dict(answered)
    state = (await ended)["rows"][-1][3]
    refusal = f"execution {context.key()!r} has ended in {state!r}: it accepts no more commands"
    return {"refusal": refusal}


async def standing(context: WorkflowSharedContext) -> Data | None:
    """The execution's opening, records and inbox, and the result of `Driving.rests`. None if it has not begun."""
    begun = await context.get("opening", JSON)
    if begun is None:
        return None
    keys = sorted(key for key in await context.state_keys() if key.startswith("rows-"))
    rows = begun["rows"] + [row for key in keys for row in await context.get(key, JSON) or ()]
    known = await context.get("standing", JSON) or {"items": [], "rests": False}
    return {"opening": begun["opening"], "rows": rows, **known}
