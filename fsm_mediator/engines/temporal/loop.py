"""The workflow that drives an execution on Temporal. The loop itself is in `fsm_mediator.engines.driving`.

Each turn is an activity. The result of a turn is in Temporal's history before it is folded. A turn that calls no user
function is a local activity. A branch is a child workflow with the branch's id.

A replay of the history folds the same rows again. So settings and functions may change between a run and its replay.
Only the order of Temporal's commands must never change. Therefore `LOOPS` has every loop that was ever released, and
the input of a workflow has the number of its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
)

from fsm_mediator.engines.driving import Driving
from fsm_mediator.engines.replay import Data
from fsm_mediator.errors import RefusedError
from fsm_mediator.ids import branch_name, group_of
from fsm_mediator.records import SIGNAL

WORKFLOW: Final = "fsm_mediator.saga"

LOOP: Final = 1
"""The number of the loop in `LOOPS` that drives new executions."""

TURN: Final = "fsm_mediator.turn"
FOLLOW: Final = "fsm_mediator.follow"
TURNS: Final = "fsm_mediator_turns"
"""The name of the extern function that gives the worker's `Turns` to workflows."""

NOT_BEGUN: Final = "fsm_mediator.NotBegun"
"""The type of an activity's error if the worker cannot load the execution. No user function was called."""

REFUSED: Final = "RefusedError"

ONCE: Final[Any] = RetryPolicy(maximum_attempts=1)
FOREVER: Final = timedelta(days=3650)
LOCAL: Final = timedelta(seconds=60)
MOST_PAUSE: Final = 60.0
"""The longest pause, in seconds, between two requests of a turn, if a worker does not have the definition."""


