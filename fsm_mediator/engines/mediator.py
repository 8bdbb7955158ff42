"""EngineMediator: the verbs of an `AsyncMediator`, for all engines. Each engine has a subclass."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.engines.questions import target_of_signal
from fsm_mediator.engines.refusals import ATTRIBUTES_MOVE, SETTINGS, Refusals
from fsm_mediator.engines.replay import Data, Turns
from fsm_mediator.engines.settings import EngineSettings
from fsm_mediator.errors import JournalError, StillRunningError, UnknownExecutionError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.ids import ancestors
from fsm_mediator.journal.attributes import checked_attributes
from fsm_mediator.mediator.commands import check_parent_waits
from fsm_mediator.mediator.store import raise_unless_succeeded
from fsm_mediator.mediator.validation import check_id_argument, check_seconds
from fsm_mediator.mediator.verbs import ANSWER_TIMEOUT
from fsm_mediator.records import CANCEL, RESOLVE, RETRY, UNDO, VERBS, InboxItem

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, View

FIRST_LOOK: Final = 1.0
LONGEST_PAUSE: Final = 5.0
"""The pauses, in seconds, between two queries of an execution for which `wait` waits. The first pause is `FIRST_LOOK`.
Each pause is twice the previous pause, up to `LONGEST_PAUSE`."""


class EngineMediator(Refusals):
    """Starts sagas on an engine, and sends verbs to them, like a `Mediator`. Workers drive the sagas.

    Args:
        sagas: The sagas that the mediator knows.
        settings: Further settings: arguments of `Turns`.

    Raises:
        DefinitionError: Two sagas have the same name and version, or a type cannot be decoded.
        RefusedError: A setting of `AsyncMediator` was passed that engines do not have.
    """

    def __init__(self, *sagas: Saga, **settings: Unpack[EngineSettings]) -> None:
        for name, move in SETTINGS.items():
            if name in settings:
                self._refuse(name, move)
        self.turns: Turns = Turns(*sagas, **settings)

    async def close(self, grace: float | None = None) -> None:
        """Do nothing. The caller owns the engine's client, and the workers continue to drive the executions."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # The methods of an adapter

    async def _open(self, opening: Data) -> bool:
        """Let the engine start an execution. Returns False if an execution with this id already exists."""
        raise NotImplementedError

    async def _standing(self, saga_id: str) -> Data:
        """The state of an execution.

        The keys are ``opening``, ``rows`` (the records), ``items`` (the inbox) and ``rests``: whether the execution has
        ended, or waits for an operator or a signal.

        Raises:
            UnknownExecutionError: The engine has no execution with this id.
        """
        raise NotImplementedError

    async def _look(self, saga_id: str) -> Data:
        """The same data as `_standing` returns. This method is called only for an execution that has not ended.

        An engine that can read such an execution with fewer requests overrides this method.
        """
        return await self._standing(saga_id)

    async def _ended(self, saga_id: str) -> Data:
        """Wait for the end of the execution. Then return the same data as `_standing`. The wait can be cancelled."""
        raise NotImplementedError

    async def _open_until_ended(self, opening: Data) -> Data | None:
        """Let the engine start an execution, and wait for its end. None if there already is an execution with this id.

        An engine that needs only one request for both overrides this method.
        """
        return await self._ended(opening["saga_id"]) if await self._open(opening) else None

    async def _say(self, saga_id: str, words: Data, timeout: float) -> None:
        """Send *words*, a verb or an item for the inbox, to the worker that drives the execution.

        Raises:
            RefusedError: The verb or the item does not fit the state of the execution.
            StillRunningError: No worker has answered within *timeout* seconds.
        """
        raise NotImplementedError

    async def _undo(self, standing: Data, verb: Data) -> None:
        """Start a succeeded execution again, to undo it.

        *standing*: the result of `_standing` for the execution. *verb*: the verb ``undo`` as data.
        """
        raise NotImplementedError

    # Running

    def register(self, saga: Saga) -> None:
        """Register another saga in this mediator. The workers must know the saga too."""
        self.turns.registry.register(saga)

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return self.turns.registry.sagas

    async def start(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Let the engine accept a saga durably, and return the execution's id at once. See `Mediator.start`.

        Raises:
            RefusedError: Attributes were passed, but engines do not store attributes.
        """
        self._refuse_attributes(attributes)
        opening = self.turns.opening(saga, payload, saga_id, deadline)
        if not await self._open(opening):
            await self._check_same(opening)
        return str(opening["saga_id"])

    def _refuse_attributes(self, attributes: Mapping[str, Any] | None) -> None:
        if attributes is not None and checked_attributes(attributes):
            self._refuse("attributes", ATTRIBUTES_MOVE)

    async def _check_same(self, opening: Data) -> None:
        self.turns.check_same(opening, (await self._standing(opening["saga_id"]))["opening"])

    async def run(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        check: bool = True,
    ) -> Outcome:
        """Run a saga to its end, on the engine's workers. See `Mediator.run`.

        Raises:
            RefusedError: Attributes were passed, but engines do not store attributes.
        """
        self._refuse_attributes(attributes)
        if timeout is not None:
            check_seconds("timeout (seconds)", timeout)
            saga_id = await self.start(saga, payload, saga_id=saga_id, deadline=deadline)
            return await self._wait(saga_id, self._ended(saga_id), timeout, check)
        opening = self.turns.opening(saga, payload, saga_id, deadline)
        return await self._wait(opening["saga_id"], self._run(opening), None, check)

    async def _run(self, opening: Data) -> Data:
        ended = await self._open_until_ended(opening)
        if ended is None:
            await self._check_same(opening)
            ended = await self._ended(opening["saga_id"])
        return ended

    async def wait(self, saga_id: str, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """Wait until an execution has ended, is stuck, or waits for a signal. See `Mediator.wait`."""
        check_id_argument(saga_id)
        if timeout is not None:
            check_seconds("timeout (seconds)", timeout)
        return await self._wait(saga_id, self._ended(saga_id), timeout, check)

    async def _wait(self, saga_id: str, end: Coroutine[Any, Any, Data], timeout: float | None, check: bool) -> Outcome:
        loop, pause = asyncio.get_running_loop(), FIRST_LOOK
        until = None if timeout is None else loop.time() + timeout
        ended = asyncio.ensure_future(end)
        try:
            while True:
                left = pause if until is None else min(pause, max(0.0, until - loop.time()))
                await asyncio.wait((ended,), timeout=left)
                over = until is not None and loop.time() >= until
                try:
                    standing = ended.result() if ended.done() else await self._look(saga_id)
                except (JournalError, UnknownExecutionError):  # no worker or engine has answered yet
                    if over or ended.done():
                        raise
                else:
                    if standing["rests"]:
                        outcome = self.turns.outcome(standing["opening"], standing["rows"])
                        return raise_unless_succeeded(outcome, check)
                    if over and timeout is not None:
                        raise StillRunningError(saga_id, self._load(standing).state, timeout)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            ended.cancel()

    def _load(self, standing: Data) -> Execution:
        return self.turns.load(standing["opening"], standing["rows"])

    # Reading, and an operator's commands

    async def outcome(self, saga_id: str) -> Outcome:
        """The outcome of an execution so far, as the engine has logged it.

        Raises:
            UnknownExecutionError: The engine knows no execution with this id.
        """
        check_id_argument(saga_id)
        standing = await self._standing(saga_id)
        return self.turns.outcome(standing["opening"], standing["rows"])

    async def diagram(self, saga_id: str, view: View = "detail") -> Diagram:
        """A diagram of the machine with an execution's path. See `Mediator.diagram`. Branches are not drawn."""
        return (await self.outcome(saga_id)).diagram(view)

    async def cancel(
        self, saga_id: str, reason: str | None = None, *, actor: str | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> None:
        """Let an execution compensate, after the attempt that is running. See `Mediator.cancel`.

        Raises:
            RefusedError: The execution cannot be cancelled any more.
            StillRunningError: No worker has answered within *timeout* seconds.
        """
        check_id_argument(saga_id, reason, actor)
        await self._say(saga_id, {"item": self.turns.item(CANCEL, reason=reason, actor=actor)}, timeout)

    async def signal(
        self,
        saga_id: str,
        name: str,
        value: Any = None,
        *,
        actor: str | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        """Send a signal to an execution that waits, or will wait, for this signal. See `Mediator.signal`.

        Raises:
            RefusedError: The execution does not wait for the signal, or got it with another value.
            StillRunningError: No worker has answered within *timeout* seconds.
        """
        check_id_argument(saga_id)
        standing = await self._standing(saga_id)
        execution = self._load(standing)
        target = target_of_signal(execution, name)
        if target is not None and await self._exists(target[0]):
            branch, inside = target
            return await self.signal(branch, inside, value, actor=actor, timeout=timeout)
        item = self.turns.signal(standing["opening"], name, value, actor)
        if self.turns.check_item(execution, standing["items"], item):
            await self._say(saga_id, {"item": item}, timeout)
        return None

    async def _exists(self, saga_id: str) -> bool:
        try:
            await self._standing(saga_id)
        except UnknownExecutionError:
            return False
        return True

    async def retry(
        self, saga_id: str, reason: str | None = None, *, actor: str | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> Outcome:
        """Retry the part in which an execution is stuck. See `Mediator.retry`."""
        check_id_argument(saga_id, reason, actor)
        for branch, parent in ancestors(saga_id):
            check_parent_waits(saga_id, branch, self._load(await self._standing(parent)).state)
        return await self._command(saga_id, {"kind": RETRY, "reason": reason, "actor": actor}, timeout)

    async def resolve(
        self,
        saga_id: str,
        *,
        reason: str,
        done: bool | None = None,
        result: Any = None,
        actor: str | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Outcome:
        """Mark the part in which an execution is stuck as settled by hand. See `Mediator.resolve`."""
        check_id_argument(saga_id)
        json = None if result is None else self.turns.codec.encode(result, f"the result of {saga_id!r}").decode()
        verb: Data = {"kind": RESOLVE, "reason": reason, "actor": actor, "done": done, "result": json}
        return await self._command(saga_id, verb, timeout)

    async def _command(self, saga_id: str, verb: Data, timeout: float) -> Outcome:
        await self._order(saga_id, verb, timeout)
        try:
            return await self.wait(saga_id, timeout=timeout, check=False)
        except StillRunningError:
            return await self.outcome(saga_id)

    async def undo(
        self, saga_id: str, reason: str | None = None, *, actor: str | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> Outcome:
        """Compensate an execution that has succeeded. See `Mediator.undo`."""
        check_id_argument(saga_id, reason, actor)
        return await self._command(saga_id, {"kind": UNDO, "reason": reason, "actor": actor}, timeout)

    async def _order(self, saga_id: str, verb: Data, timeout: float) -> None:
        standing = await self._standing(saga_id)
        self.turns.check_verb(standing["opening"], standing["rows"], verb)
        if verb["kind"] == UNDO:
            await self._undo(standing, verb)
        else:
            await self._say(saga_id, verb, timeout)

    async def hand_on(self, saga_id: str, item: InboxItem) -> None:
        """Send an inbox item from a projection's journal to the execution on the engine.

        Raises:
            RefusedError: The item does not fit the state of the execution.
            StillRunningError: No worker has answered in time.
        """
        value = None if item.value is None else bytes(item.value).decode()
        if item.kind not in VERBS:
            words: Data = {"item": [item.kind, item.name, value, item.reason, item.at, 0, item.actor]}
            return await self._say(saga_id, words, ANSWER_TIMEOUT)
        verb: Data = {"kind": item.kind, "reason": item.reason, "actor": item.actor}
        if item.kind == RESOLVE:
            meant = msgspec.json.decode(item.value)
            result = None if meant["result"] is None else msgspec.json.encode(meant["result"]).decode()
            verb |= {"done": meant["done"], "result": result}
        return await self._order(saga_id, verb, ANSWER_TIMEOUT)
