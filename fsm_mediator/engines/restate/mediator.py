"""RestateMediator: the verbs of an `AsyncMediator`, for sagas on Restate."""

from __future__ import annotations

import asyncio
import enum
from typing import Any, Final, Unpack
from urllib.parse import quote

import httpx

from fsm_mediator.definition.saga import Saga
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.replay import Data
from fsm_mediator.engines.restate.loop import SAGA, UNDONE
from fsm_mediator.engines.settings import EngineSettings
from fsm_mediator.errors import JournalError, RefusedError, StillRunningError, UnknownExecutionError
from fsm_mediator.states import SUCCEEDED

PAUSE: Final = 0.5
"""The seconds until a request is sent again, if Restate did not answer it."""

PATIENCE: Final = 10.0
"""The time limit in seconds for a worker's answer about the state of an execution."""

NOT_FOUND: Final = 404
CONFLICT: Final = 409
NOT_READY: Final = 470


class _Absent(enum.Enum):
    """The reason why an execution has no result: it is unknown, has not ended, or was started by an earlier request."""

    UNKNOWN = enum.auto()
    GOES_ON = enum.auto()
    STARTED_BEFORE = enum.auto()


class RestateMediator(EngineMediator):
    """Starts sagas on Restate, and sends verbs to them, like an `AsyncMediator`. A `worker` drives the sagas.

    An execution is a workflow. The workflow's key is the saga_id.

    Args:
        sagas: The sagas that the mediator knows.
        client: An HTTP client with the URL of Restate's ingress as its ``base_url``, and with the required headers.
        follow: Whether the workers copy the executions into a journal (`fsm_mediator.engines.projection`).
        settings: Further settings: arguments of `Turns`.
    """

    engine: str = "Restate"

    def __init__(
        self, *sagas: Saga, client: httpx.AsyncClient, follow: bool = False, **settings: Unpack[EngineSettings]
    ) -> None:
        super().__init__(*sagas, **settings)
        self._client = client
        self._common = {"follow": follow}

    async def _ask(self, path: str, body: Any = None, *, method: str = "POST", timeout: float = PATIENCE) -> Any:
        """Send a request, and return Restate's answer as JSON types. An `_Absent` if there is no result.

        Raises:
            JournalError: Restate does not answer, or has no worker for sagas.
        """
        try:
            more = {} if body is None else {"json": body}
            answer = await self._client.request(method, path, timeout=timeout or None, **more)
        except httpx.TransportError as error:
            raise JournalError(
                f"Restate does not answer at {self._client.base_url}: {type(error).__name__} {error}. If it was asked "
                f"to start an execution, start it again with the same saga_id"
            ) from error
        if answer.is_error and answer.status_code != NOT_READY:
            message = answer.json().get("message", answer.text)
            if answer.status_code == NOT_FOUND and "invocation" in message:
                return _Absent.UNKNOWN
            if answer.status_code == CONFLICT and "already invoked" in message:
                return _Absent.STARTED_BEFORE
            why = "has a worker been registered?" if method == "POST" else "was the workflow ended by hand?"
            raise JournalError(f"Restate answers {answer.status_code} to {path}: {message} ({why})")
        return _Absent.GOES_ON if answer.is_error else answer.json()

    async def _open(self, opening: Data) -> bool:
        return await self._begin(SAGA, self._start_of(opening))

    def _start_of(self, opening: Data) -> Data:
        return {**self._common, "opening": opening, "rows": self.turns.begun(opening)}

    async def _begin(self, service: str, start: Data) -> bool:
        accepted = await self._ask(f"{_run_of(service, start)}/send", start)
        return bool(accepted["status"] == "Accepted")

    async def _open_until_ended(self, opening: Data) -> Data | None:
        """Start an execution and wait for its end, in one request. None if the execution was started before.

        If the connection breaks, the start is sent again, because Restate may not have got it.
        """
        start = self._start_of(opening)
        try:
            result = await self._ask(_run_of(SAGA, start), start, timeout=0)
        except JournalError as error:
            if not isinstance(error.__cause__, httpx.TransportError):
                raise
            return await super()._open_until_ended(opening)
        return None if result is _Absent.STARTED_BEFORE else _end(result)

    async def _result(self, saga_id: str, service: str, how: str = "output") -> Any:
        """The result of an execution in *service*. *how* is ``output``, or ``attach`` to wait for the result.

        Returns:
            The result, or an `_Absent` if there is no result.
        """
        path = f"/restate/workflow/{service}/{_key(saga_id)}/{how}"
        return await self._ask(path, method="GET", timeout=PATIENCE if how == "output" else 0)

    async def _last(self, saga_id: str, how: str = "output") -> tuple[str, Any]:
        """The name of the service that ran an execution last, and the result of the execution there (`_result`).

        Raises:
            UnknownExecutionError: Restate has no execution with this id.
        """
        result = await self._result(saga_id, SAGA, how)
        if result is _Absent.UNKNOWN:
            raise UnknownExecutionError(f"Restate knows no execution {saga_id!r}, or its retention is over")
        if result is not _Absent.GOES_ON and result["rows"][-1][3] == SUCCEEDED:
            undone = await self._result(saga_id, UNDONE)
            if undone is not _Absent.UNKNOWN:
                return UNDONE, await self._result(saga_id, UNDONE, how)
        return SAGA, result

    async def _standing(self, saga_id: str) -> Data:
        service, result = await self._last(saga_id)
        if result is not _Absent.GOES_ON:
            return _end(result)
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            known = await self._ask(f"/{service}/{_key(saga_id)}/standing")
            if known is not None:
                return dict(known)
            if asyncio.get_running_loop().time() >= until:
                raise JournalError(
                    f"execution {saga_id!r} is on Restate, but no worker that knows its saga has begun it"
                )
            await asyncio.sleep(PAUSE / 10)

    async def _ended(self, saga_id: str) -> Data:
        while True:
            try:
                _, result = await self._last(saga_id, "attach")
            except JournalError as error:
                if not isinstance(error.__cause__, httpx.TransportError):
                    raise
                await asyncio.sleep(PAUSE)
            else:
                return _end(result)

    async def _say(self, saga_id: str, words: Data, timeout: float) -> None:
        service, result = await self._last(saga_id)
        if result is not _Absent.GOES_ON:
            state = result["rows"][-1][3]
            raise RefusedError(f"execution {saga_id!r} has ended in {state!r}: it accepts no verb")
        try:
            answer = await self._ask(f"/{service}/{_key(saga_id)}/say", words, timeout=timeout)
        except JournalError as error:
            if not isinstance(error.__cause__, httpx.TimeoutException):
                raise
            message = (
                f"execution {saga_id!r}: no worker has answered in {timeout:g} seconds. The command may still take "
                f"effect: check its outcome, and check that a worker runs that is registered at Restate"
            )
            raise StillRunningError(saga_id, "unknown", timeout, message) from None
        if answer["refusal"] is not None:
            raise RefusedError(answer["refusal"])

    async def _undo(self, standing: Data, verb: Data) -> None:
        known = {name: standing[name] for name in ("opening", "rows", "branches")}
        if not await self._begin(UNDONE, {**self._common, **known, "verb": verb}):
            raise RefusedError(f"execution {standing['opening']['saga_id']!r} is being undone already")


def _key(saga_id: str) -> str:
    return quote(saga_id, safe="")


def _run_of(service: str, start: Data) -> str:
    """The URL path of the handler that drives the execution with the input *start*."""
    return f"/{service}/{_key(start['opening']['saga_id'])}/run"


def _end(result: Data) -> Data:
    return {**result, "items": [], "rests": True}