@workflow.defn(name=WORKFLOW)
class SagaWorkflow(Driving):
    """The workflow of one execution. Its id is the saga_id. The branches of its groups are child workflows."""

    inherited: tuple[str, ...] = ("loop", "heartbeat", "follow")

    def __init__(self) -> None:
        super().__init__(workflow.extern_functions()[TURNS]())
        self.tasks: set[asyncio.Task[None]] = set()

    @workflow.run
    async def run(self, start: Data) -> Data:
        """Drive the execution to its end, and return its complete state."""
        self.open(start)
        return await LOOPS[start["loop"]](self)

    # Queries, and messages from others

    @workflow.query
    def standing(self) -> Data:
        """The execution's opening, records and inbox, and the result of `Driving.rests`."""
        rests = self.execution is not None and self.rests(self.execution)
        return {"opening": self.start.get("opening"), "rows": self.rows, "items": self.items, "rests": rests}

    @workflow.signal
    def post(self, item: list[Any]) -> None:
        """Put an item from another execution into the inbox."""
        self.put(item)

    @workflow.signal
    def news(self, saga_id: str, summary: Data) -> None:
        """Store the status of a branch that has not ended."""
        self.note(group_of(saga_id), branch_name(saga_id), summary)

    @workflow.signal
    def command(self, verb: Data) -> None:
        """Store a verb from the parent of this branch."""
        self.verbs.append((verb, {}))

    @workflow.update
    async def say(self, verb: Data) -> None:
        """Process a cancel, a signal or a verb, after `check` has accepted it."""
        if "item" in verb:
            self.put(verb["item"])
            return
        answer: Data = {}
        self.verbs.append((verb, answer))
        await workflow.wait_condition(lambda: bool(answer))
        if answer["refusal"] is not None:
            raise ApplicationError(answer["refusal"], type=REFUSED, non_retryable=True)

    @say.validator
    def check(self, verb: Data) -> None:
        """Raise an error if a verb or an item does not fit the state. A refusal is not written to the history."""
        execution = self.execution
        if execution is None:
            return
        try:
            if "item" not in verb:
                self.turns.check_verb(self.start["opening"], self.rows, verb)
            elif self.closing and verb["item"][0] == SIGNAL:
                raise RefusedError(f"signal {verb['item'][1]!r} of {execution.saga_id!r} came after its time-out")
            else:
                self.turns.check_item(execution, self.items, verb["item"])
        except RefusedError as refusal:
            raise ApplicationError(str(refusal), type=REFUSED, non_retryable=True) from None

    async def answer(self, asked: Data, refusal: str | None) -> None:
        """Answer a verb: store *refusal* in *asked*. The update `say`, which has sent the verb, waits for this."""
        asked["refusal"] = refusal

    async def tell(self, saga_id: str, what: str, *words: Any) -> None:
        """Send a Temporal signal to another workflow, unless it has ended."""
        with contextlib.suppress(FailureError):
            await workflow.get_external_workflow_handle(saga_id).signal(what, args=list(words))

    # Turns

    async def make_turn(self, request: Data) -> Data | None:
        """Make a turn in an activity, and return its result. None if the worker was lost during the turn.

        If the worker does not have the definition, the turn is requested again, so that another worker can make it.
        """
        pause = 1.0
        while True:
            try:
                return await self._activity([self.start["opening"], self.rows, request])
            except ActivityError as error:
                if not (isinstance(error.cause, ApplicationError) and error.cause.type == NOT_BEGUN):
                    return None  # the worker was lost, or did not answer in time
                await asyncio.sleep(pause)
                pause = min(2 * pause, MOST_PAUSE)

    async def _activity(self, arguments: list[Any]) -> Data:
        execution = self.execution
        assert execution is not None
        if not self.calls():
            return await workflow.execute_local_activity(TURN, args=arguments, start_to_close_timeout=LOCAL)
        effect = execution.effect
        calls = effect is not None and effect.callback is not None
        summary = f"{effect.kind} {effect.part.path}" if calls and effect is not None else execution.state
        return await workflow.execute_activity(
            TURN,
            args=arguments,
            retry_policy=ONCE,
            start_to_close_timeout=FOREVER,
            heartbeat_timeout=timedelta(seconds=self.start["heartbeat"]),
            summary=summary,
        )

    # Time

    async def now(self) -> float:
        """The time of the workflow, in seconds since the epoch."""
        return workflow.time()

    async def pause(self, holds: Callable[[], bool], until: float | None = None, *, rests: bool = False) -> bool:
        """Wait until *holds* returns True or the time *until* is reached. Returns whether the time was reached."""
        if until is None or until > workflow.time():
            if rests and (until is None or until - workflow.time() > 1.0):
                await self.follow()
            timeout = None if until is None else until - workflow.time()
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(holds, timeout=timeout)
        return until is not None and workflow.time() >= until

    # Branches, and the length of the history

    def begin_branch(self, path: str, name: str, start: Data) -> None:
        """Start a child workflow for the branch."""
        task = asyncio.create_task(self._branch(path, name, start))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _branch(self, path: str, name: str, start: Data) -> None:
        try:
            kept: Data = await workflow.execute_child_workflow(
                WORKFLOW,
                start,
                id=start["opening"]["saga_id"],
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )
        except (ChildWorkflowError, WorkflowAlreadyStartedError) as error:
            self.branch_lost(path, name, start, error.__cause__ or error)
        else:
            self.branch_ended(path, name, kept)

    async def renew(self) -> None:
        """If the history becomes too long, continue as a new run of the workflow, with the records and the inbox."""
        if not workflow.info().is_continue_as_new_suggested() or self.tasks or self.verbs:
            return
        await self.finish()
        kept = {"rows": self.rows, "items": self.items, "branches": self.branches, "crashes": self.crashes}
        start = {name: value for name, value in self.start.items() if name != "verb"}
        workflow.continue_as_new({**start, **kept})

    async def finish(self) -> None:
        """Wait until each update is answered."""
        await workflow.wait_condition(workflow.all_handlers_finished)

    async def follow(self) -> None:
        """Write all records of the execution to the journal of the `Projection`, if there is one."""
        if self.start.get("follow"):
            await workflow.execute_local_activity(
                FOLLOW, args=[self.start["opening"], self.rows], start_to_close_timeout=LOCAL
            )


LOOPS: Final[dict[int, Callable[[SagaWorkflow], Awaitable[Data]]]] = {1: SagaWorkflow.drive}
"""Every loop that was released, by number. The order of a loop's commands never changes. A new order is a new loop."""
